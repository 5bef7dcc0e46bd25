"""How long may it take? Name lookup, connecting, headers, body, and the call with all its attempts.

The timeouts of a socket hold for one ``recv`` each, so a server that sends a byte at a time is never caught by them.
Here the reading thread checks the clock before each ``recv``. There is no watchdog thread, which avoids races and
problems after a fork, and no socket is shut down while its headers are read, which would make them seem complete.

======  ==========================================================================================================
Phase   Bound, for ``timeout=(connect, read)``
======  ==========================================================================================================
lookup  together with all addresses of the host: connect. An unreachable address leaves the others their share.
TLS     connect
head    no wait begins once read has passed, so it ends after twice read at the latest
body    each read seconds of waiting must bring 1 KiB for each second, so a slow server ends after twice read
call    its deadline, and a second more for every 16 KiB of the body; a wait that has started is finished
======  ==========================================================================================================

Time in which the process did not run (SIGSTOP, a suspended machine, a debugger) counts for none of them. The
connections of a caller's session have only the plain timeouts.
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
    # Not the class itself: a recording tool may have replaced it while this module is imported.
    _Connection = object

#: Maximum seconds for a call, with all its repeats and waits; or this many times the timeouts, if that is more.
CALL_SECONDS = 600.0
CALL_TIMEOUTS = 10
#: Bytes that a body must bring for each second of waiting.
MIN_SPEED = 1024
#: Bytes that a body must have brought, on average, for each second beyond the deadline of its call.
MIN_AVERAGE = 16 * 1024
#: Maximum number of consecutive lines outside a body's content: far more than 100 headers, but bounded, unlike
#: repeated "100 Continue" or trailers.
MAX_LINES = 1000
#: Bytes of one such line, as http.client has it for headers.
MAX_LINE = 65_536
#: Seconds by which a wait may be late on a busy machine before the process counts as having been stopped.
LATE = 2.0

_current = threading.local()


class Interrupted(Exception):
    """A wait or a read was ended because the run that it belongs to was stopped."""


class TooSlow(TimeoutError):
    """A server that keeps sending, but too slowly to ever finish."""


class PrivateAddressError(HTTPError):
    """A host that must be public has a private network address."""


class Deadline:
    """The end of a span of seconds in which the process runs; a wait checks it from time to time.

    Args:
        seconds: The span.
        longest: Seconds between two checks at the most while the process runs; any longer gap is not counted.
    """

    def __init__(self, seconds: float, longest: float) -> None:
        self._seconds = seconds
        self._longest = longest + LATE
        self.restart()

    def restart(self) -> None:
        """Begin the span again."""
        self._seen = time.monotonic()
        self._end = self._seen + self._seconds

    def left(self) -> float:
        """Return the seconds that are left; negative when it has passed."""
        now = time.monotonic()
        self._end += max(0.0, now - self._seen - self._longest)
        self._seen = now
        return self._end - now

    def extend(self, seconds: float) -> None:
        """Move the end."""
        self._end += seconds


def of_call(timeout: tuple[float, float], size: int = 0) -> float:
    """Return the seconds of a call that sends ``size`` bytes, with all its repeats and waits."""
    return max(CALL_SECONDS, CALL_TIMEOUTS * sum(timeout)) + size / MIN_AVERAGE


def limit_reading(stop: threading.Event | None, deadline: Deadline | None) -> None:
    """End responses that this thread reads from now on early: when an event is set, or at a deadline."""
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
            raise TooSlow("the call with its repeats took longer than it may")
        if self._head is not None:
            if self._head.left() < 0:
                raise TooSlow("the headers of the response were not complete in time")
        elif self._waited > self._timeout:
            # Checked before a wait and not after it, so that the last bytes are not thrown away.
            if self._received < MIN_SPEED * self._waited:
                raise TooSlow(f"less than {MIN_SPEED} bytes a second arrived for {self._waited:.1f} s")
            self._waited, self._received = 0.0, 0
        began = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        # Only the waiting counts: a caller may take as long as they like between two reads. A wait that is longer than
        # the socket's own timeout is one in which the process did not run.
        self._waited += min(time.monotonic() - began, self._timeout)
        self._received += count or 0
        if self._deadline is not None:
            self._deadline.extend((count or 0) / MIN_AVERAGE)
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
            # http.client closes the connection, but the socket stays open as long as this holds it: until the cyclic
            # collector runs, since the error holds the frames.
            self.close()
            raise
        self._socket.begin_body()


class _BoundedConnection(_Connection):
    """A connection whose every phase ends. ``is_public`` refuses addresses of private networks."""

    response_class = _Response
    is_public = False

    def _new_conn(self) -> socket.socket:
        """Connect to the first address of the host that accepts, all of them within one connect timeout."""
        limit = self.timeout if isinstance(self.timeout, (int, float)) else CALL_SECONDS
        deadline = time.monotonic() + limit
        try:
            addresses = _lookup(self._dns_host.strip("[]"), self.port, limit)
            if self.is_public:
                addresses = [each for each in addresses if not config.is_private(each[4][0])]
                if not addresses:
                    raise PrivateAddressError(f"{self.host} is in a private network")
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
    """Return the bounded form of a connection class of urllib3; that of a tool which replaced it is left alone."""
    if not kind.__module__.startswith("urllib3."):
        return kind
    if kind.__module__ == "urllib3.connection":
        return type(kind.__name__, (_BoundedConnection, kind), {"is_public": is_public})
    # Such as those for SOCKS, which connect differently.
    return type(kind.__name__, (kind,), {"response_class": _Response})


@functools.cache
def _pool_class(pool_kind: type[Any], is_public: bool) -> type[Any]:
    def new_connection(pool: Any) -> Any:
        connection = super(bounded, pool)._new_conn()
        # Not by ConnectionCls: recording tools replace that, and discard every connection of another class.
        kind: Any = type(connection)
        bounded_kind = _connection_class(kind, is_public)
        if bounded_kind is not kind:
            connection.__class__ = bounded_kind
        return connection

    bounded: Any = type(pool_kind.__name__, (pool_kind,), {"_new_conn": new_connection})
    return cast("type[Any]", bounded)


def bound(manager: urllib3.PoolManager, *, is_public: bool = False) -> None:
    """Let a pool manager make bounded connections, and with ``is_public`` none to private networks."""
    kinds = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _pool_class(kind, is_public) for scheme, kind in kinds.items()}


def _connect(addresses: list[Any], options: Iterable[tuple[int, int, int | bytes]], deadline: float) -> socket.socket:
    """Connect to the first address that accepts; each may take its share of the time that is left."""
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
    if config.read_address(host) is not None:
        return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)
    looked_up = Background(lambda _: socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM), "lookup")
    try:
        return looked_up.result(timeout)
    except TimeoutError:
        raise TimeoutError("the name lookup took too long") from None
