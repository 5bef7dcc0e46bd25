"""The parts that all documents of a dataset share: categories, licenses, and equal fields."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from .documents import Document, finding_about
from .findings import Finding, Problem, shown
from .output import UnwritableError, copied, encode

#: Maximum number of warnings to remember, to report each one once.
_REMEMBERED = 10_000
_NOTHING = object()


class FindingLog:
    """Reports every error, and each warning once."""

    def __init__(self, report: Callable[[Finding], Any]) -> None:
        self._report = report
        self._warned: set[tuple[str, str]] = set()

    def error(
        self, document: Document, code: str, message: str, pointer: str = "", annotation_id: object = None
    ) -> None:
        """Report an error."""
        self._report(finding_about(document, Problem(code, message, pointer, annotation_id)))

    def warning(
        self, document: Document, code: str, subject: str, message: str, pointer: str = "", annotation_id: object = None
    ) -> None:
        """Report a warning, unless this code was already reported for this subject."""
        if (code, subject) in self._warned:
            return
        if len(self._warned) < _REMEMBERED:
            self._warned.add((code, subject))
        self._report(finding_about(document, Problem(code, message, pointer, annotation_id)))


class _RefusedError(Exception):
    """An entry cannot be used; has the code, message and pointer of the error."""


class Table:
    """The distinct entries of all documents, numbered from 1 in order of appearance."""

    #: The section of the document, the name of one entry, and the fields that identify an entry.
    _section: str
    _one: str
    _members: tuple[str, str]
    #: Fields that define the meaning of an entry: entries that differ in them are distinct.
    _meaning: tuple[str, ...] = ()

    def __init__(self, log: FindingLog) -> None:
        self.entries: list[dict[str, Any]] = []
        self._log = log
        self._known: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self._last: list[Any] = []
        self._last_numbers: dict[Any, int] = {}

    def numbers(self, document: Document) -> dict[Any, int]:
        """Return the number of each entry of a document, by its ID in the document."""
        listed = document.data.get(self._section)
        if listed == self._last:
            return self._last_numbers
        if listed is None:
            return {}
        if not isinstance(listed, list):
            self._log.error(document, "wrong-type", f"The {self._section} are not a list.", f"/{self._section}")
            return {}
        numbers: dict[Any, int] = {}
        used: set[int] = set()
        for index, entry in enumerate(listed):
            pointer = f"/{self._section}/{index}"
            try:
                self._check(entry, pointer, numbers)
                number = self._number(document, entry, pointer)
            except _RefusedError as error:
                self._log.error(document, *error.args)
                continue
            if number in used:
                message = f"The {self._one} has two IDs; they are merged."
                self._log.warning(document, f"duplicate-{self._one}-name", str(number), message, pointer)
            numbers[entry.get("id")] = number
            used.add(number)
        if len(numbers) == len(listed):
            # Copies, because a stream may modify and reuse one document.
            self._last, self._last_numbers = [{**entry} for entry in listed], numbers
        return numbers

    def _check(self, entry: Any, pointer: str, numbers: dict[Any, int]) -> None:
        """Check that an entry of a document has a unique ID."""
        if not isinstance(entry, dict):
            raise _RefusedError("wrong-type", f"The {self._one} is not an object.", pointer)
        own = entry.get("id")
        if not is_id(own):
            raise _RefusedError("missing-id", f"The ID of the {self._one} is not a number or a string.", pointer)
        if own in numbers:
            message = f"The ID {shown(own)} is that of an earlier {self._one}, which is used."
            raise _RefusedError(f"duplicate-{self._one}-id", message, f"{pointer}/id")

    def _number(self, document: Document, entry: dict[str, Any], pointer: str) -> int:
        """Return the number of the equal entry of the dataset; add the entry if it is new."""
        try:
            identity = self._identity(entry)
            same = self._known.setdefault(identity, [])
            for known in same:
                if all(_agree(known.get(member), entry.get(member)) for member in self._meaning):
                    self._complete(document, known, entry, pointer)
                    return int(known["id"])
            made: dict[str, Any] = copied(entry)
        except UnwritableError as error:
            message = f"The {self._one} cannot be written as JSON: {error}."
            raise _RefusedError(error.code, message, pointer) from None
        made = self._place(identity, made)
        if same:
            members = ", ".join(self._meaning)
            message = (
                f"The {self._one} {shown(identity[0])} has different {members} than before; they are kept separate."
            )
            self._log.warning(document, f"{self._one}-differs", str(made["id"]), message, pointer)
        else:
            self._compare(document, identity, pointer)
        same.append(made)
        return int(made["id"])

    def _place(self, identity: tuple[str, ...], made: dict[str, Any]) -> dict[str, Any]:
        """Add a new entry, with its number as ID; return it."""
        made["id"] = len(self.entries) + 1
        self.entries.append(made)
        return made

    def _identity(self, entry: dict[str, Any]) -> tuple[str, ...]:
        first, second = (entry.get(member) or "" for member in self._members)
        if first and isinstance(first, str) and isinstance(second, str):
            # File systems and editors encode some letters in two ways.
            return unicodedata.normalize("NFC", first), unicodedata.normalize("NFC", second)
        # Without a name, only the ID distinguishes it.
        return shown(first), shown(second), encode([first, second, entry.get("id")])

    def _complete(self, document: Document, known: dict[str, Any], entry: dict[str, Any], pointer: str) -> None:
        """Add new fields; if a field differs, the first value is kept."""
        for member, value in entry.items():
            if member == "id" or known.get(member) == value:
                continue
            below = f"{pointer}/{_escaped(member)}"
            if member not in known or (known[member] is None and member in self._meaning):
                try:
                    known[member] = copied(value)
                except UnwritableError as error:
                    message = f"{shown(member)} cannot be written as JSON: {error}."
                    self._log.error(document, error.code, message, below)
            elif value is not None and member not in self._members:
                name = f"The {self._one} {shown(self._identity(entry)[0])}"
                message = f"{name} has a different {shown(member)} than before; the first value is kept."
                self._log.warning(document, f"{self._one}-members", f"{known['id']} {member}", message, below)

    def _compare(self, document: Document, identity: tuple[str, ...], pointer: str) -> None:
        """Warn if a new entry is almost equal to a known one."""


class Licenses(Table):
    """Licenses, which are equal if their name and URL are."""

    _section, _one, _members = "licenses", "license", ("name", "url")


class Categories(Table):
    """Categories; defines when two are equal, for merging, splitting and counting.

    They are equal if name and supercategory are equal, and keypoints, skeleton and ``isthing`` do not differ: only then
    do their annotations mean the same.
    """

    _section, _one, _members = "categories", "category", ("name", "supercategory")
    _meaning = ("keypoints", "skeleton", "isthing")

    def __init__(self, log: FindingLog) -> None:
        super().__init__(log)
        self._spelled: dict[str, tuple[str, str]] = {}
        self._reserved: dict[str, dict[str, Any]] = {}

    @classmethod
    def meaning(cls, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that define the meaning of the annotations of a category."""
        return {member: entry[member] for member in cls._meaning if entry.get(member) is not None}

    def reserve(self, names: Iterable[str]) -> None:
        """Give the first numbers to the first categories with these names, in this order."""
        self.entries += [{"id": number, "name": name} for number, name in enumerate(names, 1)]
        self._reserved = {unicodedata.normalize("NFC", each["name"]): each for each in self.entries}

    def _place(self, identity: tuple[str, ...], made: dict[str, Any]) -> dict[str, Any]:
        # The identity of an unnamed category has three parts.
        reserved = self._reserved.pop(identity[0], None) if len(identity) == 2 else None
        if reserved is None:
            return super()._place(identity, made)
        made["id"] = reserved["id"]
        reserved.update(made)
        return reserved

    def _compare(self, document: Document, identity: tuple[str, ...], pointer: str) -> None:
        """Warn if a new category is almost equal to a known one."""
        name, outer, *unnamed = identity
        if unnamed:
            return
        known = self._spelled.setdefault(" ".join(name.split()).casefold(), (name, outer))
        if known == identity:
            return
        if known[0] == name:
            code = "category-supercategory"
            difference = f"has the supercategory {shown(outer)}, but had {shown(known[1])} before"
        else:
            code, difference = "category-spelling", f"differs from {shown(known[0])} only by case or spaces"
        message = f"The category {shown(name)} {difference}; they are kept separate."
        self._log.warning(document, code, f"{name}\0{outer}", message, pointer)


