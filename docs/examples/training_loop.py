"""Train while images are downloaded; later epochs read from disk.

Run it with ``python training_loop.py [EPOCHS]``.
"""

import json
import sys
from itertools import islice

from cfplatform import Client, iter_downloaded

CACHE = "cache"
BATCH_SIZE = 8
EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 2


def arriving():
    """Yield (image, document) paths as downloads finish, cached ones at once."""
    with Client() as client:
        items = client.get_work_items(status="COMPLETED")
        for result in client.iter_downloads(items, CACHE, assets=True):
            if result.error is not None:
                print("skipped:", result.item_id, result.error, file=sys.stderr)
            elif result.asset_path is not None:
                yield result.asset_path, result.path


def cached():
    """Yield the same pairs from disk, without requests."""
    for item in iter_downloaded(CACHE):
        if item.path and item.asset_path:
            yield item.asset_path, item.path


def boxes(path):
    """Return the class and the box of each annotation in a COCO file."""
    document = json.loads(path.read_bytes())
    names = {each["id"]: each["name"] for each in document["categories"]}
    return [
        (names[each["category_id"]], each["bbox"]) for each in document["annotations"]
    ]


def train_step(samples):
    """Replace this with your model. A sample is the bytes of an image and its boxes."""
    return sum(len(found) for image, found in samples)


for epoch in range(EPOCHS):
    pairs = arriving() if epoch == 0 else cached()
    seen = total = 0
    while batch := list(islice(pairs, BATCH_SIZE)):
        samples = [(image.read_bytes(), boxes(path)) for image, path in batch]
        total += train_step(samples)
        seen += len(samples)
    print(f"epoch {epoch + 1}: {seen} images, {total} boxes")
