"""Keyword options that methods of the client and of the resources share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from typing_extensions import TypedDict

from .. import progress


class Executor(Protocol):
    """A ``concurrent.futures.Executor``, that of a Dask client, or anything with such a ``submit``."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run ``fn(*args)`` somewhere; return a future with ``result``, ``cancel`` and ``add_done_callback``."""


class DownloadOptions(TypedDict, total=False):
    """Options of every download, described at :meth:`~cfplatform.Client.download_project`."""

    space_id: str | None
    max_workers: int | None
    overwrite: bool
    assets: bool
    inject_asset_url: bool
    progress: progress.Progress
    executor: Executor | None
    patience: float | None
    state: str | os.PathLike[str] | None


class WaitOptions(TypedDict, total=False):
    """Options of waiting, described at :meth:`~cfplatform.Client.wait_for_export`."""

    timeout: float
    poll_interval: float
    progress: progress.Progress


class ExportDownloadOptions(TypedDict, total=False):
    """Options of the download of an export, described at :meth:`~cfplatform.Client.download_export`."""

    wait: bool
    timeout: float
    poll_interval: float
    extract: bool
    overwrite: bool
    progress: progress.Progress


class DrawOptions(TypedDict, total=False):
    """Options of :func:`cfplatform.viz.draw`."""

    image_id: Any
    labels: bool
    boxes: bool
    masks: bool
    keypoints: bool
    colours: Mapping[str, tuple[int, int, int]] | None
    font: str | os.PathLike[str] | None
    max_size: int
