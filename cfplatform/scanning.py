"""Where ``info.asset_url`` stands in a JSON document that passes by in pieces, and the edit that sets it.

Only what could spell the name ``info`` is looked at token by token, and only in the outermost object. How deep a
document is nested at such a place is found by counting brackets, a whole piece at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_NAMES = ("info", "asset_url")
#: Bytes that such a name can have, with every letter escaped, and its quotes.
LONGEST_NAME = 6 * len("asset_url") + 2

#: An escape hides the byte behind it. Two bytes for two, so that positions stay.
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_TOKEN = re.compile(rb'"[^"]*"?|[{}\[\],:]|[^ \t\r\n"{}\[\],:]+')
_INFO = re.compile(rb'"(?:i|\\u0069)(?:n|\\u006[eE])(?:f|\\u0066)(?:o|\\u006[fF])"')
_STRINGS = re.compile(rb'"[^"]*"?')
_ONE_BRACKET = bytes.maketrans(b"[]", b"{}")
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"{}[]')
_STRING, _COLON, _COMMA, _OPEN, _CLOSE = b'":,{}'

_IDLE, _NAMED, _BEFORE_VALUE, _IN_VALUE = range(4)


class Edit(NamedTuple):
    """Bytes ``start`` to ``end`` of a document are replaced by ``value``."""

    start: int
    end: int
    value: bytes

    def apply(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the edited document, given the pieces of it."""
        at, made = 0, False
        for piece in pieces:
            first, at = at, at + len(piece)
            if at <= self.start or (made and first >= self.end):
                yield piece
                continue
            if first < self.start:
                yield piece[: self.start - first]
            if not made:
                made = True
                yield self.value
            if at > self.end:
                yield piece[max(0, self.end - first) :]
        if not made:
            yield self.value


class Watch:
    """Tells, at the speed of a search, which pieces of a document could hold the name ``info``, however spelled."""

    def __init__(self) -> None:
        self._tail = b""

    def may_hold(self, piece: bytes) -> bool:
        """Tell whether the name may stand, or end, in the next piece."""
        border = self._tail + piece[:LONGEST_NAME]
        self._tail = (self._tail + piece[-LONGEST_NAME:])[-LONGEST_NAME:]
        return _may_hold(piece) or _may_hold(border)


def _may_hold(piece: bytes) -> bool:
    # One byte is searched for ten times as fast as several, and labels are mostly numbers.
    return (b"f" in piece and b'"info"' in piece) or (b"\\" in piece and b"\\u006" in piece)


class _Member:
    """The last member of one name among those of the objects at one depth."""

    def __init__(self, name: str, depth: int) -> None:
        self._name = name
        self._depth = depth
        self.forget()

    def forget(self) -> None:
        self.state = _IDLE
        self.found: tuple[int, int] | None = None
        self.is_object = self.is_empty = False

    def step(self, mark: int, start: int, end: int, depth: int, text: bytes) -> None:
        """Take one token."""
        if self.state == _BEFORE_VALUE:
            self.state = _IN_VALUE
            self._start, self.end = start, end
            self._marks = bytes((mark,))
            return
        if self.state == _IN_VALUE:
            if depth == self._depth and mark in (_COMMA, _CLOSE):
                self.state = _IDLE
                self.found = self._start, self.end
                self.is_object = self._marks[0] == _OPEN
                self.is_empty = self._marks == b"{}"
                return
            self.end = end
            if len(self._marks) == 1:
                self._marks += bytes((mark,))
            return
        if self.state == _NAMED and mark == _COLON:
            self.state = _BEFORE_VALUE
        elif mark == _STRING and depth == self._depth and _spells(text, self._name):
            self.state = _NAMED
        else:
            self.state = _IDLE


