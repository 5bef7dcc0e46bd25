"""How an object is served: whole or in part, to readers who know it already or not."""

from __future__ import annotations

import re
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import Response

from ..answers import FilePart, storage_error
from ..objects import StoredObject

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def has_credentials(request: Request) -> bool:
    """Tell whether a request brings what has no business at a storage."""
    return "x-api-key" in request.headers or "authorization" in request.headers


def refuse_credentials() -> Response:
    """Return the answer to a request that brings credentials."""
    return storage_error(400, "Only one auth mechanism allowed", "InvalidArgument")


def serve(request: Request, found: StoredObject | None) -> Response:
    """Return the answer to a GET or HEAD."""
    if found is None:
        return storage_error(404, "The specified key does not exist.")
    headers = {
        "Content-Type": found.content_type,
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified_at // 1_000_000, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    known = request.headers.get("if-none-match")
    if known is not None and (known.strip() == "*" or headers["ETag"] in map(_strong, known.split(","))):
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    unchanged = condition is None or condition in (headers["ETag"], headers["Last-Modified"])
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or not any(match.groups()) or not unchanged:
        return _section(found, 0, found.size, 200, headers)
    first, last = match.groups()
    size = found.size
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return _section(found, 0, size, 200, headers)
    if start >= size:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        return storage_error(416, "The requested range is not satisfiable", "InvalidRange", unsatisfied)
    return _section(found, start, stop, 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})


def _section(found: StoredObject, start: int, stop: int, status: int, headers: dict[str, str]) -> Response:
    if isinstance(found.content, bytes):
        return Response(found.content[start:stop], status, headers)
    return FilePart(found.content, start, stop, status, headers)


def _strong(tag: str) -> str:
    """Return an entity tag without the mark of a weak one: ``If-None-Match`` compares weakly."""
    return tag.strip().removeprefix("W/")
