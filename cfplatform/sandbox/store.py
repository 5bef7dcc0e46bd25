"""The state of the sandbox: the catalogue plus every change made to it.

Only changes are kept, in SQLite, so memory depends on how much was changed and not on how much exists. All
methods may be called from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import merge
from typing import Any

from . import shapes, timestamps
from .catalogue import COMPLETED, FIRST_BATCH_ID, Catalogue, Selection, WorkItemFilter

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
CREATE TABLE batches (idx INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""
_READ = "SELECT status, updated_at, deleted, revision, patch, annotation, document FROM items WHERE idx = ?"
_UPWARDS = """
SELECT idx FROM items
WHERE idx >= ? AND NOT deleted AND status = ifnull(?, status)
  AND updated_at >= ifnull(?, updated_at) AND updated_at <= ifnull(?, updated_at)
ORDER BY idx
"""
_DOWNWARDS = _UPWARDS.replace("idx >= ?", "idx <= ?").replace("ORDER BY idx", "ORDER BY idx DESC")
_CACHED_COUNTS = 1000
_CACHED_DOCUMENTS = 512
_CACHED_PICTURES = 64


@dataclass(frozen=True)
class ItemState:
    """What may change about a work item.

    ``patch`` and ``annotation`` are JSON texts, and with ``document`` they replace what would be answered.
    """

    status: str
    updated_at: int
    deleted: bool = False
    revision: int = 1
    patch: str | None = None
    annotation: str | None = None
    document: bytes | None = None


@dataclass(frozen=True)
class StoredObject:
    """An object in the storage bucket."""

    body: bytes
    content_type: str
    modified_at: int


class Store:
    """Holds the work items, batches and stored objects of one project and space."""

    def __init__(self, catalogue: Catalogue, *, bucket: str, path: str = ":memory:") -> None:
        ids = catalogue.ids
        self.catalogue = catalogue
        self.bucket = bucket
        self.space_id = ids.encode("space", 0)
        self.project_id = ids.encode("project", 0)
        self._owner_id = ids.encode("user", 0)
        self._lock = threading.RLock()
        self._changed: set[int] = set()
        self._changes = 0
        self._counts: dict[Selection, int] = {}
        # A cache per store, keyed by everything an answer depends on: no change can make it wrong.
        self._render_document = lru_cache(_CACHED_DOCUMENTS)(self._build_document)
        self._draw = lru_cache(_CACHED_PICTURES)(lambda index: catalogue.scene(index).draw())
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A stopped sandbox can still be asked and started again, so the database lives as long as the store.
        weakref.finalize(self, self._database.close)
        self._database.executescript(_SCHEMA)

    # -- reading

    def find_item(self, item: str | int) -> int | None:
        """Return the index of an existing work item given by id or index."""
        index = item if isinstance(item, int) else self.catalogue.ids.decode("item", item)
        if index is None or not 0 <= index < self.catalogue.items or self.state(index).deleted:
            return None
        return index

    def item_id(self, index: int) -> str:
        """Return the id of a work item."""
        return self.catalogue.ids.encode("item", index)

    def state(self, index: int) -> ItemState:
        """Return the present state of a work item."""
        with self._lock:
            if index in self._changed:
                row = self._database.execute(_READ, (index,)).fetchone()
                return ItemState(row[0], row[1], bool(row[2]), *row[3:])
        return ItemState(self.catalogue.status(index), self.catalogue.updated_at(index))

    def work_item(self, index: int) -> dict[str, Any]:
        """Return a work item as the listing shows it."""
        catalogue, state = self.catalogue, self.state(index)
        answer: dict[str, Any] = {
            "id": self.item_id(index),
            "projectId": self.project_id,
            "batchId": catalogue.batch_of(index),
            "status": state.status,
            "assetType": "image",
            "assetUrl": "assets/" + catalogue.ids.encode("asset", index),
            "resultUrl": None,
            "createdAt": timestamps.render(catalogue.created_at(index)),
            "updatedAt": timestamps.render(state.updated_at),
            "metadata": {},
        }
        if state.patch is not None:
            patch = json.loads(state.patch)
            answer.update(patch["set"])
            for name in patch["remove"]:
                answer.pop(name, None)
        return answer

    def annotation(self, index: int) -> dict[str, Any] | None:
        """Return the annotation of a work item, if it is completed."""
        state = self.state(index)
        if state.status != COMPLETED:
            return None
        item_id = self.item_id(index)
        url = f"s3://{self.bucket}/spaces/{self.space_id}/coco_output/{item_id}.json"
        metadata = {"coco_results_url": url} if state.annotation is None else json.loads(state.annotation)
        return {
            "id": self.catalogue.ids.encode("annotation", index),
            "projectID": self.project_id,
            "workItemID": item_id,
            "metadata": metadata,
        }

    def batch(self, position: int) -> dict[str, Any]:
        """Return a batch as the listing shows it."""
        span = self.catalogue.batch_span(position)
        with self._lock:
            row = self._database.execute("SELECT name FROM batches WHERE idx = ?", (position,)).fetchone()
        return {
            "id": FIRST_BATCH_ID + position,
            "projectId": self.project_id,
            "name": row[0] if row else self.catalogue.batch_name(position),
            "createdBy": self._owner_id,
            "createdAt": timestamps.render(self.catalogue.created_at(span.start)),
            "metadata": {},
            "priority": 0,
            "totalCount": self.count(Selection((span,))),
            "completedCount": self.count(Selection((span,), COMPLETED)),
        }

    def stored_object(self, path: str) -> StoredObject | None:
        """Return what lies in the bucket under a path relative to the space."""
        folder, _, name = path.partition("/")
        if folder == "coco_output" and name.endswith(".json"):
            index = self.find_item(name[: -len(".json")])
            state = self.state(index) if index is not None else None
            if index is None or state is None or state.status != COMPLETED:
                return None
            return StoredObject(self.document(index), "application/json", state.updated_at)
        index = self.catalogue.ids.decode("asset", name) if folder == "assets" else None
        if index is None or self.find_item(index) is None:
            return None
        return StoredObject(self.asset(index), "image/png", self.catalogue.created_at(index))

    def document(self, index: int) -> bytes:
        """Return the COCO document of a work item."""
        state = self.state(index)
        return self._render_document(index, state.revision) if state.document is None else state.document

    def asset(self, index: int) -> bytes:
        """Return the picture of a work item."""
        return self._draw(index)

    # -- listing

    def select(self, wanted: WorkItemFilter) -> Selection:
        """Resolve a filter."""
        return self.catalogue.select(wanted)

    def page(self, selection: Selection, start: int, count: int, *, backwards: bool = False) -> list[int]:
        """Return up to ``count`` indexes of matching work items, from ``start`` upwards or downwards."""
        with self._lock:
            first = self.catalogue.walk(selection, start, backwards=backwards)
            if not self._changed:
                return [index for index, _ in zip(first, range(count), strict=False)]
            untouched = (index for index in first if index not in self._changed)
            changed = self._changed_matches(selection, start, backwards)
            both = merge(untouched, changed, reverse=backwards)
            return [index for index, _ in zip(both, range(count), strict=False)]

    def count(self, selection: Selection) -> int:
        """Count the matching work items."""
        with self._lock:
            if selection not in self._counts:
                if len(self._counts) >= _CACHED_COUNTS:
                    self._counts.clear()
                before = sum(self.catalogue.matches(selection, index) for index in self._changed)
                after = sum(1 for _ in self._changed_matches(selection, 0, False)) if self._changed else 0
                self._counts[selection] = self.catalogue.count(selection) - before + after
            return self._counts[selection]

    def _changed_matches(self, selection: Selection, start: int, backwards: bool) -> Iterator[int]:
        values = (start, selection.status, selection.updated_from, selection.updated_to)
        rows = self._database.execute(_DOWNWARDS if backwards else _UPWARDS, values)
        return (index for (index,) in rows if selection.has_index(index))

    # -- changing

    def update(
        self, index: int, *, status: str | None = None, touch: bool = True, document: bytes | None = None
    ) -> None:
        """Change a work item; a touch gives it a later ``updatedAt`` and a new revision of its document."""
        with self._lock:
            state = self.state(index)
            if touch:
                self._changes += 1
                moment = self.catalogue.last_update + self._changes * timestamps.SECOND
                state = replace(state, updated_at=moment, revision=state.revision + 1)
            self._save(
                index,
                replace(
                    state,
                    status=state.status if status is None else status,
                    document=state.document if document is None else document,
                ),
            )

    def delete(self, index: int) -> None:
        """Delete a work item with its annotation, document and asset."""
        with self._lock:
            self._save(index, replace(self.state(index), deleted=True))

    def patch(self, index: int, fields: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Lay fields over a work item's JSON in listings, and leave others out; added to earlier patches."""
        with self._lock:
            state = self.state(index)
            patch = json.loads(state.patch) if state.patch else {"set": {}, "remove": []}
            patch["set"].update(fields)
            patch["remove"] = sorted({*patch["remove"], *remove} - fields.keys())
            self._save(index, replace(state, patch=json.dumps(patch)))

    def set_annotation(self, index: int, metadata: Mapping[str, Any] | None) -> None:
        """Replace the metadata of an annotation."""
        with self._lock:
            self._save(index, replace(self.state(index), annotation=json.dumps(metadata)))

    def rename_batch(self, batch_id: int, name: str) -> None:
        """Rename a batch.

        Raises:
            LookupError: If there is no such batch.
        """
        position = batch_id - FIRST_BATCH_ID
        if not 0 <= position < self.catalogue.batches:
            raise LookupError(f"no batch {batch_id} in this sandbox")
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (position, name))

    def reset(self) -> None:
        """Forget every change."""
        with self._lock:
            self._database.execute("DELETE FROM items")
            self._database.execute("DELETE FROM batches")
            self._changed.clear()
            self._counts.clear()
            self._changes = 0

    def _save(self, index: int, state: ItemState) -> None:
        values = (state.status, state.updated_at, state.deleted, state.revision)
        texts = (state.patch, state.annotation, state.document)
        self._database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (index, *values, *texts))
        self._changed.add(index)
        self._counts.clear()

    def _build_document(self, index: int, revision: int) -> bytes:
        created = timestamps.render(self.catalogue.created_at(index))
        document = {
            "info": {
                "description": f"Scène {index + 1} of the sandbox’s shapes",
                "version": str(revision),
                "year": int(created[:4]),
                "contributor": "cfplatform sandbox",
                "date_created": created,
            },
            "licenses": [],
            "images": [
                {
                    "id": 1,
                    "width": shapes.WIDTH,
                    "height": shapes.HEIGHT,
                    "file_name": self.catalogue.ids.encode("asset", index) + ".png",
                    "date_captured": created,
                }
            ],
            "categories": shapes.CATEGORIES,
            "annotations": self.catalogue.scene(index).annotations(),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
