"""Read and verify response bodies in bounded chunks, and read upload bodies from files."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import io
import json
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import urllib3

from ..exceptions import (
    APITimeoutError,
    CFPlatformError,
    DownloadError,
    IncompleteDownloadError,
    InvalidResponseError,
    UploadError,
    blank,
    printable,
    shown,
)
from . import errors
from .timeouts import Interrupted

if TYPE_CHECKING:
    import requests
    from urllib3 import BaseHTTPResponse

#: Bytes of one chunk: small enough to stop soon, large enough to be fast.
CHUNK = 64 * 1024
#: Maximum number of digits of ``Content-Length``.
MAX_DIGITS = 18
#: Maximum bytes of one decompression step; bounds the memory for a small body that expands.
MAX_INFLATED = 1024 * 1024
#: Bytes of an error response that are read to keep the connection; after more, it is closed.
DRAIN_LIMIT = 64 * 1024
#: Maximum size of a stored object, as sent and as decompressed (our limit). Far above any COCO document; keeps a broken
#: server or a decompression bomb from filling the disk.
MAX_OBJECT_BYTES = 4 * 1024 * 1024 * 1024
#: Maximum size of an API response (our limit); a page of 100 items has about 50 KB.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
#: The registered content codings except "identity". Objects may have other values, such as a charset, "binary" or
#: "aws-chunked", which do not change the bytes.
_CODINGS = frozenset(
    ("br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "x-compress", "x-gzip", "zstd")
)


class ObjectStream:
    """The body of a stored object while it is read.

    Attributes:
        status_code: 200, 304 after a matching ``If-None-Match``, or 206 for a range.
        headers: The response headers, with case-insensitive names.
        length: The announced number of bytes, or ``None``.
        head: The first bytes, as sent.
    """

    def __init__(
        self, response: requests.Response, stop: threading.Event | None = None, *, ranged: bool = False
    ) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._raw: BaseHTTPResponse = response.raw
        self._stop = stop
        self._read_before = _read_before(response)
        names = self.headers.get("Content-Encoding", "") if self._read_before is None else ""
        self._codings = [name for part in names.split(",") if (name := part.strip().lower()) in _CODINGS]
        self.head = b""
        if self.status_code not in (200, 304) and not (ranged and self.status_code == 206):
            raise InvalidResponseError(
                f"The storage responded with status {self.status_code} instead of 200.",
                status_code=self.status_code,
            )
        self.length = _announced_length(response)
        if self._read_before is not None and "Content-Encoding" in self.headers:
            # A body that was read before is also decoded.
            self.length = None
        is_framed = self.length is not None or getattr(self._raw, "chunked", False) or self._read_before is not None
        if self.status_code != 304 and not is_framed and getattr(self._raw, "connection", None) is not None:
            # Without framing, a dropped connection looks like the end of the body. Mocked responses have no connection.
            raise InvalidResponseError(
                "The storage sent a body without a length, so it cannot be verified as complete."
            )

    @property
    def size(self) -> int | None:
        """The number of bytes that :meth:`chunks` will yield, or ``None`` if unknown."""
        return None if self._codings else self.length

    @property
    def is_plain(self) -> bool:
        """Whether the bytes are sent as stored, so ranges and lengths apply to them."""
        return not self._codings and self._read_before is None

    def keep_encoding(self) -> None:
        """Read the bytes as stored, ignoring ``Content-Encoding``.

        Some stores send "gzip" for every ``scan.nii.gz``, which must stay compressed.
        """
        self._codings = []

    @property
    def etag(self) -> str | None:
        """The object's entity tag, which changes when the object changes."""
        return self.headers.get("ETag")

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes; ends normally only if the object is complete.

        Args:
            limit: Maximum number of bytes, as sent and as decompressed. Defaults to ``MAX_OBJECT_BYTES``.

        Raises:
            DownloadError: If the object is larger than the limit.
            IncompleteDownloadError: If the size or a checksum does not match.
            InvalidResponseError: If the encoding was not requested or is not valid.
        """
        most = MAX_OBJECT_BYTES if limit is None else limit
        if not self._codings:
            return self._sent(most)
        if self._codings in (["gzip"], ["x-gzip"]):
            # An object that is stored compressed is sent compressed, whatever was requested.
            return _capped(_gunzip(self._sent(most)), most)
        raise InvalidResponseError(
            f"The storage sent the object with the unrequested encoding {', '.join(self._codings)[:40]!r}."
        )

    def shown_in(self, error: InvalidResponseError, key: str) -> InvalidResponseError:
        """Add the content type and the start of the body to an error."""
        kind = printable(blank(self.headers.get("Content-Type", "no content type")))[:80]
        # Blanked before it is cut: half a secret would not be recognized.
        start = printable(blank(self.head.decode("utf-8", "replace"), key))[:60]
        error.message = f"{error.message} Its content type is {kind} and it starts with {start!r}."
        error.args = (error.message,)
        return error.with_traceback(None)

    def _sent(self, most: int) -> Iterator[bytes]:
        """Return the bytes as sent; length and checksums are verified."""
        # The checksum of a range may be that of the object, and a body that was read before may be decoded.
        is_checked = self.status_code == 200 and (self._read_before is None or "Content-Encoding" not in self.headers)
        checksums = _offered_checksums(self.headers) if is_checked else []
        return _verified(self._received(most), checksums) if checksums else self._received(most)

    def _received(self, most: int) -> Iterator[bytes]:
        if self.length is not None and self.length > most:
            raise _too_large(most)
        read = self._reader()
        received = 0
        while True:
            if self._stop is not None and self._stop.is_set():
                raise Interrupted
            chunk, problem = b"", None
            # Never more than announced: with a length of "10, 10", the lower layers would read until the connection
            # closes, and it is kept open.
            wanted = CHUNK if self.length is None else min(CHUNK, self.length - received)
            try:
                chunk = read(wanted) if wanted else chunk
            except errors.CAUGHT as error:
                problem = errors.describe(error)
            if problem is not None:
                raise self._broken(received, problem)
            if not chunk:
                break
            received += len(chunk)
            if received > most:
                raise _too_large(most)
            self.head = self.head or chunk[:4096]
            yield chunk
        if self.length is not None and received != self.length:
            raise self._broken(received, None)

    def _reader(self) -> Callable[[int], bytes]:
        """Return a function that reads the next bytes as sent; empty at the end."""
        if self._read_before is not None:
            return io.BytesIO(self._read_before).read
        if self.length is not None:
            return functools.partial(self._raw.read, decode_content=False)
        pieces = self._raw.stream(CHUNK, decode_content=False)
        return lambda _: next(pieces, b"")

    def _broken(self, received: int, problem: CFPlatformError | None) -> CFPlatformError:
        if self._read_before is None:
            received = max(received, self._raw.tell())
        if isinstance(problem, APITimeoutError):
            return APITimeoutError(f"{problem.message} The download stopped after {received:,} bytes.")
        if self.length is not None and received < self.length:
            return IncompleteDownloadError(
                f"The download stopped after {received:,} of {self.length:,} bytes"
                + (f": {problem.message}" if problem else ".")
            )
        return problem or IncompleteDownloadError(f"Received {received:,} bytes instead of {self.length:,}.")


def _read_before(response: requests.Response) -> bytes | None:
    """Return the decoded body if a hook or cache has already read it, else ``None``."""
    body: bytes | bool | None = getattr(response, "_content", False)
    if not isinstance(body, bool):
        return body or b""
    if getattr(response, "_content_consumed", False):
        raise InvalidResponseError("A hook has consumed the body. Use response.content in the hook, which keeps it.")
    if isinstance(response.raw, urllib3.BaseHTTPResponse):
        return None
    # From a recording tool or custom adapter: requests can read any file-like object.
    try:
        return response.content or b""
    except errors.CAUGHT as error:
        problem = errors.describe(error)
    raise problem


def _announced_length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "").strip()
    if not text or getattr(response.raw, "chunked", False):
        return None
    # The length may be repeated.
    lengths = {part.strip() for part in text.split(",")}
    if len(lengths) != 1 or not all(re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", part) for part in lengths):
        raise InvalidResponseError(f"The storage sent an invalid Content-Length: {text[:40]!r}.")
    return int(lengths.pop())


def _too_large(limit: int) -> DownloadError:
    # Not retried: the object would not shrink.
    return DownloadError(f"The object is larger than the limit of {limit:,} bytes.")


def _capped(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        yield chunk


def _gunzip(compressed: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress one or more gzip members; each must be complete with a valid checksum."""
    member = zlib.decompressobj(31)
    try:
        for chunk in compressed:
            while chunk:
                yield member.decompress(chunk, MAX_INFLATED)
                chunk = member.unconsumed_tail
                if member.eof:
                    chunk = member.unused_data
                    member = zlib.decompressobj(31) if chunk else member
        yield member.flush()
    except zlib.error:
        raise InvalidResponseError("The object has Content-Encoding gzip, but is not valid gzip.") from None
    if not member.eof:
        raise IncompleteDownloadError("The gzip data of the object is truncated.")


