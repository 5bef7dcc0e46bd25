"""Work items and their annotations."""

from __future__ import annotations

import os
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from .. import timestamps
from ..exceptions import DownloadError
from .base import InProject, Resource

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from typing_extensions import Self, Unpack

    from .options import DownloadOptions, DrawOptions
    from .results import DownloadResult


class WorkItemStatus(str, Enum):
    """The statuses that are known by name; the platform has more, and any text is accepted and returned."""

    COMPLETED = "COMPLETED"
    CLIENT_REVIEW = "CLIENT_REVIEW"

    __str__ = str.__str__


class WorkItem(InProject):
    """One asset with the labels that were made for it.

    Example:
        >>> for item in client.get_work_items(status="COMPLETED", max_items=2):
        ...     print(item.status, len(item.load()["images"]))
        COMPLETED 1
        COMPLETED 1
    """

    __slots__ = ()

    _shown = ("status", "batch_id", "asset_type", "created_at", "updated_at")

    @property
    def batch_id(self) -> int | None:
        """The batch; ``None`` where the item belongs to none."""
        return self._whole_number("batchId")

    @property
    def status(self) -> str | None:
        """The status as the server spells it, such as "COMPLETED"."""
        return self._text("status")

    @property
    def asset_type(self) -> str | None:
        """The kind of asset, such as "image" or "video"."""
        return self._text("assetType")

    @property
    def asset_url(self) -> str | None:
        """Where the asset is, as an absolute URL or as a path inside the space."""
        return self._text("assetUrl")

    @property
    def result_url(self) -> str | None:
        """An address of the result where the platform gives one; its meaning is not documented."""
        return self._text("resultUrl")

    @property
    def updated_at(self) -> datetime | None:
        """When it was last changed; a download fetches the item again when this moves."""
        return timestamps.parse_or_none(self._data.get("updatedAt"))

    @property
    def revision(self) -> str | None:
        """``updatedAt`` exactly as the server sent it: equal texts mean that nothing changed."""
        return self._text("updatedAt")

    def get_annotation(self) -> Annotation:
        """Fetch the annotation, which says where the COCO document is stored.

        Raises:
            NotFoundError: If the item has none, for example because it is not completed.

        Example:
            >>> next(client.get_work_items()).get_annotation().coco_results_url[:5]
            's3://'
        """
        annotation: Annotation = self._bound_client().get_annotation(self.id, self.listed_project_id)
        return annotation

    def load(self) -> dict[str, Any]:
        """Fetch and parse the COCO document, with ``info.asset_url`` set; nothing is written to disk.

        For many items, :meth:`Client.iter_annotations` does the same concurrently.

        Example:
            >>> sorted(next(client.get_work_items()).load())
            ['annotations', 'categories', 'images', 'info', 'licenses']
        """
        document: dict[str, Any] = next(self._bound_client().iter_annotations(items=[self], patience=0))[1]
        return document

    def download(self, destination: str | os.PathLike[str], **options: Unpack[DownloadOptions]) -> DownloadResult:
        """Save the COCO document as ``<destination>/<batch name>/<id>.json``.

        An unchanged file that is there already is kept. For many items,
        :meth:`Client.download_work_items` does the same concurrently.

        Raises:
            CFPlatformError: The reason, if it could not be downloaded.

        Example:
            >>> next(client.get_work_items()).download("labels").outcome
            'downloaded'
        """
        # A single call fails after its retries, unless the caller says otherwise.
        options.setdefault("patience", 0)
        result: DownloadResult = next(self._bound_client().iter_downloads([self], destination, **options))
        if result.error is not None:
            raise result.error
        return result

    def download_asset(self, destination: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save the asset as ``<destination>/<batch name>/assets/<id>`` with its extension; return its path.

        An asset that is there already is kept. :meth:`Client.download_project` with ``assets=True`` does the same for
        many items, concurrently. Where the asset is named by a path inside the space, and the item has no annotation
        yet that names the space, the client needs ``space_id``.

        Raises:
            CFPlatformError: The reason, if it could not be downloaded.

        Example:
            >>> next(client.get_work_items()).download_asset("labels").parent.name
            'assets'
        """
        if self.asset_url is None:
            raise DownloadError(f"Work item {self.id} has no asset: the platform names none.")
        result = self._bound_client()._download_asset(self, destination, overwrite)
        if result.error is not None:
            raise result.error
        return cast("Path", result.asset_path)

    def plot(self, **options: Unpack[DrawOptions]) -> Image:
        """Fetch the annotations and the image, and return the annotated image; nothing is left on disk.

        A notebook shows it where it is the last value of a cell. Annotations without an image, such as
        those of a video, are drawn on a blank one. Needs the extra ``viz``; the options are those of
        :func:`cfplatform.viz.draw`.

        Raises:
            InvalidParameterError: If the image cannot be read, or an option makes no sense.

        Example:
            >>> next(client.get_work_items()).plot(labels=False).size
            (320, 240)
        """
        image: Image = self._bound_client()._plot(self, options)
        return image

    def refresh(self) -> Self:
        """Read the item again and update this object; return it.

        Raises:
            NotFoundError: If it is not there any more.
        """
        self._data = self._bound_client().get_work_item(self.id, self.listed_project_id)._data
        return self


class Annotation(Resource):
    """What the platform knows of the labels of one work item: above all, where the COCO document is stored."""

    __slots__ = ()

    _label = "workItemID"
    _shown = ("work_item_id", "coco_results_url")

    @property
    def project_id(self) -> str | None:
        """The project."""
        return self._text("projectID")

    @property
    def work_item_id(self) -> str | None:
        """The work item; the id that was asked for where the server does not repeat it."""
        return self._text("workItemID") or self._parent_id

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata object; empty where there is none."""
        return self._mapping("metadata")

    @property
    def coco_results_url(self) -> str | None:
        """The storage path of the COCO document, such as ``s3://bucket/spaces/<space id>/...``."""
        value = self.metadata.get("coco_results_url")
        return value if isinstance(value, str) and value else None
