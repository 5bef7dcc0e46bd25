"""Is a stored object the one that the storage has? Its size is bounded, and the checksums on offer are compared."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..exceptions import DownloadError, IncompleteDownloadError

#: Bytes of one stored object, at the most, as sent and as decompressed. Far above any COCO document, and low enough
#: that a server gone mad, or a small body that unpacks to a huge one, does not fill the disk.
MAX_OBJECT_BYTES = 4 * 1024 * 1024 * 1024


def too_large(limit: int) -> DownloadError:
    """Return the error of an object that has too many bytes. It is not repeated: the object would not shrink."""
    return DownloadError(f"The object is larger than {limit} bytes, the most that is read; it was not read further.")


def capped(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Pass on bytes up to a limit.

    Raises:
        DownloadError: If there are more.
    """
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        yield chunk


class _CRC32:
    """As the objects of hashlib; crc32c is not in Python's library."""

    digest_size = 4
    _value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_MD5 = functools.partial(hashlib.md5, usedforsecurity=False)
_HASHES: dict[str, Callable[[], Any]] = {
    "Content-MD5": _MD5,
    "x-goog-hash": _MD5,
    "x-amz-checksum-sha256": hashlib.sha256,
    "x-amz-checksum-sha1": functools.partial(hashlib.sha1, usedforsecurity=False),
    "x-amz-checksum-crc32": _CRC32,
}


class Checksums:
    """Computes every checksum that an answer offers of its body, as sent.

    ``ETag`` is not one of them: it is an MD5 only for some objects, and nothing tells which.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._offered: list[tuple[str, bytes, Any]] = []
        names = set(map(str.lower, headers))
        for name, make in _HASHES.items():
            if name.lower() not in names:
                continue
            try:
                text = _google_md5(headers) if name == "x-goog-hash" else headers[name]
                value = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            computed = make()
            # Checksums of objects that were uploaded in parts have another form, and are checksums of checksums.
            if len(value) == computed.digest_size:
                self._offered.append((name, value, computed))

    def update(self, chunk: bytes) -> None:
        """Add bytes."""
        for _, _, computed in self._offered:
            computed.update(chunk)

    def verify(self) -> None:
        """Compare what was computed with what was offered.

        Raises:
            IncompleteDownloadError: If one differs.
        """
        for name, expected, computed in self._offered:
            if computed.digest() != expected:
                raise IncompleteDownloadError(f"The object's bytes do not have the checksum that {name} announced.")


def _google_md5(headers: Mapping[str, str]) -> str:
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    match = re.search(r"(?:^|,)\s*md5=([^,\s]+)", headers["x-goog-hash"])
    # Where the storage decompressed the object on its way, the checksum is that of the compressed one.
    return match.group(1) if match and stored == headers.get("Content-Encoding", "identity") else ""
