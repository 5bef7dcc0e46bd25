"""Locks on open files, which the operating system releases when their holder ends: the only proof that it is alive."""

from __future__ import annotations

import errno
import os
import sys

#: A byte that no reader needs, since Windows locks bytes against everybody; below 2 GiB, as its function has 32 bits.
_BYTE = (1 << 31) - 2


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file; return whether that succeeded, or ``None`` where the file system has no locks.

    It stays locked until it is closed, by this process and by children that were forked meanwhile. Another opening of
    the file is somebody else, in this process too.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        # Every other error means that this file system cannot do it.
        return False if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK) else None
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        _at_byte(descriptor, msvcrt.LK_NBLCK)

    def unlock(descriptor: int) -> None:
        """Release a lock, also for children that were forked meanwhile."""
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
        """Release a lock, also for children that were forked meanwhile."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
