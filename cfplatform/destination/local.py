"""A destination that is a local folder: containment, and files that appear only when complete."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import itertools
import os
import re
import secrets
import shutil
import socket
import stat
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import Self

from .. import naming
from ..exceptions import DestinationError, DownloadError, InvalidParameterError, UnsafePathError

#: Folder inside a destination that holds the state and files not yet complete.
STATE_FOLDER = ".cfplatform"
#: Folder of a batch that holds its assets.
ASSETS_FOLDER = "assets"
_PARTIAL = "partial"
#: Bytes that are read back at a time.
READ_STEP = 256 * 1024
#: Age in seconds at which an unfinished file of an unknown process counts as left behind.
STALE_AFTER = 24 * 3600

#: What every other item would meet too. Windows does not have EDQUOT.
_FATAL = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO}
_FATAL.add(getattr(errno, "EDQUOT", errno.ENOSPC))
#: Whether files can be addressed relative to an open folder, which Windows does not know.
_RELATIVE = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
#: Distinguishes this process from an earlier one with the same id, as in a container that was restarted.
_PROCESS = secrets.token_hex(4)
_NUMBERS = itertools.count()
_FILE_URL = re.compile("(?:file|local)://([^/?#]*)([^?#]*)", re.IGNORECASE)
_FOLDER_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Written(NamedTuple):
    """Distinguishes a file that was written from a later one: its size and time.

    In place of a time, an object of a store has a number derived from its entity tag; 0 where there is none.
    """

    size: int
    mtime_ns: int


def prepare_destination(destination: object, what: str = "destination") -> Path:
    """Check a destination, create it with its state folder, and return it as an absolute path.

    Raises:
        InvalidParameterError: If it is blank, a file, or cannot be created or written; it names the argument ``what``.
    """
    root = folder_path(destination, what)
    if os.path.exists(root) and not os.path.isdir(root):
        raise InvalidParameterError(f"{what} {str(root)!r} is a file; pass the path of a folder.", parameter=what)
    try:
        root.mkdir(parents=True, exist_ok=True)
        root = root.resolve()
        Folder(root, STATE_FOLDER, _PARTIAL, make=0o700).close()
        os.chmod(root / STATE_FOLDER, 0o700)
        Destination(root).part().discard()
    except UnsafePathError as error:
        raise InvalidParameterError(str(error), parameter=what) from None
    except OSError as error:
        raise InvalidParameterError(
            f"{what} {str(root)!r} cannot be written: {error.strerror or error}.", parameter=what
        ) from None
    return root


def folder_path(value: object, what: str) -> Path:
    """Return the path of a folder that a caller named, also as a ``file://`` URL.

    Raises:
        InvalidParameterError: If it cannot be the path of a folder.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if isinstance(text, str) and (url := _FILE_URL.match(text.strip())):
        if url[1].lower() not in ("", "localhost"):
            message = f"{what} {text!r} needs an absolute path after three slashes."
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
            f"{what} {text!r} names a home folder that does not exist.", parameter=what
        ) from None


def partial_folder(root: Path) -> Path:
    """Return the folder that holds files not yet complete; on the same file system as their final path."""
    return root / STATE_FOLDER / _PARTIAL


def open_private(path: Path) -> int:
    """Open a file for this user only, made where it is missing; never through a link that somebody put there."""
    return os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)


class Folder:
    """A folder held open, so that a link put there meanwhile leads nothing elsewhere.

    Where the system cannot address files relative to an open folder, paths are used and links only checked for.

    Args:
        parent: A folder, or one that is open already and stays so.
        names: The folders that lead from there to this one.
        make: The mode of folders that are created where they are missing; ``None`` creates none.

    Raises:
        UnsafePathError: If something else is in the way, such as a link.
    """

    def __init__(self, parent: Path | Folder, *names: str, make: int | None = None) -> None:
        #: To be passed as ``dir_fd=`` together with :meth:`at`.
        self.descriptor: int | None = None
        # As text, which is joined faster.
        self._path: str = parent._path if isinstance(parent, Folder) else str(parent)
        if isinstance(parent, Folder) and parent.descriptor is not None:
            self.descriptor = os.dup(parent.descriptor)
        elif _RELATIVE:
            self.descriptor = os.open(self._path, _FOLDER_FLAGS)
        for name in names:
            if make is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.at(name), make, dir_fd=self.descriptor)
            self._enter(name)

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
                f"{str(self.path)!r} is a link or a file where a folder belongs; nothing was written through it. "
                "Remove it or choose another destination."
            ) from None

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder, which is also done when nothing refers to it any more."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def at(self, name: str) -> str:
        """Return the path of a file in the folder, to be passed together with :attr:`descriptor`."""
        return name if self.descriptor is not None else f"{self._path}/{name}"


class PartFile:
    """A file that appears under its final name only when :meth:`commit` is called, and then complete.

    Written under a unique name in the state folder, so that any number of processes stay out of each other's
    way; leaving the ``with`` block without a commit removes it.
    """

    def __init__(self, destination: Destination, folder: Folder) -> None:
        self._destination = destination
        self._folder = folder
        self._name = unique_name()
        self._done = False
        # 0o666 lets the umask decide, as for any file that a program creates.
        opener = functools.partial(os.open, mode=0o666, dir_fd=folder.descriptor)
        self._file = io.FileIO(folder.at(self._name), "x+", opener=opener)

    @property
    def path(self) -> Path:
        """Where it is until it has its final name."""
        return self._folder.path / self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        view = memoryview(chunk)
        try:
            while len(view):
                view = view[self._file.write(view) :]
        except OSError as error:
            space = f"{free_space(self._folder.path)}, {len(view)} more are needed"
            raise OSError(error.errno, f"{error.strerror or error} ({space})") from None

    def read_back(self) -> Iterator[bytes]:
        """Yield what was written, from its start; nothing can be appended afterwards."""
        self._file.seek(0)
        while piece := self._file.read(READ_STEP):
            yield piece

    def commit(self, path: str) -> Written:
        """Give the file its final path; see :meth:`Destination.take`."""
        # A full disk may show only at close, so the file is closed before it is renamed.
        self._file.close()
        written = self._destination.take(self._folder, self._name, path)
        self._done = True
        return written

    def discard(self) -> None:
        """Remove the file unless it was committed."""
        if not self._done:
            self._done = True
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.unlink(self._folder.at(self._name), dir_fd=self._folder.descriptor)


