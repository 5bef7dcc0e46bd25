"""Exports: archives of annotations."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, cast

from .base import Resource, Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self, Unpack

    from ..archives import ArchiveMember
    from ..types import ExportData  # noqa: F401 - the class below names it in a string
    from .results import ExportDownloadOptions, WaitOptions


class ExportStatus(Text):
    """The status of an export; the last two are final. Unknown values from the server are kept."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class ExportFormat(Text):
    """The formats of an export."""

    COCO_JSON = "COCO_JSON"
    JSON = "JSON"
    CSV = "CSV"


class ExportContent(Text):
    """The content of an export: final annotations, raw inferences, or the metadata of assets."""

    ANNOTATION = "ANNOTATION"
    INFERENCE = "INFERENCE"
    ASSET_METADATA = "ASSET_METADATA"


class Export(Resource["ExportData"]):
    """An archive of the annotations of a space, created by the platform.

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
        """The ID."""
        own = self._value("exportId")
        return str(self._data["id"] if own is None else own)

    @property
    def space_id(self) -> str | None:
        """The space of the export."""
        return self._parent_id

    @property
    def name(self) -> str | None:
        """The name; it need not be unique."""
        return self._text("name")

    @property
    def status(self) -> str | None:
        """The status, as sent by the server; see :class:`ExportStatus`."""
        return self._text("status")

    @property
    def format(self) -> str | None:
        """The format; see :class:`ExportFormat`."""
        return self._text("format")

    @property
    def content(self) -> str | None:
        """The content; see :class:`ExportContent`."""
        return self._text("content")

    @property
    def created_by(self) -> str | None:
        """The email address of the user who created it."""
        return self._text("createdBy")

    @property
    def created_at(self) -> datetime | None:
        """The creation time, with a time zone; ``None`` if the server sent no valid time."""
        return self._time("createdAt")

    @property
    def download_url(self) -> str | None:
        """The signed URL of the archive, once it is completed. Anyone with this URL can read the archive."""
        return self._text("downloadUrl")

    @property
    def error(self) -> str | None:
        """The server message, if the export failed."""
        return self._text("error")

    @property
    def is_final(self) -> bool:
        """Whether the status is final."""
        return self.status in (ExportStatus.COMPLETED, ExportStatus.FAILED)

    def wait(self, **options: Unpack[WaitOptions]) -> Self:
        """Wait until the export is completed, and update this object; see :meth:`Client.wait_for_export`.

        Raises:
            ExportFailedError: If the platform could not create the export.
            ExportTimeoutError: If it took too long.

        Example:
            >>> client.create_export("soon", sandbox.space_id).wait(timeout=600).status
            'COMPLETED'
        """
        self._data = self._bound_client().wait_for_export(self.id, self.space_id, **options)._data
        return self

    def download(self, destination: str | os.PathLike[str], **options: Unpack[ExportDownloadOptions]) -> Path:
        """Download the archive, and wait for it if necessary; see :meth:`Client.download_export`.

        Example:
            >>> client.create_export("kept", sandbox.space_id).download("archives").name[:5]
            'kept '
        """
        return cast("Path", self._bound_client().download_export(self.id, destination, self.space_id, **options))

    def iter_members(
        self, pattern: str = "*", *, destination: str | os.PathLike[str] | None = None
    ) -> Iterator[ArchiveMember]:
        """Iterate over the files in the archive without extracting it.

        The archive is downloaded to disk first, because its directory is at the end. Memory does not grow with its
        size.

        Args:
            pattern: Names to yield, as in :mod:`fnmatch`; ``*`` also matches slashes.
            destination: A folder to keep the archive in. By default it is removed when the iterator ends.

        Example:
            >>> export = client.create_export("stream", sandbox.space_id)
            >>> len([member.json() for member in export.iter_members("*.json")])
            20
        """
        return cast("Iterator[ArchiveMember]", self._bound_client()._iter_members(self, pattern, destination))

    def refresh(self) -> Self:
        """Fetch the export again, update this object and return it.

        Raises:
            NotFoundError: If the export no longer exists.
        """
        self._data = self._bound_client().get_export(self.id, self.space_id)._data
        return self

    def delete(self) -> None:
        """Delete the export and its archive; see :meth:`Client.delete_export`.

        Example:
            >>> client.create_export("not needed", sandbox.space_id).delete()
        """
        self._bound_client().delete_export(self.id, self.space_id)
