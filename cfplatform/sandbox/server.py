"""The server: a socket that is bound at once, and a thread that answers on it."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections import deque

from uvicorn.server import ServerState

from .app import Application
from .connections import Connections, Protocol, make_config
from .listener import Listener, bind
from .platform import Platform

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_PLAN_TIMEOUT = 5.0
#: Seconds between attempts to get back a port that another process has taken during an outage.
_BIND_PAUSE = 0.1


class Server:
    """Serves a platform on a loopback address.

    The socket is bound by the constructor, in the caller's thread, so the port is known before the start and
    a port in use is an error there.
    """

    def __init__(self, platform: Platform, host: str, port: int) -> None:
        self._platform = platform
        self._socket = bind(_loopback(host), port)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._stopping = False
        self._ready = threading.Event()
        self._error: BaseException | None = None
        #: What is set when the server's thread has acted on a change of the plan.
        self._waiting: deque[threading.Event] = deque()
        platform.faults.outages_changed = self._outages_changed

    @property
    def running(self) -> bool:
        """Whether the server answers."""
        return self._thread is not None

    def start(self) -> None:
        """Start answering; a stopped server comes back on the same port."""
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        if self._socket.fileno() == -1:
            self._socket = bind(*self.address)
        self._ready.clear()
        self._error = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cfplatform-sandbox", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT) or self._error is not None:
            self._thread = None
            self._socket.close()
            raise RuntimeError("the sandbox did not start") from self._error

    def stop(self) -> None:
        """Stop answering, close every connection and free the port; stopping twice does no harm."""
        if self._thread is not None:
            self._stopping = True
            self._wake()
            self._thread.join(_STOP_TIMEOUT)
            self._thread = None
        self._socket.close()

    def _wake(self) -> bool:
        """Let the server's thread look at what has changed; tell whether there is one that can."""
        if self._loop is None or self._woken is None:
            return False
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            # The loop was closed.
            return False
        return True

    def _outages_changed(self) -> None:
        """Let the server's thread follow the new plan, and wait until it does."""
        if not self.running:
            return
        followed = threading.Event()
        self._waiting.append(followed)
        if self._wake() and threading.current_thread() is not self._thread:
            followed.wait(_PLAN_TIMEOUT)

    def _run(self) -> None:
        loop = _new_event_loop()
        try:
            loop.run_until_complete(self._serve(loop))
        except BaseException as error:
            self._error = error
        finally:
            loop.close()
            self._ready.set()
            self._release(len(self._waiting))

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        # In this order: an event without its loop is not used.
        self._woken = asyncio.Event()
        self._loop = loop
        connections = Connections(self._platform.recorder.connected)
        config = make_config(Application(self._platform, connections))
        state = ServerState()
        faults = self._platform.faults
        listener = Listener(self._socket, lambda: Protocol(config, state, connections), connections, faults)
        wait = await listener.follow_plan()
        self._ready.set()
        while not self._stopping:
            timer = None if wait is None else loop.call_later(wait, self._woken.set)
            await self._woken.wait()
            if timer is not None:
                timer.cancel()
            self._woken.clear()
            # Counted before the plan is read: a later change needs another turn.
            waiting = len(self._waiting)
            try:
                wait = await listener.follow_plan()
            except OSError:
                wait = _BIND_PAUSE
            self._release(waiting)
        listener.close()
        connections.abort_all()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft().set()


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


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
