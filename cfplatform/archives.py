"""Read, check and extract export archives. Archives are checked first, and extracted completely or not at all.

:mod:`zipfile` reads the directory. This module also checks names, links, overlapping members, local headers, sizes and
counts, limits and CRCs.

Example:
    >>> from cfplatform import archives
    >>> path = client.create_export("to read", sandbox.space_id).download("exports")
    >>> for member in archives.iter_members(path, "*.json"):
    ...     document = member.json()
    >>> folder = archives.extract(path, "labels")
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import io
import itertools
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from . import documents, naming
from .destination import local, locks
from .exceptions import (
    DownloadError,
    IncompleteDownloadError,
    InvalidParameterError,
    InvalidResponseError,
    UnsafePathError,
    blank,
    server_words,
    shown,
)

__all__ = [
    "MAX_MEMBERS",
    "MAX_RATIO",
    "MAX_TOTAL_BYTES",
    "RATIO_FREE_BYTES",
    "ArchiveInfo",
    "ArchiveMember",
    "check",
    "extract",
    "iter_members",
    "verify",
]

#: Maximum number of members and folders. Listing that many takes 3 GB of memory.
MAX_MEMBERS = 5_000_000
#: Maximum total size of all members in bytes, far more than annotations need.
MAX_TOTAL_BYTES = 1 << 40
#: Maximum compression ratio of an archive. Annotations that differ only in their ID reach about 40, identical indented
#: ones 260; the maximum of deflate is 1032.
MAX_RATIO = 500
#: Total size in bytes up to which the ratio is not checked, since small files of zeros are harmless and legitimate.
RATIO_FREE_BYTES = 1 << 30

#: Bytes read, inflated and written at a time.
STEP = 256 * 1024
#: Maximum bytes of one part of a path; every file system allows this many.
_MAX_PART_BYTES = 255
#: Maximum bytes of a name; some systems cannot open longer paths.
_MAX_NAME_BYTES = 1024
#: Maximum folder depth; removing a deeper tree can run out of file descriptors.
_MAX_DEPTH = 64

_END, _END64, _LOCATOR, _RECORD, _LOCAL = (b"PK" + pair for pair in (b"\5\6", b"\6\6", b"\6\7", b"\1\2", b"\3\4"))
_END_FIELDS = struct.Struct("<4s4H2LH")
#: Followed by the locator, whose fields are not needed.
_END64_FIELDS = struct.Struct("<4sQ2H2L4Q20x")
_LOCAL_FIELDS = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW, _UTF8 = 0x0008, 0x0800
_REPARSE_POINT = 0x0400
#: A drive letter, a backslash, a control character, or an empty, "." or ".." part.
_UNSAFE = re.compile(r"^[A-Za-z]:|[\\\x00-\x1f\x7f-\x9f]|(^|/)\.{0,2}(/|$)")
_WINDOWS = re.compile(
    r'[<>:"|?*]|[. ](/|$)|(^|/)(?i:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\.|/|$)'
)

#: The path of a file.
PathLike = str | os.PathLike[str]
#: Called with the number of bytes after each chunk; an exception ends the call and removes partial files.
Progress = Callable[[int], Any]


class ArchiveInfo(NamedTuple):
    """The contents of an archive.

    Attributes:
        members: Number of files and folders in its directory.
        total_bytes: Total size of all files in bytes, uncompressed.
    """

    members: int
    total_bytes: int


def check(
    path: PathLike,
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
) -> ArchiveInfo:
    """Check the directory and headers of a zip file without extracting it; :func:`verify` also reads every member.

    Memory grows with the number of members, not with their sizes: a million may take 700 MB.

    Args:
        path: The zip file.
        max_members: Maximum number of members and folders.
        max_total_bytes: Maximum total size of all members in bytes, uncompressed.
        max_ratio: Maximum compression ratio, checked if the total size is above ``RATIO_FREE_BYTES``.

    Raises:
        UnsafePathError: If a name points outside the archive, occurs twice (also if only case or the composition of
            accents differs), or belongs to a link or device.
        IncompleteDownloadError: If the file is not a zip file, is truncated or is inconsistent.
        DownloadError: If it exceeds a limit, is encrypted, uses an unknown compression method, or cannot be read.

    Example:
        >>> check(client.create_export("to check", sandbox.space_id).download("exports")).members
        20
    """
    with _Source(path) as source:
        return _inspect(source, max_members, max_total_bytes, max_ratio)[1]


def verify(
    path: PathLike,
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
    progress: Progress | None = None,
) -> ArchiveInfo:
    """Check a zip file like :func:`check`, then read every member and verify its size and CRC.

    Args:
        path: The zip file.
        max_members, max_total_bytes, max_ratio: See :func:`check`.
        progress: Called with the number of bytes after each chunk; an exception ends the call.

    Raises:
        DownloadError: As for :func:`check`; :class:`~cfplatform.IncompleteDownloadError` if a member is damaged.
    """
    with _Source(path) as source:
        members, info = _inspect(source, max_members, max_total_bytes, max_ratio)
        for member in members:
            for chunk in _contents(source, member):
                if progress is not None:
                    progress(len(chunk))
        return info


def extract(
    path: PathLike,
    destination: PathLike,
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
    progress: Progress | None = None,
) -> Path:
    """Extract a zip file into a new folder. The folder is written atomically once every CRC is verified.

    Files are extracted into a hidden folder beside the destination and moved at the end. After an error the hidden
    folder is removed; if the process is killed, the next call for the same destination removes it. Member names are
    kept exactly; file modes and times are not restored.

    Args:
        path: The zip file.
        destination: The folder to create, with its parents. It must not exist: nothing is overwritten or merged.
        max_members, max_total_bytes, max_ratio: See :func:`check`.
        progress: Called with the number of bytes after each chunk; an exception ends the call.

    Returns:
        The absolute path of the folder.

    Raises:
        DownloadError: As for :func:`verify`, and if the destination exists or cannot be written.
    """
    target = Path(os.path.abspath(local.folder_path(destination, "destination")))
    refuse_existing(target)
    with _Source(path) as source:
        members, info = _inspect(source, max_members, max_total_bytes, max_ratio)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target = target.parent.resolve() / target.name
            # Fails at once instead of after hours. Some file systems do not report their free space.
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(target.parent).free
                if info.total_bytes > free:
                    raise DownloadError(
                        f"Could not extract the archive to {str(target)!r}: it needs {info.total_bytes:,} bytes, but "
                        f"only {free:,} bytes are free. Free some space or choose another destination."
                    )
            with _unfinished(target) as name:
                _unpack(source, members, target.parent, name, progress)
        except OSError as error:
            raise DownloadError(
                f"Could not extract the archive to {str(target)!r}: {error.strerror or error} "
                f"({local.free_space(target.parent)}). Partial files were removed. Free some space or fix the folder, "
                "then try again."
            ) from None
    return target


def iter_members(
    path: PathLike,
    pattern: str = "*",
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Iterator[ArchiveMember]:
    """Iterate over the files in a zip file without extracting it. The call itself checks the archive.

    Args:
        path: The zip file.
        pattern: Names to yield, as in :mod:`fnmatch`, case-sensitive. ``*`` also matches slashes: ``*.json`` matches
            in every folder.
        max_members, max_total_bytes, max_ratio: See :func:`check`.

    Yields:
        Each file once, in the order of the archive's directory. Members stay usable after the iteration.

    Raises:
        DownloadError: As for :func:`check`.

    Example:
        >>> path = client.create_export("to read", sandbox.space_id).download("exports")
        >>> for member in iter_members(path, "*.json"):
        ...     print(member.name.count("/"), sorted(member.json())[:2])
        ...     break
        1 ['annotations', 'categories']
    """
    if not isinstance(pattern, str):
        message = f"pattern must be a string such as '*.json', not {shown(pattern)}."
        raise InvalidParameterError(message, parameter="pattern")
    with _Source(path) as source:
        members = _inspect(source, max_members, max_total_bytes, max_ratio)[0]
        identity = source.identity
    # The working directory may change before a member is read.
    return _iter_members(os.path.abspath(path), pattern, identity, members)


class ArchiveMember:
    """A file in an archive. It keeps no file open, and can be pickled and used in other threads and processes.

    Attributes:
        name: The name, with folders.
        size: The size in bytes, uncompressed.
    """

    __slots__ = ("_identity", "_info", "_path", "name", "size")

    def __init__(self, path: str, identity: tuple[int, ...], info: zipfile.ZipInfo) -> None:
        self.name = info.filename
        self.size = info.file_size
        self._path = path
        self._identity = identity
        self._info = info

    def __repr__(self) -> str:
        return f"<ArchiveMember {self.name!r} {self.size} bytes>"

    def open(self) -> BinaryIO:
        """Open the file in binary mode. Its last bytes are returned only after size and CRC are verified.

        Raises:
            DownloadError: If the archive has changed since it was checked.
        """
        return cast(BinaryIO, io.BufferedReader(_MemberFile(_Source(self._path, self._identity), self._info), 65536))

    def read(self, limit: int = documents.LOAD_LIMIT) -> bytes:
        """Return the contents of the file.

        Args:
            limit: Maximum size in bytes. Defaults to 512 MiB; use :meth:`open` for larger files.

        Raises:
            DownloadError: If the file is larger, or the archive has changed.
            IncompleteDownloadError: If the file is damaged.
        """
        if self.size > limit:
            raise DownloadError(f"{shown(self.name)} has {self.size:,} bytes; the limit is {limit:,}. Use open().")
        with self.open() as file:
            return file.read()

    def json(self) -> dict[str, Any]:
        """Parse the file as JSON.

        Raises:
            InvalidResponseError: If it is not one JSON object in UTF-8.
            DownloadError: As for :meth:`read`.
        """
        try:
            return documents.parse(self.read())
        except InvalidResponseError as error:
            raise InvalidResponseError(f"{shown(self.name)} in the archive: {error}") from None


def refuse_existing(target: Path) -> None:
    """Raise an error if the target exists, even as a broken link."""
    try:
        os.lstat(target)
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"destination: could not create {str(target)!r}: {error.strerror or error}."
        raise InvalidParameterError(message, parameter="destination") from None
    raise DownloadError(
        f"{str(target)!r} already exists; nothing was changed. Remove it or choose another destination."
    )


# --- Reading -----------------------------------------------------------------------------------------------


class _Source(io.FileIO):
    """An open archive, for one thread; ``identity`` is the identity of the file when it was checked."""

    def __init__(self, path: PathLike, identity: tuple[int, ...] | None = None) -> None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise InvalidParameterError(f"path must be the path of a zip file, not {shown(text)}.", parameter="path")
        try:
            if not stat.S_ISREG(os.stat(text).st_mode):
                raise DownloadError(f"{text!r} is not a regular file. Pass the path of a zip file.")
            super().__init__(text)
            found = os.fstat(self.fileno())
        except OSError as error:
            raise DownloadError(f"Could not read the archive {text!r}: {error.strerror or error}.") from None
        self.size = found.st_size
        self.identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if identity not in (None, self.identity):
            self.close()
            raise DownloadError(f"The archive {text!r} has changed since it was checked. Start again.")

    def at(self, offset: int, count: int) -> bytes:
        try:
            self.seek(offset)
            data = self.read(count)
        except OSError as error:
            raise DownloadError(f"Could not read the archive: {error.strerror or error}.") from None
        if len(data) != count:
            raise _broken("it ends too early")
        return data

    def steps(self, start: int, end: int, overlap: int = 0) -> Iterator[bytes]:
        """Read a range in chunks; each also has the first ``overlap`` bytes of the next one."""
        return (self.at(at, min(STEP + overlap, end - at)) for at in range(start, end, STEP))

    def count(self, signature: bytes, start: int, end: int) -> int:
        return sum(step.count(signature) for step in self.steps(start, end, len(signature) - 1))


class _MemberFile(io.RawIOBase):
    """A member as a file; closing it closes the archive."""

    def __init__(self, source: _Source, info: zipfile.ZipInfo) -> None:
        self._source = source
        self._chunks = _contents(source, info)
        self._rest = memoryview(b"")
        self._error: DownloadError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._error is not None:
            # Another read after an error must not look like the end of the file.
            raise self._error
        try:
            self._rest = self._rest or memoryview(next(self._chunks, b""))
        except DownloadError as error:
            self._error = error
            raise
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def _contents(source: _Source, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member; the last chunk only after size and CRC are verified.

    ``ZipFile.open`` would accept a truncated member, or one with trailing bytes, if the CRC matches, and would read the
    directory again for every member.
    """
    last, left, crc = b"", info.file_size, 0
    for chunk in _inflated(source, info):
        left -= len(chunk)
        if left < 0:
            break
        crc = zlib.crc32(chunk, crc)
        if last:
            yield last
        last = chunk
    if left or crc != info.CRC:
        raise _broken(f"{shown(info.filename)} does not match its size and CRC in the directory")
    if last:
        yield last


