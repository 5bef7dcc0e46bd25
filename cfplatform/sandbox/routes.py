"""The routes of the platform: API, webhook keys, and the object store behind signed URLs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .catalogue import COMPLETED, WorkItemFilter
from .exports import ANNOTATION, COCO_JSON, CONTENTS, FAILED, FORMATS, PENDING, Export
from .formats import SECOND, is_uuid, render_time
from .platform import API_PREFIX, PUBLIC_PREFIX, WELL_KNOWN_PREFIX, Platform
from .responses import (
    ApiError,
    FilePart,
    listing,
    read_count,
    read_json,
    read_object,
    read_text,
    read_time,
    storage_error,
)
from .storage import BUCKET, STORAGE_PREFIX, Method, StoredObject

#: Limits of the platform: IDs per filter, paths and upload URLs per request, projects per export.
MAX_FILTER_IDS = 100
MAX_PATHS = 1000
MAX_UPLOADS = 10
MAX_PROJECTS = 50

_CREATOR = "sandbox@example.com"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class Api:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._store = platform.store
        self._folder = f"spaces/{self._store.space_id}/"

    def routes(self) -> list[Route]:
        """Return the routes that need a key; the name of each is its request kind."""
        project, space = "/projects/{project_id}", "/spaces/{space_id}"
        items, batches, exports = project + "/workItems", project + "/batches", space + "/exports"
        return [
            self._route("GET", items, self.list_work_items, "work_items"),
            self._route("POST", items, self.create_work_item, "work_items"),
            self._route("GET", items + "/{work_item_id}/annotations", self.get_annotation, "annotations"),
            self._route("GET", batches, self.list_batches, "batches"),
            self._route("POST", batches, self.create_batch, "batches"),
            self._route("PATCH", batches + "/{batch_id}", self.update_batch, "batches"),
            self._route("POST", space + "/signedurls", self.sign_downloads, "signing"),
            self._route("GET", space + "/signedurls", self.sign_uploads, "signing"),
            self._route("POST", exports, self.create_export, "exports"),
            self._route("GET", exports, self.list_exports, "exports"),
            self._route("GET", exports + "/{export_id}", self.get_export, "exports"),
            self._route("DELETE", exports + "/{export_id}", self.delete_export, "exports"),
        ]

    def well_known_routes(self) -> list[Route]:
        """Return the route of the webhook keys, which receivers fetch without a key."""

        async def get_keys(_: Request) -> Response:
            return JSONResponse(self._platform.keys.as_jwks(), headers={"Cache-Control": "public, max-age=3600"})

        return [Route(WELL_KNOWN_PREFIX + "/jwks.json", get_keys, methods=["GET"], name="jwks")]

    def _route(self, method: str, path: str, call: Callable[[Request], Awaitable[Any]], kind: str) -> Route:
        """Return a route that refuses unknown projects and spaces, and sends JSON, or 204 for ``None``."""

        async def checked(request: Request) -> Response:
            project_id, space_id = self._store.project_id, self._store.space_id
            if request.path_params.get("project_id", project_id) != project_id:
                raise ApiError(404, "project not found")
            if request.path_params.get("space_id", space_id) != space_id:
                raise ApiError(404, "space not found")
            content = await call(request)
            created = method == "POST" and kind != "signing"
            return Response(status_code=204) if content is None else JSONResponse(content, 201 if created else 200)

        return Route(API_PREFIX + path, checked, methods=[method], name=kind)

    async def list_work_items(self, request: Request) -> Any:
        selection = self._store.catalogue.select(_read_filter(request.query_params))
        page = listing(
            self._platform,
            request,
            "work_item",
            lambda start, count: self._store.page(selection, start, count),
            self._store.work_item,
        )
        if self._platform.settings.with_total:
            page["total"] = self._store.count(selection)
        return page

    async def create_work_item(self, request: Request) -> Any:
        body = await read_object(request)
        asset_url = read_text(body, "assetUrl")
        stored = self._store.objects.get(asset_url)
        asset_type = "video" if stored is not None and stored.content_type.startswith("video/") else "image"
        if body.get("assetType") is not None:
            asset_type = read_text(body, "assetType")
        batch_id, metadata = body.get("batchId"), body.get("metadata")
        if batch_id is not None:
            if not isinstance(batch_id, int) or isinstance(batch_id, bool):
                raise ApiError(400, "batchId must be an integer")
            if self._store.batch_position(batch_id) is None:
                raise ApiError(404, f"batch {batch_id} not found")
        if not isinstance(metadata, dict | None):
            raise ApiError(400, "metadata must be an object")
        index = self._store.create_item(asset_url, asset_type=asset_type, batch_id=batch_id, metadata=metadata or {})
        return self._store.work_item(index)

    async def get_annotation(self, request: Request) -> Any:
        if request.query_params.get("format") != "coco":
            raise ApiError(400, "format must be coco")
        index = self._store.find_item(request.path_params["work_item_id"])
        if index is None:
            raise ApiError(404, "work item not found")
        annotation = self._store.annotation(index)
        if annotation is None:
            raise ApiError(404, "annotation not found")
        return annotation

    async def list_batches(self, request: Request) -> Any:

        def fetch(start: int, count: int) -> list[int]:
            return list(range(start, min(self._store.batch_count, start + count)))

        return listing(self._platform, request, "batch", fetch, self._store.batch)

    async def create_batch(self, request: Request) -> Any:
        return self._batch(self._store.create_batch(await self._new_name(request)))

    async def update_batch(self, request: Request) -> Any:
        batch_id = request.path_params["batch_id"]
        position = self._store.batch_position(int(batch_id)) if batch_id.isascii() and batch_id.isdigit() else None
        if position is None:
            raise ApiError(404, f"batch {batch_id} not found")
        self._store.rename_batch(position, await self._new_name(request, position))
        return self._batch(position)

    async def _new_name(self, request: Request, position: int | None = None) -> str:
        name = read_text(await read_object(request), "name")
        if self._store.find_batch(name) not in (None, position):
            raise ApiError(409, f"a batch named {name!r} already exists in this project")
        return name

    def _batch(self, position: int) -> dict[str, Any]:
        batch = self._store.batch(position)
        # Only listings have the counts.
        del batch["totalCount"], batch["completedCount"]
        return batch

    async def sign_downloads(self, request: Request) -> Any:
        body = await read_json(request)
        paths = body.get("paths") if isinstance(body, dict) else None
        if not isinstance(paths, list) or not 1 <= len(paths) <= MAX_PATHS:
            raise ApiError(400, f"paths must be an array of 1 to {MAX_PATHS} strings")
        if not all(isinstance(path, str) and path for path in paths):
            raise ApiError(400, "paths must be non-empty strings")
        sign, origin = self._platform.signer.sign, self._platform.origin
        items = [{"path": path, "signedUrl": sign(origin, self._folder + path)} for path in paths]
        return {"items": items}

    async def sign_uploads(self, request: Request) -> Any:
        count = read_count(request.query_params.get("count", "1"), "count", 1, MAX_UPLOADS)
        sign, origin = self._platform.signer.sign, self._platform.origin
        paths = [self._store.new_upload_path() for _ in range(count)]
        items = [{"path": path, "signedUrl": sign(origin, self._folder + path, method="PUT")} for path in paths]
        return {"items": items}

    async def create_export(self, request: Request) -> Any:
        body = await read_object(request)
        name = read_text(body, "name")
        form, content, wanted = _read_export(body, self._store.project_id)
        running = self._platform.exports.running()
        if running is not None:
            raise ApiError(409, f"export {running.id} is still running in this space")
        export = self._platform.exports.create(name, form, content, wanted)
        # Even an instant export has not started when it is accepted.
        return self._export(export, PENDING)

    async def list_exports(self, request: Request) -> Any:
        exports, form = self._platform.exports, request.query_params.get("format")
        if form is not None:
            _require_one_of("format", form, FORMATS)
        found: dict[int, Export] = {}

        def fetch(start: int, count: int) -> list[int]:
            found.update(exports.page(form, start, count))
            return list(found)

        return listing(self._platform, request, "export", fetch, lambda position: self._export(found[position]))

    async def get_export(self, request: Request) -> Any:
        return self._export(self._find_export(request))

    async def delete_export(self, request: Request) -> Any:
        self._platform.exports.delete(self._find_export(request))

    def _find_export(self, request: Request) -> Export:
        export = self._platform.exports.get(request.path_params["export_id"])
        if export is None:
            raise ApiError(404, "export not found")
        return export

    def _export(self, export: Export, status: str | None = None) -> dict[str, Any]:
        platform, status, url = self._platform, status or export.status, None
        if status == COMPLETED:
            lifetime = platform.settings.export_url_lifetime
            url = platform.signer.sign(platform.origin, self._folder + export.path, lifetime=lifetime)
        return {
            "exportId": export.id,
            "status": status,
            "name": export.name,
            "format": export.format,
            "content": export.content,
            "createdBy": _CREATOR,
            "createdAt": render_time(export.created_at),
            "downloadUrl": url,
            "error": export.reason if status == FAILED else None,
        }


def _read_filter(query: QueryParams) -> WorkItemFilter:
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
        batch_ids=tuple(map(int, batch_ids)) or None,
        work_item_ids=tuple(map(str.lower, work_item_ids)) or None,
        status=query.get("status"),
        **_read_times(query),
    )


def _read_export(body: Mapping[str, Any], project_id: str) -> tuple[str, str, WorkItemFilter]:
    form, content = body.get("format", COCO_JSON), body.get("content")
    _require_one_of("format", form, FORMATS)
    if content is not None:
        _require_one_of("content", content, CONTENTS)
    if form == COCO_JSON and content not in (None, ANNOTATION):
        raise ApiError(400, f"content {content} is not available in the format {COCO_JSON}")
    for project in _read_list(body, "projectIds", str, 1, MAX_PROJECTS):
        if project != project_id:
            raise ApiError(404, f"project {project} not found")
    batch_ids = _read_list(body, "batchIds", int, 0, MAX_FILTER_IDS)
    return form, content or ANNOTATION, WorkItemFilter(batch_ids or None, status=COMPLETED, **_read_times(body))


def _read_times(values: Mapping[str, Any]) -> dict[str, Any]:
    bounds = [(event, edge) for event in ("created", "updated") for edge in ("From", "To")]
    return {f"{event}_{edge.lower()}": read_time(values, f"{event}At{edge}") for event, edge in bounds}


def _read_list(body: Mapping[str, Any], name: str, kind: type, shortest: int, longest: int) -> tuple[Any, ...]:
    values = body.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not shortest <= len(values) <= longest:
        raise ApiError(400, f"{name} must be an array of {shortest} to {longest} values")
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ApiError(400, f"{name} must not contain {value!r}")
    return tuple(values)


def _require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ApiError(400, f"{name} must be one of {', '.join(known)}, not {value!r}")


class ObjectStore:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._folder = f"spaces/{platform.store.space_id}/"

    def routes(self) -> list[Route]:
        path = f"{STORAGE_PREFIX}/{BUCKET}/{{key:path}}"
        return [
            Route(path, self.read, methods=["GET"], name="storage"),
            Route(path, self.write, methods=["PUT"], name="uploads"),
        ]

    def public_routes(self) -> list[Route]:
        """Return the route of public asset URLs, which need no signature."""
        return [Route(PUBLIC_PREFIX + "/assets/{name}", self.read_asset, methods=["GET"], name="assets")]

    async def read(self, request: Request) -> Response:
        return self._refusal(request, "GET") or _serve(request, await self._find(request.path_params["key"]))

    async def read_asset(self, request: Request) -> Response:
        asset = self._platform.store.stored_object("assets/" + request.path_params["name"])
        return _refuse_credentials(request) or _serve(request, asset)

    async def write(self, request: Request) -> Response:
        refused = self._refusal(request, "PUT")
        if refused is not None:
            return refused
        if not request.headers.get("content-type"):
            return storage_error(400, "A Content-Type header is required", "InvalidRequest")
        if "content-length" not in request.headers:
            return storage_error(411, "You must provide the Content-Length HTTP header.", "MissingContentLength")
        objects = self._platform.store.objects
        file, digest = objects.new_file(), hashlib.md5(usedforsecurity=False)
        with ExitStack() as unless_stored:
            unless_stored.callback(file.unlink, missing_ok=True)
            with file.open("wb") as target:
                async for part in request.stream():
                    digest.update(part)
                    target.write(part)
            expected = request.headers.get("content-md5")
            if expected is not None and expected != base64.b64encode(digest.digest()).decode():
                message = "The Content-MD5 you specified did not match what we received."
                return storage_error(400, message, "BadDigest")
            path = request.path_params["key"].removeprefix(self._folder)
            objects.put(path, file, request.headers["content-type"], md5=digest.hexdigest())
            unless_stored.pop_all()
        return Response(status_code=200, headers={"ETag": f'"{digest.hexdigest()}"'})

    def _refusal(self, request: Request, method: Method) -> Response | None:
        wrong = self._platform.signer.error(request.path_params["key"], dict(request.query_params), method)
        refused = wrong and storage_error(403, wrong[1], wrong[0])
        return _refuse_credentials(request) or refused

    async def _find(self, key: str) -> StoredObject | None:
        if not key.startswith(self._folder):
            return None
        path = key[len(self._folder) :]
        if path.startswith("exports/"):
            # Writing a zip takes time, and must not block other requests.
            return await asyncio.to_thread(self._platform.exports.archive, path)
        return self._platform.store.stored_object(path)


def _refuse_credentials(request: Request) -> Response | None:
    if "x-api-key" in request.headers or "authorization" in request.headers:
        return storage_error(400, "Only one auth mechanism allowed", "InvalidArgument")
    return None


def _serve(request: Request, found: StoredObject | None) -> Response:
    if found is None:
        return storage_error(404, "The specified key does not exist.")
    headers = {
        "Content-Type": found.content_type,
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified_at // SECOND, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    known = request.headers.get("if-none-match")
    # If-None-Match compares weakly.
    tags = [] if known is None else [tag.strip().removeprefix("W/") for tag in known.split(",")]
    if tags == ["*"] or headers["ETag"] in tags:
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    unchanged = condition is None or condition in (headers["ETag"], headers["Last-Modified"])
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    size = found.size
    if match is None or not any(match.groups()) or not unchanged:
        return _section(found, 0, size, 200, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return _section(found, 0, size, 200, headers)
    if start >= size:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        return storage_error(416, "The requested range is not satisfiable", "InvalidRange", unsatisfied)
    return _section(found, start, stop, 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})


def _section(found: StoredObject, start: int, stop: int, status: int, headers: dict[str, str]) -> Response:
    if isinstance(found.content, bytes):
        return Response(found.content[start:stop], status, headers)
    return FilePart(found.content, start, stop, status, headers)
