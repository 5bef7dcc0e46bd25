"""The object store behind signed URLs: GET and HEAD with ranges and validators."""

from __future__ import annotations

import hashlib
import re
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import storage_error
from ..platform import BUCKET, STORAGE_PREFIX, Platform
from ..storage import SignatureError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def routes(platform: Platform) -> list[Route]:
    """Return the routes of the object store."""
    store, signer = platform.store, platform.signer

    async def read_object(request: Request) -> Response:
        key = request.path_params["key"]
        if "x-api-key" in request.headers or "authorization" in request.headers:
            return storage_error(400, "Only one auth mechanism allowed", "InvalidArgument")
        try:
            signer.check(key, dict(request.query_params))
        except SignatureError as error:
            return storage_error(403, error.message, error.code)
        folder = f"spaces/{store.space_id}/"
        found = store.stored_object(key[len(folder) :]) if key.startswith(folder) else None
        if found is None:
            return storage_error(404, "The specified key does not exist.")
        headers = {
            "Content-Type": found.content_type,
            "ETag": f'"{hashlib.md5(found.body, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": formatdate(found.modified_at // 1_000_000, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        return _serve(request, found.body, headers)

    path = f"{STORAGE_PREFIX}/{BUCKET}/{{key:path}}"
    return [Route(path, read_object, methods=["GET"], name="storage")]


def _serve(request: Request, body: bytes, headers: dict[str, str]) -> Response:
    known = request.headers.get("if-none-match")
    if known is not None and (known.strip() == "*" or headers["ETag"] in map(_strong, known.split(","))):
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    unchanged = condition is None or condition in (headers["ETag"], headers["Last-Modified"])
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or not any(match.groups()) or not unchanged:
        return Response(body, 200, headers)
    first, last = match.groups()
    size = len(body)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return Response(body, 200, headers)
    if start >= size:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        return storage_error(416, "The requested range is not satisfiable", "InvalidRange", unsatisfied)
    return Response(body[start:stop], 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})


def _strong(tag: str) -> str:
    """Return an entity tag without the mark of a weak one: ``If-None-Match`` compares weakly."""
    return tag.strip().removeprefix("W/")
