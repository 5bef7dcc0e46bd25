"""Faults of the benchmark server: an outage in the middle of a run, and single failed responses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeAlias

#: In place of a response: the connection is reset.
RESET = b""
#: Called with the kind of each request; returns the response that takes the place of the real one, or ``None``.
Fault: TypeAlias = Callable[[str], bytes | None]


class Outage:
    """An outage: from a certain request on, requests of one kind fail for some seconds.

    Args:
        how: A status, "reset", or "refused", which closes the port.
        where: The kind of request that fails, or "everywhere".
        seconds: How long it lasts.
        after: The annotation request that it begins with. Counting requests instead of seconds puts it into the
            middle of the run on any machine.
        refuse: Closes the port for that many seconds.
    """

    def __init__(self, how: str, where: str, seconds: str, after: str, refuse: Callable[[float], None]) -> None:
        self._where = where
        self._seconds = float(seconds)
        self._refuse = refuse if how == "refused" else None
        self._response = RESET if how in ("reset", "refused") else _failure(int(how))
        self._left = int(after)
        self._until: float | None = None

    def __call__(self, kind: str) -> bytes | None:
        if self._until is None:
            self._left -= kind == "annotations"
            if self._left > 0:
                return None
            self._until = time.monotonic() + self._seconds
            if self._refuse is not None:
                self._refuse(self._seconds)
        hit = self._where in (kind, "everywhere") and time.monotonic() < self._until
        return self._response if hit else None


class Some:
    """A share of the responses at annotations and storage fail, without ``Retry-After``; always in the same order.

    Args:
        status: Their status.
        share: Between 0 and 1.
    """

    def __init__(self, status: str, share: str) -> None:
        self._response = _failure(int(status))
        self._share = float(share)
        self._chance = random.Random(1)

    def __call__(self, kind: str) -> bytes | None:
        hit = kind in ("annotations", "storage") and self._chance.random() < self._share
        return self._response if hit else None


def parse(parts: list[str], refuse: Callable[[float], None]) -> Fault:
    """Return the fault that a control request describes.

    Args:
        parts: ``outage/503/storage/30/750`` or ``some/503/0.01``, split at the slashes.
        refuse: Closes the port for so many seconds.
    """
    name, *arguments = parts
    return Outage(*arguments, refuse=refuse) if name == "outage" else Some(*arguments)


def _failure(status: int) -> bytes:
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    body = '{"message":"maintenance"}'
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
