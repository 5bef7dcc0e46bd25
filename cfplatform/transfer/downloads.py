"""Downloads: the paths of items, unchanged items, and the summary of a run."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from typing_extensions import Self

from .. import http, naming, params, progress
from ..destination import local
from ..destination.local import Destination
from ..destination.state import RESULTS_AT_ONCE, FinishedAsset, FinishedItem, ResultRow, State
from ..exceptions import (
    DestinationError,
    DownloadError,
    InvalidParameterError,
    OutageError,
    printable,
    to_dict,
)
from ..http import Run, Transport
from ..resources import WorkItem
from ..resources.results import DownloadResult, DownloadSummary, Executor, located
from . import pagination
from .processes import ExecutorSteps
from .receiving import Receiver, Target, asset_source
from .steps import Job, Limits, Steps

#: Folder of items without a batch; the platform uses this name for the batch of such projects.
DEFAULT_FOLDER = "Default"

log = logging.getLogger("cfplatform.transfer")


class Downloader:
    """One download run to one destination, with its state open.

    ``batch_names`` returns the names of a project's batches by ID. Its arguments are the project, whether to fetch them
    again because one is missing, and the run.
    """

    def __init__(
        self,
        calls: Transport,
        destination: Destination,
        batch_names: Callable[[str, bool, Run], dict[str, str]],
        reporter: progress.ProgressReporter,
        *,
        space_id: str | None,
        workers: int,
        patience: float,
        overwrite: bool,
        inject_asset_url: bool,
        documents: bool = True,
        assets: bool = False,
        executor: Executor | None = None,
        dry_run: bool = False,
    ) -> None:
        self._documents = documents
        self._with_assets = assets
        self._destination = destination
        self._root = destination.root
        self._batch_names = batch_names
        self._overwrite = overwrite
        self._inject = inject_asset_url
        self._dry_run = dry_run
        self._reporter = reporter
        on_wait = progress.Watch(calls.trouble, reporter)
        #: The run for requests in the caller's thread.
        self.run = Run(patience, on_wait=on_wait)
        self._folders: dict[tuple[str, str], str] = {}
        # File names of items in progress, which have no row yet.
        self._claimed: dict[str, str] = {}
        self._steps: Steps | ExecutorSteps
        limits = Limits(workers, patience, space_id)
        if executor is None:
            receiver = Receiver(calls, destination, self._keep, inject=inject_asset_url)
            self._steps = Steps(calls, receiver.document, limits, receive_asset=receiver.asset, on_wait=on_wait)
        else:
            settings, keep = calls.settings(), self._keep
            self._steps = ExecutorSteps(executor, settings, destination, keep, limits, inject=inject_asset_url)

    def __enter__(self) -> Self:
        with self._destination.errors():
            # Remembers the folder, which must not be replaced during the run.
            self._destination.check()
        self._state = State.open(self._root, self._destination.state_root)
        return self

    def __exit__(self, *_: object) -> None:
        self._destination.release()
        self._state.close()

    def results(self, pages: Iterable[Sequence[WorkItem]]) -> Generator[tuple[Job, DownloadResult]]:
        """Yield a job and its result for each item as it finishes."""
        planned = (job for page in pages for group in _groups(page) for job in self._jobs(group))
        with contextlib.closing(planned if self._dry_run else self._steps.run(planned)) as jobs:
            for job in jobs:
                if self._claimed and job.target is not None:
                    self._claimed.pop(job.target.key, None)
                yield job, self._result(job)

    def summarise(
        self,
        pages: Iterable[Sequence[WorkItem]],
        *,
        whole_project: str | None = None,
        prune: Callable[[list[str]], set[str]] | None = None,
    ) -> DownloadSummary:
        """Download the items of all pages, record the results, and return the summary.

        Args:
            whole_project: The project, if the pages are complete; items that are no longer listed are then counted.
            prune: If given, the files of these items are removed. Returns the IDs that the platform still lists: a
                listing may lack items that changed during it, and other threads may have downloaded more.
        """
        began = time.monotonic()
        summary = DownloadSummary(self._destination.url or self._root, state=self._destination.state_root)
        shown = printable(str(summary.destination))
        log.info("Download to %s started%s", shown, " (dry run)" if self._dry_run else "")
        run = summary.run = self._state.begin_run()
        waiting: list[ResultRow] = []

        def write() -> None:
            self._state.add_results(run, summary.total_items - len(waiting), waiting)
            waiting.clear()

        try:
            with contextlib.closing(self.results(pages)) as results:
                for job, result in results:
                    _count(summary, result)
                    if result.error is not None:
                        log.error("Work item %s failed: %s", printable(result.item_id), printable(str(result.error)))
                    waiting.append(_row(result, job.target))
                    if len(waiting) >= RESULTS_AT_ONCE:
                        write()
                    self._reporter.advance(result.outcome, result.written or result.size)
        except BaseException as error:
            # The original error must be raised.
            with contextlib.suppress(DestinationError):
                write()
            if isinstance(error, OutageError):
                _add_counts(error, summary)
            log.info("Download to %s ended early by %s: %s", shown, type(error).__name__, _counts(summary))
            raise
        else:
            write()
            if whole_project is not None:
                self._prune(summary, whole_project, prune)
        finally:
            self._state.end_run(run)
            self._reporter.finish()
        summary.elapsed = time.monotonic() - began
        log.info("Download to %s finished in %.1f s: %s", shown, summary.elapsed, _counts(summary))
        return summary

    def _prune(
        self, summary: DownloadSummary, project_id: str, still_listed: Callable[[list[str]], set[str]] | None
    ) -> None:
        """Count items with files that are no longer listed; remove the files if ``still_listed`` is given."""
        for rows in self._state.unlisted(project_id, summary.run or 0, summary.total_items):
            there = {
                item_id: [each for each in files if each is not None and self._destination.holds(each.path)]
                for item_id, *files in rows
            }
            listed: set[str] = set()
            # If nothing is listed at all, something else is wrong, such as the permissions of the key.
            if still_listed is not None and summary.total_items:
                listed = still_listed([item_id for item_id, files in there.items() if files])
                for item_id in there.keys() - listed:
                    self._prune_item(summary, project_id, item_id, there[item_id])
            summary.unlisted += sum(bool(files) for item_id, files in there.items() if item_id not in listed)
        if still_listed is not None and summary.unlisted and not summary.total_items:
            log.warning("Nothing was removed, because the platform lists no work items of project %s", project_id)

    def _prune_item(
        self, summary: DownloadSummary, project_id: str, item_id: str, there: list[FinishedItem | FinishedAsset]
    ) -> None:
        # If the document was changed locally, its asset is kept too.
        if all(self._destination.unchanged(each.path, each.written) for each in there):
            # A list, so all are tried even if one fails.
            removed = [self._remove(each) for each in there] if not self._dry_run else []
            is_gone = all(removed)
            summary.pruned += is_gone and bool(there)
            if is_gone and not self._dry_run:
                self._state.forget(project_id, item_id)

    # --- Planning, in the caller's thread --------------------------------------------------------------------

    def _jobs(self, group: list[WorkItem]) -> Iterator[Job]:
        """Choose the paths of items in one batch, with one query for all."""
        project_id = group[0].listed_project_id or ""
        try:
            folder = self._folder(project_id, group[0].batch_id)
        except DestinationError:
            raise
        except DownloadError as error:
            for item in group:
                job: Job = Job(item)
                job.error = error
                yield job
            return
        known = self._state.items(project_id, [item.id for item in group])
        targets = [Target(folder, naming.safe_name(item.id), known.get(item.id)) for item in group]
        # Items with an existing file keep their name.
        are_there = [_is_there(target) for target in targets]
        elsewhere = [target.key for target, is_there in zip(targets, are_there, strict=True) if not is_there]
        self._owners = self._state.owners(elsewhere) if elsewhere else {}
        self._claimed_now: dict[str, str] = {}
        for item, target, is_there in zip(group, targets, are_there, strict=True):
            yield self._job(item, target, is_there)

    def _job(self, item: WorkItem, target: Target, is_there: bool) -> Job:
        """Decide whether there is anything to fetch. An item with an existing file keeps its name."""
        job: Job = Job(item)
        try:
            if not is_there:
                target = self._claim(item, target)
        except DestinationError:
            raise
        except DownloadError as error:
            job.error = error
            return job
        asset = self._known_asset(job, target) if self._with_assets else None
        if self._with_assets and item.asset_url and (asset is None or self._overwrite):
            job.asset = item.asset_url
        known = target.known
        if not self._documents:
            job.wants_document = False
        elif known is not None and is_there and not self._overwrite and self._is_intact(job, target):
            if item.revision is not None and item.revision == known.revision:
                job.wants_document = False
            elif item.revision is None and known.etag is not None:
                # The listing shows no revision, so the storage must report changes.
                job.headers = {"If-None-Match": known.etag}
        job.target = target._replace(asset=asset)
        job.is_done = not job.wants_document and job.asset is None
        return job

    def _result(self, job: Job) -> DownloadResult:
        """Return the result of an item."""
        if job.error is not None:
            return DownloadResult(job.item.id, job.item.batch_id, None, "failed", error=job.error)
        known, asset = (job.target.known if self._documents else None), job.target.asset
        return DownloadResult(
            job.item.id,
            job.item.batch_id,
            outcome="downloaded" if job.saved or (self._dry_run and not job.is_done) else "skipped",
            size=known.size if known else 0,
            asset_size=asset.size if asset else 0,
            written=sum(each.size for each in job.saved),
            **located(self._root, self._destination.url, known and known.path, asset and asset.path),
        )

    def _claim(self, item: WorkItem, target: Target) -> Target:
        """Return the target of an item: its plain name, or with a hash if another item has that name."""
        owner = (item.listed_project_id or "", item.id)
        if self._owners.get(target.key, owner) != owner or not self._is_free(target, item):
            target = target._replace(stem=f"{target.stem}~{naming.digest('/'.join(owner))}")
            if self._state.owners([target.key]).get(target.key, owner) != owner or not self._is_free(target, item):
                raise DownloadError(f"No file name is available for work item {item.id} in folder {target.folder!r}.")
        self._claimed[target.key] = self._claimed_now[target.key] = item.id
        return target

    def _is_free(self, target: Target, item: WorkItem) -> bool:
        """Return whether no other item in progress, now or at the time of the state query, has this name."""
        return all(claimed.get(target.key, item.id) == item.id for claimed in (self._claimed, self._claimed_now))

    def _is_intact(self, job: Job, target: Target) -> bool:
        """Return whether the file is unchanged and was written with the same options."""
        known = target.known
        if known is None or known.injected != self._inject:
            return False
        found = self._destination.unchanged(known.path, known.written)
        if found is None:
            return False
        # The file may have been copied or restored: once its new time is recorded, it need not be read again.
        now = known._replace(mtime_ns=found.mtime_ns, metadata=_metadata(job.item))
        if now != known:
            self._state.remember(job.project_id, job.item.id, target.key, now)
        return True

    def _known_asset(self, job: Job, target: Target) -> FinishedAsset | None:
        """Return an item's asset if it exists, is unchanged and has the right path."""
        known = self._state.asset(job.project_id, job.item.id)
        if known is None or known.source != asset_source(job.item):
            return None
        found = self._destination.unchanged(known.path, known.written)
        if found is None or not _has_stem(known.path, target.asset_path("")):
            return None
        if found != known.written:
            self._state.finish_asset(job.project_id, job.item.id, known._replace(mtime_ns=found.mtime_ns))
        return known

    def _folder(self, project_id: str, batch_id: int | None) -> str:
        key = (project_id, "" if batch_id is None else str(batch_id))
        folder = self._folders.get(key)
        if folder is None:
            current_name = functools.partial(self._current_name, project_id)
            folder = self._state.folder(*key, self._folder_name(*key), current_name)
            if not self._dry_run:
                self._destination.ensure_folder(folder)
            self._folders[key] = folder
        return folder

    def _folder_name(self, project_id: str, batch_id: str) -> str:
        if not batch_id:
            return DEFAULT_FOLDER
        names = self._batch_names(project_id, False, self.run)
        if batch_id not in names:
            names = self._batch_names(project_id, True, self.run)
        return names.get(batch_id, batch_id)

    def _current_name(self, project_id: str, batch_id: str) -> str | None:
        """Return the current name of a batch; ``None`` if it no longer exists."""
        return self._batch_names(project_id, False, self.run).get(batch_id) if batch_id else DEFAULT_FOLDER

    # --- Recording: in the thread that saved the file, or, for other processes, in the caller's thread -------

    def _keep(self, job: Job, saved: FinishedItem | FinishedAsset) -> None:
        """Record a saved file of an item."""
        target = job.target
        earlier: FinishedItem | FinishedAsset | None
        if isinstance(saved, FinishedItem):
            earlier = target.known
            saved = saved._replace(metadata=_metadata(job.item))
            self._state.remember(job.project_id, job.item.id, target.key, saved)
            job.target = target._replace(known=saved)
        else:
            earlier = self._state.asset(job.project_id, job.item.id)
            self._state.finish_asset(job.project_id, job.item.id, saved)
            job.target = target._replace(asset=saved)
        job.saved.append(saved)
        if (
            earlier is not None
            and earlier.path != saved.path
            and self._destination.are_different(earlier.path, saved.path)
        ):
            self._remove(earlier)

    def _remove(self, known: FinishedItem | FinishedAsset) -> bool:
        """Remove an outdated file of an item, unless it was changed; return whether it is gone."""
        *folders, name = known.path.split("/")
        inner = [local.ASSETS_FOLDER] if isinstance(known, FinishedAsset) else []
        stem = name.removesuffix(naming.extension(name))
        # Paths in the state file are untrusted: only paths that this code could have chosen are removed.
        is_ours = all(naming.safe_name(part) == part for part in (*folders, stem))
        is_ours = is_ours and len(folders) == 1 + len(inner) and folders[1:] == inner
        return is_ours and self._destination.remove_unchanged(known.path, known.written)


