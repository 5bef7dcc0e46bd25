"""Annotations as table rows, with the columns that pandas and Parquet share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ..coco.documents import Document, PathLike, Source, open_source
from ..coco.values import are_finite, are_numbers, by_id, each_record, key, number, records
from ..exceptions import InvalidParameterError

#: The columns in order, with their kind: "text", "class" (repeated text), "integer", "number", "flag" or "json" (text).
#: All are nullable.
COLUMNS = {
    "item_id": "text",
    "batch": "class",
    "image_id": "integer",
    "image_id_text": "text",
    "file_name": "text",
    "image_width": "integer",
    "image_height": "integer",
    "asset_url": "text",
    "asset_path": "text",
    "annotation_id": "integer",
    "annotation_id_text": "text",
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

#: Fields with their own columns.
_KNOWN = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
_LARGEST = 2**63
_NO_LABEL = (None,) * (len(COLUMNS) - list(COLUMNS).index("annotation_id"))

_encode = json.JSONEncoder(separators=(",", ":")).encode


def annotation_rows(source: Source, *, empty_images: bool, images_from: PathLike | None = None) -> Iterator[Row]:
    """Check a source, and return an iterator of one row for each annotation, with one document in memory at a time.

    No annotation is skipped. Missing fields are ``None``; so are fields that do not fit into their column, which are
    unchanged in ``other``.

    Args:
        source: As for ``cfplatform.coco.read``.
        empty_images: Also yield a row for each image without annotations, with ``None`` in the annotation columns.
        images_from: The folder of the images, as for ``cfplatform.coco.read``.
    """
    opened = open_source(source, images_from)
    return (row for document in opened.documents(None, streamed=True) for row in _rows(document, empty_images))


def _rows(document: Document, empty_images: bool) -> Iterator[Row]:
    images = [(key(each.get("id")), _image(document, each)) for each in records(document.data, "images")]
    # If several images share an ID, the first has the annotations.
    by_own: dict[Any, Row] = {own: row for own, row in reversed(images) if own is not None}
    categories: dict[Any, dict[str, Any]] = {**by_id(records(document.data, "categories"))}
    used = set()
    for annotation in each_record(document.data, "annotations"):
        of = key(annotation.get("image_id"))
        used.add(of)
        image = by_own.get(of) or _image(document, {"id": annotation.get("image_id")})
        yield (*image, *_label(annotation, categories.get(key(annotation.get("category_id")), {})))
    if empty_images:
        yield from ((*row, *_NO_LABEL) for own, row in images if by_own.get(own) is not row or own not in used)


def _image(document: Document, image: dict[str, Any]) -> Row:
    origin = document.origin(image)
    asset = document.image_path(image) or document.asset or _named(document, image)
    return (
        text(origin.item_id),
        text(origin.batch),
        integer(image.get("id")),
        text(image.get("id")),
        text(image.get("file_name")),
        integer(image.get("width")),
        integer(image.get("height")),
        text(origin.asset_url),
        None if asset is None else text(str(asset)),
    )


def _named(document: Document, image: dict[str, Any]) -> str | None:
    """Return the file in ``asset_path`` of a merged dataset, such as the video of a frame."""
    own = image.get("asset_path")
    if document.path is None or not isinstance(own, str) or not own:
        return None
    path = os.path.normpath(os.path.join(document.path.parent, own))
    return path if os.path.isfile(path) else None


def _label(annotation: dict[str, Any], category: dict[str, Any]) -> Row:
    box: Any = annotation.get("bbox")
    readable = are_numbers(box) and len(box) == 4 and are_finite(box)
    x, y, width, height = map(float, box) if readable else (None,) * 4
    area, crowd = number(annotation.get("area")), annotation.get("iscrowd")
    name = text(category.get("name"))
    is_flag = crowd in (0, 1)
    fits = (
        _is_id(annotation.get("id")),
        _is_id(annotation.get("image_id")),
        name is not None,
        readable,
        area is not None,
        is_flag,
        True,
    )
    other = {member: value for member, value in annotation.items() if member not in _KNOWN}
    if not all(fits):
        odd = (member for member, fit in zip(_KNOWN, fits, strict=True) if not fit)
        other.update({member: annotation[member] for member in odd if annotation.get(member) is not None})
    return (
        integer(annotation.get("id")),
        text(annotation.get("id")),
        name,
        text(category.get("supercategory")),
        x,
        y,
        width,
        height,
        None if area is None else float(area),
        bool(crowd) if is_flag else None,
        as_json(annotation.get("segmentation")),
        as_json(other),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or integer(value) is not None


def integer(value: Any) -> int | None:
    """Return an integer that fits into 64 bits, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) >= _LARGEST:
        return None
    return int(value) if value == int(value) else None


def text(value: Any) -> str | None:
    """Return a string that can be encoded as UTF-8, or ``None``."""
    if not isinstance(value, str):
        return None
    # JSON and file names may contain lone surrogates, which Arrow rejects.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def as_json(value: Any) -> str | None:
    """Return a value as ASCII JSON; ``None`` if it is empty."""
    try:
        return _encode(value) if value else None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterError(
            f"An annotation has a value that is not JSON: {error}", parameter="source"
        ) from None