def _inflated(source: _Source, info: zipfile.ZipInfo) -> Iterator[bytes]:
    start = _data_start(source, info)
    steps = source.steps(start, start + info.compress_size)
    if info.compress_type == zipfile.ZIP_STORED:
        yield from steps
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for data in steps:
            while data:
                yield inflate.decompress(data, STEP)
                data = inflate.unconsumed_tail
            if inflate.unused_data:
                break
        # A few kilobytes that zlib has buffered.
        yield inflate.flush()
    except zlib.error:
        raise _broken(f"{shown(info.filename)} cannot be decompressed") from None
    if inflate.unused_data or not inflate.eof:
        raise _broken(f"{shown(info.filename)} is truncated or has trailing bytes")


def _iter_members(
    path: str, pattern: str, identity: tuple[int, ...], members: list[zipfile.ZipInfo]
) -> Iterator[ArchiveMember]:
    _Source(path, identity).close()
    for member in members:
        if not member.is_dir() and fnmatch.fnmatchcase(member.filename, pattern):
            yield ArchiveMember(path, identity, member)


# --- Extracting --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[str]:
    """Create a hidden folder beside the target and yield its name; at the end rename it, after an error remove it."""
    parent, prefix = target.parent, f".cfplatform-{naming.digest(target.name)}-"
    locks.remove_stale(parent, prefix)
    path, lock = locks.create(parent, prefix, is_folder=True)
    try:
        yield path.name
        refuse_existing(target)
        with local.Folder(parent) as folder:
            directory = folder.descriptor
            os.rename(folder.at(path.name), folder.at(target.name), src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _unpack(
    source: _Source, members: list[zipfile.ZipInfo], parent: Path, root: str, progress: Progress | None
) -> None:
    """Write the members into a folder of ``parent``, without following links created in the meantime."""
    # Members of a folder are usually consecutive.
    for path, group in itertools.groupby(members, lambda info: info.filename.rpartition("/")[0]):
        with local.Folder(parent, root, *filter(None, path.split("/")), make=True) as folder:
            for info in group:
                if info.is_dir():
                    # For its checks only.
                    list(_contents(source, info))
                    continue
                name = folder.at(info.filename.rpartition("/")[2])
                # 0o666: the umask decides, as for any new file.
                opener = functools.partial(os.open, mode=0o666, dir_fd=folder.descriptor)
                # A full disk may be reported only when the file is closed, which is before the folder is renamed.
                with open(name, "xb", opener=opener) as output:
                    for chunk in _contents(source, info):
                        output.write(chunk)
                        if progress is not None:
                            progress(len(chunk))


# --- Checks ------------------------------------------------------------------------------------------------


def _inspect(
    source: _Source, max_members: int, max_total_bytes: int, max_ratio: float
) -> tuple[list[zipfile.ZipInfo], ArchiveInfo]:
    for name, value in (("max_members", max_members), ("max_total_bytes", max_total_bytes), ("max_ratio", max_ratio)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InvalidParameterError(f"{name} must be a number above 0, not {shown(value)}.", parameter=name)
    announced, start, end = _find_directory(source)
    # Before zipfile creates an object for each.
    if (most := max(announced, source.count(_RECORD, start, end))) > max_members:
        raise _over_limit(f"{most:,} members", max_members, "max_members")
    infos = _read_directory(source, start)
    # Some programs write only the lower 16 bits of a larger number.
    if announced not in (len(infos), len(infos) & _FULL16):
        raise _broken(f"it announces {announced:,} members but has {len(infos):,}")
    for info in infos:
        _check_name(info.filename)
        _check_kind(info)
    _check_duplicates(infos, max_members)
    total = sum(info.file_size for info in infos)
    compressed = sum(info.compress_size for info in infos)
    if total > max_total_bytes:
        raise _over_limit(f"{total:,} bytes", max_total_bytes, "max_total_bytes")
    if total > RATIO_FREE_BYTES and total > max_ratio * compressed:
        ratio = f"a compression ratio of {total / max(compressed, 1):,.1f} ({total:,} bytes in {compressed:,})"
        raise _over_limit(ratio, max_ratio, "max_ratio")
    _check_overlap(source, infos, start)
    return infos, ArchiveInfo(len(infos), total)


def _check_overlap(source: _Source, infos: list[zipfile.ZipInfo], start: int) -> None:
    """Refuse members that overlap each other or the directory, and members that it does not list."""
    front, last = start, 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        behind = _data_start(source, info) + info.compress_size
        if behind > start:
            raise _broken(f"{shown(info.filename)} overlaps the directory")
        if info.header_offset < last:
            raise DownloadError("Members of the archive overlap, as in a zip bomb. Do not use it.")
        front, last = min(front, info.header_offset), behind
    # Otherwise the archive may be truncated, and this may be the directory of a nested archive, its last member.
    if source.count(_LOCAL, 0, front):
        raise _broken("its directory does not list the first members")


def _broken(reason: str) -> IncompleteDownloadError:
    return IncompleteDownloadError(f"The archive is damaged or incomplete: {reason}. Download it again.")


def _over_limit(what: str, limit: float, option: str) -> DownloadError:
    return DownloadError(f"The archive has {what}; the limit is {limit:,}. If you trust its source, increase {option}.")


def _find_directory(source: _Source) -> tuple[int, int, int]:
    """Return the number of members in the end record, and the start and end of the directory."""
    tail = source.at(max(0, source.size - _END_FIELDS.size - _FULL16), min(source.size, _END_FIELDS.size + _FULL16))
    at = tail.rfind(_END)
    if 0 <= at <= len(tail) - _END_FIELDS.size:
        end = source.size - len(tail) + at
        _, *numbers, comment = _END_FIELDS.unpack_from(tail, at)
        is_valid = at + _END_FIELDS.size + comment <= len(tail)
        if end >= _END64_FIELDS.size and source.at(end - 20, 4) == _LOCATOR:
            end -= _END64_FIELDS.size
            signature, _, _, _, *numbers = _END64_FIELDS.unpack(source.at(end, _END64_FIELDS.size))
            is_valid = is_valid and signature == _END64
        disk, first_disk, here, count, size, offset = numbers
        # An empty end record inside other bytes is not an archive.
        if is_valid and (disk, first_disk, here) == (0, 0, count) and offset <= end - size and (size or not end):
            return count, end - size, end
    head = source.at(0, min(source.size, 4096))
    if head.lstrip()[:1] in (b"<", b"{", b"["):
        words = blank(server_words(head.decode("utf-8", "replace")))
        raise IncompleteDownloadError(f"The file is text, not a zip archive: {words}. Download it again.")
    raise _broken("it has no complete directory at its end" if head.startswith(b"PK") else "it is not a zip archive")


def _read_directory(source: _Source, start: int) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos, found = archive.infolist(), archive.start_dir
    except UnicodeDecodeError as error:
        raise UnsafePathError(f"The archive has a name that is not valid UTF-8: {shown(error.object)}.") from None
    except OSError as error:
        raise DownloadError(f"Could not read the archive: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error):
        raise _broken("its directory cannot be read") from None
    if found != start:
        raise _broken("its directory is not at the offset in the end record")
    for info in infos:
        # The name as stored; zipfile changes it.
        info.filename = info.orig_filename
    return infos


def _check_name(name: str, windows: bool = os.name == "nt") -> None:
    """Refuse a name that points outside the archive, or that this system does not allow."""
    path = name.removesuffix("/")
    sizes = [len(part.encode()) for part in path.split("/")]
    if _UNSAFE.search(path):
        reason = "it is not a plain relative path"
    elif max(sizes) > _MAX_PART_BYTES or sum(sizes) + len(sizes) > _MAX_NAME_BYTES or len(sizes) > _MAX_DEPTH:
        reason = "it is too long or too deep"
    elif windows and _WINDOWS.search(path):
        reason = "Windows does not allow it"
    else:
        return
    raise UnsafePathError(f"The archive has the unsafe name {shown(name)}: {reason}. Nothing was extracted.")


def _check_kind(info: zipfile.ZipInfo) -> None:
    """Refuse special files, and members that cannot be extracted."""
    name = shown(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    # The type may be missing, and some programs mark folders as files; nothing else may differ.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR if info.is_dir() else 0) or info.external_attr & _REPARSE_POINT:
        raise UnsafePathError(f"{name} in the archive is a link, a device or another special file.")
    if info.flag_bits & _ENCRYPTED:
        raise DownloadError(f"{name} in the archive is encrypted; exports never are.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DownloadError(f"{name} in the archive uses the unknown compression method {info.compress_type}.")
    if info.is_dir() and info.file_size:
        raise _broken(f"the folder {name} has data")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise _broken(f"the sizes of {name} do not match")


def _check_duplicates(infos: list[zipfile.ZipInfo], max_members: int) -> None:
    """Refuse names that are the same on some file systems, and too many folders."""
    is_folder: dict[str, bool] = {}
    for info in infos:
        key = naming.collision_key(info.filename)
        folder, _, file = key.rpartition("/")
        twice = bool(file) and key in is_folder
        if file:
            is_folder[key] = False
        while folder and folder not in is_folder:
            is_folder[folder] = True
            folder = folder.rpartition("/")[0]
        if twice or (folder and not is_folder[folder]):
            raise UnsafePathError(
                f"The archive has {shown(info.filename)} twice, or a name that is the same on some systems: one would "
                "overwrite the other."
            )
        if len(is_folder) > max_members:
            raise _over_limit("too many members and folders", max_members, "max_members")


def _data_start(source: _Source, info: zipfile.ZipInfo) -> int:
    """Check the local header of a member against the directory; return the offset of its data."""
    raw_name = info.filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    length = _LOCAL_FIELDS.size + len(raw_name)
    if info.header_offset + length > source.size:
        raise _broken(f"{shown(info.filename)} starts after the end of the file")
    head = source.at(info.header_offset, length)
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL_FIELDS.unpack_from(head)
    is_same = (
        signature == _LOCAL
        and name_length == len(raw_name)
        and head.endswith(raw_name)
        and method == info.compress_type
        and not (flags ^ info.flag_bits) & (_ENCRYPTED | _UTF8)
    )
    if is_same and not flags & _SIZES_FOLLOW:
        is_same = crc == info.CRC and packed in (info.compress_size, _FULL32) and size in (info.file_size, _FULL32)
    if not is_same:
        raise _broken(f"{shown(info.filename)} has a header that does not match the directory")
    return info.header_offset + length + int(extra_length)
