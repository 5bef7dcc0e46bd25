"""Planned faults, outages, and the limit on the request rate."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from .recorder import KINDS
from .settings import is_finite

FaultKind = Literal["fail", "truncate", "drip", "reset", "abort", "html", "replace"]
#: The effect of an outage on connections, if it has no HTTP status.
OutageStatus = Literal["reset", "close", "refused"]

#: The endpoints for outages, and the request kinds of each.
ENDPOINTS: dict[str, tuple[str, ...]] = {
    **{kind: (kind,) for kind in KINDS},
    "signedurls": ("signing",),
    # If the storage is down, uploads fail, too.
    "storage": ("storage", "uploads"),
}

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HTML_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"


@dataclass
class Fault:
    """A planned deviation from the normal response.

    ``fail`` sends an error, ``truncate`` part of the normal response, ``drip`` sends it very slowly, ``reset`` closes
    the connection without a response, ``abort`` resets it (TCP RST), ``html`` sends a web page, ``replace`` other
    content. ``None`` matches all requests, paths and methods, and means the default body. ``path`` is a shell pattern;
    ``keep`` is the fraction of the body sent before it is cut or slowed down.
    """

    kind: FaultKind
    times: int | None = 1
    path: str | None = None
    method: str | None = None
    status: int = 200
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"unknown kind of fault {self.kind!r}, use one of {', '.join(get_args(FaultKind))}")
        if not (isinstance(self.path, str | None) and isinstance(self.method, str | None)):
            raise TypeError("path and method must be strings")
        if self.times is not None and self.times < 0:
            raise ValueError(f"times must not be negative, not {self.times}")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be between 200 and 599, not {self.status}")
        if not 0.0 <= self.keep <= 1.0:
            raise ValueError(f"keep must be between 0 and 1, not {self.keep}")

    def hits(self, method: str, path: str) -> bool:
        return (self.method is None or self.method.upper() == method) and (
            self.path is None or fnmatchcase(path, self.path)
        )


def encode_body(body: bytes | str | Mapping[str, Any] | list[Any] | None) -> tuple[bytes | None, str]:
    """Return a planned body as bytes, and its content type."""
    if body is None or isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False).encode(), "application/json"


@dataclass(frozen=True)
class Outage:
    """A fault that affects all requests of some kinds for some time; of all kinds if ``kinds`` is empty.

    Times are those of the monotonic clock. With ``refused``, the server does not listen.
    """

    begins: float
    ends: float
    kinds: frozenset[str]
    fault: Fault
    refused: bool


def plan_outage(
    seconds: float,
    status: int | OutageStatus = 500,
    at: str | Iterable[str] = (),
    *,
    after: float = 0.0,
    headers: Mapping[str, Any] | None = None,
    body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
) -> Outage:
    """Create an outage that begins ``after`` seconds from now.

    Raises:
        ValueError: If an argument is not valid, or two of them exclude each other.
    """
    if not is_finite(seconds) or seconds <= 0:
        raise ValueError(f"seconds must be a finite number above 0, not {seconds!r}")
    if not is_finite(after) or after < 0:
        raise ValueError(f"after must be a finite number of seconds, 0 or more, not {after!r}")
    responds = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
    if not responds and status not in get_args(OutageStatus):
        words = ", ".join(get_args(OutageStatus))
        raise ValueError(f"status must be an HTTP status from 400 to 599 or one of {words}, not {status!r}")
    if not responds and (headers or body is not None):
        raise ValueError(f"headers and body need an HTTP status, not {status!r}")
    kinds = _kinds_of(at)
    if status == "refused" and kinds:
        raise ValueError("at must be empty with the status 'refused': the whole server refuses connections")
    if responds:
        content, content_type = encode_body(body)
        fault = Fault("fail", None, None, None, int(status), _checked(headers or {}), content, content_type)
    else:
        # A connection accepted just before the server stopped listening is reset, too.
        fault = Fault("reset" if status == "close" else "abort", None)
    begins = time.monotonic() + after
    return Outage(begins, begins + seconds, kinds, fault, status == "refused")


def _kinds_of(at: object) -> frozenset[str]:
    names: list[Any] = [at] if isinstance(at, str) else list(at) if isinstance(at, Iterable) else [at]
    for name in names:
        if not isinstance(name, str) or name not in ENDPOINTS:
            raise ValueError(f"at must be among the endpoints ({', '.join(ENDPOINTS)}), not {name!r}")
    return frozenset(kind for name in names for kind in ENDPOINTS[name])


def _checked(headers: object) -> Mapping[str, Any]:
    if not isinstance(headers, Mapping):
        raise ValueError(f"headers must be a mapping, not {headers!r}")
    for name, value in headers.items():
        sendable = isinstance(name, str) and isinstance(value, str | int | float)
        if not sendable or not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(str(value))):
            raise ValueError(f"headers cannot contain {name!r}: {value!r}")
    return headers


class FaultPlan:
    """The pending faults and outages, in the order in which they were planned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._outages: list[Outage] = []
        #: Called when outages are added or dropped; the server may have to close or reopen its socket.
        self.outages_changed: Callable[[], None] = lambda: None

    def add(self, planned: Fault | Outage) -> None:
        with self._lock:
            plans: list[Any] = self._faults if isinstance(planned, Fault) else self._outages
            plans.append(planned)
        if isinstance(planned, Outage):
            self.outages_changed()

    def clear(self) -> None:
        """Drop all planned faults and end all outages."""
        with self._lock:
            self._faults.clear()
            self._outages.clear()
        self.outages_changed()

    def refusal(self) -> tuple[bool, float | None]:
        """Return whether connections are refused now, and the seconds until that may change."""
        now = time.monotonic()
        with self._lock:
            refused = [outage for outage in self._outages if outage.refused and now < outage.ends]
        changes = [(outage.begins if now < outage.begins else outage.ends) - now for outage in refused]
        return any(outage.begins <= now for outage in refused), min(changes, default=None)

    def take(self, method: str, path: str, kind: str) -> Fault | None:
        """Return the fault for a request, and count it as used; outages have priority."""
        if not (self._faults or self._outages):
            return None
        now = time.monotonic()
        with self._lock:
            self._outages = [outage for outage in self._outages if now < outage.ends]
            for outage in self._outages:
                if outage.begins <= now and (not outage.kinds or kind in outage.kinds):
                    return outage.fault
            fault = next((fault for fault in self._faults if fault.times != 0 and fault.hits(method, path)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
            self._faults = [fault for fault in self._faults if fault.times != 0]
            return fault
