"""The state file as others read it: nothing is locked, nothing is written, and no reader holds up a run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import naming
from ..exceptions import DownloadError
from .state import ResultRow, state_path, text

#: Rows that are read at a time.
_PAGE = 5_000
#: A position that no result has.
_ALL = 1 << 62


class DownloadedRow(NamedTuple):
    """The files of one item, relative to the destination."""

    project_id: str
    item_id: str
    path: str | None
    asset_path: str | None


def read_results(
    root: Path, run: int, outcome: str | None = None, first: int = 0, stop: int = _ALL
) -> Iterator[ResultRow]:
    """Yield the results of a run from the state file, in the order in which they came, from ``first`` to ``stop``."""
    statement = (
        "SELECT position, item_id, batch_id, path, outcome, size, error, asset_path, asset_size, written FROM results "
        "WHERE run = ? AND position > ? AND position < ? AND (? IS NULL OR outcome = ?) ORDER BY position LIMIT ?"
    )
    last, problem = first - 1, "The results of this run cannot be read any more"
    while rows := _read(root, statement, (run, last, stop, outcome, outcome, _PAGE), problem):
        last = rows[-1][0]
        for row in rows:
            yield ResultRow(*row[1:])


def read_downloaded(root: Path) -> Iterator[DownloadedRow]:
    """Yield what was downloaded into a destination, by project and item; paths that are damaged are left out."""
    files = heapq.merge(*(_files(root, table) for table in ("items", "assets")))
    for (project_id, item_id), found in itertools.groupby(files, key=lambda file: file[:2]):
        paths = {table: path for *_, table, path in found}
        yield DownloadedRow(project_id, item_id, paths.get("items"), paths.get("assets"))


def _files(root: Path, table: str) -> Iterator[tuple[str, str, str, str]]:
    statement = (
        f"SELECT project_id, item_id, '{table}', path FROM {table} "  # noqa: S608 - only names of ours
        f"WHERE (project_id, item_id) > (?, ?) ORDER BY project_id, item_id LIMIT {_PAGE}"
    )
    last: tuple[Any, ...] = ("", "")
    while rows := _read(root, statement, last, "What was downloaded cannot be read"):
        last = rows[-1][:2]
        yield from (row for row in rows if all(isinstance(cell, str) for cell in row) and naming.stays_inside(row[3]))


def _read(root: Path, statement: str, values: tuple[Any, ...], problem: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query and write nothing: no lock, and none of the files that SQLite makes for readers."""
    path = state_path(root)
    log_path = path.with_name(f"{path.name}-wal")
    failure: sqlite3.Error | None = None
    # Twice, as a run may begin or end in between. If the write-ahead log is empty, the file is complete,
    # and can be read as immutable; a reader of a read-only mount has no other way.
    for options in ("mode=ro", "immutable=1") if _has_content(log_path) else ("immutable=1", "mode=ro"):
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{options}", uri=True)) as db:
                db.text_factory = text
                return db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            failure = failure or error
    raise DownloadError(f"{problem} from {str(path)!r}: {failure}.")


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
