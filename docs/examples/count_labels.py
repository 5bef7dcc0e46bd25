"""Count annotations and work items per class, and print a CSV table.

Run it with ``python count_labels.py``.
"""

import csv
import sys
from collections import Counter

from cfplatform import Client

annotations, items = Counter(), Counter()
with Client() as client:
    # The order does not matter here: no document has to wait for a slower one.
    for _, document in client.iter_annotations(ordered=False):
        names = {each["id"]: each["name"] for each in document["categories"]}
        found = Counter(names[each["category_id"]] for each in document["annotations"])
        annotations.update(found)
        items.update(found.keys())

table = csv.writer(sys.stdout, lineterminator="\n")
table.writerow(["class", "annotations", "items"])
for name, count in sorted(annotations.items(), key=lambda entry: (-entry[1], entry[0])):
    table.writerow([name, count, items[name]])
