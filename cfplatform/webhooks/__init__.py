"""Webhooks: verify that a delivery was signed by the platform, is fresh, and is meant for you.

Needs the extra ``webhooks`` (cryptography), which is imported when the first verifier is built.
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

#: Maximum size of a body in bytes; the platform's have some hundred.
MAX_BODY_BYTES = 1024 * 1024
#: Maximum number of objects and lists inside each other; the platform sends one.
MAX_DEPTH = 64

_HEADERS = ("x-payload-signature", "x-payload-key-id", "x-payload-timestamp")
_SECONDS = re.compile(r"[0-9]{1,11}")


class Headers(Protocol):
    """Headers of a request: a dict, or what http.server, Flask, Django and Starlette call headers."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return pairs of a name and a value."""
        ...


@dataclass(frozen=True)
class WebhookEvent:
    """A change of a work item's status, from a verified delivery.

    Attributes:
        work_item_id: The work item.
        status: Its new status; the platform may add statuses, so any text can come.
        asset_type: Such as ``"image"``, or ``None``.
        asset_url: The asset's storage path, or ``None``.
        created_at: When the work item was created, with a time zone; ``None`` where the platform sent no readable time.
        updated_at: When it changed, likewise.
        delivered_at: When the platform sent this, with a time zone. A repeated delivery has a later one.
        key_id: The key that signed it.
        delivery_id: SHA-256 of the signed body in hexadecimal: two deliveries are copies of each other exactly if it
            is the same.
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
    """What ``WebhookVerifier(seen=...)`` takes. Redis' ``SET key 1 NX EX seconds`` is exactly this method."""

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Remember a delivery, in one step that no other thread or process can come between.

        Args:
            delivery_id: 64 hexadecimal digits.
            seconds: How long; after that the delivery is refused for its age.

        Returns:
            True if it is new, False if it was remembered already.
        """
        ...


class RecentDeliveries:
    """Remembers deliveries in the memory of this process; safe to use from many threads.

    It is not shared with other processes, and is empty after a restart.

    Args:
        max_entries: Maximum number of deliveries, some 250 bytes each. When it is full, the oldest one is dropped
            early, and a copy of it would be accepted. Only deliveries with a good signature get here.

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
            raise ConfigurationError("max_entries must be an integer from 1 up.", parameter="max_entries")
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Remember a delivery for some seconds; return False if it was remembered already."""
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
        """Forget a delivery that could not be handled, so that the same one is accepted again."""
        with self._lock:
            self._until.pop(delivery_id, None)

    def __len__(self) -> int:
        return len(self._until)


class WebhookVerifier:
    """Verifies deliveries of webhooks; build one and keep it. Safe to use from many threads, and after a fork.

    The keys are fetched when the first delivery arrives, and again when they are older than ``max_age`` or one is
    named that is not known, but never twice within 30 s. While newer ones cannot be fetched, those at hand are used
    for up to 24 h.

    Args:
        base_url: The platform's base URL, as for :class:`~cfplatform.Client`; its host's
            ``/api/.well-known/jwks.json`` holds the keys. ``CF_PLATFORM_BASE_URL``, else production, if omitted.
        jwks_url: Where the keys are, if it is another place; https, or http on this machine.
        keys: The keys themselves, as the parsed JSON of a key set; then nothing is fetched.
        tolerance: Seconds that the signed ``deliveredAt`` may be in the past or the future, 1 s to 7 days.
        max_age: Seconds that fetched keys are used, 60 to 86400; a shorter ``Cache-Control: max-age`` of the server
            is followed down to 60.
        expected: The ids of the work items that events may be about, or a function of the event that returns True for
            those that are yours. It sees only events that are signed and fresh.
        seen: Remembers deliveries, so that an exact copy is refused: a :class:`RecentDeliveries`, or your own object
            with a ``remember`` method. Replays are not detected if omitted. Exceptions from this and ``expected`` are
            passed on.
        clock: Returns seconds since 1970; for tests with recorded deliveries.

    Raises:
        ConfigurationError: If cryptography is not installed or an argument cannot be used.
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
            raise ConfigurationError("Pass one of base_url, jwks_url and keys: each is a source of keys.")
        if isinstance(expected, str) or not (expected is None or callable(expected) or isinstance(expected, Container)):
            message = "expected must be a set of work item ids, or a function of a WebhookEvent."
            raise ConfigurationError(message, parameter="expected")
        if seen is not None and not isinstance(seen, SeenDeliveries):
            message = "seen must have the method remember(delivery_id, seconds) -> bool."
            raise ConfigurationError(message, parameter="seen")
        # Our own bounds: with longer ones, deliveries could be replayed and a withdrawn key accepted indefinitely.
        self._tolerance = _between("tolerance", tolerance, 1.0, 7 * 86_400.0)
        age = _between("max_age", max_age, MIN_AGE, 86_400.0)
        self._expected = expected
        self._seen = seen
        self._clock = clock
        #: Where the keys are fetched; ``None`` if they were given.
        self.jwks_url = _url(base_url, jwks_url) if keys is None else None
        self._given = usable_keys(keys)
        if keys is not None and not self._given:
            raise ConfigurationError(
                "keys must be a key set like {'keys': [{'kty': 'OKP', 'crv': 'Ed25519', 'kid': ..., 'x': ...}]} with "
                "a public Ed25519 key for signatures; nothing in it can be used.",
                parameter="keys",
            )
        self._fetched = FetchedKeys(self.jwks_url, age, clock) if self.jwks_url else None

    def verify(self, body: bytes, headers: Headers) -> WebhookEvent:
        """Verify that a delivery comes from the platform and is fresh, and return its event.

        Fetching keys can take 5 s; otherwise it does not wait.

        Args:
            body: The raw body of the request, before anything has parsed or decoded it.
            headers: The headers of the request; upper and lower case do not matter.

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
                f"body must be the exact raw bytes of the request, not {type(body).__name__}: text or parsed JSON "
                "cannot be turned back into the bytes that were signed.",
            )
        if len(body) > MAX_BODY_BYTES:
            raise refused("too_large", f"the body has more than {MAX_BODY_BYTES} bytes. Respond with status 413.")
        signature, key_id, sent_at = self._read(headers)
        keys = self._fetched(key_id) if self._fetched else (self._given or {}).get(key_id)
        if not keys:
            raise refused(
                "unknown_key",
                "it names a key that the platform does not list. If the platform has just changed its keys, one of the "
                "next attempts will work: keys are fetched at most every 30 s. Otherwise check that the base URL "
                "is that of the environment that sends to you.",
            )
        if not is_signed(keys, signature, body):
            raise refused(
                "signature",
                "the signature does not belong to this body. Pass the raw bytes of the request, before a framework or "
                "a proxy has parsed, re-encoded or decompressed them; else it was not sent by the platform.",
            )
        event = _event(body, key_id)
        self._check_event(event, sent_at)
        return event

    def _read(self, headers: Headers) -> tuple[bytes, str, float]:
        """Return signature, key id and time of sending, each in its proper form."""
        found = _wanted(headers)
        signature, key_id, seconds = (found[name] for name in _HEADERS)
        decoded = signature_bytes(signature)
        if decoded is None:
            raise refused("malformed", "X-Payload-Signature is not an Ed25519 signature (64 bytes) in base64.")
        if KEY_ID.fullmatch(key_id) is None:
            raise refused("malformed", "X-Payload-Key-Id is not a valid key id.")
        if _SECONDS.fullmatch(seconds) is None:
            raise refused("malformed", "X-Payload-Timestamp is not an integer number of seconds since 1970.")
        # Cheap, but not authenticated: the header is not signed.
        self._check_time("X-Payload-Timestamp", float(seconds))
        return decoded, key_id, float(seconds)

    def _check_event(self, event: WebhookEvent, sent_at: float) -> None:
        delivered_at = event.delivered_at.timestamp()
        self._check_time("the signed deliveredAt", delivered_at)
        if abs(delivered_at - sent_at) > self._tolerance:
            raise refused("expired", "X-Payload-Timestamp and the signed deliveredAt contradict each other.")
        expected = self._expected
        # A set of ids may be callable too, so what it contains comes first.
        if expected is not None and not (
            event.work_item_id in expected if isinstance(expected, Container) else expected(event) is True
        ):
            raise refused("unexpected", "it is signed by the platform, but expected= does not know the work item.")
        # Last, so that only what is accepted is remembered; twice, because deliveredAt may lie in the future.
        if self._seen is not None and not self._seen.remember(event.delivery_id, 2 * self._tolerance + 1):
            raise refused(
                "replayed",
                "an exact copy of it was accepted before. Respond with a 2xx status and do nothing: it may be an "
                "attack, or the platform that did not get the first response.",
            )

    def _check_time(self, name: str, moment: float) -> None:
        away = moment - self._clock()
        if not abs(away) <= self._tolerance:
            raise refused(
                "expired",
                f"{name} is {abs(away):.0f} s in the {'future' if away > 0 else 'past'}, more than the tolerance of "
                f"{self._tolerance:g} s. Check that this machine's clock is right.",
                parameter="tolerance",
                hint="tolerance= allows more.",
            )


def _wanted(headers: Headers) -> dict[str, str]:
    """Return the three headers, each of which must be there once."""
    if not callable(getattr(headers, "items", None)):
        raise refused("malformed", f"headers must be a mapping of names to values, not {type(headers).__name__}.")
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = _ascii(name).lower()
        if key not in _HEADERS:
            continue
        if key in found:
            raise refused("malformed", f"the header {key} is there twice.")
        if not isinstance(value, (str, bytes)):
            raise refused("malformed", f"the header {key} must be a string, not {type(value).__name__}.")
        found[key] = _ascii(value)
    for name in _HEADERS:
        if name not in found:
            message = f"the header {name} is missing. The platform sends it; check that a proxy does not drop it."
            raise refused("malformed", message)
    return found


def _ascii(text: object) -> str:
    """Return a header's name or value as text; what is not ASCII becomes the empty text, which no check accepts."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return text if isinstance(text, str) and text.isascii() else ""


