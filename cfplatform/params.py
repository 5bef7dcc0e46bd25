"""Check arguments before the first request, and convert them to query parameters."""

from __future__ import annotations

import itertools
import json
import operator
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from . import timestamps
from .exceptions import InvalidParameterError, shown

if TYPE_CHECKING:
    import uuid

#: Maximum number of items in a page (published reference), and our default. The platform's default is 20.
MAX_PAGE_SIZE = 100
#: Maximum number of IDs in a filter (official client's documentation). More are split into several requests.
MAX_FILTER_IDS = 100
#: Maximum nesting depth of metadata (our limit), low enough for every JSON parser.
MAX_METADATA_DEPTH = 100
#: Default number of seconds to wait for an export.
WAIT_TIMEOUT = 3600.0

#: An aware ``datetime`` or an ISO 8601 string with a time zone.
DatetimeLike = datetime | str
#: Query parameters as a list of pairs, since lists are sent as repeated keys.
Query = list[tuple[str, str]]


class WorkItemFilters(TypedDict, total=False):
    """The filters of a work item listing. All are optional and combined with AND. Dates are inclusive.

    ``batch_ids`` and ``batch_names`` are combined with OR.
    """

    batch_ids: Iterable[int] | None
    batch_names: Iterable[str] | None
    work_item_ids: Iterable[str | uuid.UUID] | None
    status: str | Iterable[str] | None
    created_at_from: DatetimeLike | None
    created_at_to: DatetimeLike | None
    updated_at_from: DatetimeLike | None
    updated_at_to: DatetimeLike | None
    metadata: Mapping[str, Any] | None


class ListOptions(WorkItemFilters, total=False):
    """The filters and options of a work item listing; see :meth:`~cfplatform.Client.get_work_items`."""

    page_size: int
    limit: int | None
    max_items: int | None
    cursor: str | None
    prefetch: bool


_DATES = {
    "created_at_from": "createdAtFrom",
    "created_at_to": "createdAtTo",
    "updated_at_from": "updatedAtFrom",
    "updated_at_to": "updatedAtTo",
}
FILTER_NAMES = ("batch_ids", "batch_names", "work_item_ids", "status", *_DATES, "metadata")


def _wrong(name: str, message: str) -> InvalidParameterError:
    return InvalidParameterError(message, parameter=name)


