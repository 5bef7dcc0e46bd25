"""Segmentations as masks: pictures in grey, made with Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image

from ..coco import rle
from ..coco.sources import Document
from ..coco.values import are_finite, are_numbers
from .labels import Label, image_of, size

#: Numbers of a polygon, at the least: three corners.
_CORNERS = 6


class Masked(NamedTuple):
    """The labels of a document that have a mask, with it, and the size of all masks."""

    labels: list[tuple[Label, Image.Image]]
    width: int
    height: int


def of_labels(document: Document, found: list[Label]) -> Masked:
    """Draw the masks of labels; one that has none of the size of the image is left out."""
    image = image_of(document)
    width, height = (size(image.get(side)) for side in ("width", "height"))
    drawn = ((label, mask(label.segmentation, width, height)) for label in found)
    return Masked([(label, shape) for label, shape in drawn if shape is not None], width, height)


def mask(segmentation: Any, width: int, height: int) -> Image.Image | None:
    """Return a segmentation as a picture in grey: 255 where the object is, else 0.

    A pixel belongs to a polygon if its centre is inside, so along the edge it may differ by a pixel from what
    pycocotools draws. Run lengths are exact.

    Returns:
        The mask; ``None`` where there is no segmentation, it is broken, or it is one of a picture of another size.
    """
    if not 0 < width * height <= rle.MAX_PIXELS:
        return None
    if isinstance(segmentation, dict):
        try:
            counts, *own = rle.runs(segmentation)
        except ValueError:
            return None
        columns = rle.bitmap(counts) if own == [height, width] else None
    else:
        columns = _filled(segmentation, width, height)
    if columns is None:
        return None
    # Columns come first in COCO, rows in pictures.
    return Image.frombytes("L", (height, width), columns).transpose(Image.Transpose.TRANSPOSE)


def _filled(segmentation: Any, width: int, height: int) -> bytes | None:
    """Return polygons as pixels, column by column."""
    polygons = segmentation if isinstance(segmentation, list) else []
    polygons = [each for each in polygons if _is_polygon(each)]
    if not polygons:
        return None
    pixels = bytearray(width * height)
    for polygon in polygons:
        crossings: dict[int, list[float]] = {}
        for column, y in _crossings(polygon, width):
            crossings.setdefault(column, []).append(y)
        for column, found in crossings.items():
            found.sort()
            for top, bottom in zip(found[::2], found[1::2], strict=True):
                first, last = (_pixel(y, height) for y in (top, bottom))
                pixels[column * height + first : column * height + last] = b"\xff" * (last - first)
    return bytes(pixels)


def _is_polygon(value: Any) -> bool:
    return are_numbers(value) and len(value) >= _CORNERS and len(value) % 2 == 0 and are_finite(value)


def _crossings(polygon: list[float], width: int) -> Iterator[tuple[int, float]]:
    """Yield where the edges cross the middle of a column of pixels: an even number of times for each column."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        (left, from_y), (right, to_y) = sorted((start, end))
        for column in range(_pixel(left, width), _pixel(right, width)):
            yield column, from_y + (column + 0.5 - left) * (to_y - from_y) / (right - left)


def _pixel(place: float, end: int) -> int:
    """Return the first pixel whose middle is not before a place, from 0 to ``end``."""
    return min(max(math.ceil(place - 0.5), 0), end)
