"""What an archive must be before anything of it is unpacked."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from .. import naming
from ..exceptions import DownloadError, UnsafePathError, shown
from .directory import FULL16, LOCAL, STEP, Directory, Entry, Source, broken, data_start, entries, find_directory

#: Members and folders of one archive: a project of millions of items, and about half a gigabyte of memory to check.
MAX_MEMBERS = 5_000_000
#: Bytes of all members together: far more than labels take, far less than would keep a disk busy for a day.
MAX_TOTAL_BYTES = 1 << 40
#: Bytes of all members for each compressed byte. Annotations that differ in their id alone
#: reach about 40, indented ones that are all alike 260; deflate itself ends at 1032.
MAX_RATIO = 500
#: Total below which the ratio does not count: this much does no harm, and small files of zeros are honest.
RATIO_FREE_BYTES = 1 << 30


class ArchiveInfo(NamedTuple):
    """What an archive holds.

    Attributes:
        members: Its files and the folders that it lists.
        total_bytes: Bytes of all files, unpacked.
    """

    members: int
    total_bytes: int


class Limits(NamedTuple):
    """What an archive may hold at the most."""

    members: int
    total_bytes: int
    ratio: float


def inspect(source: Source, limits: Limits) -> tuple[Directory, ArchiveInfo]:
    """Check everything that can be known without unpacking; see :func:`cfplatform.archives.check`."""
    directory = find_directory(source)
    if directory.members > limits.members:
        raise _too_much(f"{directory.members} members", limits.members, "max_members")
    names = _Names(limits)
    starts, ends = array("Q"), array("Q")
    total = compressed = 0
    for entry in entries(source, directory):
        names.add(entry)
        total += entry.size
        compressed += entry.compressed
        if total > limits.total_bytes:
            raise _too_much("more bytes", limits.total_bytes, "max_total_bytes")
        end = data_start(source, entry) + entry.compressed
        if end > directory.start:
            raise broken(f"{shown(entry.name)} reaches into its directory")
        starts.append(entry.offset)
        ends.append(end)
    # Some programs write only the lower 16 bits of the number where it has more.
    if directory.members not in (len(starts), len(starts) & FULL16):
        raise broken(f"it announces {directory.members} members and has {len(starts)}")
    if total > RATIO_FREE_BYTES and total > limits.ratio * compressed:
        raise _too_much(f"{total} bytes in {compressed}", limits.ratio, "max_ratio")
    _check_overlaps(starts, ends)
    _check_front(source, min(starts, default=directory.start))
    return directory, ArchiveInfo(len(starts), total)


def _too_much(what: str, limit: float, option: str) -> DownloadError:
    return DownloadError(
        f"The archive holds {what}; the limit is {limit:g}. If you trust where it comes from, raise {option}."
    )


class _Names:
    """Finds names that some file system takes for the same.

    Only hashes of 64 bits are kept: two equal ones refuse an archive, at odds of one in ten million for a million
    names, and never let one pass.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._last = ""

    def add(self, entry: Entry) -> None:
        folder, _, file = entry.name.rpartition("/")
        if folder != self._last:
            self._last = folder
            key = naming.collision_key(folder)
            while key and hash(key) not in self._folders:
                self._folders.add(hash(key))
                if hash(key) in self._files:
                    raise self._twice(entry)
                key = key.rpartition("/")[0]
        if file:
            number = hash(naming.collision_key(entry.name))
            if number in self._files or number in self._folders:
                raise self._twice(entry)
            self._files.add(number)
        if len(self._files) + len(self._folders) > self._limits.members:
            raise _too_much("more members and folders", self._limits.members, "max_members")

    def _twice(self, entry: Entry) -> UnsafePathError:
        return UnsafePathError(
            f"The archive has {shown(entry.name)} twice, or beside a name that some systems take for the same, "
            "so that one would overwrite the other."
        )


def _check_overlaps(starts: array[int], ends: array[int]) -> None:
    """Refuse members that share bytes with one another."""
    order: Sequence[int] = range(len(starts))
    # Sorted only where it must be: it is what takes the most memory.
    if any(starts[index] < starts[index - 1] for index in range(1, len(starts))):
        order = sorted(order, key=starts.__getitem__)
    last = 0
    for index in order:
        if starts[index] < last:
            raise DownloadError("Members of the archive share the same bytes, as in an archive made to fill disks.")
        last = ends[index]


def _check_front(source: Source, end: int) -> None:
    """Refuse an archive of which only the last member, itself an archive, was found to be whole."""
    kept = b""
    for offset in range(0, end, STEP):
        block = kept + source.read(offset, min(STEP, end - offset))
        if LOCAL in block:
            raise broken("its directory knows nothing of the members at its beginning")
        kept = block[-3:]