def check_names(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise a ``TypeError`` for an unknown keyword, as Python does, with a suggestion."""
    for name in given:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Valid names: {', '.join(known)}."
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}. {hint}")


class Selection(NamedTuple):
    """Checked filters. ``None`` selects everything, an empty list nothing."""

    batch_ids: list[str] | None
    batch_names: list[str] | None
    work_item_ids: list[str] | None
    statuses: list[str] | None
    dates: Query
    metadata: dict[str, Any] | None

    def queries(self, named: Iterable[str] = ()) -> list[Query]:
        """Return the queries that together list the selected items: one for each group of 100 IDs and each status.

        An empty list selects nothing, so the result may be empty.

        Args:
            named: The IDs of the batches selected by name.
        """
        is_any = self.batch_ids is None and self.batch_names is None
        batches = None if is_any else list(dict.fromkeys([*(self.batch_ids or ()), *named]))
        statuses: Sequence[Query] = [[]] if self.statuses is None else [[("status", each)] for each in self.statuses]
        return [
            [*(("batchIds", each) for each in group), *(("workItemIDs", each) for each in items), *self.dates, *status]
            for group, items, status in itertools.product(_groups(batches), _groups(self.work_item_ids), statuses)
        ]

    @property
    def keep(self) -> Callable[[dict[str, Any]], bool] | None:
        """A function that returns whether a listed item is selected; ``None`` if the platform does all filtering."""
        return None if self.metadata is None else self._has_metadata

    def _has_metadata(self, item: dict[str, Any]) -> bool:
        found = item.get("metadata")
        return isinstance(found, dict) and all(
            name in found and _equal(found[name], value) for name, value in (self.metadata or {}).items()
        )


def selection(filters: WorkItemFilters) -> Selection:
    """Check filters."""
    batch_ids, names, items = filters.get("batch_ids"), filters.get("batch_names"), filters.get("work_item_ids")
    status, given = filters.get("status"), filters.get("metadata")
    if given is not None and metadata(given) == {}:
        raise _wrong("metadata", "metadata is empty. Pass at least one key, or omit it.")
    _, created = date_range(filters, "created_at")
    _, updated = date_range(filters, "updated_at")
    return Selection(
        batch_ids=None if batch_ids is None else unique("batch_ids", batch_ids, batch_id),
        batch_names=None if names is None else unique("batch_names", names, _name, "name"),
        work_item_ids=None if items is None else unique("work_item_ids", items, object_id),
        statuses=None if status is None else _statuses(status),
        dates=[*created, *updated],
        # As JSON: lists instead of tuples, strings instead of enum members.
        metadata=None if given is None else json.loads(json.dumps(dict(given))),
    )


def date_range(filters: Mapping[str, Any], kind: str) -> tuple[tuple[datetime | None, datetime | None], Query]:
    """Check a date range, such as "created_at"; return its start and end, and the query parameters."""
    moments: list[datetime | None] = []
    query: Query = []
    for name in (f"{kind}_from", f"{kind}_to"):
        value = filters.get(name)
        moment, sent = (None, "") if value is None else date(name, value)
        moments.append(moment)
        if moment is not None:
            query.append((_DATES[name], sent))
    first, last = moments
    # As timestamps: within one zone Python compares clock times, which repeat when clocks go back.
    if first and last and first.timestamp() > last.timestamp():
        name = f"{kind}_from"
        raise _wrong(name, f"{name} is after the end of the range, so nothing can match.")
    return (first, last), query


def _groups(ids: Sequence[str] | None) -> list[Sequence[str]]:
    return [()] if ids is None else list(chunks(ids, MAX_FILTER_IDS))


def _statuses(given: Any) -> list[str]:
    is_list = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))
    return unique("status", given if is_list else [given], _status)


def _status(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameterError(
            "status must be a string such as 'COMPLETED'.", parameter="status", hint="Use None for every status."
        )
    # A str subclass such as WorkItemStatus would be formatted as its class name.
    return str.__str__(value).strip()


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(name, f"{name}: {shown(value)} is not a valid name.")
    return str.__str__(value)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, true is not equal to 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def unique(name: str, values: Iterable[Any], check: Callable[[str, Any], str], what: str = "ID") -> list[str]:
    """Check the values of a list; return them as strings, without duplicates."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        message = (
            f"{name} must be a list of {what}s, not {type(values).__name__}. For a single {what}, pass {name}=[...]."
        )
        raise _wrong(name, message)
    return list(dict.fromkeys(check(name, value) for value in values))


def batch_id(name: str, value: Any) -> str:
    """Check a batch ID, an integer or a string of digits, and return it as a string."""
    digits = ""
    if isinstance(value, str):
        digits = value.strip()
    # Integers from other libraries, such as numpy, are accepted.
    elif hasattr(value, "__index__") and not isinstance(value, bool) and 0 <= operator.index(value) < 10**19:
        digits = str(operator.index(value))
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        raise _wrong(name, f"{name}: {shown(value)} is not a valid batch ID; batch IDs are integers.")
    return str(int(digits))


def object_id(name: str, value: Any) -> str:
    """Check the ID of a work item, project, space or export, and return it as a string.

    An empty ID, ``.``, ``..`` and control characters are refused, because they could change the path of a request.
    Everything else is quoted when it is sent.
    """
    if not isinstance(value, str):
        import uuid

        if isinstance(value, uuid.UUID):
            return str(value)
        raise _wrong(name, f"{name} must be a string or uuid.UUID, not {type(value).__name__}.")
    if not value.strip() or value.strip() in (".", "..") or not value.isprintable():
        raise _wrong(name, f"{name}: {shown(value)} is not a valid ID; it is blank, '.', '..' or not printable.")
    return value.strip()


def date(name: str, value: Any) -> tuple[datetime, str]:
    """Check a date filter; return it as a ``datetime`` and as the RFC 3339 string to send.

    Strings keep their zone and fraction. Times without a time zone are refused as ambiguous.
    """
    if isinstance(value, datetime):
        moment, sent = value, _iso_text(name, value)
    elif isinstance(value, str):
        try:
            moment, sent = timestamps.parse(value), timestamps.rfc3339(value)
        except ValueError:
            example = "'2026-07-11T11:52:37+05:45'"
            message = f"{name}: {shown(value)} is not a valid ISO 8601 date and time such as {example}."
            raise _wrong(name, message) from None
    else:
        raise _wrong(name, f"{name} must be a datetime or an ISO 8601 string, not {type(value).__name__}.")
    if moment.utcoffset() is None:
        example = "a final 'Z'" if isinstance(value, str) else "datetime.now(timezone.utc)"
        raise _wrong(name, f"{name}: {value!r} has no time zone. Add one, such as {example}.")
    return moment, sent


