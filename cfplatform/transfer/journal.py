"""The journal of a run that creates work items: finished uploads, started requests and created items.

An append-only file of JSON lines, which survives ``kill -9``. It contains no URLs and no metadata, because both may be
secret. Assets are recognized by a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections import Counter
from typing import Any, BinaryIO

from typing_extensions import Self

from ..destination import local, locks
from ..exceptions import InvalidParameterError, shown
from ..http import Interrupted
from ..resources.results import UploadedFile

_HEADER = b'{"journal": "cfplatform work items", "version": 1}\n'
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


class Entry:
    """The journal entry of one asset; kept in memory only if there is no journal."""

    def __init__(self, journal: Journal | None = None, key: str = "", known: dict[str, Any] | None = None) -> None:
        self._journal = journal
        self._key = key
        self.known = known or {}

    def write(self, **fields: Any) -> None:
        """Record fields. Later values replace earlier ones."""
        self.known.update(fields)
        if self._journal is not None:
            self._journal.append({"key": self._key, **fields})


class Journal:
    """An open journal, locked against other runs.

    Raises:
        InvalidParameterError: If the journal is in use or the file is not a journal. The file is then unchanged.
        DestinationError: If the file is not writable.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._name = f"journal: {shown(os.fsdecode(path))}"
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        self._seen: Counter[str] = Counter()
        self._is_broken = False
        self._descriptor: int | None = None
        problem: Exception | None = None
        try:
            self._descriptor = os.open(path, _FLAGS, 0o600)
        except (OSError, ValueError) as error:
            problem = error
        if self._descriptor is None:
            raise self._wrong(f"cannot be opened: {getattr(problem, 'strerror', None) or problem}.")
        try:
            self._read(self._descriptor)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal; later writes of threads that are still in a request are dropped."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                # Explicitly, because a forked child also holds the lock.
                locks.unlock(descriptor)
            os.close(descriptor)

    @property
    def item_ids(self) -> list[str]:
        """The IDs of all items in the journal."""
        return [known["item"] for known in self._known.values() if "item" in known]

    def entry(self, *asset: object) -> Entry:
        """Return the next entry of an asset, which may be given several times."""
        digest = hashlib.sha256(json.dumps(asset).encode()).hexdigest()[:32]
        self._seen[digest] += 1
        key = f"{digest}-{self._seen[digest]}"
        return Entry(self, key, self._known.get(key))

    def append(self, line: dict[str, Any]) -> None:
        """Append a line."""
        with self._lock:
            if self._is_broken:
                # The run ends; nothing may follow an incomplete line.
                raise Interrupted
            if self._descriptor is not None:
                self._is_broken = True
                self._write(self._descriptor, json.dumps(line).encode() + b"\n")
                self._is_broken = False

    def _write(self, descriptor: int, line: bytes) -> None:
        try:
            # A short write happens only on a full disk.
            written = os.write(descriptor, line)
            if written < len(line):
                os.write(descriptor, line[written:])
            return
        except OSError as error:
            problem = local.destination_error(error, self._name)
        raise problem

    def _read(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise self._wrong("is not a regular file.")
        if locks.try_lock(descriptor) is False:
            raise self._wrong("is in use by another run. Wait until it has ended, or use another journal.")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            complete = self._read_lines(file)
        if complete < os.fstat(descriptor).st_size:
            # The last line is incomplete: the process was killed.
            os.ftruncate(descriptor, complete)
        if not complete:
            self._write(descriptor, _HEADER)

    def _read_lines(self, file: BinaryIO) -> int:
        """Read the entries; return the number of bytes in complete lines."""
        complete = 0
        for number, line in enumerate(file, 1):
            if number == 1 and not _HEADER.startswith(line):
                raise self._wrong("is not a cfplatform journal. The file is unchanged; use another path.")
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            if number > 1:
                try:
                    entry = json.loads(line)
                    known = self._known.setdefault(entry.pop("key"), {})
                    known.update(entry)
                    _check(known)
                except (ValueError, LookupError, TypeError, AttributeError):
                    entry = None
                if entry is None:
                    raise self._wrong(f"is damaged in line {number}. The file is unchanged; use another path.")
        return complete

    def _wrong(self, words: str) -> InvalidParameterError:
        return InvalidParameterError(f"{self._name} {words}", parameter="journal")


def _check(known: dict[str, Any]) -> None:
    """Raise an error if an entry has missing or invalid fields."""
    if "file" in known or known.get("is_uploaded"):
        UploadedFile(**known["file"])
    if "item" in known and not (isinstance(known["item"], str) and "batch_id" in known):
        raise ValueError
