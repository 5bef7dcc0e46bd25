"""Writes a dataset file in one pass and atomically, with paths to its images."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import posixpath
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from .. import naming
from ..destination import local, locks
from ..exceptions import CFPlatformError, DownloadError, InvalidParameterError
from .layouts import is_url
from .values import as_json

#: Bytes written and copied at a time.
_STEP = 256 * 1024
#: Prefix and suffix of unfinished files, which are not read as labels.
_HIDDEN, _PART = ".cfplatform-", ".part"

#: Compact ASCII JSON, which is safe in any encoding. NaN and infinity are rejected: JSON has neither.
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=as_json).encode

#: A relative path that stays in its folder: no ``..``, drive, backslash or control character.
_CONTAINED = re.compile(r"(?!/|\.$)(?!(?:.*/)?\.\.(?:/|$))[^\\:\x00-\x1f\x7f]+")

#: A URL that would leave the folder if it were used as a path, or that is malformed.
_UNSAFE_URL = re.compile(r":///|/\.\.(?:/|$)|[\\\x00-\x1f\x7f]")


class UnwritableError(Exception):
    """A value cannot be written as JSON."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        #: One of the keys of ``coco.CODES``.
        self.code = "not-finite" if "Out of range float" in str(error) else "not-json"


def encode(value: Any) -> str:
    """Return a value as JSON; raise :class:`UnwritableError` if JSON cannot represent it."""
    try:
        return _encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnwritableError(error) from None


