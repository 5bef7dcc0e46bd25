"""Options and results of long calls, and the contents of a destination."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Protocol, TypedDict, overload

from .. import progress
from ..destination import local, remote
from ..destination.reading import read_downloaded, read_metadata, read_results
from ..destination.state import KEPT_RUNS
from ..exceptions import CFPlatformError, DownloadError, from_dict
from .base import Tabular, table, table_of

#: Results read at a time in reverse order.
SLICE = 1000

#: A file to upload: a path, or a seekable binary file object.
File = str | os.PathLike[str] | BinaryIO


class Executor(Protocol):
    """A ``concurrent.futures.Executor``, the executor of a Dask client, or any object with the same ``submit``."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Schedule ``fn(*args)``; return a future with ``result``, ``cancel`` and ``add_done_callback``."""


class DownloadOptions(TypedDict, total=False):
    """Options of downloads; see :meth:`~cfplatform.Client.download_project`."""

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
    """Options for waiting; see :meth:`~cfplatform.Client.wait_for_export`."""

    timeout: float
    poll_interval: float
    progress: progress.Progress


class ExportDownloadOptions(TypedDict, total=False):
    """Options of export downloads; see :meth:`~cfplatform.Client.download_export`."""

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


@dataclass(frozen=True)
class DownloadResult(Tabular):
    """The result of one work item.

    Attributes:
        item_id: The work item.
        batch_id: Its batch, or ``None``.
        path: The absolute path of the document; ``None`` if the item failed or the destination is a URL.
        outcome: "downloaded", "skipped" (unchanged) or "failed".
        size: Size of the document in bytes; 0 if the item failed.
        error: The error, or ``None``.
        asset_path: The absolute path of the asset, if it was downloaded.
        asset_size: Size of the asset in bytes.
        written: Bytes that this run wrote to both files.
        object_url: The URL of the document, if the destination is a URL.
        asset_object_url: The URL of the asset, if the destination is a URL.
    """

    item_id: str
    batch_id: int | None
    path: Path | None
    outcome: str
    size: int = 0
    error: CFPlatformError | None = None
    asset_path: Path | None = None
    asset_size: int = 0
    written: int = 0
    object_url: str | None = None
    asset_object_url: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable data, with paths and the error as text, and ``error_type``.

        Example:
            >>> result = next(client.get_work_items()).download("labels")
            >>> result.as_dict()["outcome"], result.as_dict()["error"]
            ('downloaded', None)
        """
        return plain(vars(self))

    def _cells(self) -> list[tuple[str, Any]]:
        return [
            ("item_id", self.item_id),
            ("batch_id", self.batch_id),
            ("outcome", self.outcome),
            ("size", None if self.error else f"{self.size:,}"),
            ("file", self.path or self.object_url),
            ("asset", self.asset_path or self.asset_object_url),
            ("error", self.error),
        ]


@dataclass
class DownloadSummary:
    """The summary of a run: ``total_items`` is ``successful + skipped + failed``.

    Attributes:
        destination: The absolute path of the folder, or the URL.
        total_items: Work items that were listed.
        successful: Items that were downloaded.
        skipped: Items whose files were up to date.
        failed: Items that could not be downloaded.
        bytes: Bytes written for the downloaded items.
        elapsed: Duration of the run in seconds.
        unlisted: Items with files in the destination that are no longer listed. Counted only if a project was listed
            without filters.
        pruned: Unlisted items whose files were removed (``prune=True``). Files that were changed locally are kept;
            if no items are listed at all, nothing is removed.
        state: The folder with the state file: the destination, or its folder in ``state``.
    """

    destination: Path | str
    total_items: int = 0
    successful: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    elapsed: float = 0.0
    unlisted: int = 0
    pruned: int = 0
    run: int | None = field(default=None, repr=False)
    state: Path | None = field(default=None, repr=False)

    @property
    def results(self) -> Sequence[DownloadResult]:
        """All results, in the order in which the items finished.

        The sequence is read from the state file of the destination when it is used and takes no memory. The state file
        keeps the results of the last three runs.

        Raises:
            DownloadError: While reading: if the results are no longer in the state file.

        Example:
            >>> summary = client.download_project(destination="labels")
            >>> len(summary.results), summary.results[-1].outcome, len(summary.results[:3])
            (20, 'downloaded', 3)
        """
        return _StoredResults(self, self.total_items)

    @property
    def failures(self) -> list[DownloadResult]:
        """The failed results, each with its ``error``. Each access reads the state file and returns a new list."""
        return list(_StoredResults(self, self.failed, "failed")) if self.failed else []

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-serializable data, with paths as text.

        Results are not included, because there may be millions; each has its own ``as_dict()``.

        Example:
            >>> summary = client.download_project(destination="labels")
            >>> summary.as_dict()["successful"], [result.as_dict() for result in summary.failures]
            (20, [])
        """
        return plain({name: value for name, value in vars(self).items() if name != "run"})

    def raise_for_failures(self) -> None:
        """Raise an error if any item failed.

        Raises:
            DownloadError: If any item failed. The message shows the first failures; ``failures`` has all of them.

        Example:
            >>> client.download_project(destination="labels").raise_for_failures()
        """
        if failures := self.failures:
            named = "; ".join(f"{result.item_id}: {str(result.error).removesuffix('.')}" for result in failures[:3])
            more = f"; and {len(failures) - 3:,} more" if len(failures) > 3 else ""
            error = DownloadError(
                f"{self.failed:,} of {self.total_items:,} work items could not be downloaded: {named}{more}. "
                "Run the download again to fetch the missing items."
            )
            error.failures = failures
            raise error

    def _repr_html_(self) -> str:
        counted = ("total_items", "successful", "skipped", "failed", "bytes")
        counts = [(name, f"{getattr(self, name):,}") for name in counted]
        rows = [("destination", self.destination), *counts, ("elapsed", f"{self.elapsed:.1f} s")]
        html = table(type(self).__name__, rows)
        # The results may have been removed; the rest is shown anyway.
        with suppress(CFPlatformError):
            html += _StoredResults(self, self.failed, "failed")._repr_html_() if self.failed else ""
        return html


