"""File names of images: where the picture is, and no name twice."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import sqlite3
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .. import naming
from ..exceptions import DownloadError

#: A relative path that leads nowhere else: no ``..``, no drive, no backslash, nothing invisible.
_HARMLESS = re.compile(r"(?!/|\.$)(?!(?:.*/)?\.\.(?:/|$))[^\\:\x00-\x1f\x7f]+")


class Names:
    """Remembers a million names without a million names in memory."""

    def __init__(self) -> None:
        # SQLite keeps what is large on the disk, in a file without a name. A number stands for each name: where two
        # names share one, the second is changed without need, which does no harm.
        self._known = sqlite3.connect("", isolation_level=None)
        self._known.execute("PRAGMA journal_mode = OFF")
        self._known.execute("CREATE TABLE names (number INTEGER PRIMARY KEY)")
        # Never ended: it would only be thrown away.
        self._known.execute("BEGIN")

    def take(self, name: str) -> bool:
        """Remember a name; tell whether it was free."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        try:
            return self._known.execute("INSERT OR IGNORE INTO names VALUES (?)", (number,)).rowcount == 1
        except sqlite3.Error as error:
            raise DownloadError(
                f"File names cannot be remembered in the folder for temporary files: {error}. Free space there, or "
                "set SQLITE_TMPDIR to a folder that has some, then run it again."
            ) from None

    def unique(self, name: str, number: int) -> str:
        """Return the name if it was free, else one with the number of its image in it, in the same folder."""
        while not self.take(name):
            stem, suffix = os.path.splitext(name)
            name = f"{stem}~{number}{suffix}"
        return name

    def close(self) -> None:
        """Forget them."""
        with contextlib.suppress(sqlite3.Error):
            self._known.close()


class Local:
    """Paths of pictures as seen from the folder of the dataset.

    Args:
        folder: The folder of the dataset, absolute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._last = ("", "")

    def path(self, picture: str | os.PathLike[str]) -> str:
        """Return the path with ``/`` between its parts: relative, or absolute if it is on another drive."""
        outer, name = os.path.split(os.fspath(picture))
        if outer != self._last[0] or not outer:
            try:
                way = os.path.relpath(outer, self._folder)
            except ValueError:
                way = outer
            way = way.replace(os.sep, "/")
            self._last = (outer, "" if way == "." else f"{way}/")
        return self._last[1] + name


def beside(document: Path, name: Any) -> str | None:
    """Return the picture that a dataset names relative to its own folder, if it is there."""
    if not isinstance(name, str) or not name:
        return None
    path = os.path.normpath(os.path.join(document.parent, name))
    return path if os.path.isfile(path) else None


def harmless(name: str) -> str:
    """Return a name of a document as a relative path that leads nowhere else.

    Example:
        >>> harmless("./street/a.jpg")
        'street/a.jpg'
        >>> harmless("C:\\\\pictures\\\\a.jpg")
        'C__pictures_a.jpg'
    """
    if _HARMLESS.fullmatch(name):
        return posixpath.normpath(name) if "./" in name or "//" in name else name
    return "/".join(naming.safe_name(part) for part in name.split("/") if part) or naming.safe_name(name)
