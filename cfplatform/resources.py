"""Work items, batches, annotations and exports: thin objects over the dict that the server sent."""

from __future__ import annotations

import copy
import os
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

from . import markup, timestamps
from .exceptions import ConfigurationError, DownloadError, blank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image
    from typing_extensions import Self, Unpack

    from .archives import ArchiveMember
    from .client import Client
    from .downloads import DownloadOptions
    from .exports import ExportDownloadOptions, WaitOptions
    from .params import WorkItemFilters
    from .results import DownloadResult, DownloadSummary
    from .viz import DrawOptions


class WorkItemStatus(str, Enum):
    """The statuses that are known by name; the platform has more, and any text is accepted and returned."""

    COMPLETED = "COMPLETED"
    CLIENT_REVIEW = "CLIENT_REVIEW"

    __str__ = str.__str__


class ExportStatus(str, Enum):
    """How far an export is; the last two are final. Other texts of the server are kept as they are."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    __str__ = str.__str__


class ExportFormat(str, Enum):
    """The formats of an export."""

    COCO_JSON = "COCO_JSON"
    JSON = "JSON"
    CSV = "CSV"

    __str__ = str.__str__


class ExportContent(str, Enum):
    """What an export holds: final annotations, raw inferences, or the metadata of assets."""

    ANNOTATION = "ANNOTATION"
    INFERENCE = "INFERENCE"
    ASSET_METADATA = "ASSET_METADATA"

    __str__ = str.__str__


class Resource:
    """Something on the platform, as it was when it was read.

    Keeps the server's dict and converts a field when it is read, so that an odd field never costs a page.
    Equal if of the same class with the same id; can be copied and pickled (the copy made by pickle has no client).
    """

    __slots__ = ("_client", "_data", "_parent_id")

    #: Field that a person would recognise it by, shown in ``repr``.
    _label: ClassVar[str] = "status"
    #: Properties that a notebook shows: none that may be an address with a signature.
    _shown: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: dict[str, Any], client: Client | None = None, parent_id: str | None = None) -> None:
        self._data = data
        self._client = client
        self._parent_id = parent_id

    @property
    def id(self) -> str:
        """The id; the only field that is always there."""
        return str(self._data["id"])

    def as_dict(self) -> dict[str, Any]:
        """Return a deep copy of everything that the server sent, under the server's names.

        Example:
            >>> item = next(client.get_work_items())
            >>> item.as_dict()["assetType"]
            'image'
        """
        return copy.deepcopy(self._data)

    def __repr__(self) -> str:
        label = self._data.get(self._label)
        shown = f" {self._label}={label!r}" if label is not None else ""
        return f"<{type(self).__name__} id={self.id!r}{shown}>"

    def _repr_html_(self) -> str:
        values = ((name, getattr(self, name)) for name in self._shown)
        rows = ((name, blank(value) if isinstance(value, str) else value) for name, value in values)
        return markup.table(type(self).__name__, [("id", self.id), *rows])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.id == other.id

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __copy__(self) -> Self:
        return type(self)(dict(self._data), self._client, self._parent_id)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The client is shared: it holds connections and the key, of which there must be one.
        return type(self)(copy.deepcopy(self._data, memo), self._client, self._parent_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._data, None, self._parent_id))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}. The server sent these fields: "
            f"{', '.join(sorted(self._data))}; read them with as_dict()[...]."
        )

    def _bound_client(self) -> Client:
        if self._client is None:
            raise ConfigurationError(
                f"This {type(self).__name__} has no client, because it was unpickled or built by hand. "
                "Fetch it again from a client."
            )
        return self._client

    def _text(self, key: str) -> str | None:
        value = self._data.get(key)
        return value if isinstance(value, str) else None

    def _whole_number(self, key: str) -> int | None:
        value = self._data.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._data.get(key)
        return copy.deepcopy(value) if isinstance(value, dict) else {}


class _InProject(Resource):
    """A resource that belongs to a project."""

    __slots__ = ()

    @property
    def project_id(self) -> str | None:
        """The project that the server names, else the one that was listed."""
        return self._text("projectId") or self._parent_id

    @property
    def created_at(self) -> datetime | None:
        """When it was created, with its time zone; ``None`` where the server sent no readable time."""
        return timestamps.parse_or_none(self._data.get("createdAt"))

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata object; empty where there is none."""
        return self._mapping("metadata")


