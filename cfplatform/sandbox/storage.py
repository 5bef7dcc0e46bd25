"""The storage bucket: signed URLs and stored files."""

from __future__ import annotations

import hashlib
import hmac
import math
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode

from .formats import now
from .settings import Settings

BUCKET = "cf-sandbox"
STORAGE_PREFIX = "/storage"

_PIECE = 1 << 20

Method = Literal["GET", "PUT"]


class Signer:
    def __init__(self, key: bytes, settings: Settings) -> None:
        self._key = key
        self._settings = settings
        self._generation = 0

    def expire_all(self) -> None:
        self._generation += 1

    def sign(self, origin: str, key: str, *, method: Method = "GET", lifetime: float | None = None) -> str:
        """Return a signed URL for reading or writing an object; ``lifetime`` defaults to the setting."""
        moment = time.time()
        lifetime = self._settings.url_lifetime if lifetime is None else lifetime
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"SANDBOX/{date[:8]}/us-east-1/s3/aws4_request",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(math.ceil(lifetime)),
            # The other fields have a resolution of one second; this one makes URLs expire to the millisecond.
            "X-Amz-Security-Token": f"{self._generation}.{int((moment + lifetime) * 1000)}",
            "X-Amz-SignedHeaders": "host",
        }
        query["X-Amz-Signature"] = self._signature(method, key, query)
        return f"{origin}{STORAGE_PREFIX}/{BUCKET}/{quote(key)}?{urlencode(query)}"

    def error(self, key: str, query: Mapping[str, str], method: Method) -> tuple[str, str] | None:
        """Return the code and message of the error in the query of a signed URL, if any.

        A URL for reading does not allow writing, and vice versa.
        """
        if "X-Amz-Signature" not in query:
            return "AccessDenied", "Access Denied"
        if not hmac.compare_digest(self._signature(method, key, query).encode(), query["X-Amz-Signature"].encode()):
            return (
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
            )
        generation, _, deadline = query["X-Amz-Security-Token"].partition(".")
        if int(generation) != self._generation or time.time() * 1000 >= int(deadline):
            return "AccessDenied", "Request has expired"
        return None

    def _signature(self, method: Method, key: str, query: Mapping[str, str]) -> str:
        fields = (f"{name}={value}" for name, value in sorted(query.items()) if name != "X-Amz-Signature")
        return hmac.digest(self._key, "\n".join((method, key, *fields)).encode(), "sha256").hex()


@dataclass(frozen=True)
class StoredObject:
    """An object in the bucket: bytes, or a file, which is deleted with the object if ``owned``."""

    content: bytes | Path
    content_type: str
    size: int
    etag: str
    modified_at: int
    owned: bool = False

    @classmethod
    def of_bytes(cls, content: bytes, content_type: str, modified_at: int) -> StoredObject:
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return cls(content, content_type, len(content), etag, modified_at)


class Objects:
    """Uploads and export zips: files by their path in the space."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stored: dict[str, StoredObject] = {}
        self._folder: Path | None = None
        self._files = 0

    def new_file(self) -> Path:
        """Return an unused file path."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="cfplatform-sandbox-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._files += 1
            return self._folder / f"{self._files:08d}"

    def put(
        self, path: str, file: Path, content_type: str, *, md5: str | None = None, owned: bool = True
    ) -> StoredObject:
        """Store a complete file under a path, replacing the previous one; ``md5`` avoids reading it.

        Raises:
            OSError: If the file cannot be read.
        """
        found = StoredObject(file, content_type, file.stat().st_size, md5 or _md5_of(file), now(), owned)
        with self._lock:
            self.remove(path)
            self._stored[path] = found
        return found

    def get(self, path: str) -> StoredObject | None:
        return self._stored.get(path)

    def remove(self, path: str) -> None:
        with self._lock:
            found = self._stored.pop(path, None)
        if found is not None and found.owned and isinstance(found.content, Path):
            # Windows refuses while the file is being sent; it is then deleted with the folder.
            with suppress(OSError):
                found.content.unlink()

    def clear(self) -> None:
        for path in list(self._stored):
            self.remove(path)


def _md5_of(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as source:
        while piece := source.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
