"""What an archive must be before anything of it is unpacked: :mod:`zipfile` reads its directory, the rest is here."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from typing import NamedTuple

from .. import naming
from ..exceptions import (
    DownloadError,
    IncompleteDownloadError,
    InvalidParameterError,
    UnsafePathError,
    blank,
    server_words,
    shown,
)

#: Members and folders of one archive: a project of millions of items, and 3 GB of memory to read its directory.
MAX_MEMBERS = 5_000_000
#: Bytes of all members together: far more than labels take, far less than would keep a disk busy for a day.
MAX_TOTAL_BYTES = 1 << 40
#: Bytes of all members for each compressed byte. Annotations that differ in their id alone
#: reach about 40, indented ones that are all alike 260; deflate itself ends at 1032.
MAX_RATIO = 500
#: Total below which the ratio does not count: this much does no harm, and small files of zeros are honest.
RATIO_FREE_BYTES = 1 << 30
#: Bytes of one part of a name that every file system takes.
MAX_PART_BYTES = 255
#: Bytes of a whole name; beyond it, some systems cannot open what was unpacked by its path.
MAX_NAME_BYTES = 1024
#: Folders inside one another; removing a deeper tree can run out of file descriptors.
MAX_DEPTH = 64
#: Bytes that are read, inflated and written at a time.
STEP = 256 * 1024

_END, _END64, _LOCATOR, _RECORD, _LOCAL = (b"PK" + pair for pair in (b"\5\6", b"\6\6", b"\6\7", b"\1\2", b"\3\4"))
_END_FIELDS = struct.Struct("<4s4H2LH")
_END64_FIELDS = struct.Struct("<4sQ2H2L4Q20x")
_LOCAL_FIELDS = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW, _PATCH, _UTF8 = 0x0008, 0x0020, 0x0800
_REPARSE_POINT = 0x0400
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WINDOWS = re.compile(
    r'[<>:"|?*]|[. ](/|$)|(^|/)(?i:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\.|/|$)'
)


class ArchiveInfo(NamedTuple):
    """What an archive holds.

    Attributes:
        members: Its files and the folders that it lists.
        total_bytes: Bytes of all files, unpacked.
    """

    members: int
    total_bytes: int


def broken(reason: str) -> IncompleteDownloadError:
    """Return the error for an archive that cannot be what was sent."""
    return IncompleteDownloadError(f"The archive is damaged or not complete: {reason}. Download it again.")


class Source(io.FileIO):
    """An archive held open, read at given places; for one thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise InvalidParameterError(f"path must be the path of a zip file, not {shown(text)}.", parameter="path")
        try:
            if not stat.S_ISREG(os.stat(text).st_mode):
                raise DownloadError(f"{text!r} is not a file. Pass the path of a zip file.")
            super().__init__(text)
            found = os.fstat(self.fileno())
        except OSError as error:
            raise DownloadError(f"The archive {text!r} cannot be read: {error.strerror or error}.") from None
        self.size = found.st_size
        #: Tells whether a file of the same path is still the one that was checked.
        self.identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def at(self, offset: int, count: int) -> bytes:
        """Read exactly so many bytes."""
        try:
            self.seek(offset)
            data = self.read(count)
        except OSError as error:
            raise DownloadError(f"The archive cannot be read: {error.strerror or error}.") from None
        if len(data) != count:
            raise broken("it ends too early")
        return data

    def count(self, signature: bytes, start: int, end: int) -> int:
        """Count how often a signature occurs."""
        steps = range(start, end, STEP)
        return sum(self.at(at, min(STEP + len(signature) - 1, end - at)).count(signature) for at in steps)


