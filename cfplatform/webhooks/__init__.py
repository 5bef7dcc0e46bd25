"""Webhooks: verify that a delivery is signed by the platform, recent, and meant for you.

Needs the ``webhooks`` extra (cryptography), which is imported when the first verifier is built.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast, runtime_checkable
from urllib.parse import urlsplit

from .. import config, http, timestamps
from ..exceptions import ConfigurationError
from .keys import KEY_ID, MIN_AGE, FetchedKeys, is_signed, refused, signature_bytes, usable_keys

if TYPE_CHECKING:
    from ..types import WebhookEventData

__all__ = ["MAX_BODY_BYTES", "Headers", "RecentDeliveries", "SeenDeliveries", "WebhookEvent", "WebhookVerifier"]

#: Maximum size of a body in bytes; the platform sends a few hundred.
MAX_BODY_BYTES = 1024 * 1024
#: Maximum nesting of objects and lists; the platform sends one level.
MAX_DEPTH = 64

_HEADERS = ("x-payload-signature", "x-payload-key-id", "x-payload-timestamp")
_SECONDS = re.compile(r"[0-9]{1,11}")


class Headers(Protocol):
    """Headers of a request: a dict, or the headers object of http.server, Flask, Django or Starlette."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return (name, value) pairs."""
        ...


@dataclass(frozen=True)
class WebhookEvent:
    """A status change of a work item, from a verified delivery.

    Attributes:
        work_item_id: The work item.
        status: Its new status. The platform may add statuses, so any string is possible.
        asset_type: Such as ``"image"``, or ``None``.
        asset_url: The asset's storage path, or ``None``.
        created_at: When the work item was created, with a time zone; ``None`` if the platform sent no valid time.
        updated_at: When the work item changed, with a time zone, or ``None``.
        delivered_at: When the platform sent this delivery, with a time zone. A repeated delivery has a later time.
        key_id: The ID of the key that signed it.
        delivery_id: SHA-256 of the signed body in hexadecimal: equal for exact copies of a delivery.
    """

    work_item_id: str
    status: str
    asset_type: str | None = field(repr=False)
    asset_url: str | None = field(repr=False)
    created_at: datetime | None = field(repr=False)
    updated_at: datetime | None = field(repr=False)
    delivered_at: datetime
    key_id: str = field(repr=False)
    delivery_id: str = field(repr=False)
    _body: dict[str, Any] = field(repr=False, compare=False)

    def as_dict(self) -> WebhookEventData:
        """Return a copy of the parsed body, with every field that the platform sent."""
        return cast("WebhookEventData", copy.deepcopy(self._body))


@runtime_checkable
class SeenDeliveries(Protocol):
    """The interface of ``WebhookVerifier(seen=...)``. Redis' ``SET key 1 NX EX seconds`` does exactly this."""

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Store a delivery atomically, across all threads and processes.

        Args:
            delivery_id: 64 hexadecimal digits.
            seconds: How long to remember it; after that, the delivery is rejected as expired.

        Returns:
            True if it is new, False if it was already stored.
        """
        ...


class RecentDeliveries:
    """Remembers deliveries in the memory of this process. Thread-safe.

    It is not shared with other processes, and is empty after a restart.

    Args:
        max_entries: Maximum number of deliveries, about 250 bytes each. When it is full, the oldest is dropped early,
            and a copy of it would be accepted. Only deliveries with a valid signature are stored.

    Example:
        >>> from cfplatform.webhooks import RecentDeliveries
        >>> seen = RecentDeliveries()
        >>> seen.remember("0123", 600), seen.remember("0123", 600)
        (True, False)
        >>> seen.forget("0123")
        >>> seen.remember("0123", 600)
        True
    """

    def __init__(self, max_entries: int = 100_000) -> None:
        if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
            raise ConfigurationError("max_entries must be an integer of at least 1.", parameter="max_entries")
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Store a delivery for some seconds; return False if it was already stored."""
        with self._lock:
            now = time.monotonic()
            while self._until and next(iter(self._until.values())) <= now:
                self._until.popitem(last=False)
            if self._until.get(delivery_id, now) > now:
                return False
            self._until[delivery_id] = now + seconds
            self._until.move_to_end(delivery_id)
            if len(self._until) > self._max_entries:
                self._until.popitem(last=False)
            return True

    def forget(self, delivery_id: str) -> None:
        """Forget a delivery that could not be handled, so that a copy of it is accepted."""
        with self._lock:
            self._until.pop(delivery_id, None)

    def __len__(self) -> int:
        return len(self._until)


