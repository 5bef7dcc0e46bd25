"""Downloading and streaming: COCO documents to files and to the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import http, pagination, params
from ..exceptions import CFPlatformError, InvalidParameterError
from ..params import WorkItemFilters
from ..resources import WorkItem, WorkItemStatus
from .base import Id, PathLike
from .listing import Listing

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import Unpack

    from .. import downloads, executing
    from .. import progress as _progress
    from ..results import DownloadResult, DownloadSummary
    from ..viz import DrawOptions


class Downloading(Listing):
    """Calls that download."""

    def iter_annotations(
        self,
        project_id: Id | None = None,
        *,
        items: Iterable[WorkItem] | None = None,
        max_workers: int | None = None,
        ordered: bool = True,
        space_id: Id | None = None,
        on_error: Callable[[WorkItem, CFPlatformError], Any] | None = None,
        patience: float | None = None,
        **filters: Unpack[WorkItemFilters],
    ) -> Iterator[tuple[WorkItem, dict[str, Any]]]:
        """Stream the parsed COCO documents of a project; nothing is written to disk.

        Documents are fetched concurrently, a bounded number ahead of the reader, so memory does not grow with the
        project. Closing the generator, or leaving the loop, cancels what is under way.

        What is ahead of the reader has a bound in bytes too: 64 MiB of documents as served, or a single larger one,
        and the one that is next in the order. Parsed, COCO documents take up to 8 times as much: so with documents of
        up to 50 MB some 0.9 GiB, beside the one in the reader's hands. Documents up to 1 MiB do not notice the bound.

        Args:
            project_id: The project; else the client's.
            items: Stream the documents of these items instead of listing a project.
            max_workers: Documents fetched at the same time, at the most; the client's number if omitted.
            ordered: Yield in the order of the listing; ``False`` yields each as soon as it is there.
            space_id: The space; found by itself if omitted.
            on_error: Called with (item, error) for each item that fails; the stream then goes on. Without it the
                error is raised, and the stream ends there.
            patience: Seconds that the stream waits for an outage to end; the client's number if omitted.
            filters: Those of :meth:`get_work_items`; ``status`` is "COMPLETED" if omitted.

        Yields:
            Pairs of the work item and its document, with ``info.asset_url`` set as in downloaded files.

        Example:
            >>> for item, document in client.iter_annotations(batch_ids=[1001]):
            ...     print(len(document["images"]), {c["name"] for c in document["categories"]} > {"ellipse"})
            ...     break
            1 True
        """
        from .. import loading

        params.check_names("iter_annotations", filters, params.FILTER_NAMES)
        workers = self._workers(max_workers)
        params.flag("ordered", ordered)
        waits = self._run_patience(patience)
        if items is None:
            filters.setdefault("status", WorkItemStatus.COMPLETED)
            items = self._items_of(project_id, filters, http.Run(waits))
        elif filters or project_id is not None:
            raise InvalidParameterError("Pass either items, or a project and filters, and not both.")
        return loading.parsed_documents(
            self._calls,
            _checked_items(items),
            space_id=self._space(space_id),
            workers=workers,
            patience=waits,
            ordered=ordered,
            on_error=on_error,
        )

    def download_project(
        self,
        project_id: Id | None = None,
        destination: PathLike = "",
        *,
        space_id: Id | None = None,
        max_workers: int | None = None,
        overwrite: bool = False,
        assets: bool = False,
        inject_asset_url: bool = True,
        progress: _progress.Progress = None,
        executor: executing.Executor | None = None,
        patience: float | None = None,
        state: PathLike | None = None,
        **filters: Unpack[WorkItemFilters],
    ) -> DownloadSummary:
        """Download the COCO documents of a project, or bring a downloaded copy up to date.

        Files go to ``<destination>/<batch name>/<work item id>.json``. A file appears only when it is complete and
        checked. What is there already and unchanged is skipped, so running the same call again continues an
        interrupted run, fetches what changed, and puts back what was deleted. An item that fails does not stop the
        others.

        Args:
            project_id: The project; else the client's.
            destination: The folder; made if it does not exist. Its hidden folder ``.cfplatform`` remembers what is
                finished. Or the URL of a store that fsspec knows (extra ``fsspec``), such as ``s3://bucket/labels``,
                of which the page "Remote destinations" of the documentation tells the rest.
            space_id: The space; found by itself if omitted.
            max_workers: Threads; the client's number if omitted, and not more than it. They are started as there is
                work for them.
            overwrite: Fetch every item, changed or not.
            assets: Save each item's asset too, as ``<batch name>/assets/<work item id>`` with its extension. An
                asset in the space is signed together with the documents; one with an http(s) address is fetched from
                there without any credential. A large one that was cut is continued. The documents name their
                pictures as the platform does; where a picture lies stands in the result's ``asset_path``.
            inject_asset_url: Set ``info.asset_url`` in each document to the item's asset, as the official client
                does; every byte outside of ``info`` stays as served. ``False`` saves documents exactly as served.
            progress: ``True`` for a bar (extra ``progress``), a function of (done, total), or a
                :class:`~cfplatform.ProgressReporter`.
            executor: Lets the processes of a ``concurrent.futures.Executor``, or of anything with such a ``submit``,
                do the requests, each with ``max_workers``. It is handed the API key and stays open. The page "More than
                one process" of the documentation tells the rest.
            patience: Seconds that the run waits for an outage to end, of the platform or of the storage, before it
                ends with :class:`~cfplatform.OutageError`; the client's number if omitted. 0 waits for none: what
                still fails after its retries is failed then.
            state: Where the destination is a URL: a local folder that remembers what is finished there.
            filters: Those of :meth:`get_work_items`; ``status`` is "COMPLETED" if omitted.

        Returns:
            The summary of the run. Check ``failed``, or call ``raise_for_failures()``.

        Raises:
            DestinationBusyError: If another process downloads into the destination.
            AuthenticationError: If the key is refused; what is finished is kept.
            OutageError: If an outage lasts longer than ``patience``; what is finished is kept.
            DestinationError: If the store of a URL refuses, has no such bucket, or cannot be reached.
            DownloadError: If the disk is full or cannot be written, or the executor lost its processes; what is
                finished is kept.

        Example:
            >>> summary = client.download_project(destination="labels")
            >>> summary.total_items, summary.failed
            (20, 0)
        """
        params.check_names("download_project", filters, params.FILTER_NAMES)
        filters.setdefault("status", WorkItemStatus.COMPLETED)
        queries = params.work_item_queries(filters)
        project = self._project(project_id)
        downloader, reporter = self._downloader(
            destination,
            space_id=space_id,
            max_workers=max_workers,
            overwrite=overwrite,
            assets=assets,
            inject_asset_url=inject_asset_url,
            progress=progress,
            executor=executor,
            patience=patience,
            state=state,
        )
        # A batch may have been renamed since an earlier call.
        self._batch_names.pop(project, None)
        pages = self._pages(self._work_items_path(project), queries, params.MAX_PAGE_SIZE, run=downloader.run)
        announced = _announce(pages, reporter, several=len(queries) > 1)
        with downloader:
            return downloader.summarise(self._resource_pages(WorkItem, announced, project))

    def download_work_items(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[downloads.DownloadOptions]
    ) -> DownloadSummary:
        """Download the COCO documents of given work items; otherwise as :meth:`download_project`.

        Args:
            items: Any iterable of work items, read lazily; they may belong to several projects.
            destination: The folder or URL.
            options: Those of :meth:`download_project`, without the filters.

        Example:
            >>> few = client.get_work_items(max_items=5)
            >>> client.download_work_items(few, "labels").total_items
            5
        """
        from .. import downloads

        params.check_names("download_work_items", options, downloads.OPTION_NAMES)
        checked = _checked_items(items)
        downloader, reporter = self._downloader(destination, **options)
        with downloader:
            reporter.start(len(items) if isinstance(items, (list, tuple, set, frozenset)) else None)
            return downloader.summarise(_in_pages(checked))

    def iter_downloads(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[downloads.DownloadOptions]
    ) -> Iterator[DownloadResult]:
        """Download like :meth:`download_work_items`, and yield each result as soon as the item is finished.

        Closing the generator, or leaving the loop, cancels what is under way.

        Example:
            >>> for result in client.iter_downloads(client.get_work_items(max_items=2), "labels"):
            ...     print(result.outcome)
            downloaded
            downloaded
        """
        from .. import downloads

        params.check_names("iter_downloads", options, downloads.OPTION_NAMES)
        checked = _checked_items(items)
        downloader, reporter = self._downloader(destination, **options)

        return _results(downloader, checked, reporter)

    def _download_asset(self, item: WorkItem, destination: PathLike, overwrite: bool) -> DownloadResult:
        from .. import places

        places.refuse_url(destination, "download_work_items([item], ..., assets=True)")
        downloader, reporter = self._downloader(
            destination, overwrite=overwrite, assets=True, documents=False, patience=0.0
        )
        return next(_results(downloader, [item], reporter))

    def _plot(self, item: WorkItem, options: DrawOptions) -> Image:
        import tempfile

        from .. import viz

        document = item.load()
        if item.asset_url is None or item.asset_type not in (None, "image"):
            return viz.draw(document, **options)
        with tempfile.TemporaryDirectory(prefix="cfplatform-") as folder:
            return viz.draw(document, item.download_asset(folder), **options)

    def _downloader(
        self,
        destination: PathLike,
        *,
        space_id: Id | None = None,
        max_workers: int | None = None,
        overwrite: bool = False,
        assets: bool = False,
        documents: bool = True,
        inject_asset_url: bool = True,
        progress: _progress.Progress = None,
        executor: executing.Executor | None = None,
        patience: float | None = None,
        state: PathLike | None = None,
    ) -> tuple[downloads.Downloader, _progress.ProgressReporter]:
        from .. import downloads, executing, places
        from .. import progress as _progress

        self._calls.ensure_open()
        reporter = _progress.reporter(progress)
        checked: dict[str, Any] = {
            "workers": self._workers(max_workers),
            "patience": self._run_patience(patience),
            "overwrite": params.flag("overwrite", overwrite),
            "assets": params.flag("assets", assets),
            "inject_asset_url": params.flag("inject_asset_url", inject_asset_url),
            "space_id": self._space(space_id),
            "executor": executing.checked(executor),
        }
        # Last, because it makes folders.
        place = places.choose(destination, state)
        if executor is not None and not place.is_shared:
            raise InvalidParameterError(
                f"{place.url} lies in the memory of this process; executor cannot be used with it."
            )
        downloader = downloads.Downloader(
            self._calls, place, self._names_of_batches, reporter, documents=documents, **checked
        )
        return downloader, reporter

    def _items_of(self, project_id: Id | None, filters: WorkItemFilters, run: http.Run) -> Iterator[WorkItem]:
        """Return the items of a project, listed by a run."""
        project = self._project(project_id)
        queries = params.work_item_queries(filters)
        pages = self._pages(self._work_items_path(project), queries, params.MAX_PAGE_SIZE, run=run)
        return self._resources(WorkItem, pages, project)

    def _names_of_batches(self, project_id: str, refresh: bool, run: http.Run) -> dict[str, str]:
        from .. import downloads

        if refresh or project_id not in self._batch_names:
            self._batch_names[project_id] = downloads.fetch_batch_names(self._calls, project_id, run)
        return self._batch_names[project_id]


def _checked_items(items: Iterable[WorkItem]) -> Iterable[WorkItem]:
    if isinstance(items, (str, bytes, Mapping, WorkItem)) or not isinstance(items, Iterable):
        raise InvalidParameterError(f"items must be an iterable of WorkItem objects, not {type(items).__name__}.")
    return items


def _in_pages(items: Iterable[WorkItem]) -> Iterable[Sequence[WorkItem]]:
    """Cut what is in memory into pages; of anything else each item is taken when it comes."""
    if isinstance(items, (set, frozenset)):
        items = list(items)
    if not isinstance(items, (list, tuple)):
        return ([item] for item in items)
    return (items[start : start + params.MAX_PAGE_SIZE] for start in range(0, len(items), params.MAX_PAGE_SIZE))


def _announce(
    pages: Iterator[dict[str, Any]], reporter: _progress.ProgressReporter, *, several: bool
) -> Iterator[dict[str, Any]]:
    """Pass pages on, and start the reporter with the total that the first one tells."""
    first = next(pages, None)
    if first is None:
        reporter.start(0)
        return
    reporter.start(None if several else pagination.total(first))
    yield first
    yield from pages


def _results(
    downloader: downloads.Downloader, items: Iterable[WorkItem], reporter: _progress.ProgressReporter
) -> Iterator[DownloadResult]:
    with downloader:
        reporter.start(len(items) if isinstance(items, (list, tuple, set, frozenset)) else None)
        try:
            with contextlib.closing(downloader.results(_in_pages(items))) as results:
                for result in results:
                    reporter.advance(result.outcome, result.written or result.size)
                    yield result
        finally:
            reporter.finish()
