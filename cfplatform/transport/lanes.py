"""The short way to a server: straight to the pool of connections that a session's adapter owns.

A session of requests costs as much again as what lies below it: it prepares each request anew, merges settings, looks
for cookies and redirects, and builds an answer with all of its extras. Nothing of that is needed for the calls that a
download consists of, so they are sent without it: through the same pools, with the same policy and TLS settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import requests
import urllib3


class Outgoing:
    """A request that is ready to be sent; in what it offers it is like a ``PreparedRequest``.

    Attributes:
        origin: Scheme, host and port, such as ``https://host``.
        target: Path and query.
    """

    __slots__ = ("body", "headers", "method", "origin", "target")

    def __init__(self, method: str, origin: str, target: str, headers: dict[str, str], body: Any = None) -> None:
        self.method = method
        self.origin = origin
        self.target = target
        self.headers = headers
        self.body = body

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.origin + self.target


class Answer:
    """An answer whose body is not read yet; in what it offers it is like a ``Response``."""

    __slots__ = ("headers", "raw", "status_code")

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        self.raw = raw
        self.status_code = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def close(self) -> None:
        """Give the connection back if all was read, else close it."""
        self.raw.close()
        self.raw.release_conn()


def with_json(outgoing: Outgoing, body: Any) -> Outgoing | None:
    """Give a request a body; ``None`` if that cannot be written as JSON."""
    try:
        outgoing.body = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError):
        return None
    outgoing.headers["Content-Type"] = "application/json"
    return outgoing


def send(pool: Any, outgoing: Outgoing, timeout: tuple[float, float], policy: urllib3.Retry) -> Answer:
    """Send a request through a pool and return the answer when its headers are there."""
    return Answer(
        pool.urlopen(
            outgoing.method,
            outgoing.target,
            body=outgoing.body,
            headers=outgoing.headers,
            retries=policy,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
            decode_content=False,
        )
    )


#: What is sent, and what comes back, on either way.
AnyRequest = Outgoing | requests.PreparedRequest
AnyAnswer = Answer | requests.Response
