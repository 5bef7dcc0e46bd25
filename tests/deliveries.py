"""Webhook deliveries like those of the platform, signed with generated keys."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.http.scripted import raw

#: 2026-07-27T21:00:00Z.
NOW = 1785186000.0


class Clock:
    """A clock that changes only when it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def unpadded(data: bytes) -> str:
    """Return bytes in the encoding of a JWK."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Signer:
    """A key of the platform, derived from its ID to make failures repeatable."""

    def __init__(self, key_id: str = "KEY-1") -> None:
        self.key_id = key_id
        self.seed = hashlib.sha256(key_id.encode()).digest()
        self._key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._key.public_key().public_bytes_raw()

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as the platform publishes it; a value of ``None`` omits the member."""
        entry = {"kty": "OKP", "crv": "Ed25519", "x": unpadded(self.public), "kid": self.key_id}
        entry.update(use="sig", alg="EdDSA")
        entry.update(changes)
        return {name: value for name, value in entry.items() if value is not None}

    def sign(self, body: bytes) -> bytes:
        """Return the 64 bytes of a signature."""
        return self._key.sign(body)

    def deliver(self, body: bytes | None = None, at: float = NOW, **fields: Any) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a delivery sent at a given time."""
        body = payload(at, **fields) if body is None else body
        return body, {
            "Content-Type": "application/json",
            "X-Payload-Signature": base64.b64encode(self.sign(body)).decode(),
            "X-Payload-Key-Id": self.key_id,
            "X-Payload-Timestamp": str(int(at)),
        }


def moment(at: float) -> str:
    """Return a time in the platform's format."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def payload(at: float = NOW, **fields: Any) -> bytes:
    """Return the body of a delivery."""
    data = {
        "workItemID": "c2fe4a5d-ae6e-4005-8845-d10c59218302",
        "assetType": "video",
        "assetUrl": "some_asset_directory/d5f6a12b-59ab-406d-8182-2aeab782cc2a",
        "createdAt": "2026-07-11T11:52:37+05:45",
        "status": "COMPLETED",
        "updatedAt": "2026-07-27T20:36:59+05:45",
        "deliveredAt": moment(at),
        **fields,
    }
    return json.dumps(data).encode()


def key_set(*signers: Signer) -> dict[str, Any]:
    """Return the key set of some keys."""
    return {"keys": [signer.jwk() for signer in signers]}


def published(*signers: Signer, headers: tuple[str, ...] = ()) -> bytes:
    """Return the response of a key server."""
    return raw(200, json.dumps(key_set(*signers)).encode(), "Content-Type: application/json", *headers)
