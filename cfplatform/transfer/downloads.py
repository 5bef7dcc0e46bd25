"""Downloading: where each item goes, what can be skipped, and the summary of a run."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from typing_extensions import Self, TypedDict

from .. import http, naming, params, progress
from ..destination.places import Place
from ..destination.state import RESULTS_AT_ONCE, FinishedAsset, FinishedItem, ResultRow, State, StateError
from ..exceptions import DestinationError, DownloadError, InvalidParameterError, OutageError, from_dict, to_dict
from ..http import ObjectStream, Run, Transport
from ..resources import WorkItem
from . import pagination
from .assets import Assets
from .processes import Done, Executor, Spread
from .receiving import Receiver, Target
from .results import DownloadResult, DownloadSummary, located
from .steps import Job, Steps

#: Folder of items that belong to no batch; the platform itself calls the batch of such projects so.
DEFAULT_FOLDER = "Default"


class DownloadOptions(TypedDict, total=False):
    """Options that every download takes; what they mean stands at :meth:`~cfplatform.Client.download_project`."""

    space_id: str | None
    max_workers: int | None
    overwrite: bool
    assets: bool
    inject_asset_url: bool
    progress: progress.Progress
    executor: Executor | None
    patience: float | None
    state: str | os.PathLike[str] | None


OPTION_NAMES = tuple(DownloadOptions.__annotations__)


class Downloader:
    """One run of downloads into one destination; it holds the state open while it lasts.

    Args:
        calls: The transport.
        place: The destination.
        batch_names: Returns the names of a project's batches by id; called with ``refresh`` where one is missing, and
            with the run.
        reporter: Is told what finishes, and what is waited for.
        documents: Download the documents.
        assets: Download the assets.
        executor: Runs the requests in other processes; ``None`` for threads of this one.
    """

    def __init__(
        self,
        calls: Transport,
        place: Place,
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
    ) -> None:
        self._calls = calls
        self._documents = documents
        self._with_assets = assets
        self._place = place
        self._root = place.root
        self._batch_names = batch_names
        self._overwrite = overwrite
        self._inject = inject_asset_url
        self._reporter = reporter
        on_wait = progress.Watch(calls.trouble, reporter)
        #: For what the caller's thread asks.
        self.run = Run(patience, on_wait=on_wait)
        self._folders: dict[tuple[str, str], str] = {}
        # Places of items on their way, which have no row yet.
        self._claimed: dict[str, str] = {}
        self._receiver = Receiver(calls, place, inject=inject_asset_url)
        self._run: Callable[[Iterable[Job[DownloadResult]]], Generator[Job[DownloadResult]]]
        if executor is None:
            steps: Steps[DownloadResult] = Steps(
                calls,
                self._receive,
                workers=workers,
                patience=patience,
                space_id=space_id,
                receive_asset=self._receive_asset,
                on_wait=on_wait,
            )
            self._run = steps.run
        else:
            spread: Spread[DownloadResult] = Spread(
                executor,
                calls.settings(),
                place,
                self._take_back,
                space_id=space_id,
                workers=workers,
                patience=patience,
                inject=inject_asset_url,
            )
            self._run = spread.run

    def __enter__(self) -> Self:
        self._state = State.open(self._root)
        self._assets = Assets(self._place, self._state)
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.release()
        self._state.close()

    def results(self, pages: Iterable[Sequence[WorkItem]]) -> Generator[DownloadResult]:
        """Yield a result for each item of some pages as it finishes."""
        with contextlib.closing(self._outcomes(pages)) as outcomes:
            for _, result in outcomes:
                yield result

    def _outcomes(self, pages: Iterable[Sequence[WorkItem]]) -> Generator[tuple[Job[DownloadResult], DownloadResult]]:
        with contextlib.closing(self._run(self._jobs(pages))) as jobs:
            for job in jobs:
                if self._claimed and job.target is not None:
                    self._claimed.pop(job.target.key, None)
                result = job.result
                if result is None:
                    result = DownloadResult(job.item.id, job.item.batch_id, None, "failed", error=job.error)
                yield job, result

    def summarise(self, pages: Iterable[Sequence[WorkItem]]) -> DownloadSummary:
        """Download the items of all pages, write the results down, and return the summary."""
        began = time.monotonic()
        summary = DownloadSummary(self._place.url or self._root, state=self._root)
        run = summary.run = self._state.begin_run()
        waiting: list[ResultRow] = []
        try:
            with contextlib.closing(self._outcomes(pages)) as outcomes:
                for job, result in outcomes:
                    _count(summary, result)
                    waiting.append(_row(result, job.target))
                    if len(waiting) >= RESULTS_AT_ONCE:
                        self._state.add_results(run, summary.total_items - len(waiting), waiting)
                        waiting = []
                    self._reporter.advance(result.outcome, result.written or result.size)
        except BaseException as error:
            # What ended the run must be told, whatever happens to these.
            with contextlib.suppress(StateError):
                self._state.add_results(run, summary.total_items - len(waiting), waiting)
            if isinstance(error, OutageError):
                _say_what_is_kept(error, summary)
            raise
        else:
            self._state.add_results(run, summary.total_items - len(waiting), waiting)
        finally:
            self._reporter.finish()
        summary.elapsed = time.monotonic() - began
        return summary

    # --- Planning, in the caller's thread --------------------------------------------------------------------

    def _jobs(self, pages: Iterable[Sequence[WorkItem]]) -> Iterator[Job[DownloadResult]]:
        for page in pages:
            for group in _groups(page):
                yield from self._jobs_of(group)

    def _jobs_of(self, group: list[WorkItem]) -> Iterator[Job[DownloadResult]]:
        """Decide where items of one batch go; the state is asked for all of them at once."""
        project_id = group[0].listed_project_id or ""
        try:
            folder = self._folder(project_id, group[0].batch_id)
        except (StateError, DestinationError):
            raise
        except DownloadError as error:
            for item in group:
                job: Job[DownloadResult] = Job(item)
                job.error = error
                yield job
            return
        known = self._state.items(project_id, [item.id for item in group])
        targets = [Target(folder, naming.safe_name(item.id), known.get(item.id)) for item in group]
        # Who has their file there already needs no new place.
        are_there = [_is_there(target) for target in targets]
        elsewhere = [target.key for target, is_there in zip(targets, are_there, strict=True) if not is_there]
        self._owners = self._state.owners(elsewhere) if elsewhere else {}
        self._claimed_now: dict[str, str] = {}
        for item, target, is_there in zip(group, targets, are_there, strict=True):
            yield self._job(item, target, is_there)

    def _job(self, item: WorkItem, target: Target, is_there: bool) -> Job[DownloadResult]:
        """Decide whether there is anything to fetch; an item that has its file there has its place already."""
        job: Job[DownloadResult] = Job(item)
        try:
            if not is_there:
                target = self._claim(item, target)
        except StateError:
            raise
        except DownloadError as error:
            job.error = error
            return job
        asset = self._assets.here(job.project_id, item, target.folder, target.stem) if self._with_assets else None
        if self._with_assets and item.asset_url and (asset is None or self._overwrite):
            job.asset = item.asset_url
        known = target.known
        if not self._documents:
            job.wants_document = False
        elif known is not None and is_there and not self._overwrite and self._is_intact(known):
            if item.revision is not None and item.revision == known.revision:
                job.wants_document = False
            elif item.revision is None and known.etag is not None:
                # The listing does not tell of changes, so the storage is asked.
                job.headers = {"If-None-Match": known.etag}
        job.target = target._replace(asset=asset)
        if not job.wants_document and job.asset is None:
            job.result = self._result(job, "skipped")
        return job

    def _result(self, job: Job[DownloadResult], outcome: str, *, written: int = 0) -> DownloadResult:
        """Return the result of an item whose files are those that are known already."""
        known, asset = (job.target.known if self._documents else None), job.target.asset
        return DownloadResult(
            job.item.id,
            job.item.batch_id,
            outcome=outcome,
            size=known.size if known else 0,
            asset_size=asset.size if asset else 0,
            written=written,
            **located(self._root, self._place.url, known and known.path, asset and asset.path),
        )

    def _claim(self, item: WorkItem, target: Target) -> Target:
        """Return where an item goes: its plain place, or one of its own where that is another's."""
        owner = (item.listed_project_id or "", item.id)
        if self._owners.get(target.key, owner) != owner or not self._is_free(target, item):
            target = target._replace(stem=f"{target.stem}~{naming.digest('/'.join(owner))}")
            if self._state.owners([target.key]).get(target.key, owner) != owner or not self._is_free(target, item):
                raise DownloadError(f"No file name is free for work item {item.id} in folder {target.folder!r}.")
        self._claimed[target.key] = self._claimed_now[target.key] = item.id
        return target

    def _is_free(self, target: Target, item: WorkItem) -> bool:
        """Tell whether a place is not that of another item on its way, or of one that was when the state was asked."""
        return all(claimed.get(target.key, item.id) == item.id for claimed in (self._claimed, self._claimed_now))

    def _is_intact(self, known: FinishedItem) -> bool:
        """Tell whether the file is the one that was written down, as it is wanted today."""
        return known.injected == self._inject and self._place.has(known.path, known.size, known.mtime_ns)

    def _folder(self, project_id: str, batch_id: int | None) -> str:
        key = (project_id, "" if batch_id is None else str(batch_id))
        folder = self._folders.get(key)
        if folder is None:
            folder = self._state.folder(*key, self._folder_name(*key))
            self._place.ensure_folder(folder)
            self._folders[key] = folder
        return folder

    def _folder_name(self, project_id: str, batch_id: str) -> str:
        if not batch_id:
            return DEFAULT_FOLDER
        names = self._batch_names(project_id, False, self.run)
        if batch_id not in names:
            names = self._batch_names(project_id, True, self.run)
        return names.get(batch_id, batch_id)

    # --- Receiving, in the threads of the pool --------------------------------------------------------------------

    def _receive(self, job: Job[DownloadResult], stream: ObjectStream) -> DownloadResult:
        """Receive one document and remember it."""
        finished = self._receiver.document(job, stream)
        if finished is None:
            return self._result(job, "skipped")
        self._keep(job, finished)
        return self._result(job, "downloaded", written=finished.size)

    def _receive_asset(self, job: Job[DownloadResult], renew: Callable[[], str] | None, run: Run) -> DownloadResult:
        """Receive and remember the asset of an item whose document, if it was wanted, is saved."""
        asset = self._receiver.asset(job, renew, run)
        self._keep_asset(job, asset)
        return self._result(job, "downloaded", written=asset.size + (job.result.written if job.result else 0))

    # --- Remembering, always in this process ------------------------------------------------------------------

    def _take_back(self, job: Job[DownloadResult], done: Done) -> None:
        """Remember what another process saved of an item, and say what became of it."""
        if done.document is not None:
            self._keep(job, done.document)
        if done.asset is not None:
            self._keep_asset(job, done.asset)
        if done.error is not None:
            job.error = from_dict(done.error)
            return
        saved = [each.size for each in (done.document, done.asset) if each is not None]
        job.result = self._result(job, "downloaded" if saved else "skipped", written=sum(saved))

    def _keep(self, job: Job[DownloadResult], finished: FinishedItem) -> None:
        self._state.remember(job.project_id, job.item.id, job.target.key, finished)
        target = job.target
        if target.known is not None and target.known.path != finished.path:
            self._remove_moved(target.known)
        job.target = target._replace(known=finished)

    def _keep_asset(self, job: Job[DownloadResult], asset: FinishedAsset) -> None:
        self._assets.keep(job.project_id, job.item, asset)
        job.target = job.target._replace(asset=asset)

    def _remove_moved(self, known: FinishedItem) -> None:
        """Remove the file that an item had before its batch changed, if nobody touched it since."""
        extension = naming.extension(known.path)
        folder, _, stem = known.path.removesuffix(extension).partition("/")
        # The state file is not trusted with a path: only one that this code could have chosen is removed.
        if naming.safe_name(folder) == folder and naming.safe_name(stem) == stem:
            self._place.remove_unchanged(known.path, known.size, known.mtime_ns)