class _CRC32:
    """CRC-32 with the interface of hashlib; crc32c is not in the standard library."""

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


def _offered_checksums(headers: Mapping[str, str]) -> list[tuple[str, bytes, Any]]:
    """Return the checksums of a response for its body as sent: header, value and hash object.

    ``ETag`` is not used: it is an MD5 for some objects only, and a response does not show which.
    """
    offered: list[tuple[str, bytes, Any]] = []
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
        # Objects that were uploaded in parts have checksums of checksums, in another form.
        if len(value) == computed.digest_size:
            offered.append((name, value, computed))
    return offered


def _verified(chunks: Iterator[bytes], checksums: list[tuple[str, bytes, Any]]) -> Iterator[bytes]:
    for chunk in chunks:
        for _, _, computed in checksums:
            computed.update(chunk)
        yield chunk
    for name, expected, computed in checksums:
        if computed.digest() != expected:
            raise IncompleteDownloadError(f"The object does not match its checksum in {name}.")


def _google_md5(headers: Mapping[str, str]) -> str:
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    match = re.search(r"(?:^|,)\s*md5=([^,\s]+)", headers["x-goog-hash"])
    # If the storage decompressed the object for sending, the checksum is that of the compressed object.
    return match.group(1) if match and stored == headers.get("Content-Encoding", "identity") else ""


