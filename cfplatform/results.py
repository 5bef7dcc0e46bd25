"""What came of a download: a result for each item, the account of a run, and what lies in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .exceptions import CFPlatformError, DownloadError, from_dict
from .state import KEPT_RUNS, read_downloaded, read_results


@dataclass(frozen=True)
class DownloadResult:
    """What became of one work item.

    Attributes:
        item_id: The work item.
        batch_id: Its batch, or ``None``.
        path: The file, absolute; ``None`` if the item failed.
        outcome: "downloaded", "skipped" (it was there, unchanged) or "failed".
        size: Bytes of the file; 0 if the item failed.
        error: Why it failed, else ``None``.
        asset_path: The asset's file, absolute, where assets are downloaded and the item has one.
        asset_size: Bytes of that file.
        written: Bytes that this run wrote, of both files.
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


@dataclass
class DownloadSummary:
    """The account of a run: ``total_items`` is ``successful + skipped + failed``.

    Attributes:
        destination: The folder, absolute.
        total_items: Work items that were listed.
        successful: Items fetched and saved.
        skipped: Items that were there already, unchanged.
        failed: Items that could not be downloaded.
        bytes: Bytes written for the successful ones.
        elapsed: Seconds that the run took.
    """

    destination: Path
    total_items: int = 0
    successful: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    elapsed: float = 0.0
    run: int | None = field(default=None, repr=False)

    @property
    def results(self) -> Iterable[DownloadResult]:
        """All results, in the order in which the items finished; can be iterated over any number of times.

        They are read from the state file in the destination, which keeps those of the last three runs, so they
        take no memory.

        Raises:
            DownloadError: While iterating: if they are not kept any more.
        """
        return _StoredResults(self.destination, self.run, self.total_items)

    @property
    def failures(self) -> list[DownloadResult]:
        """The results that failed, each with its ``error``."""
        return list(_StoredResults(self.destination, self.run, self.failed, "failed")) if self.failed else []

    def raise_for_failures(self) -> None:
        """Raise if anything failed.

        Raises:
            DownloadError: Naming the first failures; its ``failures`` holds them all.

        Example:
            >>> client.download_project(destination="labels").raise_for_failures()
        """
        if not self.failed:
            return
        failures = self.failures
        named = "; ".join(f"{result.item_id}: {result.error}" for result in failures[:3])
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        error = DownloadError(
            f"{self.failed} of {self.total_items} work items could not be downloaded: {named}{more}. "
            "Run the same call again to fetch only what is missing."
        )
        error.failures = failures
        raise error


class _StoredResults:
    """The results of a run, read anew each time that they are iterated over."""

    def __init__(self, root: Path, run: int | None, count: int, outcome: str | None = None) -> None:
        self._root = root
        self._run = run
        self._count = count
        self._outcome = outcome

    def __iter__(self) -> Iterator[DownloadResult]:
        if self._run is None:
            return
        count = 0
        for row in read_results(self._root, self._run, self._outcome):
            count += 1
            yield DownloadResult(
                row.item_id,
                int(row.batch_id) if row.batch_id is not None else None,
                self._root / row.path if row.path is not None else None,
                row.outcome,
                row.size,
                from_dict(json.loads(row.error)) if row.error else None,
                self._root / row.asset_path if row.asset_path is not None else None,
                row.asset_size,
                row.written,
            )
        if count != self._count:
            raise DownloadError(
                f"The state file in {str(self._root)!r} holds {count} of {self._count} results of this run: it keeps "
                f"those of the last {KEPT_RUNS} runs. Read them before you start others."
            )


class DownloadedItem(NamedTuple):
    """The files of one work item in a destination.

    Attributes:
        project_id: The project.
        item_id: The work item.
        path: The document, absolute; ``None`` if only the asset was downloaded.
        asset_path: The asset, absolute; ``None`` if none was downloaded.
    """

    project_id: str
    item_id: str
    path: Path | None
    asset_path: Path | None


def iter_downloaded(destination: str | os.PathLike[str]) -> Iterator[DownloadedItem]:
    """Iterate over what was downloaded into a folder, so that tools find each document with its picture.

    This reads the state file of the folder; nothing is asked of the platform, and no file is looked at.

    Args:
        destination: The folder.

    Raises:
        DownloadError: While iterating: if nothing was downloaded into it yet.

    Example:
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> for item in iter_downloaded("labels"):
        ...     print(item.path.suffix, item.asset_path.suffix)
        ...     break
        .json .png
    """
    root = Path(destination).expanduser().resolve()
    for row in read_downloaded(root):
        yield DownloadedItem(
            row.project_id,
            row.item_id,
            root / row.path if row.path is not None else None,
            root / row.asset_path if row.asset_path is not None else None,
        )
