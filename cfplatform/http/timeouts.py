"""Timeouts for name lookup, connecting, headers, body, and a call with all its attempts.

A socket timeout applies to a single ``recv``, so a server that sends one byte at a time never reaches it. Here the
reading thread checks the clock before each ``recv``. There is no watchdog thread, which avoids races and problems after
a fork, and no socket is shut down while headers are read, which would make them look complete.

======  ==========================================================================================================
Phase   Limit, for ``timeout=(connect, read)``
======  ==========================================================================================================
lookup  connect, together with connecting to all addresses of the host, which share the time
TLS     connect
head    no wait starts after read seconds, so at most twice read
body    at least 1 KiB per second over every read seconds of waiting, so a slow server is cut off after twice read
call    its deadline, extended by a second for every 16 KiB of the body; a wait that has started is not cut short
======  ==========================================================================================================

Time in which the process did not run (SIGSTOP, a suspended machine, a debugger) does not count. The connections of a
caller's session have plain socket timeouts only.
"""

from __future__ import annotations

import functools
import http.client
import io
import math
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.util.connection import allowed_gai_family

from .. import config
from .background import Background

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer
    from urllib3.connection import HTTPConnection as _Connection
else:
    # Not the class itself: a recording tool may have replaced it at import time.
    _Connection = object

#: Maximum seconds for a call with all retries and waits, or this multiple of the timeouts, whichever is more.
CALL_SECONDS = 600.0
CALL_TIMEOUTS = 10
#: Minimum bytes of a body per second of waiting.
MIN_SPEED = 1024
#: Minimum average bytes of a body per second beyond the deadline of its call.
MIN_AVERAGE = 16 * 1024
#: Maximum number of consecutive header or trailer lines: more than the 100 headers of http.client, but a limit on
#: repeated "100 Continue" responses and trailers.
MAX_LINES = 1000
#: Maximum bytes of such a line, as for headers in http.client.
MAX_LINE = 65_536
#: Seconds that a wait may be late on a busy machine; after more, the process counts as suspended.
LATE = 2.0

_current = threading.local()


class Interrupted(Exception):
    """A wait or read ended because its run was stopped."""


class TooSlow(TimeoutError):
    """A server sends too slowly to finish."""


class PrivateAddressError(HTTPError):
    """A host that must be public has a private address."""


class Deadline:
    """A deadline that only counts time in which the process runs. Waits check it periodically.

    Args:
        seconds: Seconds until the deadline.
        longest: Maximum seconds between two checks while the process runs; the excess of a longer gap is not counted.
    """

    def __init__(self, seconds: float, longest: float) -> None:
        self._seconds = seconds
        self._longest = longest + LATE
        self.restart()

    def restart(self) -> None:
        """Start again from now."""
        self._seen = time.monotonic()
        self._end = self._seen + self._seconds

    def left(self) -> float:
        """Return the remaining seconds; negative after the deadline."""
        now = time.monotonic()
        self._end += max(0.0, now - self._seen - self._longest)
        self._seen = now
        return self._end - now

    def extend(self, seconds: float) -> None:
        """Move the deadline."""
        self._end += seconds


def of_call(timeout: tuple[float, float], size: int = 0) -> float:
    """Return the time limit in seconds of a call that sends ``size`` bytes, with all retries and waits."""
    return max(CALL_SECONDS, CALL_TIMEOUTS * sum(timeout)) + size / MIN_AVERAGE


def limit_reading(stop: threading.Event | None, deadline: Deadline | None) -> None:
    """From now on, end reads of responses in this thread when the event is set or the deadline has passed."""
    _current.stop, _current.deadline = stop, deadline


