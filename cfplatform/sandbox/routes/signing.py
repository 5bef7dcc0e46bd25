"""Signed URLs for downloads and uploads."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..answers import ApiError, read_json
from ..platform import API_PREFIX, Platform
from .checks import require_space

#: The platform's limit on the paths in one request.
MAX_PATHS = 1000
#: The platform's limit on the upload URLs in one request.
MAX_UPLOADS = 10


def routes(platform: Platform) -> list[Route]:
    """Return the routes of signed URLs."""
    store, signer = platform.store, platform.signer

    async def sign_downloads(request: Request) -> Response:
        require_space(platform, request)
        body = await read_json(request)
        paths = body.get("paths") if isinstance(body, dict) else None
        if not isinstance(paths, list) or not 1 <= len(paths) <= MAX_PATHS:
            raise ApiError(400, f"paths must be an array of 1 to {MAX_PATHS} strings")
        if not all(isinstance(path, str) and path for path in paths):
            raise ApiError(400, "paths must be strings that are not empty")
        folder = f"spaces/{store.space_id}/"
        return JSONResponse(
            {"items": [{"path": path, "signedUrl": signer.sign(platform.origin, folder + path)} for path in paths]}
        )

    async def sign_uploads(request: Request) -> Response:
        require_space(platform, request)
        count = request.query_params.get("count", "1")
        if not (count.isascii() and count.isdigit() and 1 <= int(count) <= MAX_UPLOADS):
            raise ApiError(400, f"count must be an integer between 1 and {MAX_UPLOADS}, not {count!r}")
        folder = f"spaces/{store.space_id}/"
        paths = [store.new_upload_path() for _ in range(int(count))]
        urls = [signer.sign(platform.origin, folder + path, method="PUT") for path in paths]
        items = [{"path": path, "signedUrl": url} for path, url in zip(paths, urls, strict=True)]
        return JSONResponse({"items": items})

    path = API_PREFIX + "/spaces/{space_id}/signedurls"
    return [
        Route(path, sign_downloads, methods=["POST"], name="signing"),
        Route(path, sign_uploads, methods=["GET"], name="signing"),
    ]
