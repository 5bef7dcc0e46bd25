"""Webhooks: prove that a delivery was signed by the platform, is fresh, and is meant for you.

Needs the extra ``webhooks`` (cryptography), which is imported when the first verifier is built.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from .. import config, http
from ..exceptions import ConfigurationError
from .event import RecentDeliveries, SeenDeliveries, WebhookEvent, read_event, refused
from .keys import KEY_ID, MIN_AGE, FetchedKeys, Find, given_keys, is_signed, require_cryptography, signature_bytes

__all__ = ["MAX_BODY_BYTES", "Headers", "RecentDeliveries", "SeenDeliveries", "WebhookEvent", "WebhookVerifier"]

#: Bytes of a body, at the most; the platform's have some hundred.
MAX_BODY_BYTES = 1024 * 1024
#: Seconds that a delivery may be old, or ahead of this machine's clock.
DEFAULT_TOLERANCE = 300.0
#: A bound of our own: with a longer one a delivery could be replayed for ever.
MAX_TOLERANCE = 7 * 86_400.0
#: Seconds that fetched keys are used before they are fetched again.
DEFAULT_MAX_AGE = 3600.0
#: A bound of our own: with more a withdrawn key would be believed for days.
MAX_MAX_AGE = 86_400.0

_SIGNATURE, _KEY_ID, _TIMESTAMP = "x-payload-signature", "x-payload-key-id", "x-payload-timestamp"
_SECONDS = re.compile(r"[0-9]{1,11}")


class Headers(Protocol):
    """Headers of a request: a dict, or what http.server, Flask, Django and Starlette call headers."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return pairs of a name and a value."""
        ...


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
        seen: Remembers deliveries, so that an exact copy is refused: a :class:`RecentDeliveries`, or an object of your
            own with its method ``remember``. Nothing is remembered if omitted. What this and ``expected`` raise is
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
        tolerance: float = DEFAULT_TOLERANCE,
        max_age: float = DEFAULT_MAX_AGE,
        expected: Container[str] | Callable[[WebhookEvent], bool] | None = None,
        seen: SeenDeliveries | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_cryptography()
        if sum(source is not None for source in (base_url, jwks_url, keys)) > 1:
            raise ConfigurationError("Pass one of base_url, jwks_url and keys: each says where the keys come from.")
        if expected is not None and (
            isinstance(expected, str) or not (callable(expected) or isinstance(expected, Container))
        ):
            raise ConfigurationError(
                "expected must be a set of work item ids, or a function of a WebhookEvent.", parameter="expected"
            )
        if seen is not None and not isinstance(seen, SeenDeliveries):
            raise ConfigurationError(
                "seen must have the method remember(delivery_id, seconds) -> bool.", parameter="seen"
            )
        self._tolerance = _between("tolerance", tolerance, 1.0, MAX_TOLERANCE)
        self._expected = expected
        self._seen = seen
        self._clock = clock
        age = _between("max_age", max_age, MIN_AGE, MAX_MAX_AGE)
        #: Where the keys are fetched; ``None`` if they were given.
        self.jwks_url = _url(base_url, jwks_url) if keys is None else None
        self._find: Find = FetchedKeys(self.jwks_url, age, clock) if self.jwks_url else given_keys(keys or {})

    def verify(self, body: bytes, headers: Headers) -> WebhookEvent:
        """Prove that a delivery comes from the platform and is fresh, and return what it says.

        Fetching keys can take 5 s; otherwise it does not wait.

        Args:
            body: The raw body of the request, before anything has parsed or decoded it.
            headers: The headers of the request; upper and lower case do not matter.

        Raises:
            WebhookVerificationError: If anything is wrong; its ``reason`` says what in one word.

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
            raise refused("too_large", f"the body has more than {MAX_BODY_BYTES} bytes. Answer with status 413.")
        signature, key_id, sent_at = self._read(headers)
        keys = self._find(key_id)
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
        event = read_event(body, key_id=key_id, delivery_id=hashlib.sha256(body).hexdigest())
        self._check_event(event, sent_at)
        return event

    def _read(self, headers: Headers) -> tuple[bytes, str, float]:
        """Return signature, key id and time of sending, each in its proper form."""
        found = _wanted(headers)
        signature = signature_bytes(found[_SIGNATURE])
        if signature is None:
            raise refused("malformed", "X-Payload-Signature is not an Ed25519 signature (64 bytes) in base64.")
        if KEY_ID.fullmatch(found[_KEY_ID]) is None:
            raise refused("malformed", "X-Payload-Key-Id is not the id of a key.")
        if _SECONDS.fullmatch(found[_TIMESTAMP]) is None:
            raise refused("malformed", "X-Payload-Timestamp is not a whole number of seconds since 1970.")
        sent_at = float(found[_TIMESTAMP])
        # Cheap, and no proof of anything: the header is not signed.
        self._check_time("X-Payload-Timestamp", sent_at)
        return signature, found[_KEY_ID], sent_at

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
                "an exact copy of it was accepted before. Answer with a 2xx status and do nothing: it may be an "
                "attack, or the platform that did not get the first answer.",
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
        if key not in (_SIGNATURE, _KEY_ID, _TIMESTAMP):
            continue
        if key in found:
            raise refused("malformed", f"the header {key} is there twice.")
        if not isinstance(value, (str, bytes)):
            raise refused("malformed", f"the header {key} must be a text, not {type(value).__name__}.")
        found[key] = _ascii(value)
    missing = {_SIGNATURE, _KEY_ID, _TIMESTAMP} - set(found)
    if missing:
        raise refused(
            "malformed",
            f"the header {min(missing)} is missing. The platform sends it; check that a proxy does not drop it.",
        )
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
