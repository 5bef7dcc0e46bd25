"""Listing and creating work items."""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..answers import ApiError
from ..catalogue import WorkItemFilter
from ..ids import is_uuid
from ..paging import envelope, fetch_page, parse_page
from ..platform import API_PREFIX, Platform
from .checks import MAX_FILTER_IDS, read_object, read_time, require_project, require_text


def routes(platform: Platform) -> list[Route]:
    """Return the routes of work items."""
    store = platform.store

    async def list_work_items(request: Request) -> Response:
        require_project(platform, request)
        wanted = parse_page(request.query_params, platform, "work_item")
        selection = store.select(_parse_filter(request.query_params))
        page = fetch_page(
            wanted,
            lambda start, count, backwards: store.page(selection, start, count, backwards=backwards),
            platform.overlap,
        )
        items = [store.work_item(index) for index in page.indexes]
        body = envelope(items, page, wanted, platform, "work_item")
        if platform.with_total:
            body["total"] = store.count(selection)
        return JSONResponse(body)

    async def create_work_item(request: Request) -> Response:
        require_project(platform, request)
        body = await read_object(request)
        asset_url = require_text(body, "assetUrl")
        stored = store.objects.get(asset_url)
        usual_type = "video" if stored is not None and stored.content_type.startswith("video/") else "image"
        asset_type = usual_type if body.get("assetType") is None else require_text(body, "assetType")
        batch_id, metadata = body.get("batchId"), body.get("metadata")
        if batch_id is not None:
            if not isinstance(batch_id, int) or isinstance(batch_id, bool):
                raise ApiError(400, "batchId must be an integer")
            if store.batches.position(batch_id) is None:
                raise ApiError(404, f"batch {batch_id} not found")
        if not isinstance(metadata, dict | None):
            raise ApiError(400, "metadata must be an object")
        index = store.create_item(asset_url, asset_type=asset_type, batch_id=batch_id, metadata=metadata or {})
        return JSONResponse(store.work_item(index), 201)

    path = API_PREFIX + "/projects/{project_id}/workItems"
    return [
        Route(path, list_work_items, methods=["GET"], name="work_items"),
        Route(path, create_work_item, methods=["POST"], name="work_items"),
    ]


def _parse_filter(query: QueryParams) -> WorkItemFilter:
    batch_ids, work_item_ids = query.getlist("batchIds"), query.getlist("workItemIDs")
    for name, values in (("batchIds", batch_ids), ("workItemIDs", work_item_ids)):
        if len(values) > MAX_FILTER_IDS:
            raise ApiError(400, f"{name} takes at most {MAX_FILTER_IDS} values, not {len(values)}")
    for value in batch_ids:
        if not (value.isascii() and value.isdigit()):
            raise ApiError(400, f"batchIds must be integers, not {value!r}")
    for value in work_item_ids:
        if not is_uuid(value):
            raise ApiError(400, f"workItemIDs must be UUIDs, not {value!r}")
    return WorkItemFilter(
        batch_ids=tuple(map(int, batch_ids)) if batch_ids else None,
        work_item_ids=tuple(work_item_ids) if work_item_ids else None,
        status=query.get("status"),
        created_from=read_time(query, "createdAtFrom"),
        created_to=read_time(query, "createdAtTo"),
        updated_from=read_time(query, "updatedAtFrom"),
        updated_to=read_time(query, "updatedAtTo"),
    )
