"""Work items, their batches, and their annotations."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, overload

from ..exceptions import DownloadError
from .base import InProject, Resource, Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image
    from typing_extensions import Self, Unpack

    from ..params import ListOptions
    from ..types import AnnotationData, BatchData, CocoDocument, WorkItemData  # noqa: F401 - classes below name them in strings
    from .results import DownloadOptions, DownloadResult, DownloadSummary, DrawOptions


class WorkItemStatus(Text):
    """The documented statuses. The platform has others; any string is accepted and returned."""

    COMPLETED = "COMPLETED"
    CLIENT_REVIEW = "CLIENT_REVIEW"


class WorkItem(InProject["WorkItemData"]):
    """One asset with its annotations.

    Example:
        >>> for item in client.get_work_items(status="COMPLETED", limit=2):
        ...     print(item.status, len(item.load()["images"]))
        COMPLETED 1
        COMPLETED 1
    """

    __slots__ = ()

    _shown = ("status", "batch_id", "asset_type", "created_at", "updated_at")

    @property
    def batch_id(self) -> int | None:
        """The ID of the batch; ``None`` if the item is in no batch."""
        return self._integer("batchId")

    @property
    def status(self) -> str | None:
        """The status, as sent by the server, such as "COMPLETED"."""
        return self._text("status")

    @property
    def asset_type(self) -> str | None:
        """The kind of asset, such as "image" or "video"."""
        return self._text("assetType")

    @property
    def asset_url(self) -> str | None:
        """The absolute URL of the asset, or its path inside the space."""
        return self._text("assetUrl")

    @property
    def result_url(self) -> str | None:
        """A URL of the result, if the platform sends one. Its meaning is not documented."""
        return self._text("resultUrl")

    @property
    def updated_at(self) -> datetime | None:
        """The time of the last change. Downloads fetch the item again if it differs."""
        return self._time("updatedAt")

    @property
    def revision(self) -> str | None:
        """``updatedAt`` exactly as sent by the server. Equal strings mean no changes."""
        return self._text("updatedAt")

    def get_annotation(self) -> Annotation:
        """Fetch the annotation, which has the storage path of the COCO document.

        Raises:
            NotFoundError: If it does not exist, for example because the item is not completed.

        Example:
            >>> next(client.get_work_items()).get_annotation().coco_results_url[:5]
            's3://'
        """
        return cast("Annotation", self._bound_client().get_annotation(self.id, self.listed_project_id))

    def load(self) -> CocoDocument:
        """Fetch and parse the COCO document, with ``info.asset_url`` set. Nothing is written to disk.

        For many items, use :meth:`Client.iter_annotations`, which fetches concurrently.

        Example:
            >>> sorted(next(client.get_work_items()).load())
            ['annotations', 'categories', 'images', 'info', 'licenses']
        """
        _, document = next(self._bound_client().iter_annotations(items=[self], patience=0))
        return cast("CocoDocument", document)

    def load_bytes(self) -> bytes:
        """Fetch the COCO document exactly as served. Nothing is written to disk.

        The document is verified to be complete, as in :meth:`load`, but ``info.asset_url`` is not set.

        Raises:
            CFPlatformError: If the document cannot be fetched.

        Example:
            >>> item = next(client.get_work_items())
            >>> item.load_bytes() == sandbox.document(item.id)
            True
        """
        return cast(bytes, self._bound_client()._load_bytes(self))

    @overload
    def load_asset(self, *, stream: Literal[False] = False) -> bytes: ...

    @overload
    def load_asset(self, *, stream: Literal[True]) -> BinaryIO: ...

    def load_asset(self, *, stream: bool = False) -> bytes | BinaryIO:
        """Fetch the asset, byte for byte as stored, up to 4 GiB (our limit).

        An interrupted download is not resumed; :meth:`download_asset` does that.

        Args:
            stream: ``True`` to return a seekable binary file object, for an asset that is too large for memory. The
                asset is complete, in a temporary file that is removed when it is closed.

        Raises:
            CFPlatformError: If the asset cannot be fetched. As for :meth:`download_asset`, the client may need
                ``space_id``.

        Example:
            >>> item = next(client.get_work_items())
            >>> item.load_asset()[:4]
            b'\\x89PNG'
            >>> with item.load_asset(stream=True) as file:
            ...     len(file.read(1024))
            1024
        """
        self._check_asset()
        return cast("bytes | BinaryIO", self._bound_client()._load_asset(self, stream))

    def download(self, destination: str | os.PathLike[str], **options: Unpack[DownloadOptions]) -> DownloadResult:
        """Save the COCO document as ``<destination>/<batch name>/<id>.json``.

        An unchanged file is not downloaded again. For many items, use :meth:`Client.download_work_items`, which
        downloads concurrently.

        Raises:
            CFPlatformError: If the document cannot be downloaded.

        Example:
            >>> next(client.get_work_items()).download("labels").outcome
            'downloaded'
        """
        # By default, a single call fails after its retries.
        options.setdefault("patience", 0)
        result: DownloadResult = next(self._bound_client().iter_downloads([self], destination, **options))
        if result.error is not None:
            raise result.error
        return result

    def download_asset(self, destination: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save the asset as ``<destination>/<batch name>/assets/<id>`` with its extension; return its path.

        An existing asset is not downloaded again. For many items, use :meth:`Client.download_project` with
        ``assets=True``. If the asset is a path inside the space and the item has no annotation yet, the client needs
        ``space_id``.

        Raises:
            CFPlatformError: If the asset cannot be downloaded.

        Example:
            >>> next(client.get_work_items()).download_asset("labels").parent.name
            'assets'
        """
        self._check_asset()
        result = self._bound_client()._download_asset(self, destination, overwrite)
        if result.error is not None:
            raise result.error
        return cast("Path", result.asset_path)

    def _check_asset(self) -> None:
        if self.asset_url is None:
            raise DownloadError(f"Work item {self.id} has no asset: assetUrl is missing.")

    def plot(self, **options: Unpack[DrawOptions]) -> Image:
        """Fetch the annotations and the image, and return the annotated image. Nothing is left on disk.

        Notebooks show the image if it is the last value of a cell. Annotations without an image, such as those of a
        video, are drawn on a blank canvas. Needs the ``viz`` extra. The options are those of
        :func:`cfplatform.viz.draw`.

        Raises:
            InvalidParameterError: If the image cannot be read, or an option is not valid.

        Example:
            >>> next(client.get_work_items()).plot(labels=False).size
            (320, 240)
        """
        return cast("Image", self._bound_client()._plot(self, options))

    def refresh(self) -> Self:
        """Fetch the item again, update this object and return it.

        Raises:
            NotFoundError: If the item no longer exists.
        """
        self._data = self._bound_client().get_work_item(self.id, self.listed_project_id)._data
        return self


