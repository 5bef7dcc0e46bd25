"""Local destinations: no writes outside the folder, and atomic writes."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import shutil
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from typing_extensions import Self

from .. import naming
from ..exceptions import (
    CFPlatformError,
    DestinationError,
    DownloadError,
    IncompleteDownloadError,
    InvalidParameterError,
    UnsafePathError,
)
from . import locks

#: Folder inside a destination with the state and incomplete files.
STATE_FOLDER = ".cfplatform"
#: Folder inside a batch folder with the assets.
ASSETS_FOLDER = "assets"
#: Folder inside the state folder with incomplete files.
PARTIAL = "partial"
#: Bytes read at a time.
READ_STEP = 256 * 1024

#: Errors of a full disk. Windows does not have EDQUOT.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
#: Whether files can be opened relative to an open folder, which Windows does not support.
_RELATIVE = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_FILE_URL = re.compile("(?:file|local)://([^/?#]*)([^?#]*)", re.IGNORECASE)
_FOLDER_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Written(NamedTuple):
    """Identifies the content of a written file: size, modification time and a digest.

    For an object in a store, ``mtime_ns`` is a number derived from the entity tag, or 0 if there is none.
    """

    size: int
    mtime_ns: int
    digest: str | None = None


def prepare_destination(destination: object, what: str = "destination") -> Path:
    """Check a destination, create it with its state folder, and return it as an absolute path.

    Raises:
        InvalidParameterError: If it is blank or a file. The message starts with the argument name ``what``.
        DestinationError: If it cannot be created or is not writable.
    """
    root = folder_path(destination, what)
    if os.path.exists(root) and not os.path.isdir(root):
        raise InvalidParameterError(f"{what} {str(root)!r} is a file. Pass the path of a folder.", parameter=what)
    try:
        root.mkdir(parents=True, exist_ok=True)
        root = root.resolve()
        Folder(root, STATE_FOLDER, PARTIAL, make=True).close()
        Destination(root).part().discard()
    except UnsafePathError as error:
        raise InvalidParameterError(str(error), parameter=what) from None
    except CFPlatformError:
        raise
    except OSError as error:
        problem = destination_error(error, f"{what} {str(root)!r}")
        problem.parameter = what
        raise problem from None
    return root


def folder_path(value: object, what: str) -> Path:
    """Return the path of a folder, given as a path or ``file://`` URL.

    Raises:
        InvalidParameterError: If it is not a valid path.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if isinstance(text, str) and (url := _FILE_URL.match(text.strip())):
        if url[1].lower() not in ("", "localhost"):
            message = f"{what} {text!r} must have the form file:///path."
            raise InvalidParameterError(message, parameter=what)
        text = urllib.parse.unquote(url[2])
        if os.name == "nt":
            text = re.sub("^/(?=[A-Za-z]:)", "", text)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidParameterError(f"{what} must be the path of a folder, not {text!r}.", parameter=what)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidParameterError(
            f"{what} {text!r} is in a home folder that does not exist.", parameter=what
        ) from None


