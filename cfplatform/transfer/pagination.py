"""Pagination: follow cursors, also past empty pages, and detect cursor loops."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..exceptions import APIError, CFPlatformError, InvalidResponseError
from ..http.background import Background
from ..params import Query

#: Number of recent cursors kept to detect loops: up to 5 million items at 100 items a page.
REMEMBERED_CURSORS = 50_000
#: Number of recent IDs kept to drop items that neighboring pages repeat: about 100 pages.
REMEMBERED_IDS = 10_000
#: Consecutive empty pages that are followed before the listing fails.
MAX_EMPTY_PAGES = 1_000
#: Statuses for a cursor that the server no longer knows.
_CURSOR_REFUSED = (400, 410)

#: The names of the ID field: exports have their own, in snake case in a bare array.
_IDS = ("id", "exportId", "export_id")

#: Maximum plausible total number of items.
MAX_TOTAL = 10**15

#: Number of pages after which the next page is prefetched. A reader that got this far usually continues; one that stops
#: later costs a single needless request.
PREFETCH_AFTER = 10
#: Number of listings whose first pages are fetched concurrently.
LISTINGS_AT_ONCE = 4
#: Minimum seconds per page to be worth prefetching. The thread costs a third of a millisecond, so it would slow down a
#: listing whose pages arrive at once.
WORTH_A_THREAD = 0.005

#: Fetches one page: takes the query, returns the parsed body.
FetchPage = Callable[[Query], Any]
#: A local filter: returns whether to keep an item.
Keep = Callable[[dict[str, Any]], bool]
#: Starts to fetch one page in the background.
BeginPage = Callable[[Query], Background[Any]]


def iterate_pages(
    fetch: FetchPage,
    *queries: Query,
    cursor: str | None = None,
    restart: bool = False,
    begin: BeginPage | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the pages of one or more listings as the server sent them, one request each.

    A bare array, an old format without paging, is yielded as ``{"items": [...]}``.

    With ``restart``, a listing restarts once if the server refuses a cursor. The reader must drop repeated IDs, as
    :func:`items` does. It knows the last 10,000 IDs, so after more items the refusal is raised.

    With ``begin``, the first pages of four listings are fetched concurrently once a second listing is needed. Later
    pages are not prefetched, because one listing is read to its end before the next one starts. With ``limit`` the last
    listing is unknown, so none is started early.

    Args:
        fetch: Fetches a page.
        queries: The query of each listing, sent with every page.
        cursor: Cursor to start from.
        begin: Starts to fetch a page in advance: from the tenth page on, one at a time.
        limit: Maximum number of items that the reader takes; avoids needless prefetching.

    Raises:
        InvalidResponseError: If a page is not valid, or the cursor repeats.
    """
    if len(queries) == 1:
        return _pages_of(_Source(fetch, begin), queries[0], cursor, restart, None, limit)
    return _pages_of_several(_Source(fetch, begin if limit is None else None), queries, cursor, restart)


def _pages_of_several(
    source: _Source, queries: Sequence[Query], cursor: str | None, restart: bool
) -> Iterator[dict[str, Any]]:
    under_way: deque[Background[Any]] = deque()
    try:
        for number, query in enumerate(queries):
            if number > 0:
                following = queries[number + len(under_way) : number + LISTINGS_AT_ONCE]
                under_way.extend(filter(None, map(source.begin, following)))
            first = under_way.popleft() if under_way else None
            yield from _pages_of(source, query, cursor, restart, first, None)
    finally:
        for page in under_way:
            page.cancel()


class _Source:
    """Fetches the pages of a call, and measures how long they take."""

    def __init__(self, fetch: FetchPage, begin: BeginPage | None) -> None:
        self.fetch = fetch
        self._begin = begin
        #: Seconds that the fastest page took.
        self.fastest = math.inf

    def begin(self, query: Query) -> Background[Any] | None:
        """Start to fetch a page, unless pages arrive at once."""
        return self._begin(query) if self._begin is not None and self.fastest >= WORTH_A_THREAD else None


def _pages_of(
    source: _Source,
    query: Query,
    cursor: str | None,
    restart: bool,
    pending: Background[Any] | None,
    limit: int | None,
) -> Iterator[dict[str, Any]]:
    start, yielded = cursor, 0
    seen = _Window(REMEMBERED_CURSORS, start)
    number = empty = 0
    try:
        while True:
            number += 1
            try:
                found = None
                if pending is not None:
                    # Errors are ignored, because they may be old: the reader may have taken an hour.
                    with contextlib.suppress(Exception):
                        found = pending.result()
                if found is None:
                    began = time.perf_counter()
                    found = source.fetch(_at(query, cursor))
                    source.fastest = min(source.fastest, time.perf_counter() - began)
                page = _checked_page(found, number)
                following = _next_cursor(page, query, number)
                empty = 0 if page["items"] else empty + 1
                if empty > MAX_EMPTY_PAGES:
                    raise InvalidResponseError(f"The listing has {MAX_EMPTY_PAGES} consecutive empty pages.")
            except CFPlatformError as error:
                refused = isinstance(error, APIError) and error.status_code in _CURSOR_REFUSED and cursor != start
                if restart and refused and yielded <= REMEMBERED_IDS:
                    restart, cursor, seen, pending = False, start, _Window(REMEMBERED_CURSORS, start), None
                    continue
                error.cursor = cursor
                raise
            yielded += len(page["items"])
            is_loop = following is not None and not seen.add(following)
            is_last = following is None or is_loop or (limit is not None and yielded >= limit)
            pending = source.begin(_at(query, following)) if number >= PREFETCH_AFTER and not is_last else None
            yield page
            if following is None:
                return
            if is_loop:
                # Raised after the page, because the page itself was new.
                problem = InvalidResponseError(
                    f"Page {number} of the listing repeats an earlier cursor, so the listing would never end. "
                    "The items up to here are complete. Report this to CloudFactory."
                )
                problem.cursor = cursor
                raise problem
            cursor = following
    finally:
        if pending is not None:
            pending.cancel()


