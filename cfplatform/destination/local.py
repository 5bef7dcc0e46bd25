"""A destination that is a local folder: containment, and files that appear only when complete."""

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

#: Folder inside a destination that holds the state and files not yet complete.
STATE_FOLDER = ".cfplatform"
#: Folder of a batch that holds its assets.
ASSETS_FOLDER = "assets"
#: Folder inside the state folder that holds files until they are complete.
PARTIAL = "partial"
#: Bytes that are read back at a time.
READ_STEP = 256 * 1024

#: Windows does not have EDQUOT.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
#: Whether files can be addressed relative to an open folder, which Windows does not know.
_RELATIVE = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_FILE_URL = re.compile("(?:file|local)://([^/?#]*)([^?#]*)", re.IGNORECASE)
_FOLDER_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Written(NamedTuple):
    """Distinguishes a file that was written from a later one: its size and time, and a digest of its content.

    In place of a time, an object of a store has a number derived from its entity tag; 0 where there is none.
    """

    size: int
    mtime_ns: int
    digest: str | None = None


def prepare_destination(destination: object, what: str = "destination") -> Path:
    """Check a destination, create it with its state folder, and return it as an absolute path.

    Raises:
        InvalidParameterError: If it is blank or a file; it names the argument ``what``, as the next error.
        DestinationError: If it cannot be created or written.
    """
    root = folder_path(destination, what)
    if os.path.exists(root) and not os.path.isdir(root):
        raise InvalidParameterError(f"{what} {str(root)!r} is a file; pass the path of a folder.", parameter=what)
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


class Folder:
    """A folder held open, so that a link put there meanwhile leads nothing elsewhere.

    Where the system cannot address files relative to an open folder, paths are used and links only checked for.

    Args:
        parent: A folder, or one that is open already and stays so.
        names: The folders that lead from there to this one.
        make: Whether to create folders that are missing.

    Raises:
        UnsafePathError: If something else is in the way, such as a link.
    """

    def __init__(self, parent: Path | Folder, *names: str, make: bool = False) -> None:
        #: To be passed as ``dir_fd=`` together with :meth:`at`.
        self.descriptor: int | None = None
        # As text, which is joined faster.
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
            # The error refers to this for as long as somebody keeps it.
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
        self._name = locks.unique_name()
        self._done = False
        self._digest = hashlib.blake2b(digest_size=16)
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
        self._digest.update(chunk)
        view = memoryview(chunk)
        try:
            while len(view):
                view = view[self._file.write(view) :]
        except OSError as error:
            space = f"{free_space(self._folder.path)}, {len(view)} more are needed"
            raise self._destination.failure(OSError(error.errno, f"{error.strerror or error} ({space})")) from None

    def read_back(self) -> Iterator[bytes]:
        """Yield what was written, from its start; nothing can be appended afterwards."""
        with self._destination.errors():
            self._file.seek(0)
            while piece := self._file.read(READ_STEP):
                yield piece

    def commit(self, path: str) -> Written:
        """Give the file its final path; see :meth:`Destination.take`."""
        with self._destination.errors(path):
            # A full disk may show only at close, so the file is closed before it is renamed.
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
    """Say how much space is left."""
    try:
        return f"{shutil.disk_usage(folder).free} bytes are free"
    except OSError:
        return "free space unknown"


def destination_error(error: OSError, what: str) -> DestinationError:
    """Return the error for a destination that cannot be written as a whole; ``what`` begins its message."""
    reason = error.strerror or str(error)
    problem = DestinationError(
        f"{what} cannot be written: {reason}. What is finished is kept; free space or fix the folder, then run it "
        "again."
    )
    problem.errno, problem.strerror, problem.filename = error.errno, reason, error.filename
    return problem