def _metadata(item: WorkItem) -> str | None:
    """Return the metadata of an item as JSON; ``None`` if it is empty or nested too deeply."""
    found = item.metadata
    if found:
        with contextlib.suppress(RecursionError):
            return json.dumps(found, separators=(",", ":"))
    return None


def _groups(page: Sequence[WorkItem]) -> Iterator[list[WorkItem]]:
    """Split a page by batch, and into groups of at most 100 items for one query."""
    items = list(itertools.takewhile(lambda item: isinstance(item, WorkItem), page))
    for _, same in itertools.groupby(items, key=lambda item: (item.batch_id, item.listed_project_id)):
        while group := list(itertools.islice(same, params.MAX_PAGE_SIZE)):
            yield group
    if len(items) < len(page):
        other = type(page[len(items)]).__name__
        raise InvalidParameterError(f"items must be WorkItem objects, not {other}.", parameter="items")


def _is_there(target: Target) -> bool:
    """Return whether the recorded file of an item has this path."""
    return target.known is not None and _has_stem(target.known.path, target.path(""))


def _has_stem(path: str, stem: str) -> bool:
    return path.startswith(stem) and naming.is_extension(path[len(stem) :])


def _row(result: DownloadResult, target: Target | None) -> ResultRow:
    """Return a result as a row, with paths relative to the destination."""
    known, asset = (target.known, target.asset) if target else (None, None)
    has_document, has_asset = result.path or result.object_url, result.asset_path or result.asset_object_url
    return ResultRow(
        result.item_id,
        str(result.batch_id) if result.batch_id is not None else None,
        known.path if known and has_document else None,
        result.outcome,
        result.size,
        json.dumps(to_dict(result.error)) if result.error else None,
        asset.path if asset and has_asset else None,
        result.asset_size,
        result.written,
    )


