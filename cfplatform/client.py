"""The client. Each method checks its arguments and calls the module that does the work."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeVar, Union, cast

from . import config, http, params
from .exceptions import (
    CFPlatformError,
    ConfigurationError,
    ConflictError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    shown,
)
from .http import SINGLE, Run, Settings, Transport
from .http.background import Background
from .params import DatetimeLike, Query, WorkItemFilters, pairs
from .resources import Annotation, Batch, Export, ExportFormat, Resource, WorkItem, WorkItemStatus
from .transfer import pagination

if TYPE_CHECKING:
    import uuid
    from datetime import datetime
    from pathlib import Path

    import requests
    import urllib3
    from PIL.Image import Image
    from typing_extensions import Self, Unpack

    from . import progress as _progress
    from .archives import ArchiveMember
    from .resources.created import CreateResult
    from .resources.results import (
        DownloadOptions,
        DownloadResult,
        DownloadSummary,
        DrawOptions,
        Executor,
        ExportDownloadOptions,
        File,
        UploadedFile,
        UploadResult,
        WaitOptions,
    )
    from .transfer import creating, downloads, exports
    from .types import CocoDocument, Page

#: The ID of a project, space or work item.
Id: TypeAlias = Union[str, "uuid.UUID"]  # noqa: UP007 - with "|" it would need the module, which few scripts use
#: A path on this machine.
PathLike = str | os.PathLike[str]
R = TypeVar("R", bound=Resource[Any])
#: Maximum number of batch names that an error lists.
_FEW = 10
_NO_SUCH_CALL = "Or the platform does not have this call: it is provisional and not documented by CloudFactory."
_TAKEN = {"parameter": "name", "hint": "get_batch(name=...) returns the batch with this name."}


class Client:
    """A client for the CloudFactory AI Platform.

    Use one client per program: it is thread-safe and keeps connections open until the ``with`` block ends or
    :meth:`close` is called. Nothing is sent before the first call. A client cannot be pickled, because it holds the
    API key.

    Arguments are checked before any request; an invalid one raises a ``ValueError``, usually
    :class:`~cfplatform.InvalidParameterError`. Calls without ``project_id`` or ``space_id`` use the client's.

    Args:
        api_key: The API key. Defaults to ``CF_API_KEY``.
        base_url: The URL of the API. Defaults to ``CF_PLATFORM_BASE_URL``, then the production API.
        project_id: The default project of calls. Defaults to ``CF_PROJECT_ID``.
        space_id: The default space of calls. Defaults to ``CF_SPACE_ID``. Downloads detect the space if it is not set.
        timeout: Seconds to wait for a connection and for the next bytes: one number, or a pair (connect, read),
            up to 86,400.
        retries: Number of retries of a request after a transient error (such as 429, 503 or a broken connection), 0 to
            20, or a ``urllib3.Retry``. Defaults to 5.
        patience: Seconds that a run (a download, a stream, an upload of many files) waits for an outage to end; 0 does
            not wait. Can be set for each run. A single call does not wait: it fails after its retries.
        max_workers: Maximum number of threads of a run, 1 to 256. Can be set for each run.
        session: Your own ``requests.Session`` for API calls. It keeps its auth, headers, params, cookies, hooks and
            adapters. The API key is only sent to the base URL, and the session is never used for the storage.
        headers: Additional headers of API calls, such as ``{"X-Team": "vision"}``.
        proxies: Proxies by scheme, as in requests. Defaults to the usual environment variables.
        verify: ``False`` to disable TLS verification, or the path of a CA bundle. Defaults to ``REQUESTS_CA_BUNDLE``.
        cert: A client certificate, as in requests.
        user_agent: Prefix of the ``User-Agent`` header, such as ``"my-tool/1.2"``.
        allow_insecure_http: Allow an ``http://`` base URL on another machine. The API key is then sent unencrypted.
        allow_private_storage: Allow assets and signed URLs on private networks, for storage that you host yourself.
            Defaults to ``CF_ALLOW_PRIVATE_STORAGE``; always allowed if the base URL has a private address.

    Raises:
        ConfigurationError: If a setting is missing or not valid.

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
        retries: int | urllib3.Retry | None = None,
        patience: float = http.DEFAULT_PATIENCE,
        max_workers: int = config.DEFAULT_MAX_WORKERS,
        session: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        user_agent: str | None = None,
        allow_insecure_http: bool = False,
        allow_private_storage: bool | None = None,
    ) -> None:
        # Reuses the name: no traceback frame may show the key.
        api_key = config.Secret(api_key) if isinstance(api_key, str) else api_key
        api_key = config.api_key(api_key)
        self._project_id = _default_id("project_id", project_id)
        self._space_id = _default_id("space_id", space_id)
        self._max_workers = config.max_workers(max_workers)
        self._patience = config.patience(patience)
        self._batch_names: dict[str, dict[str, str]] = {}
        settings = Settings(
            api_key=api_key,
            base_url=config.base_url(base_url, allow_insecure_http=allow_insecure_http),
            timeout=config.timeout(timeout),
            retries=None if retries is None else http.checked_retries(retries),
            headers=headers,
            proxies=proxies,
            verify=verify,
            cert=cert,
            user_agent=user_agent,
            allow_private_storage=config.flag(allow_private_storage, "CF_ALLOW_PRIVATE_STORAGE"),
        )
        self._calls = Transport(settings, session)

    def __repr__(self) -> str:
        # Tools that show traceback frames may call this before __init__ has finished.
        calls = getattr(self, "_calls", None)
        return f"<Client base_url={calls and calls.base_url!r} project_id={getattr(self, '_project_id', None)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The URL of the API, without a trailing slash.

        Example:
            >>> Client("key", base_url="https://eu.example.com/api/v1/").base_url
            'https://eu.example.com/api/v1'
        """
        return self._calls.base_url

    @property
    def project_id(self) -> str | None:
        """The default project of calls, or ``None``.

        Example:
            >>> client.project_id == sandbox.project_id
            True
        """
        return self._project_id

    @property
    def space_id(self) -> str | None:
        """The default space of calls, or ``None``.

        Example:
            >>> Client("key", space_id="6f9d3a60-0d8e-4a43-8d5c-2f7b0f8f3a11").space_id
            '6f9d3a60-0d8e-4a43-8d5c-2f7b0f8f3a11'
        """
        return self._space_id

    @property
    def session(self) -> requests.Session:
        """The ``requests.Session`` for API calls: your own or the client's.

        Hooks, headers and adapters that you add apply to all later calls. Requests to the storage use a separate
        session, which never has the API key.

        Example:
            >>> client.session.hooks["response"].append(lambda response, **_: print(response.status_code))
            >>> client.get_work_items_count()
            200
            20
        """
        return self._calls.session

    def close(self) -> None:
        """Close all connections. Closing twice is allowed.

        Any other call afterwards raises :class:`~cfplatform.ConfigurationError`.
        """
        self._calls.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        data: Mapping[str, Any] | Iterable[tuple[str, Any]] | str | bytes | BinaryIO | None = None,
        files: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
        stream: bool = False,
    ) -> requests.Response:
        """Send any request to the API, with the client's API key, retries and exceptions.

        GET and HEAD are retried after transient errors. Other methods are not, because the server may have processed
        the request.

        Args:
            method: The HTTP method, such as "GET".
            path: Relative to the base URL, such as ``"/projects/<id>/batches"``. Redirects are not followed.
            params: Query parameters. Use a list of pairs, or a list as the value, to repeat a key.
            json: A body to send as JSON.
            data: A body as in requests: form fields, text, bytes, or a seekable binary file, which is streamed.
            files: Files of a multipart form, as in requests. They are read into memory.
            headers: Additional headers.
            timeout: The timeout of this call, as for the client.
            check: ``False`` to return a response with an error status instead of raising.
            stream: ``True`` to leave the body unread, as in requests. Read it with ``iter_content()`` in a ``with``
                block, which closes the response; errors while reading are those of requests.

        Example:
            >>> client.request("GET", f"/projects/{sandbox.project_id}/batches").json()["meta"]["object"]
            'batch'
        """
        return self._calls.request(
            method,
            path,
            params=params,
            json=json,
            data=data,
            files=files,
            headers=headers,
            timeout=timeout,
            check=check,
            stream=stream,
        )

    def iterate_pages(self, path: str, params: Query | Mapping[str, Any] | None = None) -> Iterator[Page]:
        """Iterate over the pages of any listing as the server sends them, following the cursor.

        Args:
            path: Relative to the base URL.
            params: Query parameters of every page. Use a list of pairs, or a list as the value, to repeat a key.

        Example:
            >>> pages = client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"limit": 10})
            >>> [len(page["items"]) for page in pages]
            [10, 10]
        """
        fetch = functools.partial(self._calls.get_json, path)
        return cast("Iterator[Page]", pagination.iterate_pages(fetch, pairs(params)))

    def _pages(
        self,
        path: str,
        queries: list[Query],
        page_size: int | None = None,
        cursor: str | None = None,
        *,
        prefetch: bool = True,
        limit: int | None = None,
        run: Run = SINGLE,
    ) -> Iterator[dict[str, Any]]:
        if cursor is not None and len(queries) > 1:
            raise InvalidParameterError(
                "cursor cannot be used with more than 100 IDs or several statuses: they need several listings.",
                parameter="cursor",
            )

        fetch = functools.partial(self._calls.get_json, path, run=run, is_essential=True)

        def begin(query: Query) -> Background[Any]:
            # Without retries: if this fails, the page is requested again when it is needed.
            once = functools.partial(self._calls.get_json, path, query, repeats=False)
            return Background(lambda stop: once(run=Run(stop=stop)), "prefetch", check=self._calls.ensure_open)

        listings = [[*query, ("limit", str(page_size or params.MAX_PAGE_SIZE))] for query in queries]
        prefetched = begin if prefetch else None
        return pagination.iterate_pages(fetch, *listings, cursor=cursor, restart=True, begin=prefetched, limit=limit)

    def _item_pages(
        self, project: str, chosen: params.Selection, *, run: Run = SINGLE, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages of selected work items; batch names are looked up when the first page is needed."""

        def pages(named: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
            return self._pages(_work_items(project), chosen.queries(named), run=run, **options)

        if not chosen.batch_names:
            return pages()

        def of_named_batches() -> Iterator[dict[str, Any]]:
            yield from pages(self._named_batches(project, chosen, run))

        return of_named_batches()

    def _named_batches(self, project: str, chosen: params.Selection, run: Run = SINGLE) -> list[str]:
        """Return the IDs of the batches selected by name, with one listing for all names."""
        names = chosen.batch_names
        # No request if another filter selects nothing.
        if not names or not chosen.queries(names):
            return []
        known = self._names(project, True, run)
        missing = sorted(set(names).difference(known.values()))
        if missing:
            raise _no_batch(project, missing, list(known.values()))
        return [batch for batch, name in known.items() if name in names]

    def _names(self, project_id: str, refresh: bool, run: Run) -> dict[str, str]:
        """Return the batch names of a project, by ID as a string."""
        from .transfer import downloads

        if refresh or project_id not in self._batch_names:
            self._batch_names[project_id] = downloads.fetch_batch_names(self._calls, project_id, run)
        return self._batch_names[project_id]

    def _project(self, project_id: Id | None) -> str:
        given = self._project_id if project_id is None else params.object_id("project_id", project_id)
        return _required("project_id", given)

    def _space(self, space_id: Id | None) -> str | None:
        return self._space_id if space_id is None else params.object_id("space_id", space_id)

    def _run_patience(self, patience: float | None) -> float:
        return self._patience if patience is None else config.patience(patience)

    def _workers(self, max_workers: int | None) -> int:
        return self._max_workers if max_workers is None else config.max_workers(max_workers)

    # --- Listing --------------------------------------------------------------------------------------------------

    def get_work_items(
        self,
        project_id: Id | None = None,
        *,
        batch_ids: Iterable[int] | None = None,
        batch_names: Iterable[str] | None = None,
        work_item_ids: Iterable[Id] | None = None,
        status: str | Iterable[str] | None = None,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        updated_at_from: DatetimeLike | None = None,
        updated_at_to: DatetimeLike | None = None,
        metadata: Mapping[str, Any] | None = None,
        page_size: int = params.MAX_PAGE_SIZE,
        limit: int | None = None,
        max_items: int | None = None,
        cursor: str | None = None,
        prefetch: bool = True,
    ) -> Iterator[WorkItem]:
        """Iterate over the work items of a project.

        Pages are requested lazily: the first item needs one request, and memory does not grow with the project.

        Args:
            project_id: The project. Defaults to the client's.
            batch_ids: Only items of these batches. More than 100 are split into several requests; an empty list
                selects nothing.
            batch_names: Only items of the batches with these names, or in ``batch_ids``. Batches are listed once,
                before the first page.
            work_item_ids: Only these items. More than 100 are split into several requests; an empty list selects
                nothing.
            status: Only items with this status, such as ``"COMPLETED"``, or with one of several statuses, which are
                listed one after another. Defaults to every status.
            created_at_from, created_at_to: Only items created in this range, inclusive. Each is an aware ``datetime``
                or an ISO 8601 string with a time zone.
            updated_at_from, updated_at_to: Only items changed in this range, inclusive.
            metadata: Only items whose metadata has these top-level keys and values. The platform has no such filter, so
                every page is requested and the items are filtered locally.
            page_size: Items per request, 1 to 100 (the platform's limit).
            limit: Maximum number of items.
            cursor: Resume an earlier listing with the same filters. Pass the ``cursor`` of the error that ended it, or
                the cursor in a page's ``meta``.
            prefetch: Request pages in advance: the next page from the tenth on, or four at a time if more than 100 IDs
                need several listings. Order, errors and the number of requests of a complete listing stay the same.

        Yields:
            Each work item once, in the platform's order. Repeated items are dropped if they are among the last 10,000.
            If the platform refuses a cursor within the first 10,000 items, the listing restarts once and skips the
            items that it has already yielded.

        Raises:
            InvalidResponseError: While iterating: if a page is not valid, or cursors repeat.
            NotFoundError: While iterating: if the project has no batch with one of ``batch_names``.

        Example:
            >>> for item in client.get_work_items(status="COMPLETED", limit=2):
            ...     print(item.batch_id, item.asset_type)
            1001 image
            1001 image
        """
        filters: WorkItemFilters = {
            "batch_ids": batch_ids,
            "batch_names": batch_names,
            "work_item_ids": work_item_ids,
            "status": status,
            "created_at_from": created_at_from,
            "created_at_to": created_at_to,
            "updated_at_from": updated_at_from,
            "updated_at_to": updated_at_to,
            "metadata": metadata,
        }
        chosen = params.selection(filters)
        project = self._project(project_id)
        limit = params.limit(limit, max_items)
        # With a local filter, any number of listed items may be needed.
        needed = limit if chosen.keep is None else None
        size = params.page_size(page_size, needed)
        start, prefetch = params.cursor(cursor), params.flag("prefetch", prefetch)
        pages = self._item_pages(project, chosen, page_size=size, cursor=start, prefetch=prefetch, limit=needed)
        return self._resources(WorkItem, pages, project, limit, chosen.keep)

    def get_work_items_count(self, project_id: Id | None = None, **filters: Unpack[WorkItemFilters]) -> int:
        """Count work items. The filters are those of :meth:`get_work_items`.

        This takes one request, or one for each status and each 100 IDs. If the platform reports no total, or if
        ``metadata`` is used, all items are listed.

        Example:
            >>> client.get_work_items_count()
            20
        """
        params.check_names("get_work_items_count", filters, params.FILTER_NAMES)
        chosen, project = params.selection(filters), self._project(project_id)
        if chosen.keep is not None:
            return sum(1 for _ in pagination.items(self._item_pages(project, chosen), keep=chosen.keep))
        path = _work_items(project)
        count = 0
        for query in chosen.queries(self._named_batches(project, chosen)):
            total = pagination.total(next(self._pages(path, [query], 1)))
            count += sum(1 for _ in pagination.items(self._pages(path, [query]))) if total is None else total
        return count

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
            # The platform may return a UUID in another case.
            if item.id.lower() == wanted.lower():
                return item
        raise NotFoundError(f"Project {self._project(project_id)} has no work item {wanted}.")

    def get_batches(
        self,
        project_id: Id | None = None,
        *,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        page_size: int = params.MAX_PAGE_SIZE,
        limit: int | None = None,
        max_items: int | None = None,
        prefetch: bool = True,
    ) -> Iterator[Batch]:
        """Iterate over the batches of a project, with their counts; lazily, like :meth:`get_work_items`.

        ``page_size`` (1 to 100), ``limit`` and ``prefetch`` are those of :meth:`get_work_items`.

        Args:
            project_id: The project. Defaults to the client's.
            created_at_from, created_at_to: Only batches created in this range, inclusive. The platform has no such
                filter, so every page is requested and the batches are filtered locally. Batch times without a time
                zone are taken as UTC; batches without a time are skipped.

        Example:
            >>> for batch in client.get_batches(limit=2):
            ...     print(batch.id, batch.total_count)
            1001 10
            1002 10
        """
        dates = {"created_at_from": created_at_from, "created_at_to": created_at_to}
        keep = _created_within(*params.date_range(dates, "created_at")[0])
        project = self._project(project_id)
        limit = params.limit(limit, max_items)
        path = http.path("projects", project, "batches")
        needed = limit if keep is None else None
        size = params.page_size(page_size, needed)
        pages = self._pages(path, [[]], size, prefetch=params.flag("prefetch", prefetch), limit=needed)
        return self._resources(Batch, pages, project, limit, keep)

    def get_batch(self, batch_id: int | None = None, project_id: Id | None = None, *, name: str | None = None) -> Batch:
        """Fetch one batch by ID or by name, which is unique in the project.

        The platform has no call for a single batch, so batches are listed until it is found.

        Raises:
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.get_batch(1002).total_count
            10
        """
        if (batch_id is None) == (name is None):
            raise InvalidParameterError("Pass exactly one of batch_id and name.")
        wanted = None if batch_id is None else params.batch_id("batch_id", batch_id)
        names = []
        for batch in self.get_batches(project_id):
            if (str(batch.id) == wanted) if wanted is not None else (batch.name == name):
                return batch
            names.append(batch.name or "")
        project = self._project(project_id)
        if name is not None:
            raise _no_batch(project, [name], names)
        raise NotFoundError(f"Project {project} has no batch with ID {wanted}.")

    def get_annotation(self, work_item_id: Id, project_id: Id | None = None) -> Annotation:
        """Fetch the annotation of a work item, which has the storage path of its COCO document.

        Raises:
            NotFoundError: If it does not exist, for example because the item is not completed.

        Example:
            >>> item = next(client.get_work_items())
            >>> client.get_annotation(item.id).work_item_id == item.id
            True
        """
        from .transfer.steps import fetch_annotation

        wanted = params.object_id("work_item_id", work_item_id)
        found = fetch_annotation(self._calls, self._project(project_id), wanted)
        return Annotation(found.as_dict(), self, wanted)

    def get_signed_urls(self, paths: Iterable[str], space_id: Id | None = None) -> dict[str, str]:
        """Return signed URLs of documents and assets, by storage path.

        Up to 1000 paths are signed per request. Until it expires, a signed URL works for anyone, without the key.

        Args:
            paths: Paths inside the space, such as ``item.asset_url``, or full paths, such as
                ``item.get_annotation().coco_results_url``. Duplicates are signed once.
            space_id: The space. Defaults to the client's. Not needed for full paths.

        Raises:
            ConfigurationError: If a space is needed and none is set.
            DownloadError: If the platform does not sign one of the paths; the message shows the first.

        Example:
            >>> item = next(client.get_work_items())
            >>> urls = client.get_signed_urls([item.asset_url, item.get_annotation().coco_results_url])
            >>> urls[item.asset_url].partition("?")[0].endswith(item.asset_url)
            True
        """
        from .transfer.steps import signed_urls

        wanted = params.unique("paths", paths, params.storage_path, "path")
        space = self._space(space_id)
        if not all("://" in path for path in wanted):
            _required("space_id", space)
        return signed_urls(self._calls, wanted, space)

    def _resources(
        self,
        kind: type[R],
        pages: Iterable[dict[str, Any]],
        project_id: str,
        limit: int | None = None,
        keep: pagination.Keep | None = None,
    ) -> Iterator[R]:
        """Yield the items of pages as resources of a class."""
        # One page at a time: twice as fast as creating one object at a time.
        for found in pagination.fresh(pages, limit=limit, keep=keep):
            yield from [kind(data, self, project_id) for data in found]

    # --- Downloading and streaming --------------------------------------------------------------------------------

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
    ) -> Iterator[tuple[WorkItem, CocoDocument]]:
        """Stream the parsed COCO documents of a project. Nothing is written to disk.

        Documents are prefetched concurrently. Closing the generator, or leaving the loop, cancels running requests.

        Memory does not grow with the project: up to 64 MiB of prefetched documents (or one larger document), plus the
        next one in order. A parsed COCO document takes up to 8 times its size: with documents of up to 50 MB, about
        0.9 GiB in addition to the document in use.

        Args:
            project_id: The project. Defaults to the client's.
            items: Stream the documents of these items instead of a project.
            max_workers: Maximum number of threads, 1 to 256. Defaults to the client's.
            ordered: Yield in the order of the listing. ``False`` yields each document as soon as it arrives.
            space_id: The space. Defaults to the client's; detected if neither is set.
            on_error: Called with (item, error) for each failed item; the stream then continues. If omitted, the error
                is raised and ends the stream.
            patience: Seconds to wait for an outage to end. Defaults to the client's.
            filters: Those of :meth:`get_work_items`. ``status`` defaults to "COMPLETED".

        Yields:
            Pairs of work item and document, with ``info.asset_url`` set as in downloaded files.

        Example:
            >>> for item, document in client.iter_annotations(batch_ids=[1001]):
            ...     print(len(document["images"]), {c["name"] for c in document["categories"]} > {"ellipse"})
            ...     break
            1 True
        """
        from .transfer import streaming

        params.check_names("iter_annotations", filters, params.FILTER_NAMES)
        workers = self._workers(max_workers)
        params.flag("ordered", ordered)
        waits = self._run_patience(patience)
        if items is None:
            filters.setdefault("status", WorkItemStatus.COMPLETED)
            chosen, project = params.selection(filters), self._project(project_id)
            pages = self._item_pages(project, chosen, run=Run(waits))
            items = self._resources(WorkItem, pages, project, keep=chosen.keep)
        elif filters or project_id is not None:
            raise InvalidParameterError("Pass either items, or a project and filters, not both.")
        return streaming.parsed_documents(
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
        executor: Executor | None = None,
        patience: float | None = None,
        state: PathLike | None = None,
        prune: bool = False,
        dry_run: bool = False,
        limit: int | None = None,
        max_items: int | None = None,
        **filters: Unpack[WorkItemFilters],
    ) -> DownloadSummary:
        """Download the COCO documents of a project, or update a downloaded copy.

        Files are written atomically to ``<destination>/<batch name>/<work item id>.json``. Unchanged files are skipped:
        call it again to resume an interrupted run, fetch changes and restore deleted files. An item that fails does
        not stop the others, and finished items are kept if an error ends the run.

        Args:
            project_id: The project. Defaults to the client's.
            destination: The folder, created if it does not exist; its hidden folder ``.cfplatform`` records finished
                items. Or a URL that fsspec supports (extra ``fsspec``), such as ``s3://bucket/labels``; see "Remote
                destinations" in the documentation.
            space_id: The space. Defaults to the client's; detected if neither is set.
            max_workers: Maximum number of threads, 1 to 256. Defaults to the client's.
            overwrite: Fetch unchanged items again.
            assets: Also save the asset of each item, as ``<batch name>/assets/<work item id>`` with its extension;
                see ``asset_path`` of the results. Image names in the documents do not change. An asset with an http(s)
                URL is fetched from there without credentials. Interrupted large assets are resumed.
            inject_asset_url: Set ``info.asset_url`` in each document to the item's asset, as the official client does;
                all bytes outside ``info`` stay as served. ``False`` saves documents exactly as served.
            progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
                :class:`~cfplatform.ProgressReporter`.
            executor: A ``concurrent.futures.Executor``, or any object with the same ``submit``, whose processes send
                the requests, each with ``max_workers`` threads. It receives the API key and is not shut down; see
                "More than one process" in the documentation.
            patience: Seconds to wait for an outage of the platform or the storage to end. Defaults to the client's. 0
                does not wait: items that still fail after their retries are reported as failed.
            state: A local folder that records finished items; pass the same one each time. Required for a URL. A local
                destination uses its ``.cfplatform`` by default.
            prune: Remove the files of items that are no longer listed, except files that were changed locally. These
                items are looked up again first, and if the platform lists no items at all, nothing is removed. Cannot
                be used with ``limit`` or filters; ``status`` must be "COMPLETED" or ``None``.
            dry_run: Fetch and remove nothing; the summary shows what a run would do.
            limit: Maximum number of work items, in the order of the listing. Cannot be used with ``prune``.
            filters: Those of :meth:`get_work_items`. ``status`` defaults to "COMPLETED".

        Returns:
            The summary of the run. Check ``failed``, or call ``raise_for_failures()``.

        Raises:
            DestinationBusyError: If another process is downloading to the destination.
            AuthenticationError: If the API key is rejected.
            OutageError: If an outage lasts longer than ``patience``.
            DestinationError: If the folder or store is full, not writable, not reachable, or was replaced during the
                run. It is also an ``OSError``.
            DownloadError: If the processes of the executor ended unexpectedly.

        Example:
            >>> summary = client.download_project(destination="labels")
            >>> summary.total_items, summary.failed
            (20, 0)
        """
        params.check_names("download_project", filters, params.FILTER_NAMES)
        filters.setdefault("status", WorkItemStatus.COMPLETED)
        chosen = params.selection(filters)
        limit = params.limit(limit, max_items)
        is_whole = limit is None and chosen.keep is None and chosen.queries() in ([[]], [[("status", "COMPLETED")]])
        if params.flag("prune", prune) and not is_whole:
            raise InvalidParameterError(
                "prune cannot be used with filters or a limit: items that were not listed would be removed.",
                parameter="prune",
            )
        project = self._project(project_id)
        options: DownloadOptions = {
            "space_id": self._space(space_id),
            "max_workers": max_workers,
            "overwrite": overwrite,
            "assets": assets,
            "inject_asset_url": inject_asset_url,
            "progress": progress,
            "executor": executor,
            "patience": patience,
            "state": state,
        }
        downloader, reporter = self._downloader("download_project", destination, options, dry_run=dry_run)
        # A batch may have been renamed since an earlier call.
        self._batch_names.pop(project, None)
        needed = limit if chosen.keep is None else None
        size = params.page_size(params.MAX_PAGE_SIZE, needed)
        pages = self._item_pages(project, chosen, page_size=size, limit=needed, run=downloader.run)
        # The total in a page is for one listing, without the local filter.
        is_part = chosen.keep is not None or len(chosen.queries(chosen.batch_names or ())) > 1
        announced = _announce(pages, reporter, is_part=is_part, limit=limit)
        listed = pagination.fresh(announced, limit=limit, keep=chosen.keep)
        items = ([WorkItem(data, self, project) for data in found] for found in listed)

        def still_listed(ids: list[str]) -> set[str]:
            again = params.selection({"work_item_ids": ids, "status": chosen.statuses})
            found = self._item_pages(project, again, prefetch=False, run=downloader.run)
            return {str(item["id"]) for item in pagination.items(found)}

        with downloader:
            return downloader.summarise(
                items, whole_project=project if is_whole else None, prune=still_listed if prune else None
            )

    def download_work_items(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[DownloadOptions]
    ) -> DownloadSummary:
        """Download the COCO documents of given work items, like :meth:`download_project`.

        Args:
            items: Any iterable of work items, read lazily; they may belong to several projects.
            destination: The folder or URL, as for :meth:`download_project`.
            options: Those of :meth:`download_project`: :class:`~cfplatform.DownloadOptions`.

        Example:
            >>> few = client.get_work_items(limit=5)
            >>> client.download_work_items(few, "labels").total_items
            5
        """
        pages, count = _in_pages(items)
        downloader, reporter = self._downloader("download_work_items", destination, options)
        with downloader:
            reporter.start(count)
            return downloader.summarise(pages)

    def iter_downloads(
        self, items: Iterable[WorkItem], destination: PathLike, **options: Unpack[DownloadOptions]
    ) -> Iterator[DownloadResult]:
        """Download like :meth:`download_work_items`, and yield each result as soon as the item is finished.

        Closing the generator, or leaving the loop, cancels running downloads.

        Example:
            >>> for result in client.iter_downloads(client.get_work_items(limit=2), "labels"):
            ...     print(result.outcome)
            downloaded
            downloaded
        """
        pages, count = _in_pages(items)
        return _results(*self._downloader("iter_downloads", destination, options), pages, count)

    def _download_asset(self, item: WorkItem, destination: PathLike, overwrite: bool) -> DownloadResult:
        options: DownloadOptions = {"overwrite": overwrite, "assets": True, "patience": 0.0}
        return next(_results(*self._downloader("download_asset", destination, options, documents=False), [[item]], 1))

    def _load_bytes(self, item: WorkItem) -> bytes:
        from .transfer.loading import document_bytes

        return document_bytes(self._calls, item, self._space_id)

    def _load_asset(self, item: WorkItem, stream: bool) -> bytes | BinaryIO:
        from .transfer import loading

        load = loading.asset_file if params.flag("stream", stream) else loading.asset_bytes
        return load(self._calls, item, self._space_id)

    def _plot(self, item: WorkItem, options: DrawOptions) -> Image:
        import tempfile

        from . import viz

        document = item.load()
        if item.asset_url is None or item.asset_type not in (None, "image"):
            return viz.draw(document, **options)
        with tempfile.TemporaryDirectory(prefix="cfplatform-") as folder:
            return viz.draw(document, item.download_asset(folder), **options)

    def _downloader(
        self,
        function: str,
        destination: PathLike,
        options: DownloadOptions,
        *,
        documents: bool = True,
        dry_run: bool = False,
    ) -> tuple[downloads.Downloader, _progress.ProgressReporter]:
        from . import progress
        from .destination import remote
        from .resources.results import DownloadOptions
        from .transfer import downloads, processes

        params.check_names(function, options, [*DownloadOptions.__annotations__])
        if not documents:
            remote.refuse_url(destination, "download_work_items([item], ..., assets=True)")
        self._calls.ensure_open()
        reporter = progress.reporter(options.get("progress"))
        checked: dict[str, Any] = {
            "workers": self._workers(options.get("max_workers")),
            "patience": self._run_patience(options.get("patience")),
            "overwrite": params.flag("overwrite", options.get("overwrite", False)),
            "assets": params.flag("assets", options.get("assets", False)),
            "inject_asset_url": params.flag("inject_asset_url", options.get("inject_asset_url", True)),
            "space_id": self._space(options.get("space_id")),
            "executor": processes.checked(options.get("executor")),
            "dry_run": params.flag("dry_run", dry_run),
            "documents": documents,
        }
        # Last, because it creates folders.
        opened = remote.open_destination(destination, options.get("state"))
        if checked["executor"] is not None and not opened.is_shared:
            raise InvalidParameterError(
                f"executor cannot be used with {opened.url}: it is in the memory of this process."
            )
        return downloads.Downloader(self._calls, opened, self._names, reporter, **checked), reporter

    # --- Uploading ------------------------------------------------------------------------------------------------

    def upload_file(
        self,
        file: File,
        space_id: Id | None = None,
        *,
        content_type: str | None = None,
        progress: _progress.Progress = None,
    ) -> UploadedFile:
        """Upload one file to the storage of a space.

        The file is streamed. After a transient error it is sent again from the start; an expired or refused upload URL
        is replaced, up to 3 times. If the file changes during the upload, nothing is stored. The API key is not sent to
        the storage.

        Args:
            file: A path, or a seekable binary file object, which is read from its current position; the position is
                then restored. Empty files are refused.
            space_id: The space. Defaults to the client's.
            content_type: The media type, such as "image/png". Defaults to the type for the file extension, then
                "application/octet-stream".
            progress: As for :meth:`download_project`. It counts files, not bytes.

        Returns:
            The uploaded file. Pass its ``path``, which the platform chooses, as ``asset_url`` of a work item.

        Raises:
            ConfigurationError: If no space is set.
            InvalidParameterError: If the file object is in text mode or not seekable, or the content type is not valid.
            UploadError: If the file is missing, not readable or empty, or changes during the upload.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> uploaded.size, uploaded.content_type
            (3, 'image/png')
        """
        results = self.upload_files(
            [file], space_id, content_type=content_type, max_workers=1, patience=0, progress=progress
        )
        with contextlib.closing(results):
            result = next(results)
        if result.uploaded is None:
            raise result.error or AssertionError
        return result.uploaded

    def upload_files(
        self,
        files: Iterable[File],
        space_id: Id | None = None,
        *,
        content_type: str | None = None,
        max_workers: int | None = None,
        patience: float | None = None,
        progress: _progress.Progress = None,
    ) -> Generator[UploadResult, None, None]:
        """Upload many files concurrently, and yield each result as soon as the file is finished.

        Files are sent as in :meth:`upload_file`. ``files`` is read lazily, with bounded prefetch, and upload URLs are
        requested 10 at a time (the platform's limit). A file that fails does not stop the others. Closing the
        generator, or leaving the loop, cancels running uploads.

        Args:
            files: An iterable of paths and binary file objects. A file that is given twice is stored twice. File
                objects must stay open until their result is yielded.
            space_id: The space. Defaults to the client's.
            content_type: The media type of all files. Defaults to the type for each file extension.
            max_workers: Maximum number of threads, 1 to 256. Defaults to the client's.
            patience: As for :meth:`download_project`.
            progress: As for :meth:`upload_file`.

        Yields:
            A result for each file, with either ``uploaded`` or ``error`` set.

        Raises:
            AuthenticationError: While iterating: if the API key is rejected. Earlier results are yielded first.
            OutageError: While iterating: if an outage lasts longer than ``patience``.

        Example:
            >>> import io
            >>> files = [io.BytesIO(b"first"), io.BytesIO(b"second"), "missing.png"]
            >>> sorted(result.uploaded.size if result.ok else 0 for result in client.upload_files(files))
            [0, 5, 6]
        """
        from .progress import reporter
        from .transfer import uploads

        checked = uploads.check_files(files)
        self._calls.ensure_open()
        uploader: uploads.Uploader[uploads.Job] = uploads.Uploader(
            self._calls,
            _required("space_id", self._space(space_id)),
            content_type=uploads.check_content_type(content_type),
            workers=self._workers(max_workers),
            patience=self._run_patience(patience),
            reporter=reporter(progress),
        )
        total = len(files) if isinstance(files, Sized) else None
        return uploader.run(map(uploads.Job, checked), total, uploads.upload_result)

    # --- Exports --------------------------------------------------------------------------------------------------

    def get_exports(
        self,
        space_id: Id | None = None,
        *,
        format: str | None = None,
        limit: int | None = None,
        max_items: int | None = None,
    ) -> Iterator[Export]:
        """Iterate over the exports of a space, newest first; lazily, like :meth:`get_work_items`.

        Args:
            format: Only exports in this format: "COCO_JSON", "JSON" or "CSV".
            limit: Maximum number of exports.

        Example:
            >>> [export.name for export in client.get_exports(sandbox.space_id, limit=3)]
            []
        """
        return self._exports(space_id).listed(format, params.limit(limit, max_items))

    def get_export(self, export_id: Id, space_id: Id | None = None) -> Export:
        """Fetch one export, with its status.

        Raises:
            NotFoundError: If the space has no such export.

        Example:
            >>> export = client.create_export("reviewed", sandbox.space_id)
            >>> client.get_export(export.id, sandbox.space_id).name
            'reviewed'
        """
        return self._exports(space_id).get(params.object_id("export_id", export_id))

    def create_export(
        self,
        name: str,
        space_id: Id | None = None,
        *,
        format: str = ExportFormat.COCO_JSON,
        content: str | None = None,
        project_ids: Iterable[Id] | None = None,
        batch_ids: Iterable[int] | None = None,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        updated_at_from: DatetimeLike | None = None,
        updated_at_to: DatetimeLike | None = None,
        wait_for_running: bool = False,
        timeout: float = params.WAIT_TIMEOUT,
    ) -> Export:
        """Create an export. A space runs one export at a time.

        Export creation is never retried blindly. If the response is lost (a broken connection or a 5xx), the exports of
        the space are listed, and the request is sent again once if there is no new export with this name.

        Args:
            name: The name. It need not be unique.
            space_id: The space. Defaults to the client's.
            format: "COCO_JSON", "JSON" or "CSV".
            content: "ANNOTATION" (the default), "INFERENCE" or "ASSET_METADATA". Only "ANNOTATION" is available as
                COCO_JSON.
            project_ids: Only these projects, 1 to 50 (the platform's limit). Defaults to all projects of the space.
            batch_ids: Only these batches, 1 to 100 (the platform's limit).
            created_at_from, created_at_to: Only work items created in this range; times as for :meth:`get_work_items`.
            updated_at_from, updated_at_to: Only work items changed in this range.
            wait_for_running: If another export is running, wait for it first.
            timeout: Maximum seconds to wait for it.

        Raises:
            InvalidParameterError: Before any request: if the platform would refuse the arguments, or if a list is
                empty, which the platform would treat as no filter.
            ConflictError: If another export is running; the message shows it.

        Example:
            >>> export = client.create_export("of one batch", sandbox.space_id, batch_ids=[1001])
            >>> client.wait_for_export(export.id, sandbox.space_id).status
            'COMPLETED'
        """
        from .transfer import exports

        body = exports.request_body(
            name,
            format=format,
            content=content,
            project_ids=project_ids,
            batch_ids=batch_ids,
            dates={
                "created_at_from": created_at_from,
                "created_at_to": created_at_to,
                "updated_at_from": updated_at_from,
                "updated_at_to": updated_at_to,
            },
        )
        params.flag("wait_for_running", wait_for_running)
        return self._exports(space_id).create(body, wait_for_running=wait_for_running, timeout=timeout)

    def wait_for_export(self, export_id: Id, space_id: Id | None = None, **options: Unpack[WaitOptions]) -> Export:
        """Wait until an export is completed, and return it.

        The status is polled immediately, again after a second, and then at growing intervals. Transient errors do not
        end the wait.

        Args:
            export_id: The export.
            space_id: The space. Defaults to the client's.
            options: ``timeout``: maximum seconds to wait (default 3600). ``poll_interval``: maximum seconds between two
                polls, at least 0.1 (default 5). ``progress``: as for :meth:`download_project`; each poll calls
                ``advance`` with the status.

        Raises:
            ExportFailedError: If the platform could not create the export; the message includes the reason.
            ExportTimeoutError: If it took too long; ``export`` has the latest status. Call this again to keep waiting.

        Example:
            >>> export = client.create_export("waited for", sandbox.space_id)
            >>> client.wait_for_export(export.id, sandbox.space_id, timeout=600).status
            'COMPLETED'
        """
        from .resources.results import WaitOptions

        params.check_names("wait_for_export", options, [*WaitOptions.__annotations__])
        return self._exports(space_id).wait(params.object_id("export_id", export_id), options)

    def download_export(
        self,
        export_id: Id,
        destination: PathLike,
        space_id: Id | None = None,
        **options: Unpack[ExportDownloadOptions],
    ) -> Path:
        """Download the archive of an export, and optionally extract it.

        The archive is written atomically to ``<destination>/<name> <export id>.zip`` once the checksum of every member
        is verified. An interrupted download resumes, in this run or a later one, if the storage confirms that the
        object is unchanged; an expired URL is renewed. An existing archive is not downloaded again.

        Args:
            export_id: The export.
            destination: The folder, created if it does not exist. Incomplete files are in its hidden folder
                ``.cfplatform``.
            space_id: The space. Defaults to the client's.
            options: ``wait``: ``False`` to raise if the export is not completed yet. ``timeout`` and ``poll_interval``:
                as for :meth:`wait_for_export`. ``extract``: extract into the folder ``<name> <export id>``, which is
                written atomically, and delete the archive. ``overwrite``: download an existing archive again; a folder
                is never replaced. ``progress``: as for :meth:`download_project`, in bytes.

        Returns:
            The absolute path of the archive or folder.

        Raises:
            UnsafePathError: If a name in the archive points outside the folder; nothing is extracted.
            IncompleteDownloadError: If the archive is damaged.
            DownloadError: If the archive cannot be saved.

        Example:
            >>> export = client.create_export("to unpack", sandbox.space_id)
            >>> folder = client.download_export(export.id, "archives", sandbox.space_id, extract=True)
            >>> len(list(folder.glob("*/*.json")))
            20
        """
        from .resources.results import ExportDownloadOptions

        params.check_names("download_export", options, [*ExportDownloadOptions.__annotations__])
        for name in ("wait", "extract", "overwrite"):
            params.flag(name, options.get(name, False))
        return self._exports(space_id).download(params.object_id("export_id", export_id), destination, options)

    def delete_export(self, export_id: Id, space_id: Id | None = None) -> None:
        """Delete an export and its archive, whatever its status.

        Raises:
            NotFoundError: If the space has no such export.

        Example:
            >>> export = client.create_export("done with", sandbox.space_id)
            >>> client.delete_export(export.id, sandbox.space_id)
        """
        self._exports(space_id).delete(params.object_id("export_id", export_id))

    def _iter_members(
        self, export: Export, pattern: str, destination: str | os.PathLike[str] | None
    ) -> Iterator[ArchiveMember]:
        return self._exports(export.space_id).iter_members(export.id, pattern, destination)

    def _exports(self, space_id: Id | None) -> exports.Exports:
        from .transfer import exports

        space = _required("space_id", self._space(space_id))
        return exports.Exports(self._calls, space, lambda data: Export(data, self, space), self._patience)

    # --- Creating -------------------------------------------------------------------------------------------------

    def create_work_item(
        self,
        asset_url: File | UploadedFile,
        project_id: Id | None = None,
        *,
        asset_type: str | None = None,
        batch_id: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        upload: bool = False,
    ) -> WorkItem:
        """Create a work item: one asset to annotate.

        Provisional: CloudFactory does not document this call. It is assumed to be a POST to the path of the listing;
        the error says so if the platform does not support it.

        The item is never created twice. If the response is lost (a broken connection or a 5xx), the newly created items
        are listed, and the request is sent again once if none of them has this asset. If you use a URL for several
        items, distinguish them with an ``externalId`` in the metadata.

        Args:
            asset_url: The result of :meth:`upload_file`, its ``path``, or a URL that the platform can read.
            project_id: The project. Defaults to the client's.
            asset_type: Such as "image" or "video". Chosen by the platform if omitted.
            batch_id: The batch. Without one, the item is in no batch.
            metadata: JSON-serializable metadata, up to 100 levels deep (our limit). ``callbackUrl`` is the URL for
                webhooks about this item.
            upload: Set to ``True`` if ``asset_url`` is a local path or binary file object; it is first uploaded to the
                client's space.

        Raises:
            NotFoundError: If the project, the batch or the call itself does not exist.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> item = client.create_work_item(uploaded, batch_id=1002, metadata={"source": "camera 7"})
            >>> item.asset_url == uploaded.path, item.metadata
            (True, {'source': 'camera 7'})
        """
        from .resources.results import UploadedFile

        is_stored = isinstance(asset_url, UploadedFile) or (isinstance(asset_url, str) and "://" in asset_url)
        given: object = asset_url.path if isinstance(asset_url, UploadedFile) else asset_url
        if params.flag("upload", upload) and is_stored:
            raise InvalidParameterError(f"upload: {shown(given)} is not a local file.", parameter="upload")
        if not upload:
            if not is_stored and isinstance(given, (str, os.PathLike)) and os.path.isfile(given):
                raise InvalidParameterError(
                    f"asset_url: {shown(os.fspath(given))} is a local file. Pass upload=True to upload it, or pass the "
                    "result of upload_file().",
                    parameter="asset_url",
                )
            given = params.text("asset_url", given)
        body = _item_fields(asset_type)
        batch = None if batch_id is None else int(params.batch_id("batch_id", batch_id))
        if metadata is not None:
            body["metadata"] = params.metadata(metadata)
        items = self._items(self._project(project_id), batch)
        if upload:
            given = self.upload_file(cast("File", asset_url)).path
        item, _ = items.create({"assetUrl": given, **body})
        return item

    def create_work_items(
        self,
        assets: Iterable[File | UploadedFile],
        project_id: Id | None = None,
        *,
        batch: Batch | int | str | None = None,
        space_id: Id | None = None,
        asset_type: str | None = None,
        metadata: Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None] | None = None,
        content_type: str | None = None,
        journal: PathLike | None = None,
        max_workers: int | None = None,
        patience: float | None = None,
        progress: _progress.Progress = None,
    ) -> Generator[CreateResult, None, None]:
        """Create a work item for each of many files or URLs, and yield each result as soon as it is finished.

        Files are uploaded as in :meth:`upload_files` while items are created as in :meth:`create_work_item`. An asset
        that fails does not stop the others. Closing the generator, or leaving the loop, cancels running requests.

        Args:
            assets: An iterable of local files, URLs and :class:`~cfplatform.UploadedFile` objects, read lazily. A
                string with ``://`` is a URL, any other string a path. An asset that is given twice becomes two items.
            project_id: The project. Defaults to the client's.
            batch: A batch, its ID or its name. A batch with this name is created if it does not exist.
            space_id: The space for uploads. Defaults to the client's.
            asset_type: Such as "image" or "video". Chosen by the platform if omitted.
            metadata: The metadata of every item, or a function that returns the metadata for an asset.
            content_type: The media type of all files. Defaults to the type for each file extension.
            journal: The path of a file that records finished items. The same call with the same journal resumes after a
                crash, even after ``kill -9``: nothing is uploaded or created twice, and finished items are yielded
                without any request. A changed file is a new asset. The journal contains no URLs and no metadata, and
                only one run at a time can use it. Delete it to create the same items again.
            max_workers: Maximum number of threads, 1 to 256. Defaults to the client's.
            patience: As for :meth:`download_project`.
            progress: As for :meth:`download_project`. It counts assets.

        Yields:
            A :class:`~cfplatform.CreateResult` for each asset, with either ``item`` or ``error`` set. Earlier results
            are yielded before an error is raised.

        Raises:
            NotFoundError: While iterating: if the project, the batch or the call itself does not exist.
            AuthenticationError: While iterating: if the API key is rejected.
            OutageError: While iterating: if an outage lasts longer than ``patience``.
            InvalidParameterError: While iterating: if the journal is in use or not a valid journal.

        Example:
            >>> import io
            >>> assets = [io.BytesIO(b"first"), io.BytesIO(b"second"), "https://example.com/a.jpg", "missing.png"]
            >>> results = list(client.create_work_items(assets, batch="Spring", metadata={"source": "camera 7"}))
            >>> sorted(result.ok for result in results), client.get_batch(name="Spring").total_count
            ([False, True, True, True], 3)
        """
        from .progress import reporter
        from .resources.results import UploadedFile
        from .transfer import creating, uploads

        if isinstance(assets, UploadedFile):
            raise InvalidParameterError(
                "assets must be an iterable. For a single asset, use create_work_item().", parameter="assets"
            )
        checked = uploads.check_files(assets, "assets", "create_work_item()")
        if journal is not None and not isinstance(journal, (str, os.PathLike)):
            raise InvalidParameterError(f"journal must be a path, not {type(journal).__name__}.", parameter="journal")
        project = self._project(project_id)
        given = batch.id if isinstance(batch, Batch) else batch
        known: str | int | None = params.text("batch", given) if isinstance(given, str) else None
        if given is not None and known is None:
            known = int(params.batch_id("batch", given))
        self._calls.ensure_open()

        def begin(run: Run) -> creating.Items:
            if isinstance(known, str):
                return self._items(project, self._create_batch(known, project, True, run).id, run)
            return self._items(project, known, run)

        creator = creating.Creator(
            self._calls,
            self._space(space_id),
            content_type=uploads.check_content_type(content_type),
            workers=self._workers(max_workers),
            patience=self._run_patience(patience),
            reporter=reporter(progress),
            check_space=lambda: _required("space_id", self._space(space_id)),
            begin=begin,
            make=lambda fields: WorkItem({"projectId": project, **fields}, self, project),
            scope=(self.base_url, project, known),
            fields=_item_fields(asset_type),
            metadata=metadata if callable(metadata) or metadata is None else params.metadata(metadata),
        )
        return creator.create(checked, len(assets) if isinstance(assets, Sized) else None, journal)

    def _items(self, project: str, batch_id: int | None, run: Run = SINGLE) -> creating.Items:
        from .transfer import creating, once

        def post(body: dict[str, Any]) -> WorkItem:
            with once.adding(_NO_SUCH_CALL, 404, 405):
                response = self._calls.post_json(_work_items(project), body, run=run)
            return WorkItem(once.created(response, "work item"), self, project)

        def listed(since: datetime) -> Iterator[WorkItem]:
            chosen = params.selection({"created_at_from": since, "batch_ids": None if batch_id is None else [batch_id]})
            return self._resources(WorkItem, self._item_pages(project, chosen, prefetch=False, run=run), project)

        # A run waits for an outage to end, and may lose several responses in it.
        return creating.Items(post, listed, batch_id, http.DEFAULT_RETRIES if run.patience else 1)

    def create_batch(self, name: str, project_id: Id | None = None, *, exist_ok: bool = False) -> Batch:
        """Create a batch.

        If the response is lost (a broken connection or a 5xx), batches are listed, and the request is sent again once
        if there is no new batch with this name.

        Args:
            name: The name, unique in the project. It must not be blank or contain control characters. Surrounding
                whitespace is removed.
            project_id: The project. Defaults to the client's.
            exist_ok: Return the existing batch with this name, if there is one.

        Raises:
            ConflictError: If the project already has a batch with this name.

        Example:
            >>> spring = client.create_batch("Spring")
            >>> spring.name, client.create_batch("Spring", exist_ok=True) == spring
            ('Spring', True)
        """
        text = params.text("name", name)
        return self._create_batch(text, self._project(project_id), params.flag("exist_ok", exist_ok))

    def _create_batch(self, name: str, project: str, exist_ok: bool, run: Run = SINGLE) -> Batch:
        from .transfer import once

        path = http.path("projects", project, "batches")
        since = once.earliest()

        def post() -> Batch:
            with once.adding(f"The name {shown(name)} is taken.", 409, **_TAKEN):
                return Batch(once.created(self._calls.post_json(path, {"name": name}, run=run), "batch"), self, project)

        def find(only_new: bool = True) -> Batch | None:
            batches = self._resources(Batch, self._pages(path, [[]], prefetch=False, run=run), project)
            named = (batch for batch in batches if batch.name == name)
            return next((batch for batch in named if not only_new or (batch.created_at or since) >= since), None)

        try:
            return once.Once(post, find).send()
        except ConflictError:
            if exist_ok and (found := find(only_new=False)) is not None:
                return found
            raise
        finally:
            self._batch_names.pop(project, None)

    def update_batch(self, batch_id: int, project_id: Id | None = None, *, name: str) -> Batch:
        """Rename a batch. The rules for names are those of :meth:`create_batch`.

        The next download moves downloaded files to a folder with the new name.

        Raises:
            ConflictError: If another batch of the project has this name.
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.update_batch(1001, name="Spring, checked").name
            'Spring, checked'
        """
        from .transfer import once

        wanted = params.batch_id("batch_id", batch_id)
        text = params.text("name", name)
        project = self._project(project_id)
        path = http.path("projects", project, "batches", wanted)
        with once.adding(f"The name {shown(text)} is taken.", 409, **_TAKEN):
            response = self._calls.request("PATCH", path, json={"name": text})
        self._batch_names.pop(project, None)
        data = None
        with contextlib.suppress(ValueError, RecursionError):
            data = response.json()
        # The response is not documented.
        if isinstance(data, dict) and str(data.get("id")) == wanted:
            return Batch(data, self, project)
        batch = self.get_batch(int(wanted), project)
        if batch.name != text:
            raise InvalidResponseError(f"The platform accepted a new name for batch {wanted}, but did not keep it.")
        return batch


