"""Safe access to the values of untrusted documents."""

from __future__ import annotations

import math
import operator
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .entries import Entries

#: Larger numbers are not valid as coordinates, sizes or areas.
LARGEST = 10**15
#: Larger integers are compared as text: many integers with the same hash would make a dict slow.
_SMALL = 2**53

#: Number types; bool is not one of them.
NUMBERS = {int, float}

#: An ID in comparable form.
Key = int | float | str

#: Maximum nesting below an entry; the format needs four.
LEVELS = 100
#: Python cannot format longer numbers.
_LONGEST = 10**4300
_TEXT = {str, bool, type(None)}
_NOTHING: Mapping[str, Any] = {}
#: Converts a value of a subclass to its base class, with the methods of the base class: others may be overridden.
_EXACT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    list: lambda value: list.__getitem__(value, slice(None)),
    tuple: lambda value: [*tuple.__iter__(value)],
    dict: lambda value: dict(dict.items(value)),
}


class Foreign:
    """A value that JSON cannot represent. Only its type is used: any other access may fail."""

    def __init__(self, value: object) -> None:
        self.name = type(value).__name__


def as_json(value: Any) -> Any:
    """Return a NumPy value as list or number, and bytes, which pycocotools uses for counts, as a string.

    Raises:
        TypeError: If it has another type that JSON cannot represent.

    Example:
        >>> from array import array
        >>> as_json(array("d", [1.5])), as_json(b"03k00dS1")
        ([1.5], '03k00dS1')
    """
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if hasattr(type(value), "tolist"):
        return value.tolist()
    raise TypeError(f"it has a value of the type {type(value).__name__}, which JSON cannot represent")


def plain(value: Any, troubles: dict[str, str] | None, levels: int = LEVELS) -> Any:
    """Return a value as plain JSON types: tuples, arrays and subclasses become lists, numbers, strings and objects.

    Returns the value itself if nothing had to be converted.

    Args:
        value: Any value; only ``tolist`` of an array is called.
        troubles: Receives the values that cannot be written as JSON: the finding code and a description. ``None`` if
            the value is checked elsewhere.
        levels: The number of levels to read.
    """
    kind = type(value)
    if kind in _TEXT:
        return value
    if kind in NUMBERS:
        if troubles is not None:
            _check_number(value, troubles)
        return value
    if kind is dict:
        return plain_object(value, troubles, levels)
    if kind is not list:
        return _from_subclass(value, troubles, levels)
    kinds = set(map(type, value))
    if kinds <= _TEXT or (kinds <= NUMBERS and (troubles is None or are_finite(value))):
        return value
    if not levels:
        return _too_deep(value, troubles)
    made = [plain(each, troubles, levels - 1) for each in value]
    return made if any(map(operator.is_not, made, value)) else value


def plain_object(
    value: dict[Any, Any],
    troubles: dict[str, str] | None,
    levels: int = LEVELS,
    checked: Mapping[str, Mapping[str, Any]] = _NOTHING,
) -> dict[Any, Any]:
    """Convert an object in the same way; the fields in ``checked`` are checked elsewhere."""
    if not levels:
        _too_deep(value, troubles)
        return value
    made = value
    for name, each in value.items():
        if type(name) is not str:
            return _with_odd_keys(value, troubles, levels)
        kind = type(each)
        if kind in _TEXT or (kind is int and -_SMALL < each < _SMALL):
            continue
        if name not in checked:
            own = plain(each, troubles, levels - 1)
        elif kind is dict:
            own = plain_object(each, troubles, levels - 1, checked[name])
        else:
            own = plain(each, None, levels - 1)
        if own is not each:
            made = {**value} if made is value else made
            made[name] = own
    return made


def _with_odd_keys(value: dict[Any, Any], troubles: dict[str, str] | None, levels: int) -> dict[Any, Any]:
    made = {}
    for name, each in value.items():
        own = plain(name, troubles, 0)
        if type(own) in _TEXT or type(own) in NUMBERS:
            made[own] = plain(each, troubles, levels - 1)
        else:
            _note(troubles, "not-json", "a field whose name is not a string")
    return made


