"""What clients created: the work items and batches that the seed says nothing of.

They are numbered on from those of the catalogue, so that a listing shows them after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .catalogue import FIRST_BATCH_ID, Catalogue, WorkItemFilter
from .database import Database

_MATCHING = """
SELECT idx FROM created_items
WHERE created_at >= ifnull(:created_from, created_at) AND created_at <= ifnull(:created_to, created_at)
  AND (:batch_ids IS NULL OR batch_id IN (SELECT value FROM json_each(:batch_ids)))
  AND (:indexes IS NULL OR idx IN (SELECT value FROM json_each(:indexes)))
ORDER BY idx
"""


class CreatedItem(NamedTuple):
    """What a client said of a work item when it created it."""

    asset_url: str
    asset_type: str
    batch_id: int | None
    metadata: Mapping[str, Any]
    created_at: int


class CreatedItems:
    """The work items that clients created."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        #: How many were created, deleted ones included.
        self.count = 0

    def add(self, item: CreatedItem) -> int:
        """Keep a work item and return its index."""
        with self._database.lock:
            index = self._catalogue.items + self.count
            self._database.execute(
                "INSERT INTO created_items VALUES (?, ?, ?, ?, ?, ?)",
                (
                    index,
                    item.asset_url,
                    item.asset_type,
                    item.batch_id,
                    json.dumps(item.metadata),
                    item.created_at,
                ),
            )
            self.count += 1
        return index

    def get(self, index: int) -> CreatedItem:
        """Return the work item with this index."""
        url, kind, batch_id, metadata, created_at = self._database.row(
            "SELECT asset_url, asset_type, batch_id, metadata, created_at FROM created_items WHERE idx = ?", (index,)
        )
        return CreatedItem(url, kind, batch_id, json.loads(metadata), created_at)

    def reset(self) -> None:
        """Count from none again; the items themselves go with the database."""
        self.count = 0

    def select(self, wanted: WorkItemFilter) -> tuple[range, ...]:
        """Return the spans of indexes that match what a filter says of batches, ids and creation."""
        if not self.count:
            return ()
        indexes = None
        if wanted.work_item_ids is not None:
            found = (self._catalogue.ids.decode("item", text) for text in wanted.work_item_ids)
            indexes = json.dumps([index for index in found if index is not None])
        batch_ids = None if wanted.batch_ids is None else json.dumps(wanted.batch_ids)
        rows = self._database.rows(
            _MATCHING,
            {
                "created_from": wanted.created_from,
                "created_to": wanted.created_to,
                "batch_ids": batch_ids,
                "indexes": indexes,
            },
        )
        return _spans(index for (index,) in rows)


class Batches:
    """The names of all batches, and the batches that clients created, by position."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        #: How many batches there are.
        self.count = catalogue.batches

    def position(self, batch_id: int) -> int | None:
        """Return the position of an existing batch."""
        position = batch_id - FIRST_BATCH_ID
        return position if 0 <= position < self.count else None

    def name(self, position: int) -> str:
        """Return the present name of a batch."""
        row = self._database.row("SELECT name FROM batches WHERE idx = ?", (position,))
        return str(row[0]) if row else self._catalogue.batch_name(position)

    def find(self, name: str) -> int | None:
        """Return the position of the first batch that has this name."""
        given = dict(self._database.rows("SELECT idx, name FROM batches"))
        named = [position for position, other in given.items() if other == name]
        untouched = (position for position in range(self._catalogue.batches) if position not in given)
        named.extend(position for position in untouched if self._catalogue.batch_name(position) == name)
        return min(named, default=None)

    def created_at(self, position: int) -> int:
        """Return when a batch was created."""
        if position < self._catalogue.batches:
            return self._catalogue.created_at(self._catalogue.batch_span(position).start)
        (created_at,) = self._database.row("SELECT created_at FROM created_batches WHERE idx = ?", (position,))
        return int(created_at)

    def create(self, name: str, created_at: int) -> int:
        """Add a batch and return its position."""
        with self._database.lock:
            position = self.count
            self._database.execute("INSERT INTO created_batches VALUES (?, ?)", (position, created_at))
            self.rename(position, name)
            self.count += 1
        return position

    def reset(self) -> None:
        """Count the batches of the catalogue only; what else is known of them goes with the database."""
        self.count = self._catalogue.batches

    def rename(self, position: int, name: str) -> None:
        """Rename a batch."""
        with self._database.lock:
            self._database.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (position, name))


def _spans(indexes: Iterable[int]) -> tuple[range, ...]:
    """Return ascending indexes as spans without gaps."""
    spans: list[range] = []
    for index in indexes:
        if spans and spans[-1].stop == index:
            spans[-1] = range(spans[-1].start, index + 1)
        else:
            spans.append(range(index, index + 1))
    return tuple(spans)