def _default_id(name: str, value: Id | None) -> str | None:
    given = config.default_id(None, f"CF_{name.upper()}") if value is None else value
    return None if given is None else params.object_id(name, given)


def _required(name: str, value: str | None) -> str:
    if value is None:
        hint = f"Pass {name}=... to the call or to Client, or set CF_{name.upper()}."
        raise ConfigurationError(f"No {name.removesuffix('_id')}.", parameter=name, hint=hint)
    return value


def _work_items(project_id: str) -> str:
    return http.path("projects", project_id, "workItems")


def _no_batch(project_id: str, missing: Sequence[str], names: Sequence[str]) -> NotFoundError:
    """Return the error for unknown batch names, with suggestions."""
    import difflib

    sentences = [f"Project {project_id} has no batch named {' or '.join(map(shown, missing))}."]
    near = {close: None for name in missing for close in difflib.get_close_matches(str(name), names)}
    if near:
        sentences.append(f"Did you mean {' or '.join(map(shown, near))}?")
    if len(names) <= _FEW:
        sentences.append(f"Its batches are {', '.join(map(shown, names))}." if names else "It has no batches.")
    return NotFoundError(" ".join(sentences))


def _created_within(first: datetime | None, last: datetime | None) -> pagination.Keep | None:
    """Return a filter for batches created in a range; ``None`` if there is no range."""

    def keep(data: dict[str, Any]) -> bool:
        created = Batch(data).created_at
        if created is None:
            return False
        created = created if created.tzinfo else created.replace(tzinfo=timezone.utc)
        return (first is None or first <= created) and (last is None or created <= last)

    return None if first is None and last is None else keep


