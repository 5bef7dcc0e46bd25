"""Maps annotations onto an image: orientation, scale, and rotated boxes (does not need Pillow)."""

from __future__ import annotations

import math
from typing import Any

from .values import box, number, size_of

Size = tuple[int, int]
Point = tuple[float, float]


def is_as_stored(record: dict[str, Any], stored: Size) -> bool:
    """Return whether the document has the size of the image as stored, where EXIF would swap width and height.

    The sizes may differ by a scale. A square image counts as upright.

    Example:
        >>> is_as_stored({"width": 300, "height": 400}, (600, 800)), is_as_stored({}, (600, 800))
        (True, False)
    """
    width, height = size_of(record) or (0, 0)
    return width != height and (width > height) == (stored[0] > stored[1])


def frame(record: dict[str, Any], size: Size) -> Size:
    """Return the size that the document was annotated with; the size of the image if the document has none."""
    return size_of(record) or size


def scale(record: dict[str, Any], size: Size) -> tuple[float, float]:
    """Return the factors for x and y from the size in the document to that of the image.

    Example:
        >>> scale({"width": 640, "height": 480}, (320, 240))
        (0.5, 0.5)
    """
    width, height = frame(record, size)
    return size[0] / width, size[1] / height


def rotation(annotation: dict[str, Any]) -> float:
    """Return the clockwise rotation of a box about its center in degrees, 0 for an upright box.

    It is read from ``attributes.rotation``, as CVAT exports it. A segmentation is already rotated, so it has none.

    Example:
        >>> rotation({"bbox": [0, 0, 9, 3], "attributes": {"rotation": 375}})
        15.0
    """
    attributes = annotation.get("attributes")
    found = number(attributes.get("rotation")) if isinstance(attributes, dict) else None
    return 0.0 if found is None or annotation.get("segmentation") else float(found % 360)


def rotated_corners(annotation: dict[str, Any]) -> list[Point] | None:
    """Return the corners of a rotated box, starting at the original upper left; ``None`` if the box is not rotated.

    Example:
        >>> rotated_corners({"bbox": [0, 0, 4, 2], "attributes": {"rotation": 90}})
        [(3.0, -1.0), (3.0, 3.0), (1.0, 3.0), (1.0, -1.0)]
    """
    degrees, found = rotation(annotation), box(annotation.get("bbox"))
    if not degrees or found is None:
        return None
    left, top, width, height = found
    x, y = left + width / 2, top + height / 2
    if degrees % 90:
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    else:
        # Exactly 0, not 6e-17.
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[int(degrees // 90)]
    corners = ((-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2))
    # y points down, so this rotates clockwise.
    return [(x + cosine * dx - sine * dy, y + sine * dx + cosine * dy) for dx, dy in corners]
