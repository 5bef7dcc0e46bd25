"""The state of the sandbox: the catalogue plus every change made to it.

Only changes are kept, in SQLite, so memory depends on how much was changed and not on how much exists. All
methods may be called from any thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import merge
from pathlib import Path
from typing import Any

from . import documents, timestamps
from .catalogue import COMPLETED, FIRST_BATCH_ID, Catalogue, Selection, WorkItemFilter
from .created import Batches, CreatedItem, CreatedItems
from .database import Database
from .objects import Objects, StoredObject

#: The status of a work item that a client just created.
NEW = "NEW"

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


class Store:
    """Holds the work items, batches and stored objects of one project and space."""

    def __init__(self, catalogue: Catalogue, *, bucket: str, path: str = ":memory:") -> None:
        ids = catalogue.ids
        self.catalogue = catalogue
        self.bucket = bucket
        self.space_id = ids.encode("space", 0)
        self.project_id = ids.encode("project", 0)
        self._owner_id = ids.encode("user", 0)
        #: Where the assets of the catalogue are, ahead of their ids.
        self.asset_prefix = "assets/"
        self.database = Database(path)
        self.objects = Objects(self.database)
        self.batches = Batches(self.database, catalogue)
        self._created = CreatedItems(self.database, catalogue)
        self._lock = self.database.lock
        self._changed: set[int] = set()
        self._latest = catalogue.last_update
        self._clock_runs = False
        self._uploads = 0
        self._counts: dict[Selection, int] = {}
        # A cache per store, keyed by everything an answer depends on: no change can make it wrong.
        self._render_document = lru_cache(_CACHED_DOCUMENTS)(
            lambda index, revision: documents.of_catalogue(catalogue, index, revision)
        )
        self._draw = lru_cache(_CACHED_PICTURES)(lambda index: catalogue.scene(index).draw())

    # -- reading

    @property
    def item_count(self) -> int:
        """How many work items there are, deleted ones included."""
        return self.catalogue.items + self._created.count

    def find_item(self, item: str | int) -> int | None:
        """Return the index of an existing work item given by id or index."""
        index = item if isinstance(item, int) else self.catalogue.ids.decode("item", item)
        if index is None or index < 0 or (index >= self.catalogue.items and index >= self.item_count):
            return None
        return None if self.state(index).deleted else index

    def item_id(self, index: int) -> str:
        """Return the id of a work item."""
        return self.catalogue.ids.encode("item", index)

    def state(self, index: int) -> ItemState:
        """Return the present state of a work item."""
        with self._lock:
            if index in self._changed:
                row = self.database.row(_READ, (index,))
                return ItemState(row[0], row[1], bool(row[2]), *row[3:])
        return ItemState(self.catalogue.status(index), self.catalogue.updated_at(index))

    def work_item(self, index: int) -> dict[str, Any]:
        """Return a work item as the listing shows it."""
        first, state = self.first_form(index), self.state(index)
        answer: dict[str, Any] = {
            "id": self.item_id(index),
            "projectId": self.project_id,
            "batchId": first.batch_id,
            "status": state.status,
            "assetType": first.asset_type,
            "assetUrl": first.asset_url,
            "resultUrl": None,
            "createdAt": timestamps.render(first.created_at),
            "updatedAt": timestamps.render(state.updated_at),
            "metadata": first.metadata,
        }
        if state.patch is not None:
            patch = json.loads(state.patch)
            answer.update(patch["set"])
            for name in patch["remove"]:
                answer.pop(name, None)
        return answer

    def first_form(self, index: int) -> CreatedItem:
        """Return what the seed, or the client that created it, says of a work item."""
        catalogue = self.catalogue
        if index >= catalogue.items:
            return self._created.get(index)
        return CreatedItem(
            asset_url=self.asset_prefix + catalogue.ids.encode("asset", index),
            asset_type="image",
            batch_id=catalogue.batch_of(index),
            metadata={},
            created_at=catalogue.created_at(index),
        )

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
        batch_id = FIRST_BATCH_ID + position
        return {
            "id": batch_id,
            "projectId": self.project_id,
            "name": self.batches.name(position),
            "createdBy": self._owner_id,
            "createdAt": timestamps.render(self.batches.created_at(position)),
            "metadata": {},
            "priority": 0,
            "totalCount": self.count(self.select(WorkItemFilter(batch_ids=(batch_id,)))),
            "completedCount": self.count(self.select(WorkItemFilter(batch_ids=(batch_id,), status=COMPLETED))),
        }

    def stored_object(self, path: str) -> StoredObject | None:
        """Return what lies in the bucket under a path relative to the space."""
        folder, _, name = path.partition("/")
        if folder == "coco_output" and name.endswith(".json"):
            index = self.find_item(name[: -len(".json")])
            state = self.state(index) if index is not None else None
            if index is None or state is None or state.status != COMPLETED:
                return None
            return StoredObject.of_bytes(self.document(index), "application/json", state.updated_at)
        index = self.catalogue.ids.decode("asset", name) if folder == "assets" else None
        if index is None or index >= self.catalogue.items or self.find_item(index) is None:
            return self.objects.get(path)
        return StoredObject.of_bytes(self._draw(index), "image/png", self.catalogue.created_at(index))

    def document(self, index: int) -> bytes:
        """Return the COCO document of a work item."""
        state = self.state(index)
        if state.document is not None:
            return state.document
        if index < self.catalogue.items:
            return self._render_document(index, state.revision)
        item = self._created.get(index)
        return documents.of_created(item, self.objects.get(item.asset_url), state.revision)

    def asset(self, index: int) -> bytes | None:
        """Return the picture of a work item, or what was uploaded for it."""
        if index < self.catalogue.items:
            return self._draw(index)
        found = self.objects.get(self._created.get(index).asset_url)
        if found is None:
            return None
        return found.content.read_bytes() if isinstance(found.content, Path) else found.content

    # -- listing

    def select(self, wanted: WorkItemFilter) -> Selection:
        """Resolve a filter."""
        selection, created = self.catalogue.select(wanted), self._created.select(wanted)
        return replace(selection, spans=selection.spans + created) if created else selection

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
                before = sum(
                    self.catalogue.matches(selection, index) for index in self._changed if index < self.catalogue.items
                )
                after = sum(1 for _ in self._changed_matches(selection, 0, False)) if self._changed else 0
                self._counts[selection] = self.catalogue.count(selection) - before + after
            return self._counts[selection]

    def _changed_matches(self, selection: Selection, start: int, backwards: bool) -> Iterator[int]:
        values = (start, selection.status, selection.updated_from, selection.updated_to)
        rows = self.database.execute(_DOWNWARDS if backwards else _UPWARDS, values)
        return (index for (index,) in rows if selection.has_index(index))

    # -- changing

    def create_item(self, asset_url: str, *, asset_type: str, batch_id: int | None, metadata: Mapping[str, Any]) -> int:
        """Add a work item and return its index."""
        with self._lock:
            moment = self._next_moment(now=True)
            index = self._created.add(CreatedItem(asset_url, asset_type, batch_id, metadata, moment))
            self._save(index, ItemState(NEW, moment))
        return index

    def create_batch(self, name: str) -> int:
        """Add a batch and return its position."""
        return self.batches.create(name, self._next_moment(now=True))

    def new_upload_path(self) -> str:
        """Return a path that no asset has."""
        with self._lock:
            self._uploads += 1
            return "assets/" + self.catalogue.ids.encode("upload", self._uploads - 1)

    def update(
        self, index: int, *, status: str | None = None, touch: bool = True, document: bytes | None = None
    ) -> None:
        """Change a work item; a touch gives it a later ``updatedAt`` and a new revision of its document."""
        with self._lock:
            state = self.state(index)
            if touch:
                moment = self._next_moment()
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
        position = self.batches.position(batch_id)
        if position is None:
            raise LookupError(f"no batch {batch_id} in this sandbox")
        self.batches.rename(position, name)

    def reset(self) -> None:
        """Forget every change."""
        with self._lock:
            self.objects.clear()
            self.database.clear()
            self.batches.reset()
            self._created.reset()
            self._changed.clear()
            self._counts.clear()
            self._latest = self.catalogue.last_update
            self._clock_runs = False
            self._uploads = 0

    def _next_moment(self, *, now: bool = False) -> int:
        """Return a time after every change so far.

        Changes to the catalogue are a second apart, so that the seed decides them too, until something was
        created: that happens at the real time, and nothing may seem older than what came before it.
        """
        with self._lock:
            self._clock_runs = self._clock_runs or now
            if self._clock_runs:
                present = int(time.time() * 1000) * 1000
                self._latest = max(self._latest + timestamps.SECOND // 1000, present)
            else:
                self._latest += timestamps.SECOND
            return self._latest

    def _save(self, index: int, state: ItemState) -> None:
        values = (state.status, state.updated_at, state.deleted, state.revision)
        texts = (state.patch, state.annotation, state.document)
        self.database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (index, *values, *texts))
        self._changed.add(index)
        self._counts.clear()
