"""Puts images next to the dataset that lists them, as links or copies."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import sqlite3
import weakref
from pathlib import Path
from typing import Any

from .. import naming
from ..exceptions import InvalidParameterError
from .output import names_refusal, prepare_folder, relative_path, written_atomically

#: Ways to put images next to a dataset.
LINK, COPY = "link", "copy"


class ImageFolder:
    """The folders of images and masks next to a dataset, with one file for each original.

    Args:
        folder: The folder of the dataset.
        mode: "link" for hard links (copies where the file system has none), or "copy".
    """

    def __init__(self, folder: Path, mode: str) -> None:
        if mode not in (LINK, COPY):
            raise InvalidParameterError(f"images must be {LINK!r} or {COPY!r}, not {mode!r}.", parameter="images")
        self._folder = folder
        self._is_link = mode == LINK
        self._prepared: set[str] = set()
        # SQLite keeps large tables on disk, in an unnamed file.
        self._placed = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._placed.close)
        self._placed.execute("PRAGMA journal_mode = OFF")
        self._placed.execute("CREATE TABLE placed (source BLOB PRIMARY KEY, name BLOB, key BLOB UNIQUE) WITHOUT ROWID")
        # Never committed: the table is temporary.
        self._placed.execute("BEGIN")

    def place(self, source: Path, folder: str) -> str:
        """Put a file into a folder next to the dataset; return its path relative to the dataset.

        An existing file is used if it has the same content; it is never overwritten.
        """
        original = os.path.realpath(source)
        path = relative_path(original, str(self._folder))
        if known := self._found("SELECT name FROM placed WHERE source = ?", f"{folder}/{original}"):
            return bytes(known[0]).decode("utf-8", "surrogatepass")
        if path.startswith(f"{folder}/"):
            self._add(f"{folder}/{original}", path)
            return path
        if folder not in self._prepared:
            self._prepared.add(folder)
            prepare_folder(self._folder / folder)
        stem, suffix = os.path.splitext(naming.safe_name(source.name))
        name = f"{folder}/{stem}{suffix}"
        attempts = 0
        while self._is_taken(name) or not put(original, self._folder / name, is_link=self._is_link):
            # The name is taken: add a hash of the path, which is the same in every run.
            attempts += 1
            name = f"{folder}/{stem}~{naming.digest(f'{path} {attempts}')}{suffix}"
        self._add(f"{folder}/{original}", name)
        return name

    def _add(self, source: str, name: str) -> None:
        # Existing files may have names that differ only by case.
        self._found("INSERT OR IGNORE INTO placed VALUES (?, ?, ?)", source, name, naming.collision_key(name))

    def _is_taken(self, name: str) -> bool:
        return self._found("SELECT 1 FROM placed WHERE key = ?", naming.collision_key(name)) is not None

    def _found(self, query: str, *values: str) -> Any:
        try:
            return self._placed.execute(query, [each.encode("utf-8", "surrogatepass") for each in values]).fetchone()
        except sqlite3.Error as error:
            raise names_refusal(error) from None


def put(source: str, target: Path, *, is_link: bool) -> bool:
    """Make the link or copy; return ``False`` if another file is there."""
    if is_link:
        # Fails if a file is there, the original is on another disk, or the file system has no hard links.
        with contextlib.suppress(OSError):
            os.link(source, target)
            return True
    if os.path.lexists(target):
        try:
            if not os.path.samefile(source, target):
                return filecmp.cmp(source, target, shallow=False)
        except OSError:
            # A broken link or an unreadable file.
            return False
        if is_link or (os.path.realpath(target) == source and not os.path.islink(target)):
            # The folder itself may be a link to the originals.
            return True
        # A link of an earlier run becomes a copy.
    with written_atomically(target) as temporary:
        shutil.copyfile(source, temporary)
    return True


def upright_size(path: Path) -> tuple[int, int] | None:
    """Return the size of an image with its EXIF orientation applied; ``None`` if it cannot be read.

    Raises:
        ImportError: Without Pillow.
    """
    from .images import read_header

    found = read_header(path)
    return None if found is None else found.upright


def is_rotated_by_others(path: Path, record: dict[str, Any]) -> bool:
    """Return whether other tools rotate an image that was annotated as stored; ``False`` without Pillow."""
    try:
        from .images import read_header
    except ImportError:
        return False
    found = read_header(path)
    return found is not None and found.orientation > 1 and not found.is_rotated_in(record)
