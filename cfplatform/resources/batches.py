"""Batches: groups of work items in a project."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from .base import InProject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self, Unpack

    from ..params import WorkItemFilters
    from .options import DownloadOptions
    from .results import DownloadSummary
    from .work_items import WorkItem


class Batch(InProject):
    """A group of work items in a project, with its counts where the server sent them."""

    __slots__ = ()

    _label = "name"
    _shown = ("name", "total_count", "completed_count", "created_at")

    @property
    def id(self) -> int:  # type: ignore[override]
        """The id, a whole number."""
        number = self._whole_number("id")
        # An id of another form would be new; it is kept rather than losing the batch.
        return cast(int, self._data["id"]) if number is None else number

    @property
    def name(self) -> str | None:
        """The name, unique in the project."""
        return self._text("name")

    @property
    def created_by(self) -> str | None:
        """The id of the user who created it."""
        return self._text("createdBy")

    @property
    def priority(self) -> int | None:
        """The priority; its meaning is not documented."""
        return self._whole_number("priority")

    @property
    def total_count(self) -> int | None:
        """Number of work items in the batch."""
        return self._whole_number("totalCount")

    @property
    def completed_count(self) -> int | None:
        """Number of completed work items in the batch."""
        return self._whole_number("completedCount")

    def get_work_items(self, **filters: Unpack[WorkItemFilters]) -> Iterator[WorkItem]:
        """Iterate over the work items of this batch, with the filters of :meth:`Client.get_work_items`.

        Example:
            >>> batch = next(client.get_batches())
            >>> sum(1 for item in batch.get_work_items(status="COMPLETED")) == batch.completed_count
            True
        """
        if "batch_ids" in filters:
            raise TypeError(
                "Batch.get_work_items() lists one batch; use Client.get_work_items(batch_ids=...) for several"
            )
        filters["batch_ids"] = [self.id]
        items: Iterator[WorkItem] = self._bound_client().get_work_items(self.listed_project_id, **filters)
        return items

    def download(self, destination: str | os.PathLike[str], **options: Unpack[DownloadOptions]) -> DownloadSummary:
        """Download the completed items of this batch; see :meth:`Client.download_project`.

        Example:
            >>> next(client.get_batches()).download("labels").failed
            0
        """
        project_id, batch_ids = self.listed_project_id, [self.id]
        summary: DownloadSummary
        summary = self._bound_client().download_project(project_id, destination, batch_ids=batch_ids, **options)
        return summary

    def update(self, *, name: str) -> Self:
        """Rename the batch and update this object; return it. See :meth:`Client.update_batch`.

        Example:
            >>> batch = client.get_batch(1002)
            >>> batch.update(name="Autumn").name, batch.total_count
            ('Autumn', 10)
        """
        changed = self._bound_client().update_batch(self.id, self.listed_project_id, name=name)
        # The answer to a change lacks the counts.
        self._data = {**self._data, **changed._data}
        return self

    def refresh(self) -> Self:
        """Read the batch again and update this object; return it.

        Raises:
            NotFoundError: If it is not there any more.
        """
        self._data = self._bound_client().get_batch(self.id, self.listed_project_id)._data
        return self
