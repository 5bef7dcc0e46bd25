"""Connections whose every phase ends: name lookup, connecting, headers and body.

The timeouts of a socket hold for one ``recv`` each, so a server that drips a byte at a time is never caught by them.
Here each ``recv`` is preceded by a look at the clock, in the thread that reads. There is no watching thread, so there
is nothing to be started, forked or raced, and no socket is shut down whose headers would then pass for complete.

======  ==========================================================================================================
Phase   Bound, for ``timeout=(connect, read)``
======  ==========================================================================================================
lookup  with all addresses of the host together: connect. An address that is dead leaves the others their share.
TLS     connect
head    no wait begins once read has passed, so it ends after twice read at the latest
body    each read seconds of waiting must bring 1 KiB for each second, so a drip ends after twice read at the latest
call    its deadline, and a second more for every 16 KiB of the body; a wait that has begun is finished
======  ==========================================================================================================

A session that a caller brings has connections of its own; to those only the plain timeouts apply.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import math
import queue
import socket
import sys
import threading
import time
from http.client import HTTPMessage
from types import FunctionType
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from .retry import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

#: Bytes that a body must bring for each second of waiting.
MIN_SPEED = 1024
#: Bytes that a body must have brought, on the whole, for each second beyond the deadline of its call.
MIN_AVERAGE = 16 * 1024
#: Lines that follow each other outside of a body's content: far more than 100 headers, but not without end, as
#: repeated "100 Continue" or trailers may be.
MAX_LINES = 1000
#: Bytes of one such line, as http.client has it for headers.
MAX_LINE = 65_536
#: Headers of one answer, as http.client has it.
MAX_HEADERS = 100

_ENDS = (b"\r\n", b"\n")
_BLANK = (*_ENDS, b"")
#: The characters that the parser for e-mail takes in a name.
_NAME = bytes({*range(33, 127)} - {ord(":")})

_current = threading.local()


class TooSlow(TimeoutError):
    """A server that goes on sending, but too little to ever come to an end."""


def limit_reading(stop: threading.Event | None, deadline: float) -> None:
    """Let the answers that this thread asks for from now on end early: when an event is set, or at a deadline."""
    _current.stop, _current.deadline = stop, deadline


class _Wire(io.RawIOBase):
    """The bytes of one answer as they arrive."""

    def __init__(self, raw: Any, timeout: float) -> None:
        self._raw = raw
        self._timeout = timeout
        self._stop: threading.Event | None = getattr(_current, "stop", None)
        self._deadline: float = getattr(_current, "deadline", math.inf)
        self._began = time.monotonic()
        self._in_body = False
        self._waited = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def begin_body(self) -> None:
        self._in_body = True

    def readinto(self, buffer: Buffer) -> int | None:
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        now = time.monotonic()
        if now > self._deadline:
            raise TooSlow("the whole call took longer than it may")
        if not self._in_body:
            if now - self._began > self._timeout:
                raise TooSlow("the headers of the answer were not complete in time")
        elif self._waited > self._timeout:
            # Looked at before a wait and not after it, so that what arrived at last is not thrown away.
            if self._received < MIN_SPEED * self._waited:
                raise TooSlow(f"less than {MIN_SPEED} bytes a second arrived for {self._waited:.1f} s")
            self._waited, self._received = 0.0, 0
        count: int | None = self._raw.readinto(buffer)
        # Only the waiting counts: a caller may take as long as they like between two reads.
        self._waited += time.monotonic() - now
        self._received += count or 0
        self._deadline += (count or 0) / MIN_AVERAGE
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    """Counts the lines that are read with no content between them."""

    _lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines += 1
        if self._lines > MAX_LINES:
            raise http.client.HTTPException(f"got more than {MAX_LINES} lines of headers or trailers")
        # Older releases of urllib3 read the lines between chunks without a limit of their own.
        line = super().readline(MAX_LINE + 1 if size is None or size < 0 else size)
        if len(line) > MAX_LINE:
            raise http.client.LineTooLong("header or chunk")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        self._lines = 0
        return super().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        self._lines = 0
        return super().read1(size)


def _parse_headers(file: io.BufferedReader, _class: type[HTTPMessage] = HTTPMessage) -> HTTPMessage:
    """Read headers as ``http.client.parse_headers`` does, ten times as fast where they are written as usual.

    The parser of the standard library is one for e-mail; it is a sixth of what an answer costs. It still gets whatever
    has a line that is not plainly ``name: value``.
    """
    lines = []
    # Past the count of lines in _Reader: there is one here.
    while (line := io.BufferedReader.readline(file, MAX_LINE + 1)) not in _BLANK:
        lines.append(line)
        if len(line) > MAX_LINE:
            raise http.client.LineTooLong("header line")
        if len(lines) > MAX_HEADERS:
            raise http.client.HTTPException(f"got more than {MAX_HEADERS} headers")
    message = _class()
    for line in lines:
        name, colon, value = line.partition(b":")
        text = value.strip(b"\r\n")
        if not colon or not name or name.translate(None, _NAME) or b"\r" in text or value[len(text) :] not in _ENDS:
            return http.client.parse_headers(io.BytesIO(b"".join([*lines, b"\r\n"])), _class)
        message.set_raw(name.decode("latin-1"), text.lstrip(b" \t").decode("latin-1"))
    return message


def _with_own_parser(begin: Any) -> Any:
    """Return ``HTTPResponse.begin`` as it is, but with the parser of headers from above."""
    return FunctionType(begin.__code__, {**begin.__globals__, "parse_headers": _parse_headers}, begin.__name__)


class _Answer(http.client.HTTPResponse):
    _begin = _with_own_parser(http.client.HTTPResponse.begin)

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._wire = _Wire(self.fp.detach(), sock.gettimeout() or math.inf)
        self.fp = _Reader(self._wire)

    def begin(self) -> None:
        self._begin()
        self._wire.begin_body()


class _Bounded(HTTPConnection):
    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        """Connect to the first address of the host that answers, all of them within one connect timeout."""
        limit = self.timeout
        if not isinstance(limit, (int, float)) or _is_address(self._dns_host):
            return super()._new_conn()
        deadline = time.monotonic() + limit
        try:
            addresses = _lookup(self._dns_host, self.port, limit)
            sock = _connect(addresses, self.socket_options or (), deadline)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            raise LocationParseError(f"{self.host!r}, label empty or too long") from None
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out: {error}") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        sock.settimeout(limit)
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock


class _BoundedTLS(_Bounded, HTTPSConnection):
    pass


# Not even urllib3's own classes fit the protocols that it declares for them, says pyright.
class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Bounded  # pyright: ignore[reportAssignmentType]


class _PoolTLS(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTLS  # pyright: ignore[reportAssignmentType]


def bound(manager: urllib3.PoolManager) -> None:
    """Let a pool manager make bounded connections; one that has connections of its own kind is left alone."""
    if type(manager) in (urllib3.PoolManager, urllib3.ProxyManager):
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _connect(addresses: list[Any], options: Iterable[tuple[int, int, int | bytes]], deadline: float) -> socket.socket:
    """Connect to the first address that answers; each may take its share of the time that is left."""
    problem: OSError = OSError("the host has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        # Above zero, which would mean not to wait at all.
        share = max(0.001, (deadline - time.monotonic()) / (len(addresses) - position))
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(share)
            sock.connect(address)
        except OSError as error:
            problem = error
            if sock is not None:
                sock.close()
        else:
            return sock
    raise problem


def _lookup(host: str, port: int, timeout: float) -> list[Any]:
    """Look a name up, for no longer than that: the system's own lookup has no limit and cannot be interrupted."""
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM))
        except BaseException as error:
            # For the thread that waits, which is the one that can do something about it.
            answer.put(error)

    try:
        threading.Thread(target=ask, name="cfplatform-lookup", daemon=True).start()
    except RuntimeError:
        # No thread can be started any more, as while the interpreter ends.
        ask()
    try:
        found = answer.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError("the name lookup took too long") from None
    if isinstance(found, BaseException):
        raise found
    return list(found)
