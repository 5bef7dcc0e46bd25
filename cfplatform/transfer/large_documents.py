"""Set ``info.asset_url`` in a document that is too large to parse, while it is being received."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..documents import PARSE_LIMIT, Edit, Members, edit, member, members
from ..exceptions import InvalidResponseError

#: Maximum bytes of the name ``"info"``, with every letter escaped, and its quotes.
LONGEST_NAME = 6 * len("info") + 2

#: An escape sequence. Replaced by the same number of bytes, so positions stay the same.
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{()[ \t\r\n]*(?=[^ \t\r\n])(\}?)")
#: A member with this name, or the start of one at the end of the data.
_INFO = re.compile(rb'"(?:i|\\u0069)(?:n|\\u006[eE])(?:f|\\u0066)(?:o|\\u006[fF])"[ \t\r\n]*(?::|\Z)')
_STRING = re.compile(rb'"[^"]*"?')
_ONE_BRACKET = bytes.maketrans(b"[]", b"{}")
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"{}[]')


class Rewriter:
    """Edits a document at the position found in its first part, and checks at the end whether the position was correct.

    It is wrong if ``info`` comes after the first part, or is repeated, because parsers use the last one. The document
    must then be written again.

    Args:
        head: The first part, in chunks.
        asset_url: The value to set; ``None`` is written as ``""``.
    """

    def __init__(self, head: Sequence[bytes], asset_url: str | None) -> None:
        self._asset_url = asset_url
        self._scanner = Scanner()
        for piece in head:
            self._scanner.feed(piece)
        self._edit = self._scanner.edit(asset_url)
        start, end, value = self._edit
        self._undo = Edit(start, start + len(value), b"".join(_between(head, start, end)))

    def rewritten(self, head: Iterable[bytes], rest: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the edited document, given the chunks of the first part again and all others."""
        return applied(self._edit, itertools.chain(head, self._scanning(rest)))

    def corrected(self, written: Callable[[], Iterable[bytes]]) -> Iterator[bytes] | None:
        """Return the corrected document, given the written one; ``None`` if it was correct."""
        found = self._scanner.edit(self._asset_url)
        return None if found == self._edit else applied(found, applied(self._undo, written()))

    def _scanning(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._scanner.feed(piece)
            yield piece
        self._scanner.feed(b"", last=True)


def applied(change: Edit, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the edited document, given its chunks."""
    start, end, value = change
    at, is_made = 0, False
    for piece in pieces:
        first, at = at, at + len(piece)
        if at > start and not is_made:
            is_made = True
            yield piece[: start - first] + value
        elif at <= start or first >= end:
            yield piece
            continue
        if at > end:
            yield piece[max(0, end - first) :]
    if not is_made:
        yield value


def _may_contain(piece: bytes) -> bool:
    # Searching for one byte is ten times as fast as for several, and annotations are mostly numbers.
    return (b"f" in piece and b'"info"' in piece) or (b"\\" in piece and b"\\u006" in piece)


class Scanner:
    """Finds the position of ``info.asset_url`` in a document, in chunks of any size.

    It counts brackets and parses only the top-level member ``info``, once it is complete.
    """

    def __init__(self) -> None:
        self._position = 0
        self._rest = b""
        self._depth = 0
        self._in_string = False
        self._document: Members | None = None
        self._info: Members | None = None

    def edit(self, asset_url: str | None) -> Edit:
        """Return the edit for the data so far."""
        return edit(asset_url, self._document or Members(0, False), self._info)

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Process the next chunk; ``last`` is set for the last one."""
        data = self._rest + piece
        stop = self._scan(data, last)
        self._rest = data[stop:]
        self._position += stop
        if len(self._rest) > PARSE_LIMIT:
            raise InvalidResponseError("The document is not one valid JSON object, or its info is larger than 8 MiB.")

    def _scan(self, data: bytes, last: bool) -> int:
        """Scan as far as possible without more data; return the start of the rest."""
        at = 0
        if self._document is None:
            opening = _OPENING.match(data)
            if opening is None:
                return 0
            at, self._depth = opening.start(1), 1
            self._document = Members(self._position + at, bool(opening[2]))
        plain = _ESCAPE.sub(b"__", data) if b"\\" in data else data
        # A backslash at the end escapes a byte that has not arrived yet.
        stop = len(data) if last else len(plain.rstrip(b"\\"))
        # Latin-1 has one character per byte, so positions stay the same. Decoded only if needed.
        text = ""
        for name in _INFO.finditer(data, at, stop) if _may_contain(data) else ():
            if name.start() < at:
                continue
            self._count(plain[at : name.start()])
            at = name.start()
            if self._depth == 1 and not self._in_string:
                text = text or data.decode("latin-1")
                try:
                    _, value, _ = member(text, at)
                except (ValueError, RecursionError):
                    if last:
                        continue
                    return at
                at = value[1]
                self._found(text, value)
        if not last:
            # A name may start at the last quote.
            quote = plain.rfind(b'"', max(at, stop - LONGEST_NAME), stop)
            stop = stop if quote < 0 else quote
        self._count(plain[at:stop])
        return stop

    def _found(self, text: str, value: tuple[int, int]) -> None:
        """Record an ``info`` member; if it is repeated, the last one counts."""
        start, by = value[0], self._position
        self._info = None
        if text.startswith("{", start):
            first, is_empty, found, _ = members(text, start, "asset_url")
            self._info = Members(first + by, is_empty, found and (found[0] + by, found[1] + by))
        if self._document is not None:
            self._document = self._document._replace(found=(start + by, value[1] + by))

    def _count(self, plain: bytes) -> None:
        """Count the brackets in bytes whose escapes were replaced."""
        marks = plain.translate(_ONE_BRACKET, _NO_MARKS)
        if self._in_string:
            marks = b'"' + marks
        # Adjacent quotes open and close a string, or close one and open the next, so removing both changes nothing.
        marks = marks.replace(b'""', b"")
        self._in_string = marks.count(b'"') % 2 == 1
        if b'"' in marks:
            marks = _STRING.sub(b"", marks)
        self._depth += marks.count(b"{") - marks.count(b"}")


def _between(pieces: Iterable[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        yield piece[max(0, start - at) : max(0, end - at)]
        at += len(piece)