class WorkItem(_InProject):
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
        return self._bound_client().get_annotation(self.id, self.project_id)

    def load(self) -> dict[str, Any]:
        """Fetch and parse the COCO document, with ``info.asset_url`` set; nothing is written to disk.

        For many items, :meth:`Client.iter_annotations` does the same concurrently.

        Example:
            >>> sorted(next(client.get_work_items()).load())
            ['annotations', 'categories', 'images', 'info', 'licenses']
        """
        _, document = next(self._bound_client().iter_annotations(items=[self]))
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
        result = next(self._bound_client().iter_downloads([self], destination, **options))
        if result.error is not None:
            raise result.error
        return result

    def download_asset(self, destination: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save the asset as ``<destination>/<batch name>/assets/<id>`` with its extension; return its path.

        An asset that is there already is kept. :meth:`Client.download_project` with ``assets=True`` does the same for
        many items, concurrently. Where the asset is named by a path inside the space, and the item has no annotation
        yet that tells the space, the client needs ``space_id``.

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
        """Fetch the labels and the picture, and return the picture with its labels; nothing is left on disk.

        A notebook shows it where it is the last value of a cell. What has no picture, such as a video, is drawn on a
        blank one. Needs the extra ``viz``; the options are those of :func:`cfplatform.viz.draw`.

        Raises:
            InvalidParameterError: If the picture cannot be read, or an option makes no sense.

        Example:
            >>> next(client.get_work_items()).plot(labels=False).size
            (320, 240)
        """
        return self._bound_client()._plot(self, options)

    def refresh(self) -> Self:
        """Read the item again and update this object; return it.

        Raises:
            NotFoundError: If it is not there any more.
        """
        self._data = self._bound_client().get_work_item(self.id, self.project_id)._data
        return self


class Batch(_InProject):
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
        return self._bound_client().get_work_items(self.project_id, **filters)

    def download(self, destination: str | os.PathLike[str], **options: Unpack[DownloadOptions]) -> DownloadSummary:
        """Download the completed items of this batch; see :meth:`Client.download_project`.

        Example:
            >>> next(client.get_batches()).download("labels").failed
            0
        """
        return self._bound_client().download_project(self.project_id, destination, batch_ids=[self.id], **options)

    def update(self, *, name: str) -> Self:
        """Rename the batch and update this object; return it. See :meth:`Client.update_batch`.

        Example:
            >>> batch = client.get_batch(1002)
            >>> batch.update(name="Autumn").name, batch.total_count
            ('Autumn', 10)
        """
        changed = self._bound_client().update_batch(self.id, self.project_id, name=name)
        # The answer to a change lacks the counts.
        self._data = {**self._data, **changed._data}
        return self

    def refresh(self) -> Self:
        """Read the batch again and update this object; return it.

        Raises:
            NotFoundError: If it is not there any more.
        """
        self._data = self._bound_client().get_batch(self.id, self.project_id)._data
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
        """The place of the COCO document in the storage, such as ``s3://bucket/spaces/<space id>/...``."""
        value = self.metadata.get("coco_results_url")
        return value if isinstance(value, str) and value else None


class Export(Resource):
    """An archive of labels that the platform makes of a space, with its state as it was read last.

    Example:
        >>> export = client.create_export("nightly", sandbox.space_id)
        >>> export.wait().status
        'COMPLETED'
        >>> export.download("archives").suffix
        '.zip'
    """

    __slots__ = ()

    _shown = ("name", "status", "format", "content", "created_at", "error")

    @property
    def id(self) -> str:
        """The id."""
        return str(self._data["exportId"] if "exportId" in self._data else self._data["id"])

    @property
    def space_id(self) -> str | None:
        """The space that it belongs to."""
        return self._parent_id

    @property
    def name(self) -> str | None:
        """The name that it was created with; names need not be unique."""
        return self._text("name")

    @property
    def status(self) -> str | None:
        """The status as the server spells it; see :class:`ExportStatus`."""
        return self._text("status")

    @property
    def format(self) -> str | None:
        """The format; see :class:`ExportFormat`."""
        return self._text("format")

    @property
    def content(self) -> str | None:
        """What it holds; see :class:`ExportContent`."""
        return self._text("content")

    @property
    def created_by(self) -> str | None:
        """The e-mail address of the user who created it."""
        return self._text("createdBy")

    @property
    def created_at(self) -> datetime | None:
        """When it was created, with its time zone; ``None`` where the server sent no readable time."""
        return timestamps.parse_or_none(self._data.get("createdAt"))

    @property
    def download_url(self) -> str | None:
        """The signed address of the archive, once it is completed. Anybody who has it may read the archive."""
        return self._text("downloadUrl")

    @property
    def error(self) -> str | None:
        """Why it failed, in the server's words."""
        return self._text("error")

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in (ExportStatus.COMPLETED, ExportStatus.FAILED)

    def wait(self, **options: Unpack[WaitOptions]) -> Self:
        """Wait until it is completed and update this object; see :meth:`Client.wait_for_export`.

        Raises:
            ExportFailedError: If the platform could not make it.
            ExportTimeoutError: If it took too long.

        Example:
            >>> client.create_export("soon", sandbox.space_id).wait(timeout=600).status
            'COMPLETED'
        """
        self._data = self._bound_client().wait_for_export(self.id, self.space_id, **options)._data
        return self

    def download(self, destination: str | os.PathLike[str], **options: Unpack[ExportDownloadOptions]) -> Path:
        """Download the archive, waiting for it where necessary; see :meth:`Client.download_export`.

        Example:
            >>> client.create_export("kept", sandbox.space_id).download("archives").name[:5]
            'kept '
        """
        return self._bound_client().download_export(self.id, destination, self.space_id, **options)

    def iter_members(
        self, pattern: str = "*", *, destination: str | os.PathLike[str] | None = None
    ) -> Iterator[ArchiveMember]:
        """Iterate over the files in the archive without unpacking it.

        The archive itself is downloaded first, as its directory stands at its end; memory does not grow with it.

        Args:
            pattern: Which names to yield, as in :mod:`fnmatch`; ``*`` stands for slashes too.
            destination: A folder to keep the archive in; otherwise it is removed when the iterator ends.

        Example:
            >>> export = client.create_export("stream", sandbox.space_id)
            >>> len([member.json() for member in export.iter_members("*.json")])
            20
        """
        return self._bound_client()._iter_members(self, pattern, destination)

    def refresh(self) -> Self:
        """Read it again and update this object; return it.

        Raises:
            NotFoundError: If it is not there any more.
        """
        self._data = self._bound_client().get_export(self.id, self.space_id)._data
        return self

    def delete(self) -> None:
        """Delete it and its archive; see :meth:`Client.delete_export`.

        Example:
            >>> client.create_export("not needed", sandbox.space_id).delete()
        """
        self._bound_client().delete_export(self.id, self.space_id)