class WebhookVerifier:
    """Verifies webhook deliveries. Create one and keep it: it is thread-safe and fork-safe.

    Keys are fetched when the first delivery arrives, when they are older than ``max_age``, and when a delivery has an
    unknown key ID, but at most every 30 s. If fetching fails, cached keys are used for up to 24 h.

    Args:
        base_url: The base URL of the platform, as for :class:`~cfplatform.Client`. Keys are fetched from
            ``/api/.well-known/jwks.json`` on its host. Defaults to ``CF_PLATFORM_BASE_URL``, then the
            production API.
        jwks_url: The URL of the keys, if it is different; https, or http on this machine.
        keys: The keys, as the parsed JSON of a key set; nothing is fetched.
        tolerance: Maximum difference between the signed ``deliveredAt`` and now in seconds, 1 to 604,800 (7 days).
        max_age: Maximum age of fetched keys in seconds, 60 to 86,400. A shorter ``Cache-Control: max-age`` from the
            server is respected, down to 60.
        expected: The IDs of the accepted work items, or a function of the event that returns True for accepted ones. It
            gets only events that are signed and recent.
        seen: Stores deliveries to reject exact copies: a :class:`RecentDeliveries`, or any object with a ``remember``
            method. By default, replays are not detected. Exceptions from ``seen`` and ``expected`` are passed on.
        clock: Returns seconds since 1970; for tests with recorded deliveries.

    Raises:
        ConfigurationError: If cryptography is not installed, or an argument is not valid.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        jwks_url: str | None = None,
        keys: Mapping[str, Any] | None = None,
        tolerance: float = 300.0,
        max_age: float = 3600.0,
        expected: Container[str] | Callable[[WebhookEvent], bool] | None = None,
        seen: SeenDeliveries | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if importlib.util.find_spec("cryptography") is None:
            raise ConfigurationError("Webhooks need cryptography: pip install 'cfplatform[webhooks]'")
        if sum(source is not None for source in (base_url, jwks_url, keys)) > 1:
            raise ConfigurationError("Pass only one of base_url, jwks_url and keys.")
        if isinstance(expected, str) or not (expected is None or callable(expected) or isinstance(expected, Container)):
            message = "expected must be a set of work item IDs, or a function of a WebhookEvent."
            raise ConfigurationError(message, parameter="expected")
        if seen is not None and not isinstance(seen, SeenDeliveries):
            message = "seen must have the method remember(delivery_id, seconds) -> bool."
            raise ConfigurationError(message, parameter="seen")
        # Upper limits: otherwise deliveries could be replayed, and a revoked key accepted, indefinitely.
        self._tolerance = _between("tolerance", tolerance, 1.0, 7 * 86_400.0)
        age = _between("max_age", max_age, MIN_AGE, 86_400.0)
        self._expected = expected
        self._seen = seen
        self._clock = clock
        #: The URL of the keys; ``None`` if the keys were given.
        self.jwks_url = _url(base_url, jwks_url) if keys is None else None
        self._given = usable_keys(keys)
        if keys is not None and not self._given:
            raise ConfigurationError(
                "keys must be a key set like {'keys': [{'kty': 'OKP', 'crv': 'Ed25519', 'kid': ..., 'x': ...}]} with "
                "a public Ed25519 key for signatures; no usable key was found.",
                parameter="keys",
            )
        self._fetched = FetchedKeys(self.jwks_url, age, clock) if self.jwks_url else None

    def verify(self, body: bytes, headers: Headers) -> WebhookEvent:
        """Verify that a delivery comes from the platform and is recent, and return its event.

        Blocks for up to 5 s when keys are fetched.

        Args:
            body: The raw body of the request, before any parsing or decoding.
            headers: The headers of the request; names are case-insensitive.

        Raises:
            WebhookVerificationError: If a check fails; ``reason`` is its code.

        Example:
            >>> from cfplatform.webhooks import WebhookVerifier
            >>> body = b'{"workItemID": "item-1", "status": "COMPLETED", "deliveredAt": "2026-07-27T21:00:00Z"}'
            >>> headers = {
            ...     "X-Payload-Key-Id": "key-1",
            ...     "X-Payload-Timestamp": "1785186000",
            ...     "X-Payload-Signature": "wh3E4LeVcXdOwFH7W5nDrchAk2vG4Pw7FwwaacazzXc/"
            ...     "5U9rF+/zkae0fEMvrTx+38kPZmRtSA22IMT/tHKaAA==",
            ... }
            >>> x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
            >>> key = {"kty": "OKP", "crv": "Ed25519", "kid": "key-1", "x": x}
            >>> verifier = WebhookVerifier(keys={"keys": [key]}, clock=lambda: 1785186001.0)
            >>> event = verifier.verify(body, headers)
            >>> event.work_item_id, event.status
            ('item-1', 'COMPLETED')
            >>> event.as_dict()["deliveredAt"]
            '2026-07-27T21:00:00Z'
        """
        if not isinstance(body, bytes):
            raise refused(
                "malformed",
                f"body must be the raw bytes of the request, not {type(body).__name__}: the signature covers the exact "
                "bytes that were sent.",
            )
        if len(body) > MAX_BODY_BYTES:
            raise refused("too_large", f"the body has more than {MAX_BODY_BYTES:,} bytes. Respond with status 413.")
        signature, key_id, sent_at = self._read(headers)
        keys = self._fetched(key_id) if self._fetched else (self._given or {}).get(key_id)
        if not keys:
            raise refused(
                "unknown_key",
                "it has a key ID that the platform does not list. If the platform has just rotated its keys, a "
                "later attempt will succeed: keys are fetched at most every 30 s. Otherwise check that the base URL is "
                "that of the environment that sends the webhooks.",
            )
        if not is_signed(keys, signature, body):
            raise refused(
                "signature",
                "the signature does not match the body. Pass the raw bytes of the request, before a framework or "
                "proxy parses, re-encodes or decompresses them. If they are unchanged, the platform did not send it.",
            )
        event = _event(body, key_id)
        self._check_event(event, sent_at)
        return event

    def _read(self, headers: Headers) -> tuple[bytes, str, float]:
        """Return the signature, the key ID and the time of sending, all validated."""
        found = _signature_headers(headers)
        signature, key_id, seconds = (found[name] for name in _HEADERS)
        decoded = signature_bytes(signature)
        if decoded is None:
            raise refused("malformed", "X-Payload-Signature is not an Ed25519 signature (64 bytes) in base64.")
        if KEY_ID.fullmatch(key_id) is None:
            raise refused("malformed", "X-Payload-Key-Id is not a valid key ID.")
        if _SECONDS.fullmatch(seconds) is None:
            raise refused("malformed", "X-Payload-Timestamp is not an integer number of seconds since 1970.")
        # A cheap first check: the header is not signed.
        self._check_time("X-Payload-Timestamp", float(seconds))
        return decoded, key_id, float(seconds)

    def _check_event(self, event: WebhookEvent, sent_at: float) -> None:
        delivered_at = event.delivered_at.timestamp()
        self._check_time("the signed deliveredAt", delivered_at)
        if abs(delivered_at - sent_at) > self._tolerance:
            raise refused("expired", "X-Payload-Timestamp and the signed deliveredAt contradict each other.")
        expected = self._expected
        # A set of IDs may also be callable, so membership is tested first.
        if expected is not None and not (
            event.work_item_id in expected if isinstance(expected, Container) else expected(event) is True
        ):
            raise refused("unexpected", "it is signed by the platform, but the work item is not in expected=.")
        # Last, so that only accepted deliveries are stored. Twice, because deliveredAt may be in the future.
        if self._seen is not None and not self._seen.remember(event.delivery_id, 2 * self._tolerance + 1):
            raise refused(
                "replayed",
                "an exact copy was accepted before. Respond with a 2xx status and do nothing: it may be a replay "
                "attack, or the platform did not receive the first response.",
            )

    def _check_time(self, name: str, moment: float) -> None:
        away = moment - self._clock()
        if not abs(away) <= self._tolerance:
            raise refused(
                "expired",
                f"{name} is {abs(away):.0f} s in the {'future' if away > 0 else 'past'}, more than the tolerance of "
                f"{self._tolerance:g} s. Check the clock of this machine.",
                parameter="tolerance",
                hint="To allow more, increase tolerance=.",
            )


def _signature_headers(headers: Headers) -> dict[str, str]:
    """Return the three required headers, each of which must occur once."""
    if not callable(getattr(headers, "items", None)):
        raise refused("malformed", f"headers must be a mapping of names to values, not {type(headers).__name__}.")
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = _ascii(name).lower()
        if key not in _HEADERS:
            continue
        if key in found:
            raise refused("malformed", f"the header {key} occurs twice.")
        if not isinstance(value, (str, bytes)):
            raise refused("malformed", f"the header {key} must be a string, not {type(value).__name__}.")
        found[key] = _ascii(value)
    for name in _HEADERS:
        if name not in found:
            message = f"the header {name} is missing. The platform sends it; check that a proxy does not drop it."
            raise refused("malformed", message)
    return found


def _ascii(text: object) -> str:
    """Return a header name or value as text; empty if it is not ASCII, which no check accepts."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return text if isinstance(text, str) and text.isascii() else ""