def _between(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a number of seconds from {least:g} to {most:g}.", parameter=name)
    return float(value)


def _url(base_url: str | None, jwks_url: str | None) -> str:
    source = "base_url" if jwks_url is None else "jwks_url"
    if jwks_url is None:
        # Plain http is judged below, where no API key is at stake.
        parts = urlsplit(config.base_url(base_url, allow_insecure_http=True))
        jwks_url = f"{parts.scheme}://{parts.netloc}/api/.well-known/jwks.json"
    try:
        return http.public_url(jwks_url)
    except ConfigurationError as error:
        message = f"{source}: the keys cannot be fetched from there. {error.message}"
        raise ConfigurationError(message, parameter=source) from None


def _event(body: bytes, key_id: str) -> WebhookEvent:
    """Read a body whose signature is good."""
    data = _parsed(body)
    work_item_id, status = data.get("workItemID"), data.get("status")
    delivered_at = _moment(data.get("deliveredAt"))
    if not (isinstance(work_item_id, str) and work_item_id and isinstance(status, str) and delivered_at):
        raise refused(
            "malformed",
            "its signature is good, but the body lacks workItemID, status or a deliveredAt with a time zone. A newer "
            "release of cfplatform may know this kind of message.",
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
        # Decoded here, because json.loads would also take UTF-16 and UTF-32.
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not _is_flat(data, MAX_DEPTH):
        raise refused(
            "malformed",
            "its signature is good, but the body is not one JSON object in UTF-8, or is nested deeper than "
            f"{MAX_DEPTH} levels. Check that the URL receives webhooks of the CloudFactory AI Platform only.",
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
