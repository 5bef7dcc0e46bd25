"""Keyset pages: cursors, and what stands on the page they point to."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.datastructures import QueryParams

from .answers import ApiError
from .ids import Identifiers
from .platform import MAX_PAGE_SIZE, Platform

_INDEX_BYTES = 6
_CURSOR_BYTES = 16

#: ``fetch(start, count, backwards)`` returns up to ``count`` indexes, from ``start`` upwards or downwards.
Fetch = Callable[[int, int, bool], list[int]]


@dataclass(frozen=True)
class PageRequest:
    """Which page is asked for; without ``cursor`` it is the first one."""

    limit: int
    cursor: int | None
    direction: Literal["NEXT", "PREV"] | None


@dataclass(frozen=True)
class Page:
    """The indexes on a page, and the neighbours to ask for the next and the previous one."""

    indexes: list[int]
    next_cursor: int | None
    previous_cursor: int | None


def parse_page(query: QueryParams, platform: Platform, kind: str) -> PageRequest:
    """Read ``limit``, ``cursor`` and ``page``.

    Raises:
        ApiError: If one of them is not valid.
    """
    limit, cursor, page = query.get("limit"), query.get("cursor"), query.get("page")
    size = platform.page_size_default
    if limit is not None:
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MAX_PAGE_SIZE):
            raise ApiError(400, f"limit must be an integer between 1 and {MAX_PAGE_SIZE}, not {limit!r}")
        size = int(limit)
    if page not in (None, "NEXT", "PREV"):
        raise ApiError(400, f"page must be NEXT or PREV, not {page!r}")
    if cursor is None:
        return PageRequest(size, None, None)
    index = _decode_cursor(platform.store.catalogue.ids, kind, cursor)
    if index is None:
        raise ApiError(400, "the cursor is not one of this listing")
    return PageRequest(size, index, "PREV" if page == "PREV" else "NEXT")


def fetch_page(request: PageRequest, fetch: Fetch, overlap: int) -> Page:
    """Collect a page; with ``overlap`` it repeats some entries of the page the reader comes from."""
    cursor, backwards = request.cursor, request.direction == "PREV"
    repeated: list[int] = []
    start = 0
    if cursor is not None:
        overlap = min(overlap, request.limit - 1)
        repeated = fetch(cursor, overlap, not backwards)[::-1] if overlap else []
        start = cursor - 1 if backwards else cursor + 1
    room = request.limit - len(repeated)
    found = fetch(start, room + 1, backwards)
    further = found[room:] != []
    indexes = repeated + found[:room]
    if not indexes:
        return Page([], None, None)
    # What lies on the side the reader comes from cannot be told from the cursor: it may be gone by now.
    behind = cursor is not None and fetch(indexes[0] + (1 if backwards else -1), 1, not backwards) != []
    if backwards:
        indexes.reverse()
        further, behind = behind, further
    return Page(indexes, indexes[-1] if further else None, indexes[0] if behind else None)


def envelope(
    items: list[dict[str, Any]], page: Page, request: PageRequest, platform: Platform, kind: str
) -> dict[str, Any]:
    """Return the body of a listing."""
    camel = platform.cursor_style == "camel"
    ids = platform.store.catalogue.ids
    meta = {
        "object": kind,
        "limit": request.limit,
        "page": request.direction,
        "cursorNext" if camel else "cursor_next": _encode_cursor(ids, kind, page.next_cursor),
        "cursorPrev" if camel else "cursor_prev": _encode_cursor(ids, kind, page.previous_cursor),
    }
    return {"items": items, "meta": meta}


def _encode_cursor(ids: Identifiers, kind: str, index: int | None) -> str | None:
    """Return an opaque cursor; the plain base64 alphabet shows whether a client escapes it in a query."""
    if index is None:
        return None
    mask = ids.digest(f"cursor mask {kind}", 0, _INDEX_BYTES)
    masked = bytes(left ^ right for left, right in zip(index.to_bytes(_INDEX_BYTES, "big"), mask, strict=True))
    tag = ids.digest(f"cursor {kind}", index, _CURSOR_BYTES - _INDEX_BYTES)
    return base64.b64encode(tag + masked).decode()


def _decode_cursor(ids: Identifiers, kind: str, cursor: str) -> int | None:
    try:
        raw = base64.b64decode(cursor, validate=True)
    except ValueError:
        return None
    mask = ids.digest(f"cursor mask {kind}", 0, _INDEX_BYTES)
    masked = raw[-_INDEX_BYTES:]
    if len(raw) != _CURSOR_BYTES:
        return None
    index = int.from_bytes(bytes(left ^ right for left, right in zip(masked, mask, strict=True)), "big")
    return index if _encode_cursor(ids, kind, index) == cursor else None
