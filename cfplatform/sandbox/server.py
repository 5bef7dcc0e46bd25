"""The server: a socket that is bound at once, and a thread that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import uvicorn

from .app import Application
from .formats import is_loopback
from .platform import Platform

_BACKLOG = 2048
_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_PLAN_TIMEOUT = 5.0
#: Seconds between attempts to rebind a port that another process has taken during an outage.
_BIND_PAUSE = 0.1

# uvicorn logs bad requests and cut responses on its own logger; here they are planned.
_silent = logging.getLogger("cfplatform.sandbox.connections")
_silent.setLevel(logging.CRITICAL)


class Server:
    """Serves a platform on a loopback address.

    The constructor binds the socket, so the port is known before the start, and a port in use is an error there.
    """

    def __init__(self, platform: Platform, host: str, port: int) -> None:
        self._platform = platform
        self._socket = bind(_loopback(host), port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        platform.faults.outages_changed = self._outages_changed

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("the sandbox is already running")
        self._bind()
        self._error = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="cfplatform-sandbox", daemon=True)
        self._thread.start()
        if not ready.wait(_START_TIMEOUT) or self._error is not None:
            self._thread = None
            self._socket.close()
            raise RuntimeError("the sandbox did not start") from self._error

    def stop(self) -> None:
        """Stop serving, close all connections and free the port. Can be called twice."""
        if self._thread is not None:
            self._call(self._wake, None)
            self._thread.join(_STOP_TIMEOUT)
            self._thread = None
        self._socket.close()

    def _outages_changed(self) -> None:
        """Apply the new plan, and wait until the server has, unless this is its own thread."""
        followed = threading.Event()
        if self._call(self._wake, followed) and threading.current_thread() is not self._thread:
            followed.wait(_PLAN_TIMEOUT)

    def _call(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Call a function in the thread of the server; return whether the thread exists."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed.
            return False
        return True

    def _wake(self, followed: threading.Event | None) -> None:
        """Apply the plan again, then set the event; with ``None``, stop."""
        self._followed.append(followed)
        self._woken.set()

    def _run(self, ready: threading.Event) -> None:
        loop = _new_event_loop()
        try:
            loop.run_until_complete(self._serve(ready))
        except BaseException as error:
            self._error = error
        finally:
            self._loop = None
            loop.close()
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._woken = asyncio.Event()
        self._followed: list[threading.Event | None] = [ready]
        self._listener: asyncio.AbstractServer | None = None
        # uvicorn's server is not run, it only holds the state of its connections: it would poll every 100 ms whether
        # to stop, and cannot stop listening temporarily.
        self._config = uvicorn.Config(
            lambda *_: None,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=300,
        )
        self._state = uvicorn.Server(self._config).server_state
        self._app = Application(self._platform, self._state.connections)
        self._config.app = self._app
        self._config.load()
        self._loop = asyncio.get_running_loop()
        while None not in self._followed:
            followed, self._followed = self._followed, []
            self._woken.clear()
            wait = await self._follow_plan()
            for event in filter(None, followed):
                event.set()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)
        if self._listener is not None:
            self._listener.close()
        self._socket.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    async def _follow_plan(self) -> float | None:
        """Listen, unless the plan refuses connections; return the seconds until that may change."""
        refused, wait = self._platform.faults.refusal()
        try:
            if refused:
                if self._listener is not None:
                    self._listener.close()
                    self._listener = None
                    self._app.cut_connections()
                # A port that is bound without listening refuses connections, and no other process can take it.
                self._bind()
            elif self._listener is None:
                self._bind()
                loop = asyncio.get_running_loop()
                self._listener = await loop.create_server(self._connection, sock=self._socket, backlog=_BACKLOG)
        except OSError:
            # Another process took the port between closing and binding the socket again.
            return _BIND_PAUSE
        return wait

    def _connection(self) -> asyncio.Protocol:
        self._platform.recorder.count("connections")
        make = cast(Any, self._config.http_protocol_class)
        protocol = make(config=self._config, server_state=self._state, app_state={})
        protocol.logger, protocol.access_log = _silent, False
        return cast(asyncio.Protocol, protocol)

    def _bind(self) -> None:
        if self._socket.fileno() == -1:
            self._socket = bind(*self.address)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without an explicit protocol, asyncio does not disable Nagle's algorithm: 40 ms per request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # A port in use is still refused; on Windows this option would allow taking it over.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _loopback(host: str) -> str:
    """Return the address of a loopback host: the sandbox must not be reachable from a network."""
    if not is_loopback(host):
        raise ValueError(f"host must be a loopback address such as 127.0.0.1, not {host!r}")
    return "127.0.0.1" if host == "localhost" else str(ipaddress.ip_address(host))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
