"""The ASGI application: routing, planned faults, the request log, and responses."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from .control import Control
from .faults import HTML_PAGE, Fault
from .formats import is_loopback
from .platform import API_PREFIX, CONTROL_PREFIX, PUBLIC_PREFIX, WELL_KNOWN_PREFIX, Platform
from .recorder import KINDS, MAX_BODY, RecordedRequest, masked_headers, masked_query
from .responses import ApiError, api_error, body_pieces, body_size, storage_error
from .routes import Api, ObjectStore
from .storage import STORAGE_PREFIX

#: Seconds between the bytes of a slow response: too long in total, too short for the timeout of a single read.
DRIP_PAUSE = 0.05

#: Value of SO_LINGER with which closing a socket resets the connection.
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)

logger = logging.getLogger(__name__)


class Application:
    """Serves one platform.

    It matches Starlette's routes without a router, because the log needs the route even if a planned fault replaces the
    endpoint.

    Args:
        platform: The platform.
        connections: The protocols of the open connections, each with ``client`` and ``transport``.
    """

    def __init__(self, platform: Platform, connections: Iterable[Any]) -> None:
        self._platform = platform
        self._connections = connections
        api, objects = Api(platform), ObjectStore(platform)
        self._routes = {
            API_PREFIX: api.routes(),
            WELL_KNOWN_PREFIX: api.well_known_routes(),
            STORAGE_PREFIX: objects.routes(),
            PUBLIC_PREFIX: objects.public_routes(),
            CONTROL_PREFIX: Control(platform).routes(),
        }
        self._request_number = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refuse_other_sites(scope)
        if refused is not None:
            await self._send(scope, refused, send)
        elif _below(scope["path"], CONTROL_PREFIX):
            route = self._match(scope, CONTROL_PREFIX)
            await self._send(scope, await self._run(scope, receive, CONTROL_PREFIX, route), send)
        else:
            with self._platform.recorder.under_way(scope["client"]):
                await self._exchange(scope, receive, send)

    def cut_connections(self) -> None:
        """Reset the connections that wait for a response, and close all others."""
        for connection in list(self._connections):
            if connection.client in self._platform.recorder.waiting:
                _reset(connection.transport)
            else:
                # Buffered data is still sent, such as the response to the control request that planned the outage.
                connection.transport.close()

    def _refuse_other_sites(self, scope: Scope) -> Response | None:
        """Refuse requests from web pages of other sites: those with another host name or origin."""
        host = b",".join(_headers(scope, b"host")).decode("latin-1")
        try:
            own = is_loopback(urlsplit(f"//{host}").hostname) or host == urlsplit(self._platform.origin).netloc
        except ValueError:
            own = False
        if not own:
            return api_error(403, f"the sandbox only accepts loopback host names such as localhost, not {host!r}")
        for origin in _headers(scope, b"origin"):
            if origin.decode("latin-1").lower() != f"http://{host}".lower():
                return api_error(403, "the sandbox does not accept requests from web pages of other sites")
        return None

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        platform = self._platform
        method, path = scope["method"], scope["path"]
        body = _RequestBody(receive)
        prefix = next((known for known in self._routes if _below(path, known)), "")
        route = self._match(scope, prefix)
        headers = masked_headers(tuple(scope["headers"]), platform.api_key)
        if prefix in (STORAGE_PREFIX, PUBLIC_PREFIX) and ("x-api-key" in headers or "authorization" in headers):
            platform.recorder.count("leaks")
        kind = route.name if isinstance(route, Route) and route.name in KINDS else "other"
        fault = platform.faults.take(method, path, kind)
        if platform.settings.latency:
            await asyncio.sleep(platform.settings.latency)
        if fault is None or fault.kind in ("truncate", "drip"):
            response = await self._run(scope, body.receive, prefix, route)
        else:
            response = _faulty_response(fault, prefix)
        await body.drain()
        platform.recorder.add(
            RecordedRequest(
                method=method,
                path=path,
                query_string=masked_query(scope["query_string"].decode("latin-1")),
                headers=headers,
                body=bytes(body.head),
                body_size=body.size,
                status=response.status_code if fault is None or fault.kind not in ("reset", "abort") else 0,
                route=kind,
                time=time.time(),
            )
        )
        if fault is not None and fault.kind in ("reset", "abort", "truncate", "drip"):
            await self._cut_off(scope, receive, send, response, fault)
        else:
            await self._send(scope, response, send)

    async def _run(self, scope: Scope, receive: Receive, prefix: str, route: Route | ApiError) -> Response:
        try:
            if prefix in (API_PREFIX, CONTROL_PREFIX):
                self._admit(scope, prefix)
            if isinstance(route, ApiError):
                return route.response
            response: Response = await route.endpoint(Request(scope, receive))
            return response
        except ApiError as error:
            return error.response
        except ClientDisconnect:
            return api_error(400, "the body is incomplete")
        except Exception as error:
            logger.exception("the sandbox failed on %s %s", scope["method"], scope["path"])
            return api_error(500, f"the sandbox failed: {error!r}")

    def _admit(self, scope: Scope, prefix: str) -> None:
        """Refuse requests above the rate limit or without the API key."""
        limit = self._platform.settings.rate_limit
        if prefix == API_PREFIX and limit is not None and not limit.admit():
            raise ApiError(429, "too many requests", headers={"Retry-After": limit.retry_after})
        # Web pages of other sites cannot send this header without a preflight request, which is refused.
        if not hmac.compare_digest(b"".join(_headers(scope, b"x-api-key")), self._platform.api_key.encode()):
            raise ApiError(401, "the API key is missing or not valid")
        if prefix == CONTROL_PREFIX and scope["method"] == "POST":
            content_type = b"".join(_headers(scope, b"content-type"))
            if content_type.partition(b";")[0].strip().lower() != b"application/json":
                raise ApiError(415, "control calls need Content-Type: application/json")

    def _match(self, scope: Scope, prefix: str) -> Route | ApiError:
        """Find the route of a request, or the error if there is none."""
        allowed: set[str] = set()
        for route in self._routes.get(prefix, ()):
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                return route
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            return ApiError(404, f"not found: {scope['path']}")
        return ApiError(405, f"{scope['method']} is not allowed here", headers={"Allow": ", ".join(sorted(allowed))})

    async def _send(self, scope: Scope, response: Response, send: Send) -> None:
        size = 0 if scope["method"] == "HEAD" else body_size(response)
        pieces = body_pieces(response, 0, size)
        # A missing file must be noticed before the response begins.
        piece = next(pieces, b"")
        await self._begin(response, send)
        for following in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if self._transport(scope) is None:
                return
            piece = following
        await send({"type": "http.response.body", "body": piece})

    async def _begin(self, response: Response, send: Send) -> None:
        self._request_number += 1
        date = formatdate(usegmt=True).encode()
        headers = [(b"date", date), (b"x-request-id", b"req-%08d" % self._request_number), *response.raw_headers]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})

    async def _cut_off(self, scope: Scope, receive: Receive, send: Send, response: Response, fault: Fault) -> None:
        if fault.kind in ("truncate", "drip"):
            await self._begin(response, send)
            size = body_size(response)
            kept = int(size * fault.keep)
            for piece in body_pieces(response, 0, kept):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if fault.kind == "drip":
                await self._drip(receive, send, body_pieces(response, kept, size))
        transport = self._transport(scope)
        if transport is not None and fault.kind == "abort":
            _reset(transport)
        elif transport is not None:
            # The part of the response that was already written is still sent.
            transport.abort() if fault.kind == "reset" else transport.close()
        # If this returned before the connection is closed, the server would send its own response.
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _drip(self, receive: Receive, send: Send, rest: Iterator[bytes]) -> None:
        """Send one byte at a time, slowly, until the end or until the client disconnects."""
        gone = asyncio.ensure_future(receive())
        for byte in chain.from_iterable(rest):
            if (await asyncio.wait([gone], timeout=DRIP_PAUSE))[0]:
                break
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        gone.cancel()

    def _transport(self, scope: Scope) -> Any:
        client = scope["client"]
        return next((connection.transport for connection in self._connections if connection.client == client), None)


class _RequestBody:
    """Streams a body, which may be larger than memory, and keeps the part that the log shows."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self.head = bytearray()
        self.size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        part = message.get("body", b"")
        self.size += len(part)
        self.head += part[: MAX_BODY - len(self.head)]
        self._ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read the rest, because some clients read the response only after sending everything."""
        while not self._ended:
            await self.receive()


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for known, value in scope["headers"] if known == name]


def _reset(transport: Any) -> None:
    """Reset a connection, which is an error for the client."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _below(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def _faulty_response(fault: Fault, prefix: str) -> Response:
    headers = {name: str(value) for name, value in fault.headers.items()}
    if fault.kind == "html":
        return Response(HTML_PAGE if fault.body is None else fault.body, fault.status, headers, "text/html")
    if fault.body is not None:
        return Response(fault.body, fault.status, headers, fault.content_type)
    if prefix in (STORAGE_PREFIX, PUBLIC_PREFIX):
        return storage_error(fault.status, "a planned fault", headers=headers)
    return api_error(fault.status, "a planned fault", headers)
