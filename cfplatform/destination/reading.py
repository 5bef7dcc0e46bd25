"""Read the state file without locks or writes, so readers never block a run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import naming
from ..exceptions import DownloadError
from .state import DAMAGED, ResultRow, state_path, text

#: The first schema version with the metadata of items.
_WITH_METADATA = 4

#: Rows read at a time.
_PAGE = 5_000
#: Larger than any position of a result.
_ALL = 1 << 62


class DownloadedRow(NamedTuple):
    """The files of one item, relative to the destination, and its metadata as JSON."""

    project_id: str
    item_id: str
    path: str | None
    asset_path: str | None
    metadata: str | None


def read_results(
    root: Path, run: int, outcome: str | None = None, first: int = 0, stop: int = _ALL
) -> Iterator[ResultRow]:
    """Yield the results of a run from the state file, in order, from position ``first`` to ``stop``."""
    statement = (
        "SELECT position, item_id, batch_id, path, outcome, size, error, asset_path, asset_size, written FROM results "
        "WHERE run = ? AND position > ? AND position < ? AND (? IS NULL OR outcome = ?) ORDER BY position LIMIT ?"
    )
    last, problem = first - 1, "Could not read the results of this run"
    while rows := _read(root, statement, (run, last, stop, outcome, outcome, _PAGE), problem):
        last = rows[-1][0]
        for row in rows:
            yield ResultRow(*row[1:])


def read_downloaded(root: Path) -> Iterator[DownloadedRow]:
    """Yield the downloaded items of a destination, by project and item, without those with damaged paths."""
    problem = "Could not read the downloaded items"
    # Readers do not upgrade the tables, which may have an older version.
    has_metadata = _read(root, "PRAGMA user_version", (), problem)[0][0] >= _WITH_METADATA
    columns = {"items": "metadata" if has_metadata else "NULL", "assets": "NULL"}
    files = heapq.merge(*(_files(root, *each, problem) for each in columns.items()), key=lambda file: file[:3])
    for (project_id, item_id), found in itertools.groupby(files, key=lambda file: file[:2]):
        own = {table: (path, metadata) for *_, table, path, metadata in found}
        path, metadata = own.get("items", (None, None))
        yield DownloadedRow(project_id, item_id, path, own.get("assets", (None,))[0], metadata)


def read_metadata(recorded: str | None) -> dict[str, Any]:
    """Return the recorded metadata of an item; empty if there is none or it is damaged."""
    # It may be nested too deeply to parse.
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(recorded or "{}")
        return found if isinstance(found, dict) else {}
    return {}


def _files(root: Path, table: str, column: str, problem: str) -> Iterator[tuple[str, str, str, str, str | None]]:
    statement = (
        f"SELECT project_id, item_id, '{table}', path, {column} FROM {table} "  # noqa: S608 - only our own names
        f"WHERE (project_id, item_id) > (?, ?) ORDER BY project_id, item_id LIMIT {_PAGE}"
    )
    last: tuple[Any, ...] = ("", "")
    while rows := _read(root, statement, last, problem):
        last = rows[-1][:2]
        for *row, metadata in rows:
            if all(isinstance(cell, str) for cell in row) and naming.stays_inside(row[3]):
                project_id, item_id, _, path = row
                yield project_id, item_id, table, path, metadata if isinstance(metadata, str) else None


def _read(root: Path, statement: str, values: tuple[Any, ...], problem: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query without locks, and without the files that SQLite creates for readers."""
    path = state_path(root)
    log_path = path.with_name(f"{path.name}-wal")
    failure: Exception | None = None
    # Twice, because a run may start or end in between. If the write-ahead log is empty, the file is complete and can be
    # read as immutable, which is the only way on a read-only mount.
    for options in ("mode=ro", "immutable=1") if _has_content(log_path) else ("immutable=1", "mode=ro"):
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{options}", uri=True)) as db:
                db.text_factory = text
                return db.execute(statement, values).fetchall()
        except DAMAGED as error:
            failure = failure or error
    raise DownloadError(f"{problem} from {str(path)!r}: {failure}.")


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
