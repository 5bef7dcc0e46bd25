"""Listing batches."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..paging import envelope, fetch_page, parse_page
from ..platform import API_PREFIX, Platform
from .checks import require_project


def routes(platform: Platform) -> list[Route]:
    """Return the routes of batches."""
    store = platform.store

    def fetch(start: int, count: int, backwards: bool) -> list[int]:
        if backwards:
            return list(range(start, max(-1, start - count), -1))
        return list(range(start, min(store.catalogue.batches, start + count)))

    async def list_batches(request: Request) -> Response:
        require_project(platform, request)
        wanted = parse_page(request.query_params, platform, "batch")
        page = fetch_page(wanted, fetch, platform.overlap)
        items = [store.batch(position) for position in page.indexes]
        return JSONResponse(envelope(items, page, wanted, platform, "batch"))

    path = API_PREFIX + "/projects/{project_id}/batches"
    return [Route(path, list_batches, methods=["GET"], name="batches")]
