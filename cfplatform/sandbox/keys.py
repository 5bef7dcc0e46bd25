"""The Ed25519 keys that webhooks are signed with.

``cryptography`` is imported when a key is needed, so that a sandbox without webhooks does without it.
"""

from __future__ import annotations

import base64
import threading
import time
from typing import TYPE_CHECKING, Any

from .ids import Identifiers

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SigningKeys:
    """The present key, and those that are still published; all are derived from the seed."""

    def __init__(self, ids: Identifiers) -> None:
        self._ids = ids
        self._lock = threading.Lock()
        self._present = 0
        self._published = [0]

    @property
    def key_id(self) -> str:
        """The id of the present key."""
        return self._key_id(self._present)

    def rotate(self, *, keep_old: bool) -> None:
        """Sign with a new key from now on, and publish the old ones too, or no longer."""
        with self._lock:
            self._present += 1
            self._published = [self._present, *(self._published if keep_old else ())]

    def reset(self) -> None:
        """Go back to the first key."""
        with self._lock:
            self._present, self._published = 0, [0]

    def sign(self, body: bytes) -> dict[str, str]:
        """Return the headers that a signed body is sent with."""
        with self._lock:
            number = self._present
        signature = self._private(number).sign(body)
        return {
            "Content-Type": "application/json",
            "X-Payload-Signature": base64.b64encode(signature).decode(),
            "X-Payload-Key-Id": self._key_id(number),
            "X-Payload-Timestamp": str(int(time.time())),
        }

    def as_jwks(self) -> dict[str, Any]:
        """Return the published keys as a JSON Web Key Set."""
        with self._lock:
            published = list(self._published)
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": self._public(number),
                    "kid": self._key_id(number),
                    "use": "sig",
                    "alg": "EdDSA",
                }
                for number in published
            ]
        }

    def _key_id(self, number: int) -> str:
        return self._ids.encode("webhook key", number).upper()

    def _public(self, number: int) -> str:
        raw = self._private(number).public_key().public_bytes_raw()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _private(self, number: int) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._ids.digest("webhook secret", number, 32))
