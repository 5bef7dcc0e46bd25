"""A server that sends scripted responses byte by byte and logs requests."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import Self

#: The first byte of a client that wants to speak TLS.
_TLS_HANDSHAKE = b"\x16"


@dataclass(frozen=True)
class Request:
    """A request as it stood on the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)

    def values(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def names(self) -> set[str]:
        """The names of all headers, in lower case."""
        return {key.lower() for key, _ in self.headers}


@dataclass(frozen=True)
class Answer:
    """What to send for one request, and what to do with the connection afterwards."""

    data: bytes | Callable[[Request], bytes] = b""
    end: Literal["keep", "close", "reset", "stall"] = "keep"
    #: Seconds before the answer.
    delay: float = 0.0
    #: Sent over and over, until the client has had enough.
    endless: bytes = b""
    #: Seconds between one such piece and the next.
    pace: float = 0.0


def raw(status: int | str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """Return an answer with its ``Content-Length``, unless that is one of the ``headers`` or not wanted."""
    lines = [f"HTTP/1.1 {status}" if isinstance(status, str) else f"HTTP/1.1 {status} Status", *headers]
    framed = any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers)
    if length and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def said(data: Any, status: int = 200, *headers: str) -> bytes:
    """Return an answer with a JSON body."""
    return raw(status, json.dumps(data).encode(), "Content-Type: application/json", *headers)


def page(*ids: str, following: str | None = None) -> bytes:
    """Return a page of a listing."""
    return said({"items": [{"id": each} for each in ids], "meta": {"cursorNext": following}})


class ScriptedServer:
    """Gives the planned answers in the order in which requests arrive, then ``default`` for ever.

    A request that nothing is planned for is answered with 400, which no client repeats.
    """

    def __init__(self, *answers: bytes | Answer, default: bytes | Answer | None = None, listen: bool = True) -> None:
        self._answers = deque(answers)
        self._default = said({"message": "nothing planned"}, 400) if default is None else default
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        #: Connections that are open, each with its thread.
        self.open: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/api/v1"
        #: Every request, in the order of arrival.
        self.requests: list[Request] = []
        #: How many connections were opened.
        self.connections = 0
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        if listen:
            self.listen()

    def listen(self) -> Self:
        """Begin to listen; until then connections are refused."""
        self._listener.listen(128)
        self._acceptor.start()
        return self

    def plan(self, *answers: bytes | Answer) -> None:
        """Add answers."""
        with self._lock:
            self._answers.extend(answers)

    def stop(self) -> None:
        """Close everything and wait for the threads."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            # Wakes the thread that waits for connections; closing alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._acceptor.ident is not None:
            self._acceptor.join(5)
        with self._lock:
            left = dict(self.open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left.values():
            thread.join(5)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # Without a limit a broken test would leave the thread behind for ever.
            connection.settimeout(30)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            with self._lock:
                self.open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while (request := _read(stream, number)) is not None:
                with self._lock:
                    self.requests.append(request)
                    answer = self._answers.popleft() if self._answers else self._default
                if not self._give(connection, request, answer):
                    break
        with self._lock:
            self.open.pop(connection, None)

    def _give(self, connection: socket.socket, request: Request, answer: bytes | Answer) -> bool:
        """Send an answer; tell whether the connection stays open."""
        if isinstance(answer, bytes):
            answer = Answer(answer)
        self._stopped.wait(answer.delay)
        connection.sendall(answer.data(request) if callable(answer.data) else answer.data)
        while answer.endless and not self._stopped.is_set():
            connection.sendall(answer.endless)
            if answer.pace:
                self._stopped.wait(answer.pace)
        if answer.end == "stall":
            self._stopped.wait(30)
        if answer.end == "reset":
            # Lingering for no time makes the system send a reset instead of an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The reader holds the socket too, so it must be let go of before the reset leaves.
            time.sleep(0.02)
        return answer.end == "keep"


def _read(stream: Any, connection: int) -> Request | None:
    if stream.peek(1)[:1] == _TLS_HANDSHAKE:
        return Request("", "", [], b"", connection)
    line = stream.readline(65_537).decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    headers = []
    while header := stream.readline(65_537).decode("latin-1").rstrip("\r\n"):
        name, _, value = header.partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Request(method, target, headers, stream.read(length), connection)