class Batch(InProject["BatchData"]):
    """A group of work items in a project, with counts if the server sent them."""

    __slots__ = ()

    _label = "name"
    _shown = ("name", "total_count", "completed_count", "created_at")

    @property
    def id(self) -> int:  # type: ignore[override]
        """The ID, an integer."""
        number = self._integer("id")
        # An ID in an unknown format is kept, so the batch is not lost.
        return cast(int, self._data["id"]) if number is None else number

    @property
    def name(self) -> str | None:
        """The name, unique in the project."""
        return self._text("name")

    @property
    def created_by(self) -> str | None:
        """The ID of the user who created it."""
        return self._text("createdBy")

    @property
    def priority(self) -> int | None:
        """The priority. Its meaning is not documented."""
        return self._integer("priority")

    @property
    def total_count(self) -> int | None:
        """Number of work items in the batch."""
        return self._integer("totalCount")

    @property
    def completed_count(self) -> int | None:
        """Number of completed work items in the batch."""
        return self._integer("completedCount")

    def get_work_items(self, **filters: Unpack[ListOptions]) -> Iterator[WorkItem]:
        """Iterate over the work items of this batch, with the filters and options of :meth:`Client.get_work_items`.

        Example:
            >>> batch = next(client.get_batches())
            >>> sum(1 for item in batch.get_work_items(status="COMPLETED")) == batch.completed_count
            True
        """
        others: dict[str, Any] = {**filters}
        listed = self._bound_client().get_work_items(self.listed_project_id, **self._own(), **others)
        return cast("Iterator[WorkItem]", listed)

    def download(self, destination: str | os.PathLike[str], **options: Unpack[DownloadOptions]) -> DownloadSummary:
        """Download the completed items of this batch; see :meth:`Client.download_project`.

        Example:
            >>> next(client.get_batches()).download("labels").failed
            0
        """
        download = self._bound_client().download_project
        return cast("DownloadSummary", download(self.listed_project_id, destination, **self._own(), **options))

    def _own(self) -> dict[str, Any]:
        # Names would add other batches; with both keys here, Python refuses them as duplicate arguments.
        return {"batch_ids": [self.id], "batch_names": None}

    def update(self, *, name: str) -> Self:
        """Rename the batch, update this object and return it; see :meth:`Client.update_batch`.

        Example:
            >>> batch = client.get_batch(1002)
            >>> batch.update(name="Autumn").name, batch.total_count
            ('Autumn', 10)
        """
        changed = self._bound_client().update_batch(self.id, self.listed_project_id, name=name)
        # The response to a change lacks the counts.
        self._data = {**self._data, **changed._data}
        return self

    def refresh(self) -> Self:
        """Fetch the batch again, update this object and return it.

        Raises:
            NotFoundError: If the batch no longer exists.
        """
        self._data = self._bound_client().get_batch(self.id, self.listed_project_id)._data
        return self


class Annotation(Resource["AnnotationData"]):
    """The annotation of one work item, with the storage path of its COCO document."""

    __slots__ = ()

    _label = "workItemID"
    _shown = ("work_item_id", "coco_results_url")

    @property
    def project_id(self) -> str | None:
        """The ID of the project."""
        return self._text("projectID")

    @property
    def work_item_id(self) -> str | None:
        """The ID of the work item."""
        return self._text("workItemID") or self._parent_id

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata; empty if there is none."""
        return self._metadata()

    @property
    def coco_results_url(self) -> str | None:
        """The storage path of the COCO document, such as ``s3://bucket/spaces/<space id>/...``."""
        value = self.metadata.get("coco_results_url")
        return value if isinstance(value, str) and value else None
