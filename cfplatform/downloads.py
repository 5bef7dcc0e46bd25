"""Downloading: where each item goes, what can be skipped, and the account of a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from typing_extensions import Self, TypedDict

from . import coco, config, files, pagination, params, progress, transport
from .exceptions import CFPlatformError, DownloadError, InvalidParameterError, from_dict, to_dict
from .pipeline import Job, Pipeline
from .resources import WorkItem
from .state import KEPT_RUNS, RESULTS_AT_ONCE, FinishedItem, ResultRow, State, StateError, read_results
from .transport import ObjectStream, Transport

#: Folder of items that belong to no batch; the platform itself calls the batch of such projects so.
DEFAULT_FOLDER = "Default"
#: Parsed documents that wait to be taken, for each worker.
HELD_PER_WORKER = 2
#: Bytes that are copied at a time where a large document is rewritten.
COPY_STEP = 1024 * 1024


class DownloadOptions(TypedDict, total=False):
    """Options that every download takes; what they mean stands at :meth:`~cfplatform.Client.download_project`."""

    space_id: str | None
    max_workers: int | None
    overwrite: bool
    inject_asset_url: bool
    progress: progress.Progress


OPTION_NAMES = tuple(DownloadOptions.__annotations__)


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
    """

    item_id: str
    batch_id: int | None
    path: Path | None
    outcome: str
    size: int = 0
    error: CFPlatformError | None = None


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
            )
        if count != self._count:
            raise DownloadError(
                f"The state file in {str(self._root)!r} holds {count} of {self._count} results of this run: it keeps "
                f"those of the last {KEPT_RUNS} runs. Read them before you start others."
            )


class Target(NamedTuple):
    """Where an item goes; the extension becomes known with its annotation."""

    folder: str
    stem: str
    known: FinishedItem | None

    def path(self, extension: str) -> str:
        """Return the path inside the destination."""
        return f"{self.folder}/{self.stem}{extension}"

    @property
    def key(self) -> str:
        """What no other item may share."""
        return files.collision_key(f"{self.folder}/{self.stem}")


