"""The directory of a zip file, walked record by record, so that an archive of any size takes the same memory."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from typing_extensions import Self

from ..exceptions import (
    DownloadError,
    IncompleteDownloadError,
    InvalidParameterError,
    UnsafePathError,
    blank,
    server_words,
    shown,
)

#: Bytes of one part of a name that every file system takes.
MAX_PART_BYTES = 255
#: Bytes of a whole name; beyond it, some systems cannot open what was unpacked by its path.
MAX_NAME_BYTES = 1024
#: Folders inside one another; removing a deeper tree can run out of file descriptors.
MAX_DEPTH = 64
#: Bytes that are read, inflated and written at a time.
STEP = 256 * 1024

_END, _END64, _LOCATOR, _RECORD, LOCAL = (b"PK" + pair for pair in (b"\5\6", b"\6\6", b"\6\7", b"\1\2", b"\3\4"))
_END_FIELDS = struct.Struct("<4s4H2LH")
_END64_FIELDS = struct.Struct("<4sQ2H2L4Q")
_RECORD_FIELDS = struct.Struct("<4s2B5H3L5H2L")
_LOCAL_FIELDS = struct.Struct("<4s5H3L2H")
_LOCATOR_SIZE = 20
FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW, _PATCH, _UTF8 = 0x0008, 0x0020, 0x0800
_REPARSE_POINT = 0x0400
STORED, DEFLATED = 0, 8
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WINDOWS = re.compile(
    r'[<>:"|?*]|[. ](/|$)|(^|/)(?i:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\.|/|$)'
)


class Entry(NamedTuple):
    """One record of the directory."""

    name: str
    raw_name: bytes
    size: int
    compressed: int
    crc: int
    method: int
    flags: int
    offset: int

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder."""
        return self.name.endswith("/")


class Directory(NamedTuple):
    """Where the directory lies; ``shift`` is the number of foreign bytes in front of the archive."""

    start: int
    end: int
    members: int
    shift: int


def broken(reason: str) -> IncompleteDownloadError:
    """Return the error for an archive that cannot be what was sent."""
    return IncompleteDownloadError(f"The archive is damaged or not complete: {reason}. Download it again.")


class Source:
    """An archive held open, read at given places; for one thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise InvalidParameterError(f"path must be the path of a zip file, not {shown(text)}.")
        try:
            if not stat.S_ISREG(os.stat(text).st_mode):
                raise DownloadError(f"{text!r} is not a file. Pass the path of a zip file.")
            self._file = open(text, "rb", buffering=0)  # noqa: SIM115
            found = os.fstat(self._file.fileno())
        except OSError as error:
            raise DownloadError(f"The archive {text!r} cannot be read: {error.strerror or error}.") from None
        self.size = found.st_size
        #: Tells whether a file of the same path is still the one that was checked.
        self.identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly so many bytes."""
        try:
            self._file.seek(offset)
            data = self._file.read(count)
        except OSError as error:
            raise DownloadError(f"The archive cannot be read: {error.strerror or error}.") from None
        if len(data) != count:
            raise broken("it ends too early")
        return data


def find_directory(source: Source) -> Directory:
    """Find the directory, from the end of the file as the format demands.

    Raises:
        IncompleteDownloadError: If there is none that is whole.
    """
    start = max(0, source.size - _END_FIELDS.size - FULL16)
    tail = source.read(start, source.size - start)
    place = tail.rfind(_END)
    while place >= 0:
        directory = _directory_at(source, start + place, tail[place : place + _END_FIELDS.size])
        if directory is not None:
            return directory
        place = tail.rfind(_END, 0, place)
    head = source.read(0, min(source.size, 4096))
    if head.lstrip()[:1] in (b"<", b"{", b"["):
        words = blank(server_words(head.decode("utf-8", "replace")))
        raise IncompleteDownloadError(f"The file is no zip archive but text: {words}. Download it again.")
    raise broken("it has no whole directory at its end" if head.startswith(b"PK") else "it is no zip archive")


def _directory_at(source: Source, position: int, fixed: bytes) -> Directory | None:
    """Return the directory that an end record speaks of, or ``None`` if that cannot be one of this file."""
    if len(fixed) < _END_FIELDS.size:
        return None
    _, disk, first_disk, here, count, size, offset, comment = _END_FIELDS.unpack(fixed)
    end = position
    before = position - _LOCATOR_SIZE - _END64_FIELDS.size
    if before >= 0 and source.read(position - _LOCATOR_SIZE, 4) == _LOCATOR:
        large = _END64_FIELDS.unpack(source.read(before, _END64_FIELDS.size))
        small = (disk, first_disk, here, count, size, offset)
        full = (FULL16,) * 4 + (_FULL32,) * 2
        if large[0] != _END64 or any(
            old not in (top, new) for old, new, top in zip(small, large[4:], full, strict=True)
        ):
            return None
        disk, first_disk, here, count, size, offset = large[4:]
        end = before
    start = end - size
    shift = start - offset
    whole = (disk, first_disk, here) == (0, 0, count) and position + _END_FIELDS.size + comment <= source.size
    if not whole or start < 0 or shift < 0:
        return None
    # An end record of nothing, inside foreign bytes, is no proof of anything.
    if source.read(start, 4) != _RECORD if size else (count or start):
        return None
    return Directory(start, end, count, shift)