def inspect(
    source: Source, max_members: int, max_total_bytes: int, max_ratio: float
) -> tuple[list[zipfile.ZipInfo], ArchiveInfo]:
    """Check everything that can be known without unpacking; see :func:`cfplatform.archives.check`."""
    for name, value in (("max_members", max_members), ("max_total_bytes", max_total_bytes), ("max_ratio", max_ratio)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InvalidParameterError(f"{name} must be a number above 0, not {shown(value)}.", parameter=name)
    announced, start, end = _find_directory(source)
    # Before zipfile makes an object of each.
    if (most := max(announced, source.count(_RECORD, start, end))) > max_members:
        raise _too_much(f"{most} members", max_members, "max_members")
    infos = _read_directory(source, start, end)
    # Some programs write only the lower 16 bits of the number where it has more.
    if announced not in (len(infos), len(infos) & _FULL16):
        raise broken(f"it announces {announced} members and has {len(infos)}")
    for info in infos:
        check_name(info.orig_filename)
        _check_kind(info)
    _check_twice(infos, max_members)
    total = sum(info.file_size for info in infos)
    compressed = sum(info.compress_size for info in infos)
    if total > max_total_bytes:
        raise _too_much("more bytes", max_total_bytes, "max_total_bytes")
    if total > RATIO_FREE_BYTES and total > max_ratio * compressed:
        raise _too_much(f"{total} bytes in {compressed}", max_ratio, "max_ratio")
    _check_places(source, infos, start)
    return infos, ArchiveInfo(len(infos), total)


def _check_places(source: Source, infos: list[zipfile.ZipInfo], start: int) -> None:
    """Refuse members that share bytes with one another or the directory, and such that it does not know."""
    front, last = start, 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        behind = data_start(source, info) + info.compress_size
        if behind > start:
            raise broken(f"{shown(info.orig_filename)} reaches into its directory")
        if info.header_offset < last:
            raise DownloadError("Members of the archive share the same bytes, as in an archive made to fill disks.")
        front, last = min(front, info.header_offset), behind
    # Only the last member, itself an archive, may have been found to be whole.
    if source.count(_LOCAL, 0, front):
        raise broken("its directory knows nothing of the members at its beginning")


def _too_much(what: str, limit: float, option: str) -> DownloadError:
    return DownloadError(
        f"The archive holds {what}; the limit is {limit:g}. If you trust where it comes from, raise {option}."
    )


def _find_directory(source: Source) -> tuple[int, int, int]:
    """Return how many members the end of the file announces, and where the directory lies."""
    tail = source.at(max(0, source.size - _END_FIELDS.size - _FULL16), min(source.size, _END_FIELDS.size + _FULL16))
    place = tail.rfind(_END)
    if 0 <= place <= len(tail) - _END_FIELDS.size:
        end = source.size - len(tail) + place
        _, *numbers, comment = _END_FIELDS.unpack_from(tail, place)
        whole = place + _END_FIELDS.size + comment <= len(tail)
        if end >= _END64_FIELDS.size and source.at(end - 20, 4) == _LOCATOR:
            end -= _END64_FIELDS.size
            signature, _, _, _, *large = _END64_FIELDS.unpack(source.at(end, _END64_FIELDS.size))
            same = zip(numbers, large, (_FULL16,) * 4 + (_FULL32,) * 2, strict=True)
            whole = whole and signature == _END64 and all(old in (top, new) for old, new, top in same)
            numbers = large
        disk, first_disk, here, count, size, offset = numbers
        # An end record of nothing, inside foreign bytes, is no proof of anything.
        if whole and (disk, first_disk, here) == (0, 0, count) and offset <= end - size and (size or not end):
            return count, end - size, end
    head = source.at(0, min(source.size, 4096))
    if head.lstrip()[:1] in (b"<", b"{", b"["):
        words = blank(server_words(head.decode("utf-8", "replace")))
        raise IncompleteDownloadError(f"The file is no zip archive but text: {words}. Download it again.")
    raise broken("it has no whole directory at its end" if head.startswith(b"PK") else "it is no zip archive")


def _read_directory(source: Source, start: int, end: int) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos, found = archive.infolist(), archive.start_dir
    except UnicodeDecodeError as error:
        raise UnsafePathError(f"The archive has a name that is not UTF-8: {shown(error.object)}.") from None
    except OSError as error:
        raise DownloadError(f"The archive cannot be read: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error):
        raise broken("its directory cannot be read") from None
    if found != start:
        raise broken("its directory lies elsewhere than its end says")
    if infos:
        # What reaches out of the directory is cut by zipfile without a word; only its last record can.
        lengths = tuple(map(len, (_raw_name(infos[-1]), infos[-1].extra, infos[-1].comment)))
        record = source.at(max(start, end - 46 - sum(lengths)), 34)
        if record[:4] != _RECORD or struct.unpack_from("<3H", record, 28) != lengths:
            raise broken("its directory ends in the middle of a record")
    return infos


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def is_folder(info: zipfile.ZipInfo) -> bool:
    """Tell whether it stands for a folder by the name that it has in the archive, not by what zipfile makes of it."""
    return info.orig_filename.endswith("/")


def check_name(name: str, windows: bool = os.name == "nt") -> None:
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


def _check_kind(info: zipfile.ZipInfo) -> None:
    """Refuse what is neither a file nor a folder, and what cannot be unpacked."""
    name = shown(info.orig_filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    # A file may lack its kind, and some programs give folders that of a file; nothing else may differ.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR if is_folder(info) else 0) or info.external_attr & _REPARSE_POINT:
        raise UnsafePathError(f"{name} in the archive is a link, a device or another special file.")
    if info.flag_bits & _ENCRYPTED:
        raise DownloadError(f"{name} in the archive is encrypted, which exports never are.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _PATCH:
        raise DownloadError(f"{name} in the archive is packed with the unknown method {info.compress_type}.")
    if info.volume not in (0, _FULL16):
        raise broken(f"{name} lies in another volume")
    if is_folder(info) and info.file_size:
        raise broken(f"the folder {name} holds bytes")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise broken(f"the sizes of {name} differ")


def _check_twice(infos: list[zipfile.ZipInfo], max_members: int) -> None:
    """Refuse names that some file system takes for the same, and too many folders."""
    files, folders = set[str](), {""}
    for info in infos:
        key = naming.collision_key(info.orig_filename)
        folder, _, file = key.rpartition("/")
        twice = bool(file) and (key in files or key in folders)
        if file:
            files.add(key)
        while folder not in folders:
            folders.add(folder)
            twice = twice or folder in files
            folder = folder.rpartition("/")[0]
        if twice:
            raise UnsafePathError(
                f"The archive has {shown(info.orig_filename)} twice, or beside a name that some systems take for the "
                "same, so that one would overwrite the other."
            )
        if len(files) + len(folders) - 1 > max_members:
            raise _too_much("more members and folders", max_members, "max_members")


def data_start(source: Source, info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member begin, after a look at the header in front of them.

    Raises:
        IncompleteDownloadError: If the header is not that of the directory's record.
    """
    raw_name = _raw_name(info)
    length = _LOCAL_FIELDS.size + len(raw_name)
    if info.header_offset + length > source.size:
        raise broken(f"{shown(info.orig_filename)} lies behind its end")
    head = source.at(info.header_offset, length)
    signature, _, flags, method, _, _, *sizes, name_length, extra_length = _LOCAL_FIELDS.unpack_from(head)
    differing = (flags ^ info.flag_bits) & (_ENCRYPTED | _UTF8) or method != info.compress_type
    if not flags & _SIZES_FOLLOW:
        crc, compressed, size = sizes
        differing = differing or crc != info.CRC or size not in (info.file_size, _FULL32)
        differing = differing or compressed not in (info.compress_size, _FULL32)
    same_name = name_length == len(raw_name) and head.endswith(raw_name)
    if signature != _LOCAL or not same_name or differing:
        raise broken(f"{shown(info.orig_filename)} has another header than the directory says")
    return info.header_offset + length + int(extra_length)
