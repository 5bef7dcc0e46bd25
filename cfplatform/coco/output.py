"""The file of a dataset: written in one pass and atomically, with paths that lead to the images."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from .. import naming
from ..destination import local
from ..exceptions import CFPlatformError, DownloadError, InvalidParameterError

#: Bytes written and copied at a time.
_STEP = 256 * 1024
#: How names of unfinished files begin and end; a folder of labels does not read them.
_HIDDEN, _PART = ".", ".part"

#: Compact JSON in ASCII, which is read the same in any encoding. NaN and infinity are refused: JSON has neither.
encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

#: A relative path that stays in its folder: no ``..``, drive, backslash or control character.
_CONTAINED = re.compile(r"(?!/|\.$)(?!(?:.*/)?\.\.(?:/|$))[^\\:\x00-\x1f\x7f]+")


class Section:
    """The entries of one list of the dataset, in a temporary file without a name: nothing is left if the process dies.

    Args:
        folder: The folder of the dataset, whose disk has to hold the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Entries so far.
        self.count = 0
        self._separator = b"\n"
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=_STEP)  # noqa: SIM115 - see close()
        except OSError as error:
            raise refusal(error, folder) from None

    def add(self, text: str, count: int) -> None:
        """Append entries, as JSON with commas between them."""
        if not count:
            return
        try:
            self._file.write(self._separator + text.encode("ascii"))
        except OSError as error:
            raise refusal(error, self._folder) from None
        self._separator = b",\n"
        self.count += count

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all entries into a file."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _STEP)

    def close(self) -> None:
        """Close and remove it."""
        # After a failed run nobody needs what could not be flushed.
        with contextlib.suppress(OSError):
            self._file.close()


class DatasetFile:
    """A dataset that is being written.

    Args:
        path: Its final path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = _temporary(path)
        with ExitStack() as stack:
            self.images = Section(path.parent)
            stack.callback(self.images.close)
            self.annotations = Section(path.parent)
            stack.callback(self.annotations.close)
            #: The ``file_name`` of each image.
            self.names = Names()
            stack.callback(self.names.close)
            stack.callback(discard, self._temporary)
            self._closing = stack.pop_all()

    def write(self, head: dict[str, Any], lists: dict[str, list[dict[str, Any]]]) -> None:
        """Write the dataset under its temporary name.

        Args:
            head: Members that come first.
            lists: Lists that come before those of images and annotations.
        """
        try:
            with open(self._temporary, "xb", buffering=_STEP) as file:
                file.write(b"{")
                for name, value in head.items():
                    file.write(f"{encode(name)}:{encode(value)},\n".encode("ascii"))
                for name, entries in lists.items():
                    members = ",".join(f"\n{encode(entry)}" for entry in entries)
                    file.write(f'"{name}":[{members}\n],\n'.encode("ascii"))
                file.write(b'"images":[')
                self.images.copy_to(file)
                file.write(b'\n],\n"annotations":[')
                self.annotations.copy_to(file)
                file.write(b"\n]}\n")
        except OSError as error:
            raise refusal(error, self.path.parent) from None

    def commit(self) -> None:
        """Move it to its final path."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise refusal(error, self.path.parent) from None

    def close(self) -> None:
        """Remove all temporary files."""
        self._closing.close()


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, which replaces ``path`` if the block succeeds.

    Raises:
        DownloadError: If it cannot be written.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except CFPlatformError:
        # Some of them are OSErrors too.
        raise
    except OSError as error:
        raise refusal(error, path.parent) from None
    finally:
        discard(temporary)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_HIDDEN}{local.unique_name()}{_PART}")


def discard(temporary: Path) -> None:
    """Remove an unfinished file."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def prepare_folder(folder: Path) -> None:
    """Create the folder of an output, and remove temporary files that killed processes of this host left in it.

    Raises:
        InvalidParameterError: If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(
            f"output folder {str(folder)!r} cannot be made: {error.strerror or error}."
        ) from None
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(_HIDDEN) and name.endswith(_PART) and local.is_left_behind(name[1 : -len(_PART)]):
                discard(folder / name)


def refusal(error: OSError, folder: Path) -> DownloadError:
    """Return the error for an output that cannot be written."""
    return DownloadError(
        f"The output in {str(folder)!r} cannot be written: {error.strerror or error} ({local.free_space(folder)}). "
        "The previous file is unchanged, and no temporary file is left. Free disk space, then run it again."
    )


# --- Names of images -----------------------------------------------------------------------------------------------


class Names:
    """A set of file names that does not grow in memory."""

    def __init__(self) -> None:
        # SQLite keeps large tables on disk, in a file without a name. A hash stands for each name: if two names share
        # one, the second is changed without need, which does no harm.
        self._known = sqlite3.connect("", isolation_level=None)
        self._known.execute("PRAGMA journal_mode = OFF")
        self._known.execute("CREATE TABLE names (number INTEGER PRIMARY KEY)")
        # Never committed: the table is temporary.
        self._known.execute("BEGIN")

    def take(self, name: str) -> bool:
        """Add a name; tell whether it was new."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        try:
            return self._known.execute("INSERT OR IGNORE INTO names VALUES (?)", (number,)).rowcount == 1
        except sqlite3.Error as error:
            raise DownloadError(
                f"File names cannot be stored in the temporary folder: {error}. Free disk space there, or set "
                "SQLITE_TMPDIR to another folder, then run it again."
            ) from None

    def unique(self, name: str, number: int) -> str:
        """Add a name and return it; if it was taken, with the number of its image before the extension."""
        while not self.take(name):
            stem, suffix = os.path.splitext(name)
            name = f"{stem}~{number}{suffix}"
        return name

    def close(self) -> None:
        """Drop all names."""
        with contextlib.suppress(sqlite3.Error):
            self._known.close()


class RelativePaths:
    """Paths of images relative to the folder of the dataset.

    Args:
        folder: The folder of the dataset, absolute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._last = ("", "")

    def path(self, image: str | os.PathLike[str]) -> str:
        """Return the path with ``/`` as separator: relative, or absolute if it is on another drive."""
        outer, name = os.path.split(os.fspath(image))
        if outer != self._last[0] or not outer:
            try:
                relative = os.path.relpath(outer, self._folder)
            except ValueError:
                relative = outer
            relative = relative.replace(os.sep, "/")
            self._last = (outer, "" if relative == "." else f"{relative}/")
        return self._last[1] + name


def beside(document: Path, name: Any) -> str | None:
    """Return the path of an image that a dataset names relative to its own folder, if the file exists."""
    if not isinstance(name, str) or not name:
        return None
    path = os.path.normpath(os.path.join(document.parent, name))
    return path if os.path.isfile(path) else None


def sanitized(name: str) -> str:
    """Return a file name of a document as a relative path that stays in its folder.

    Example:
        >>> sanitized("./street/a.jpg")
        'street/a.jpg'
        >>> sanitized("C:\\\\images\\\\a.jpg")
        'C__images_a.jpg'
    """
    if _CONTAINED.fullmatch(name):
        return posixpath.normpath(name) if "./" in name or "//" in name else name
    return "/".join(naming.safe_name(part) for part in name.split("/") if part) or naming.safe_name(name)