def unique_name() -> str:
    """Return a name for something unfinished that no other process has, and that says which process made it."""
    return f"{_host()}-{os.getpid()}-{_PROCESS}{next(_NUMBERS)}"


@functools.cache
def _host() -> str:
    return naming.digest(socket.gethostname())


def is_left_behind(name: str) -> bool:
    """Tell whether a :func:`unique_name` was made by a process of this host that is gone."""
    host, _, rest = name.partition("-")
    pid, _, mark = rest.partition("-")
    if host != _host() or not pid.isdigit():
        return False
    return not mark.startswith(_PROCESS) if int(pid) == os.getpid() else not _is_running(int(pid))


def remove_stale(folder: Path, prefix: str = "") -> None:
    """Remove unfinished files and folders, named by a prefix and a :func:`unique_name`, that nobody works on any more.

    Their process is one of this host that is gone, or they are older than a day.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.removeprefix(prefix)
            with contextlib.suppress(OSError):
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if not entry.name.startswith(prefix) or not (is_left_behind(name) or age > STALE_AFTER):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _is_running(pid: int) -> bool:
    try:
        # On Windows os.kill(pid, 0) would end the process, so age alone decides there.
        if os.name != "nt":
            os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def free_space(folder: Path) -> str:
    """Say how much space is left."""
    try:
        return f"{shutil.disk_usage(folder).free} bytes are free"
    except OSError:
        return "free space unknown"


def destination_error(error: OSError) -> DownloadError:
    """Return what to raise where the local disk fails: an error that ends the run where every other item would meet it.

    That is a :class:`DestinationError`.
    """
    name = f" {os.path.basename(str(error.filename))!r}" if error.filename else ""
    cls = DestinationError if error.errno in _FATAL else DownloadError
    return cls(
        f"The destination cannot be written{name}: {error.strerror or error}. "
        "What is finished is kept; free space or fix the folder, then run it again."
    )


class Destination:
    """A folder of this machine that files go to; paths are relative to it, with ``/`` between their parts."""

    #: Of a :class:`~cfplatform.destination.remote.RemoteDestination`.
    url: str | None = None
    #: Whether other processes can write to it.
    is_shared = True

    def __init__(self, root: Path) -> None:
        # Resolved in each process, since another machine may reach it by a link.
        self.root = root.resolve()
        # Opened once for all files.
        self._partial: Folder | None = None

    def __reduce__(self) -> tuple[type[Destination], tuple[Any, ...]]:
        # Folders are opened again in each process.
        return Destination, (self.root,)

    def part(self) -> PartFile:
        """Begin a file."""
        folder = self._partial = self._partial or Folder(self.root, STATE_FOLDER, _PARTIAL)
        return PartFile(self, folder)

    def release(self) -> None:
        """Close what is held open for all files of a run, once no late thread uses it any more."""
        self._partial = None

    def take(self, folder: Folder, name: str, path: str) -> Written:
        """Give a complete file of an open folder its final path, in one step; return its size and time.

        A link under the final name is replaced, not followed; a link instead of a folder is refused.

        Raises:
            DownloadError: If it may not be replaced, as a file that another program has open on Windows. That is about
                one file, since the destination could be written.
        """
        *names, final = path.split("/")
        found = os.stat(folder.at(name), dir_fd=folder.descriptor)
        with Folder(self.root, *names) as target:
            try:
                os.replace(
                    folder.at(name), target.at(final), src_dir_fd=folder.descriptor, dst_dir_fd=target.descriptor
                )
            except PermissionError as error:
                raise DownloadError(
                    f"{path!r} cannot be replaced: {error.strerror or error}. Close it where it is open, check the "
                    "permissions of its folder, then run it again."
                ) from None
        return Written(found.st_size, found.st_mtime_ns)

    def ensure_folder(self, *names: str) -> None:
        """Create a folder with its parents, unless something else is in the way; see :class:`Folder`."""
        Folder(self.root, *names, make=0o777).close()

    def has(self, path: str, size: int, mtime_ns: int) -> bool:
        """Tell whether a file still has the size and time that were recorded."""
        try:
            found = os.lstat(f"{self.root}/{path}")
        except OSError:
            return False
        return found.st_size == size and found.st_mtime_ns == mtime_ns

    def remove_unchanged(self, path: str, size: int, mtime_ns: int) -> None:
        """Remove a file that still has the size and time that were recorded; no link is followed."""
        *names, file = path.split("/")
        with contextlib.suppress(FileNotFoundError, UnsafePathError), Folder(self.root, *names) as folder:
            found = os.stat(folder.at(file), dir_fd=folder.descriptor, follow_symlinks=False)
            if (found.st_size, found.st_mtime_ns) == (size, mtime_ns):
                os.unlink(folder.at(file), dir_fd=folder.descriptor)
