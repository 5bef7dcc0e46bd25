"""Exports: their life, and the zips they come to."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .archives import ArchivePlan, write_archive
from .catalogue import WorkItemFilter
from .objects import StoredObject
from .store import Store

PENDING = "PENDING"
IN_PROGRESS = "IN_PROGRESS"
COMPLETED = "COMPLETED"
FAILED = "FAILED"

_FOLDER = "exports/"
_ZIP = "application/zip"
#: The part of its time that an export waits for its turn.
_WAITING = 0.3
_READ = "SELECT idx, name, format, content, wanted, created_at, seconds, error FROM exports WHERE idx = ?"
_OLDER = "SELECT idx FROM exports WHERE format = ifnull(?, format) AND idx <= ? ORDER BY idx DESC LIMIT ?"
_NEWER = "SELECT idx FROM exports WHERE format = ifnull(?, format) AND idx >= ? ORDER BY idx LIMIT ?"
#: Newest first, and in this order a listing counts from 0 upwards.
LAST_INDEX = 1 << 32


@dataclass(frozen=True)
class Export:
    """An export as it is at the moment it was asked for."""

    index: int
    id: str
    status: str
    plan: ArchivePlan
    name: str
    created_at: int
    error: str | None

    @property
    def path(self) -> str:
        """Where its zip lies, relative to the space."""
        return f"{_FOLDER}{self.id}.zip"


class ExportRunningError(Exception):
    """There is an active export in the space already."""

    def __init__(self, export_id: str) -> None:
        super().__init__(f"export {export_id} is still running in this space")


class Exports:
    """The exports of the space.

    Nothing runs while an export is under way: its status follows from the time, and its zip is written when
    it is first asked for.
    """

    def __init__(self, store: Store, *, seconds: float) -> None:
        self._store = store
        self._database = store.database
        self._seconds = seconds
        self._reasons: deque[str] = deque()
        self._highest = -1
        self._writing = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds from the creation of an export to its end."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = seconds
        running = self.running()
        if running is not None:
            with self._database.lock:
                self._database.execute("UPDATE exports SET seconds = ? WHERE idx = ?", (seconds, running.index))

    def fail_next(self, reason: str) -> None:
        """Make the next export that is created end as a failed one."""
        self._reasons.append(reason)

    def create(self, name: str, plan: ArchivePlan) -> Export:
        """Start an export.

        Raises:
            ExportRunningError: If another one has not come to its end.
        """
        with self._database.lock:
            running = self.running()
            if running is not None:
                raise ExportRunningError(running.id)
            error = self._reasons.popleft() if self._reasons else None
            return self._insert(name, plan, self._seconds, error)

    def add(self, file: Path, name: str, plan: ArchivePlan) -> Export:
        """Register a file as the zip of an export that is complete.

        Raises:
            OSError: If the file cannot be read.
        """
        with self._database.lock:
            export = self._insert(name, plan, 0.0, None)
        self._store.objects.adopt(export.path, file, _ZIP, owned=False)
        return export

    def get(self, export_id: str) -> Export | None:
        """Return the export with this id."""
        index = self._store.catalogue.ids.decode("export", export_id)
        row = None if index is None else self._database.row(_READ, (index,))
        return self._export(row) if row else None

    def at(self, index: int) -> Export | None:
        """Return the export with this index."""
        row = self._database.row(_READ, (index,))
        return self._export(row) if row else None

    def running(self) -> Export | None:
        """Return the export that has not come to its end."""
        rows = self._database.rows("SELECT idx FROM exports WHERE created_at + seconds * 1000000 > ?", (_now(),))
        return self.at(rows[0][0]) if rows else None

    def page(self, form: str | None, start: int, count: int, *, backwards: bool) -> list[int]:
        """Return up to ``count`` places in the order of the listing, from ``start`` upwards or downwards."""
        rows = self._database.rows(_NEWER if backwards else _OLDER, (form, LAST_INDEX - start, count))
        return [LAST_INDEX - index for (index,) in rows]

    def delete(self, export: Export) -> None:
        """Delete an export with its zip, whatever its status."""
        with self._database.lock:
            self._database.execute("DELETE FROM exports WHERE idx = ?", (export.index,))
        self._store.objects.remove(export.path)

    def archive(self, path: str) -> StoredObject | None:
        """Return the zip under a path of the space; the first call for it may take a while."""
        export = self.get(path.removeprefix(_FOLDER).removesuffix(".zip"))
        if export is None or export.path != path or export.status != COMPLETED:
            return None
        with self._writing:
            found = self._store.objects.get(path)
            if found is None:
                file = self._store.objects.new_path()
                write_archive(file, export.plan, self._store)
                found = self._store.objects.adopt(path, file, _ZIP, owned=True)
        if self.get(export.id) is None:
            self._store.objects.remove(path)
            return None
        return found

    def reset(self) -> None:
        """Forget the planned failures; the exports themselves go with the database."""
        self._reasons.clear()
        self._highest = -1

    def _insert(self, name: str, plan: ArchivePlan, seconds: float, error: str | None) -> Export:
        # The id of a deleted export must not come back.
        self._highest += 1
        values = (
            self._highest,
            name,
            plan.format,
            plan.content,
            json.dumps(asdict(plan.wanted)),
            _now(),
            seconds,
            error,
        )
        self._database.execute("INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return self._export(values)

    def _export(self, row: Any) -> Export:
        index, name, form, content, wanted, created_at, seconds, error = row
        status = _status(_now() - created_at, seconds * 1_000_000, error)
        fields: dict[str, Any] = {
            field: tuple(value) if isinstance(value, list) else value for field, value in json.loads(wanted).items()
        }
        return Export(
            index=index,
            id=self._store.catalogue.ids.encode("export", index),
            status=status,
            plan=ArchivePlan(form, content, WorkItemFilter(**fields)),
            name=name,
            created_at=created_at,
            error=error if status == FAILED else None,
        )


def _status(age: float, duration: float, error: str | None) -> str:
    if age >= duration:
        return COMPLETED if error is None else FAILED
    return PENDING if age < duration * _WAITING else IN_PROGRESS


def _now() -> int:
    return int(time.time() * 1_000_000)
