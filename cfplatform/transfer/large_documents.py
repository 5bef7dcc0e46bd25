"""Setting ``info.asset_url`` in a document that is too large to be parsed, and is written while it arrives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..documents import Edit, Members, edit

#: Bytes that a name can have, with every letter escaped, and its quotes.
LONGEST_NAME = 6 * len("asset_url") + 2

#: An escape hides the byte behind it. Two bytes for two, so that positions stay.
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_TOKEN = re.compile(rb'"[^"]*"?|[{}\[\],:]|[^ \t\r\n"{}\[\],:]+')
_INFO = re.compile(rb'"(?:i|\\u0069)(?:n|\\u006[eE])(?:f|\\u0066)(?:o|\\u006[fF])"')
_STRING = re.compile(rb'"[^"]*"?')
_ONE_BRACKET = bytes.maketrans(b"[]", b"{}")
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"{}[]')
_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE = b'":,{}'


class Rewriter:
    """Edits a document where its first part says that the edit belongs, and finds out whether that was right.

    It was not if an ``info`` follows behind the first part, or a second one, which is the one that parsers take. Then
    what was written has to be written again.

    Args:
        head: The first part, in pieces.
        asset_url: The value to set; ``None`` is written as ``""``.
    """

    def __init__(self, head: Sequence[bytes], asset_url: str | None) -> None:
        self._asset_url = asset_url
        self._scanned = len(head)
        self._scanner = Scanner()
        for piece in head:
            self._scanner.feed(piece)
        self._edit = self._scanner.edit(asset_url)
        start, end, value = self._edit
        self._undo = Edit(start, start + len(value), b"".join(_between(head, start, end)))

    def rewritten(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the edited document, given all of its pieces, beginning with those of the first part."""
        return applied(self._edit, self._scanning(pieces))

    def corrected(self, written: Callable[[], Iterable[bytes]]) -> Iterator[bytes] | None:
        """Return what has to be written instead, made of what was written; ``None`` if that was right."""
        found = self._scanner.edit(self._asset_url)
        return None if found == self._edit else applied(found, applied(self._undo, written()))

    def _scanning(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for number, piece in enumerate(pieces):
            if number >= self._scanned:
                self._scanner.feed(piece)
            yield piece
        self._scanner.feed(b"", last=True)


def applied(change: Edit, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the edited document, given the pieces of it."""
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


def _may_hold(piece: bytes) -> bool:
    # One byte is searched for ten times as fast as several, and annotations are mostly numbers.
    return (b"f" in piece and b'"info"' in piece) or (b"\\" in piece and b"\\u006" in piece)


class Scanner:
    """Finds where ``info.asset_url`` stands in a document, given in pieces of any size.

    Only from a name ``info`` to the end of its value the tokens are looked at; elsewhere brackets are counted.
    """

    def __init__(self) -> None:
        self._position = 0
        self._rest = b""
        self._depth = 0
        self._in_string = False
        self._end = 0
        self._document, self._info = _Object("info"), _Object("asset_url")

    @property
    def is_done(self) -> bool:
        """Whether :meth:`edit` holds as long as no other ``info`` follows."""
        return self._document.is_between

    def edit(self, asset_url: str | None) -> Edit:
        """Return the edit for what was fed."""
        return edit(asset_url, self._document.members or Members(0, False), self._info.members)

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Take the next piece; ``last`` says that none follows."""
        data = self._rest + piece
        plain = _ESCAPE.sub(b"__", data) if b"\\" in data else data
        # A backslash at the end hides a byte that has not come yet.
        stop = len(data) if last else len(plain.rstrip(b"\\"))
        names = _INFO.finditer(data, 0, stop) if _may_hold(data) else iter(())
        at = 0
        while at < stop:
            if not self.is_done:
                at, stop = self._take_tokens(data, plain, at, stop, last)
                continue
            name = next((match.start() for match in names if match.start() >= at), None)
            if name is None and not last:
                # A name may begin at the last quote.
                quote = plain.rfind(b'"', max(at, stop - LONGEST_NAME), stop)
                stop = stop if quote < 0 else quote
            end = stop if name is None else name
            self._count(plain[at:end])
            at = end
            if name is not None and self._depth == 1:
                at, stop = self._take_tokens(data, plain, at, stop, last)
        self._rest = data[stop:]
        self._position += stop

    def _count(self, plain: bytes) -> None:
        """Count the brackets of bytes in which escapes are blanked."""
        marks = plain.translate(_ONE_BRACKET, _NO_MARKS)
        if self._in_string:
            marks = b'"' + marks
        # Neighbours open and close a string, or close one and open the next: what is left stays what it is.
        marks = marks.replace(b'""', b"")
        self._in_string = marks.count(b'"') % 2 == 1
        if b'"' in marks:
            marks = _STRING.sub(b"", marks)
        self._depth += marks.count(b"{") - marks.count(b"}")

    def _take_tokens(self, data: bytes, plain: bytes, at: int, stop: int, last: bool) -> tuple[int, int]:
        """Take tokens until the rest does not matter; return where that begins, and where the piece can be cut."""
        if self._in_string:
            at = plain.find(b'"', at, stop) + 1
            if at == 0:
                return stop, stop
            self._in_string = False
            self._end = self._position + at
        for match in _TOKEN.finditer(plain, at, stop):
            start, end = match.span()
            mark, is_short = plain[start], end - start <= LONGEST_NAME
            self._in_string = mark == _QUOTE and (end == start + 1 or plain[end - 1] != _QUOTE)
            if self._in_string and is_short and not last:
                # It may become a name.
                self._in_string = False
                return start, start
            self._take(mark, self._position + start, self._position + end, data[start:end] if is_short else b"")
            if self.is_done:
                return end, stop
        return stop, stop

    def _take(self, mark: int, start: int, end: int, text: bytes) -> None:
        document = self._document
        if self._depth == 0:
            # Nothing counts before the document opens, nor after its end.
            if mark == _OPEN and document.opened is None:
                self._depth, document.opened = 1, end
            return
        if self._depth == 1:
            document.take(mark, start, self._end, text)
            if document.is_in_value and mark == _COLON:
                # Of several members of one name the last one counts.
                self._info = _Object("asset_url")
            elif document.is_in_value and mark == _OPEN:
                self._info.opened = end
        elif self._depth == 2 and document.is_in_value and self._info.opened is not None:
            self._info.take(mark, start, self._end, text)
        if mark in b"{[":
            self._depth += 1
        elif mark in b"}]":
            self._depth -= 1
        self._end = end


class _Object:
    """An object of a document: its members, of which one is wanted, as far as they are known.

    Attributes:
        opened: Where it begins, behind the bracket.
        is_in_value: Whether the next token is in the value of the wanted member.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.opened: int | None = None
        self.members: Members | None = None
        self.is_in_value = False
        self._is_named = False
        self._start: int | None = None

    @property
    def is_between(self) -> bool:
        """Whether the next token is in no wanted member."""
        return self.members is not None and not self._is_named and not self.is_in_value

    def take(self, mark: int, start: int, before: int, text: bytes) -> None:
        """Take a token that is not inside of a value, and where the token before it ends."""
        if self.members is None and self.opened is not None:
            self.members = Members(self.opened, mark == _CLOSE)
        was_named, self._is_named = self._is_named, False
        if was_named and mark == _COLON:
            self.is_in_value, self._start = True, None
        elif not self.is_in_value:
            self._is_named = mark == _QUOTE and _spells(text, self._name)
        elif self._start is None:
            self._start = start
        elif mark in (_COMMA, _CLOSE) and self.members is not None:
            self.is_in_value, self.members = False, self.members._replace(found=(self._start, before))


def _spells(text: bytes, name: str) -> bool:
    if b"\\" not in text:
        return text[1:-1] == name.encode()
    try:
        return bool(json.loads(text) == name)
    except ValueError:
        return False


def _between(pieces: Iterable[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        yield piece[max(0, start - at) : max(0, end - at)]
        at += len(piece)
