"""Webhooks: signed messages about status changes, sent by a separate thread.

``cryptography`` is imported when a key is needed, so a sandbox without webhooks does not require it.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, urlsplit

from .formats import SECOND, Identifiers, is_loopback, now, render_time

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Timeout in seconds for each step of a response.
TIMEOUT = 5.0
#: Seconds before the second and the third attempt.
PAUSES = (0.1, 0.3)
#: Maximum number of deliveries to keep; older ones are dropped.
MAX_DELIVERIES = 10_000

Outcome = Literal["pending", "delivered", "failed", "refused"]


@dataclass(frozen=True)
class Attempt:
    """One request to a receiver.

    Attributes:
        time: When it was sent, in seconds since 1970.
        headers: The headers with the signature.
        body: The signed body.
        status: The status of the response; ``None`` if there was none.
        error: The reason if there was no response.
    """

    time: float
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Delivery:
    """A message about a status change, and its outcome.

    Attributes:
        number: Its number in the order of the changes; not restarted by a reset.
        url: The destination URL.
        work_item_id: The work item that changed.
        status: Its new status.
        outcome: ``pending``, ``delivered``, ``failed`` after the last attempt, or ``refused`` if the URL is not a
            loopback URL.
        attempts: The requests sent, in order.
    """

    number: int
    url: str
    work_item_id: str
    status: str
    outcome: Outcome = "pending"
    attempts: tuple[Attempt, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the delivery as plain values, ready for JSON."""
        attempts = [
            {**vars(attempt), "headers": dict(attempt.headers), "body": attempt.body.decode("utf-8", "replace")}
            for attempt in self.attempts
        ]
        fields = {**vars(self), "workItemID": self.work_item_id, "attempts": attempts}
        del fields["work_item_id"]
        return fields


class SigningKeys:
    """The published keys, the current one first; all are derived from the seed."""

    def __init__(self, ids: Identifiers) -> None:
        self._ids = ids
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._published: tuple[int, ...] = (0,)
        self._next = 1

    def rotate(self, *, keep_old: bool) -> None:
        with self._lock:
            self._published = (self._next, *(self._published if keep_old else ()))
            self._next += 1

    @property
    def key_id(self) -> str:
        return self._key_id(self._published[0])

    def sign(self, body: bytes) -> dict[str, str]:
        number = self._published[0]
        return {
            "Content-Type": "application/json",
            "X-Payload-Signature": base64.b64encode(self._private(number).sign(body)).decode(),
            "X-Payload-Key-Id": self._key_id(number),
            "X-Payload-Timestamp": str(int(time.time())),
        }

    def as_jwks(self) -> dict[str, Any]:
        usual = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
        keys = [{**usual, "kid": self._key_id(number), "x": self._public(number)} for number in self._published]
        return {"keys": keys}

    def _key_id(self, number: int) -> str:
        return self._ids.encode("webhook key", number).upper()

    def _public(self, number: int) -> str:
        raw = self._private(number).public_key().public_bytes_raw()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _private(self, number: int) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._ids.digest("webhook secret", number, 32))


class Webhooks:
    """Sends messages one by one, so that a receiver gets them in the order of the changes."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self._changed = threading.Condition()
        self._deliveries: dict[int, Delivery] = {}
        self._queue: queue.SimpleQueue[tuple[Delivery, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._number = 0
        self._waiting = 0

    @property
    def deliveries(self) -> list[Delivery]:
        with self._changed:
            return list(self._deliveries.values())

    def send(self, url: str, item: Mapping[str, Any]) -> None:
        with self._changed:
            delivery = Delivery(self._number, url, str(item.get("id")), str(item.get("status")))
            self._number += 1
            self._waiting += 1
            self._deliveries[delivery.number] = delivery
            if len(self._deliveries) > MAX_DELIVERIES:
                del self._deliveries[next(iter(self._deliveries))]
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="cfplatform-sandbox-webhooks", daemon=True)
                self._thread.start()
            self._queue.put((delivery, item))

    def wait(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout)

    def clear(self) -> None:
        """Drop all messages; messages in progress are still sent."""
        with self._changed:
            self._deliveries.clear()

    def stop(self) -> None:
        """Stop sending; unsent messages fail."""
        with self._changed:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            self._queue.put(None)
            thread.join(TIMEOUT)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            delivery, item = entry
            try:
                self._deliver(delivery, item)
            except Exception as error:
                self._update(delivery, outcome="failed", attempts=(Attempt(time.time(), {}, b"", error=repr(error)),))
            with self._changed:
                self._waiting -= 1
                self._changed.notify_all()

    def _deliver(self, delivery: Delivery, item: Mapping[str, Any]) -> None:
        target = _loopback(delivery.url)
        if target is None:
            self._update(delivery, outcome="refused")
            return
        for pause in (*PAUSES, None):
            if self._stopping.is_set():
                break
            body = _payload(item)
            attempt = _post(target, Attempt(time.time(), self._keys.sign(body), body))
            delivery = self._update(delivery, attempts=(*delivery.attempts, attempt))
            if attempt.status is not None and 200 <= attempt.status < 300:
                self._update(delivery, outcome="delivered")
                return
            if pause is not None:
                self._stopping.wait(pause)
        self._update(delivery, outcome="failed")

    def _update(self, delivery: Delivery, **fields: Any) -> Delivery:
        changed = replace(delivery, **fields)
        with self._changed:
            if delivery.number in self._deliveries:
                self._deliveries[delivery.number] = changed
        return changed


def _payload(item: Mapping[str, Any]) -> bytes:
    fields = {name: item.get(name) for name in ("assetType", "assetUrl", "createdAt", "status", "updatedAt")}
    message = {"workItemID": item.get("id"), **fields, "deliveredAt": render_time(now() // SECOND * SECOND)}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _loopback(url: str) -> SplitResult | None:
    """Return the parts of a URL if its host is this machine: the sandbox sends nothing to a network."""
    try:
        target = urlsplit(url)
        host, _ = target.hostname, target.port
    except ValueError:
        return None
    return target if is_loopback(host) and target.scheme == "http" else None


def _post(target: SplitResult, attempt: Attempt) -> Attempt:
    # The name could resolve to another machine.
    host = "127.0.0.1" if target.hostname == "localhost" else str(target.hostname)
    connection = http.client.HTTPConnection(host, target.port, timeout=TIMEOUT)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    try:
        connection.request("POST", path, attempt.body, dict(attempt.headers))
        return replace(attempt, status=connection.getresponse().status)
    except (http.client.HTTPException, OSError, ValueError) as error:
        return replace(attempt, error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