def _count(summary: DownloadSummary, result: DownloadResult) -> None:
    summary.total_items += 1
    summary.successful += result.outcome == "downloaded"
    summary.skipped += result.outcome == "skipped"
    summary.failed += result.outcome == "failed"
    summary.bytes += result.written


def _counts(summary: DownloadSummary) -> str:
    return f"{summary.successful:,} downloaded, {summary.skipped:,} skipped, {summary.failed:,} failed"


def _add_counts(error: OutageError, summary: DownloadSummary) -> None:
    done = summary.successful + summary.skipped
    failed = f", {summary.failed:,} failed" if summary.failed else ""
    error.message = f"{error.message} {done:,} work items are finished and kept{failed}."
    error.parameter = "patience"
    error.hint = "Run it again to fetch the rest, or pass a larger patience."
    error.args = (error.message,)


def fetch_batch_names(calls: Transport, project_id: str, run: Run) -> dict[str, str]:
    """Return the names of all batches of a project, by ID as a string."""
    path = http.path("projects", params.object_id("project_id", project_id), "batches")
    query = [("limit", str(params.MAX_PAGE_SIZE))]
    fetch = functools.partial(calls.get_json, path, run=run, is_essential=True)
    pages = pagination.iterate_pages(fetch, query)
    return {str(batch["id"]): str(batch.get("name") or "") for batch in pagination.items(pages)}
