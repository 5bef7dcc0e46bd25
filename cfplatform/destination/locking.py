"""The lock on a destination: one process at a time downloads into it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO

from ..exceptions import DestinationBusyError
from . import local


def lock(root: Path) -> IO[str]:
    """Lock a destination for this process; the operating system lifts the lock when the process ends."""
    path = root / local.STATE_FOLDER / "lock"
    file = os.fdopen(local.open_private(path), "r+", encoding="ascii", errors="replace")
    try:
        _lock_descriptor(file.fileno())
    except OSError:
        holder = file.read(20).strip()
        file.close()
    else:
        # Only to tell others who it is, so a disk that is full does not matter here.
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        return file
    who = f"Process {holder}" if holder.isdigit() else "Another process"
    raise DestinationBusyError(
        f"{who} is downloading into {str(root)!r}. Wait for it to end, or choose another destination."
    )


def unlock(file: IO[str]) -> None:
    """Lift the lock, if that was not done already."""
    if not file.closed:
        # By hand, because a child that was forked meanwhile holds the lock open too.
        _unlock_descriptor(file.fileno())
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock_descriptor(descriptor: int) -> None:
        # Far behind the process id, which others read.
        os.lseek(descriptor, 1024, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock_descriptor(descriptor: int) -> None:
        os.lseek(descriptor, 1024, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock_descriptor(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock_descriptor(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
