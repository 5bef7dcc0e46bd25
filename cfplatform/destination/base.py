"""What a destination can do, whether it is a folder of this machine or the URL of a remote store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from typing_extensions import Self


class Stat(Protocol):
    """Distinguishes a file or object that was written from a later one."""

    @property
    def st_size(self) -> int:
        """Its bytes."""
        ...

    @property
    def st_mtime_ns(self) -> int:
        """Its modification time, or a number derived from its entity tag."""
        ...


class Part(Protocol):
    """A file that appears under its final name only when it is committed, and then complete."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def write(self, chunk: bytes) -> None:
        """Append bytes."""

    def read_back(self) -> Iterator[bytes]:
        """Yield what was written, from its start; nothing can be appended afterwards."""
        ...

    def commit(self, path: str) -> Stat:
        """Make it visible under a path; return what distinguishes it from a later one."""
        ...


class CompleteFile(Protocol):
    """A complete file on this machine, such as a :class:`~cfplatform.transfer.resumable.Resumable`."""

    @property
    def path(self) -> Path:
        """Its path."""
        ...

    def commit(self, path: str, *, flush: bool = True) -> os.stat_result:
        """Move it to a path inside the local destination."""
        ...

    def discard(self) -> None:
        """Remove it."""


class Destination(Protocol):
    """Where files go. All paths are relative to it, with ``/`` between their parts."""

    @property
    def root(self) -> Path:
        """The local folder that holds the state, and files that are not complete yet."""
        ...

    @property
    def url(self) -> str | None:
        """The URL; ``None`` for a folder."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes can write to it."""
        ...

    def part(self) -> Part:
        """Begin a file."""
        ...

    def release(self) -> None:
        """Close what is held open for all files of a run; a thread that is late opens it for itself."""

    def adopt(self, file: CompleteFile, path: str) -> Stat:
        """Give a complete file its final path."""
        ...

    def ensure_folder(self, *names: str) -> None:
        """Create a folder."""

    def has(self, path: str, size: int, mtime_ns: int) -> bool:
        """Tell whether a file is still the one that was written."""
        ...

    def remove_unchanged(self, path: str, size: int, mtime_ns: int) -> None:
        """Remove a file if it is still the one that was written."""