def drain(raw: BaseHTTPResponse) -> bool:
    """Read the rest of a response to keep the connection, or close it; return whether the rest could be read."""
    if not isinstance(raw, urllib3.BaseHTTPResponse):
        # From a recording tool or custom adapter: there is no connection to keep.
        return True
    try:
        if len(raw.read(DRAIN_LIMIT, decode_content=False)) == DRAIN_LIMIT:
            raw.close()
        raw.release_conn()
    except errors.CAUGHT:
        raw.close()
        return False
    return True


def read_body(response: requests.Response, limit: int = MAX_RESPONSE_BYTES) -> bytes:
    """Read the body of an API response of at most ``limit`` bytes."""
    read_before = _read_before(response)
    if read_before is not None:
        return read_before
    length = None if "Content-Encoding" in response.headers else _announced_length(response)
    body = bytearray()
    try:
        if length and length <= CHUNK:
            # One read saves another check for the end.
            return response.raw.read(length, decode_content=True)
        for piece in response.raw.stream(CHUNK, decode_content=True):
            body += piece
            if len(body) > limit:
                break
        else:
            return bytes(body)
        problem: CFPlatformError = InvalidResponseError(f"The response is larger than the limit of {limit:,} bytes.")
    except errors.CAUGHT as error:
        problem = errors.describe(error)
    raise problem


def with_body(response: requests.Response) -> requests.Response:
    """Read the body of a response, and return the response."""
    # Like Response.content, but with a limit.
    response._content = read_body(response)
    response._content_consumed = True  # type: ignore[attr-defined]
    return response


def parsed(response: requests.Response, key: str) -> Any:
    """Read a response and parse it as JSON. An error quotes its start without the key."""
    body = read_body(response)
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        pass
    kind = printable(blank(response.headers.get("Content-Type", "no content type"), key)[:80])
    # Blanked before it is cut: half a signature would not be recognized.
    start = blank(body[:4096].decode("utf-8", "replace"), key)[:80]
    raise InvalidResponseError(
        f"The response is not valid JSON ({kind}, {len(body):,} bytes, starts with {start!r}). "
        "Check that the base URL is the CloudFactory AI Platform API.",
        status_code=response.status_code,
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def start_of_body(response: requests.Response, limit: int = DRAIN_LIMIT) -> bytes:
    """Read up to ``limit`` bytes of a body, or as many as arrive."""
    try:
        read_before = _read_before(response)
    except CFPlatformError:
        return b""
    if read_before is not None:
        return read_before[:limit]
    body = bytearray()
    with contextlib.suppress(*errors.CAUGHT):
        # In pieces: a single long read that fails would return nothing.
        while len(body) < limit and (piece := response.raw.read1(limit - len(body), decode_content=True)):
            body += piece
    drain(response.raw)
    return bytes(body)


class Body:
    """The bytes of a file from its current position, sent in chunks. Each attempt reads them again.

    Read errors are raised as :class:`UploadError`, which lower layers do not retry as a network error.

    Args:
        file: A seekable file, open for reading in binary mode.
        size: Bytes to send.
        name: Name of the file in errors.
        stop: Event that ends the upload early.
        is_unchanged: Called before the last bytes are sent. If it returns ``False``, nothing is stored.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        *,
        name: object = "the file",
        stop: threading.Event | None = None,
        is_unchanged: Callable[[], bool] | None = None,
    ) -> None:
        self.size = size
        self._file = file
        self._name = name
        self._start = file.tell()
        self._at = 0
        self._stop = stop
        self._is_unchanged = is_unchanged

    def read(self, amount: int = -1) -> bytes:
        """Read at most ``amount`` bytes."""
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        left = self.size - self._at
        wanted = left if amount < 0 else min(amount, left)
        piece = b""
        try:
            # A file object may return fewer bytes than requested.
            while len(piece) < wanted and (more := self._file.read(wanted - len(piece))):
                piece += more
            is_changed = bool(piece) and wanted == left and self._is_unchanged is not None and not self._is_unchanged()
        except Exception as error:
            # Any exception: the file object is the caller's.
            raise self._failed(error) from None
        if is_changed:
            raise self._failed("it changed")
        if len(piece) < wanted:
            raise self._failed(f"it ended after {self._at + len(piece):,} of {self.size:,} bytes")
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        """Return the position, counted from the first byte to send."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, counted from the start. Lower layers do this to send the body again."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        try:
            self._file.seek(self._start + offset)
        except Exception as error:
            raise self._failed(error) from None
        self._at = offset
        return offset

    def _failed(self, problem: str | Exception) -> UploadError:
        if isinstance(problem, Exception):
            text = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
            problem = printable(text).rstrip(".")
        return UploadError(f"Could not read {shown(self._name)} during the upload: {problem}.")