def _groups(page: Sequence[WorkItem]) -> Iterator[list[WorkItem]]:
    """Cut a page where the batch changes, and where it has more items than the state is asked for at once."""
    group: list[WorkItem] = []
    latest = None
    for item in page:
        if not isinstance(item, WorkItem):
            if group:
                yield group
            raise InvalidParameterError(
                f"items must be WorkItem objects, not {type(item).__name__}.", parameter="items"
            )
        batch = item.batch_id, item.listed_project_id
        if group and (batch != latest or len(group) == params.MAX_PAGE_SIZE):
            yield group
            group = []
        group.append(item)
        latest = batch
    if group:
        yield group


def _is_there(target: Target) -> bool:
    """Tell whether the known file of an item has this place."""
    if target.known is None:
        return False
    stem = target.path("")
    path = target.known.path
    return path.startswith(stem) and naming.is_extension(path[len(stem) :])


def _row(result: DownloadResult, target: Target | None) -> ResultRow:
    """Return a result as it is written down, with paths relative to the destination."""
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
    if result.outcome == "downloaded":
        summary.successful += 1
        summary.bytes += result.written
    elif result.outcome == "skipped":
        summary.skipped += 1
    else:
        summary.failed += 1


def _say_what_is_kept(error: OutageError, summary: DownloadSummary) -> None:
    done = summary.successful + summary.skipped
    error.message = (
        f"{error.message} {done:,} work items are finished and kept"
        + (f", {summary.failed:,} failed" if summary.failed else "")
        + "."
    )
    error.parameter = "patience"
    error.hint = "Run the same call again to fetch the rest, or pass a larger patience."
    error.args = (error.message,)


def fetch_batch_names(calls: Transport, project_id: str, run: Run) -> dict[str, str]:
    """Return the names of all batches of a project, by id as text."""
    path = http.path("projects", params.object_id("project_id", project_id), "batches")
    query = [("limit", str(params.MAX_PAGE_SIZE))]
    fetch = functools.partial(calls.get_json, path, run=run, is_essential=True)
    pages = pagination.iterate_pages(fetch, query)
    return {str(batch["id"]): str(batch.get("name") or "") for batch in pagination.items(pages)}
