"""The base class of resources: a thin wrapper around the dict from the server, with a table for notebooks."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from .. import timestamps
from ..exceptions import ConfigurationError, blank

if TYPE_CHECKING:
    from typing_extensions import Self

#: The typed dict of the server's fields, for type checkers.
Data = TypeVar("Data")

#: Maximum number of characters in a cell of a table.
MAX_TEXT = 300
#: Maximum number of rows in a table of many objects.
MAX_ROWS = 10
# Like html.escape, without the import time of the module html.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


class Text(str, Enum):
    """A string enum; members print as their values."""

    __str__ = str.__str__


class Tabular:
    """An object that a notebook shows as a table, and as a row in a table of many."""

    __slots__ = ()

    def _cells(self) -> list[tuple[str, Any]]:
        """Return names and values to show: none that may be a secret."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return table(type(self).__name__, self._cells())


class Resource(Tabular, Generic[Data]):
    """An object of the platform, as it was when it was fetched.

    Fields are converted when they are read, so an unusual value does not make a listing fail. Objects are equal if
    class and ID are equal. They can be copied and pickled; an unpickled object has no client.
    """

    __slots__ = ("_client", "_data", "_parent_id")

    #: The property shown in ``repr``.
    _label: ClassVar[str] = "status"
    #: Properties shown in notebooks; never a signed URL.
    _shown: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: Mapping[str, Any], client: Any = None, parent_id: str | None = None) -> None:
        self._data = cast("dict[str, Any]", data)
        self._client = client
        self._parent_id = parent_id

    @property
    def id(self) -> str:
        """The ID; the only field that is always present."""
        return str(self._data["id"])

    def as_dict(self) -> Data:
        """Return a deep copy of all fields from the server, with the server's names.

        :mod:`cfplatform.types` has their types, such as ``WorkItemData`` for a work item.

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

    def _cells(self) -> list[tuple[str, Any]]:
        return [("id", self.id), *((name, getattr(self, name)) for name in self._shown)]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.id == other.id

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __copy__(self) -> Self:
        return type(self)(dict(self._data), self._client, self._parent_id)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The client is shared, because it holds connections and the key.
        return type(self)(copy.deepcopy(self._data, memo), self._client, self._parent_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._data, None, self._parent_id))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}. Fields from the server: "
            f"{', '.join(sorted(self._data))}. Read them with as_dict()[...]."
        )

    def _bound_client(self) -> Any:
        # Any: this module must not import Client.
        if self._client is None:
            raise ConfigurationError(
                f"This {type(self).__name__} has no client, because it was unpickled or created manually. "
                "Fetch it again with a client."
            )
        return self._client

    def _value(self, key: str) -> Any:
        """Return a field by its camelCase name or, as in listings that are a bare array, its snake_case name."""
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
        """The project, from the server; otherwise the project that was listed."""
        return self._text("projectId") or self._parent_id

    @property
    def listed_project_id(self) -> str | None:
        """The project that was listed, which later requests use; otherwise the project from the server."""
        return self._parent_id or self._text("projectId")

    @property
    def created_at(self) -> datetime | None:
        """The creation time, with a time zone; ``None`` if the server sent no valid time."""
        return self._time("createdAt")

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata; empty if there is none."""
        return self._metadata()


@functools.cache
def _snake_case(key: str) -> str:
    return re.sub("[A-Z]+", lambda capitals: f"_{capitals[0].lower()}", key)


def table(caption: str, rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Return an HTML table. Without a header, rows start with a name; rows without values are omitted.

    The table is plain HTML for any theme, without scripts, colors or external files.
    """
    first = "td" if header else "th"
    head = f"<thead>{_row(header, 'th', 'th')}</thead>" if header else ""
    shown = "".join(_row(row, first, "td") for row in rows if header or any(value is not None for value in row[1:]))
    return f"<table>{_cell('caption', caption)}{head}<tbody>{shown}</tbody></table>"


def table_of(caption: str, objects: Iterable[Tabular], count: int) -> str:
    """Return a table of the first objects, which are of one class, without columns that are empty."""
    shown = [dict(each._cells()) for each in islice(objects, MAX_ROWS)]
    header = [name for name in (shown[0] if shown else ()) if any(row[name] is not None for row in shown)]
    rows = [[row[name] for name in header] for row in shown]
    if count > len(rows) > 0:
        rows.append([f"and {count - len(rows):,} more", *[""] * (len(header) - 1)])
    return table(caption, rows, header)


def _row(cells: Sequence[Any], first: str, other: str) -> str:
    name, *values = cells
    return f"<tr>{_cell(first, name)}{''.join(_cell(other, value) for value in values)}</tr>"


def _cell(tag: str, value: Any) -> str:
    """Return a cell with a value as text: escaped, without signatures, truncated."""
    if isinstance(value, datetime):
        value = value.isoformat(" ", "seconds")
    text = "" if value is None else blank(str(value))
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    # Invisible characters could change the direction of the following text.
    text = "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text)
    return f'<{tag} style="text-align: left">{text.translate(_ENTITIES)}</{tag}>'
