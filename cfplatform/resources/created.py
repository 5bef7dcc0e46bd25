"""The result of creating a work item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..exceptions import CFPlatformError, blank
from .base import Tabular
from .results import File, UploadedFile, file_name, plain
from .work_items import WorkItem


@dataclass(frozen=True, repr=False)
class CreateResult(Tabular):
    """The result of one asset.

    Attributes:
        asset: The asset as passed: a file, an :class:`~cfplatform.UploadedFile` or a URL.
        item: The work item; ``None`` after an error.
        uploaded: The uploaded file; ``None`` for a URL, or if the upload failed.
        error: The error, or ``None``.
        existed: Whether an earlier run created the item. An item from the journal has only ``id``, ``batch_id`` and
            ``asset_url``; ``item.refresh()`` fetches the rest.
    """

    asset: File | UploadedFile
    item: WorkItem | None = None
    uploaded: UploadedFile | None = None
    error: CFPlatformError | None = None
    existed: bool = False

    def __repr__(self) -> str:
        # The query of a URL may be a signature.
        return blank(f"CreateResult({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})")

    @property
    def ok(self) -> bool:
        """Whether the work item was created or already existed."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable data, with the error as text and ``error_type``.

        ``asset`` is the path or URL, or the name of the file object, if it has one.

        Example:
            >>> (result,) = client.create_work_items(["https://example.com/a.jpg"])
            >>> result.as_dict()["item"]["assetUrl"], result.as_dict()["existed"]
            ('https://example.com/a.jpg', False)
        """
        asset = self.asset.path if isinstance(self.asset, UploadedFile) else file_name(self.asset)
        item, uploaded = (each and each.as_dict() for each in (self.item, self.uploaded))
        return plain({**vars(self), "asset": asset, "item": item, "uploaded": uploaded})

    def _cells(self) -> list[tuple[str, Any]]:
        return [("asset", self.asset), ("item", self.item and self.item.id), ("error", self.error)]
