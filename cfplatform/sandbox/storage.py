"""Signed URLs as an object store makes and checks them."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlencode

ALGORITHM = "AWS4-HMAC-SHA256"

Method = Literal["GET", "PUT"]


class SignatureError(Exception):
    """A signed URL that does not open anything; ``code`` is the object store's word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Signer:
    """Signs paths of the bucket and checks the signatures."""

    def __init__(self, key: bytes, *, prefix: str, lifetime: float) -> None:
        self._key = key
        self._prefix = prefix
        self._generation = 0
        self.lifetime = lifetime

    def expire_all(self) -> None:
        """Make every URL that was signed so far an expired one."""
        self._generation += 1

    def sign(self, origin: str, key: str, *, method: Method = "GET", lifetime: float | None = None) -> str:
        """Return a URL that opens an object, for reading or for writing, for the given or the present lifetime."""
        now = time.time()
        lifetime = self.lifetime if lifetime is None else lifetime
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        query = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"SANDBOX/{date[:8]}/us-east-1/s3/aws4_request",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(math.ceil(lifetime)),
            # The other fields know whole seconds only; this one lets a URL expire to the millisecond.
            "X-Amz-Security-Token": f"{self._generation}.{int((now + lifetime) * 1000)}",
            "X-Amz-SignedHeaders": "host",
        }
        query["X-Amz-Signature"] = self._signature(method, key, query)
        return f"{origin}{self._prefix}{quote(key)}?{urlencode(query)}"

    def check(self, key: str, query: Mapping[str, str], *, method: Method = "GET") -> None:
        """Check the query of a signed URL; one for reading does not let anybody write, nor the other way round.

        Raises:
            SignatureError: If it is not signed, was changed, or has expired.
        """
        if "X-Amz-Signature" not in query:
            raise SignatureError("AccessDenied", "Access Denied")
        if not hmac.compare_digest(self._signature(method, key, query).encode(), query["X-Amz-Signature"].encode()):
            raise SignatureError(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
            )
        generation, _, deadline = query["X-Amz-Security-Token"].partition(".")
        if int(generation) != self._generation or time.time() * 1000 >= int(deadline):
            raise SignatureError("AccessDenied", "Request has expired")

    def _signature(self, method: Method, key: str, query: Mapping[str, str]) -> str:
        signed = [
            method,
            key,
            *(f"{name}={value}" for name, value in sorted(query.items()) if name != "X-Amz-Signature"),
        ]
        return hmac.digest(self._key, "\n".join(signed).encode(), "sha256").hex()
