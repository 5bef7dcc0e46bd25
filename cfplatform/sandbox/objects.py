"""What lies in the storage bucket as a file: uploads, and the zips of exports."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from .database import Database

_PIECE = 1 << 20


@dataclass(frozen=True)
class StoredObject:
    """An object in the storage bucket; its content is at hand, or in a file."""

    content: bytes | Path
    content_type: str
    size: int
    etag: str
    modified_at: int

    @classmethod
    def of_bytes(cls, content: bytes, content_type: str, modified_at: int) -> StoredObject:
        """Return an object with this content."""
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return cls(content, content_type, len(content), etag, modified_at)


class NewFile:
    """A file that is being written; it is removed when its ``with`` block ends, unless it was stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._stored = False
        self._hash = hashlib.md5(usedforsecurity=False)
        self._file = path.open("wb")

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def digest(self) -> bytes:
        """Return the MD5 of what was written."""
        return self._hash.digest()

    def keep(self) -> None:
        """Close the file and leave it where it is."""
        self._file.close()
        self._stored = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._stored:
            _remove(self.path)


class Objects:
    """Keeps files by their path in the space."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder: Path | None = None
        self._files = 0

    def new_file(self) -> NewFile:
        """Return a file to write an object to."""
        return NewFile(self.new_path())

    def new_path(self) -> Path:
        """Return a path of this sandbox's own at which there is no file yet."""
        with self._database.lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="cfplatform-sandbox-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._files += 1
            return self._folder / f"{self._files:08d}"

    def store(self, path: str, file: NewFile, content_type: str) -> StoredObject:
        """Put a file under a path, in place of what was there."""
        file.keep()
        found = StoredObject(file.path, content_type, file.size, file.digest().hex(), _now())
        self._put(path, found, owned=True)
        return found

    def adopt(self, path: str, file: Path, content_type: str, *, owned: bool) -> StoredObject:
        """Put a complete file under a path; one that is not ``owned`` is never removed."""
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with file.open("rb") as source:
            while piece := source.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        found = StoredObject(file, content_type, size, digest.hexdigest(), _now())
        self._put(path, found, owned=owned)
        return found

    def get(self, path: str) -> StoredObject | None:
        """Return what lies under a path."""
        row = self._database.row(
            "SELECT file, content_type, size, etag, modified_at FROM objects WHERE path = ?", (path,)
        )
        return StoredObject(Path(row[0]), *row[1:]) if row else None

    def remove(self, path: str) -> None:
        """Remove what lies under a path, if there is anything."""
        with self._database.lock:
            row = self._database.row("SELECT file, owned FROM objects WHERE path = ?", (path,))
            self._database.execute("DELETE FROM objects WHERE path = ?", (path,))
        if row and row[1]:
            _remove(Path(row[0]))

    def clear(self) -> None:
        """Remove everything."""
        for (path,) in self._database.rows("SELECT path FROM objects"):
            self.remove(path)

    def _put(self, path: str, found: StoredObject, *, owned: bool) -> None:
        self.remove(path)
        values = (path, str(found.content), found.content_type, found.size, found.etag, found.modified_at, owned)
        with self._database.lock:
            self._database.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _now() -> int:
    return int(time.time() * 1_000_000)


def _remove(path: Path) -> None:
    # Windows refuses while the file is being sent; it goes with the folder then.
    with suppress(OSError):
        path.unlink()
