"""Print how many labels each class has, and in how many work items, as a CSV table: ``python count_labels.py``."""

import csv
import sys
from collections import Counter

from cfplatform import Client

labels, items = Counter(), Counter()
with Client() as client:
    # The order does not matter here, so that no document waits for a slower one.
    for _, document in client.iter_annotations(ordered=False):
        names = {category["id"]: category["name"] for category in document["categories"]}
        found = Counter(names[label["category_id"]] for label in document["annotations"])
        labels.update(found)
        items.update(found.keys())

table = csv.writer(sys.stdout, lineterminator="\n")
table.writerow(["class", "labels", "items"])
for name, count in sorted(labels.items(), key=lambda entry: (-entry[1], entry[0])):
    table.writerow([name, count, items[name]])