@dataclass(frozen=True)
class _StoredResults(Sequence[DownloadResult]):
    """The results of a run, read from the state file at each use."""

    _summary: DownloadSummary
    _count: int
    _outcome: str | None = None

    def _repr_html_(self) -> str:
        return table_of("Failures" if self._outcome else "Results", self, self._count)

    def __len__(self) -> int:
        # A summary that was created manually has no results.
        return 0 if self._summary.run is None else self._count

    def __iter__(self) -> Iterator[DownloadResult]:
        return self._read(0, len(self))

    @overload
    def __getitem__(self, index: int) -> DownloadResult: ...

    @overload
    def __getitem__(self, index: slice) -> list[DownloadResult]: ...

    def __getitem__(self, index: int | slice) -> DownloadResult | list[DownloadResult]:
        wanted = range(len(self))[index]
        if isinstance(wanted, int):
            (found,) = self._read(wanted, wanted + 1)
            return found
        # Read in ascending order; a negative step is reversed at the end.
        ordered = wanted if wanted.step > 0 else wanted[::-1]
        if not ordered:
            return []
        results = list(islice(self._read(ordered[0], ordered[-1] + 1), 0, None, ordered.step))
        return results if wanted is ordered else results[::-1]

    def __reversed__(self) -> Iterator[DownloadResult]:
        for stop in range(len(self), 0, -SLICE):
            yield from self[max(0, stop - SLICE) : stop][::-1]

    def _read(self, first: int, stop: int) -> Iterator[DownloadResult]:
        """Yield results by position, or all results with the given outcome."""
        destination, run = self._summary.destination, self._summary.run
        if run is None:
            return
        root, url = (Path(), destination) if isinstance(destination, str) else (destination, None)
        state = self._summary.state or root
        count = 0
        for row in read_results(state, run, self._outcome, *([] if self._outcome else [first, stop])):
            count += 1
            yield DownloadResult(
                row.item_id,
                int(row.batch_id) if row.batch_id is not None else None,
                outcome=row.outcome,
                size=row.size,
                error=from_dict(json.loads(row.error)) if row.error else None,
                asset_size=row.asset_size,
                written=row.written,
                **located(root, url, row.path, row.asset_path),
            )
        if count != stop - first:
            raise DownloadError(
                f"The state file in {str(state)!r} has {count:,} of {stop - first:,} results of this run: it keeps the "
                f"results of the last {KEPT_RUNS} runs only. Read the results before you start more runs."
            )


