"""The number of a package's stack frames when a thread reads from a socket."""

from __future__ import annotations

import inspect
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

#: Beside the kinds of requests: the start of a thread, and any read in the main thread.
START, CALLER = "start", "caller"


class Stacks:
    """Counts frames at each read, by the kind of the request that was sent on the socket before.

    Args:
        package: The folder of the modules whose frames count.
    """

    def __init__(self, package: Path) -> None:
        self._package = f"{package}{os.sep}"
        self._kinds: weakref.WeakKeyDictionary[socket.socket, str] = weakref.WeakKeyDictionary()
        # Adding to a set is one step, so threads need no lock.
        self._seen: set[tuple[str, int]] = set()

    @property
    def deepest(self) -> dict[str, int]:
        """The most frames for each kind of request, for :data:`START` and for :data:`CALLER`."""
        return {kind: max(depth for each, depth in self._seen if each == kind) for kind, _ in self._seen}

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count as long as the block runs, in all threads."""
        with ExitStack() as stack:
            for name in ("recv", "recv_into"):
                stack.enter_context(mock.patch.object(socket.socket, name, self._reading(name)))
            for name in ("send", "sendall"):
                stack.enter_context(mock.patch.object(socket.socket, name, self._sending(name)))
            stack.enter_context(mock.patch.object(threading.Thread, "start", self._starting()))
            yield

    def _reading(self, name: str) -> Any:
        real = getattr(socket.socket, name)

        def read(connection: socket.socket, *arguments: Any) -> Any:
            self._count(self._kinds.get(connection, "other"))
            if threading.current_thread() is threading.main_thread():
                self._count(CALLER)
            return real(connection, *arguments)

        return read

    def _sending(self, name: str) -> Any:
        real = getattr(socket.socket, name)

        def send(connection: socket.socket, data: Any, *arguments: Any) -> Any:
            kind = _kind(bytes(data))
            if kind is not None:
                self._kinds[connection] = kind
            return real(connection, data, *arguments)

        return send

    def _starting(self) -> Any:
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            self._count(START)
            real(thread)

        return start

    def _count(self, kind: str) -> None:
        depth, frame = 0, inspect.currentframe()
        while frame is not None:
            depth += frame.f_code.co_filename.startswith(self._package)
            frame = frame.f_back
        self._seen.add((kind, depth))


def _kind(data: bytes) -> str | None:
    """Return the kind of the request that begins here; ``None`` for a body."""
    method, _, rest = data.partition(b" ")
    if method not in (b"GET", b"POST"):
        return None
    path = rest.partition(b" ")[0].partition(b"?")[0].decode()
    return "storage" if path.startswith("/storage/") else path.rpartition("/")[2]
