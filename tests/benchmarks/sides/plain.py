"""A straightforward merge: everything in memory, ``json.load`` and ``json.dump``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import frame


def merge(source: str, output: str) -> dict[str, Any]:
    """Join the documents of a folder into one dataset."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[tuple[str, str], dict[str, Any]] = {}
    paths = sorted(Path(source).glob("*/*.json"))
    for path in paths:
        with path.open(encoding="utf-8") as file:
            document = json.load(file)
        classes, places = {}, {}
        for each in document["categories"]:
            known = categories.setdefault((each["name"], each["supercategory"]), {**each, "id": len(categories) + 1})
            classes[each["id"]] = known["id"]
        for each in document["images"]:
            places[each["id"]] = len(images) + 1
            images.append({**each, "id": len(images) + 1, "asset_url": document["info"]["asset_url"]})
        for each in document["annotations"]:
            ids = {"image_id": places[each["image_id"]], "category_id": classes[each["category_id"]]}
            annotations.append({**each, "id": len(annotations) + 1, **ids})
    dataset = {"images": images, "annotations": annotations, "categories": [*categories.values()]}
    with open(output, "w", encoding="utf-8") as file:
        json.dump(dataset, file)
    return {"items": len(paths)}


if __name__ == "__main__":
    frame.run({"merge": merge})