class Folder:
    """An open folder: links that are created later have no effect.

    On systems without paths relative to an open folder, links are only checked for.

    Args:
        parent: The path of a folder, or an open folder, which stays open.
        names: The names of the folders from there to this one.
        make: Whether to create missing folders.

    Raises:
        UnsafePathError: If one of the names is a link or a file.
    """

    def __init__(self, parent: Path | Folder, *names: str, make: bool = False) -> None:
        #: Pass it as ``dir_fd=`` together with :meth:`at`.
        self.descriptor: int | None = None
        # A string, which is faster to join.
        self._path: str = parent._path if isinstance(parent, Folder) else str(parent)
        if isinstance(parent, Folder) and parent.descriptor is not None:
            self.descriptor = os.dup(parent.descriptor)
        elif _RELATIVE:
            self.descriptor = os.open(self._path, _FOLDER_FLAGS)
        try:
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(self.at(name), dir_fd=self.descriptor)
                self._enter(name)
        except BaseException:
            # The error refers to this object, which would stay open.
            self.close()
            raise

    def _enter(self, name: str) -> None:
        self._path = f"{self._path}/{name}"
        try:
            if self.descriptor is not None:
                outer, self.descriptor = self.descriptor, os.open(name, _FOLDER_FLAGS, dir_fd=self.descriptor)
                os.close(outer)
            elif not stat.S_ISDIR(os.lstat(self._path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "")
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise UnsafePathError(
                f"{str(self.path)!r} is a link or a file instead of a folder; nothing was written there. "
                "Remove it or choose another destination."
            ) from None

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder. Garbage collection also closes it."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def at(self, name: str) -> str:
        """Return the path of a file in the folder, for use with :attr:`descriptor`."""
        return name if self.descriptor is not None else f"{self._path}/{name}"


class PartFile:
    """A file that is written atomically: :meth:`commit` gives it its final name.

    It has a unique name in the state folder, so any number of processes can write at the same time. Leaving the
    ``with`` block without a commit removes it.
    """

    def __init__(self, destination: Destination, folder: Folder) -> None:
        self._destination = destination
        self._folder = folder
        self._name = locks.unique_name()
        self._done = False
        self._digest = hashlib.blake2b(digest_size=16)
        # 0o666: the umask decides, as for any new file.
        opener = functools.partial(os.open, mode=0o666, dir_fd=folder.descriptor)
        self._file = io.FileIO(folder.at(self._name), "x+", opener=opener)

    @property
    def path(self) -> Path:
        """The path until :meth:`commit`."""
        return self._folder.path / self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._digest.update(chunk)
        view = memoryview(chunk)
        try:
            while len(view):
                view = view[self._file.write(view) :]
        except OSError as error:
            space = f"{free_space(self._folder.path)}, the next write needs {len(view):,}"
            raise self._destination.failure(OSError(error.errno, f"{error.strerror or error} ({space})")) from None

    def read_back(self) -> Iterator[bytes]:
        """Yield the written bytes from the start; nothing can be appended afterwards."""
        with self._destination.errors():
            self._file.seek(0)
            while piece := self._file.read(READ_STEP):
                yield piece

    def commit(self, path: str) -> Written:
        """Give the file its final path; see :meth:`Destination.take`."""
        with self._destination.errors(path):
            # Closed before the rename, because a full disk may be reported only at close.
            self._file.close()
            written = self._destination.take(self._folder, self._name, path)
        self._done = True
        return written._replace(digest=self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the file unless it was committed."""
        if not self._done:
            self._done = True
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.unlink(self._folder.at(self._name), dir_fd=self._folder.descriptor)


def free_space(folder: Path) -> str:
    """Return the free space, for messages."""
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        return "free space unknown"


def destination_error(error: OSError, what: str) -> DestinationError:
    """Return the error for a destination that is not writable; ``what`` starts its message."""
    reason = error.strerror or str(error)
    problem = DestinationError(
        f"{what} cannot be written: {reason}. Finished items are kept; free some space or fix the folder, then run it "
        "again."
    )
    problem.errno, problem.strerror, problem.filename = error.errno, reason, error.filename
    return problem


class Destination:
    """A destination in a local folder. Paths are relative to it and use ``/``.

    Args:
        root: The folder, which also has the incomplete files.
        state_root: The folder of the state. Defaults to ``root``.
    """

    #: The URL of a :class:`~cfplatform.destination.remote.RemoteDestination`.
    url: str | None = None
    #: Whether other processes can write to it.
    is_shared = True

    def __init__(self, root: Path, state_root: Path | None = None) -> None:
        # Resolved in each process, because the path may be a link on another machine.
        self.root = root.resolve()
        # A string, which is faster to join.
        self._root = str(self.root)
        self.state_root = state_root or self.root
        # Opened once for all files.
        self._top: Folder | None = None
        self._partial: Folder | None = None
        # The identity of the folder at the first check.
        self._identity: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[type[Destination], tuple[Any, ...]]:
        # Folders are opened again in each process.
        return Destination, (self.root, self.state_root)

    def part(self) -> PartFile:
        """Create a file, to be committed later."""
        with self.errors():
            try:
                return self._part()
            except FileNotFoundError:
                # The state folder may be removed at any time.
                self.check()
                self._partial = Folder(self._top or self.root, STATE_FOLDER, PARTIAL, make=True)
                return self._part()

    def _part(self) -> PartFile:
        top = self._top = self._top or Folder(self.root)
        folder = self._partial = self._partial or Folder(top, STATE_FOLDER, PARTIAL)
        return PartFile(self, folder)

    def release(self) -> None:
        """Close the open folders of a run, once no thread uses them."""
        self._top = self._partial = None

    def check(self) -> None:
        """Raise if the folder was removed or replaced by another one since the first check."""
        found = os.stat(self.root)
        identity = found.st_dev, found.st_ino
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            problem = DestinationError(
                f"The destination {str(self.root)!r} was replaced by another folder during the run. Finished items are "
                "in the original folder. Move it back, then run it again."
            )
            problem.errno = errno.ESTALE
            raise problem

    @contextlib.contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        """Convert errors of the file system with :meth:`failure`."""
        try:
            yield
        except CFPlatformError:
            # First, because some are also OSErrors.
            raise
        except OSError as error:
            raise self.failure(error, path) from None

    def failure(self, error: OSError, path: str = "") -> DownloadError:
        """Convert an error of the file system, which affects one file or the entire destination.

        Error numbers do not show which, so a small file is written as a test: if that fails too, the run ends. A full
        disk always ends the run, although it may have space for a small file.
        """
        what = f"The destination {str(self.root)!r}"
        if error.errno in _FULL:
            return destination_error(error, what)
        try:
            self._test_write()
        except DestinationError as replaced:
            return replaced
        except OSError as general:
            return destination_error(general, what)
        name = repr(path) if path else "a file"
        if isinstance(error, FileNotFoundError):
            return IncompleteDownloadError(f"Could not finish {name}: it was removed during the download.")
        return DownloadError(
            f"Could not write {name}: {error.strerror or error}. Close it in other programs, check the permissions "
            "of its folder, and run it again."
        )

    def _test_write(self) -> None:
        """Write and rename a small file as a test."""
        self.check()
        with Folder(self.root, STATE_FOLDER, PARTIAL, make=True) as folder:
            directory, names = folder.descriptor, [folder.at(locks.unique_name()) for _ in range(2)]
            try:
                with open(os.open(names[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=directory), "wb") as file:
                    file.write(b"cfplatform")
                os.replace(*names, src_dir_fd=directory, dst_dir_fd=directory)
            finally:
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)

    def take(self, folder: Folder, name: str, path: str) -> Written:
        """Move a complete file in an open folder to its final path atomically; return its size and time.

        A link at the final path is replaced, not followed. A link instead of a folder is refused.
        """
        self.check()
        top = self._top or self.root
        *names, final = path.split("/")
        found = os.stat(folder.at(name), dir_fd=folder.descriptor)
        try:
            target = Folder(top, *names)
        except FileNotFoundError:
            # Removed during the run.
            target = Folder(top, *names, make=True)
        with target:
            os.replace(folder.at(name), target.at(final), src_dir_fd=folder.descriptor, dst_dir_fd=target.descriptor)
        return Written(found.st_size, found.st_mtime_ns)

    def ensure_folder(self, *names: str) -> None:
        """Create a folder with its parents; see :class:`Folder`."""
        with self.errors():
            Folder(self.root, *names, make=True).close()

    def holds(self, path: str) -> bool:
        """Return whether a file exists."""
        return os.path.lexists(f"{self.root}/{path}")

    def are_different(self, path: str, other: str) -> bool:
        """Return whether two paths of existing files are different files.

        On a case-insensitive file system, a folder lists only one of the names. Inodes cannot be compared: on some file
        systems, a file has two.
        """
        if naming.collision_key(path) != naming.collision_key(other):
            return True
        names, others = path.split("/"), other.split("/")
        number = next((n for n, (name, each) in enumerate(zip(names, others, strict=False)) if name != each), None)
        return number is not None and {names[number], others[number]} <= self._names("/".join(names[:number]))

    def _names(self, folder: str) -> set[str]:
        """Return the names in a folder; empty if it cannot be read."""
        with contextlib.suppress(OSError):
            return {*os.listdir(f"{self.root}/{folder}")}
        return set()

    def unchanged(self, path: str, known: Written) -> Written | None:
        """Return the current identity of a file if it is unchanged, else ``None``.

        If only the time differs, as after a copy or restore, the content is compared.
        """
        try:
            found = os.lstat(f"{self._root}/{path}")
            if found.st_size != known.size or not stat.S_ISREG(found.st_mode):
                return None
            if found.st_mtime_ns == known.mtime_ns:
                return known
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            *names, file = path.split("/")
            with Folder(self.root, *names) as folder:
                descriptor = os.open(folder.at(file), flags, dir_fd=folder.descriptor)
            with open(descriptor, "rb", buffering=0) as content:
                is_same = known.digest is not None and digest(content) == known.digest
        except (OSError, UnsafePathError):
            return None
        return known._replace(mtime_ns=found.st_mtime_ns) if is_same else None

    def remove_unchanged(self, path: str, known: Written) -> bool:
        """Remove a file if it is unchanged, and its folder if it is then empty.

        Returns:
            Whether the file is gone.
        """
        if self.unchanged(path, known) is None:
            return not self.holds(path)
        *names, file = path.split("/")
        try:
            with Folder(self.root, *names) as folder:
                os.unlink(folder.at(file), dir_fd=folder.descriptor)
        except (OSError, UnsafePathError):
            return False
        with contextlib.suppress(OSError, UnsafePathError):
            # The folder of assets, then that of the batch; only if empty.
            while names:
                empty = names.pop()
                with Folder(self.root, *names) as folder:
                    os.rmdir(folder.at(empty), dir_fd=folder.descriptor)
        return True


def digest(file: BinaryIO) -> str:
    """Return the digest of the content of an open file."""
    file.seek(0)
    found = hashlib.blake2b(digest_size=16)
    while piece := file.read(READ_STEP):
        found.update(piece)
    return found.hexdigest()
