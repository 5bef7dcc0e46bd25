"""What all resources share: a thin object over the dict that the server sent, and a table of it for notebooks."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from .. import timestamps
from ..exceptions import ConfigurationError, blank

if TYPE_CHECKING:
    from typing_extensions import Self

#: The form of what the server sent, for type checkers.
Data = TypeVar("Data")

#: Maximum number of characters in a cell of a table.
MAX_TEXT = 300
# The module html would do the same, but importing the package would have to load it.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


class Text(str, Enum):
    """A string enumeration of the platform; members print as their values."""

    __str__ = str.__str__


class Resource(Generic[Data]):
    """An object of the platform, with the state in which it was read.

    Keeps the server's dict and converts a field when it is read, so that an odd field never costs a page.
    Equal if of the same class with the same ID; can be copied and pickled (the copy made by pickle has no client).
    """

    __slots__ = ("_client", "_data", "_parent_id")

    #: The field that identifies it for people, shown in ``repr``.
    _label: ClassVar[str] = "status"
    #: Properties that a notebook shows: none that may be a signed URL.
    _shown: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: Mapping[str, Any], client: Any = None, parent_id: str | None = None) -> None:
        self._data = cast("dict[str, Any]", data)
        self._client = client
        self._parent_id = parent_id

    @property
    def id(self) -> str:
        """The ID; the only field that is always there."""
        return str(self._data["id"])

    def as_dict(self) -> Data:
        """Return a deep copy of everything that the server sent, under the server's names.

        :mod:`cfplatform.types` describes it, for a work item as ``WorkItemData``.

        Example:
            >>> item = next(client.get_work_items())
            >>> item.as_dict()["assetType"]
            'image'
        """
        return cast("Data", copy.deepcopy(self._data))

    def __repr__(self) -> str:
        label = self._value(self._label)
        shown = f" {self._label}={label!r}" if label is not None else ""
        return f"<{type(self).__name__} id={self.id!r}{shown}>"

    def _repr_html_(self) -> str:
        values = ((name, getattr(self, name)) for name in self._shown)
        rows = ((name, blank(value) if isinstance(value, str) else value) for name, value in values)
        return table(type(self).__name__, [("id", self.id), *rows])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.id == other.id

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __copy__(self) -> Self:
        return type(self)(dict(self._data), self._client, self._parent_id)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The client is shared: it holds connections and the key, of which there must be one.
        return type(self)(copy.deepcopy(self._data, memo), self._client, self._parent_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._data, None, self._parent_id))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}. The server sent these fields: "
            f"{', '.join(sorted(self._data))}; read them with as_dict()[...]."
        )

    def _bound_client(self) -> Any:
        # The client is above this module, which cannot name its class.
        if self._client is None:
            raise ConfigurationError(
                f"This {type(self).__name__} has no client, because it was unpickled or built by hand. "
                "Fetch it again from a client."
            )
        return self._client

    def _value(self, key: str) -> Any:
        """Return a field under the platform's name or, as in a listing that is a bare array, under ``snake_case``."""
        value = self._data.get(key)
        return self._data.get(_snake_case(key)) if value is None else value

    def _text(self, key: str) -> str | None:
        value = self._value(key)
        return value if isinstance(value, str) else None

    def _integer(self, key: str) -> int | None:
        value = self._value(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _time(self, key: str) -> datetime | None:
        return timestamps.parse_or_none(self._value(key))

    def _metadata(self) -> dict[str, Any]:
        value = self._data.get("metadata")
        return copy.deepcopy(value) if isinstance(value, dict) else {}


class InProject(Resource[Data]):
    """A resource that belongs to a project."""

    __slots__ = ()

    @property
    def project_id(self) -> str | None:
        """The project that the server names, else the one that was listed."""
        return self._text("projectId") or self._parent_id

    @property
    def listed_project_id(self) -> str | None:
        """The project that was listed, which later requests use, else the one that the server names."""
        return self._parent_id or self._text("projectId")

    @property
    def created_at(self) -> datetime | None:
        """When it was created, with its time zone; ``None`` where the server sent no readable time."""
        return self._time("createdAt")

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata object; empty if there is none."""
        return self._metadata()


@functools.cache
def _snake_case(key: str) -> str:
    return re.sub("[A-Z]+", lambda capitals: f"_{capitals[0].lower()}", key)


def table(caption: str, rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Return a table; without a header, rows begin with a name, and one with nothing but its name is left out.

    It is plain HTML that any theme can show, without scripts, colours or files from elsewhere.
    """
    first = "td" if header else "th"
    head = f"<thead>{_row(header, 'th', 'th')}</thead>" if header else ""
    shown = "".join(_row(row, first, "td") for row in rows if any(value is not None for value in row[1:]))
    return f"<table>{_cell('caption', caption)}{head}<tbody>{shown}</tbody></table>"


def _row(cells: Sequence[Any], first: str, other: str) -> str:
    name, *values = cells
    return f"<tr>{_cell(first, name)}{''.join(_cell(other, value) for value in values)}</tr>"


def _cell(tag: str, value: Any) -> str:
    """Show a value as text, whatever it holds: never as markup, never longer than a cell."""
    text = "" if value is None else str(value)
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    # Invisible characters could turn the direction of what follows.
    text = "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text)
    return f'<{tag} style="text-align: left">{text.translate(_ENTITIES)}</{tag}>'
