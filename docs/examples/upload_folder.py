"""Create a work item for each image in a folder.

Run it with ``python upload_folder.py FOLDER [BATCH]``; run it again to resume.
"""

import sys
from pathlib import Path

from cfplatform import Client

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder = Path(sys.argv[1])
batch = sys.argv[2] if len(sys.argv) > 2 else folder.name


def metadata(path):
    """Store the file name, to find the item on the platform and in exports."""
    return {"externalId": path.name}


created = existed = 0
failed = []
with Client() as client:
    images = (
        path for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png")
    )
    for result in client.create_work_items(
        images, batch=batch, metadata=metadata, journal=f"{batch}.jsonl"
    ):
        created += result.ok and not result.existed
        existed += result.existed
        if not result.ok:
            failed.append(f"{result.asset}: {result.error}")
print(f"{created} created, {existed} existed, {len(failed)} failed")
sys.exit("\n".join(failed) or None)
