"""One item on its way through a download."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ..exceptions import CFPlatformError, DownloadError
from ..resources import WorkItem

R = TypeVar("R")


class Job(Generic[R]):
    """One item on its way; ``result`` or ``error`` is set when it is done."""

    def __init__(self, item: WorkItem, target: Any = None, result: R | None = None) -> None:
        self.item = item
        #: The project that is asked for it: the one that was listed, whatever the item says.
        self.project_id = item.listed_project_id or ""
        self.wants_document = True
        #: Where the asset is, as the platform says; ``None`` if it is not wanted.
        self.asset: str | None = None
        self.asset_path = ""
        self.asset_url = ""
        #: Why there is no asset; raised after the document is saved.
        self.asset_error: DownloadError | None = None
        #: What the receiver needs to know; the steps do not look at it.
        self.target = target
        self.result = result
        self.error: CFPlatformError | None = None
        self.headers: dict[str, str] | None = None
        #: Bytes that the document is known to need, and those that are set aside for it.
        self.size: int | None = None
        self.reserved = 0
        self.is_held = False
        self.index = -1
        self.space_id = ""
        self.path = ""
        self.url = ""
        self.renewals = 0

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end."""
        return self.result is not None or self.error is not None

    def fail(self, error: CFPlatformError) -> None:
        """Give it an error for its end."""
        # Without its traceback, whose frames hold the job, its document and the client.
        self.error = error.with_traceback(None)
        self.result = None

    def take(self) -> R | None:
        """Return the result and hold it no longer."""
        result, self.result = self.result, None
        return result
