"""The public keys of webhooks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..platform import WELL_KNOWN_PREFIX, Platform


def routes(platform: Platform) -> list[Route]:
    """Return the route of the key set."""

    async def get_keys(_: Request) -> Response:
        return JSONResponse(platform.keys.as_jwks(), headers={"Cache-Control": "public, max-age=3600"})

    return [Route(WELL_KNOWN_PREFIX + "/jwks.json", get_keys, methods=["GET"], name="jwks")]
