"""Helpers for all routes: errors, validation, pagination, and files as responses."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .formats import Identifiers, parse_time
from .platform import Platform
from .settings import MAX_PAGE_SIZE

#: Error codes that differ from the name of the HTTP status.
_CODES = {429: "rate_limited", 500: "internal_error", 503: "unavailable"}
_STORAGE_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}

#: Bytes of a file in memory while it is sent.
_PIECE = 1 << 18
_INDEX_BYTES = 6


class FilePart(Response):
    def __init__(self, path: Path, start: int, stop: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(stop - start)})
        self.path = path
        self.start = start
        self.stop = stop


def body_size(response: Response) -> int:
    return response.stop - response.start if isinstance(response, FilePart) else len(response.body)


def body_pieces(response: Response, start: int, stop: int) -> Iterator[bytes]:
    if not isinstance(response, FilePart):
        yield bytes(response.body[start:stop])
        return
    with response.path.open("rb") as file:
        file.seek(response.start + start)
        left = stop - start
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece


class ApiError(Exception):
    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = api_error(status, message, headers)


def api_error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    phrase = http.client.responses.get(status, f"http {status}")
    code = _CODES.get(status) or phrase.lower().replace(" ", "_")
    return JSONResponse({"code": code, "message": message}, status, headers=headers)


def storage_error(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    code = code or _STORAGE_CODES.get(status, "InvalidRequest")
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, headers=headers, media_type="application/xml")


# The functions below raise ApiError if a value is not valid.


async def read_json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error


async def read_object(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def read_text(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise ApiError(400, f"{name} must be a non-empty string")
    return value


def read_time(values: Mapping[str, Any], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ApiError(400, f"{name} must be a string")
    try:
        return parse_time(text)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}") from error


def read_count(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ApiError(400, f"{name} must be an integer between {least} and {most}, not {text!r}")
    return int(text)


def listing(
    platform: Platform,
    request: Request,
    kind: str,
    fetch: Callable[[int, int], list[int]],
    render: Callable[[int], dict[str, Any]],
) -> dict[str, Any]:
    """Return the requested page of a listing.

    ``fetch(start, count)`` returns up to ``count`` indexes from ``start`` on, ``render`` the entry of an index.
    """
    settings, ids, query = platform.settings, platform.store.catalogue.ids, request.query_params
    limit = read_count(query.get("limit", str(settings.page_size_default)), "limit", 1, MAX_PAGE_SIZE)
    cursor, page = query.get("cursor"), query.get("page")
    if page == "PREV":
        raise ApiError(400, "this sandbox does not support paging backwards")
    if page not in (None, "NEXT"):
        raise ApiError(400, f"page must be NEXT or PREV, not {page!r}")
    start = 0 if cursor is None else _decode_cursor(ids, kind, cursor)
    found = fetch(start, limit + 1)
    following = None
    if len(found) > limit:
        # If pages overlap, the next page begins with the last entries of this one.
        following = _encode_cursor(ids, kind, found[limit - min(settings.overlap, limit - 1)])
    camel = settings.cursor_style == "camel"
    meta = {
        "object": kind,
        "limit": limit,
        "page": None if cursor is None else "NEXT",
        "cursorNext" if camel else "cursor_next": following,
        "cursorPrev" if camel else "cursor_prev": None,
    }
    return {"items": [render(index) for index in found[:limit]], "meta": meta}


def _encode_cursor(ids: Identifiers, kind: str, index: int) -> str:
    """Return an opaque cursor in plain base64, which shows whether a client escapes it in a query."""
    mask = int.from_bytes(ids.digest(f"cursor mask {kind}", 0, _INDEX_BYTES), "big")
    tag = ids.digest(f"cursor {kind}", index, 10)
    return base64.b64encode(tag + (index ^ mask).to_bytes(_INDEX_BYTES, "big")).decode()


def _decode_cursor(ids: Identifiers, kind: str, cursor: str) -> int:
    mask = int.from_bytes(ids.digest(f"cursor mask {kind}", 0, _INDEX_BYTES), "big")
    try:
        index = int.from_bytes(base64.b64decode(cursor, validate=True)[-_INDEX_BYTES:], "big") ^ mask
    except ValueError:
        index = -1
    if index < 0 or _encode_cursor(ids, kind, index) != cursor:
        raise ApiError(400, "the cursor does not belong to this listing")
    return index