def _too_deep(value: Any, troubles: dict[str, str] | None) -> Any:
    _note(troubles, "not-json", f"nested in more than {LEVELS} levels")
    return value


def _note(troubles: dict[str, str] | None, code: str, what: str) -> None:
    if troubles is not None:
        troubles.setdefault(code, what)


def _check_number(value: float, troubles: dict[str, str]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        troubles.setdefault("not-finite", repr(value))
    elif not -_LONGEST < value < _LONGEST:
        troubles.setdefault("not-json", "a number of more than 4,300 digits")


def _from_subclass(value: Any, troubles: dict[str, str] | None, levels: int) -> Any:
    if issubclass(type(value), Entries):
        # The annotations of a large file are parsed from JSON.
        return value
    for base, exact in _EXACT.items():
        if issubclass(type(value), base):
            return plain(exact(value), troubles, levels)
    try:
        made = as_json(value)
    except Exception:
        _note(troubles, "not-json", f"of the type {type(value).__name__}")
        return Foreign(value)
    # An unusual tolist() may return such a value again.
    return plain(made, troubles, levels - 1) if levels else Foreign(value)


def records(data: Any, section: str) -> list[dict[str, Any]]:
    """Return the objects of a section; other entries are skipped."""
    return [*each_record(data, section)]


def each_record(data: Any, section: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a section one by one, without loading a large file."""
    found = data.get(section) if isinstance(data, dict) else None
    return (each for each in found if isinstance(each, dict)) if isinstance(found, (list, Entries)) else iter(())


def by_id(entries: Iterable[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Return entries by ID. If several share an ID, the first counts."""
    found: dict[Key, dict[str, Any]] = {}
    for each in entries:
        own = key(each.get("id"))
        if own is not None:
            found.setdefault(own, each)
    return found


def key(value: Any) -> Key | None:
    """Return an ID in comparable form (1 and 1.0 are equal), or ``None`` if it is not an ID."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if -_SMALL < value < _SMALL:
        return value
    return hex(value) if isinstance(value, int) else None


def number(value: Any) -> float | None:
    """Return a number, or ``None`` if the value is not a number, not finite, or implausibly large."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -LARGEST <= value <= LARGEST else None


def are_numbers(value: Any) -> bool:
    """Return whether a value is a list of numbers."""
    return isinstance(value, list) and set(map(type, value)) <= NUMBERS


def are_finite(values: list[Any]) -> bool:
    """Return whether numbers are finite and not implausibly large."""
    try:
        # Usually checking the sum is enough: it is not finite if a number is not.
        if sum(map(abs, values)) <= LARGEST:
            return True
        return all(map(math.isfinite, values)) and max(map(abs, values)) <= LARGEST
    except OverflowError:
        return False


def box(value: Any) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height of a box, or ``None`` if it is empty or not valid."""
    if are_numbers(value) and len(value) == 4 and are_finite(value) and value[2] > 0 and value[3] > 0:
        return value[0], value[1], value[2], value[3]
    return None


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation is a crowd."""
    crowd = annotation.get("iscrowd")
    return isinstance(crowd, (int, float)) and crowd == 1


def size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return the width and height of an image, or ``None`` if they are not positive integers."""
    width, height = number(image.get("width")), number(image.get("height"))
    if width is None or height is None or min(width, height) <= 0 or width % 1 or height % 1:
        return None
    return int(width), int(height)


def spelling(name: str) -> str:
    """Return a name in a form that ignores case, spaces and Unicode form (NFC, NFD).

    Example:
        >>> spelling("Cafe\u0301  table") == spelling("caf\u00e9 Table")
        True
    """
    if name.isascii():
        return " ".join(name.split()).lower()
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", name).split()).casefold())
