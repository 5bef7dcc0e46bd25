"""Listing, creating and renaming batches."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..answers import ApiError
from ..paging import envelope, fetch_page, parse_page
from ..platform import API_PREFIX, Platform
from .checks import read_object, require_project, require_text

#: The fields that only a listing has.
_COUNTS = ("totalCount", "completedCount")


def routes(platform: Platform) -> list[Route]:
    """Return the routes of batches."""
    store = platform.store
    batches = store.batches

    def fetch(start: int, count: int, backwards: bool) -> list[int]:
        if backwards:
            return list(range(start, max(-1, start - count), -1))
        return list(range(start, min(batches.count, start + count)))

    def refuse_duplicate(name: str, position: int | None = None) -> None:
        if batches.find(name) not in (None, position):
            raise ApiError(409, f"there is a batch named {name!r} in this project already")

    def answer(position: int, status: int) -> Response:
        batch = store.batch(position)
        return JSONResponse({name: value for name, value in batch.items() if name not in _COUNTS}, status)

    async def list_batches(request: Request) -> Response:
        require_project(platform, request)
        wanted = parse_page(request.query_params, platform, "batch")
        page = fetch_page(wanted, fetch, platform.overlap)
        items = [store.batch(position) for position in page.indexes]
        return JSONResponse(envelope(items, page, wanted, platform, "batch"))

    async def create_batch(request: Request) -> Response:
        require_project(platform, request)
        name = require_text(await read_object(request), "name")
        refuse_duplicate(name)
        return answer(store.create_batch(name), 201)

    async def update_batch(request: Request) -> Response:
        require_project(platform, request)
        batch_id = request.path_params["batch_id"]
        position = batches.position(int(batch_id)) if batch_id.isascii() and batch_id.isdigit() else None
        if position is None:
            raise ApiError(404, f"batch {batch_id} not found")
        name = require_text(await read_object(request), "name")
        refuse_duplicate(name, position)
        batches.rename(position, name)
        return answer(position, 200)

    path = API_PREFIX + "/projects/{project_id}/batches"
    return [
        Route(path, list_batches, methods=["GET"], name="batches"),
        Route(path, create_batch, methods=["POST"], name="batches"),
        Route(path + "/{batch_id}", update_batch, methods=["PATCH"], name="batches"),
    ]
