"""Public keys: validation, fetching and caching."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..exceptions import TransportError, WebhookVerificationError
from ..http import get_public

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: Total timeout for fetching keys in seconds.
FETCH_SECONDS = 5.0
#: Maximum size of a key set in bytes: a few hundred keys.
MAX_SET_BYTES = 64 * 1024
#: Minimum number of seconds between fetches, so that made-up key IDs cannot cause more.
COOL_DOWN = 30.0
#: Minimum number of seconds to cache keys, whatever ``Cache-Control`` allows.
MIN_AGE = 60.0
#: Maximum age of keys in seconds while newer ones cannot be fetched.
MAX_STALE = 86_400.0
#: Seconds that the clock may step back before keys count as outdated.
_CLOCK_STEP = 60.0

#: The prime of the field of Curve25519, and the order of the group of signatures.
_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
#: The y coordinates of all points of small order. With such a "key", anyone can sign.
_SMALL_ORDER = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})

#: Up to 128 visible ASCII characters.
KEY_ID = re.compile(r"[!-~]{1,128}")
_X = re.compile(r"[A-Za-z0-9_-]{43}")
_SIGNATURE = re.compile(r"(?:[A-Za-z0-9+/]{86}|[A-Za-z0-9_-]{86})(?:==)?")
#: The ``Cache-Control`` directives about age; those that forbid caching have no number.
_AGES = re.compile(r"(?i)(?:^|[,\s])(?:max-age\s*=\s*\"?([0-9]{1,10})|no-(?:store|cache))\b")


def refused(
    reason: str, message: str, *, parameter: str | None = None, hint: str | None = None
) -> WebhookVerificationError:
    """Return the error for a rejected delivery; its message never contains delivered data."""
    error = WebhookVerificationError(f"The webhook delivery was rejected: {message}", parameter=parameter, hint=hint)
    error.reason = reason
    return error


def signature_bytes(text: str) -> bytes | None:
    """Decode a base64 signature in either alphabet, with or without padding; ``None`` unless it is canonical, 64 bytes.

    The second half is a number that must be below the order of the group: a larger number would be another encoding of
    the same signature.
    """
    if _SIGNATURE.fullmatch(text) is None:
        return None
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    signature = base64.b64decode(plain + "==")
    canonical = base64.b64encode(signature) == plain.encode() + b"=="
    return signature if canonical and int.from_bytes(signature[32:], "little") < _L else None


def is_signed(keys: tuple[Ed25519PublicKey, ...], signature: bytes, body: bytes) -> bool:
    """Return whether one of the keys made a signature of exactly these bytes."""
    from cryptography.exceptions import InvalidSignature

    for key in keys:
        with contextlib.suppress(InvalidSignature):
            key.verify(signature, body)
            return True
    return False


def usable_keys(key_set: object) -> dict[str, tuple[Ed25519PublicKey, ...]] | None:
    """Return the usable keys of a set by ID; ``None`` if it is not a key set."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    listed = key_set.get("keys") if isinstance(key_set, Mapping) else None
    if not isinstance(listed, (list, tuple)):
        return None
    found: dict[str, tuple[Ed25519PublicKey, ...]] = {}
    for entry in listed:
        raw = _raw_key(entry) if isinstance(entry, Mapping) else None
        if raw is not None:
            found[entry["kid"]] = (*found.get(entry["kid"], ()), Ed25519PublicKey.from_public_bytes(raw))
    return found


def _raw_key(entry: Mapping[str, Any]) -> bytes | None:
    """Return the 32 bytes of a public Ed25519 key that is for signatures and safe to use."""
    kid, x, operations = entry.get("kid"), entry.get("x"), entry.get("key_ops", ["verify"])
    is_for_this = (
        (entry.get("kty"), entry.get("crv")) == ("OKP", "Ed25519")
        and entry.get("alg", "EdDSA") in ("EdDSA", "Ed25519")
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, (list, tuple))
        and "verify" in operations
    )
    # A key set that exposes a private key cannot be trusted.
    if not is_for_this or "d" in entry or not (isinstance(kid, str) and KEY_ID.fullmatch(kid)):
        return None
    if not isinstance(x, str) or _X.fullmatch(x) is None:
        return None
    raw = base64.urlsafe_b64decode(x + "=")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    canonical = base64.urlsafe_b64encode(raw) == x.encode() + b"=" and y < _P
    return raw if canonical and y not in _SMALL_ORDER else None


class _Fetched(NamedTuple):
    keys: Mapping[str, tuple[Ed25519PublicKey, ...]]
    at: float
    max_age: float


class FetchedKeys:
    """The keys at a URL, fetched on demand, by one thread at a time."""

    def __init__(self, url: str, max_age: float, clock: Callable[[], float]) -> None:
        self._url = url
        self._max_age = max_age
        self._clock = clock
        self._held: _Fetched | None = None
        self._tried_at: float | None = None
        self._problem = ""
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __call__(self, key_id: str) -> tuple[Ed25519PublicKey, ...]:
        if not self._is_current(key_id):
            if self._pid != os.getpid():
                # When this process was forked, a thread of the parent may have held the lock.
                self._lock, self._pid = threading.Lock(), os.getpid()
            with self._lock:
                # Check again: another thread may have fetched it.
                if not self._is_current(key_id) and not self._within(COOL_DOWN, self._tried_at):
                    self._fetch()
        held, problem = self._held, self._problem
        if held is not None and key_id in held.keys and self._within(MAX_STALE, held.at):
            return held.keys[key_id]
        if problem:
            raise refused(
                "keys_unavailable",
                "the platform's keys could not be fetched, and the key of the delivery is not cached. "
                f"{problem.rstrip('.')}. Respond with status 503 to get the delivery again; keys are fetched at most "
                f"every {COOL_DOWN:g} s.",
                parameter="keys",
                hint="To verify without fetching, pass keys=...",
            )
        return ()

    def _is_current(self, key_id: str) -> bool:
        held = self._held
        return held is not None and key_id in held.keys and self._within(held.max_age, held.at)

    def _within(self, seconds: float, since: float | None) -> bool:
        return since is not None and -_CLOCK_STEP <= self._clock() - since < seconds

    def _fetch(self) -> None:
        """Replace the cached keys, or keep them and store the error."""
        problem = f"GET {self._url}: the response is not a key set in JSON."
        try:
            document, cache_control = get_public(self._url, limit=MAX_SET_BYTES, seconds=FETCH_SECONDS)
            found = usable_keys(json.loads(document))
            if found is not None:
                ages = [max(MIN_AGE, float(age or 0)) for age in _AGES.findall(cache_control)]
                self._held, problem = _Fetched(found, self._clock(), min([self._max_age, *ages])), ""
        except (TransportError, ValueError, RecursionError) as error:
            problem = error.message if isinstance(error, TransportError) else problem
        finally:
            # Counted from the end, so that a slow server does not use up the cool-down.
            self._problem, self._tried_at = problem, self._clock()
