"""Merge the images on which two annotators agree into one COCO file.

Run it with ``python merge_agreed.py FIRST SECOND OUTPUT``.
"""

import sys

from cfplatform import coco

if len(sys.argv) != 4:
    sys.exit(__doc__)
first, second, output = sys.argv[1:]
agreed, disputed = set(), set()


def note(change):
    is_dispute = change.kind in ("added", "removed", "relabelled")
    (disputed if is_dispute else agreed).add(change.item_id)


coco.compare(first, second, on_change=note)
agreed -= disputed
documents = (each for each in coco.read(first) if each.item_id in agreed)
merged = coco.merge(documents, output)
merged.raise_for_problems()
print(f"{merged.images} images with agreement, {len(disputed)} without")
