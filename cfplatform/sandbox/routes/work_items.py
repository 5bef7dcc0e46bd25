"""Listing work items."""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import timestamps
from ..answers import ApiError
from ..catalogue import WorkItemFilter
from ..ids import is_uuid
from ..paging import envelope, fetch_page, parse_page
from ..platform import API_PREFIX, Platform
from .checks import require_project

#: The platform's limit on the ids in one filter.
MAX_FILTER_IDS = 100


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

    path = API_PREFIX + "/projects/{project_id}/workItems"
    return [Route(path, list_work_items, methods=["GET"], name="work_items")]


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
        created_from=_parse_time(query, "createdAtFrom"),
        created_to=_parse_time(query, "createdAtTo"),
        updated_from=_parse_time(query, "updatedAtFrom"),
        updated_to=_parse_time(query, "updatedAtTo"),
    )


def _parse_time(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return timestamps.parse(text)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}") from error
