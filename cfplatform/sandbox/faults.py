"""Planned faults, and the limit on the request rate."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

FaultKind = Literal["fail", "truncate", "drip", "reset", "html", "replace"]

HTML_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"


@dataclass
class Fault:
    """A planned deviation from the right answer.

    Attributes:
        kind: ``fail`` answers with an error, ``truncate`` sends the right answer in part, ``drip``
            sends it so slowly that nobody can wait for its end, ``reset`` closes the connection without one,
            ``html`` answers with a web page, ``replace`` with other content.
        times: How many requests are hit; ``None`` for all of them.
        path: A shell pattern for the request path; ``None`` for every path.
        method: The HTTP method that is hit; ``None`` for every method.
        status: The status of the answer, unless the kind decides it.
        headers: Headers added to the answer.
        body: The body of the answer; ``None`` for the usual body of the kind.
        content_type: The content type of a replaced answer.
        keep: The part of a body that is sent, 0 to 1, before it is cut or begins to drip.
    """

    kind: FaultKind
    times: int | None = 1
    path: str | None = None
    method: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
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

    @classmethod
    def from_json(cls, plan: Any) -> Fault:
        """Build a fault from the body of a control request.

        Raises:
            ValueError: If it is not an object, has an unknown field or a value of the wrong type.
        """
        if not isinstance(plan, dict):
            raise ValueError("a fault is a JSON object")
        fields = dict(plan)
        body, content_type = encode_body(fields.get("body"))
        fields.update({"content_type": content_type, **fields, "body": body})
        if fields.get("kind") == "fail":
            fields.setdefault("status", 503)
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"not a fault: {error}") from error

    def hits(self, method: str, path: str) -> bool:
        """Tell whether a request is one that this fault is meant for."""
        return (self.method is None or self.method.upper() == method) and (
            self.path is None or fnmatchcase(path, self.path)
        )


def encode_body(body: bytes | str | Mapping[str, Any] | list[Any] | None) -> tuple[bytes | None, str]:
    """Return a planned body as bytes, and the content type that goes with how it was given."""
    if body is None or isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False).encode(), "application/json"


class FaultPlan:
    """The faults still to come, in the order in which they were planned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Plan a fault."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Drop every planned fault."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits a request, and count it as used."""
        if not self._faults:
            return None
        with self._lock:
            fault = next((fault for fault in self._faults if fault.times != 0 and fault.hits(method, path)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
            self._faults = [fault for fault in self._faults if fault.times != 0]
            return fault


class RateLimit:
    """A bucket of requests that fills at a steady rate and holds at most one second's worth."""

    def __init__(self, per_second: float, *, retry_after: float = 1, http_date: bool = False) -> None:
        if per_second <= 0 or retry_after < 0:
            raise ValueError(f"a rate must be above 0 and a wait not negative, not {per_second} and {retry_after}")
        self.per_second = per_second
        self.retry_after = retry_after
        self.http_date = http_date
        self._capacity = max(1.0, per_second)
        self._level = self._capacity
        self._filled_at = time.monotonic()

    @classmethod
    def from_json(cls, limit: Any) -> RateLimit | None:
        """Build a limit from a number, an object with the arguments, or null for none.

        Raises:
            ValueError: If it is something else.
        """
        if limit is None:
            return None
        try:
            return cls(**limit) if isinstance(limit, dict) else cls(limit)
        except TypeError as error:
            raise ValueError(f"not a rate limit: {error}") from error

    def admit(self) -> bool:
        """Tell whether one more request is within the limit; called by the server's thread only."""
        now = time.monotonic()
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True
