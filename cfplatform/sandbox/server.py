"""The server: a socket that is bound at once, and a thread that answers on it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import threading

from uvicorn.server import ServerState

from .app import Application
from .connections import Connections, Protocol, make_config
from .platform import Platform

_BACKLOG = 2048
_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0


class Server:
    """Serves a platform on a loopback address.

    The socket is bound by the constructor, in the caller's thread, so the port is known before the start and
    a port in use is an error there.
    """

    def __init__(self, platform: Platform, host: str, port: int) -> None:
        self._platform = platform
        self._socket = _bind(_loopback(host), port)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    @property
    def running(self) -> bool:
        """Whether the server answers."""
        return self._thread is not None

    def start(self) -> None:
        """Start answering; a stopped server comes back on the same port."""
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        if self._socket.fileno() == -1:
            self._socket = _bind(*self.address)
        self._ready.clear()
        self._error = None
        self._thread = threading.Thread(target=self._run, name="cfplatform-sandbox", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT) or self._error is not None:
            self._thread = None
            self._socket.close()
            raise RuntimeError("the sandbox did not start") from self._error

    def stop(self) -> None:
        """Stop answering, close every connection and free the port; stopping twice does no harm."""
        if self._thread is not None and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_TIMEOUT)
            self._thread = None
        self._socket.close()

    def _run(self) -> None:
        loop = _new_event_loop()
        try:
            loop.run_until_complete(self._serve(loop))
        except BaseException as error:
            self._error = error
        finally:
            loop.close()
            self._ready.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._stopping = loop, asyncio.Event()
        connections = Connections(self._platform.recorder.connected)
        config = make_config(Application(self._platform, connections))
        state = ServerState()
        server = await loop.create_server(
            lambda: Protocol(config, state, connections), sock=self._socket, backlog=_BACKLOG
        )
        self._ready.set()
        await self._stopping.wait()
        server.close()
        connections.abort_all()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def _loopback(host: str) -> str:
    """Return the address of a loopback host: the sandbox has no business on a network."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"host must be a loopback address such as 127.0.0.1, not {host!r}")
    return address


def _bind(host: str, port: int) -> socket.socket:
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


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
