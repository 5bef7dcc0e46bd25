"""What the documents of a dataset share: categories, licenses, and members that are the same in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..exceptions import shown
from .documents import Document
from .findings import CODES, Finding
from .output import encode

#: Warnings that are remembered, so that each is reported once.
_REMEMBERED = 10_000


class FindingLog:
    """Reports errors, and each warning once, however many documents repeat it.

    Args:
        report: Called with each finding.
    """

    def __init__(self, report: Callable[[Finding], Any]) -> None:
        self._report = report
        self._warned: set[tuple[str, str]] = set()

    def error(
        self, document: Document, code: str, message: str, pointer: str = "", annotation_id: int | str | None = None
    ) -> None:
        """Report an error."""
        self._report(document.finding(code, CODES[code].severity, message, pointer, annotation_id))

    def warning(self, document: Document, code: str, subject: str, message: str, pointer: str = "") -> None:
        """Report a warning, unless there was one with this code about this subject."""
        if (code, subject) in self._warned:
            return
        if len(self._warned) < _REMEMBERED:
            self._warned.add((code, subject))
        self._report(document.finding(code, CODES[code].severity, message, pointer))


class Table:
    """Entries of all documents, each once, numbered from 1 in the order in which they first appear.

    Args:
        log: Gets the errors and warnings.
    """

    #: The section of the document, the name of one of its entries, and the members that identify an entry.
    _section: str
    _one: str
    _members: tuple[str, str]
    #: Members that define what a reference to the entry means: entries in which they differ are different.
    _meaning: tuple[str, ...] = ()

    def __init__(self, log: FindingLog) -> None:
        self.entries: list[dict[str, Any]] = []
        self._log = log
        self._known: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self._last: list[Any] = []
        self._last_numbers: dict[Any, int] = {}

    def numbers(self, document: Document) -> dict[Any, int]:
        """Return the number of each entry of a document, by its ID there."""
        listed = document.data.get(self._section)
        if listed == self._last:
            return self._last_numbers
        if listed is None:
            return {}
        if not isinstance(listed, list):
            self._error(document, "wrong-type", f"The {self._section} are not a list.", "")
            return {}
        numbers: dict[Any, int] = {}
        used: set[int] = set()
        complete = True
        for index, entry in enumerate(listed):
            number = self._read(document, entry, f"/{index}", numbers)
            if number in used:
                message = f"The {self._one} is there under two ids; both become one."
                pointer = f"/{self._section}/{index}"
                self._log.warning(document, f"duplicate-{self._one}-name", str(number), message, pointer)
            complete = complete and number != 0
            used.add(number)
        if complete:
            # Copies, because a stream may change and reuse one document.
            self._last, self._last_numbers = [{**entry} for entry in listed], numbers
        return numbers

    def _read(self, document: Document, entry: Any, position: str, numbers: dict[Any, int]) -> int:
        """Read an entry of a document; return its number, 0 if it cannot be used."""
        if not isinstance(entry, dict):
            return self._error(document, "wrong-type", f"The {self._one} is not an object.", position)
        own = entry.get("id")
        if not is_id(own):
            message = f"The id of the {self._one} is not a number or a string."
            return self._error(document, "missing-id", message, position)
        if own in numbers:
            message = f"The id {shown(own)} is that of an earlier {self._one}, which is used."
            return self._error(document, f"duplicate-{self._one}-id", message, f"{position}/id")
        found = self._entry(document, entry, position)
        if found is None:
            return 0
        numbers[own] = found["id"]
        return numbers[own]

    def _entry(self, document: Document, entry: dict[str, Any], position: str) -> dict[str, Any] | None:
        """Return the entry of the dataset that is the same as this one."""
        identity = self._identity(entry)
        same = self._known.setdefault(identity, [])
        for known in same:
            if all(_agree(known.get(member), entry.get(member)) for member in self._meaning):
                self._complete(document, known, entry, position)
                return known
        try:
            # A copy that the caller cannot change, and that can be written at the end.
            made: dict[str, Any] = json.loads(encode(entry))
        except (ValueError, TypeError, RecursionError) as error:
            message = f"The {self._one} cannot be written as JSON: {error}."
            self._error(document, unwritable(error), message, position)
            return None
        made["id"] = len(self.entries) + 1
        if same:
            members = ", ".join(self._meaning)
            message = f"The {self._one} {shown(identity[0])} has other {members} than before; they stay separate."
            pointer = f"/{self._section}{position}"
            self._log.warning(document, f"{self._one}-differs", str(made["id"]), message, pointer)
        else:
            self._compare(document, identity, position)
        same.append(made)
        self.entries.append(made)
        return made

    def _identity(self, entry: dict[str, Any]) -> tuple[str, ...]:
        first, second = (entry.get(member) or "" for member in self._members)
        if first and isinstance(first, str) and isinstance(second, str):
            return first, second
        # Without a name only its own ID distinguishes it from others.
        return shown(first), shown(second), shown(entry.get("id"))

    def _complete(self, document: Document, known: dict[str, Any], entry: dict[str, Any], position: str) -> None:
        """Add members that are new; of those that differ the first is kept."""
        for member, value in entry.items():
            if member == "id" or known.get(member) == value:
                continue
            below = f"{position}/{_escaped(member)}"
            if member not in known or (known[member] is None and member in self._meaning):
                try:
                    known[member] = json.loads(encode(value))
                except (ValueError, TypeError, RecursionError) as error:
                    message = f"{shown(member)} cannot be written as JSON: {error}."
                    self._error(document, unwritable(error), message, below)
            elif value is not None and not (member in self._members and not value):
                name = f"The {self._one} {shown(self._identity(entry)[0])}"
                message = f"{name} has another {shown(member)} than before; the first one is kept."
                subject, pointer = f"{known['id']} {member}", f"/{self._section}{below}"
                self._log.warning(document, f"{self._one}-members", subject, message, pointer)

    def _compare(self, document: Document, identity: tuple[str, ...], position: str) -> None:
        """Warn if a new entry is almost the same as a known one."""

    def _error(self, document: Document, code: str, message: str, position: str) -> int:
        self._log.error(document, code, message, f"/{self._section}{position}")
        return 0


class Licenses(Table):
    """Licenses. They are the same if they have the same name and URL."""

    _section, _one, _members = "licenses", "license", ("name", "url")


class Categories(Table):
    """Categories: the one definition of when two are the same, for merging, splitting and counting.

    They are the same if they have the same name and supercategory, and their keypoints, skeleton and ``isthing`` do not
    differ, because annotations of both then mean the same.
    """

    _section, _one, _members = "categories", "category", ("name", "supercategory")
    _meaning = ("keypoints", "skeleton", "isthing")

    def __init__(self, log: FindingLog) -> None:
        super().__init__(log)
        self._spelled: dict[str, tuple[str, str]] = {}

    def _compare(self, document: Document, identity: tuple[str, ...], position: str) -> None:
        """Warn if a new category is almost the same as a known one."""
        name, outer, *unnamed = identity
        if unnamed:
            return
        known = self._spelled.setdefault(" ".join(name.split()).casefold(), (name, outer))
        if known == identity:
            return
        if known[0] == name:
            code = "category-supercategory"
            difference = f"has the supercategory {shown(outer)}, before it was {shown(known[1])}"
        else:
            code, difference = "category-spelling", f"differs from {shown(known[0])} only by case or spaces"
        message = f"The category {shown(name)} {difference}; they stay separate."
        self._log.warning(document, code, f"{name}\0{outer}", message, f"/categories{position}")


class Agreement:
    """Members that are the same in all documents."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] | None = None

    @property
    def members(self) -> dict[str, Any]:
        """The members that were the same in all documents so far."""
        return self._kept or {}

    def add(self, members: dict[str, Any]) -> list[str]:
        """Compare with the members of another document; return the names of those that are not kept."""
        if self._kept is None:
            self._kept = {name: copy for name, value in members.items() if (copy := _copied(value)) is not _NOTHING}
        dropped = [name for name, value in self._kept.items() if members.get(name, _NOTHING) != value]
        for name in dropped:
            del self._kept[name]
        return dropped + [name for name in members if name not in self._kept and name not in dropped]


_NOTHING = object()


def _copied(value: Any) -> Any:
    try:
        return json.loads(encode(value))
    except (ValueError, TypeError, RecursionError):
        return _NOTHING


def _agree(known: Any, value: Any) -> bool:
    return known is None or value is None or known == value


def _escaped(member: object) -> str:
    return str(member).replace("~", "~0").replace("/", "~1")


def is_id(value: object) -> bool:
    """Tell whether a value can be an ID; a missing one counts as an ID too."""
    return value is None or isinstance(value, (int, float, str))


def unwritable(error: Exception) -> str:
    """Return the code for a value that cannot be written as JSON."""
    return "not-finite" if "Out of range float" in str(error) else "not-json"