class _Socket(io.RawIOBase):
    """The bytes of one response as they arrive."""

    def __init__(self, raw: Any, timeout: float) -> None:
        self._raw = raw
        self._timeout = timeout
        self._stop: threading.Event | None = getattr(_current, "stop", None)
        self._deadline: Deadline | None = getattr(_current, "deadline", None)
        self._head: Deadline | None = Deadline(timeout, longest=timeout)
        self._waited = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def begin_body(self) -> None:
        self._head = None

    def readinto(self, buffer: Buffer) -> int | None:
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        if self._deadline is not None and self._deadline.left() < 0:
            raise TooSlow("the time limit of the call, with its retries, has passed")
        if self._head is not None:
            if self._head.left() < 0:
                raise TooSlow("the headers of the response were not complete in time")
        elif self._waited > self._timeout:
            # Checked before a wait, not after it, to keep the last bytes.
            if self._received < MIN_SPEED * self._waited:
                raise TooSlow(f"less than {MIN_SPEED} bytes a second arrived for {self._waited:.1f} s")
            self._waited, self._received = 0.0, 0
        began = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        # Only waiting counts: a caller may take any time between two reads. In a wait longer than the socket timeout,
        # the process did not run.
        self._waited += min(time.monotonic() - began, self._timeout)
        self._received += count or 0
        if self._deadline is not None:
            self._deadline.extend((count or 0) / MIN_AVERAGE)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    """Limits the consecutive lines that are read without content in between."""

    _lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines += 1
        if self._lines > MAX_LINES:
            raise http.client.HTTPException(f"got more than {MAX_LINES} lines of headers or trailers")
        # Older releases of urllib3 read the lines between chunks without a limit.
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


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._socket = _Socket(self.fp.detach(), sock.gettimeout() or math.inf)
        self.fp = _Reader(self._socket)

    def begin(self) -> None:
        try:
            super().begin()
            while 100 < self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
                # An interim response, such as 103 Early Hints, which http.client takes for the final one.
                self.headers = self.msg = None  # type: ignore[assignment]
                super().begin()
        except BaseException:
            # http.client closes the connection, but this object keeps the socket open until the garbage collector runs,
            # because the error refers to its frames.
            self.close()
            raise
        self._socket.begin_body()


class _BoundedConnection(_Connection):
    """A connection with a limit for every phase. ``is_public`` refuses private addresses."""

    response_class = _Response
    is_public = False

    def _new_conn(self) -> socket.socket:
        """Connect to the first address of the host that accepts; all share one connect timeout."""
        limit = self.timeout if isinstance(self.timeout, (int, float)) else CALL_SECONDS
        deadline = time.monotonic() + limit
        try:
            addresses = _lookup(self._dns_host.strip("[]"), self.port, limit)
            if self.is_public:
                addresses = [each for each in addresses if not config.is_private(each[4][0])]
                if not addresses:
                    raise PrivateAddressError(f"{self.host} is on a private network")
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


@functools.cache
def _connection_class(kind: type[Any], is_public: bool) -> type[Any]:
    """Return the bounded version of a urllib3 connection class; classes of other tools stay unchanged."""
    if not kind.__module__.startswith("urllib3."):
        return kind
    if kind.__module__ == "urllib3.connection":
        return type(kind.__name__, (_BoundedConnection, kind), {"is_public": is_public})
    # For example SOCKS connections, which connect differently.
    return type(kind.__name__, (kind,), {"response_class": _Response})


@functools.cache
def _pool_class(pool_kind: type[Any], is_public: bool) -> type[Any]:
    def new_connection(pool: Any) -> Any:
        connection = super(bounded, pool)._new_conn()
        # Not through ConnectionCls: recording tools replace it and discard connections of other classes.
        kind: Any = type(connection)
        bounded_kind = _connection_class(kind, is_public)
        if bounded_kind is not kind:
            connection.__class__ = bounded_kind
        return connection

    bounded: Any = type(pool_kind.__name__, (pool_kind,), {"_new_conn": new_connection})
    return cast("type[Any]", bounded)


def bound(manager: urllib3.PoolManager, *, is_public: bool = False) -> None:
    """Make a pool manager create bounded connections; with ``is_public``, none to private addresses."""
    kinds = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _pool_class(kind, is_public) for scheme, kind in kinds.items()}


def _connect(addresses: list[Any], options: Iterable[tuple[int, int, int | bytes]], deadline: float) -> socket.socket:
    """Connect to the first address that accepts; each gets an equal share of the remaining time."""
    problem: OSError = OSError("the host has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        # Zero would mean a non-blocking socket.
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
    """Look up a host name with a timeout; the system's lookup has none and cannot be interrupted."""
    if config.read_address(host) is not None:
        return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)
    looked_up = Background(lambda _: socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM), "lookup")
    try:
        return looked_up.result(timeout)
    except TimeoutError:
        raise TimeoutError("the name lookup took too long") from None
