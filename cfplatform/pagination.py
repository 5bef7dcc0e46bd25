"""Pages to dicts: follow the cursor, never the emptiness of a page, and stop where a cursor goes round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .exceptions import APIError, CFPlatformError, InvalidResponseError
from .params import Query

#: Cursors remembered, to notice a listing that goes round: at 100 items a page, laps of up to 5 million items.
REMEMBERED_CURSORS = 50_000
#: Ids remembered, to drop what neighbouring pages repeat: about 100 pages.
REMEMBERED_IDS = 10_000
#: Empty pages in a row that are followed before it is taken for a fault.
MAX_EMPTY_PAGES = 1_000
#: Statuses by which a server says that it does not know a cursor any more.
_CURSOR_REFUSED = (400, 410)

#: Fetches one page: takes the query, returns the parsed body.
FetchPage = Callable[[Query], Any]


def iterate_pages(
    fetch: FetchPage, query: Query, *, cursor: str | None = None, restart: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing as the server sent them, one request each.

    A bare array, an old form without paging, is yielded as ``{"items": [...]}``.

    With ``restart``, for a reader that drops ids it has seen as :func:`items` does, a cursor that the server refuses
    in the middle makes the listing begin once more, where it began. Only once, and only while that reader still
    remembers all: up to 10 000 items. Beyond that the refusal is raised, since repeats could not be told from news.

    Raises:
        InvalidResponseError: If a page cannot be one, or the cursor stands still or goes round.
    """
    first, yielded = cursor, 0
    seen = _cursors_seen(first)
    number = empty = 0
    while True:
        number += 1
        position = [("cursor", cursor), ("page", "NEXT")] if cursor else []
        try:
            page = _checked_page(fetch([*query, *position]), number)
            following = _next_cursor(page, query, number)
            empty = 0 if page["items"] else empty + 1
            if empty > MAX_EMPTY_PAGES:
                raise InvalidResponseError(f"The listing sent {MAX_EMPTY_PAGES} empty pages in a row.")
        except CFPlatformError as error:
            refused = isinstance(error, APIError) and error.status_code in _CURSOR_REFUSED and cursor != first
            if restart and refused and yielded <= REMEMBERED_IDS:
                restart, cursor, seen = False, first, _cursors_seen(first)
                continue
            error.cursor = cursor
            raise
        yielded += len(page["items"])
        yield page
        if following is None:
            return
        if not seen.add(following):
            # Only now, because the page itself was new.
            problem = InvalidResponseError(
                f"Page {number} of the listing names a cursor that was used before, so it would never end. "
                "What was yielded so far is complete up to here; report this to CloudFactory."
            )
            problem.cursor = cursor
            raise problem
        cursor = following


def _cursors_seen(first: str | None) -> _Window:
    seen = _Window(REMEMBERED_CURSORS)
    if first is not None:
        seen.add(first)
    return seen


def items(pages: Iterable[dict[str, Any]], *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the items of pages, each id once.

    Neighbouring pages may overlap; an id is dropped if it was among the last 10 000, so memory stays bounded.

    Raises:
        InvalidResponseError: If an item is not an object or its id is not a text or a whole number; items before it
            were yielded.
    """
    if limit == 0:
        return
    seen = _Window(REMEMBERED_IDS)
    count = 0
    for number, page in enumerate(pages, start=1):
        for index, item in enumerate(page["items"]):
            key = item.get("id", item.get("exportId")) if isinstance(item, dict) else None
            # A fraction may have been rounded on its way through a parser, so it names nothing for certain.
            if key in (None, "") or isinstance(key, bool) or not isinstance(key, (str, int)):
                raise InvalidResponseError(
                    f"Item {index} on page {number} of the listing has no id that is a text or a whole number."
                )
            if not seen.add(str(key)):
                continue
            yield item
            count += 1
            if count == limit:
                return


def total(page: dict[str, Any]) -> int | None:
    """Return how many items match in all, where the page tells it believably; it is not documented."""
    value = page.get("total")
    if isinstance(value, int) and not isinstance(value, bool) and value >= len(page["items"]):
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
    """Read the next cursor in either spelling; a null in one means "look at the other"."""
    meta = page.get("meta")
    if not isinstance(meta, dict):
        asked = next((int(value) for key, value in query if key == "limit"), None)
        if asked is not None and len(page["items"]) >= asked:
            raise InvalidResponseError(f"Page {number} of the listing is full but does not say how to go on.")
        return None
    following = meta.get("cursorNext")
    if following is None:
        following = meta.get("cursor_next")
    if following is None or following == "":
        return None
    if isinstance(following, (dict, list, bool)):
        raise InvalidResponseError(f"Page {number} of the listing names a cursor that is not a text.")
    return str(following)


class _Window:
    """Remembers the hashes of the last texts, at least ``size`` and at most twice as many: bounded memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def add(self, text: str) -> bool:
        """Remember a text; tell whether it was new."""
        key = hash(text)
        known = key in self._recent or key in self._older
        # Again also if it is known, so that what is seen now is not forgotten first.
        self._recent.add(key)
        if len(self._recent) >= self._size:
            self._older, self._recent = self._recent, set()
        return not known