class CategoryNames:
    """A unique name for each category: a second one with the same name is "name (supercategory)", or "name #2"."""

    def __init__(self, report: Callable[[Finding], Any]) -> None:
        self.categories = Categories(FindingLog(report))
        #: The name of category 1, 2, ...; ``None`` for a category without a name.
        self.names: list[str | None] = []
        self._used: set[str] = set()

    def numbers(self, document: Document) -> dict[Any, int]:
        """Return the number of each category of a document, by its ID in the document."""
        numbers = self.categories.numbers(document) if isinstance(document.data, dict) else {}
        for entry in self.categories.entries[len(self.names) :]:
            self.names.append(self._new(entry))
        return numbers

    def _new(self, category: dict[str, Any]) -> str | None:
        name, outer = category.get("name"), category.get("supercategory")
        if not isinstance(name, str) or not name:
            return None
        if name in self._used and outer and isinstance(outer, str):
            name = f"{name} ({outer})"
        while name in self._used:
            name = f"{name} #{category['id']}"
        self._used.add(name)
        return name


class SceneCategories(Table):
    """The scene categories of TACO."""

    _section, _one, _members = "scene_categories", "category", ("name", "supercategory")


class Agreement:
    """Fields that are equal in all documents."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] | None = None

    @property
    def members(self) -> dict[str, Any]:
        """The fields that are equal in all documents so far."""
        return self._kept or {}

    def add(self, members: dict[str, Any]) -> list[str]:
        """Compare with the fields of another document; return the names of those that are dropped."""
        if self._kept is None:
            self._kept = {}
            for name, value in members.items():
                with contextlib.suppress(UnwritableError):
                    self._kept[name] = copied(value)
        dropped = [name for name, value in self._kept.items() if members.get(name, _NOTHING) != value]
        for name in dropped:
            del self._kept[name]
        return dropped + [name for name in members if name not in self._kept and name not in dropped]


def _agree(known: Any, value: Any) -> bool:
    return known is None or value is None or known == value


def _escaped(member: object) -> str:
    return str(member).replace("~", "~0").replace("/", "~1")


def is_id(value: object) -> bool:
    """Return whether a value can be an ID; ``None`` also counts as one."""
    return value is None or (isinstance(value, (int, float, str)) and not isinstance(value, bool))