def copied(value: Any) -> Any:
    """Return a deep copy; raise :class:`UnwritableError` if JSON cannot represent the value."""
    try:
        return json.loads(_encode(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise UnwritableError(error) from None


class Section:
    """The entries of one list of a dataset, in an unnamed temporary file, which disappears with the process.

    The file is in the folder of the dataset, because that disk has enough space.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The number of entries so far.
        self.count = 0
        with _output_errors(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=_STEP)  # noqa: SIM115 - see close()

    def add(self, text: str, count: int, *, continues: bool = False) -> None:
        """Append entries as JSON, separated by commas, on the same line if it continues."""
        if not count:
            return
        try:
            start = b"," if continues else b",\n" if self.count else b"\n"
            self._file.write(start + text.encode("ascii"))
        except OSError as error:
            raise _refusal(error, self._folder) from None
        self.count += count

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all entries into a file."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _STEP)

    def close(self) -> None:
        """Close and remove it."""
        # After a failed run, unflushed data is not needed.
        with contextlib.suppress(OSError):
            self._file.close()


@dataclass(frozen=True, eq=False)
class DatasetFile:
    """A dataset that is being written, under a temporary path."""

    #: Creates the temporary file and returns its path.
    begin: Callable[[], Path]
    images: Section
    annotations: Section
    #: The ``file_name`` of each image, and other unique strings.
    names: Names
    folder: Path
    #: Closes the lists.
    stack: ExitStack
    #: Further lists by their name.
    lists: dict[str, Section] = field(default_factory=dict)

    def list_of(self, name: str) -> Section:
        """Return a further list, creating it if it is new."""
        if name not in self.lists:
            self.lists[name] = self.stack.enter_context(closing(Section(self.folder)))
        return self.lists[name]

    def write(self, head: dict[str, Any], lists: dict[str, list[dict[str, Any]]]) -> None:
        """Write the dataset: fields, then lists, then further lists, images and annotations."""
        sections = {**self.lists, "images": self.images, "annotations": self.annotations}
        with open(self.begin(), "wb", buffering=_STEP) as file, _output_errors(Path(file.name).parent):
            file.write(b"{")
            for name, value in head.items():
                file.write(f"{encode(name)}:{encode(value)},\n".encode("ascii"))
            for name, entries in lists.items():
                members = ",".join(f"\n{encode(entry)}" for entry in entries)
                file.write(f'"{name}":[{members}\n],\n'.encode("ascii"))
            for number, (name, section) in enumerate(sections.items()):
                start = ",\n" if number else ""
                file.write(f"{start}{encode(name)}:[".encode("ascii"))
                section.copy_to(file)
                file.write(b"\n]")
            file.write(b"}\n")


@contextlib.contextmanager
def dataset_file(path: Path) -> Iterator[DatasetFile]:
    """Yield a dataset to write, which replaces ``path`` if the block succeeds."""
    folder = path.parent
    with (
        _replacing(path) as begin,
        closing(Section(folder)) as images,
        closing(Section(folder)) as annotations,
        closing(Names()) as names,
        ExitStack() as stack,
    ):
        yield DatasetFile(begin, images, annotations, names, folder, stack)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, which replaces ``path`` if the block succeeds.

    An ``OSError`` of the block becomes a :class:`~cfplatform.DownloadError`.
    """
    with _output_errors(path.parent), _replacing(path) as begin:
        yield begin()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Callable[[], Path]]:
    """Yield a function that creates a temporary file, which replaces ``path`` if the block succeeds."""
    temporary: Path | None = None
    lock: int | None = None

    def begin() -> Path:
        nonlocal temporary, lock
        with _output_errors(path.parent):
            temporary, lock = locks.create(path.parent, _HIDDEN, _PART)
        return temporary

    def release() -> None:
        nonlocal lock
        if lock is not None:
            os.close(lock)
            lock = None

    try:
        yield begin
        if temporary is not None:
            if os.name == "nt":
                # Windows cannot rename an open file.
                release()
            with _output_errors(path.parent):
                os.replace(temporary, path)
    finally:
        release()
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` into the error for an output that cannot be written."""
    try:
        yield
    except CFPlatformError:
        # DownloadError and others may be OSErrors too.
        raise
    except OSError as error:
        raise _refusal(error, folder) from None


def _refusal(error: OSError, folder: Path) -> DownloadError:
    return DownloadError(
        f"Could not write the output in {str(folder)!r}: {error.strerror or error} ({local.free_space(folder)}). "
        "The previous file is unchanged, and no temporary file is left. Free disk space, then run it again."
    )


def prepare_folder(folder: Path) -> None:
    """Create the folder of an output, and remove temporary files of killed processes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(
            f"output folder {str(folder)!r} could not be created: {error.strerror or error}."
        ) from None
    locks.remove_stale(folder, _HIDDEN, _PART)


# --- Names of images -----------------------------------------------------------------------------------------------


class Names:
    """A set of file names in constant memory."""

    def __init__(self) -> None:
        # SQLite keeps large tables on disk, in an unnamed file. Names are stored as hashes: if two hashes collide, the
        # second name is changed unnecessarily.
        self._known = sqlite3.connect("", isolation_level=None)
        self._known.execute("PRAGMA journal_mode = OFF")
        self._known.execute("CREATE TABLE names (number INTEGER PRIMARY KEY)")
        # Never committed: the table is temporary.
        self._known.execute("BEGIN")

    def take(self, name: str) -> bool:
        """Add a name; return whether it was new."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        try:
            return self._known.execute("INSERT OR IGNORE INTO names VALUES (?)", (number,)).rowcount == 1
        except sqlite3.Error as error:
            raise names_refusal(error) from None

    def unique(self, name: str, number: int, kind: str = "") -> str:
        """Add a name and return it; if it is taken, add the number of its image before the extension.

        Names of different kinds do not collide.
        """
        while not self.take(kind + name):
            stem, suffix = os.path.splitext(name)
            name = f"{stem}~{number}{suffix}"
        return name

    def close(self) -> None:
        """Drop all names."""
        with contextlib.suppress(sqlite3.Error):
            self._known.close()


def names_refusal(error: sqlite3.Error) -> DownloadError:
    """Return the error for file names that cannot be stored."""
    return DownloadError(
        f"Could not store file names in the temporary folder: {error}. Free disk space there, or set "
        "SQLITE_TMPDIR to another folder, then run it again."
    )


def relative_path(image: str | os.PathLike[str], folder: str) -> str:
    """Return the path of an image relative to a folder, or absolute if it is on another drive, with ``/``."""
    outer, name = os.path.split(os.path.abspath(image))
    return _relative_folder(outer, folder) + name


@functools.lru_cache(maxsize=64)
def _relative_folder(outer: str, folder: str) -> str:
    try:
        relative = os.path.relpath(outer, folder)
    except ValueError:
        # On another drive.
        relative = outer
    return "" if relative == "." else f"{relative.replace(os.sep, '/')}/"


def beside(document: Path, name: Any) -> str | None:
    """Return the path of an image that a dataset lists relative to its own folder, if the file exists."""
    if not isinstance(name, str) or not name:
        return None
    path = os.path.normpath(os.path.join(document.parent, name))
    return path if os.path.isfile(path) else None


def sanitized(name: str) -> str:
    """Return a file name as a safe relative path; URLs are unchanged.

    Example:
        >>> sanitized("./street/a.jpg")
        'street/a.jpg'
        >>> sanitized("C:\\\\images\\\\a.jpg")
        'C__images_a.jpg'
    """
    if is_url(name) and not _UNSAFE_URL.search(name):
        return name
    if _CONTAINED.fullmatch(name):
        return posixpath.normpath(name) if "./" in name or "//" in name else name
    return "/".join(naming.safe_name(part) for part in name.split("/") if part) or naming.safe_name(name)
