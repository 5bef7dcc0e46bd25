"""The state file of a destination: what is finished, at which revision, and the results of the last runs.

One SQLite file inside the hidden state folder. It only saves work: a row counts only while the file on disk still has
the recorded size and time, so a state file that is lost, old or damaged costs requests, never correctness.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from .. import naming
from ..exceptions import DestinationBusyError, DestinationError, DownloadError
from . import local

#: Runs whose results are kept.
KEPT_RUNS = 3
#: Results that are collected before they are written together; they inform, nothing depends on them.
RESULTS_AT_ONCE = 500
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

T = TypeVar("T")


def state_path(root: Path) -> Path:
    """Return the state file of a destination."""
    return root / local.STATE_FOLDER / "state.sqlite3"


class FinishedItem(NamedTuple):
    """What is recorded of a downloaded item; ``path`` is relative to the destination."""

    path: str
    revision: str | None
    injected: bool
    etag: str | None
    size: int
    mtime_ns: int


class FinishedAsset(NamedTuple):
    """What is recorded of a downloaded asset; ``path`` is relative to the destination."""

    path: str
    source: str
    size: int
    mtime_ns: int


class ResultRow(NamedTuple):
    """One result as it is recorded; ``error`` is JSON."""

    item_id: str
    batch_id: str | None
    path: str | None
    outcome: str
    size: int
    error: str | None
    asset_path: str | None = None
    asset_size: int = 0
    written: int = 0


class DownloadedRow(NamedTuple):
    """The files of one item, relative to the destination."""

    project_id: str
    item_id: str
    path: str | None
    asset_path: str | None


class State:
    """The open state of one destination, shared by all threads of this process and locked against others."""

    _open: dict[Path, State] = {}
    _open_lock = threading.Lock()

    def __init__(self, root: Path) -> None:
        self.root = root
        self._users = 1
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._closed = False
        try:
            self._lock_file = _lock(root)
            try:
                local.remove_stale(local.partial_folder(root))
                self._db = _connect(state_path(root))
            except BaseException:
                self._lock_file.close()
                raise
        except OSError as error:
            raise local.destination_error(error) from None

    @classmethod
    def open(cls, root: Path) -> State:
        """Open the state of a destination, or join in where this process has it open.

        Raises:
            DestinationBusyError: If another process has it open.
        """
        with cls._open_lock:
            state = cls._open.get(root)
            # After a fork the entry belongs to the parent, as its lock on the folder does.
            if state is not None and state._pid == os.getpid():
                state._users += 1
                return state
            state = cls._open[root] = cls(root)
            return state

    def close(self) -> None:
        """Close it when the last user does."""
        if self._pid != os.getpid():
            # A forked child has copies; the database and the lock stay its parent's.
            return
        with self._open_lock:
            self._users -= 1
            if self._users:
                return
            if self._open.get(self.root) is self:
                del self._open[self.root]
            with self._lock:
                self._closed = True
                self._db.close()
                with contextlib.suppress(OSError):
                    _closed_as[state_path(self.root)] = _stamp(state_path(self.root))
            # By hand, because a child that was forked meanwhile holds the lock open too.
            _flock(self._lock_file, take=False)
            self._lock_file.close()

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        storable = [_storable(value) for value in values]
        return self._alone(lambda db: db.execute(statement, storable).fetchall(), [])

    def _alone(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what ``work`` does with the database under the lock, or ``otherwise`` if it is closed.

        A worker may outlive its run for the length of one request; what it then reports is not needed. No context
        manager of our own holds the lock: Ctrl-C between its parts would leave it locked for ever.
        """
        with self._lock:
            if self._closed:
                return otherwise
            try:
                return work(self._db)
            except sqlite3.Error as error:
                # By its message, as older versions of Python have no code for it.
                if "full" in str(error):
                    advice = f"Free space ({local.free_space(self.root)}), then run it again."
                else:
                    advice = "Remove it and run it again; finished files are then fetched again."
                raise DestinationError(
                    f"The state file {str(state_path(self.root))!r} cannot be used: {error}. {advice}"
                ) from None

    def folder(self, project_id: str, batch_id: str, name: str) -> str:
        """Return the folder of a batch: its sanitized name, which no other batch has.

        It stays the same for the life of the destination unless the batch gets another name.
        """
        plain = naming.safe_name(name)
        # The id distinguishes the batch, and where another project has that id too, both do.
        marks = (batch_id, naming.digest(f"{project_id}/{batch_id}"))
        choices = (plain, *(naming.safe_name(f"{plain}~{mark}") for mark in marks))
        batch = (project_id, batch_id)
        # Looking up and taking a name is one step, else two threads could take the same.
        with self._lock:
            found = self._execute("SELECT name, folder FROM folders WHERE project_id = ? AND batch_id = ?", batch)
            # What the file says is used only where it is one of the names that this code would choose.
            if found and found[0][0] == name and found[0][1] in choices:
                return str(found[0][1])
            for folder in choices:
                key = naming.collision_key(folder)
                holder = self._execute("SELECT project_id, batch_id FROM folders WHERE folder_key = ?", (key,))
                if not holder or holder[0] == batch:
                    self._execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?)", (*batch, name, folder, key))
                    return folder
        raise DownloadError(f"No folder name is free for the batch {name!r} with id {batch_id}.")

    def items(self, project_id: str, item_ids: Sequence[str]) -> dict[str, FinishedItem]:
        """Return what is known of items, by id; at most some hundred ids."""
        columns = "item_id, path, revision, injected, etag, size, mtime_ns"
        # Only question marks are put in.
        statement = f"SELECT {columns} FROM items WHERE project_id = ? AND item_id IN ({_marks(item_ids)})"  # noqa: S608
        rows = self._execute(statement, (project_id, *item_ids))
        found = {row[0]: FinishedItem(*row[1:]) for row in rows}
        return {item_id: found[stored] for item_id in item_ids if (stored := _storable(item_id)) in found}

    def owners(self, path_keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the project and item that have a file name, by :func:`naming.collision_key`."""
        statement = f"SELECT path_key, project_id, item_id FROM items WHERE path_key IN ({_marks(path_keys)})"  # noqa: S608
        rows = self._execute(statement, tuple(path_keys))
        found = {row[0]: (row[1], row[2]) for row in rows}
        return {key: found[stored] for key in path_keys if (stored := _storable(key)) in found}

    def remember(self, project_id: str, item_id: str, path_key: str, item: FinishedItem) -> None:
        """Record a file that has its final name; committed when this returns."""
        self._execute(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (project_id, item_id, item.path, path_key, *item[1:]),
        )

    def asset(self, project_id: str, item_id: str) -> FinishedAsset | None:
        """Return what is known of the asset of an item."""
        rows = self._execute(
            "SELECT path, source, size, mtime_ns FROM assets WHERE project_id = ? AND item_id = ?",
            (project_id, item_id),
        )
        return FinishedAsset(*rows[0]) if rows else None

    def finish_asset(self, project_id: str, item_id: str, asset: FinishedAsset) -> None:
        """Record an asset that has its final name."""
        self._execute("INSERT OR REPLACE INTO assets VALUES (?, ?, ?, ?, ?, ?)", (project_id, item_id, *asset))

    def begin_run(self) -> int:
        """Begin a run and forget the results of old ones; return its number."""
        # Not with RETURNING, which older systems' SQLite does not know.
        run = self._alone(lambda db: int(db.execute("INSERT INTO runs DEFAULT VALUES").lastrowid or 0), 0)
        self._execute("DELETE FROM results WHERE run <= ?", (run - KEPT_RUNS,))
        return run

    def add_results(self, run: int, first: int, rows: list[ResultRow]) -> None:
        """Record results, numbered from ``first``."""
        values = [[_storable(value) for value in (run, first + offset, *row)] for offset, row in enumerate(rows)]

        def write(db: sqlite3.Connection) -> None:
            db.execute("BEGIN")
            # Commits, or takes everything back.
            with db:
                db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

        self._alone(write, None)


# --- The database: opened, and replaced where it is damaged -----------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
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
                raise DestinationError(
                    f"The state file {str(path)!r} cannot be opened: {error} ({local.free_space(path.parent)}). "
                    "Free space or fix the folder."
                ) from None
            time.sleep(0.05)
        except sqlite3.DatabaseError:
            if put_aside:
                raise DestinationError(f"No state file can be made at {str(path)!r}.") from None
            put_aside = True
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            os.replace(path, path.with_name(path.name + ".damaged"))


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


def _lock(root: Path) -> IO[str]:
    """Lock a destination for this process; the operating system releases the lock when the process ends."""
    path = root / local.STATE_FOLDER / "lock"
    file = os.fdopen(local.open_private(path), "r+", encoding="ascii", errors="replace")
    try:
        _flock(file, take=True)
    except OSError:
        holder = file.read(20).strip()
        file.close()
        who = f"Process {holder}" if holder.isdigit() else "Another process"
        raise DestinationBusyError(
            f"{who} is downloading into {str(root)!r}. Wait for it to end, or choose another destination."
        ) from None
    # Only so that others can name it, so a disk that is full does not matter here.
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


if sys.platform == "win32":
    import msvcrt

    def _flock(file: IO[str], *, take: bool) -> None:
        # Far behind the process id, which others read.
        os.lseek(file.fileno(), 1024, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _flock(file: IO[str], *, take: bool) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN)


# --- Read by those who did not write it: nothing is locked, nothing is changed ---------------------------------------


def read_results(root: Path, run: int, outcome: str | None = None) -> Iterator[ResultRow]:
    """Yield the results of a run from the state file, in the order in which they came."""
    statement = (
        "SELECT item_id, batch_id, path, outcome, size, error, asset_path, asset_size, written FROM results "
        "WHERE run = ? AND (? IS NULL OR outcome = ?) ORDER BY position"
    )
    for row in _read(root, statement, (run, outcome, outcome), "The results of this run cannot be read any more"):
        yield ResultRow(*row)


def _read(root: Path, statement: str, values: tuple[Any, ...], problem: str) -> Iterator[tuple[Any, ...]]:
    uri = f"{state_path(root).as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            yield from db.execute(statement, values)
    except sqlite3.Error as error:
        raise DownloadError(f"{problem} from {str(state_path(root))!r}: {error}.") from None


def read_downloaded(root: Path) -> Iterator[DownloadedRow]:
    """Yield what was downloaded into a destination, by project and item."""
    statement = (
        "SELECT project_id, item_id, items.path, assets.path FROM items LEFT JOIN assets USING (project_id, item_id) "
        "UNION ALL SELECT project_id, item_id, NULL, path FROM assets "
        "WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.project_id = assets.project_id "
        "AND items.item_id = assets.item_id) ORDER BY 1, 2"
    )
    return (DownloadedRow(*row) for row in _read(root, statement, (), "What was downloaded cannot be read"))


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _storable(value: Any) -> Any:
    """Return a value that SQLite takes: JSON may hold half a surrogate pair, UTF-8 may not."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _after_fork() -> None:
    # Another thread of the parent may have held it.
    State._open_lock = threading.Lock()
    for state in State._open.values():
        # The parent keeps the lock; a child that outlives it, such as a worker of a pool, must not.
        state._lock_file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