def _iso_text(name: str, moment: datetime) -> str:
    offset = moment.utcoffset()
    if offset and offset % timedelta(minutes=1):
        # Local mean time has offsets in seconds, which ISO 8601 cannot express.
        try:
            moment = moment.astimezone(timezone.utc)
        except OverflowError:
            raise _wrong(name, f"{name}: {moment!r} has no equivalent in UTC.") from None
    return moment.isoformat()


def flag(name: str, value: object) -> bool:
    """Check a boolean option."""
    if not isinstance(value, bool):
        raise _wrong(name, f"{name} must be True or False, not {shown(value)}.")
    return value


def page_size(value: Any, limit: int | None = None) -> int:
    """Check a page size, 1 to 100; return it, or ``limit`` if fewer items are needed."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PAGE_SIZE:
        raise _wrong("page_size", f"page_size must be an integer from 1 to {MAX_PAGE_SIZE}, not {shown(value)}.")
    return min(value, limit) if limit else value


def limit(value: Any, max_items: Any = None) -> int | None:
    """Check ``limit``, or ``max_items``, its former name: ``None``, or 0 or more."""
    if value is not None and max_items is not None:
        raise _wrong("limit", "limit and max_items are the same option: pass only limit.")
    name, number = ("limit", value) if max_items is None else ("max_items", max_items)
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and number >= 0):
        return number
    raise _wrong(name, f"{name} must be an integer of at least 0, or None, not {shown(number)}.")


def cursor(value: Any) -> str | None:
    """Check a cursor: ``None`` or a non-empty string."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise _wrong("cursor", "cursor must be a string from a page or an error, or None.")


def pairs(query: Query | Mapping[str, Any] | None) -> Query:
    """Return query parameters as pairs of strings. A list becomes a repeated key; ``None`` is dropped."""
    found = list(query.items()) if isinstance(query, Mapping) else query or []
    if not isinstance(found, (list, tuple)) or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in found):
        raise _wrong("params", "params must be a mapping or a list of pairs.")
    return [
        (str(key), str(value))
        for key, values in found
        for value in (values if isinstance(values, (list, tuple, set, frozenset)) else [values])
        if value is not None
    ]


def storage_path(name: str, value: Any) -> str:
    """Check a storage path."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(name, f"{name}: {shown(value)} is not a valid storage path.")
    return value


def text(name: str, value: object) -> str:
    """Check a non-empty string, and return it without surrounding whitespace."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(name, f"{name} must be a non-empty string, not {shown(value)}.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value.strip()):
        raise _wrong(name, f"{name}: {shown(value)} contains control characters or lone surrogates.")
    # A str subclass such as an enum would be formatted as its class name.
    return str.__str__(value).strip()


def metadata(value: object) -> dict[str, Any]:
    """Check that metadata can be sent as JSON."""
    if not isinstance(value, Mapping):
        raise _wrong("metadata", f"metadata must be a mapping, not {type(value).__name__}.")
    problem = _first_problem(dict(value), MAX_METADATA_DEPTH)
    if problem is None:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            problem = str(error)
    if problem is not None:
        raise _wrong("metadata", f"metadata cannot be sent as JSON: {problem}.")
    return dict(value)


def _first_problem(value: object, levels: int) -> str | None:
    """Return the reason why a value cannot be written as JSON without loss, or ``None``."""
    if isinstance(value, str):
        # For example, a file name that is not UTF-8: many servers accept it, and then fail in every listing.
        is_odd = any("\ud800" <= character <= "\udfff" for character in value)
        return f"{shown(value)} contains lone surrogates" if is_odd else None
    if not isinstance(value, (dict, list, tuple)):
        return None
    if levels == 0:
        return f"it is nested more than {MAX_METADATA_DEPTH} levels deep"
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            return f"the key {shown(wrong[0])} is not a string"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next((problem for part in inner if (problem := _first_problem(part, levels - 1)) is not None), None)


def chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Split a sequence into chunks of at most ``size``."""
    return (values[start : start + size] for start in range(0, len(values), size))
