"""Locks on unfinished files in use. The operating system releases a lock when its holder ends.

Host names and process IDs are not reliable: containers share them, and the next pod has different ones. On a file
system without locks, the age of a file is used instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import time
from pathlib import Path

#: Seconds without changes after which an unfinished file is stale, if files cannot be locked.
STALE_AFTER = 24 * 3600
#: The byte to lock. Windows locks bytes against all processes, so it must be one that no reader needs; its offset has
#: 32 bits.
_BYTE = (1 << 31) - 2
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def lock(descriptor: int) -> bool:
    """Lock an open file; return ``False`` if another holder has the lock.

    It stays locked until this process and its forked children have closed it. Opening the file again creates another
    holder, even in the same process.

    Raises:
        OSError: If the file system does not support locks.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file like :func:`lock`; return ``None`` if the file system does not support locks."""
    try:
        return lock(descriptor)
    except OSError:
        return None


def unique_name() -> str:
    """Return a random name."""
    return secrets.token_hex(8)


def is_at(descriptor: int, path: str | Path, folder: int | None = None) -> bool:
    """Return whether an open file still has this path, relative to an open folder if given."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return False


def create(folder: Path, prefix: str, suffix: str = "", *, is_folder: bool = False) -> tuple[Path, int | None]:
    """Create and lock an unfinished file or folder; return its path and the descriptor to close when it is finished.

    The descriptor is ``None`` if it cannot be opened, such as a folder on Windows; its age then protects it.
    """
    while True:
        path = folder / f"{prefix}{unique_name()}{suffix}"
        if is_folder:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            # Another process removed it as stale before it was locked, as below.
            continue
        except PermissionError:
            return path, None
        if try_lock(descriptor) is not False and is_at(descriptor, path):
            return path, descriptor
        os.close(descriptor)


def remove_stale(folder: Path, prefix: str = "", suffix: str = "", *, is_alone: bool = False) -> None:
    """Remove unfinished files and folders that are not in use.

    Args:
        prefix: Start of their names; ``suffix``: end of their names.
        is_alone: Whether no other process can be using them.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(suffix):
                with contextlib.suppress(OSError):
                    _remove_stale(Path(entry.path), is_alone=is_alone)


def _remove_stale(path: Path, *, is_alone: bool) -> None:
    found = path.lstat()
    descriptor = None
    if not is_alone and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        is_free = True if is_alone else try_lock(descriptor) if descriptor is not None else None
        if is_free is None:
            is_free = time.time() - found.st_mtime > STALE_AFTER
        if is_free and descriptor is not None and os.name == "nt":
            # Windows cannot remove open files, so this fails if another process has opened it.
            os.close(descriptor)
            descriptor = None
        if is_free and stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif is_free:
            path.unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        _at_byte(descriptor, msvcrt.LK_NBLCK)

    def unlock(descriptor: int) -> None:
        """Release a lock, also for forked children."""
        _at_byte(descriptor, msvcrt.LK_UNLCK)

    def _at_byte(descriptor: int, operation: int) -> None:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, operation, 1)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(descriptor: int) -> None:
        """Release a lock, also for forked children."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
