"""The object store behind signed URLs: GET and HEAD with ranges and validators, and PUT."""

from __future__ import annotations

import asyncio
import base64

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import storage_error
from ..objects import StoredObject
from ..platform import BUCKET, STORAGE_PREFIX, Platform
from ..storage import Method, SignatureError
from .objects import has_credentials, refuse_credentials, serve


def routes(platform: Platform) -> list[Route]:
    """Return the routes of the object store."""
    storage = _Storage(platform)
    path = f"{STORAGE_PREFIX}/{BUCKET}/{{key:path}}"
    return [
        Route(path, storage.read, methods=["GET"], name="storage"),
        Route(path, storage.write, methods=["PUT"], name="uploads"),
    ]


class _Storage:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._folder = f"spaces/{platform.store.space_id}/"

    async def read(self, request: Request) -> Response:
        return self._refusal(request, "GET") or serve(request, await self._find(request.path_params["key"]))

    async def write(self, request: Request) -> Response:
        refused = self._refusal(request, "PUT") or _missing_header(request)
        if refused is not None:
            return refused
        objects = self._platform.store.objects
        with objects.new_file() as file:
            async for part in request.stream():
                file.write(part)
            expected = request.headers.get("content-md5")
            if expected is not None and expected != base64.b64encode(file.digest()).decode():
                message = "The Content-MD5 you specified did not match what we received."
                return storage_error(400, message, "BadDigest")
            path = request.path_params["key"].removeprefix(self._folder)
            stored = objects.store(path, file, request.headers["content-type"])
        return Response(status_code=200, headers={"ETag": f'"{stored.etag}"'})

    def _refusal(self, request: Request, method: Method) -> Response | None:
        if has_credentials(request):
            return refuse_credentials()
        try:
            self._platform.signer.check(request.path_params["key"], dict(request.query_params), method=method)
        except SignatureError as error:
            return storage_error(403, error.message, error.code)
        return None

    async def _find(self, key: str) -> StoredObject | None:
        if not key.startswith(self._folder):
            return None
        path = key[len(self._folder) :]
        if path.startswith("exports/"):
            # Writing a zip takes its time, and others want answers meanwhile.
            return await asyncio.to_thread(self._platform.exports.archive, path)
        return self._platform.store.stored_object(path)


def _missing_header(request: Request) -> Response | None:
    if not request.headers.get("content-type"):
        return storage_error(400, "A Content-Type header is required", "InvalidRequest")
    if "content-length" not in request.headers:
        return storage_error(411, "You must provide the Content-Length HTTP header.", "MissingContentLength")
    return None
