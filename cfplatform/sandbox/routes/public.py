"""Assets that everybody can read, for work items with absolute asset URLs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..platform import PUBLIC_PREFIX, Platform
from .objects import has_credentials, refuse_credentials, serve


def routes(platform: Platform) -> list[Route]:
    """Return the routes of public assets."""

    async def read_asset(request: Request) -> Response:
        if has_credentials(request):
            return refuse_credentials()
        return serve(request, platform.store.stored_object("assets/" + request.path_params["name"]))

    return [Route(PUBLIC_PREFIX + "/assets/{name}", read_asset, methods=["GET"], name="assets")]
