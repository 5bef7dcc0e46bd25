"""Annotations as rows of a table, with the columns that pandas and Parquet share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..coco.documents import Document, Source, open_source
from ..coco.values import are_finite, are_numbers, by_id, key, number, records

#: The columns in their order, with their kind: "text", "class" (a text that repeats), "integer", "number", "flag" or
#: "json" (a text). Any of them may be empty.
COLUMNS = {
    "item_id": "text",
    "batch": "class",
    "image_id": "integer",
    "file_name": "text",
    "image_width": "integer",
    "image_height": "integer",
    "asset_url": "text",
    "asset_path": "text",
    "annotation_id": "integer",
    "category": "class",
    "supercategory": "class",
    "bbox_x": "number",
    "bbox_y": "number",
    "bbox_width": "number",
    "bbox_height": "number",
    "area": "number",
    "iscrowd": "flag",
    "segmentation": "json",
    "other": "json",
}
Row = tuple[Any, ...]

#: Members with separate columns.
_KNOWN = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"}
_LARGEST = 2**63
_EMPTY = (None,) * list(COLUMNS).index("annotation_id")
_NO_LABEL = (None,) * (len(COLUMNS) - len(_EMPTY))

_encode = json.JSONEncoder(separators=(",", ":")).encode


def annotation_rows(source: Source, *, empty_images: bool) -> Iterator[Row]:
    """Check a source, and return an iterator over a row for each annotation, with one document in memory at a time.

    No annotation is left out: missing and malformed members are ``None``.

    Args:
        source: As for ``cfplatform.coco.read``.
        empty_images: Yield a row for each image without annotations too, with ``None`` in the columns of annotations.
    """
    opened = open_source(source)
    return (row for document in opened.documents(None) for row in _rows(document, empty_images))


def _rows(document: Document, empty_images: bool) -> Iterator[Row]:
    data = document.data
    info = data.get("info")
    url = text(info.get("asset_url")) if isinstance(info, dict) else None
    around = (text(document.item_id), text(document.batch))
    assets = (url or None, None if document.asset is None else text(str(document.asset)))
    images: dict[Any, Row] = {}
    for each in records(data, "images"):
        sides = (integer(each.get("width")), integer(each.get("height")))
        row = (*around, integer(each.get("id")), text(each.get("file_name")), *sides, *assets)
        images.setdefault(key(each.get("id")), row)
    categories: dict[Any, dict[str, Any]] = {**by_id(records(data, "categories"))}
    used = set()
    for annotation in records(data, "annotations"):
        of = key(annotation.get("image_id"))
        used.add(of)
        image = images.get(of) or (*around, integer(annotation.get("image_id")), None, None, None, *assets)
        category = categories.get(key(annotation.get("category_id")), {})
        yield (*image, *_label(annotation, category))
    if empty_images:
        yield from ((*image, *_NO_LABEL) for of, image in images.items() if of not in used)


def _label(annotation: dict[str, Any], category: dict[str, Any]) -> Row:
    box: Any = annotation.get("bbox")
    readable = are_numbers(box) and len(box) == 4 and are_finite(box)
    x, y, width, height = map(float, box) if readable else (None,) * 4
    area, crowd = number(annotation.get("area")), annotation.get("iscrowd")
    other = {name: value for name, value in annotation.items() if name not in _KNOWN}
    return (
        integer(annotation.get("id")),
        text(category.get("name")),
        text(category.get("supercategory")),
        x,
        y,
        width,
        height,
        None if area is None else float(area),
        bool(crowd) if crowd in (0, 1) else None,
        as_json(annotation.get("segmentation")),
        as_json(other),
    )


def integer(value: Any) -> int | None:
    """Return an integer that fits into 64 bits, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) >= _LARGEST:
        return None
    return int(value) if value == int(value) else None


def text(value: Any) -> str | None:
    """Return a text that can be encoded as UTF-8, or ``None``."""
    if not isinstance(value, str):
        return None
    # JSON and file names may have lone surrogates, which Arrow refuses.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def as_json(value: Any) -> str | None:
    """Return a value as JSON in ASCII; ``None`` if it is empty."""
    return _encode(value) if value else None
