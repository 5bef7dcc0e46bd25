"""Print how many labels each class has, and in how many work items, as a CSV table.

Run it with ``python count_labels.py``.
"""

import csv
import sys
from collections import Counter

from cfplatform import Client

labels, items = Counter(), Counter()
with Client() as client:
    # The order does not matter here, so that no document waits for a slower one.
    for _, document in client.iter_annotations(ordered=False):
        names = {each["id"]: each["name"] for each in document["categories"]}
        found = Counter(names[each["category_id"]] for each in document["annotations"])
        labels.update(found)
        items.update(found.keys())

table = csv.writer(sys.stdout, lineterminator="\n")
table.writerow(["class", "labels", "items"])
for name, count in sorted(labels.items(), key=lambda entry: (-entry[1], entry[0])):
    table.writerow([name, count, items[name]])