def _between(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a number of seconds from {least:g} to {most:,g}.", parameter=name)
    return float(value)


def _url(base_url: str | None, jwks_url: str | None) -> str:
    source = "base_url" if jwks_url is None else "jwks_url"
    if jwks_url is None:
        # Plain http is checked below: no API key is sent.
        parts = urlsplit(config.base_url(base_url, allow_insecure_http=True))
        jwks_url = f"{parts.scheme}://{parts.netloc}/api/.well-known/jwks.json"
    try:
        return http.public_url(jwks_url)
    except ConfigurationError as error:
        message = f"{source}: the keys cannot be fetched from there. {error.message}"
        raise ConfigurationError(message, parameter=source) from None


def _event(body: bytes, key_id: str) -> WebhookEvent:
    """Parse a body with a valid signature."""
    data = _parsed(body)
    work_item_id, status = data.get("workItemID"), data.get("status")
    delivered_at = _moment(data.get("deliveredAt"))
    if not (isinstance(work_item_id, str) and work_item_id and isinstance(status, str) and delivered_at):
        raise refused(
            "malformed",
            "its signature is valid, but the body lacks workItemID, status or a deliveredAt with a time zone. Check "
            "for a newer release of cfplatform.",
        )
    return WebhookEvent(
        work_item_id=work_item_id,
        status=status,
        asset_type=_text(data.get("assetType")),
        asset_url=_text(data.get("assetUrl")),
        created_at=_moment(data.get("createdAt")),
        updated_at=_moment(data.get("updatedAt")),
        delivered_at=delivered_at,
        key_id=key_id,
        delivery_id=hashlib.sha256(body).hexdigest(),
        _body=data,
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Decoded here, because json.loads would also accept UTF-16 and UTF-32.
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not _is_flat(data, MAX_DEPTH):
        raise refused(
            "malformed",
            "its signature is valid, but the body is not one JSON object in UTF-8, or is nested deeper than "
            f"{MAX_DEPTH} levels. Check that only webhooks of the CloudFactory AI Platform are sent to this URL.",
        )
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_flat(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(each, levels - 1) for each in inner)


def _moment(value: object) -> datetime | None:
    moment = timestamps.parse_or_none(value)
    return moment if moment is not None and moment.tzinfo is not None else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