class DownloadedItem(NamedTuple):
    """The files of one work item in a destination.

    Attributes:
        project_id: The project.
        item_id: The work item.
        path: The absolute path of the document; ``None`` if only the asset was downloaded or the destination is a URL.
        asset_path: The absolute path of the asset; ``None`` if it was not downloaded or the destination is a URL.
        object_url: The URL of the document, if the destination is a URL.
        asset_object_url: The URL of the asset, if the destination is a URL.
        metadata: The metadata of the work item at the last download; empty if only the asset was downloaded. It may
            contain secrets, such as a ``callbackUrl``, and is not in ``repr``.
    """

    project_id: str
    item_id: str
    path: Path | None
    asset_path: Path | None
    object_url: str | None = None
    asset_object_url: str | None = None
    metadata: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._cells())})"

    def __hash__(self) -> int:
        return hash(tuple(self._cells()))

    def _repr_html_(self) -> str:
        return table(type(self).__name__, self._cells())

    def _cells(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in self._asdict().items() if name != "metadata"]


def located(root: Path, url: str | None, path: str | None, asset_path: str | None) -> dict[str, Any]:
    """Return the locations of files in a destination, as fields of a result: paths, or URLs for a URL."""
    return {
        "path": root / path if path is not None and url is None else None,
        "asset_path": root / asset_path if asset_path is not None and url is None else None,
        "object_url": f"{url}/{path}" if path is not None and url is not None else None,
        "asset_object_url": f"{url}/{asset_path}" if asset_path is not None and url is not None else None,
    }


def iter_downloaded(
    destination: str | os.PathLike[str], state: str | os.PathLike[str] | None = None
) -> Iterator[DownloadedItem]:
    """Iterate over the downloaded items in a destination, with the paths of documents and assets.

    Only the state file is read. No request is sent, and the files themselves are not checked.

    Args:
        destination: The folder or URL.
        state: The ``state`` folder of the download, if it had one.

    Raises:
        DownloadError: While iterating: if nothing has been downloaded to the destination.

    Example:
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> for item in iter_downloaded("labels"):
        ...     print(item.path.suffix, item.asset_path.suffix)
        ...     break
        .json .png
    """
    url = remote.remote_url(destination)
    root = Path() if url else local.folder_path(destination, "destination").resolve()
    state_root = root if url is None and state is None else remote.state_root(url or str(root), state)
    for row in read_downloaded(state_root):
        files = located(root, url, row.path, row.asset_path)
        yield DownloadedItem(row.project_id, row.item_id, **files, metadata=read_metadata(row.metadata))


@dataclass(frozen=True)
class UploadedFile(Tabular):
    """A file in the storage of a space.

    Attributes:
        path: The path inside the space, chosen by the platform. Use it as ``asset_url`` of a work item.
        size: The size in bytes.
        content_type: The media type of the upload.
        name: The local file name, without folders; ``None`` for a file object without a name.
    """

    path: str
    size: int
    content_type: str
    name: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable data.

        Example:
            >>> import io
            >>> client.upload_file(io.BytesIO(b"..."), content_type="image/png").as_dict()["size"]
            3
        """
        return plain(vars(self))

    def _cells(self) -> list[tuple[str, Any]]:
        return [*vars(self).items()]


@dataclass(frozen=True)
class UploadResult(Tabular):
    """The result of one file.

    Attributes:
        file: The path or file object, as passed.
        uploaded: The uploaded file; ``None`` after an error.
        error: The error, or ``None``.
    """

    file: File
    uploaded: UploadedFile | None = None
    error: CFPlatformError | None = None

    @property
    def ok(self) -> bool:
        """Whether the upload succeeded."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable data, with the error as text and ``error_type``.

        ``file`` is the path, or the name of the file object, if it has one. ``uploaded`` is a dict.

        Example:
            >>> result = next(client.upload_files(["missing.png"]))
            >>> result.as_dict()["file"], result.as_dict()["error_type"]
            ('missing.png', 'UploadError')
        """
        uploaded = self.uploaded and self.uploaded.as_dict()
        return plain({"file": file_name(self.file), "uploaded": uploaded, "error": self.error})

    def _cells(self) -> list[tuple[str, Any]]:
        return [("file", self.file), ("path", self.uploaded and self.uploaded.path), ("error", self.error)]


def file_name(file: File) -> str | None:
    """Return a path as text, or the name of a file object, if it has one."""
    name = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None)
    # The name of a temporary file is its descriptor number.
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else None


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with paths as text, and the error as its text and class name."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
    if "error" in plain:
        error = plain["error"]
        plain["error"] = None if error is None else str(error)
        plain["error_type"] = None if error is None else type(error).__name__
    return plain
