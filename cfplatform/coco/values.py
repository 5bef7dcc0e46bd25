"""What may stand anywhere in a document, read without trusting it."""

from __future__ import annotations

import math
from typing import Any

#: A number beyond this is no coordinate, size or area.
LARGEST = 10**15
#: Above it, whole numbers are compared as text: those of one hash would make a dict slow.
_SMALL = 2**53

#: Types of numbers; those of truth values are none.
NUMBERS = {int, float}

#: An id that others can be compared with.
Key = int | float | str


def records(data: Any, section: str) -> list[dict[str, Any]]:
    """Return the objects of a section; what is no object is left out."""
    found = data.get(section) if isinstance(data, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def key(value: Any) -> Key | None:
    """Return an id in a form that is equal where the ids are (1 and 1.0 are), or ``None`` if it is no id."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if -_SMALL < value < _SMALL:
        return value
    return hex(value) if isinstance(value, int) else None


def number(value: Any) -> float | None:
    """Return a number, or ``None`` if it is none, not finite, or too large to be meant."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -LARGEST <= value <= LARGEST else None


def are_numbers(value: Any) -> bool:
    """Tell whether a value is a list of numbers, whatever these are."""
    return isinstance(value, list) and set(map(type, value)) <= NUMBERS


def are_finite(values: list[Any]) -> bool:
    """Tell whether numbers are finite and not too large to be meant."""
    try:
        return all(map(math.isfinite, values)) and (not values or max(map(abs, values)) <= LARGEST)
    except OverflowError:
        return False


def box(value: Any) -> tuple[float, float, float, float] | None:
    """Return x, y, width and height of a box that has a size, else ``None``."""
    if are_numbers(value) and len(value) == 4 and are_finite(value) and value[2] > 0 and value[3] > 0:
        return value[0], value[1], value[2], value[3]
    return None
