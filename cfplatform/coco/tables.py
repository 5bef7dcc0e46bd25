"""What the documents of a dataset share: categories, licenses, and members on which all agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..exceptions import shown
from .findings import Finding
from .sources import Document
from .writing import encode

#: Called with each finding.
Tell = Callable[[Finding], Any]
#: Conflicts that are remembered, so that each is told once.
_REMEMBERED = 10_000


class Conflicts:
    """Tells each conflict once, however many documents repeat it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told: set[tuple[str, ...]] = set()

    def __call__(self, document: Document, code: str, about: str, message: str, pointer: str = "") -> None:
        """Tell a conflict, which the code and what it is about identify."""
        if (code, about) in self._told:
            return
        if len(self._told) < _REMEMBERED:
            self._told.add((code, about))
        self._tell(document.finding(code, "warning", message, pointer))


class Table:
    """Entries of all documents, each once, numbered from 1 in the order in which they appear first.

    Args:
        tell: Called with each problem.
        conflicts: Called with each conflict.
    """

    #: The list of the document, what one of its entries is called, and what identifies an entry.
    _name: str
    _one: str
    _members: tuple[str, str]
    #: Members that say what a reference to the entry means: where they differ, the entries are different ones.
    _meaning: tuple[str, ...] = ()

    def __init__(self, tell: Tell, conflicts: Conflicts) -> None:
        self.entries: list[dict[str, Any]] = []
        self._tell, self._conflicts = tell, conflicts
        self._known: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self._last: list[Any] = []
        self._last_numbers: dict[Any, int] = {}

    def numbers(self, document: Document) -> dict[Any, int]:
        """Return the number of each entry of a document, by its id there."""
        listed = document.data.get(self._name)
        if listed == self._last:
            return self._last_numbers
        if listed is None:
            return {}
        if not isinstance(listed, list):
            self._problem(document, "wrong-type", f"The {self._name} are no list.", "")
            return {}
        numbers: dict[Any, int] = {}
        used: set[int] = set()
        whole = True
        for index, entry in enumerate(listed):
            number = self._read(document, entry, f"/{index}", numbers)
            if number in used:
                message = f"The {self._one} is there under two ids; both become one."
                code = f"duplicate-{self._one}-name"
                self._conflicts(document, code, str(number), message, f"/{self._name}/{index}")
            whole = whole and number != 0
            used.add(number)
        if whole:
            # Copies, because a stream may use one document over and over.
            self._last, self._last_numbers = [{**entry} for entry in listed], numbers
        return numbers

    def _read(self, document: Document, entry: Any, place: str, numbers: dict[Any, int]) -> int:
        """Read one entry of a document; return its number, 0 if it is of no use."""
        if not isinstance(entry, dict):
            return self._problem(document, "wrong-type", f"The {self._one} is no object.", place)
        own = entry.get("id")
        if not is_id(own):
            return self._problem(document, "missing-id", f"The id of the {self._one} is no number or text.", place)
        if own in numbers:
            message = f"The id {shown(own)} is that of an earlier {self._one}, which counts."
            return self._problem(document, f"duplicate-{self._one}-id", message, f"{place}/id")
        found = self._entry(document, entry, place)
        if found is None:
            return 0
        numbers[own] = found["id"]
        return numbers[own]

    def _entry(self, document: Document, entry: dict[str, Any], place: str) -> dict[str, Any] | None:
        """Return the entry of the dataset that this one is."""
        key = self._key(entry)
        same = self._known.setdefault(key, [])
        for known in same:
            if all(_agree(known.get(member), entry.get(member)) for member in self._meaning):
                self._complete(document, known, entry, place)
                return known
        try:
            # What is kept is a copy that no caller can change any more, and that can be written at the end.
            made: dict[str, Any] = json.loads(encode(entry))
        except (ValueError, TypeError, RecursionError) as error:
            self._problem(document, unwritable(error), f"The {self._one} cannot be written as JSON: {error}.", place)
            return None
        made["id"] = len(self.entries) + 1
        if same:
            members = ", ".join(self._meaning)
            message = f"The {self._one} {shown(key[0])} has other {members} than before; they are kept apart."
            self._conflicts(document, f"{self._one}-differs", str(made["id"]), message, f"/{self._name}{place}")
        else:
            self._compare(document, key, place)
        same.append(made)
        self.entries.append(made)
        return made

    def _key(self, entry: dict[str, Any]) -> tuple[str, ...]:
        first, second = (entry.get(member) or "" for member in self._members)
        if first and isinstance(first, str) and isinstance(second, str):
            return first, second
        # Without a name nothing but its own id tells it from others.
        return repr(first), repr(second), repr(entry.get("id"))

    def _complete(self, document: Document, known: dict[str, Any], entry: dict[str, Any], place: str) -> None:
        """Add members that are new; of those that differ the first one stays."""
        for member, value in entry.items():
            if member == "id" or known.get(member) == value:
                continue
            pointer = f"/{self._name}{place}/{_escaped(member)}"
            if member not in known or (known[member] is None and member in self._meaning):
                try:
                    known[member] = json.loads(encode(value))
                except (ValueError, TypeError, RecursionError) as error:
                    message = f"{shown(member)} cannot be written as JSON: {error}."
                    self._problem(document, unwritable(error), message, f"{place}/{_escaped(member)}")
            elif value is not None and not (member in self._members and not value):
                said = f"The {self._one} {shown(self._key(entry)[0])} has another {shown(member)} than before"
                message = f"{said}; the first one is kept."
                self._conflicts(document, f"{self._one}-members", f"{known['id']} {member}", message, pointer)

    def _compare(self, document: Document, key: tuple[str, ...], place: str) -> None:
        """Tell where a new entry is almost one that is known."""

    def _problem(self, document: Document, code: str, message: str, place: str) -> int:
        self._tell(document.finding(code, "error", message, f"/{self._name}{place}"))
        return 0


