"""The database of a state: locked against other processes, opened, replaced where it is damaged, and closed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import IO

from ..exceptions import DestinationBusyError, DownloadError
from . import local

#: Raised when the tables change; a file of another version is put aside and a new one is made.
SCHEMA_VERSION = 2

#: Seconds that another process may hold the database.
LOCK_WAIT = 10.0

_SCHEMA = f"""
CREATE TABLE items (
    project_id TEXT, item_id TEXT, path TEXT, path_key TEXT, revision TEXT, injected INTEGER,
    etag TEXT, size INTEGER, mtime_ns INTEGER, PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
CREATE INDEX items_by_path ON items (path_key);
CREATE TABLE assets (
    project_id TEXT, item_id TEXT, path TEXT, source TEXT, size INTEGER, mtime_ns INTEGER,
    PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
CREATE TABLE folders (
    project_id TEXT, batch_id TEXT, name TEXT, folder TEXT, folder_key TEXT UNIQUE,
    PRIMARY KEY (project_id, batch_id)
) WITHOUT ROWID;
CREATE TABLE runs (run INTEGER PRIMARY KEY);
CREATE TABLE results (
    run INTEGER, position INTEGER, item_id TEXT, batch_id TEXT, path TEXT, outcome TEXT, size INTEGER, error TEXT,
    asset_path TEXT, asset_size INTEGER, written INTEGER, PRIMARY KEY (run, position)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

#: Size and time of the state files that this process closed.
_closed_as: dict[Path, tuple[int, int]] = {}


class StateError(DownloadError):
    """The state file cannot be used; that concerns every item, so it ends a run."""


def state_path(root: Path) -> Path:
    """Return the state file of a destination."""
    return root / local.STATE_FOLDER / "state.sqlite3"


def connect(path: Path) -> sqlite3.Connection:
    """Open the database; one that is damaged or of another version is put aside."""
    give_up = time.monotonic() + LOCK_WAIT
    put_aside = False
    while True:
        try:
            return _open_database(path)
        except sqlite3.OperationalError as error:
            # Nothing is wrong with the file: the disk is full, or another process has it locked; where locks on the
            # folder do nothing, that may be one that makes the file at this moment.
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise StateError(
                    f"The state file {str(path)!r} cannot be opened: {error} ({local.free_space(path.parent)}). "
                    "Free space or fix the folder."
                ) from None
            time.sleep(0.05)
        except sqlite3.DatabaseError:
            if put_aside:
                raise StateError(f"No state file can be made at {str(path)!r}.") from None
            put_aside = True
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            os.replace(path, path.with_name(path.name + ".damaged"))


def disconnect(db: sqlite3.Connection, path: Path) -> None:
    """Close the database."""
    db.close()
    with contextlib.suppress(OSError):
        _closed_as[path] = _stamp(path)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _open_database(path: Path) -> sqlite3.Connection:
    # Created first, so that it is private from the start.
    os.close(local.open_private(path))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_WAIT)
    try:
        # With a write-ahead log a commit survives the death of the process and costs no disk flush.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if path.stat().st_size % db.execute("PRAGMA page_size").fetchone()[0]:
            raise sqlite3.DatabaseError("the last page is cut")
        # Half a second for a million items, so that damage is found here and does not end a run in its middle. Not
        # again where this process closed it and nobody touched it since: items may be downloaded one by one.
        if _closed_as.get(path) != _stamp(path) and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("pages are damaged")
        version = db.execute("PRAGMA user_version").fetchone()[0] or _make_tables(db)
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("the tables are those of another version")
    except BaseException:
        db.close()
        raise
    return db


def _make_tables(db: sqlite3.Connection) -> int:
    """Make the tables unless something is there; return the version."""
    # In one transaction, because where locks do nothing another process may be doing the same.
    db.execute("BEGIN IMMEDIATE")
    with db:
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
        return int(db.execute("PRAGMA user_version").fetchone()[0])


# --- The lock on a destination: one process at a time downloads into it ---------------------------------------------


def lock(root: Path) -> IO[str]:
    """Lock a destination for this process; the operating system releases the lock when the process ends."""
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
    """Release the lock, if that was not done already."""
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
