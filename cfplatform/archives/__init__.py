"""Export archives: checked before anything is unpacked, read member by member, unpacked whole or not at all.

The directory is read by :mod:`zipfile`. What that lets through, or only some versions of Python refuse, is checked
here: names, links, members that share bytes or have another header, numbers that contradict each other, limits, CRCs.

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
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from .. import documents
from ..destination import local
from ..exceptions import DownloadError, InvalidParameterError, InvalidResponseError, shown
from .checks import MAX_MEMBERS, MAX_RATIO, MAX_TOTAL_BYTES, RATIO_FREE_BYTES, ArchiveInfo, Source, inspect, is_folder
from .contents import Contents
from .unpack import FolderInTheMaking, target_folder

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

#: The path of a file.
PathLike = str | os.PathLike[str]
#: Is called with the number of bytes after each step; what it raises ends the call, and nothing is left.
Progress = Callable[[int], Any]


def check(
    path: PathLike,
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
) -> ArchiveInfo:
    """Check a zip file by its directory and headers, without unpacking anything; :func:`verify` reads all of it.

    Memory grows with the number of members, not with their sizes: a million take about 700 MB.

    Args:
        path: The zip file.
        max_members: How many members and folders it may have.
        max_total_bytes: How many bytes all members may have together, unpacked.
        max_ratio: How many bytes may come out of a compressed one, once there are more than ``RATIO_FREE_BYTES``.

    Raises:
        UnsafePathError: If a name leads elsewhere, occurs twice (also in other case or with accents composed
            otherwise), or belongs to a link or device.
        IncompleteDownloadError: If it is no zip file, cut short, or contradicts itself.
        DownloadError: If it is over a limit, encrypted, packed in an unknown way, or cannot be read.

    Example:
        >>> check(client.create_export("to check", sandbox.space_id).download("exports")).members
        20
    """
    with Source(path) as source:
        return inspect(source, max_members, max_total_bytes, max_ratio)[1]


def verify(
    path: PathLike,
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
    progress: Progress | None = None,
) -> ArchiveInfo:
    """Check a zip file as :func:`check` does, then read every member once and compare its size and CRC.

    Args:
        path: The zip file.
        max_members: See :func:`check`.
        max_total_bytes: See :func:`check`.
        max_ratio: See :func:`check`.
        progress: Called with the number of bytes after each step; what it raises ends the call.

    Raises:
        DownloadError: As :func:`check` does; :class:`~cfplatform.IncompleteDownloadError` where a member is damaged.
    """
    with Source(path) as source:
        members, info = inspect(source, max_members, max_total_bytes, max_ratio)
        for member in members:
            for chunk in Contents(source, member).chunks():
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
    """Unpack a zip file into a new folder, which appears only when all of it is there and has proven right.

    Until then everything lies in a hidden folder beside it, which is removed on any failure; if the process is
    killed, the next call for the same destination removes it. Members keep their names exactly; modes and times of
    the archive are dropped, so that files are as any program creates them.

    Args:
        path: The zip file.
        destination: The folder to make; its parents are created. It must not exist: nothing is overwritten or merged.
        max_members: See :func:`check`.
        max_total_bytes: See :func:`check`.
        max_ratio: See :func:`check`.
        progress: Called with the number of bytes after each step; what it raises ends the call.

    Returns:
        The absolute path of the folder.

    Raises:
        DownloadError: As :func:`verify` does, and if the destination exists or cannot be written.
    """
    target = target_folder(destination)
    with Source(path) as source:
        members, info = inspect(source, max_members, max_total_bytes, max_ratio)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target = target.parent.resolve() / target.name
            _check_space(target, info)
            with FolderInTheMaking(target) as folder:
                for member in members:
                    _write(Contents(source, member), member, folder, progress)
                folder.commit()
        except OSError as error:
            raise DownloadError(
                f"The archive cannot be unpacked into {str(target)!r}: {error.strerror or error} "
                f"({local.free_space(target.parent)}). Nothing of it is left; free space or mend the folder, then try "
                "again."
            ) from None
    return target


def _check_space(target: Path, info: ArchiveInfo) -> None:
    """Refuse at once what would fill the disk only after hours."""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(target.parent).free
        if info.total_bytes > free:
            raise DownloadError(
                f"The archive cannot be unpacked into {str(target)!r}: it holds {info.total_bytes} bytes, and {free} "
                "bytes are free. Free space or choose another destination."
            )


def _write(contents: Contents, member: zipfile.ZipInfo, folder: FolderInTheMaking, progress: Progress | None) -> None:
    name = member.orig_filename
    if is_folder(member):
        folder.make(tuple(name[:-1].split("/")))
        # Nothing is read; it is called for its checks.
        contents.readall()
        return
    # A full disk may show only when the file is closed, which is before the folder gets its name.
    with os.fdopen(folder.create(name), "wb") as file:
        for chunk in contents.chunks():
            file.write(chunk)
            if progress is not None:
                progress(len(chunk))


def iter_members(
    path: PathLike,
    pattern: str = "*",
    *,
    max_members: int = MAX_MEMBERS,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Iterator[ArchiveMember]:
    """Iterate over the files in a zip file without unpacking it; the archive is checked by the call itself.

    Args:
        path: The zip file.
        pattern: Which names to yield, as in :mod:`fnmatch`, case-sensitive; ``*`` stands for slashes too, so that
            ``*.json`` finds documents in any folder.
        max_members: See :func:`check`.
        max_total_bytes: See :func:`check`.
        max_ratio: See :func:`check`.

    Yields:
        Each file once, in the order of the archive's directory. Members stay usable when the iterator has moved on.

    Raises:
        DownloadError: As :func:`check` does.

    Example:
        >>> path = client.create_export("to read", sandbox.space_id).download("exports")
        >>> for member in iter_members(path, "*.json"):
        ...     print(member.name.count("/"), sorted(member.json())[:2])
        ...     break
        1 ['annotations', 'categories']
    """
    if not isinstance(pattern, str):
        raise InvalidParameterError(
            f"pattern must be text such as '*.json', not {shown(pattern)}.", parameter="pattern"
        )
    with Source(path) as source:
        members = inspect(source, max_members, max_total_bytes, max_ratio)[0]
        identity = source.identity
    # A program may change its working directory before it reads a member.
    return _iter_members(os.path.abspath(path), pattern, identity, members)


def _iter_members(
    path: str, pattern: str, identity: tuple[int, ...], members: list[zipfile.ZipInfo]
) -> Iterator[ArchiveMember]:
    _reopened(path, identity).close()
    for member in members:
        if not is_folder(member) and fnmatch.fnmatchcase(member.orig_filename, pattern):
            yield ArchiveMember(path, identity, member)


def _reopened(path: str, identity: tuple[int, ...]) -> Source:
    source = Source(path)
    if source.identity != identity:
        source.close()
        raise DownloadError(f"The archive {path!r} has changed since it was checked. Start again.")
    return source


class ArchiveMember:
    """A file in an archive. It holds nothing open, and can be pickled and read in other threads and processes.

    Attributes:
        name: Its name, with folders.
        size: Its bytes, unpacked.
    """

    __slots__ = ("_identity", "_info", "_path", "name", "size")

    def __init__(self, path: str, identity: tuple[int, ...], info: zipfile.ZipInfo) -> None:
        self.name = info.orig_filename
        self.size = info.file_size
        self._path = path
        self._identity = identity
        self._info = info

    def __repr__(self) -> str:
        return f"<ArchiveMember {self.name!r} {self.size} bytes>"

    def open(self) -> BinaryIO:
        """Open it for reading in binary; its last bytes come only after size and CRC have proven right.

        Raises:
            DownloadError: If the archive has changed since it was checked.
        """
        source = _reopened(self._path, self._identity)
        return cast(BinaryIO, io.BufferedReader(Contents(source, self._info, closing=True), 65536))

    def read(self, limit: int = documents.LOAD_LIMIT) -> bytes:
        """Return all of its bytes.

        Args:
            limit: Bytes that it may have; above it, use :meth:`open`.

        Raises:
            DownloadError: If it is larger, or the archive has changed.
            IncompleteDownloadError: If it is damaged.
        """
        if self.size > limit:
            raise DownloadError(f"{shown(self.name)} has {self.size} bytes, over the limit of {limit}. Use open().")
        with self.open() as file:
            return file.read()

    def json(self) -> dict[str, Any]:
        """Return it as a parsed document, such as COCO.

        Raises:
            InvalidResponseError: If it is not one whole JSON object in UTF-8.
            DownloadError: As :meth:`read` does.
        """
        try:
            return documents.parse(self.read())
        except InvalidResponseError as error:
            raise InvalidResponseError(f"{shown(self.name)} in the archive: {error}") from None
