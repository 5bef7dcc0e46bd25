"""Creating, reading, listing and deleting exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import timestamps
from ..answers import ApiError
from ..archives import ANNOTATION, COCO_JSON, CONTENTS, FORMATS, ArchivePlan
from ..catalogue import COMPLETED, WorkItemFilter
from ..exports import LAST_INDEX, PENDING, Export, ExportRunningError
from ..paging import envelope, fetch_page, parse_page
from ..platform import API_PREFIX, Platform
from .checks import MAX_FILTER_IDS, read_object, read_time, require_space, require_text

#: The platform's limit on the projects of an export.
MAX_PROJECTS = 50
_CREATOR = "sandbox@example.com"


def routes(platform: Platform) -> list[Route]:
    """Return the routes of exports."""
    answers = _Exports(platform)
    path = API_PREFIX + "/spaces/{space_id}/exports"
    return [
        Route(path, answers.create, methods=["POST"], name="exports"),
        Route(path, answers.list, methods=["GET"], name="exports"),
        Route(path + "/{export_id}", answers.get, methods=["GET"], name="exports"),
        Route(path + "/{export_id}", answers.delete, methods=["DELETE"], name="exports"),
    ]


class _Exports:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._exports = platform.exports

    async def create(self, request: Request) -> Response:
        require_space(self._platform, request)
        body = await read_object(request)
        name, plan = require_text(body, "name"), _parse_plan(body, self._platform.store.project_id)
        try:
            export = self._exports.create(name, plan)
        except ExportRunningError as error:
            raise ApiError(409, str(error)) from error
        # Even one that takes no time at all has not begun when it is accepted.
        return JSONResponse(self._render(replace(export, status=PENDING, error=None)), 201)

    async def list(self, request: Request) -> Response:
        require_space(self._platform, request)
        form = request.query_params.get("format")
        if form is not None:
            _require_one_of("format", form, FORMATS)
        wanted = parse_page(request.query_params, self._platform, "export")
        page = fetch_page(
            wanted,
            lambda start, count, backwards: self._exports.page(form, start, count, backwards=backwards),
            self._platform.overlap,
        )
        found = (self._exports.at(LAST_INDEX - place) for place in page.indexes)
        items = [self._render(export) for export in found if export is not None]
        return JSONResponse(envelope(items, page, wanted, self._platform, "export"))

    async def get(self, request: Request) -> Response:
        return JSONResponse(self._render(self._find(request)))

    async def delete(self, request: Request) -> Response:
        self._exports.delete(self._find(request))
        return Response(status_code=204)

    def _find(self, request: Request) -> Export:
        require_space(self._platform, request)
        export = self._exports.get(request.path_params["export_id"])
        if export is None:
            raise ApiError(404, "export not found")
        return export

    def _render(self, export: Export) -> dict[str, Any]:
        platform = self._platform
        url = None
        if export.status == COMPLETED:
            key = f"spaces/{platform.store.space_id}/{export.path}"
            url = platform.signer.sign(platform.origin, key, lifetime=platform.export_url_lifetime)
        return {
            "exportId": export.id,
            "status": export.status,
            "name": export.name,
            "format": export.plan.format,
            "content": export.plan.content,
            "createdBy": _CREATOR,
            "createdAt": timestamps.render(export.created_at),
            "downloadUrl": url,
            "error": export.error,
        }


def _parse_plan(body: Mapping[str, Any], project_id: str) -> ArchivePlan:
    form, content = body.get("format", COCO_JSON), body.get("content")
    _require_one_of("format", form, FORMATS)
    if content is not None:
        _require_one_of("content", content, CONTENTS)
    if form == COCO_JSON and content not in (None, ANNOTATION):
        raise ApiError(400, f"content {content} is not available in the format {COCO_JSON}")
    projects = _parse_list(body, "projectIds", str, 1, MAX_PROJECTS)
    for project in projects or ():
        if project != project_id:
            raise ApiError(404, f"project {project} not found")
    wanted = WorkItemFilter(
        batch_ids=_parse_list(body, "batchIds", int, 0, MAX_FILTER_IDS) or None,
        status=COMPLETED,
        created_from=read_time(body, "createdAtFrom"),
        created_to=read_time(body, "createdAtTo"),
        updated_from=read_time(body, "updatedAtFrom"),
        updated_to=read_time(body, "updatedAtTo"),
    )
    return ArchivePlan(form, content or ANNOTATION, wanted)


def _parse_list(body: Mapping[str, Any], name: str, kind: type, shortest: int, longest: int) -> tuple[Any, ...] | None:
    values = body.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not shortest <= len(values) <= longest:
        raise ApiError(400, f"{name} must be an array of {shortest} to {longest} values")
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ApiError(400, f"{name} must not contain {value!r}")
    return tuple(values)


def _require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ApiError(400, f"{name} must be one of {', '.join(known)}, not {value!r}")
