"""Values of a document, read without trusting it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

#: A larger number is not a coordinate, size or area.
LARGEST = 10**15
#: Larger integers are compared as text: many of them with the same hash would make a dict slow.
_SMALL = 2**53

#: Types of numbers; truth values are not numbers.
NUMBERS = {int, float}

#: An ID in a form that can be compared.
Key = int | float | str


def records(data: Any, section: str) -> list[dict[str, Any]]:
    """Return the objects of a section; entries that are not objects are left out."""
    found = data.get(section) if isinstance(data, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def by_id(entries: Iterable[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Return entries by their ID. Of several with one ID the first counts."""
    found: dict[Key, dict[str, Any]] = {}
    for each in entries:
        own = key(each.get("id"))
        if own is not None:
            found.setdefault(own, each)
    return found


def key(value: Any) -> Key | None:
    """Return an ID in a form that is equal if the IDs are (1 and 1.0 are), or ``None`` if it is not an ID."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if -_SMALL < value < _SMALL:
        return value
    return hex(value) if isinstance(value, int) else None


def number(value: Any) -> float | None:
    """Return a number, or ``None`` if the value is not one, not finite, or implausibly large."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -LARGEST <= value <= LARGEST else None


def are_numbers(value: Any) -> bool:
    """Return whether a value is a list of numbers."""
    return isinstance(value, list) and set(map(type, value)) <= NUMBERS


def are_finite(values: list[Any]) -> bool:
    """Return whether numbers are finite and not implausibly large."""
    try:
        return all(map(math.isfinite, values)) and (not values or max(map(abs, values)) <= LARGEST)
    except OverflowError:
        return False


def box(value: Any) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height of a box that is not empty, else ``None``."""
    if are_numbers(value) and len(value) == 4 and are_finite(value) and value[2] > 0 and value[3] > 0:
        return value[0], value[1], value[2], value[3]
    return None


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation is a crowd of objects."""
    crowd = annotation.get("iscrowd")
    return isinstance(crowd, (int, float)) and crowd == 1


def size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return the width and height of an image, or ``None`` if they are not positive integers."""
    width, height = number(image.get("width")), number(image.get("height"))
    if width is None or height is None or min(width, height) <= 0 or width % 1 or height % 1:
        return None
    return int(width), int(height)
