"""The client: short methods, each a call into the module that does the work."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self, Unpack

from . import config, downloads, files, pagination, params, pipeline, transport
from . import progress as _progress
from .exceptions import CFPlatformError, ConfigurationError, InvalidParameterError, NotFoundError
from .params import DatetimeLike, Query, WorkItemFilters
from .resources import Annotation, Batch, WorkItem, WorkItemStatus
from .transport import Transport

if TYPE_CHECKING:
    import requests
    import urllib3

#: The id of a project, space or work item.
Id = str | uuid.UUID
#: A path on this machine.
PathLike = str | os.PathLike[str]


class Client:
    """Access to the CloudFactory AI Platform.

    One client serves a whole program: it may be used from many threads, keeps its connections open and is closed by
    ``with`` or :meth:`close`. Nothing is sent before the first call. It cannot be pickled, because it holds the key.

    Args:
        api_key: The key that CloudFactory issued; else ``CF_API_KEY``.
        base_url: The API's address; else ``CF_PLATFORM_BASE_URL``, else the production API.
        project_id: The project of calls that name none; else ``CF_PROJECT_ID``.
        space_id: The space of calls that name none; else ``CF_SPACE_ID``. Downloads find it by themselves.
        timeout: Seconds to wait for a connection and for the next bytes of an answer: one number, or the pair
            (connect, read).
        retries: Repeats of a request after a passing fault (429, 5xx, a broken connection), or a ``urllib3.Retry``.
            0 turns them off.
        max_workers: Items that a download works on at the same time, 1 to 256; also the size of the
            connection pools.
        session: A ``requests.Session`` of your own for API calls, used as it is, with its own adapters and so its own
            retries. Storage never sees it.
        proxies: Proxies by scheme, as in requests; else the usual environment variables.
        verify: ``False``, or the path of a file with certificate authorities; else ``REQUESTS_CA_BUNDLE``.
        cert: A client certificate, as in requests.
        user_agent: Text put in front of the ``User-Agent`` header, such as ``"my-tool/1.2"``.
        allow_insecure_http: Accept an ``http://`` base URL on another machine, which sends the key in clear text.

    Raises:
        ConfigurationError: If a setting is missing or cannot be used. No message shows the key.

    Example:
        >>> with Client(max_workers=8) as client:
        ...     client.get_work_items_count(status="COMPLETED")
        20
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        project_id: Id | None = None,
        space_id: Id | None = None,
        timeout: config.Timeout = config.DEFAULT_TIMEOUT,
        retries: int | urllib3.Retry = transport.DEFAULT_RETRIES,
        max_workers: int = config.DEFAULT_MAX_WORKERS,
        session: requests.Session | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        user_agent: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        self._project_id = _default_id("project_id", project_id, "CF_PROJECT_ID")
        self._space_id = _default_id("space_id", space_id, "CF_SPACE_ID")
        self._max_workers = config.max_workers(max_workers)
        self._batch_names: dict[str, dict[str, str]] = {}
        self._calls = Transport(
            api_key=config.api_key(api_key),
            base_url=config.base_url(base_url, allow_insecure_http=allow_insecure_http),
            timeout=config.timeout(timeout),
            retries=transport.checked_retries(retries),
            pool_size=self._max_workers,
            session=session,
            proxies=proxies,
            verify=verify,
            cert=cert,
            user_agent=user_agent,
        )

    def __repr__(self) -> str:
        return f"<Client base_url={self._calls.base_url!r} project_id={self._project_id!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; closing again does nothing.

        Any other call afterwards raises :class:`~cfplatform.ConfigurationError`.
        """
        self._calls.close()

    # --- Listing -------------------------------------------------------------------------------------------

    def get_work_items(
        self,
        project_id: Id | None = None,
        *,
        batch_ids: Iterable[int] | None = None,
        work_item_ids: Iterable[Id] | None = None,
        status: str | None = None,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        updated_at_from: DatetimeLike | None = None,
        updated_at_to: DatetimeLike | None = None,
        page_size: int = params.MAX_PAGE_SIZE,
        max_items: int | None = None,
        cursor: str | None = None,
    ) -> Iterator[WorkItem]:
        """Iterate over the work items of a project.

        Pages are requested as the iterator is read, so the first item is there after one request and memory does
        not grow with the project. The arguments are checked by the call itself, before any request.

        Args:
            project_id: The project; else the client's.
            batch_ids: Only items of these batches. More than 100 are split into several requests; an empty list
                selects nothing.
            work_item_ids: Only these items; split and empty as above.
            status: Only items with this status, such as ``"COMPLETED"``; every status if omitted.
            created_at_from: Only items created at this time or later: an aware ``datetime``, or an ISO 8601 text
                with its time zone.
            created_at_to: Only items created at this time or before.
            updated_at_from: Only items changed at this time or later.
            updated_at_to: Only items changed at this time or before.
            page_size: Items per request, 1 to 100 (the platform's limit).
            max_items: Stop after so many.
            cursor: Go on where an earlier listing with the same filters stopped: the ``cursor`` of the error that
                ended it, or of a page's ``meta``.

        Yields:
            Each work item once, in the platform's order. What pages repeat is dropped, as long as it was among the
            last 10 000. If the platform refuses a cursor within the first 10 000 items, the listing begins anew
            once and goes on with what is new.

        Raises:
            InvalidParameterError: If an argument is wrong.
            InvalidResponseError: While iterating: if a page cannot be one, or its cursor goes round.

        Example:
            >>> for item in client.get_work_items(status="COMPLETED", max_items=3):
            ...     print(item.batch_id, item.asset_type)
            1001 image
            1001 image
            1001 image
        """
        queries = params.work_item_queries(
            {
                "batch_ids": batch_ids,
                "work_item_ids": work_item_ids,
                "status": status,
                "created_at_from": created_at_from,
                "created_at_to": created_at_to,
                "updated_at_from": updated_at_from,
                "updated_at_to": updated_at_to,
            }
        )
        project = self._project(project_id)
        limit = params.max_items(max_items)
        pages = self._pages(
            self._work_items_path(project), queries, _page_size(page_size, limit), params.cursor(cursor)
        )
        return (WorkItem(data, self, project) for data in pagination.items(pages, limit=limit))

    def get_work_items_count(self, project_id: Id | None = None, **filters: Unpack[WorkItemFilters]) -> int:
        """Count the work items that the filters select; they are those of :meth:`get_work_items`.

        Where the platform tells the total, which it does not promise, that is one request; else all are listed.

        Example:
            >>> client.get_work_items_count()
            20
        """
        params.check_names("get_work_items_count", filters, params.FILTER_NAMES)
        path = self._work_items_path(self._project(project_id))
        return sum(self._count(path, query) for query in params.work_item_queries(filters))

    def _count(self, path: str, query: Query) -> int:
        total = pagination.total(next(self._pages(path, [query], 1)))
        if total is not None:
            return total
        return sum(1 for _ in pagination.items(self._pages(path, [query], params.MAX_PAGE_SIZE)))

    def get_work_item(self, work_item_id: Id, project_id: Id | None = None) -> WorkItem:
        """Fetch one work item.

        Raises:
            NotFoundError: If the project has no such item.

        Example:
            >>> first = next(client.get_work_items())
            >>> client.get_work_item(first.id) == first
            True
        """
        wanted = params.object_id("work_item_id", work_item_id)
        for item in self.get_work_items(project_id, work_item_ids=[wanted]):
            # The platform may spell a UUID in another case than the caller.
            if item.id.lower() == wanted.lower():
                return item
        raise NotFoundError(f"Project {self._project(project_id)} has no work item {wanted}.")

    def get_batches(
        self, project_id: Id | None = None, *, page_size: int = params.MAX_PAGE_SIZE, max_items: int | None = None
    ) -> Iterator[Batch]:
        """Iterate over the batches of a project, with their counts; lazily, like :meth:`get_work_items`.

        Args:
            project_id: The project; else the client's.
            page_size: Batches per request, 1 to 100 (the platform's limit).
            max_items: Stop after so many.

        Example:
            >>> for batch in client.get_batches(max_items=2):
            ...     print(batch.id, batch.total_count)
            1001 10
            1002 10
        """
        project = self._project(project_id)
        limit = params.max_items(max_items)
        path = transport.path("projects", project, "batches")
        pages = self._pages(path, [[]], _page_size(page_size, limit))
        return (Batch(data, self, project) for data in pagination.items(pages, limit=limit))

    def get_batch(self, batch_id: int | None = None, project_id: Id | None = None, *, name: str | None = None) -> Batch:
        """Fetch one batch by its id or its name, which is unique in the project.

        The platform has no call for one batch, so batches are listed until it is found.

        Raises:
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.get_batch(1002).total_count
            10
        """
        if (batch_id is None) == (name is None):
            raise InvalidParameterError("Pass either a batch id or name=..., and not both.")
        wanted = None if batch_id is None else params.batch_id("batch_id", batch_id)
        for batch in self.get_batches(project_id):
            if (str(batch.id) == wanted) if wanted is not None else (batch.name == name):
                return batch
        shown = f"with id {wanted}" if wanted is not None else f"named {name!r}"
        raise NotFoundError(f"Project {self._project(project_id)} has no batch {shown}.")

    def get_annotation(self, work_item_id: Id, project_id: Id | None = None) -> Annotation:
        """Fetch the annotation of a work item, which says where its COCO document is stored.

        Raises:
            NotFoundError: If there is none, for example because the item is not completed.

        Example:
            >>> item = next(client.get_work_items())
            >>> client.get_annotation(item.id).work_item_id == item.id
            True
        """
        wanted = params.object_id("work_item_id", work_item_id)
        annotation = pipeline.fetch_annotation(self._calls, self._project(project_id), wanted)
        return Annotation(annotation.as_dict(), self, wanted)

    def iter_annotations(
        self,
        project_id: Id | None = None,
        *,
        items: Iterable[WorkItem] | None = None,
        max_workers: int | None = None,
        ordered: bool = True,
        space_id: Id | None = None,
        on_error: Callable[[WorkItem, CFPlatformError], Any] | None = None,
        **filters: Unpack[WorkItemFilters],
    ) -> Iterator[tuple[WorkItem, dict[str, Any]]]:
        """Stream the parsed COCO documents of a project; nothing is written to disk.

        Documents are fetched concurrently, a bounded number ahead of the reader, so memory does not grow with the
        project. Closing the generator, or leaving the loop, cancels what is under way.

        Args:
            project_id: The project; else the client's.
            items: Stream the documents of these items instead of listing a project.
            max_workers: Documents fetched at the same time; the client's number if omitted.
            ordered: Yield in the order of the listing; ``False`` yields each as soon as it is there.
            space_id: The space; found by itself if omitted.
            on_error: Called with (item, error) for each item that fails; the stream then goes on. Without it the
                error is raised, and the stream ends there.
            filters: Those of :meth:`get_work_items`; ``status`` is "COMPLETED" if omitted.

        Yields:
            Pairs of the work item and its document, with ``info.asset_url`` set as in downloaded files.

        Example:
            >>> for item, document in client.iter_annotations(batch_ids=[1001]):
            ...     print(len(document["images"]), {c["name"] for c in document["categories"]} > {"ellipse"})
            ...     break
            1 True
        """
        params.check_names("iter_annotations", filters, params.FILTER_NAMES)
        workers = downloads.check_workers(max_workers, self._max_workers)
        downloads.check_flag("ordered", ordered)
        if items is None:
            filters.setdefault("status", WorkItemStatus.COMPLETED)
            items = self.get_work_items(project_id, **filters)
        elif filters or project_id is not None:
            raise InvalidParameterError("Pass either items, or a project and filters, and not both.")
        return downloads.documents(
            self._calls,
            _checked_items(items),
            space_id=self._space(space_id),
            workers=workers,
            ordered=ordered,
            on_error=on_error,
        )

    # --- Downloading ---------------------------------------------------------------------------------------

    def download_project(
        self,
        project_id: Id | None = None,
        destination: PathLike = "",
        *,
        space_id: Id | None = None,
        max_workers: int | None = None,
        overwrite: bool = False,
        inject_asset_url: bool = True,
        progress: _progress.Progress = None,
        **filters: Unpack[WorkItemFilters],
    ) -> downloads.DownloadSummary:
        """Download the COCO documents of a project, or bring a downloaded copy up to date.

        Files go to ``<destination>/<batch name>/<work item id>.json``. A file appears only when it is complete and
        checked. What is there already and unchanged is skipped, so running the same call again continues an
        interrupted run, fetches what changed, and puts back what was deleted. An item that fails does not stop the
        others.

        Args:
            project_id: The project; else the client's.
            destination: The folder; made if it does not exist. Its hidden folder ``.cfplatform`` remembers what is
                finished.
            space_id: The space; found by itself if omitted.
            max_workers: Items worked on at the same time; the client's number if omitted, and not more than it.
            overwrite: Fetch every item, changed or not.
            inject_asset_url: Set ``info.asset_url`` in each document to the item's asset, as the official client
                does; every byte outside of ``info`` stays as served. ``False`` saves documents exactly as served.
            progress: ``True`` for a bar (extra ``progress``), a function of (done, total), or a
                :class:`~cfplatform.ProgressReporter`.
            filters: Those of :meth:`get_work_items`; ``status`` is "COMPLETED" if omitted.

        Returns:
            The account of the run. Check ``failed``, or call ``raise_for_failures()``.

        Raises:
            DestinationBusyError: If another process downloads into the destination.
            AuthenticationError: If the key is refused; what is finished is kept.
            DownloadError: If the disk is full or cannot be written; what is finished is kept.

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
            inject_asset_url=inject_asset_url,
            progress=progress,
        )
        # A batch may have been renamed since an earlier call.
        self._batch_names.pop(project, None)
        pages = self._pages(self._work_items_path(project), queries, params.MAX_PAGE_SIZE)
        announced = _announce(pages, reporter, several=len(queries) > 1)
        items = (WorkItem(data, self, project) for data in pagination.items(announced))
        with downloader:
            return downloader.summarise(items, reporter)

    def download_work_items(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[downloads.DownloadOptions]
    ) -> downloads.DownloadSummary:
        """Download the COCO documents of given work items; otherwise as :meth:`download_project`.

        Args:
            items: Any iterable of work items, read lazily; they may belong to several projects.
            destination: The folder.
            options: Those of :meth:`download_project`, without the filters.

        Example:
            >>> few = client.get_work_items(max_items=5)
            >>> client.download_work_items(few, "labels").total_items
            5
        """
        params.check_names("download_work_items", options, downloads.OPTION_NAMES)
        checked = _checked_items(items)
        downloader, reporter = self._downloader(destination, **options)
        with downloader:
            reporter.start(len(items) if isinstance(items, (list, tuple, set, frozenset)) else None)
            return downloader.summarise(checked, reporter)

    def iter_downloads(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[downloads.DownloadOptions]
    ) -> Iterator[downloads.DownloadResult]:
        """Download like :meth:`download_work_items`, and yield each result as soon as the item is finished.

        Closing the generator, or leaving the loop, cancels what is under way.

        Example:
            >>> for result in client.iter_downloads(client.get_work_items(max_items=2), "labels"):
            ...     print(result.outcome)
            downloaded
            downloaded
        """
        params.check_names("iter_downloads", options, downloads.OPTION_NAMES)
        checked = _checked_items(items)
        downloader, reporter = self._downloader(destination, **options)

        def run() -> Iterator[downloads.DownloadResult]:
            with downloader:
                reporter.start(len(items) if isinstance(items, (list, tuple, set, frozenset)) else None)
                try:
                    with contextlib.closing(downloader.results(checked)) as results:
                        for result in results:
                            reporter.advance(result.outcome, result.size)
                            yield result
                finally:
                    reporter.finish()

        return run()

    def _downloader(
        self,
        destination: PathLike,
        *,
        space_id: Id | None = None,
        max_workers: int | None = None,
        overwrite: bool = False,
        inject_asset_url: bool = True,
        progress: _progress.Progress = None,
    ) -> tuple[downloads.Downloader, _progress.ProgressReporter]:
        self._calls.ensure_open()
        reporter = _progress.reporter(progress)
        downloader = downloads.Downloader(
            self._calls,
            workers=downloads.check_workers(max_workers, self._max_workers),
            overwrite=downloads.check_flag("overwrite", overwrite),
            inject_asset_url=downloads.check_flag("inject_asset_url", inject_asset_url),
            space_id=self._space(space_id),
            batch_names=self._names_of_batches,
            root=files.prepare_destination(destination),
        )
        return downloader, reporter

    def _names_of_batches(self, project_id: str, refresh: bool) -> dict[str, str]:
        if refresh or project_id not in self._batch_names:
            self._batch_names[project_id] = downloads.fetch_batch_names(self._calls, project_id)
        return self._batch_names[project_id]

    # --- Low level -----------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
    ) -> requests.Response:
        """Send any request to the API, with the key, retries and error mapping of every other call.

        GET and HEAD are repeated after passing faults; other methods are not, because the server may have acted.

        Args:
            method: Such as "GET".
            path: Relative to the base URL, such as ``"/projects/<id>/batches"``. Redirects are not followed.
            params: Query parameters; a list of pairs repeats a key.
            json: A body to send as JSON.
            headers: Further headers.
            timeout: As for the client, for this call only.
            check: ``False`` returns an answer with an error status instead of raising.

        Example:
            >>> client.request("GET", f"/projects/{sandbox.project_id}/batches").json()["meta"]["object"]
            'batch'
        """
        return self._calls.request(
            method, path, params=params, json=json, headers=headers, timeout=timeout, check=check
        )

    def iterate_pages(self, path: str, params: Query | Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the pages of any listing as the server sent them, following the cursor in either spelling.

        Args:
            path: Relative to the base URL.
            params: Query parameters, sent with every page; a list of pairs, or a value that is a list, repeats a key.

        Example:
            >>> pages = client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"limit": 10})
            >>> [len(page["items"]) for page in pages]
            [10, 10]
        """
        query = _pairs(params)
        return pagination.iterate_pages(lambda query: self._calls.get_json(path, query), query)

    # --- Helpers -------------------------------------------------------------------------------------------

    def _pages(
        self, path: str, queries: list[Query], page_size: int, cursor: str | None = None
    ) -> Iterator[dict[str, Any]]:
        if cursor is not None and len(queries) > 1:
            raise InvalidParameterError("cursor cannot be used with more than 100 ids: they need several listings.")

        def pages() -> Iterator[dict[str, Any]]:
            for query in queries:
                yield from pagination.iterate_pages(
                    lambda query: self._calls.get_json(path, query),
                    [*query, ("limit", str(page_size))],
                    cursor=cursor,
                    restart=True,
                )

        return pages()

    def _work_items_path(self, project_id: str) -> str:
        return transport.path("projects", project_id, "workItems")

    def _project(self, project_id: Id | None) -> str:
        if project_id is not None:
            return params.object_id("project_id", project_id)
        if self._project_id is None:
            raise ConfigurationError("No project: pass project_id=... to the call or to Client, or set CF_PROJECT_ID.")
        return self._project_id

    def _space(self, space_id: Id | None) -> str | None:
        return self._space_id if space_id is None else params.object_id("space_id", space_id)


def _default_id(name: str, value: Id | None, variable: str) -> str | None:
    given = config.default_id(str(value) if isinstance(value, uuid.UUID) else value, variable)
    return None if given is None else params.object_id(name, given)


def _page_size(page_size: int, limit: int | None) -> int:
    """Return the page size to ask for: not more than will be used."""
    size = params.page_size(page_size)
    return min(size, limit) if limit else size


def _checked_items(items: Iterable[WorkItem]) -> Iterable[WorkItem]:
    if isinstance(items, (str, bytes, Mapping, WorkItem)) or not isinstance(items, Iterable):
        raise InvalidParameterError(f"items must be an iterable of WorkItem objects, not {type(items).__name__}.")
    return items


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


def _pairs(query: Query | Mapping[str, Any] | None) -> Query:
    """Return query parameters as pairs of texts; a list becomes a repeated key, and ``None`` is left out."""
    pairs = list(query.items()) if isinstance(query, Mapping) else query or []
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise InvalidParameterError("params must be a mapping or a list of pairs.")
    return [
        (str(key), str(value))
        for key, values in pairs
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value is not None
    ]
