"""Export a space, unpack it, and count the annotations in each folder.

Run it with ``python export_and_unpack.py [NAME]``.
"""

import json
import sys
from collections import Counter

from cfplatform import Client

NAME = sys.argv[1] if len(sys.argv) > 1 else "All labels"

with Client() as client:
    export = client.create_export(NAME, format="COCO_JSON", wait_for_running=True)
    folder = export.download("exports", extract=True)

counts = Counter()
for path in folder.rglob("*.json"):
    counts[path.parent.name] += len(json.loads(path.read_bytes())["annotations"])
print(folder.name)
for name, count in sorted(counts.items()):
    print(f"{name}: {count} annotations")