class Licenses(Table):
    """Licenses, which are the same if they have the same name and URL."""

    _name, _one, _members = "licenses", "license", ("name", "url")


class Categories(Table):
    """Categories, which are the same if they have the same name and supercategory, and labels of them mean the same."""

    _name, _one, _members = "categories", "category", ("name", "supercategory")
    _meaning = ("keypoints", "skeleton", "isthing")

    def __init__(self, tell: Tell, conflicts: Conflicts) -> None:
        super().__init__(tell, conflicts)
        self._spelled: dict[str, tuple[str, str]] = {}

    def _compare(self, document: Document, key: tuple[str, ...], place: str) -> None:
        """Tell where a new entry is almost one that is known."""
        name, outer, *unnamed = key
        if unnamed:
            return
        known = self._spelled.setdefault(" ".join(name.split()).casefold(), (name, outer))
        if known == key:
            return
        if known[0] == name:
            code, said = (
                "category-supercategory",
                f"has the supercategory {shown(outer)}, before it was {shown(known[1])}",
            )
        else:
            code, said = "category-spelling", f"differs from {shown(known[0])} only by case or blanks"
        message = f"The category {shown(name)} {said}; they are kept apart."
        self._conflicts(document, code, f"{name}\0{outer}", message, f"/categories{place}")


class Agreement:
    """Members on which all documents agree."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] | None = None

    @property
    def members(self) -> dict[str, Any]:
        """What all documents so far have alike."""
        return self._kept or {}

    def add(self, members: dict[str, Any]) -> list[str]:
        """Compare with the members of one more document; return the names of those that are not kept."""
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
    """Tell whether something can be an id at all; where there is none, that is one too."""
    return value is None or isinstance(value, (int, float, str))


def unwritable(error: Exception) -> str:
    """Return the code for something that cannot be written as JSON."""
    return "not-finite" if "Out of range float" in str(error) else "not-json"
