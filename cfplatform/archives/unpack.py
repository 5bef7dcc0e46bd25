"""Unpacking into a folder that appears only when it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

from typing_extensions import Self

from .. import naming
from ..destination import local
from ..exceptions import DownloadError, InvalidParameterError, shown

_FILE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class FolderInTheMaking:
    """A folder that is filled under a unique name beside its place and gets its own name by :meth:`commit`.

    Leaving the ``with`` block without a commit removes it. What a killed process left of the same folder is removed
    by the next one.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        prefix = f".cfplatform-{naming.digest(target.name)}-"
        _remove_stale(target.parent, prefix)
        self._name = prefix + secrets.token_hex(8)
        self._done = False
        self._made: tuple[str, ...] = ()
        with contextlib.ExitStack() as undo:
            os.mkdir(target.parent / self._name)
            undo.callback(os.rmdir, target.parent / self._name)
            # Held open for its lock, which tells others that this process lives.
            self._root = undo.enter_context(local.Folder(target.parent, self._name))
            _lock(self._root)
            self._folder = local.Folder(target.parent, self._name)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()
        if not self._done:
            shutil.rmtree(self._target.parent / self._name, ignore_errors=True)
        self._root.close()

    def create(self, name: str) -> int:
        """Create a file with the folders that it needs, and return its descriptor.

        The mode lets the umask decide, as for any file that a program creates.
        """
        *folders, file = name.split("/")
        self.make(tuple(folders))
        return os.open(self._folder.place(file), _FILE_FLAGS, 0o666, dir_fd=self._folder.descriptor)

    def make(self, parts: tuple[str, ...]) -> None:
        """Create a folder with those around it, and stay in it: members of one folder mostly follow each other."""
        if parts == self._made:
            return
        parent = self._target.parent
        for depth, part in enumerate(parts):
            if parts[: depth + 1] == self._made[: depth + 1]:
                continue
            with local.Folder(parent, self._name, *parts[:depth]) as outer, contextlib.suppress(FileExistsError):
                os.mkdir(outer.place(part), dir_fd=outer.descriptor)
        inner = local.Folder(parent, self._name, *parts)
        self._folder.close()
        self._folder, self._made = inner, parts

    def commit(self) -> None:
        """Give the folder its name in one step."""
        refuse_existing(self._target)
        self._folder.close()
        with local.Folder(self._target.parent) as parent:
            os.rename(
                parent.place(self._name),
                parent.place(self._target.name),
                src_dir_fd=parent.descriptor,
                dst_dir_fd=parent.descriptor,
            )
        self._done = True


def target_folder(destination: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder that is to be made.

    Raises:
        InvalidParameterError: If it cannot be the path of a new folder.
        DownloadError: If something is there already.
    """
    text = os.fspath(destination) if isinstance(destination, (str, os.PathLike)) else destination
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidParameterError(
            f"destination must be the path of a new folder, not {shown(text)}.", parameter="destination"
        )
    try:
        target = Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise InvalidParameterError(
            f"destination {text!r} names a home folder that does not exist.", parameter="destination"
        ) from None
    refuse_existing(target)
    return target


def refuse_existing(target: Path) -> None:
    """Refuse to overwrite anything, also a link that leads nowhere."""
    try:
        os.lstat(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidParameterError(
            f"destination {str(target)!r} cannot be made: {error.strerror or error}.", parameter="destination"
        ) from None
    raise DownloadError(
        f"{str(target)!r} exists already, and nothing was changed in it. Remove it or choose another destination."
    )


def _remove_stale(parent: Path, prefix: str) -> None:
    """Remove what processes that are gone left unfinished."""
    with os.scandir(parent) as found:
        names = [entry.name for entry in found if entry.name.startswith(prefix)]
    for name in names:
        with contextlib.suppress(OSError, DownloadError), local.Folder(parent, name) as folder:
            locked = _lock(folder)
            old = time.time() - os.lstat(parent / name).st_mtime > local.STALE_AFTER
            if locked or (locked is None and old):
                shutil.rmtree(parent / name, ignore_errors=True)


if sys.platform == "win32":

    def _lock(folder: local.Folder) -> bool | None:
        # Folders have no locks there; age alone decides.
        return None
else:
    import fcntl

    def _lock(folder: local.Folder) -> bool | None:
        """Lock a folder for as long as it is held open; ``False`` if another process does, ``None`` if none can."""
        if folder.descriptor is None:
            return None
        try:
            fcntl.flock(folder.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True
