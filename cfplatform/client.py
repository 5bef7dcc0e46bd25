"""The client: short methods with long docstrings, each a call into the module that does the work."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

from . import config, http, params
from .exceptions import (
    APIError,
    CFPlatformError,
    ConfigurationError,
    ConflictError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    shown,
)
from .http import SINGLE, Run, Transport
from .http.background import Background
from .params import DatetimeLike, Query, WorkItemFilters
from .resources import Annotation, Batch, Export, ExportFormat, Resource, WorkItem, WorkItemStatus
from .transfer import pagination

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

    import requests
    import urllib3
    from PIL.Image import Image
    from typing_extensions import Self, Unpack

    from . import progress as _progress
    from .archives import ArchiveMember
    from .transfer import downloads, exports, processes, uploads
    from .transfer.results import DownloadResult, DownloadSummary, UploadedFile, UploadResult
    from .transfer.upload_sources import File
    from .viz import DrawOptions

#: The id of a project, space or work item.
Id: TypeAlias = Union[str, "uuid.UUID"]  # noqa: UP007 - with "|" it would need the module, which few scripts use
#: A path on this machine.
PathLike = str | os.PathLike[str]
R = TypeVar("R", bound=Resource)
#: Levels of metadata, at the most (our limit): more than anybody means, and few enough for every JSON parser.
MAX_METADATA_DEPTH = 100


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
        retries: Repeats of a request after a transient error (429, 5xx, a broken connection), or a ``urllib3.Retry``;
            5 if omitted, 0 turns them off.
        patience: Seconds that a run (a download, a stream, an upload of many files) waits for an outage to end, 600 if
            omitted; 0 waits for none. Each run may have a number of its own. A single call fails after its retries.
        max_workers: Threads of a run, at the most, 1 to 256; also the size of the connection pools.
        session: A ``requests.Session`` of your own for API calls. It keeps its auth, headers, params, cookies, hooks
            and adapters; the key comes beside them, to the base URL only. Nothing is mounted on it. Storage never sees
            it.
        headers: Further headers of API calls, such as ``{"X-Team": "vision"}``.
        proxies: Proxies by scheme, as in requests; else the usual environment variables.
        verify: ``False``, or the path of a file with certificate authorities; else ``REQUESTS_CA_BUNDLE``.
        cert: A client certificate, as in requests.
        user_agent: Text put in front of the ``User-Agent`` header, such as ``"my-tool/1.2"``.
        allow_insecure_http: Accept an ``http://`` base URL on another machine, which sends the key in clear text.
        allow_private_storage: Fetch assets and signed URLs also from addresses of private networks, for a storage of
            your own; else ``CF_ALLOW_PRIVATE_STORAGE``. A base URL that is a private address allows it too.

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
        # Over the argument, so that no frame of an error shows it.
        api_key = config.Secret(api_key) if isinstance(api_key, str) else api_key
        api_key = config.api_key(api_key)
        self._project_id = _default_id("project_id", project_id, "CF_PROJECT_ID")
        self._space_id = _default_id("space_id", space_id, "CF_SPACE_ID")
        self._max_workers = config.max_workers(max_workers)
        self._patience = config.patience(patience)
        self._batch_names: dict[str, dict[str, str]] = {}
        self._calls = Transport(
            api_key=api_key,
            base_url=config.base_url(base_url, allow_insecure_http=allow_insecure_http),
            timeout=config.timeout(timeout),
            retries=None if retries is None else http.checked_retries(retries),
            pool_size=self._max_workers,
            session=session,
            headers=headers,
            proxies=proxies,
            verify=verify,
            cert=cert,
            user_agent=user_agent,
            allow_private_storage=config.flag(allow_private_storage, "CF_ALLOW_PRIVATE_STORAGE"),
        )

    def __repr__(self) -> str:
        # Tools that show the frames of an error may ask for it before it is built.
        calls = getattr(self, "_calls", None)
        return f"<Client base_url={calls and calls.base_url!r} project_id={getattr(self, '_project_id', None)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def session(self) -> requests.Session:
        """The ``requests.Session`` that sends the API's requests: your own, else the client's.

        What is hooked into it (``session.hooks``, ``session.headers``, an adapter that is mounted) applies to every
        call from then on. The storage has a session of its own, which never gets the key.

        Example:
            >>> client.session.hooks["response"].append(lambda response, **_: print(response.status_code))
            >>> client.get_work_items_count()
            200
            20
        """
        return self._calls.session

    def close(self) -> None:
        """Close all connections; closing again does nothing.

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
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
    ) -> requests.Response:
        """Send any request to the API, with the key, retries and error mapping of every other call.

        GET and HEAD are repeated after transient errors; other methods are not, because the server may have acted.

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
        return pagination.iterate_pages(functools.partial(self._calls.get_json, path), query)

    # --- Helpers -------------------------------------------------------------------------------------------

    def _pages(
        self,
        path: str,
        queries: list[Query],
        page_size: int,
        cursor: str | None = None,
        *,
        prefetch: bool = True,
        limit: int | None = None,
        run: Run = SINGLE,
    ) -> Iterator[dict[str, Any]]:
        if cursor is not None and len(queries) > 1:
            raise InvalidParameterError(
                "cursor cannot be used with more than 100 ids: they need several listings.", parameter="cursor"
            )

        fetch = functools.partial(self._calls.get_json, path, run=run, is_essential=True)

        def begin(query: Query) -> Background[Any]:
            # Once: the page is asked for again when it is needed, if this fails.
            page = _Prefetch.start(
                lambda stop: self._calls.get_json(path, query, run=Run(stop=stop), repeats=False), "prefetch"
            )
            page.check = self._calls.ensure_open
            return page

        listings = [[*query, ("limit", str(page_size))] for query in queries]
        ahead = begin if prefetch else None
        if len(listings) == 1:
            return pagination.iterate_pages(fetch, listings[0], cursor=cursor, restart=True, begin=ahead, limit=limit)
        return pagination.iterate_queries(fetch, listings, cursor=cursor, begin=ahead, limit=limit)

    def _project(self, project_id: Id | None) -> str:
        if project_id is not None:
            return params.object_id("project_id", project_id)
        if self._project_id is None:
            raise ConfigurationError(
                "No project.",
                parameter="project_id",
                hint="Pass project_id=... to the call or to Client, or set CF_PROJECT_ID.",
            )
        return self._project_id

    def _space(self, space_id: Id | None) -> str | None:
        return self._space_id if space_id is None else params.object_id("space_id", space_id)

    def _required_space(self, space_id: Id | None) -> str:
        space = self._space(space_id)
        if space is None:
            raise ConfigurationError(
                "No space.",
                parameter="space_id",
                hint="Pass space_id=... to the call or to Client, or set CF_SPACE_ID.",
            )
        return space

    def _run_patience(self, patience: float | None) -> float:
        """Return how long a run waits for an outage to end: what the call says, else what the client says."""
        return self._patience if patience is None else config.patience(patience)

    def _workers(self, max_workers: int | None) -> int:
        """Return the workers of one call: not more than there are connections for."""
        if max_workers is None:
            return self._max_workers
        workers = config.max_workers(max_workers)
        if workers > self._max_workers:
            raise InvalidParameterError(
                f"max_workers={workers} is more than the client's {self._max_workers}; build the client with "
                f"max_workers={workers}.",
                parameter="max_workers",
            )
        return workers

    # --- Listing --------------------------------------------------------------------------------------------------

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
        prefetch: bool = True,
    ) -> Iterator[WorkItem]:
        """Iterate over the work items of a project.

        Pages are requested as the iterator is read, so the first item is there after one request and memory does
        not grow with the project. A reader who goes on for long, or past the first hundred ids, does not wait for each
        page: see ``prefetch``. The arguments are checked by the call itself, before any request.

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
            prefetch: Ask for pages while others are read: from the tenth page on the next one, and where more than
                100 ids need several listings, from the second on four at a time. ``False`` asks for each page when it
                is needed. Neither order nor errors differ, nor the number of requests of a listing that is read to
                its end.

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
            self._work_items_path(project),
            queries,
            _page_size(page_size, limit),
            params.cursor(cursor),
            prefetch=params.flag("prefetch", prefetch),
            limit=limit,
        )
        return self._resources(WorkItem, pages, project, limit=limit)

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
        self,
        project_id: Id | None = None,
        *,
        page_size: int = params.MAX_PAGE_SIZE,
        max_items: int | None = None,
        prefetch: bool = True,
    ) -> Iterator[Batch]:
        """Iterate over the batches of a project, with their counts; lazily, like :meth:`get_work_items`.

        Args:
            project_id: The project; else the client's.
            page_size: Batches per request, 1 to 100 (the platform's limit).
            max_items: Stop after so many.
            prefetch: As for :meth:`get_work_items`.

        Example:
            >>> for batch in client.get_batches(max_items=2):
            ...     print(batch.id, batch.total_count)
            1001 10
            1002 10
        """
        project = self._project(project_id)
        limit = params.max_items(max_items)
        path = http.path("projects", project, "batches")
        size = _page_size(page_size, limit)
        pages = self._pages(path, [[]], size, prefetch=params.flag("prefetch", prefetch), limit=limit)
        return self._resources(Batch, pages, project, limit=limit)

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
        from .transfer.steps import fetch_annotation

        wanted = params.object_id("work_item_id", work_item_id)
        annotation = fetch_annotation(self._calls, self._project(project_id), wanted)
        return Annotation(annotation.as_dict(), self, wanted)

    def _resources(
        self, kind: type[R], pages: Iterable[dict[str, Any]], project_id: str, *, limit: int | None = None
    ) -> Iterator[R]:
        """Yield what pages list as objects of a class."""
        # A page at a time: half the price of a generator that makes one after the other.
        for found in pagination.fresh(pages, limit=limit):
            yield from [kind(data, self, project_id) for data in found]

    def _resource_pages(self, kind: type[R], pages: Iterable[dict[str, Any]], project_id: str) -> Iterator[list[R]]:
        return ([kind(data, self, project_id) for data in found] for found in pagination.fresh(pages))

    def _work_items_path(self, project_id: str) -> str:
        return http.path("projects", project_id, "workItems")

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
        from .transfer import streaming

        params.check_names("iter_annotations", filters, params.FILTER_NAMES)
        workers = self._workers(max_workers)
        params.flag("ordered", ordered)
        waits = self._run_patience(patience)
        if items is None:
            filters.setdefault("status", WorkItemStatus.COMPLETED)
            items = self._items_of(project_id, filters, http.Run(waits))
        elif filters or project_id is not None:
            raise InvalidParameterError("Pass either items, or a project and filters, and not both.")
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
        executor: processes.Executor | None = None,
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
            max_workers: Threads; the client's number if omitted, and not more than it. Each is started when those
                before it wait for answers.
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
        from .transfer import downloads

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
        from .transfer import downloads

        params.check_names("iter_downloads", options, downloads.OPTION_NAMES)
        checked = _checked_items(items)
        downloader, reporter = self._downloader(destination, **options)

        return _results(downloader, checked, reporter)

    def _download_asset(self, item: WorkItem, destination: PathLike, overwrite: bool) -> DownloadResult:
        from .destination import places

        places.refuse_url(destination, "download_work_items([item], ..., assets=True)")
        downloader, reporter = self._downloader(
            destination, overwrite=overwrite, assets=True, documents=False, patience=0.0
        )
        return next(_results(downloader, [item], reporter))

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
        destination: PathLike,
        *,
        space_id: Id | None = None,
        max_workers: int | None = None,
        overwrite: bool = False,
        assets: bool = False,
        documents: bool = True,
        inject_asset_url: bool = True,
        progress: _progress.Progress = None,
        executor: processes.Executor | None = None,
        patience: float | None = None,
        state: PathLike | None = None,
    ) -> tuple[downloads.Downloader, _progress.ProgressReporter]:
        from . import progress as _progress
        from .destination import places
        from .transfer import downloads, processes

        self._calls.ensure_open()
        reporter = _progress.reporter(progress)
        checked: dict[str, Any] = {
            "workers": self._workers(max_workers),
            "patience": self._run_patience(patience),
            "overwrite": params.flag("overwrite", overwrite),
            "assets": params.flag("assets", assets),
            "inject_asset_url": params.flag("inject_asset_url", inject_asset_url),
            "space_id": self._space(space_id),
            "executor": processes.checked(executor),
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
        from .transfer import downloads

        if refresh or project_id not in self._batch_names:
            self._batch_names[project_id] = downloads.fetch_batch_names(self._calls, project_id, run)
        return self._batch_names[project_id]

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

        The file is sent in steps of 16 KiB, so memory does not grow with it. After a transient error it is sent again
        from its start; an address that has expired or is refused is replaced, up to 3 times. A file that changes while
        it is sent never becomes an object. The key does not go to the storage.

        Evidence: documented. The published reference describes the call for upload addresses and that a content type is
        mandatory; its method and path, and that the bytes are sent with PUT, are assumed.

        Args:
            file: A path, or a binary file object that can seek, which is sent from where it stands and left there. An
                empty file is refused: there is nothing to label in it.
            space_id: The space; else the client's.
            content_type: The media type, such as "image/png"; else told from the extension of the name, and
                "application/octet-stream" where that tells none.
            progress: ``True`` for a bar (extra ``progress``), a function of (done, total), or a
                :class:`~cfplatform.ProgressReporter`; files are counted, not bytes.

        Returns:
            The file in the storage. Its ``path``, chosen by the platform, is the ``asset_url`` of a work item.

        Raises:
            ConfigurationError: If no space is known.
            InvalidParameterError: If the file object is in text mode or cannot seek, or the content type is none.
            UploadError: If the file is not there, cannot be read, is empty, or changes while it is sent.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> uploaded.size, uploaded.content_type
            (3, 'image/png')
        """
        from . import progress as _progress

        uploader = self._uploader(space_id, content_type, 1, 0.0, _progress.reporter(progress))
        run = uploader.run([file], 1)
        with contextlib.closing(run):
            result = next(run)
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

        Each is sent as by :meth:`upload_file`. The files are read lazily, a bounded number ahead (twice the workers and
        10), and addresses are asked for 10 at a time (the platform's limit), never more than there are files. One
        that fails does not stop the others. While the platform or the storage is away, the run waits for up to
        ``patience``. Closing the generator, or leaving the loop, cancels what is under way.

        Evidence: documented, as :meth:`upload_file`.

        Args:
            files: Paths and binary file objects, in any iterable. The same may be given several times; each time
                makes an object of its own. A file object must stay open until its result is there.
            space_id: The space; else the client's.
            content_type: The media type of all files; else told from each name.
            max_workers: Files sent at the same time; the client's number if omitted, and not more than it.
            patience: Seconds that the run waits for an outage to end; the client's number if omitted.
            progress: As for :meth:`upload_file`.

        Yields:
            For each file a result, with either ``uploaded`` or ``error`` set.

        Raises:
            InvalidParameterError: If an argument is wrong; raised by the call itself.
            AuthenticationError: While iterating: if the key is refused. What was uploaded before is yielded first.
            OutageError: While iterating: if an outage lasts longer than ``patience``.

        Example:
            >>> import io
            >>> files = [io.BytesIO(b"first"), io.BytesIO(b"second"), "missing.png"]
            >>> sorted(result.uploaded.size if result.ok else 0 for result in client.upload_files(files))
            [0, 5, 6]
        """
        from . import progress as _progress
        from .transfer import upload_sources

        checked = upload_sources.check_files(files)
        workers = self._workers(max_workers)
        uploader = self._uploader(
            space_id, content_type, workers, self._run_patience(patience), _progress.reporter(progress)
        )
        return uploader.run(checked, len(files) if isinstance(files, Sized) else None)

    def _uploader(
        self,
        space_id: Id | None,
        content_type: str | None,
        workers: int,
        patience: float,
        reporter: _progress.ProgressReporter,
    ) -> uploads.Uploader:
        from .transfer import upload_sources, uploads

        self._calls.ensure_open()
        space = self._required_space(space_id)
        checked = upload_sources.check_content_type(content_type)
        return uploads.Uploader(
            self._calls, space, content_type=checked, workers=workers, patience=patience, reporter=reporter
        )

    # --- Exports --------------------------------------------------------------------------------------------------

    def get_exports(
        self, space_id: Id | None = None, *, format: str | None = None, max_items: int | None = None
    ) -> Iterator[Export]:
        """Iterate over the exports of a space, the newest first; lazily, like :meth:`get_work_items`.

        Args:
            space_id: The space; else the client's.
            format: Only exports in this format: "COCO_JSON", "JSON" or "CSV".
            max_items: Stop after so many.

        Example:
            >>> [export.name for export in client.get_exports(sandbox.space_id, max_items=3)]
            []
        """
        from .transfer import exports

        return self._exports(space_id).listed(exports.checked_format(format), params.max_items(max_items))

    def get_export(self, export_id: Id, space_id: Id | None = None) -> Export:
        """Fetch one export, with its status.

        Raises:
            NotFoundError: If the space has no such export.

        Example:
            >>> export = client.create_export("looked at", sandbox.space_id)
            >>> client.get_export(export.id, sandbox.space_id).name
            'looked at'
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
        """Ask the platform to make an export; it makes one at a time in a space.

        The exports that are there are listed first. If the answer is lost (the connection broke, or it is a 5xx), they
        are listed again, and the request is repeated, once, only if no export of this name has come up: so it is not
        made twice.

        Args:
            name: A name to recognise it by; it need not be unique.
            space_id: The space; else the client's.
            format: "COCO_JSON", "JSON" or "CSV".
            content: "ANNOTATION" (also if omitted), "INFERENCE" or "ASSET_METADATA"; the latter two not as COCO_JSON.
            project_ids: Only these projects, 1 to 50 (the platform's limit); all projects of the space if omitted.
            batch_ids: Only these batches, 1 to 100 (the platform's limit).
            created_at_from: Only work items created at this time or later; as for :meth:`get_work_items`.
            created_at_to: Only work items created at this time or before.
            updated_at_from: Only work items changed at this time or later.
            updated_at_to: Only work items changed at this time or before.
            wait_for_running: If another export is being made, wait for it first.
            timeout: Seconds to wait for that, at the most.

        Raises:
            InvalidParameterError: Before any request, if the platform would refuse the arguments, or would take an
                empty list for everything.
            ConflictError: If another export is being made; the message names it.

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

    def wait_for_export(
        self, export_id: Id, space_id: Id | None = None, **options: Unpack[exports.WaitOptions]
    ) -> Export:
        """Wait until an export is completed and return it.

        Its status is read at least once; between two looks there is a second at first, and then more and more. Faults
        that pass do not end the wait.

        Args:
            export_id: The export.
            space_id: Its space; else the client's.
            options: ``timeout``: seconds at the most, 3600 if omitted. ``poll_interval``: seconds between two looks
                in the end, 5 if omitted. ``progress``: told the status at each look.

        Raises:
            ExportFailedError: If the platform could not make it, with its reason.
            ExportTimeoutError: If it took too long; its ``export`` says how far it is. It can be waited for again.

        Example:
            >>> export = client.create_export("waited for", sandbox.space_id)
            >>> client.wait_for_export(export.id, sandbox.space_id, timeout=600).status
            'COMPLETED'
        """
        from .transfer import exports

        params.check_names("wait_for_export", options, tuple(exports.WaitOptions.__annotations__))
        return self._exports(space_id).wait(params.object_id("export_id", export_id), options)

    def download_export(
        self,
        export_id: Id,
        destination: PathLike,
        space_id: Id | None = None,
        **options: Unpack[exports.ExportDownloadOptions],
    ) -> Path:
        """Download the archive of an export, or unpack it.

        The archive becomes ``<destination>/<name> <export id>.zip``, which no other export has, and appears only when
        every member has its right checksum. A download that was cut goes on where it stopped, in this run or in a
        later one, as long as the storage proves that it is the same object; a link that has expired is renewed. What
        is there already is not fetched again. Memory does not grow with the archive.

        Args:
            export_id: The export.
            destination: The folder; made if it does not exist. Its hidden folder ``.cfplatform`` holds what is not
                complete.
            space_id: Its space; else the client's.
            options: ``wait``: ``False`` raises if it is not completed yet. ``timeout`` and ``poll_interval``: as for
                :meth:`wait_for_export`. ``extract``: unpack into the folder ``<name> <export id>``, which appears
                only when it is complete, and keep no archive. ``overwrite``: fetch an archive anew though it is
                there; a folder is never replaced. ``progress``: as for :meth:`download_project`, in bytes.

        Returns:
            The archive or the folder, absolute.

        Raises:
            UnsafePathError: If a name in the archive leads elsewhere; nothing is unpacked.
            IncompleteDownloadError: If the archive is damaged.
            DownloadError: If it cannot be saved.

        Example:
            >>> export = client.create_export("to unpack", sandbox.space_id)
            >>> folder = client.download_export(export.id, "archives", sandbox.space_id, extract=True)
            >>> len(list(folder.glob("*/*.json")))
            20
        """
        from .transfer import exports

        params.check_names("download_export", options, tuple(exports.ExportDownloadOptions.__annotations__))
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

        space = self._required_space(space_id)

        def make(data: dict[str, Any]) -> Export:
            return Export(data, self, space)

        return exports.Exports(self._calls, space, make, self._patience)

    # --- Creating -------------------------------------------------------------------------------------------------

    def create_work_item(
        self,
        asset_url: str | UploadedFile,
        project_id: Id | None = None,
        *,
        asset_type: str | None = None,
        batch_id: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> WorkItem:
        """Create a work item: one asset to be labelled.

        Evidence: provisional. Customers create work items, but no published source shows the call; it is assumed to be
        a POST to the path of the listing. If the platform knows no such call, the error says so.

        The request is not repeated once the platform may have seen it, because it would create the item twice. After
        an :class:`~cfplatform.APITimeoutError` or :class:`~cfplatform.APIConnectionError` look whether it is there.

        Args:
            asset_url: What :meth:`upload_file` returned, its ``path``, or a URL that the platform can read.
            project_id: The project; else the client's.
            asset_type: Such as "image" or "video"; the platform decides if omitted.
            batch_id: The batch; none if omitted.
            metadata: Anything that JSON can hold, up to 100 levels deep, under keys that are text.
                ``callbackUrl`` names where webhooks about this item go.

        Raises:
            InvalidParameterError: If an argument is wrong; before any request.
            NotFoundError: If there is no such project or batch, or no such call.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> item = client.create_work_item(uploaded, batch_id=1002, metadata={"source": "camera 7"})
            >>> item.asset_url == uploaded.path, item.metadata
            (True, {'source': 'camera 7'})
        """
        from .transfer.results import UploadedFile

        given = asset_url.path if isinstance(asset_url, UploadedFile) else asset_url
        body: dict[str, Any] = {"assetUrl": _text("asset_url", given)}
        if asset_type is not None:
            body["assetType"] = _text("asset_type", asset_type)
        if batch_id is not None:
            body["batchId"] = int(params.batch_id("batch_id", batch_id))
        if metadata is not None:
            body["metadata"] = _metadata(metadata)
        project = self._project(project_id)
        try:
            answer = self._calls.post_json(self._work_items_path(project), body)
        except APIError as error:
            if error.status_code in (404, 405):
                _add(error, "Or the platform has no such call: it is provisional, no published source shows it.")
            raise
        return WorkItem(_created(answer, "work item"), self, project)

    def create_batch(self, name: str, project_id: Id | None = None) -> Batch:
        """Create a batch.

        Evidence: documented. The published reference describes the operation; its method and path are assumed.

        The request is not repeated once the platform may have seen it. After a broken connection
        :meth:`get_batch` with ``name=`` tells whether the batch is there.

        Args:
            name: The name, unique in the project. White space around it is dropped before it is sent, since a name
                that differs in nothing else could not be told apart.
            project_id: The project; else the client's.

        Raises:
            InvalidParameterError: If the name is blank or holds control characters; before any request.
            ConflictError: If the project has a batch of this name.

        Example:
            >>> client.create_batch("Spring").name
            'Spring'
        """
        text = _text("name", name)
        project = self._project(project_id)
        try:
            answer = self._calls.post_json(http.path("projects", project, "batches"), {"name": text})
        except ConflictError as error:
            _name_conflict(error, text)
            raise
        self._batch_names.pop(project, None)
        return Batch(_created(answer, "batch"), self, project)

    def update_batch(self, batch_id: int, project_id: Id | None = None, *, name: str) -> Batch:
        """Rename a batch.

        Evidence: documented, as :meth:`create_batch`. The answer is not described; where it holds no batch, the batch
        is read again. Files that were downloaded move to a folder of the new name with the next download.

        Args:
            batch_id: The batch.
            project_id: The project; else the client's.
            name: The new name, as for :meth:`create_batch`.

        Raises:
            InvalidParameterError: If the name is blank or holds control characters; before any request.
            ConflictError: If another batch of the project has this name.
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.update_batch(1001, name="Spring, checked").name
            'Spring, checked'
        """
        wanted = params.batch_id("batch_id", batch_id)
        text = _text("name", name)
        project = self._project(project_id)
        path = http.path("projects", project, "batches", wanted)
        try:
            response = self._calls.request("PATCH", path, json={"name": text})
        except ConflictError as error:
            _name_conflict(error, text)
            raise
        self._batch_names.pop(project, None)
        data = _parsed(response.content)
        if isinstance(data, dict) and str(data.get("id")) == wanted:
            return Batch(data, self, project)
        batch = self.get_batch(int(wanted), project)
        if batch.name != text:
            raise InvalidResponseError(f"The platform accepted a new name for batch {wanted}, but did not keep it.")
        return batch


class _Prefetch(Background[Any]):
    """A page that is fetched before it is needed; a client that was closed meanwhile refuses it too."""

    check: Callable[[], object]

    def result(self, timeout: float | None = None) -> Any:
        self.check()
        return super().result(timeout)


def _default_id(name: str, value: Id | None, variable: str) -> str | None:
    text = value if value is None else params.object_id(name, value)
    given = config.default_id(text, variable)
    return None if given is None else params.object_id(name, given)


def _pairs(query: Query | Mapping[str, Any] | None) -> Query:
    """Return query parameters as pairs of texts; a list becomes a repeated key, and ``None`` is left out."""
    pairs = list(query.items()) if isinstance(query, Mapping) else query or []
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise InvalidParameterError("params must be a mapping or a list of pairs.", parameter="params")
    return [
        (str(key), str(value))
        for key, values in pairs
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value is not None
    ]


def _page_size(page_size: int, limit: int | None) -> int:
    """Return the page size to ask for: not more than will be used."""
    size = params.page_size(page_size)
    return min(size, limit) if limit else size


def _checked_items(items: Iterable[WorkItem]) -> Iterable[WorkItem]:
    if isinstance(items, (str, bytes, Mapping, WorkItem)) or not isinstance(items, Iterable):
        raise InvalidParameterError(
            f"items must be an iterable of WorkItem objects, not {type(items).__name__}.", parameter="items"
        )
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


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameterError(f"{name} must be a text that is not blank, not {shown(value)}.", parameter=name)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value.strip()):
        raise InvalidParameterError(
            f"{name}: {shown(value)} holds control characters or halves of characters.", parameter=name
        )
    # A str subclass such as an enum would be written as its base anyway.
    return str.__str__(value).strip()


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidParameterError(f"metadata must be a mapping, not {type(value).__name__}.", parameter="metadata")
    problem = _first_problem(dict(value), MAX_METADATA_DEPTH)
    if problem is None:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            problem = str(error)
    if problem is not None:
        raise InvalidParameterError(f"metadata cannot be sent as JSON: {problem}.", parameter="metadata")
    return dict(value)


def _first_problem(value: object, levels: int) -> str | None:
    """Return what JSON has no form for and Python would write differently, or write without end."""
    if not isinstance(value, (dict, list, tuple)):
        return None
    if levels == 0:
        return f"it is more than {MAX_METADATA_DEPTH} levels deep"
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return f"the key {shown(key)} is not a text"
    inner = value.values() if isinstance(value, dict) else value
    return next((problem for part in inner if (problem := _first_problem(part, levels - 1)) is not None), None)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _created(answer: Any, kind: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or answer.get("id") in (None, ""):
        raise InvalidResponseError(
            f"The platform accepted the {kind}, but its answer holds none with an id. Look whether it is there.",
            method="POST",
        )
    return answer


def _name_conflict(error: ConflictError, name: str) -> None:
    _add(error, f"The name {shown(name)} is taken.")
    error.parameter = "name"
    error.hint = "get_batch(name=...) finds the batch that has it."


def _add(error: CFPlatformError, words: str) -> None:
    error.message = f"{error.message} {words}"
    error.args = (error.message,)
