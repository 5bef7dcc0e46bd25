"""Signed URLs for downloads."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..answers import ApiError, read_json
from ..platform import API_PREFIX, Platform
from .checks import require_space

#: The platform's limit on the paths in one request.
MAX_PATHS = 1000


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

    path = API_PREFIX + "/spaces/{space_id}/signedurls"
    return [Route(path, sign_downloads, methods=["POST"], name="signing")]
