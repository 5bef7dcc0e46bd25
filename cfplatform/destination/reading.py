"""What was written down, read by those who did not write it: nothing is locked, nothing is changed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exceptions import DownloadError
from .database import state_path
from .rows import DownloadedRow, ResultRow


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
        reason = str(error)
    else:
        return
    raise DownloadError(f"{problem} from {str(state_path(root))!r}: {reason}.")


def read_downloaded(root: Path) -> Iterator[DownloadedRow]:
    """Yield what was downloaded into a destination, by project and item."""
    statement = (
        "SELECT project_id, item_id, items.path, assets.path FROM items LEFT JOIN assets USING (project_id, item_id) "
        "UNION ALL SELECT project_id, item_id, NULL, path FROM assets "
        "WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.project_id = assets.project_id "
        "AND items.item_id = assets.item_id) ORDER BY 1, 2"
    )
    return (DownloadedRow(*row) for row in _read(root, statement, (), "What was downloaded cannot be read"))
