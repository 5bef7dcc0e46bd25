"""The state of the sandbox: the catalogue and all changes to it.

Only changes are stored, so memory depends on the number of changes, not of items. All methods are thread-safe.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from . import shapes
from .catalogue import COMPLETED, FIRST_BATCH_ID, Catalogue, Selection, WorkItemFilter
from .formats import SECOND, now, render_time
from .storage import BUCKET, Objects, StoredObject

#: The status of a newly created work item.
NEW = "NEW"

_CACHED_COUNTS = 1000
_CACHED_DOCUMENTS = 512
_CACHED_IMAGES = 64


@dataclass(frozen=True, slots=True)
class ItemState:
    """The changes of a work item.

    ``patch`` and ``annotation`` are JSON; like ``document``, they replace the served content.
    """

    status: str
    updated_at: int
    deleted: bool = False
    revision: int = 1
    patch: str | None = None
    annotation: str | None = None
    document: bytes | None = None


@dataclass(frozen=True)
class Origin:
    """The current state of a work item."""

    asset_url: str
    asset_type: str
    batch_id: int | None
    metadata: Mapping[str, Any]
    created_at: int


class Store:
    """The work items, batches and stored objects of one project and space.

    Created objects get indexes after the catalogue, so listings show them last.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        ids = catalogue.ids
        self.catalogue = catalogue
        self.space_id = ids.encode("space", 0)
        self.project_id = ids.encode("project", 0)
        self._owner_id = ids.encode("user", 0)
        #: Prefix of the asset URLs of the catalogue.
        self.asset_prefix = "assets/"
        self.objects = Objects()
        self._lock = threading.RLock()
        self._counts: dict[Selection, int] = {}
        self._forget()
        # One cache per store. The key contains everything a result depends on, so changes cannot make it wrong.
        self._render_document = lru_cache(_CACHED_DOCUMENTS)(catalogue.document)
        self._draw = lru_cache(_CACHED_IMAGES)(lambda index: catalogue.scene(index).draw())

    def _forget(self) -> None:
        self._states: dict[int, ItemState] = {}
        #: The keys of ``_states``, sorted.
        self._changed: list[int] = []
        self._created: list[Origin] = []
        self._batch_names: dict[int, str] = {}
        self._created_batches: list[int] = []
        self._latest = self.catalogue.last_update
        self._clock_runs = False
        self._uploads = 0
        self._counts.clear()

    def reset(self) -> None:
        with self._lock:
            self.objects.clear()
            self._forget()

    @property
    def item_count(self) -> int:
        return self.catalogue.items + len(self._created)

    def find_item(self, item: str | int) -> int | None:
        index = item if isinstance(item, int) else self.catalogue.ids.decode("item", item)
        if index is None or not 0 <= index < self.item_count or self.state(index).deleted:
            return None
        return index

    def item_id(self, index: int) -> str:
        return self.catalogue.ids.encode("item", index)

    def state(self, index: int) -> ItemState:
        found = self._states.get(index)
        return found or ItemState(self.catalogue.status(index), self.catalogue.updated_at(index))

    def origin(self, index: int) -> Origin:
        catalogue = self.catalogue
        if index >= catalogue.items:
            return self._created[index - catalogue.items]
        return Origin(
            asset_url=self.asset_prefix + catalogue.ids.encode("asset", index),
            asset_type="image",
            batch_id=catalogue.batch_of(index),
            metadata={},
            created_at=catalogue.created_at(index),
        )

    def work_item(self, index: int) -> dict[str, Any]:
        origin, state = self.origin(index), self.state(index)
        item: dict[str, Any] = {
            "id": self.item_id(index),
            "projectId": self.project_id,
            "batchId": origin.batch_id,
            "status": state.status,
            "assetType": origin.asset_type,
            "assetUrl": origin.asset_url,
            "resultUrl": None,
            "createdAt": render_time(origin.created_at),
            "updatedAt": render_time(state.updated_at),
            "metadata": origin.metadata,
        }
        if state.patch is not None:
            patch = json.loads(state.patch)
            item.update(patch["set"])
            for name in patch["remove"]:
                item.pop(name, None)
        return item

    def annotation(self, index: int) -> dict[str, Any] | None:
        state = self.state(index)
        if state.status != COMPLETED:
            return None
        item_id = self.item_id(index)
        url = f"s3://{BUCKET}/spaces/{self.space_id}/coco_output/{item_id}.json"
        metadata = {"coco_results_url": url} if state.annotation is None else json.loads(state.annotation)
        return {
            "id": self.catalogue.ids.encode("annotation", index),
            "projectID": self.project_id,
            "workItemID": item_id,
            "metadata": metadata,
        }

    def stored_object(self, path: str) -> StoredObject | None:
        folder, _, name = path.partition("/")
        if folder == "coco_output" and name.endswith(".json"):
            index = self.find_item(name[: -len(".json")])
            if index is None or self.state(index).status != COMPLETED:
                return None
            return StoredObject.of_bytes(self.document(index), "application/json", self.state(index).updated_at)
        index = self.catalogue.ids.decode("asset", name) if folder == "assets" else None
        if index is None or index >= self.catalogue.items or self.find_item(index) is None:
            return self.objects.get(path)
        return StoredObject.of_bytes(self._draw(index), "image/png", self.catalogue.created_at(index))

    def document(self, index: int) -> bytes:
        state = self.state(index)
        if state.document is not None:
            return state.document
        if index < self.catalogue.items:
            return self._render_document(index, state.revision)
        origin = self.origin(index)
        return shapes.coco_document(
            description="An asset of the sandbox’s user",
            revision=state.revision,
            created=render_time(origin.created_at),
            file_name=origin.asset_url.rpartition("/")[2],
            size=_image_size(self.objects.get(origin.asset_url)),
        )

    def asset(self, index: int) -> bytes | None:
        if index < self.catalogue.items:
            return self._draw(index)
        found = self.objects.get(self.origin(index).asset_url)
        return found.content.read_bytes() if found is not None and isinstance(found.content, Path) else None

    def page(self, selection: Selection, start: int, count: int) -> list[int]:
        with self._lock:
            untouched = (index for index in self.catalogue.walk(selection, start) if index not in self._states)
            return list(islice(merge(untouched, self._changed_matches(selection, start)), count))

    def count(self, selection: Selection) -> int:
        with self._lock:
            if selection not in self._counts:
                if len(self._counts) >= _CACHED_COUNTS:
                    self._counts.clear()
                first = self.catalogue.items
                before = sum(self.catalogue.matches(selection, index) for index in self._changed if index < first)
                after = sum(1 for _ in self._changed_matches(selection, 0))
                self._counts[selection] = self.catalogue.count(selection) - before + after
            return self._counts[selection]

    def _changed_matches(self, selection: Selection, start: int) -> Iterator[int]:
        changed, wanted = self._changed, selection.wanted
        for position in range(bisect_left(changed, start), len(changed)):
            index = changed[position]
            state = self._states[index]
            if state.deleted or not wanted.accepts(state.status, state.updated_at):
                continue
            if index < self.catalogue.items:
                matches = selection.has_index(index)
            else:
                origin = self.origin(index)
                matches = wanted.accepts_created(self.item_id(index), origin.batch_id, origin.created_at)
            if matches:
                yield index

    @property
    def batch_count(self) -> int:
        return self.catalogue.batches + len(self._created_batches)

    def batch_position(self, batch_id: object) -> int | None:
        position = batch_id - FIRST_BATCH_ID if isinstance(batch_id, int) else -1
        return position if 0 <= position < self.batch_count else None

    def batch_name(self, position: int) -> str:
        name = self._batch_names.get(position)
        return self.catalogue.batch_name(position) if name is None else name

    def find_batch(self, name: str) -> int | None:
        return next((position for position in range(self.batch_count) if self.batch_name(position) == name), None)

    def batch(self, position: int) -> dict[str, Any]:
        batch_id, first = FIRST_BATCH_ID + position, self.catalogue.batches
        if position < first:
            created_at = self.catalogue.created_at(self.catalogue.batch_span(position).start)
        else:
            created_at = self._created_batches[position - first]
        return {
            "id": batch_id,
            "projectId": self.project_id,
            "name": self.batch_name(position),
            "createdBy": self._owner_id,
            "createdAt": render_time(created_at),
            "metadata": {},
            "priority": 0,
            "totalCount": self.count(self.catalogue.select(WorkItemFilter((batch_id,)))),
            "completedCount": self.count(self.catalogue.select(WorkItemFilter((batch_id,), status=COMPLETED))),
        }

    def rename_batch(self, position: int, name: str) -> None:
        self._batch_names[position] = name

    def create_item(self, asset_url: str, *, asset_type: str, batch_id: int | None, metadata: Mapping[str, Any]) -> int:
        with self._lock:
            moment, index = self._next_time(real=True), self.item_count
            self._created.append(Origin(asset_url, asset_type, batch_id, metadata, moment))
            self._save(index, ItemState(NEW, moment))
        return index

    def create_batch(self, name: str) -> int:
        with self._lock:
            position = self.batch_count
            self._batch_names[position] = name
            self._created_batches.append(self._next_time(real=True))
        return position

    def new_upload_path(self) -> str:
        """Return a path that no asset has."""
        with self._lock:
            self._uploads += 1
            return "assets/" + self.catalogue.ids.encode("upload", self._uploads - 1)

    def update(self, index: int, *, touch: bool = False, **fields: Any) -> None:
        """Set fields of the state; ``touch`` sets a later ``updatedAt`` and makes a new revision of the document."""
        with self._lock:
            state = replace(self.state(index), **fields)
            if touch:
                state = replace(state, updated_at=self._next_time(), revision=state.revision + 1)
            self._save(index, state)

    def patch(self, index: int, fields: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Set or remove fields of a work item's JSON in listings, in addition to earlier patches."""
        with self._lock:
            state = self.state(index)
            patch = json.loads(state.patch) if state.patch else {"set": {}, "remove": []}
            patch["set"].update(fields)
            patch["remove"] = sorted({*patch["remove"], *remove} - fields.keys())
            self._save(index, replace(state, patch=json.dumps(patch)))

    def _next_time(self, *, real: bool = False) -> int:
        """Return a time after all changes so far.

        Changes to the catalogue are one second apart, so that they are deterministic, until an object is created: that
        happens at the real time, and later changes must not seem older.
        """
        self._clock_runs = self._clock_runs or real
        if self._clock_runs:
            self._latest = max(self._latest + SECOND // 1000, now() // 1000 * 1000)
        else:
            self._latest += SECOND
        return self._latest

    def _save(self, index: int, state: ItemState) -> None:
        if index not in self._states:
            insort(self._changed, index)
        self._states[index] = state
        self._counts.clear()


def _image_size(asset: StoredObject | None) -> tuple[int, int]:
    """Return the size of an uploaded image; the default size if it is not an image."""
    if asset is not None and not isinstance(asset.content, bytes):
        with suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(asset.content) as image:
            return image.size
    return shapes.WIDTH, shapes.HEIGHT
