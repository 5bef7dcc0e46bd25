"""Looking at the world of a sandbox, and changing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from .platform import Platform
from .store import Store

#: A work item given by its id or by its index, counted from 0 in the order of the listing.
ItemReference: TypeAlias = "str | int"


class World:
    """The part of a sandbox that concerns work items and batches."""

    _platform: Platform
    _store: Store

    def work_item_ids(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Yield the ids of the work items with these indexes, deleted ones included."""
        count = self._store.item_count
        return map(self._store.item_id, range(start, count if stop is None else min(stop, count)))

    def work_item(self, item: ItemReference) -> dict[str, Any]:
        """Return a work item as the listing shows it."""
        return self._store.work_item(self._index(item))

    def document(self, item: ItemReference) -> bytes:
        """Return the COCO document of a work item, as the storage serves it."""
        return self._store.document(self._index(item))

    def asset(self, item: ItemReference) -> bytes:
        """Return the asset of a work item as the storage serves it: a PNG, or what was uploaded for it.

        Raises:
            LookupError: If there is no such work item, or nothing was uploaded to its ``assetUrl``.
        """
        found = self._store.asset(self._index(item))
        if found is None:
            raise LookupError(f"the asset of work item {item!r} is not in the storage of this sandbox")
        return found

    def update_work_item(
        self,
        item: ItemReference,
        *,
        status: str | None = None,
        touch: bool = True,
        document: bytes | None = None,
    ) -> None:
        """Change a work item; another status is announced by a webhook.

        Args:
            item: Its id or index.
            status: The new status.
            touch: Whether it gets a later ``updatedAt`` and a new revision of its document.
            document: Stored in place of its COCO document, whatever it contains.

        Raises:
            LookupError: If there is no such work item.
        """
        self._platform.update_work_item(self._index(item), status=status, touch=touch, document=document)

    def set_status(self, item: ItemReference, status: str) -> None:
        """Set the status of a work item, with a later ``updatedAt``, and announce it by a webhook.

        The webhook goes to the item's ``metadata.callbackUrl``, else to ``webhook_url``; it is sent also if the
        item has this status already.

        Args:
            item: Its id or index.
            status: The new status.

        Raises:
            LookupError: If there is no such work item.

        Example:
            >>> sandbox.set_status(0, "CLIENT_REVIEW")
            >>> sandbox.work_item(0)["status"]
            'CLIENT_REVIEW'
        """
        self._platform.set_status(self._index(item), status)

    def delete_work_item(self, item: ItemReference) -> None:
        """Delete a work item with all that belongs to it."""
        self._store.delete(self._index(item))

    def patch_work_item_json(self, item: ItemReference, fields: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Make listings show a work item with other fields, or without some; filters do not notice."""
        self._store.patch(self._index(item), fields, remove)

    def set_annotation(self, item: ItemReference, metadata: Mapping[str, Any] | None) -> None:
        """Replace the metadata of the annotation of a work item, which usually names its COCO document."""
        self._store.set_annotation(self._index(item), metadata)

    def rename_batch(self, batch_id: int, name: str) -> None:
        """Rename a batch; any text will do, also one that the platform would refuse.

        Raises:
            LookupError: If there is no such batch.
        """
        self._store.rename_batch(batch_id, name)

    def _index(self, item: ItemReference) -> int:
        index = self._store.find_item(item)
        if index is None:
            raise LookupError(f"no work item {item!r} in this sandbox")
        return index
