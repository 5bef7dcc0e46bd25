"""Streams the annotations of large documents from disk."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import IO, Any

from ..exceptions import InvalidResponseError

#: Larger files are streamed if the caller supports it.
LARGE = 32 * 1024 * 1024
#: Bytes to read at a time.
_STEP = 64 * 1024
#: Maximum length of a value in characters: a longer one is a syntax error.
_LONGEST = 64 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_BLANKS = re.compile(r"[ \t\r\n]*")
#: Characters that end a value. A number at the end of a piece may continue in the next one.
_ENDS = frozenset(" \t\r\n,:]}")
_decode = json.JSONDecoder().raw_decode

#: Returns an entry, changed if necessary, given its number; ``None`` drops it.
Pick = Callable[[int, Any], Any]


class Entries:
    """The annotations of a large file. Each iteration reads the file again.

    Args:
        path: The file, already validated by :func:`read_large`.
        start: The position of the list.
        picks: Functions that change or drop entries, in this order.
    """

    def __init__(self, path: Path, start: int, picks: tuple[Pick, ...] = ()) -> None:
        self._path = path
        self._start = start
        self._picks = picks

    def picked(self, pick: Pick) -> Entries:
        """Return the entries with another function applied."""
        return Entries(self._path, self._start, (*self._picks, pick))

    def __iter__(self) -> Iterator[Any]:
        with self._opened() as file:
            number = 0
            for piece in _Reader(file, self._start).entries():
                if not self._picks:
                    yield from piece
                    continue
                for number, entry in enumerate(piece, number):  # noqa: B020 - numbering continues
                    picked = self._pick(number, entry)
                    if picked is not None or entry is None:
                        yield picked
                number += 1

    @contextlib.contextmanager
    def grouped(self, group: Callable[[Any], Hashable]) -> Iterator[Callable[[Hashable], list[Any]]]:
        """Yield a function that reads the entries of a group; only positions are kept in memory."""
        starts, sizes, groups, numbers = array("Q"), array("L"), array("L"), array("L")
        known: dict[Hashable, int] = {}
        with self._opened() as file:
            for number, (entry, start, end) in enumerate(_Reader(file, self._start).located()):
                picked = self._pick(number, entry)
                if picked is not None:
                    starts.append(start)
                    sizes.append(end - start)
                    groups.append(known.setdefault(group(picked), len(known)))
                    numbers.append(number)
            order = array("L", sorted(range(len(groups)), key=groups.__getitem__))

            def read(position: int) -> Any:
                file.seek(starts[position])
                return self._pick(numbers[position], json.loads(file.read(sizes[position])))

            def of(value: Hashable) -> list[Any]:
                own = known.get(value)
                if own is None:
                    return []
                first = bisect_left(order, own, key=groups.__getitem__)
                last = bisect_right(order, own, key=groups.__getitem__)
                return [read(position) for position in order[first:last]]

            yield of

    def _pick(self, number: int, entry: Any) -> Any:
        for pick in self._picks:
            if entry is None:
                break
            entry = pick(number, entry)
        return entry

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with open(self._path, "rb") as file:
                yield file
        except (_JsonError, OSError) as error:
            raise InvalidResponseError(f"{str(self._path)!r} changed while it was read: {error}.") from None


class _JsonError(ValueError):
    """The file is not valid JSON."""


class _Reader:
    """Reads JSON piece by piece."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        file.seek(offset)
        self._file = file
        self._decode_piece = codecs.getincrementaldecoder("utf-8")().decode
        #: The current piece, the position in it, and the matching position in the file.
        self._text, self._at, self.offset = "", 0, offset
        self._is_new = False

    def peek(self) -> str:
        """Return the next non-blank character; empty at the end."""
        while True:
            match = _BLANKS.match(self._text, self._at)
            self._go(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def take(self, marks: str) -> str:
        """Read one of these characters, after blanks."""
        found = self.peek()
        if not found or found not in marks:
            raise _JsonError(f"{marks} is missing at byte {self.offset}")
        self._go(self._at + 1)
        return found

    def value(self) -> Any:
        """Read a value."""
        self.peek()
        while True:
            with contextlib.suppress(json.JSONDecodeError):
                value, end = _decode(self._text, self._at)
                if self._text[end : end + 1] in _ENDS:
                    self._go(end)
                    return value
            if len(self._text) - self._at > _LONGEST or not self._read():
                raise _JsonError(f"incomplete value at byte {self.offset}")

    def entries(self) -> Iterator[list[Any]]:
        """Read a list; yield its entries, several at a time."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        mark = ","
        while mark == ",":
            entry = self.value()
            end, text = self._at, self._text
            mark = self.take(",]")
            following = self.peek()
            entries = [entry]
            # For speed, all but the last entry of a piece are parsed at once, if they have the same separator as this
            # one.
            if mark == "," and following == "{" and self._is_new and text is self._text and text[end - 1] == "}":
                entries += self._whole(text[end - 1 : self._at + 1])
            yield entries

    def located(self) -> Iterator[tuple[Any, int, int]]:
        """Read a list; yield each entry with its start and end in the file."""
        self.take("[")
        mark = "," if self.peek() != "]" else self.take("]")
        while mark == ",":
            self.peek()
            start = self.offset
            entry = self.value()
            yield entry, start, self.offset
            mark = self.take(",]")

    def _whole(self, separator: str) -> list[Any]:
        """Read the entries up to the last separator of the piece."""
        self._is_new = False
        cut = self._text.rfind(separator, self._at)
        if cut < 0:
            return []
        try:
            # Fails if the separator is inside an entry or after the list.
            found: list[Any] = json.loads(f"[{self._text[self._at : cut + 1]}]")
        except ValueError:
            return []
        self._go(cut + len(separator) - 1)
        return found

    def _go(self, at: int) -> None:
        passed = at - self._at if self._text.isascii() else len(self._text[self._at : at].encode())
        self._at, self.offset = at, self.offset + passed

    def _read(self) -> bool:
        """Read the next piece; return whether there is one."""
        rest = self._text[self._at :]
        piece = self._file.read(max(_STEP, len(rest)))
        try:
            self._text, self._at, self._is_new = rest + self._decode_piece(piece, not piece), 0, True
        except UnicodeDecodeError as error:
            raise _JsonError(str(error)) from None
        return bool(piece)


def read_large(path: Path) -> dict[str, Any] | None:
    """Return a document whose annotations are :class:`Entries`; ``None`` if the file is not one complete JSON object.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            reader = _Reader(file, len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
            data = dict(_members(path, reader))
            return None if reader.peek() else data
    except (ValueError, RecursionError):
        return None


def _members(path: Path, reader: _Reader) -> Iterator[tuple[str, Any]]:
    reader.take("{")
    mark = "," if reader.peek() != "}" else reader.take("}")
    while mark == ",":
        if reader.peek() != '"':
            raise _JsonError(f"missing name at byte {reader.offset}")
        name = reader.value()
        reader.take(":")
        if name == "annotations" and reader.peek() == "[":
            found = Entries(path, reader.offset)
            for _ in reader.entries():
                pass
            yield name, found
        else:
            yield name, reader.value()
        mark = reader.take(",}")
