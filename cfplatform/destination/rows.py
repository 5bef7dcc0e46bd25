"""What the state holds of one item, asset or result."""

from __future__ import annotations

from typing import NamedTuple


class FinishedItem(NamedTuple):
    """What is known of an item that was downloaded; ``path`` is relative to the destination."""

    path: str
    revision: str | None
    injected: bool
    etag: str | None
    size: int
    mtime_ns: int


class FinishedAsset(NamedTuple):
    """What is known of an asset that was downloaded; ``path`` is relative to the destination."""

    path: str
    source: str
    size: int
    mtime_ns: int


class ResultRow(NamedTuple):
    """One result as it is stored; ``error`` is JSON."""

    item_id: str
    batch_id: str | None
    path: str | None
    outcome: str
    size: int
    error: str | None
    asset_path: str | None = None
    asset_size: int = 0
    written: int = 0


class DownloadedRow(NamedTuple):
    """The files of one item, relative to the destination."""

    project_id: str
    item_id: str
    path: str | None
    asset_path: str | None