class Scanner:
    """Finds the edit that sets ``info.asset_url``; feed it a document in pieces of any size."""

    def __init__(self) -> None:
        self._position = 0
        self._rest = b""
        # Behind the last name that was looked at; counted only if there is another.
        self._uncounted = memoryview(b"")
        self._depth = 0
        self._in_string = False
        self._inside = -1
        self._is_empty: bool | None = None
        self._info = _Member(_NAMES[0], 1)
        self._url = _Member(_NAMES[1], 2)

    @property
    def is_idle(self) -> bool:
        """Whether it is outside of ``info``, so that :meth:`edit` holds as long as no other one follows."""
        return self._is_empty is not None and self._info.state == _IDLE

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Take the next piece; ``last`` says that none follows."""
        data = self._rest + piece if self._rest else piece
        stop = len(data) if last else _cut(data)
        self._rest = data[stop:]
        self._scan(data, stop)
        self._position += stop

    def edit(self, asset_url: str | None) -> Edit:
        """Return the edit for what was fed."""
        value = json.dumps(asset_url or "").encode()
        member = b'"asset_url": ' + value
        info, url = self._info, self._url
        if info.found is None:
            start = max(0, self._inside)
            return Edit(start, start, b'"info": {' + member + b"}" + (b"" if self._is_empty else b", "))
        if not info.is_object:
            return Edit(*info.found, b"{" + member + b"}")
        if url.found is not None:
            return Edit(*url.found, value)
        start = info.found[0] + 1
        return Edit(start, start, member + (b"" if info.is_empty else b", "))

    def _scan(self, data: bytes, stop: int) -> None:
        if self.is_idle and not _may_hold(data):
            self._leave(data, 0, stop)
            return
        plain = _ESCAPE.sub(b"__", data) if b"\\" in data else data
        is_escaped = b"\\u006" in data
        counted = searched = 0
        while counted < stop:
            if self.is_idle:
                name = _next_info(data, searched, stop, is_escaped)
                if name < 0:
                    self._leave(data, counted, stop)
                    return
                self._count(plain[counted:name])
                counted, searched = name, name + 1
                if self._depth != 1:
                    continue
            counted = searched = self._take_tokens(data, plain, counted, stop)

    def _leave(self, data: bytes, start: int, stop: int) -> None:
        self._count(b"")
        self._uncounted = memoryview(data)[start:stop]

    def _count(self, plain: bytes) -> None:
        """Go on behind bytes that hold nothing of interest, in which no byte is escaped."""
        if self._uncounted:
            earlier, self._uncounted = bytes(self._uncounted), memoryview(b"")
            self._count(_ESCAPE.sub(b"__", earlier) if b"\\" in earlier else earlier)
        marks = plain.translate(_ONE_BRACKET, _NO_MARKS)
        if self._in_string:
            marks = b'"' + marks
        # Neighbours open and close a string, or close one and open the next: what is left stays what it is.
        marks = marks.replace(b'""', b"")
        self._in_string = marks.count(b'"') % 2 == 1
        if b'"' in marks:
            marks = _STRINGS.sub(b"", marks)
        self._depth += marks.count(b"{") - marks.count(b"}")

    def _take_tokens(self, data: bytes, plain: bytes, start: int, stop: int) -> int:
        """Walk over tokens until there is nothing of interest; return the end of the last one."""
        if self._in_string:
            start = plain.find(b'"', start, stop) + 1
            if start == 0:
                return stop
            self._in_string = False
            self._info.end = self._url.end = self._position + start
        for match in _TOKEN.finditer(plain, start, stop):
            start, end = match.span()
            mark = plain[start]
            self._in_string = mark == _STRING and (end == start + 1 or plain[end - 1] != _STRING)
            text = data[start:end] if mark == _STRING and end - start <= LONGEST_NAME else b""
            self._step(mark, self._position + start, self._position + end, text)
            if self.is_idle:
                return end
        return stop

    def _step(self, mark: int, start: int, end: int, text: bytes) -> None:
        if self._inside < 0:
            if mark == _OPEN:
                self._inside, self._depth = end, 1
            return
        if self._is_empty is None:
            self._is_empty = mark == _CLOSE
        if self._info.state == _IN_VALUE:
            self._url.step(mark, start, end, self._depth, text)
        elif self._info.state == _BEFORE_VALUE:
            # Of several members of one name the last one counts.
            self._url.forget()
        self._info.step(mark, start, end, self._depth, text)
        if mark in b"{[":
            self._depth += 1
        elif mark in b"}]":
            self._depth -= 1


def find_edit(pieces: Iterable[bytes], asset_url: str | None) -> Edit:
    """Return the edit that sets ``info.asset_url`` in a document, given all of its pieces."""
    scanner = Scanner()
    previous: bytes | None = None
    for piece in pieces:
        if previous is not None:
            scanner.feed(previous)
        previous = piece
    scanner.feed(previous or b"", last=True)
    return scanner.edit(asset_url)


def _next_info(data: bytes, start: int, stop: int, is_escaped: bool) -> int:
    """Return where the name ``info`` may stand next; -1 if nowhere."""
    if not is_escaped:
        return data.find(b'"info"', start, stop)
    match = _INFO.search(data, start, stop)
    return match.start() if match else -1


def _cut(data: bytes) -> int:
    """Return where a piece can be cut in two: not behind a backslash that hides the next byte, nor in a name."""
    quote = data.rfind(b'"', max(0, len(data) - LONGEST_NAME))
    if quote >= 0 and data[quote - 1 : quote] != b"\\":
        before = data.rfind(b'"', max(0, quote - LONGEST_NAME), quote)
        name = data[before : quote + 1] if before >= 0 else b""
        # Unless it ends one, this quote may begin a name.
        if not (name and any(_spells(name, each) for each in _NAMES)):
            return quote
    backslashes = len(data) - len(data.rstrip(b"\\"))
    return len(data) - backslashes % 2


def _spells(text: bytes, name: str) -> bool:
    if b"\\" not in text:
        return text[1:-1] == name.encode()
    try:
        return bool(json.loads(text) == name)
    except ValueError:
        return False
