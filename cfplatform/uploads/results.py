"""What became of the files of a run."""

from __future__ import annotations

from dataclasses import dataclass

from .. import markup
from ..exceptions import CFPlatformError
from .sources import File


@dataclass(frozen=True)
class UploadedFile:
    """A file in the storage of a space.

    Attributes:
        path: Its place inside the space, chosen by the platform; the ``asset_url`` of a work item.
        size: Its bytes.
        content_type: The media type that it was sent with.
        name: The name that it had here, without folders; ``None`` for a file object without one.
    """

    path: str
    size: int
    content_type: str
    name: str | None

    def _repr_html_(self) -> str:
        return markup.table(type(self).__name__, vars(self).items())


@dataclass(frozen=True)
class UploadResult:
    """What became of one file.

    Attributes:
        file: The path or file object, as given.
        uploaded: The file in the storage; ``None`` if it failed.
        error: Why it failed, else ``None``.
    """

    file: File
    uploaded: UploadedFile | None = None
    error: CFPlatformError | None = None

    @property
    def ok(self) -> bool:
        """Whether it was uploaded."""
        return self.error is None

    def _repr_html_(self) -> str:
        path = self.uploaded.path if self.uploaded is not None else None
        return markup.table(type(self).__name__, [("file", self.file), ("path", path), ("error", self.error)])
