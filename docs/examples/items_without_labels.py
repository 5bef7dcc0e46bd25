"""List downloaded images that have no annotations.

Run it with ``python items_without_labels.py [FOLDER]`` after a download.
"""

import json
import sys

from cfplatform import iter_downloaded

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "labels"

empty = total = 0
for item in iter_downloaded(FOLDER):
    total += 1
    if item.path and not json.loads(item.path.read_bytes())["annotations"]:
        empty += 1
        print(item.item_id, item.asset_path or "no image")
print(f"{empty} of {total} have no annotations")
