"""Create a work item for each image, with the name of its folder as its scene.

Run it with ``python upload_scenes.py FOLDER``; run it again to resume.
"""

import sys
from pathlib import Path

from cfplatform import Client

if len(sys.argv) != 2:
    sys.exit(__doc__)
images = sorted(Path(sys.argv[1]).glob("*/*.png"))


def metadata(path):
    return {"scene": path.parent.name, "externalId": path.name}


with Client() as client:
    results = list(
        client.create_work_items(
            images, batch="Scenes", metadata=metadata, journal="scenes.jsonl"
        )
    )
failed = [f"{result.asset}: {result.error}" for result in results if not result.ok]
print(f"{len(results) - len(failed)} of {len(results)} items exist")
sys.exit("\n".join(failed) or None)
