"""The ASGI application: finds the route, applies planned faults, writes the log, sends the answer."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import chain

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from .answers import ApiError, api_error, body_pieces, body_size, storage_error
from .bodies import RequestBody
from .connections import Connections
from .faults import HTML_PAGE, Fault, RateLimit
from .platform import API_PREFIX, CONTROL_PREFIX, PUBLIC_PREFIX, STORAGE_PREFIX, WELL_KNOWN_PREFIX, Platform
from .recorder import KINDS, RecordedRequest, decode_headers
from .routes import api_routes, control_routes, public_routes, storage_routes, well_known_routes

#: Seconds between the bytes of an answer that drips: too slow to be waited for, too fast for a timeout of one read.
DRIP_PAUSE = 0.05

logger = logging.getLogger(__name__)


class Application:
    """Serves one platform.

    It matches Starlette's routes itself instead of leaving that to a router, because the log needs to know
    the route also when a planned fault keeps its endpoint from running.
    """

    def __init__(self, platform: Platform, connections: Connections) -> None:
        self._platform = platform
        self._connections = connections
        self._routes = {
            API_PREFIX: api_routes(platform),
            WELL_KNOWN_PREFIX: well_known_routes(platform),
            STORAGE_PREFIX: storage_routes(platform),
            PUBLIC_PREFIX: public_routes(platform),
            CONTROL_PREFIX: control_routes(platform),
        }
        self._request_number = 0
        self._date = (0, b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise ValueError(f"the sandbox does not speak {scope['type']}")
        path: str = scope["path"]
        if _below(path, CONTROL_PREFIX):
            route = self._match(scope, CONTROL_PREFIX)
            await self._send(scope, await self._run(scope, receive, CONTROL_PREFIX, route), send)
            return
        recorder = self._platform.recorder
        recorder.enter()
        try:
            await self._exchange(scope, receive, send)
        finally:
            recorder.leave()

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        platform = self._platform
        method, path = scope["method"], scope["path"]
        body = RequestBody(receive)
        prefix = next((known for known in self._routes if _below(path, known)), "")
        route = self._match(scope, prefix)
        headers = decode_headers(tuple(scope["headers"]))
        if prefix in (STORAGE_PREFIX, PUBLIC_PREFIX) and ("x-api-key" in headers or "authorization" in headers):
            platform.recorder.leaked()
        kind = route.name if isinstance(route, Route) and route.name in KINDS else "other"
        fault = platform.faults.take(method, path, kind)
        if platform.latency:
            await asyncio.sleep(platform.latency)
        if fault is None or fault.kind in ("truncate", "drip"):
            response = await self._run(scope, body.receive, prefix, route)
        else:
            response = _faulty_response(fault, prefix)
        await body.drain()
        platform.recorder.add(
            RecordedRequest(
                method=method,
                path=path,
                query_string=scope["query_string"].decode("latin-1"),
                headers=headers,
                body=body.head,
                body_size=body.size,
                status=response.status_code if fault is None or fault.kind not in ("reset", "abort") else 0,
                route=kind,
                time=time.time(),
            )
        )
        if fault is not None and fault.kind in ("reset", "abort", "truncate", "drip"):
            await self._break_off(scope, receive, send, response, fault)
        else:
            await self._send(scope, response, send)

    async def _run(self, scope: Scope, receive: Receive, prefix: str, route: Route | ApiError) -> Response:
        """Return the right answer."""
        try:
            if prefix == API_PREFIX:
                self._admit(scope)
            if isinstance(route, ApiError):
                return route.response()
            response: Response = await route.endpoint(Request(scope, receive))
            return response
        except ApiError as error:
            return error.response()
        except ClientDisconnect:
            return api_error(400, "the body broke off")
        except Exception as error:
            logger.exception("the sandbox failed to answer %s %s", scope["method"], scope["path"])
            return api_error(500, f"the sandbox itself failed: {error!r}")

    def _admit(self, scope: Scope) -> None:
        """Refuse requests over the rate limit, and those without the key."""
        limit = self._platform.rate_limit
        if limit is not None and not limit.admit():
            raise ApiError(429, "too many requests", headers={"Retry-After": _retry_after(limit)})
        key = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
        if not hmac.compare_digest(key, self._platform.api_key.encode()):
            raise ApiError(401, "the API key is missing or not valid")

    def _match(self, scope: Scope, prefix: str) -> Route | ApiError:
        """Find the route of a request, or the reason why there is none."""
        allowed: set[str] = set()
        for route in self._routes.get(prefix, ()):
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                return route
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            return ApiError(404, f"there is nothing at {scope['path']}")
        return ApiError(405, f"{scope['method']} is not allowed here", headers={"Allow": ", ".join(sorted(allowed))})

    async def _send(self, scope: Scope, response: Response, send: Send) -> None:
        size = 0 if scope["method"] == "HEAD" else body_size(response)
        pieces = body_pieces(response, 0, size)
        # A file that is not there any more is noticed before the answer begins.
        piece = next(pieces, b"")
        await self._begin(response, send)
        for following in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not self._connections.is_open(scope["client"]):
                return
            piece = following
        await send({"type": "http.response.body", "body": piece})

    async def _begin(self, response: Response, send: Send) -> None:
        headers = self._headers(response)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})

    async def _break_off(self, scope: Scope, receive: Receive, send: Send, response: Response, fault: Fault) -> None:
        """Send a part of the answer, or nothing, and close the connection."""
        if fault.kind in ("truncate", "drip"):
            await self._begin(response, send)
            size = body_size(response)
            kept = int(size * fault.keep)
            for piece in body_pieces(response, 0, kept):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if fault.kind == "drip":
                await self._drip(receive, send, body_pieces(response, kept, size))
        if fault.kind == "abort":
            self._connections.reset(scope["client"])
        else:
            self._connections.close(scope["client"], abort=fault.kind == "reset")
        # Returning before the connection is gone would make the server write an answer of its own.
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _drip(self, receive: Receive, send: Send, rest: Iterator[bytes]) -> None:
        """Send a byte now and then, until there are no more or the client has had enough."""
        gone = asyncio.ensure_future(receive())
        for byte in chain.from_iterable(rest):
            if (await asyncio.wait([gone], timeout=DRIP_PAUSE))[0]:
                break
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        gone.cancel()

    def _headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        self._request_number += 1
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return [
            (b"date", self._date[1]),
            (b"x-request-id", b"req-%08d" % self._request_number),
            *response.raw_headers,
        ]


def _below(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def _retry_after(limit: RateLimit) -> str:
    if limit.http_date:
        return formatdate(time.time() + limit.retry_after, usegmt=True)
    return f"{limit.retry_after:g}"


def _faulty_response(fault: Fault, prefix: str) -> Response:
    headers = {name: str(value) for name, value in fault.headers.items()}
    if fault.kind == "html":
        return Response(HTML_PAGE if fault.body is None else fault.body, fault.status, headers, "text/html")
    if fault.body is not None:
        return Response(fault.body, fault.status, headers, fault.content_type)
    if prefix in (STORAGE_PREFIX, PUBLIC_PREFIX):
        return storage_error(fault.status, "a planned fault", headers=headers)
    return api_error(fault.status, "a planned fault", headers)