class Downloader:
    """One run of downloads into one destination; it holds the state open while it lasts.

    Args:
        calls: The transport.
        root: The destination, prepared.
        batch_names: Returns the names of a project's batches by id; called with ``refresh`` where one is missing.
    """

    def __init__(
        self,
        calls: Transport,
        root: Path,
        batch_names: Callable[[str, bool], dict[str, str]],
        *,
        space_id: str | None,
        workers: int,
        overwrite: bool,
        inject_asset_url: bool,
    ) -> None:
        self._root = root
        self._batch_names = batch_names
        self._overwrite = overwrite
        self._inject = inject_asset_url
        self._folders: dict[tuple[str, str], str] = {}
        # Places of items on their way, whose rows are not written yet.
        self._claimed: dict[str, str] = {}
        self._pipeline: Pipeline[DownloadResult] = Pipeline(calls, self._receive, workers=workers, space_id=space_id)

    def __enter__(self) -> Self:
        self._state = State.open(self._root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.close()

    def results(self, items: Iterable[WorkItem]) -> Generator[DownloadResult]:
        """Yield a result for each item as it finishes."""
        with contextlib.closing(self._pipeline.run(self._job(item) for item in items)) as jobs:
            for job in jobs:
                if job.target is not None:
                    self._claimed.pop(job.target.key, None)
                yield job.result or DownloadResult(job.item.id, job.item.batch_id, None, "failed", error=job.error)

    def summarise(self, items: Iterable[WorkItem], reporter: progress.ProgressReporter) -> DownloadSummary:
        """Download all items, write the results down, and return the account."""
        began = time.monotonic()
        summary = DownloadSummary(self._root)
        run = summary.run = self._state.begin_run()
        waiting: list[ResultRow] = []
        try:
            # Closed here, not when it is collected: an error of the reporter must end the run at once.
            with contextlib.closing(self.results(items)) as results:
                for result in results:
                    _count(summary, result)
                    waiting.append(self._row(result))
                    if len(waiting) >= RESULTS_AT_ONCE:
                        self._state.add_results(run, summary.total_items - len(waiting), waiting)
                        waiting = []
                    reporter.advance(result.outcome, result.size)
        except BaseException:
            # What ended the run must be told, whatever happens to these.
            with contextlib.suppress(StateError):
                self._state.add_results(run, summary.total_items - len(waiting), waiting)
            raise
        else:
            self._state.add_results(run, summary.total_items - len(waiting), waiting)
        finally:
            reporter.finish()
        summary.elapsed = time.monotonic() - began
        return summary

    def _row(self, result: DownloadResult) -> ResultRow:
        return ResultRow(
            result.item_id,
            str(result.batch_id) if result.batch_id is not None else None,
            result.path.relative_to(self._root).as_posix() if result.path else None,
            result.outcome,
            result.size,
            json.dumps(to_dict(result.error)) if result.error else None,
        )

    # --- Planning, in the caller's thread --------------------------------------------------------------------

    def _job(self, item: WorkItem) -> Job[DownloadResult]:
        """Decide where an item goes and whether there is anything to fetch."""
        if not isinstance(item, WorkItem):
            raise InvalidParameterError(f"items must be WorkItem objects, not {type(item).__name__}.")
        job: Job[DownloadResult] = Job(item)
        try:
            target = job.target = self._target(item)
        except StateError:
            raise
        except DownloadError as error:
            job.error = error
            return job
        known = target.known
        if self._overwrite or known is None or not self._is_intact(target, known):
            return job
        if known.injected != self._inject:
            return job
        if item.revision is not None and item.revision == known.revision:
            job.result = DownloadResult(item.id, item.batch_id, self._root / known.path, "skipped", known.size)
        elif item.revision is None and known.etag is not None:
            # The listing does not tell of changes, so the storage is asked.
            job.headers = {"If-None-Match": known.etag}
        return job

    def _target(self, item: WorkItem) -> Target:
        project_id = item.project_id or ""
        folder = self._folder(project_id, item.batch_id)
        known = self._state.item(project_id, item.id)
        stem = files.safe_name(item.id)
        for choice in (stem, f"{stem}~{files.digest(f'{project_id}/{item.id}')}"):
            target = Target(folder, choice, known)
            on_its_way = self._claimed.get(target.key, item.id)
            if on_its_way == item.id and self._state.owner(target.key) in (None, (project_id, item.id)):
                self._claimed[target.key] = item.id
                return target
        raise DownloadError(f"No file name is free for work item {item.id} in folder {folder!r}.")

    def _is_intact(self, target: Target, known: FinishedItem) -> bool:
        """Tell whether the file is the one that was written down, where it belongs today."""
        if known.path != target.path(files.extension(known.path)):
            return False
        try:
            found = os.lstat(self._root / known.path)
        except OSError:
            return False
        return found.st_size == known.size and found.st_mtime_ns == known.mtime_ns

    def _folder(self, project_id: str, batch_id: int | None) -> str:
        key = (project_id, "" if batch_id is None else str(batch_id))
        folder = self._folders.get(key)
        if folder is None:
            folder = self._state.folder(*key, self._folder_name(*key))
            files.ensure_folder(self._root, folder)
            self._folders[key] = folder
        return folder

    def _folder_name(self, project_id: str, batch_id: str) -> str:
        if not batch_id:
            return DEFAULT_FOLDER
        names = self._batch_names(project_id, False)
        if batch_id not in names:
            names = self._batch_names(project_id, True)
        return names.get(batch_id, batch_id)

    # --- Receiving, in the workers ---------------------------------------------------------------------------

    def _receive(self, job: Job[DownloadResult], stream: ObjectStream) -> DownloadResult:
        """Save one document: read, prove, rewrite ``info.asset_url``, rename, remember."""
        item, target = job.item, job.target
        path = target.path(files.extension(job.path))
        final = self._root / path
        if stream.status_code == 304:
            return DownloadResult(item.id, item.batch_id, final, "skipped", target.known.size)
        asset_url = item.asset_url if self._inject else None
        with files.PartFile(self._root) as part:
            head = bytearray()
            chunks = stream.chunks()
            for chunk in chunks:
                head += chunk
                if len(head) > coco.PARSE_LIMIT:
                    break
            if len(head) <= coco.PARSE_LIMIT:
                document = bytes(head)
                coco.parse(document)
                part.write(coco.set_asset_url(document, asset_url) if self._inject else document)
                found = part.commit(path)
            else:
                for chunk in itertools.chain([bytes(head)], chunks):
                    part.write(chunk)
                found = self._finish_large(part, path, asset_url)
        finished = FinishedItem(path, item.revision, self._inject, stream.etag, found.st_size, found.st_mtime_ns)
        self._state.finish(item.project_id or "", item.id, target.key, finished)
        if target.known is not None and target.known.path != path:
            self._remove_moved(target.known)
        return DownloadResult(item.id, item.batch_id, final, "downloaded", found.st_size)

    def _finish_large(self, part: files.PartFile, path: str, asset_url: str | None) -> os.stat_result:
        """Finish a document that is too large to be parsed, with no more of it in memory than a window."""
        with mmap.mmap(part.fileno(), 0, access=mmap.ACCESS_READ) as document:
            coco.check_ends(document[:4096], document[-4096:])
            if self._inject:
                start, end, value = coco.asset_url_edit(document, asset_url)
                with files.PartFile(self._root) as rewritten:
                    for first, last in ((0, start), (end, len(document))):
                        for offset in range(first, last, COPY_STEP):
                            rewritten.write(document[offset : min(offset + COPY_STEP, last)])
                        if first == 0:
                            rewritten.write(value)
                    return rewritten.commit(path)
        return part.commit(path)

    def _remove_moved(self, known: FinishedItem) -> None:
        """Remove the file that an item had before its batch changed, if nobody touched it since."""
        extension = files.extension(known.path)
        folder, _, stem = known.path.removesuffix(extension).partition("/")
        # The state file is not trusted with a path: only one that this code could have chosen is removed.
        if files.safe_name(folder) == folder and files.safe_name(stem) == stem:
            files.remove_unchanged(self._root, known.path, known.size, known.mtime_ns)


def _count(summary: DownloadSummary, result: DownloadResult) -> None:
    summary.total_items += 1
    if result.outcome == "downloaded":
        summary.successful += 1
        summary.bytes += result.size
    elif result.outcome == "skipped":
        summary.skipped += 1
    else:
        summary.failed += 1


def documents(
    calls: Transport,
    items: Iterable[WorkItem],
    *,
    space_id: str | None,
    workers: int,
    ordered: bool,
    on_error: Callable[[WorkItem, CFPlatformError], Any] | None,
) -> Iterator[tuple[WorkItem, dict[str, Any]]]:
    """Yield each item with its parsed document; nothing touches the disk."""

    def receive(job: Job[dict[str, Any]], stream: ObjectStream) -> dict[str, Any]:
        document = coco.parse(b"".join(stream.chunks(coco.LOAD_LIMIT)))
        info = document.get("info")
        document["info"] = {**(info if isinstance(info, dict) else {}), "asset_url": job.item.asset_url or ""}
        return document

    pipeline: Pipeline[dict[str, Any]] = Pipeline(
        calls, receive, workers=workers, space_id=space_id, ordered=ordered, held=HELD_PER_WORKER * workers
    )
    with contextlib.closing(pipeline.run(Job(item) for item in items)) as jobs:
        for job in jobs:
            if job.result is not None:
                yield job.item, job.result
            elif job.error is not None:
                if on_error is None:
                    raise job.error
                on_error(job.item, job.error)


def fetch_batch_names(calls: Transport, project_id: str) -> dict[str, str]:
    """Return the names of all batches of a project, by id as text."""
    path = transport.path("projects", params.object_id("project_id", project_id), "batches")
    query = [("limit", str(params.MAX_PAGE_SIZE))]
    pages = pagination.iterate_pages(lambda query: calls.get_json(path, query), query)
    return {str(batch["id"]): str(batch.get("name") or "") for batch in pagination.items(pages)}


def check_workers(value: int | None, default: int) -> int:
    """Check the workers of one call: not more than the client has connections for."""
    if value is None:
        return default
    workers = config.max_workers(value)
    if workers > default:
        raise InvalidParameterError(
            f"max_workers={workers} is more than the client's {default}; build the client with max_workers={workers}."
        )
    return workers
