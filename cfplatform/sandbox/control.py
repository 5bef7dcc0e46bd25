"""The control API: what `Sandbox` offers in Python, for processes that can only reach it over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .faults import Fault, Outage, RateLimit
from .platform import CONTROL_PREFIX, Platform
from .recorder import MAX_REQUESTS
from .responses import ApiError, read_count, read_json, read_object, read_text

_LOGGED_BY_DEFAULT = 1000


class Control:
    """Answers the calls of the control API."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """Return the routes, which ask for the sandbox's own key."""
        calls = (
            ("GET", "", self.describe),
            ("GET", "/requests", self.list_requests),
            ("DELETE", "/requests", self.clear_requests),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("POST", "/outages", self.add_outage),
            ("POST", "/settings", self.change_settings),
            ("POST", "/work-items/{item}", self.update_work_item),
            ("POST", "/work-items/{item}/status", self.set_status),
            ("POST", "/exports/fail-next", self.fail_next_export),
            ("POST", "/webhook-key", self.rotate_webhook_key),
            ("GET", "/deliveries", self.list_deliveries),
            ("POST", "/reset", self.reset),
        )
        return [Route(CONTROL_PREFIX + path, answer, methods=[method]) for method, path, answer in calls]

    async def describe(self, _: Request) -> Response:
        return JSONResponse(self._platform.describe())

    async def list_requests(self, request: Request) -> Response:
        limit = read_count(request.query_params.get("limit", str(_LOGGED_BY_DEFAULT)), "limit", 0, MAX_REQUESTS)
        logged = self._platform.recorder.requests
        return JSONResponse({"items": [entry.as_dict() for entry in logged[max(0, len(logged) - limit) :]]})

    async def clear_requests(self, _: Request) -> Response:
        self._platform.recorder.clear()
        return Response(status_code=204)

    async def add_fault(self, request: Request) -> Response:
        plan = await read_json(request)
        with _bad_request():
            self._platform.faults.add(Fault.from_json(plan))
        return Response(status_code=204)

    async def add_outage(self, request: Request) -> Response:
        plan = await read_json(request)
        with _bad_request():
            self._platform.faults.add_outage(Outage.from_json(plan))
        usual = {"seconds": 0, "status": 500, "at": [], "after": 0, "headers": {}}
        return JSONResponse({name: plan.get(name, value) for name, value in usual.items()})

    async def clear_faults(self, _: Request) -> Response:
        self._platform.faults.clear()
        return Response(status_code=204)

    async def change_settings(self, request: Request) -> Response:
        platform, body = self._platform, await read_object(request)
        with _bad_request():
            limit = RateLimit.from_json(body.pop("rate_limit")) if "rate_limit" in body else platform.rate_limit
            platform.change_settings(body)
        platform.rate_limit = limit
        return JSONResponse(platform.describe())

    async def update_work_item(self, request: Request) -> Response:
        index = self._find(request)
        body = await read_json(request)
        if not isinstance(body, dict) or body.keys() - {"status", "touch", "document"}:
            raise ApiError(400, "give an object with status, touch or document")
        status, touch, document = body.get("status"), body.get("touch", True), body.get("document")
        if not (isinstance(status, str | None) and isinstance(touch, bool) and isinstance(document, str | None)):
            raise ApiError(400, "status and document must be strings, touch true or false")
        content = None if document is None else document.encode()
        self._platform.update_work_item(index, status=status, touch=touch, document=content)
        return JSONResponse(self._platform.store.work_item(index))

    async def set_status(self, request: Request) -> Response:
        index = self._find(request)
        self._platform.set_status(index, read_text(await read_object(request), "status"))
        return JSONResponse(self._platform.store.work_item(index))

    async def fail_next_export(self, request: Request) -> Response:
        self._platform.exports.fail_next(read_text(await read_object(request), "reason"))
        return Response(status_code=204)

    async def rotate_webhook_key(self, request: Request) -> Response:
        keep_old = (await read_object(request)).get("keep_old", True)
        if not isinstance(keep_old, bool):
            raise ApiError(400, "keep_old must be true or false")
        self._platform.keys.rotate(keep_old=keep_old)
        return JSONResponse({"key_id": self._platform.keys.key_id})

    async def list_deliveries(self, _: Request) -> Response:
        return JSONResponse({"items": [delivery.as_dict() for delivery in self._platform.webhooks.deliveries]})

    async def reset(self, _: Request) -> Response:
        self._platform.reset()
        return Response(status_code=204)

    def _find(self, request: Request) -> int:
        item = request.path_params["item"]
        index = self._platform.store.find_item(int(item) if item.isascii() and item.isdigit() else item)
        if index is None:
            raise ApiError(404, "work item not found")
        return index


@contextmanager
def _bad_request() -> Iterator[None]:
    """Answer with 400 where a value is not valid."""
    try:
        yield
    except ValueError as error:
        raise ApiError(400, str(error)) from error