class Destination:
    """A folder of this machine that files go to; paths are relative to it, with ``/`` between their parts.

    Args:
        root: The folder, which holds files until they are complete, too.
        state_root: The folder of the state, if that is another one.
    """

    #: Of a :class:`~cfplatform.destination.remote.RemoteDestination`.
    url: str | None = None
    #: Whether other processes can write to it.
    is_shared = True

    def __init__(self, root: Path, state_root: Path | None = None) -> None:
        # Resolved in each process, since another machine may reach it by a link.
        self.root = root.resolve()
        # As text, which is joined faster.
        self._root = str(self.root)
        self.state_root = state_root or self.root
        # Opened once for all files.
        self._top: Folder | None = None
        self._partial: Folder | None = None
        # Which folder the path led to at first.
        self._identity: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[type[Destination], tuple[Any, ...]]:
        # Folders are opened again in each process.
        return Destination, (self.root, self.state_root)

    def part(self) -> PartFile:
        """Begin a file."""
        with self.errors():
            try:
                return self._part()
            except FileNotFoundError:
                # The state folder may be removed at any time, also while it is in use.
                self.check()
                self._partial = Folder(self._top or self.root, STATE_FOLDER, PARTIAL, make=True)
                return self._part()

    def _part(self) -> PartFile:
        top = self._top = self._top or Folder(self.root)
        folder = self._partial = self._partial or Folder(top, STATE_FOLDER, PARTIAL)
        return PartFile(self, folder)

    def release(self) -> None:
        """Close what is held open for all files of a run, once the last thread that is late has let go of it."""
        self._top = self._partial = None

    def check(self) -> None:
        """Raise if the path leads to another folder by now, or nowhere: what is written would not be found there."""
        found = os.stat(self.root)
        identity = found.st_dev, found.st_ino
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            problem = DestinationError(
                f"The destination {str(self.root)!r} was replaced by another folder while files were written into it. "
                "What is finished is where the folder went. Put it back, then run it again."
            )
            problem.errno = errno.ESTALE
            raise problem

    @contextlib.contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        """Turn errors of the file system into those of :meth:`failure`."""
        try:
            yield
        except CFPlatformError:
            # Before those of the system, as some are both.
            raise
        except OSError as error:
            raise self.failure(error, path) from None

    def failure(self, error: OSError, path: str = "") -> DownloadError:
        """Return what to raise for an error of the file system, which concerns one file or the whole destination.

        No list of error numbers could tell that, so the destination is tried: what cannot take a small file ends the
        run. A full disk takes small files for a while; it ends the run too.
        """
        what = f"The destination {str(self.root)!r}"
        if error.errno in _FULL:
            return destination_error(error, what)
        try:
            self._try_out()
        except DestinationError as replaced:
            return replaced
        except OSError as general:
            return destination_error(general, what)
        name = repr(path) if path else "A file"
        if isinstance(error, FileNotFoundError):
            return IncompleteDownloadError(f"{name} was removed while it was written.")
        return DownloadError(
            f"{name} cannot be written: {error.strerror or error}. Close it where it is open and check the permissions "
            "of its folder, then run it again."
        )

    def _try_out(self) -> None:
        """Do all that saving a file takes, with a small one."""
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
        """Give a complete file of an open folder its final path, in one step; return its size and time.

        A link under the final name is replaced, not followed; a link instead of a folder is refused.
        """
        self.check()
        top = self._top or self.root
        *names, final = path.split("/")
        found = os.stat(folder.at(name), dir_fd=folder.descriptor)
        try:
            target = Folder(top, *names)
        except FileNotFoundError:
            # Removed since the run began.
            target = Folder(top, *names, make=True)
        with target:
            os.replace(folder.at(name), target.at(final), src_dir_fd=folder.descriptor, dst_dir_fd=target.descriptor)
        return Written(found.st_size, found.st_mtime_ns)

    def ensure_folder(self, *names: str) -> None:
        """Create a folder with its parents, unless something else is in the way; see :class:`Folder`."""
        with self.errors():
            Folder(self.root, *names, make=True).close()

    def holds(self, path: str) -> bool:
        """Tell whether there is a file."""
        return os.path.lexists(f"{self.root}/{path}")

    def are_two(self, path: str, other: str) -> bool:
        """Tell whether the paths of two files that are there lead to different ones.

        Where upper and lower case are the same, a folder lists a name in one way only. Inodes would not tell: some file
        systems give one file two of them.
        """
        if naming.collision_key(path) != naming.collision_key(other):
            return True
        names, others = path.split("/"), other.split("/")
        number = next((n for n, (name, each) in enumerate(zip(names, others, strict=False)) if name != each), None)
        return number is not None and {names[number], others[number]} <= self._names("/".join(names[:number]))

    def _names(self, folder: str) -> set[str]:
        """Return the names in a folder; none if it cannot be read."""
        with contextlib.suppress(OSError):
            return {*os.listdir(f"{self.root}/{folder}")}
        return set()

    def unchanged(self, path: str, known: Written) -> Written | None:
        """Return what distinguishes a file now, if it is the one that was recorded, else ``None``.

        A copy, a backup or a file system with whole seconds may have given it another time; then its content counts.
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
        """Remove a file that is still the one that was recorded, and its folder if that was the last one.

        Returns:
            Whether it is gone.
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
            # The folder of assets, then that of the batch; neither goes while something is in it.
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