class _Window:
    """The directory, read in steps."""

    def __init__(self, source: Source, end: int) -> None:
        self._source = source
        self._end = end
        self._start = 0
        self._block = b""

    def take(self, position: int, count: int) -> bytes:
        if position + count > self._end:
            raise broken("its directory ends in the middle of a record")
        if position + count > self._start + len(self._block):
            self._start = position
            self._block = self._source.read(position, min(max(STEP, count), self._end - position))
        first = position - self._start
        return self._block[first : first + count]


def entries(source: Source, directory: Directory) -> Iterator[Entry]:
    """Yield the records of the directory, each of them safe by itself.

    Raises:
        UnsafePathError: At a name that leads elsewhere, and at links and devices.
        DownloadError: At what is encrypted or packed in an unknown way.
        IncompleteDownloadError: At a damaged record.
    """
    window = _Window(source, directory.end)
    position = directory.start
    while position < directory.end:
        fields = _RECORD_FIELDS.unpack(window.take(position, _RECORD_FIELDS.size))
        signature, _, _, _, flags, method, _, _, crc, compressed, size = fields[:11]
        name_length, extra_length, comment_length, disk, _, attributes, offset = fields[11:]
        if signature != _RECORD:
            raise broken("a record of its directory is no record")
        position += _RECORD_FIELDS.size
        raw_name = window.take(position, name_length)
        name = _decoded(raw_name, flags)
        _check_name(name)
        extra = window.take(position + name_length, extra_length)
        size, compressed, offset = _large(name, extra, size, compressed, offset)
        if disk not in (0, FULL16):
            raise broken(f"{shown(name)} lies in another volume")
        entry = Entry(name, raw_name, size, compressed, crc, method, flags, offset + directory.shift)
        _check_kind(entry, attributes)
        yield entry
        position += name_length + extra_length + comment_length
    if position != directory.end:
        raise broken("its directory ends in the middle of a record")


def _decoded(raw_name: bytes, flags: int) -> str:
    try:
        return raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise UnsafePathError(f"The archive has a name that is not UTF-8: {shown(raw_name)}.") from None


def _check_name(name: str, windows: bool = os.name == "nt") -> None:
    """Refuse a name that would lead elsewhere, or that this system cannot have."""
    parts = name.removesuffix("/").split("/")
    encoded = [len(part.encode()) for part in parts]
    reason = ""
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        reason = "it is not a relative path with plain slashes"
    elif not set(parts).isdisjoint(("", ".", "..")):
        reason = "a part of it is empty, '.' or '..'"
    elif _CONTROL.search(name):
        reason = "it has control characters"
    elif max(encoded) > MAX_PART_BYTES or sum(encoded) + len(parts) > MAX_NAME_BYTES or len(parts) > MAX_DEPTH:
        reason = "it is too long or too deep"
    elif windows and _WINDOWS.search(name):
        reason = "Windows cannot have it"
    if reason:
        raise UnsafePathError(f"The archive has the unsafe name {shown(name)}: {reason}. Nothing was unpacked.")


def _check_kind(entry: Entry, attributes: int) -> None:
    """Refuse what is neither a file nor a folder, and what cannot be unpacked."""
    name = shown(entry.name)
    kind = stat.S_IFMT(attributes >> 16)
    # A file may lack its kind, and some programs give folders that of a file; nothing else may differ.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR if entry.is_folder else 0) or attributes & _REPARSE_POINT:
        raise UnsafePathError(f"{name} in the archive is a link, a device or another special file.")
    if entry.flags & _ENCRYPTED:
        raise DownloadError(f"{name} in the archive is encrypted, which exports never are.")
    if entry.method not in (STORED, DEFLATED) or entry.flags & _PATCH:
        raise DownloadError(f"{name} in the archive is packed with the unknown method {entry.method}.")
    if entry.is_folder and entry.size:
        raise broken(f"the folder {name} holds bytes")
    if entry.method == STORED and entry.size != entry.compressed:
        raise broken(f"the sizes of {name} differ")


def _large(name: str, extra: bytes, *values: int) -> tuple[int, int, int]:
    """Return size, compressed size and offset, each taken from the extra field where 32 bits do not hold it."""
    found = list(values)
    full = [index for index, value in enumerate(found) if value == _FULL32]
    position = 0
    while full and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            if length < 8 * len(full) or position + 8 * len(full) > len(extra):
                raise broken(f"the size of {shown(name)} is missing")
            for index in full:
                (found[index],) = struct.unpack_from("<Q", extra, position)
                position += 8
            break
        position += length
    return found[0], found[1], found[2]


def data_start(source: Source, entry: Entry) -> int:
    """Return where the bytes of a member begin, after a look at the header in front of them.

    Raises:
        IncompleteDownloadError: If the header is not that of the directory's record.
    """
    length = _LOCAL_FIELDS.size + len(entry.raw_name)
    if entry.offset + length > source.size:
        raise broken(f"{shown(entry.name)} lies behind its end")
    head = source.read(entry.offset, length)
    fields = _LOCAL_FIELDS.unpack_from(head)
    signature, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = fields
    differing = (flags ^ entry.flags) & (_ENCRYPTED | _UTF8) or method != entry.method
    if not flags & _SIZES_FOLLOW:
        differing = differing or crc != entry.crc or size not in (entry.size, _FULL32)
        differing = differing or compressed not in (entry.compressed, _FULL32)
    name = head[_LOCAL_FIELDS.size :]
    if signature != LOCAL or name_length != len(entry.raw_name) or name != entry.raw_name or differing:
        raise broken(f"{shown(entry.name)} has another header than the directory says")
    return entry.offset + len(head) + int(extra_length)
