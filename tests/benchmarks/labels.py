"""Folders of annotations like those of a download."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

#: Documents that differ in more than their names.
_KINDS = 200
#: Documents of a batch.
_BATCH = 500
_WIDTH, _HEIGHT = 1920, 1080


def write(folder: Path, count: int) -> str:
    """Write documents of about 4 KiB into a new folder, and return its path."""
    kinds = [json.dumps(_document(seed), separators=(",", ":")) for seed in range(_KINDS)]
    for number in range(count):
        batch = folder / f"Batch {number // _BATCH:05d}"
        if number % _BATCH == 0:
            batch.mkdir(parents=True)
        text = kinds[number % _KINDS].replace("<name>", f"{number:08d}")
        (batch / f"{number:08d}.json").write_text(text, encoding="ascii")
    return str(folder)


def write_boxes(folder: Path, count: int, boxes: int, shift: float = 0.0) -> str:
    """Write documents with so many boxes into a new folder, every third box shifted; return its path."""
    for number in range(count):
        batch = folder / f"Batch {number // _BATCH:05d}"
        if number % _BATCH == 0:
            batch.mkdir(parents=True)
        document = _boxes(random.Random(number), number, boxes, shift)
        (batch / f"{number:08d}.json").write_text(json.dumps(document), encoding="ascii")
    return str(folder)


def _boxes(chance: random.Random, number: int, boxes: int, shift: float) -> dict[str, Any]:
    annotations = []
    for own in range(1, boxes + 1):
        x, y, width, height = (round(chance.uniform(20, 900), 2) for _ in range(4))
        box = [round(x + (shift if own % 3 == 0 else 0), 2), y, width, height]
        annotations.append({"id": own, "image_id": 1, "category_id": own % 10 + 1, "bbox": box, "iscrowd": 0})
    return {
        "info": {"asset_url": f"assets/{number}"},
        "images": [{"id": 1, "width": _WIDTH, "height": _HEIGHT, "file_name": f"{number:08d}.jpg"}],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, 11)],
        "annotations": annotations,
    }


def _document(seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    return {
        "info": {"asset_url": "assets/<name>", "year": 2026, "version": "1"},
        "licenses": [],
        "images": [{"id": 1, "width": _WIDTH, "height": _HEIGHT, "file_name": "<name>.jpg"}],
        "categories": [{"id": n, "name": f"class {n}", "supercategory": "thing"} for n in range(1, 11)],
        "annotations": [_annotation(chance, number) for number in range(1, 8)],
    }


def _annotation(chance: random.Random, number: int) -> dict[str, Any]:
    x, y, width, height = (round(chance.uniform(1, 900), 2) for _ in range(4))
    points = [round(chance.uniform(0, 1000), 2) for _ in range(40)]
    return {
        "id": number,
        "image_id": 1,
        "category_id": number % 10 + 1,
        "bbox": [x, y, width, height],
        "area": round(width * height, 2),
        "segmentation": [points],
        "iscrowd": 0,
    }
