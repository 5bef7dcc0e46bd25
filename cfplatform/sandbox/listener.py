"""The listening socket, which is closed while a planned outage refuses connections."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from .connections import Connections
from .faults import FaultPlan

_BACKLOG = 2048


class Listener:
    """Listens on a bound socket, except while the plan refuses connections; used by the server's thread only."""

    def __init__(
        self,
        bound: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Connections,
        plan: FaultPlan,
    ) -> None:
        self._socket = bound
        self._address: tuple[str, int] = bound.getsockname()
        self._protocol = protocol
        self._connections = connections
        self._plan = plan
        self._server: asyncio.AbstractServer | None = None

    async def follow_plan(self) -> float | None:
        """Listen or not, as the plan is now.

        Returns:
            The seconds after which this has to be called again; ``None`` if only a change of the plan calls for it.

        Raises:
            OSError: If another process took the port in the moment between closing the socket and binding it again.
        """
        refused, wait = self._plan.refusal()
        if refused:
            self._stop_listening()
            # Bound without listening, the port refuses connections and nobody else is given it.
            self._bind()
        elif self._server is None:
            self._bind()
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._protocol, sock=self._socket, backlog=_BACKLOG)
        return wait

    def close(self) -> None:
        """Free the port; connections stay."""
        if self._server is not None:
            self._server.close()
        self._socket.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._connections.cut_all()

    def _bind(self) -> None:
        if self._socket.fileno() == -1:
            self._socket = bind(*self._address)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet."""
    # With the protocol left open, asyncio does not switch Nagle's algorithm off: 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # A port in use is still refused; on Windows this option would allow taking it over.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener
