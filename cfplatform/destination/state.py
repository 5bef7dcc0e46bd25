"""The state file of a destination: finished items with their revisions, and the results of the last runs.

A SQLite file in the hidden state folder. It is only a cache: a row is valid only while the file on disk has the
recorded size and time, or size and content. A lost, old or damaged state file costs requests, never correctness.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import naming
from ..exceptions import CFPlatformError, DestinationBusyError, DestinationError, DownloadError, UnsafePathError
from . import local, locks
from .local import Written

#: Number of runs whose results are kept.
KEPT_RUNS = 3
#: Number of results that are written together. Nothing depends on them.
RESULTS_AT_ONCE = 500
#: Increased when the tables change. A file that cannot be upgraded is renamed.
SCHEMA_VERSION = 4

#: Seconds to wait for another process that has locked the database.
LOCK_WAIT = 10.0

_SCHEMA = f"""
CREATE TABLE items (
    project_id TEXT, item_id TEXT, path TEXT, path_key TEXT, revision TEXT, injected INTEGER,
    etag TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT, metadata TEXT, PRIMARY KEY (project_id, item_id)
) WITHOUT ROWID;
CREATE INDEX items_by_path ON items (path_key);
CREATE TABLE assets (
    project_id TEXT, item_id TEXT, path TEXT, source TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT,
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
#: Upgrades from each version to the next one.
_UPGRADES = {
    2: "ALTER TABLE items ADD COLUMN digest TEXT; ALTER TABLE assets ADD COLUMN digest TEXT; PRAGMA user_version = 3",
    3: "ALTER TABLE items ADD COLUMN metadata TEXT; PRAGMA user_version = 4",
}
#: Ways to open a database: the default, for a mount without shared memory (which the write-ahead log needs), and for a
#: mount without locks. Other processes are excluded by the lock on the destination, if locks are supported.
_OPEN_MODES = (("WAL", ""), ("TRUNCATE", ""), ("TRUNCATE", "?nolock=1"))
#: Items looked up at a time; older SQLite versions allow 999 values in a statement.
_AT_ONCE = 500

log = logging.getLogger("cfplatform.destination")

#: Size and time of the state files when this process closed them.
_closed_as: dict[Path, tuple[int, int]] = {}

#: Destinations with a logged warning about missing locks; it is logged once.
_without_locks: set[Path] = set()

#: The types of text cells.
_TEXTS = {str, type(None)}

T = TypeVar("T")


def state_path(root: Path) -> Path:
    """Return the state file of a destination."""
    return root / local.STATE_FOLDER / "state.sqlite3"


class FinishedItem(NamedTuple):
    """The record of a downloaded item; ``path`` is relative to the destination, ``metadata`` is JSON."""

    path: str
    revision: str | None
    injected: bool
    etag: str | None
    size: int
    mtime_ns: int
    digest: str | None = None
    metadata: str | None = None

    @property
    def written(self) -> Written:
        """The identity of the written file."""
        return Written(self.size, self.mtime_ns, self.digest)


class FinishedAsset(NamedTuple):
    """The record of a downloaded asset; ``path`` is relative to the destination."""

    path: str
    source: str
    size: int
    mtime_ns: int
    digest: str | None = None

    @property
    def written(self) -> Written:
        """The identity of the written file."""
        return Written(*self[2:])


class ResultRow(NamedTuple):
    """The record of a result; ``error`` is JSON."""

    item_id: str
    batch_id: str | None
    path: str | None
    outcome: str
    size: int
    error: str | None
    asset_path: str | None = None
    asset_size: int = 0
    written: int = 0


class UnlistedRow(NamedTuple):
    """The records of an item that a run did not list."""

    item_id: str
    document: FinishedItem | None
    asset: FinishedAsset | None


class State:
    """The open state of one destination, shared by the threads of this process and locked against others."""

    _open: dict[tuple[Path, Path], State] = {}
    _open_lock = threading.Lock()

    def __init__(self, root: Path, state_root: Path) -> None:
        #: The folder of the state.
        self.root = state_root
        self._key = root, state_root
        self._users = 1
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._closed = False
        # Running runs.
        self._runs: set[int] = set()
        try:
            self._lock_file = _lock(root)
            try:
                self._db = _connect(state_path(state_root))
            except BaseException:
                os.close(self._lock_file)
                raise
        except CFPlatformError:
            # First, because some are also OSErrors.
            raise
        except OSError as error:
            raise local.destination_error(error, f"The state in {str(state_root)!r}") from None

    @classmethod
    def open(cls, root: Path, state_root: Path | None = None) -> State:
        """Open the state of a destination, or share it if this process has it open.

        Args:
            root: The destination, which is locked.
            state_root: The folder of the state. Defaults to ``root``.

        Raises:
            DestinationBusyError: If another process has it open.
        """
        with cls._open_lock:
            state_root = state_root or root
            state = cls._open.get((root, state_root))
            # After a fork, the entry and its lock belong to the parent.
            if state is not None and state._pid == os.getpid():
                state._users += 1
                return state
            state = cls._open[root, state_root] = cls(root, state_root)
            return state

    def close(self) -> None:
        """Close the state when the last user closes it."""
        if self._pid != os.getpid():
            # In a forked child: the database and the lock belong to the parent.
            return
        with self._open_lock:
            self._users -= 1
            if self._users:
                return
            if self._open.get(self._key) is self:
                del self._open[self._key]
            with self._lock:
                self.restore()
                self._closed = True
                self._db.close()
                with contextlib.suppress(OSError):
                    _closed_as[state_path(self.root)] = _stamp(state_path(self.root))
            with contextlib.suppress(OSError):
                # Explicitly, because a forked child also holds the lock.
                locks.unlock(self._lock_file)
            os.close(self._lock_file)

    def restore(self) -> None:
        """Write the file again if it was removed, which is allowed at any time."""
        path = state_path(self.root)
        with self._lock:
            if not self._closed and not path.exists():
                # Best effort: the state is only a cache.
                with contextlib.suppress(OSError, UnsafePathError, sqlite3.Error):
                    if self.root != self._key[0]:
                        # Only a separate state folder is created again, not a destination that was removed.
                        self.root.mkdir(parents=True, exist_ok=True)
                    local.Folder(self.root, local.STATE_FOLDER, make=True).close()
                    fresh = _connect(path)
                    try:
                        self._db.backup(fresh)
                    except BaseException:
                        fresh.close()
                        raise
                    self._db.close()
                    self._db = fresh

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        storable = [_storable(value) for value in values]
        return self._alone(lambda db: db.execute(statement, storable).fetchall(), [])

    def _alone(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Call ``work`` with the database under the lock; return ``otherwise`` if it is closed.

        A worker may outlive its run by one request; its report is then not needed. The lock has no context manager of
        our own: Ctrl-C between its steps would leave it locked.
        """
        with self._lock:
            if self._closed:
                return otherwise
            try:
                try:
                    return work(self._db)
                except sqlite3.OperationalError:
                    if state_path(self.root).exists():
                        raise
                    self.restore()
                    return work(self._db)
            except DAMAGED as error:
                # Older Python versions have no error code, only the message.
                if "full" in str(error):
                    advice = f"Free some space ({local.free_space(self.root)}), then run it again."
                else:
                    advice = "Remove it and run it again; finished items are then fetched again."
                raise _unusable(
                    error, f"Could not use the state file {str(state_path(self.root))!r}: {error}. {advice}"
                ) from None

    def folder(self, project_id: str, batch_id: str, name: str, current_name: Callable[[str], str | None]) -> str:
        """Return the folder of a batch: its sanitized name, unless another batch has that name now.

        Args:
            current_name: Returns the current name of another batch in the project; ``None`` if it no longer exists.
        """
        plain = naming.safe_name(name)
        # The batch ID makes it unique; if another project has the same ID, a hash of both IDs does.
        marks = (batch_id, naming.digest(f"{project_id}/{batch_id}"))
        choices = (plain, *(naming.safe_name(f"{plain}~{mark}") for mark in marks))
        batch = (project_id, batch_id)
        # One step under the lock, because two threads must not take the same name.
        with self._lock:
            for folder in choices:
                key = naming.collision_key(folder)
                found = self._execute("SELECT project_id, batch_id FROM folders WHERE folder_key = ?", (key,))
                holder = found[0] if found else batch
                if holder == batch:
                    is_free = True
                elif holder[0] == project_id:
                    # The other batch gets a new folder with its next items.
                    theirs = current_name(holder[1])
                    is_free = theirs is None or naming.collision_key(naming.safe_name(theirs)) != key
                else:
                    is_free = False
                if is_free:
                    self._execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?)", (*batch, name, folder, key))
                    return folder
        raise DownloadError(f"No folder name is available for the batch {name!r} with ID {batch_id}.")

    def items(self, project_id: str, item_ids: Sequence[str]) -> dict[str, FinishedItem]:
        """Return the records of items, by ID; for up to a few hundred IDs."""
        columns = "item_id, path, revision, injected, etag, size, mtime_ns, digest, metadata"
        # Only question marks are inserted.
        statement = f"SELECT {columns} FROM items WHERE project_id = ? AND item_id IN ({_marks(item_ids)})"  # noqa: S608
        rows = self._execute(statement, (project_id, *item_ids))
        found = {row[0]: item for row in rows if _is_sound(item := FinishedItem(*row[1:]))}
        return {item_id: found[stored] for item_id in item_ids if (stored := _storable(item_id)) in found}

    def owners(self, path_keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the project and item that have a file name, by :func:`naming.collision_key`."""
        statement = f"SELECT path_key, project_id, item_id FROM items WHERE path_key IN ({_marks(path_keys)})"  # noqa: S608
        rows = self._execute(statement, tuple(path_keys))
        found = {row[0]: (row[1], row[2]) for row in rows}
        return {key: found[stored] for key in path_keys if (stored := _storable(key)) in found}

    def remember(self, project_id: str, item_id: str, path_key: str, item: FinishedItem) -> None:
        """Record a finished file; committed when this returns."""
        self._execute(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (project_id, item_id, item.path, path_key, *item[1:]),
        )

    def asset(self, project_id: str, item_id: str) -> FinishedAsset | None:
        """Return the record of the asset of an item."""
        rows = self._execute(
            "SELECT path, source, size, mtime_ns, digest FROM assets WHERE project_id = ? AND item_id = ?",
            (project_id, item_id),
        )
        assets = [FinishedAsset(*row) for row in rows]
        return assets[0] if assets and _is_sound(assets[0]) else None

    def finish_asset(self, project_id: str, item_id: str, asset: FinishedAsset) -> None:
        """Record a finished asset."""
        self._execute("INSERT OR REPLACE INTO assets VALUES (?, ?, ?, ?, ?, ?, ?)", (project_id, item_id, *asset))

    def begin_run(self) -> int:
        """Begin a run and delete the results of old ones that have ended; return its number."""
        with self._lock:
            # Without RETURNING, which older SQLite versions do not support.
            run = self._alone(lambda db: int(db.execute("INSERT INTO runs DEFAULT VALUES").lastrowid or 0), 0)
            self._runs.add(run)
            self._execute("DELETE FROM results WHERE run <= ?", (min(self._runs) - KEPT_RUNS,))
        return run

    def end_run(self, run: int) -> None:
        """End a run, so its results can be deleted later."""
        with self._lock:
            self._runs.discard(run)

    def add_results(self, run: int, first: int, rows: list[ResultRow]) -> None:
        """Record results, numbered from ``first``."""
        values: list[Sequence[Any]] = [(run, first + offset, *row) for offset, row in enumerate(rows)]

        def write(db: sqlite3.Connection) -> None:
            db.execute("BEGIN")
            # Commits or rolls back.
            with db:
                db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

        try:
            self._alone(write, None)
        except UnicodeEncodeError:
            # Rare, so cells are not checked in advance.
            values = [[_storable(value) for value in row] for row in values]
            self._alone(write, None)

    def unlisted(self, project_id: str, run: int, listed: int) -> Iterator[list[UnlistedRow]]:
        """Yield, in groups, the records of the items of a project that a run did not list.

        Nothing is yielded if the state does not have a result for each of the ``listed`` items.
        """
        if self._execute("SELECT COUNT(*) FROM results WHERE run = ?", (run,)) != [(listed,)]:
            return
        known = " UNION ".join(
            f"SELECT item_id FROM {table} WHERE project_id = ?1 AND typeof(item_id) = 'text' AND item_id NOT IN "  # noqa: S608 - only these names
            "(SELECT item_id FROM results WHERE run = ?2)"
            for table in ("items", "assets")
        )
        table = f"unlisted_{run:d}"
        self._execute(f"CREATE TEMP TABLE {table} AS {known}", (project_id, run))
        last = 0
        while rows := self._execute(
            f"SELECT rowid, item_id FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {_AT_ONCE}",  # noqa: S608
            (last,),
        ):
            last = rows[-1][0]
            found = self.items(project_id, [item_id for _, item_id in rows])
            yield [UnlistedRow(item_id, found.get(item_id), self.asset(project_id, item_id)) for _, item_id in rows]
        self._execute(f"DROP TABLE {table}", ())

    def forget(self, project_id: str, item_id: str) -> None:
        """Delete the rows of an item and its asset."""
        for table in ("items", "assets"):
            # Only the names above are inserted.
            self._execute(f"DELETE FROM {table} WHERE project_id = ? AND item_id = ?", (project_id, item_id))  # noqa: S608


def _is_sound(known: FinishedItem | FinishedAsset) -> bool:
    """Return whether a row is undamaged and its path stays inside the destination."""
    if isinstance(known, FinishedItem):
        path, revision, _, etag, size, mtime_ns, digest, metadata = known
        texts: tuple[Any, ...] = revision, etag, digest, metadata
    else:
        path, source, size, mtime_ns, digest = known
        texts = source, source, digest
    return (
        isinstance(path, str)
        and isinstance(size, int)
        and isinstance(mtime_ns, int)
        and {*map(type, texts)} <= _TEXTS
        and naming.stays_inside(path)
    )


# --- The database -----------------------------------------------------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
    """Open the database; rename it if it is damaged or has another version."""
    give_up = time.monotonic() + LOCK_WAIT
    put_aside = False
    while True:
        try:
            return _open_database(path)
        except sqlite3.OperationalError as error:
            # The file is not damaged: the disk is full, or another process has locked it. Without locks on the folder,
            # another process may be creating the file at this moment.
            if "locked" not in str(error) or time.monotonic() > give_up:
                space = local.free_space(path.parent)
                raise _unusable(
                    error,
                    f"Could not open the state file {str(path)!r}: {error} ({space}). Free some space or fix the "
                    "folder.",
                ) from None
            time.sleep(0.05)
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            if put_aside:
                raise DestinationError(f"Could not create the state file {str(path)!r}.") from None
            put_aside = True
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            os.replace(path, path.with_name(path.name + ".damaged"))


def _unusable(error: Exception, message: str) -> DestinationError:
    problem = DestinationError(message)
    # SQLite does not report the error of the file system.
    problem.errno, problem.strerror = errno.ENOSPC if "full" in str(error) else errno.EIO, str(error)
    return problem


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _open_database(path: Path) -> sqlite3.Connection:
    """Open the database in the first way that works on this mount."""
    # Created first with O_NOFOLLOW: nothing is written through a link.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666))
    failures = []
    for journal, options in _OPEN_MODES:
        db = sqlite3.connect(
            f"{path.as_uri()}{options}", uri=True, isolation_level=None, check_same_thread=False, timeout=LOCK_WAIT
        )
        # Invalid UTF-8 must not fail a query; the row is dropped instead.
        db.text_factory = text
        try:
            _set_up(db, journal, path)
            return db
        except sqlite3.OperationalError as error:
            db.close()
            failures.append(error)
            # Older Python versions have no error code, only the message.
            if "locked" in str(error) or "full" in str(error):
                break
        except BaseException:
            db.close()
            raise
    raise failures[0]


#: Exceptions of a damaged database: SQLite's message may contain invalid UTF-8.
DAMAGED: tuple[type[Exception], ...] = (sqlite3.Error, UnicodeDecodeError)
#: Decodes the bytes of a text cell.
text = functools.partial(str, encoding="utf-8", errors="replace")


def _set_up(db: sqlite3.Connection, journal: str, path: Path) -> None:
    """Set up a connection, and create the tables if there are none."""
    if journal != "WAL":
        # Allows opening a file with a write-ahead log without shared memory.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
    # With a write-ahead log, a commit survives a kill of the process without a disk flush.
    db.execute(f"PRAGMA journal_mode = {journal}")
    if journal != "WAL":
        db.execute("PRAGMA locking_mode = NORMAL")
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    # Without one, each commit would flush. If a power cut damages the file, items are fetched again.
    db.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'OFF'}")
    if path.stat().st_size % db.execute("PRAGMA page_size").fetchone()[0]:
        raise sqlite3.DatabaseError("the last page is truncated")
    # Finds damage before the run; half a second for a million items. Skipped if the file is unchanged since this
    # process closed it, because items may be downloaded one by one.
    if _closed_as.get(path) != _stamp(path) and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("pages are damaged")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version < SCHEMA_VERSION:
        version = _make_tables(db)
    if version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError("the tables have another version")


def _make_tables(db: sqlite3.Connection) -> int:
    """Create the tables, or upgrade those of earlier versions; return the version."""
    # In one transaction: without locks, another process may be doing the same.
    db.execute("BEGIN IMMEDIATE")
    with db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        script = ";".join(_UPGRADES[step] for step in range(version, SCHEMA_VERSION) if version in _UPGRADES)
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            script = _SCHEMA
        for statement in script.split(";"):
            db.execute(statement)
        return int(db.execute("PRAGMA user_version").fetchone()[0])


# --- The lock on a destination --------------------------------------------------------------------------------------


def _lock(root: Path) -> int:
    """Lock a destination for this process. The operating system releases the lock when the process ends."""
    path, flags = root / local.STATE_FOLDER / "lock", os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags | os.O_RDWR, 0o666)
    except PermissionError:
        # It belongs to another user, but can be locked.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        is_alone = locks.lock(descriptor)
        if not is_alone:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            who = f"Process {holder}" if holder.isdigit() else "Another process"
            os.close(descriptor)
            raise DestinationBusyError(
                f"{who} is downloading to {str(root)!r}. Wait until it has ended, or choose another destination."
            )
    except OSError as error:
        is_alone = False
        if root not in _without_locks:
            _without_locks.add(root)
            reason = error.strerror or error
            log.warning("%s: files cannot be locked (%s). Only one process at a time may download to it.", root, reason)
    # Only for messages of other processes, so errors do not matter.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    # With the lock, all unfinished files are stale. Without locks, their age decides.
    locks.remove_stale(root / local.STATE_FOLDER / local.PARTIAL, is_alone=is_alone)
    return descriptor


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _storable(value: Any) -> Any:
    """Return a value that SQLite accepts: JSON may contain lone surrogates, UTF-8 must not."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _after_fork() -> None:
    # Another thread of the parent may hold it.
    State._open_lock = threading.Lock()
    for state in State._open.values():
        # The parent keeps the lock; a child that outlives it, such as a pool worker, must not. -1, because in a child
        # of this process the number may belong to another file.
        if state._lock_file >= 0:
            os.close(state._lock_file)
            state._lock_file = -1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
