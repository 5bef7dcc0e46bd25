"""The open connections, so that a fault can cut one off and a stop need not wait for any."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

# uvicorn reports bad requests and broken-off answers on its own logger; here they are planned.
_silent = logging.getLogger("cfplatform.sandbox.connections")
_silent.setLevel(logging.CRITICAL)

Address = tuple[str, int]

#: With this for SO_LINGER, closing a socket resets the connection.
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Connections:
    """Knows the transport of each client address; used by the server's thread only."""

    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened
        self._transports: dict[Address | None, asyncio.Transport] = {}

    def add(self, client: Address | None, transport: asyncio.Transport) -> None:
        """Remember a new connection."""
        self._transports[client] = transport
        self._opened()

    def discard(self, client: Address | None) -> None:
        """Forget a closed connection."""
        self._transports.pop(client, None)

    def is_open(self, client: Address | None) -> bool:
        """Tell whether a connection is open."""
        return client in self._transports

    def close(self, client: Address | None, *, abort: bool) -> None:
        """Close a connection after what was written, or at once."""
        transport = self._transports.get(client)
        if transport is None:
            return
        if abort:
            transport.abort()
        else:
            transport.close()

    def reset(self, client: Address | None) -> None:
        """Reset a connection, which its other end notices as an error."""
        if client in self._transports:
            _reset(self._transports[client])

    def cut_all(self) -> None:
        """Reset the connections that wait for an answer, and close the others."""
        for transport in list(self._transports.values()):
            cycle = transport.get_protocol().cycle  # type: ignore[attr-defined]
            if cycle is None or cycle.response_complete:
                # What is written is still sent: perhaps the answer to the control request that planned this.
                transport.close()
            else:
                _reset(transport)

    def abort_all(self) -> None:
        """Close every connection at once."""
        for transport in list(self._transports.values()):
            transport.abort()


def _reset(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also registers its connection."""

    def __init__(self, config: Config, state: ServerState, connections: Connections) -> None:
        super().__init__(config, state, app_state={})
        self.logger = _silent
        self.access_log = False
        self._register = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection."""
        super().connection_made(transport)
        self._register.add(self.client, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._register.discard(self.client)
        super().connection_lost(exc)


def make_config(app: Callable[..., Any]) -> Config:
    """Return a quiet uvicorn configuration that trusts no proxy header and keeps idle connections open."""
    config = Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=True,
        proxy_headers=False,
        timeout_keep_alive=300,
    )
    config.load()
    return config
