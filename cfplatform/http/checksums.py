"""Checks of a stored object while it is read: its size, and the checksums that the storage offers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping

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


class Checksums:
    """Computes every checksum that an answer offers of its body, as sent.

    ``ETag`` is not one of them: it is an MD5 only for some objects, and nothing tells which.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._offered = _offered(headers)

    def update(self, chunk: bytes) -> None:
        """Add bytes."""
        for _, _, update, _ in self._offered:
            update(chunk)

    def verify(self) -> None:
        """Compare what was computed with what was offered.

        Raises:
            IncompleteDownloadError: If one differs.
        """
        for name, expected, _, digest in self._offered:
            if digest() != expected:
                raise IncompleteDownloadError(f"The object's bytes do not have the checksum that {name} announced.")


class _CRC32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> hashlib._Hash:
    return hashlib.sha1(usedforsecurity=False)


_CHECKSUMS = frozenset(
    ("content-md5", "x-goog-hash", "x-amz-checksum-sha256", "x-amz-checksum-sha1", "x-amz-checksum-crc32")
)
_Offer = tuple[str, bytes, Callable[[bytes], object], Callable[[], bytes]]


def _offered(headers: Mapping[str, str]) -> list[_Offer]:
    """Return name, value and hash of each checksum that can be computed here; crc32c is not in Python's library."""
    offered: list[_Offer] = []
    if _CHECKSUMS.isdisjoint(map(str.lower, headers)):
        return offered
    for name, text, length, make in (
        ("Content-MD5", headers.get("Content-MD5"), 16, _md5),
        ("x-goog-hash", _google_md5(headers), 16, _md5),
        ("x-amz-checksum-sha256", headers.get("x-amz-checksum-sha256"), 32, hashlib.sha256),
        ("x-amz-checksum-sha1", headers.get("x-amz-checksum-sha1"), 20, _sha1),
        ("x-amz-checksum-crc32", headers.get("x-amz-checksum-crc32"), 4, _CRC32),
    ):
        value = _decoded(text or "")
        # Checksums of objects that were uploaded in parts have another form, and are checksums of checksums.
        if value is not None and len(value) == length:
            hasher = make()
            offered.append((name, value, hasher.update, hasher.digest))
    return offered


def _google_md5(headers: Mapping[str, str]) -> str | None:
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    if stored != headers.get("Content-Encoding", "identity"):
        # The storage decompressed the object on its way; the checksum is that of the compressed one.
        return None
    match = re.search(r"(?:^|,)\s*md5=([^,\s]+)", headers.get("x-goog-hash", ""))
    return match.group(1) if match else None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
