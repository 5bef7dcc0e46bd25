"""The annotation of a work item."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..answers import ApiError
from ..platform import API_PREFIX, Platform
from .checks import require_project


def routes(platform: Platform) -> list[Route]:
    """Return the routes of annotations."""
    store = platform.store

    async def get_annotation(request: Request) -> Response:
        require_project(platform, request)
        if request.query_params.get("format") != "coco":
            raise ApiError(400, "format must be coco")
        index = store.find_item(request.path_params["work_item_id"])
        if index is None:
            raise ApiError(404, "work item not found")
        annotation = store.annotation(index)
        if annotation is None:
            raise ApiError(404, "annotation not found")
        return JSONResponse(annotation)

    path = API_PREFIX + "/projects/{project_id}/workItems/{work_item_id}/annotations"
    return [Route(path, get_annotation, methods=["GET"], name="annotations")]