def _at(query: Query, cursor: str | None) -> Query:
    return [*query, ("cursor", cursor), ("page", "NEXT")] if cursor else query


def fresh(
    pages: Iterable[dict[str, Any]], *, limit: int | None = None, keep: Keep | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the new items of each page that ``keep`` accepts, at most ``limit`` in total.

    Pages may overlap: an item is dropped if its ID is among the last 10,000.

    Raises:
        InvalidResponseError: If an item is not an object, or its ID is not a string or integer. Items before it are
            yielded first.
    """
    if limit == 0:
        return
    seen = _Window(REMEMBERED_IDS)
    count = 0
    for number, page in enumerate(pages, start=1):
        found, odd = _unseen(page["items"], seen)
        if keep is not None:
            found = list(filter(keep, found))
        if limit is not None and count + len(found) >= limit:
            yield found[: limit - count]
            return
        count += len(found)
        yield found
        if odd is not None:
            raise InvalidResponseError(
                f"Item {odd} on page {number} of the listing has no valid ID (a string or an integer)."
            )


def items(
    pages: Iterable[dict[str, Any]], *, limit: int | None = None, keep: Keep | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the new items one by one; see :func:`fresh`."""
    for found in fresh(pages, limit=limit, keep=keep):
        yield from found


def total(page: dict[str, Any]) -> int | None:
    """Return the total number of matching items, if the page has a plausible one; it is not documented."""
    value = page.get("total")
    if isinstance(value, int) and not isinstance(value, bool) and len(page["items"]) <= value <= MAX_TOTAL:
        return value
    return None


def _checked_page(page: Any, number: int) -> dict[str, Any]:
    if isinstance(page, list):
        page = {"items": page, "meta": {}}
    if not isinstance(page, dict) or not isinstance(page.get("items"), list):
        raise InvalidResponseError(
            f"Page {number} of the listing has no list of items. "
            "Check that the base URL is the CloudFactory AI Platform API."
        )
    return page


def _next_cursor(page: dict[str, Any], query: Query, number: int) -> str | None:
    """Read the next cursor in either spelling; a null in one means that the other one counts."""
    meta = page.get("meta")
    if not isinstance(meta, dict):
        size = next((int(value) for key, value in query if key == "limit"), None)
        if size is not None and len(page["items"]) >= size:
            raise InvalidResponseError(f"Page {number} of the listing is full but has no next cursor.")
        return None
    following = meta.get("cursorNext")
    if following is None:
        following = meta.get("cursor_next")
    if following is None or following == "":
        return None
    if isinstance(following, (dict, list, bool)):
        raise InvalidResponseError(f"Page {number} of the listing has a cursor that is not a string.")
    return str(following)


def _unseen(entries: list[Any], seen: _Window) -> tuple[list[dict[str, Any]], int | None]:
    """Return the new items up to the first invalid one, and the index of that one."""
    if seen.add_all(entries):
        return entries, None
    found: list[dict[str, Any]] = []
    for index, entry in enumerate(entries):
        key = next((entry[name] for name in _IDS if name in entry), None) if isinstance(entry, dict) else None
        # Floats are refused, because a parser may have rounded them.
        if key in (None, "") or isinstance(key, bool) or not isinstance(key, (str, int)):
            return found, index
        if seen.add(str(key)):
            found.append(entry)
    return found, None


class _Window:
    """Keeps the hashes of the last strings: at least ``size``, at most about a quarter more."""

    def __init__(self, size: int, *known: str | None) -> None:
        self._part = -(-size // 4)
        # Four full sets, and the current one.
        self._parts = deque([set(map(hash, known))], maxlen=5)

    def add(self, text: str) -> bool:
        """Add a string; return whether it was new."""
        key = hash(text)
        known = any(key in part for part in self._parts)
        # Added again even if it is known, because the oldest set is dropped first.
        self._remember({key})
        return not known

    def add_all(self, entries: list[Any]) -> bool:
        """Add the IDs of a page if all of them are new strings, ten times as fast as one by one."""
        try:
            ids = [entry["id"] for entry in entries]
        except (KeyError, TypeError):
            return False
        if not {*map(type, ids)} <= {str} or "" in ids:
            return False
        keys = {*map(hash, ids)}
        if len(keys) < len(ids) or not all(map(keys.isdisjoint, self._parts)):
            return False
        self._remember(keys)
        return True

    def _remember(self, keys: set[int]) -> None:
        self._parts[-1] |= keys
        if len(self._parts[-1]) >= self._part:
            self._parts.append(set())
