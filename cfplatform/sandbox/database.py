"""The SQLite database that holds every change made to a sandbox."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

_SCHEMA = """
CREATE TABLE items (
    idx INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    patch TEXT,
    annotation TEXT,
    document BLOB
);
CREATE TABLE created_items (
    idx INTEGER PRIMARY KEY,
    asset_url TEXT NOT NULL,
    asset_type TEXT NOT NULL,
    batch_id INTEGER,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE TABLE batches (idx INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE created_batches (idx INTEGER PRIMARY KEY, created_at INTEGER NOT NULL);
CREATE TABLE objects (
    path TEXT PRIMARY KEY,
    file TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_at INTEGER NOT NULL,
    owned INTEGER NOT NULL
);
CREATE TABLE exports (
    idx INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    format TEXT NOT NULL,
    content TEXT NOT NULL,
    wanted TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seconds REAL NOT NULL,
    error TEXT
);
"""
_CLEAR = """
DELETE FROM items;
DELETE FROM created_items;
DELETE FROM batches;
DELETE FROM created_batches;
DELETE FROM objects;
DELETE FROM exports;
"""


class Database:
    """One connection that all threads share; whoever reads more than one answer of it holds ``lock``."""

    def __init__(self, path: str = ":memory:") -> None:
        self.lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A stopped sandbox can still be asked and started again, so the database lives as long as its owner.
        weakref.finalize(self, self._connection.close)
        self._connection.executescript(_SCHEMA)

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run a statement; the lock must be held until the last row is read."""
        return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Run a statement and return all of its rows."""
        with self.lock:
            return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement and return its first row, or ``None``."""
        with self.lock:
            return self._connection.execute(statement, values).fetchone()

    def clear(self) -> None:
        """Forget every change."""
        with self.lock:
            self._connection.executescript(_CLEAR)
