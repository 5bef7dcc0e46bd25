"""One item on its way through the pipeline."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ..exceptions import CFPlatformError, DownloadError
from ..resources import WorkItem

R = TypeVar("R")


class Job(Generic[R]):
    """One item on its way; ``result`` or ``error`` is set when it is done."""

    __slots__ = (
        "asset",
        "asset_error",
        "asset_path",
        "asset_url",
        "error",
        "headers",
        "held",
        "index",
        "item",
        "path",
        "renewals",
        "result",
        "room",
        "size",
        "space_id",
        "target",
        "url",
        "wants_document",
    )

    def __init__(self, item: WorkItem, target: Any = None, result: R | None = None) -> None:
        self.item = item
        self.wants_document = True
        #: Where the asset is, as the platform says; ``None`` if it is not wanted.
        self.asset: str | None = None
        self.asset_path = ""
        self.asset_url = ""
        #: Why there is no asset; raised after the document is saved.
        self.asset_error: DownloadError | None = None
        #: What the receiver needs to know; the pipeline does not look at it.
        self.target = target
        self.result = result
        self.error: CFPlatformError | None = None
        self.headers: dict[str, str] | None = None
        self.held = False
        #: Bytes that the document is known to need, and those that are set aside for it.
        self.size: int | None = None
        self.room = 0
        self.index = -1
        self.space_id = ""
        self.path = ""
        self.url = ""
        self.renewals = 0

    def __lt__(self, other: Job[R]) -> bool:
        return self.index < other.index

    def take(self) -> R | None:
        """Return the result and hold it no longer."""
        result, self.result = self.result, None
        return result
