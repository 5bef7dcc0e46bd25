"""Bodies: read in bounded steps, counted, and accepted only where their framing proves that they are whole."""

from __future__ import annotations

import contextlib
import re
import threading
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..exceptions import APITimeoutError, IncompleteDownloadError, InvalidResponseError, TransportError
from . import checks, failures
from .retry import DRAIN_LIMIT, Interrupted, drain

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from .lanes import AnyAnswer

#: Bytes of one step: small enough that a stop is noticed soon, large enough to cost little.
CHUNK = 64 * 1024
#: Digits of a length, at the most.
MAX_DIGITS = 18
#: Bytes that one step of decompressing may give, so that a small body cannot fill the memory at once.
MAX_INFLATED = 1024 * 1024
_PLAIN = ("", "identity")


class ObjectStream:
    """The body of a stored object while it is read.

    Attributes:
        status_code: 200; 304 where an ``If-None-Match`` was sent and matched; 206 where a range was asked for.
        headers: The answer's headers; their names are case-insensitive.
        length: The number of bytes announced, or ``None``.
        head: The first bytes that were read, as sent.
    """

    def __init__(self, response: AnyAnswer, stop: threading.Event | None = None, *, ranged: bool = False) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._raw: BaseHTTPResponse = response.raw
        self._stop = stop
        self.head = b""
        if self.status_code not in (200, 304) and not (ranged and self.status_code == 206):
            raise InvalidResponseError(
                f"The storage answered with status {self.status_code} where 200 was expected.",
                status_code=self.status_code,
            )
        self.length = _announced_length(response)
        if self.status_code != 304 and self.length is None and not getattr(self._raw, "chunked", False):
            # Without either, a connection that is cut looks like the end of the body.
            raise InvalidResponseError("The storage sent a body without its length, so it cannot be proven whole.")

    @property
    def size(self) -> int | None:
        """The bytes that :meth:`chunks` will give, or ``None`` where that is not told."""
        return self.length if self._encoding in _PLAIN else None

    @property
    def etag(self) -> str | None:
        """The object's entity tag, which changes when the object changes."""
        return self.headers.get("ETag")

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes; ends normally only if all of them arrived.

        Args:
            limit: Bytes at the most, as sent and as decompressed; ``checks.MAX_OBJECT_BYTES`` if omitted.

        Raises:
            DownloadError: If the object is larger than the limit.
            IncompleteDownloadError: If fewer or more bytes arrived than were announced, or not those of a checksum.
            TransportError: If the connection broke.
            InvalidResponseError: If the body is encoded in a way that was not asked for, or broken.
        """
        most = checks.MAX_OBJECT_BYTES if limit is None else limit
        wire = checks.capped(self._wire(), most, self.length)
        if self.status_code == 200:
            # Those of a part may be of the part or of the whole.
            wire = checks.verified(wire, self.headers)
        encoding = self._encoding
        if encoding in _PLAIN:
            yield from wire
        elif encoding in ("gzip", "x-gzip"):
            # An object may be stored compressed; then it comes so whatever was asked for.
            yield from checks.capped(_gunzip(wire), most)
        else:
            raise InvalidResponseError(
                f"The storage sent the object encoded as {encoding[:40]!r}, which was not asked for."
            )

    @property
    def _encoding(self) -> str:
        return self.headers.get("Content-Encoding", "identity").strip().lower()

    def _wire(self) -> Iterator[bytes]:
        received = 0
        stream = self._raw.stream(CHUNK, decode_content=False) if self.length is None else self._counted(self.length)
        while True:
            if self._stop is not None and self._stop.is_set():
                raise Interrupted
            chunk, problem = _next(stream)
            received += len(chunk)
            if problem is not None:
                raise self._broken(received, problem)
            if not chunk:
                break
            self.head = self.head or chunk[:4096]
            yield chunk
        if self.length is not None and received != self.length:
            raise self._broken(received, None)

    def _counted(self, left: int) -> Iterator[bytes]:
        # Never asks for more than was announced: a length spelled "10, 10" is one to us, but to the layers below
        # the body then ends with the connection, which is kept open.
        while left > 0 and (chunk := self._raw.read(min(CHUNK, left), decode_content=False)):
            left -= len(chunk)
            yield chunk

    def _broken(self, received: int, problem: TransportError | None) -> TransportError | IncompleteDownloadError:
        received = max(received, self._raw.tell())
        if isinstance(problem, APITimeoutError):
            return APITimeoutError(f"{problem.message} The object broke off after {received} bytes.")
        if self.length is not None and received < self.length:
            return IncompleteDownloadError(
                f"The object broke off after {received} of {self.length} bytes"
                + (f": {problem.message}" if problem else ".")
            )
        return problem or IncompleteDownloadError(f"{received} bytes arrived where {self.length} were announced.")


def _next(stream: Iterator[bytes]) -> tuple[bytes, TransportError | None]:
    try:
        return next(stream, b""), None
    except failures.CAUGHT as error:
        return b"", failures.describe(error)


def _announced_length(response: AnyAnswer) -> int | None:
    text = response.headers.get("Content-Length", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and not getattr(response.raw, "chunked", False):
        return int(text)
    lengths = {part.strip() for part in text.split(",")}
    if getattr(response.raw, "chunked", False) or not text:
        return None
    if len(lengths) != 1 or not all(re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", part) for part in lengths):
        raise InvalidResponseError(f"The storage announced a length that is none: {text[:40]!r}.")
    return int(lengths.pop())


def _gunzip(compressed: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress one or more gzip members; each must be whole, with its checksum."""
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
        raise InvalidResponseError("The object is labelled as gzip but is damaged or something else.") from None
    if not member.eof:
        raise IncompleteDownloadError("The object's gzip stream broke off.")


def ignore(response: AnyAnswer) -> None:
    """Read an answer whose body says nothing, so that its connection can be used again."""
    drain(response.raw)


def _in_one_piece(response: AnyAnswer, length: int) -> Iterator[bytes]:
    """Read a body of a known length, which saves a second look at where it ends."""
    piece = response.raw.read(length, decode_content=False)
    yield piece
    if len(piece) < length:
        # A read that is cut off gives what has come; only the next one says that more was announced.
        yield response.raw.read(length - len(piece), decode_content=False)


def whole_body(response: AnyAnswer, limit: int) -> bytes:
    """Read the body of an API answer.

    Raises:
        TransportError: If the connection broke.
        InvalidResponseError: If the body is larger than ``limit`` bytes.
    """
    body = bytearray()
    length = None if "Content-Encoding" in response.headers else _announced_length(response)
    stream: Iterator[bytes]
    if length and length <= CHUNK:
        stream = _in_one_piece(response, length)
    else:
        stream = response.raw.stream(CHUNK, decode_content=True)
    while True:
        chunk, problem = _next(stream)
        if problem is not None:
            raise problem
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > limit:
            raise InvalidResponseError(f"The answer has more than {limit} bytes; it was not read further.")


def start_of_body(response: AnyAnswer) -> bytes:
    """Read what an error answer says, as far as it arrives."""
    body = bytearray()
    with contextlib.suppress(*failures.CAUGHT):
        # Piece by piece, because one long read that breaks off gives nothing.
        while len(body) < DRAIN_LIMIT and (piece := response.raw.read1(DRAIN_LIMIT - len(body), decode_content=True)):
            body += piece
    drain(response.raw)
    return bytes(body)
