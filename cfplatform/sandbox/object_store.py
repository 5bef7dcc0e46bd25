"""The routes behind signed URLs and absolute asset URLs: GET and HEAD with ranges and validators, and PUT."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from contextlib import ExitStack
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .formats import SECOND
from .platform import PUBLIC_PREFIX, Platform
from .responses import FilePart, storage_error
from .storage import BUCKET, STORAGE_PREFIX, Method, StoredObject

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class ObjectStore:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._folder = f"spaces/{platform.store.space_id}/"

    def routes(self) -> list[Route]:
        path = f"{STORAGE_PREFIX}/{BUCKET}/{{key:path}}"
        return [
            Route(path, self.read, methods=["GET"], name="storage"),
            Route(path, self.write, methods=["PUT"], name="uploads"),
        ]

    def public_routes(self) -> list[Route]:
        """Return the route of absolute asset URLs, which ask for no signature."""
        return [Route(PUBLIC_PREFIX + "/assets/{name}", self.read_asset, methods=["GET"], name="assets")]

    async def read(self, request: Request) -> Response:
        return self._refusal(request, "GET") or _serve(request, await self._find(request.path_params["key"]))

    async def read_asset(self, request: Request) -> Response:
        asset = self._platform.store.stored_object("assets/" + request.path_params["name"])
        return _refuse_credentials(request) or _serve(request, asset)

    async def write(self, request: Request) -> Response:
        refused = self._refusal(request, "PUT")
        if refused is not None:
            return refused
        if not request.headers.get("content-type"):
            return storage_error(400, "A Content-Type header is required", "InvalidRequest")
        if "content-length" not in request.headers:
            return storage_error(411, "You must provide the Content-Length HTTP header.", "MissingContentLength")
        objects = self._platform.store.objects
        file, digest = objects.new_file(), hashlib.md5(usedforsecurity=False)
        with ExitStack() as unless_stored:
            unless_stored.callback(file.unlink, missing_ok=True)
            with file.open("wb") as target:
                async for part in request.stream():
                    digest.update(part)
                    target.write(part)
            expected = request.headers.get("content-md5")
            if expected is not None and expected != base64.b64encode(digest.digest()).decode():
                message = "The Content-MD5 you specified did not match what we received."
                return storage_error(400, message, "BadDigest")
            path = request.path_params["key"].removeprefix(self._folder)
            objects.put(path, file, request.headers["content-type"], md5=digest.hexdigest())
            unless_stored.pop_all()
        return Response(status_code=200, headers={"ETag": f'"{digest.hexdigest()}"'})

    def _refusal(self, request: Request, method: Method) -> Response | None:
        wrong = self._platform.signer.error(request.path_params["key"], dict(request.query_params), method)
        refused = wrong and storage_error(403, wrong[1], wrong[0])
        return _refuse_credentials(request) or refused

    async def _find(self, key: str) -> StoredObject | None:
        if not key.startswith(self._folder):
            return None
        path = key[len(self._folder) :]
        if path.startswith("exports/"):
            # Writing a zip takes its time, and others want answers meanwhile.
            return await asyncio.to_thread(self._platform.exports.archive, path)
        return self._platform.store.stored_object(path)


def _refuse_credentials(request: Request) -> Response | None:
    if "x-api-key" in request.headers or "authorization" in request.headers:
        return storage_error(400, "Only one auth mechanism allowed", "InvalidArgument")
    return None


def _serve(request: Request, found: StoredObject | None) -> Response:
    if found is None:
        return storage_error(404, "The specified key does not exist.")
    headers = {
        "Content-Type": found.content_type,
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified_at // SECOND, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    known = request.headers.get("if-none-match")
    # If-None-Match compares weakly.
    tags = [] if known is None else [tag.strip().removeprefix("W/") for tag in known.split(",")]
    if tags == ["*"] or headers["ETag"] in tags:
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    unchanged = condition is None or condition in (headers["ETag"], headers["Last-Modified"])
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    size = found.size
    if match is None or not any(match.groups()) or not unchanged:
        return _section(found, 0, size, 200, headers)
    first, last = match.groups()
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
