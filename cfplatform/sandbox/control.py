"""The control API: the methods of ``Sandbox`` over HTTP, for other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .faults import Fault, encode_body, plan_outage
from .platform import CONTROL_PREFIX, Platform
from .recorder import MAX_REQUESTS, RecordedRequest
from .responses import ApiError, read_count, read_json, read_text
from .settings import RateLimit
from .webhooks import Delivery

_LOGGED_BY_DEFAULT = 1000


class Control:
    """Handles the calls of the control API.

    A call gets the request and its parsed JSON body, and returns JSON, or ``None`` for no content. It raises
    ``ValueError`` for invalid input and ``LookupError`` for an unknown work item.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        platform = self._platform
        return [
            _route("GET", "", lambda *_: platform.describe()),
            _route("POST", "/reset", lambda *_: platform.reset()),
            _route("GET", "/requests", self.list_requests),
            _route("DELETE", "/requests", lambda *_: platform.recorder.clear()),
            _route("POST", "/faults", self.add_fault),
            _route("DELETE", "/faults", lambda *_: platform.faults.clear()),
            _route("POST", "/outages", self.add_outage),
            _route("POST", "/settings", self.change_settings),
            _route("POST", "/work-items/{item}", self.update_work_item),
            _route("POST", "/work-items/{item}/status", self.set_status),
            _route("POST", "/exports/fail-next", self.fail_next_export),
            _route("POST", "/webhook-key", self.rotate_webhook_key),
            _route("GET", "/deliveries", lambda *_: _items(platform.webhooks.deliveries)),
        ]

    def list_requests(self, request: Request, _: Any) -> Any:
        limit = read_count(request.query_params.get("limit", str(_LOGGED_BY_DEFAULT)), "limit", 0, MAX_REQUESTS)
        logged = self._platform.recorder.requests
        return _items(logged[max(0, len(logged) - limit) :])

    def add_fault(self, _: Request, body: Any) -> None:
        if isinstance(body, dict):
            content, content_type = encode_body(body.get("body"))
            usual = {"content_type": content_type, **({"status": 503} if body.get("kind") == "fail" else {})}
            body = {**usual, **body, "body": content}
        self._platform.faults.add(_build(Fault, body, "a fault"))

    def add_outage(self, _: Request, body: Any) -> Any:
        self._platform.faults.add(_build(plan_outage, body, "an outage"))
        usual = {"seconds": 0, "status": 500, "at": [], "after": 0, "headers": {}}
        return {name: body.get(name, value) for name, value in usual.items()}

    def change_settings(self, _: Request, body: Any) -> Any:
        changes = _build(dict, body, "settings")
        limit = changes.get("rate_limit")
        if limit is not None:
            options = limit if isinstance(limit, dict) else {"per_second": limit}
            changes["rate_limit"] = _build(RateLimit, options, "a rate limit")
        self._platform.change_settings(changes)
        return self._platform.describe()

    def update_work_item(self, request: Request, body: Any) -> Any:
        index = self._index(request)
        if not isinstance(body, dict) or body.keys() - {"status", "touch", "document"}:
            raise ValueError("pass an object with status, touch or document")
        status, touch, document = body.get("status"), body.get("touch", True), body.get("document")
        if not (isinstance(status, str | None) and isinstance(touch, bool) and isinstance(document, str | None)):
            raise ValueError("status and document must be strings, touch true or false")
        content = None if document is None else document.encode()
        self._platform.update_work_item(index, status=status, touch=touch, document=content)
        return self._platform.store.work_item(index)

    def set_status(self, request: Request, body: Any) -> Any:
        index = self._index(request)
        self._platform.update_work_item(index, status=read_text(body, "status"), always_announce=True)
        return self._platform.store.work_item(index)

    def fail_next_export(self, _: Request, body: Any) -> None:
        self._platform.exports.reasons.append(read_text(body, "reason"))

    def rotate_webhook_key(self, _: Request, body: Any) -> Any:
        keep_old = body.get("keep_old", True) if isinstance(body, dict) else None
        if not isinstance(keep_old, bool):
            raise ValueError("keep_old must be true or false")
        self._platform.keys.rotate(keep_old=keep_old)
        return {"key_id": self._platform.keys.key_id}

    def _index(self, request: Request) -> int:
        item = request.path_params["item"]
        return self._platform.index(int(item) if item.isascii() and item.isdigit() else item)


def _build(make: Callable[..., Any], options: Any, what: str) -> Any:
    if not isinstance(options, dict):
        raise ValueError(f"{what}: must be a JSON object, not {options!r}")
    try:
        return make(**options)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from error


def _items(entries: Iterable[RecordedRequest | Delivery]) -> dict[str, Any]:
    return {"items": [entry.as_dict() for entry in entries]}


def _route(method: str, path: str, call: Callable[[Request, Any], Any]) -> Route:
    async def respond(request: Request) -> Response:
        body = await read_json(request) if await request.body() else None
        try:
            result = call(request, body)
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        except LookupError as error:
            raise ApiError(404, "work item not found") from error
        return Response(status_code=204) if result is None else JSONResponse(result)

    return Route(CONTROL_PREFIX + path, respond, methods=[method])