def _item_fields(asset_type: str | None) -> dict[str, Any]:
    return {} if asset_type is None else {"assetType": params.text("asset_type", asset_type)}


def _checked_items(items: Iterable[WorkItem]) -> Iterable[WorkItem]:
    if isinstance(items, (str, bytes, Mapping, WorkItem)) or not isinstance(items, Iterable):
        raise InvalidParameterError(
            f"items must be an iterable of WorkItem objects, not {type(items).__name__}.", parameter="items"
        )
    return items


def _in_pages(items: Iterable[WorkItem]) -> tuple[Iterable[Sequence[WorkItem]], int | None]:
    """Split a collection into pages, and return its length; yield the items of other iterables one by one."""
    if not isinstance(_checked_items(items), (list, tuple, set, frozenset)):
        return ([item] for item in items), None
    found = list(items)
    starts = range(0, len(found), params.MAX_PAGE_SIZE)
    return (found[start : start + params.MAX_PAGE_SIZE] for start in starts), len(found)


def _announce(
    pages: Iterator[dict[str, Any]], reporter: _progress.ProgressReporter, *, is_part: bool, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Yield the pages, and start the reporter with the total of the first one."""
    first = next(pages, None)
    total = 0 if first is None else None if is_part else pagination.total(first)
    reporter.start(total if total is None or limit is None else min(total, limit))
    if first is not None:
        yield first
        yield from pages


def _results(
    downloader: downloads.Downloader,
    reporter: _progress.ProgressReporter,
    pages: Iterable[Sequence[WorkItem]],
    count: int | None,
) -> Iterator[DownloadResult]:
    with downloader:
        reporter.start(count)
        try:
            with contextlib.closing(downloader.results(pages)) as results:
                for _, result in results:
                    reporter.advance(result.outcome, result.written or result.size)
                    yield result
        finally:
            reporter.finish()
