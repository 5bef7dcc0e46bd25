"""The request log, and counters of requests."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import parse_qsl

#: Maximum number of requests in the log; older ones are dropped, but still counted.
MAX_REQUESTS = 200_000
#: Maximum size of a body in the log in bytes.
MAX_BODY = 64 * 1024

#: Replaces a secret in the log.
MASK = "[masked]"
_SECRET_QUERY = re.compile(r"(?i)((?:^|&)(?:X-Amz-(?:Signature|Credential|Security-Token)|sig|signature|token)=)[^&]+")

#: The kinds of requests, for the counters.
KINDS = ("work_items", "annotations", "batches", "signing", "storage", "uploads", "exports", "assets", "jwks", "other")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A received request, and the status of its response.

    Secrets are masked: the signature of signed URLs, the credentials in ``Authorization``, and API keys of other
    services.

    Attributes:
        method: The HTTP method.
        path: The path, percent-decoded, without the query.
        query_string: The query as sent.
        headers: The headers by lower-case name; repeated headers are joined with a comma.
        body: The body, truncated to 64 KiB.
        body_size: The size of the complete body.
        status: The status of the response; 0 if the connection was closed without one.
        route: The kind of the request: ``work_items``, ``annotations``, ``batches``, ``signing``, ``storage``,
            ``uploads``, ``exports``, ``assets``, ``jwks`` or ``other``.
        time: When the response began, in seconds since 1970.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    body_size: int
    status: int
    route: str
    time: float

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query_string, keep_blank_values=True)

    def as_dict(self) -> dict[str, Any]:
        as_they_are = ("method", "path", "query", "body_size", "status", "route", "time")
        shown = {name: getattr(self, name) for name in as_they_are}
        return {**shown, "headers": dict(self.headers), "body": self.body.decode("utf-8", "replace")}


@lru_cache(maxsize=256)
def masked_headers(raw: tuple[tuple[bytes, bytes], ...], api_key: str) -> Mapping[str, str]:
    """Return headers as a mapping; equal headers share one, since clients repeat them."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in ("authorization", "proxy-authorization"):
            text = f"{text.partition(' ')[0]} {MASK}" if " " in text else MASK
        elif key == "x-api-key" and text != api_key:
            text = MASK
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return MappingProxyType(headers)


def masked_query(query: str) -> str:
    return _SECRET_QUERY.sub(rf"\g<1>{MASK}", query)


class Recorder:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[RecordedRequest] = deque(maxlen=MAX_REQUESTS)
        self._counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        #: The clients that are waiting for a response.
        self.waiting: set[Any] = set()
        self.max_in_flight = 0
        self.connections = 0
        self.leaks = 0

    @contextmanager
    def under_way(self, client: Any) -> Iterator[None]:
        with self._lock:
            self.waiting.add(client)
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self.waiting.discard(client)

    @property
    def in_flight(self) -> int:
        return len(self.waiting)

    def count(self, name: Literal["connections", "leaks"]) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def add(self, request: RecordedRequest) -> None:
        """Log a request. Called before the response is sent, so that the client finds it in the log."""
        with self._lock:
            self._requests.append(request)
            self._counts[request.route] += 1

    @property
    def requests(self) -> list[RecordedRequest]:
        with self._lock:
            return list(self._requests)

    @property
    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
            self._counts = dict.fromkeys(KINDS, 0)
            self.max_in_flight = self.in_flight
            self.connections = 0
            self.leaks = 0
