"""Drop-in replacements for the classes of ``cf-ai-platform-client`` 0.3.0: change only the import line.

Signatures, defaults, return types and log events are those of the official client. Requests, retries and files are
those of :class:`cfplatform.Client`: downloads resume, runs wait for outages to end, and errors are
:class:`~cfplatform.CFPlatformError`. "Migrating" in the documentation lists the differences.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from typing_extensions import Self

from . import config, http, params, progress
from .client import Client
from .exceptions import CFPlatformError, ExportError, ExportFailedError, InvalidParameterError, InvalidResponseError
from .http.background import Background
from .resources import Export, ExportContent, ExportFormat, ExportStatus
from .resources import WorkItem as _ListedItem
from .resources.results import DownloadResult as _Result

__all__ = [
    "CFUserClient",
    "DownloadResult",
    "DownloadSummary",
    "ExportContent",
    "ExportFileError",
    "ExportFormat",
    "ExportListResponse",
    "ExportResponse",
    "ExportStatus",
    "KeysetPaginationMeta",
    "SearchResponse",
    "SyncCFUserClient",
    "WorkItem",
]

#: Maximum number of workers of a download.
MAX_WORKERS = 100
#: Maximum number of items in a page.
MAX_LIMIT = 100
#: Minimum seconds between two polls, and maximum seconds of a wait, that Client accepts.
MIN_POLL = 0.1
MAX_WAIT = 366 * 24 * 3600.0
#: Seconds that a canceled task waits for its thread to end.
GRACE = 0.3

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_log = logging.getLogger(__name__)


class ExportFileError(ExportFailedError, ValueError):
    """An export has no file to download: it failed, or the platform returned no URL. It is also a ``ValueError``."""


# --- Models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Model:
    def model_dump(self, *, mode: Literal["python", "json"] | str = "python") -> dict[str, Any]:
        """Return the fields as a dict, including nested models; with ``mode="json"`` only JSON types."""
        return {each.name: _dumped(getattr(self, each.name), mode == "json") for each in fields(self)}


def _dumped(value: Any, as_json: bool) -> Any:
    if isinstance(value, _Model):
        return value.model_dump(mode="json" if as_json else "python")
    if isinstance(value, list):
        return [_dumped(each, as_json) for each in value]
    if as_json and isinstance(value, Enum):
        return value.value
    return str(value) if as_json and isinstance(value, uuid.UUID) else value


@dataclass(frozen=True, kw_only=True)
class KeysetPaginationMeta(_Model):
    """The ``meta`` of a page.

    Attributes:
        object: The type of the items, such as "export".
        limit: Maximum number of items in the page.
        page: "NEXT", "PREV" or ``None``.
        cursor_next: Cursor of the next page; ``None`` on the last one.
        cursor_prev: Cursor of the previous page.
    """

    object: str
    limit: int
    page: str | None = None
    cursor_next: str | None = None
    cursor_prev: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkItem(_Model):
    """A work item. For imports and type annotations only; no call returns one."""

    id: str
    batch_id: int | None = None
    result_url: str | None = None
    asset_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResponse(_Model):
    """A page of work items. For imports and type annotations only; no call returns one."""

    items: list[WorkItem] = field(default_factory=list)
    total: int = 0
    meta: KeysetPaginationMeta | None = None


@dataclass(frozen=True, kw_only=True)
class DownloadResult(_Model):
    """The result of one work item.

    Attributes:
        item_id: The work item.
        batch_id: Its batch, or ``None``.
        success: Whether its file was fetched, or was already up to date.
        file_path: The path of the file; the URL of the object if the destination is a URL.
        error: The error message, or ``None``.
    """

    item_id: str
    batch_id: int | None = None
    success: bool
    file_path: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class DownloadSummary(_Model):
    """The summary of a download.

    Attributes:
        total_items: Work items that were listed.
        successful: Items that were fetched or already up to date.
        failed: Items that could not be downloaded.
        results: One result for each item, in the order of the listing.
    """

    total_items: int
    successful: int
    failed: int
    results: list[DownloadResult] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExportResponse(_Model):
    """An export.

    Attributes:
        export_id: Its ID.
        name: Its name.
        status: Its status.
        format: The format of its files.
        content: The content of its files.
        created_by: The email address of the user who created it.
        download_url: The signed URL of the archive, once it is completed.
        error: The reason if it failed.
        created_at: When it was created, as the server wrote it.
    """

    export_id: uuid.UUID
    name: str | None = None
    status: ExportStatus
    format: ExportFormat | None = None
    content: ExportContent | None = None
    created_by: str | None = None
    download_url: str | None = field(default=None, repr=False)
    error: str | None = None
    created_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExportListResponse(_Model):
    """One page of exports, newest first."""

    items: list[ExportResponse] = field(default_factory=list)
    meta: KeysetPaginationMeta | None = None


def _export(data: Mapping[str, Any]) -> ExportResponse:
    def known(kind: type[E], name: str) -> E | None:
        value = data.get(name)
        return None if value is None else kind(value)

    try:
        return ExportResponse(
            export_id=uuid.UUID(str(data.get("exportId", data.get("export_id")))),
            name=_text(data, "name"),
            status=ExportStatus(data.get("status")),
            format=known(ExportFormat, "format"),
            content=known(ExportContent, "content"),
            created_by=_text(data, "createdBy", "created_by"),
            download_url=_text(data, "downloadUrl", "download_url"),
            error=_text(data, "error"),
            created_at=_text(data, "createdAt", "created_at"),
        )
    except (ValueError, AttributeError) as error:
        raise InvalidResponseError(f"The response is not a valid export: {error}.") from None


def _meta(data: Any) -> KeysetPaginationMeta | None:
    if not isinstance(data, Mapping):
        return None
    limit = data.get("limit")
    return KeysetPaginationMeta(
        object=_text(data, "object") or "",
        limit=limit if isinstance(limit, int) else 0,
        page=_text(data, "page"),
        cursor_next=_text(data, "cursorNext", "cursor_next"),
        cursor_prev=_text(data, "cursorPrev", "cursor_prev"),
    )


def _text(data: Mapping[str, Any], *names: str) -> str | None:
    value = next((data[name] for name in names if data.get(name) is not None), None)
    return None if value is None else str(value)


# --- Clients ----------------------------------------------------------------------------------------------------------


class SyncCFUserClient:
    """The synchronous client, for scripts and notebooks.

    It is thread-safe and works alongside a running event loop. It can be used again after :meth:`close`.

    Args:
        api_key: The API key.
        base_url: The URL of the API. Defaults to ``CF_PLATFORM_BASE_URL``, then the production API. ``http://`` is only
            allowed for this machine, because the key would be sent unencrypted.

    Raises:
        ConfigurationError: A ``ValueError``: if the key or the URL is not valid.

    Example:
        >>> with SyncCFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as old_client:
        ...     summary = old_client.download_project(sandbox.project_id, sandbox.space_id, "labels")
        >>> summary.total_items, summary.successful, summary.results[0].success
        (20, 20, True)
    """

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        # Without a key, Client would use CF_API_KEY. Reuses the name: no traceback frame may show the key.
        api_key = config.api_key(config.Secret(api_key.strip() if isinstance(api_key, str) else ""))
        self._api_key = api_key
        #: The URL of the API.
        self.base_url = config.base_url(base_url or None)
        self._lock = threading.Lock()
        self._client: Client | None = None

    @classmethod
    def create_with_api_key(cls, api_key: str, base_url: str | None = None) -> Self:
        """Create a client."""
        return cls(api_key, base_url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} base_url={getattr(self, 'base_url', None)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _engine(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client(self._api_key, base_url=self.base_url, max_workers=MAX_WORKERS)
            return self._client

    def download_project(
        self,
        project_id: str,
        space_id: str,
        destination: str | os.PathLike[str],
        batch_ids: list[int] | None = None,
        work_item_ids: list[str] | None = None,
        created_at_from: str | None = None,
        created_at_to: str | None = None,
        updated_at_from: str | None = None,
        updated_at_to: str | None = None,
        max_workers: int = 10,
        limit: int | None = None,
    ) -> DownloadSummary:
        """Download the COCO documents of a project, or update a downloaded copy.

        Files are written to ``<destination>/<batch name>/<work item id>.json``, with ``Default`` for items without a
        batch. Unchanged files are not fetched again and count as successful. An item that fails does not stop the
        others, and finished items are kept if an error ends the run. A progress bar is shown on stderr if tqdm is
        installed (extra ``progress``).

        Args:
            project_id: The project.
            space_id: The space of the project.
            destination: The folder, created if it does not exist; its hidden folder ``.cfplatform`` records finished
                items.
            batch_ids: Only items of these batches, any number; all if ``None`` or empty.
            work_item_ids: Only these items, any number; all if ``None`` or empty.
            created_at_from, created_at_to: Only items created in this range: ISO 8601 with a time zone.
            updated_at_from, updated_at_to: Only items changed in this range.
            max_workers: Maximum number of threads, 1 to 100.
            limit: Items per page of the listing, 1 to 100 (default 100).

        Returns:
            The summary. ``results`` lists all items in the order of the listing, so memory grows with the project.

        Raises:
            InvalidParameterError: A ``ValueError``: before any request, if an argument is not valid.
            AuthenticationError: If the API key is rejected.
            OutageError: If the platform is down for more than ten minutes.
            DestinationError: An ``OSError``: if the destination is not writable.
        """
        _log.info("Starting the download of project %s", project_id)
        _ensure_between("max_workers", max_workers, MAX_WORKERS)
        if limit is not None:
            _ensure_between("limit", limit, MAX_LIMIT)
        try:
            items = self._engine().get_work_items(
                project_id,
                batch_ids=batch_ids or None,
                work_item_ids=work_item_ids or None,
                status="COMPLETED",
                created_at_from=created_at_from or None,
                created_at_to=created_at_to or None,
                updated_at_from=updated_at_from or None,
                updated_at_to=updated_at_to or None,
                page_size=limit or MAX_LIMIT,
            )
            summary = self._download(project_id, items, destination, space_id, max_workers)
        except CFPlatformError as error:
            _log.error("The download of project %s ended early: %s", project_id, error)
            raise
        if not summary.total_items:
            _log.warning("Project %s has no work items to download", project_id)
        counts = (summary.successful, summary.failed, summary.total_items)
        _log.info("Download complete: %d successful, %d failed of %d work items", *counts)
        return summary

    def _download(
        self,
        project_id: str,
        items: Iterator[_ListedItem],
        destination: str | os.PathLike[str],
        space_id: str,
        max_workers: int,
    ) -> DownloadSummary:
        bar = _bar()
        #: By ID, in the order of the listing; ``None`` until there is a result.
        results: dict[str, DownloadResult | None] = {}

        def listed() -> Iterator[_ListedItem]:
            for item in items:
                # The listing may repeat an item, however far apart.
                if item.id not in results:
                    results[item.id] = None
                    yield item
            _log.info("Project %s has %d work items to download", project_id, len(results))
            if isinstance(bar, _Bar):
                bar.set_total(len(results))

        found = self._engine().iter_downloads(
            listed(), destination, space_id=space_id, max_workers=max_workers, progress=bar
        )
        with contextlib.closing(cast("Any", found)):
            for result in found:
                if result.error is not None:
                    _log.error("Work item %s could not be downloaded: %s", result.item_id, result.error)
                results[result.item_id] = DownloadResult(
                    item_id=result.item_id,
                    batch_id=result.batch_id,
                    success=result.error is None,
                    file_path=_file_path(destination, result),
                    error=None if result.error is None else str(result.error),
                )
        done = [each for each in results.values() if each is not None]
        successful = sum(each.success for each in done)
        return DownloadSummary(
            total_items=len(done), successful=successful, failed=len(done) - successful, results=done
        )

    def create_export(
        self,
        space_id: str,
        name: str,
        export_format: ExportFormat | str = ExportFormat.COCO_JSON,
        project_ids: list[str] | None = None,
        batch_ids: list[int] | None = None,
        content: ExportContent | str | None = None,
        created_at_from: str | None = None,
        created_at_to: str | None = None,
        updated_at_from: str | None = None,
        updated_at_to: str | None = None,
        **kwargs: Any,
    ) -> ExportResponse:
        """Create an export. A space runs one export at a time.

        If the response is lost, the exports of the space are listed before the request is sent again.

        Args:
            space_id: The space.
            name: The name. It need not be unique.
            export_format: "COCO_JSON", "JSON" or "CSV".
            project_ids: Only these projects, up to 50; all of the space if ``None`` or empty.
            batch_ids: Only these batches, up to 100; all if ``None`` or empty.
            content: "ANNOTATION" (the default), "INFERENCE" or "ASSET_METADATA". Only "ANNOTATION" is available as
                COCO_JSON.
            created_at_from, created_at_to: Only work items created in this range.
            updated_at_from, updated_at_to: Only work items changed in this range.
            kwargs: ``format``, the old name of ``export_format``.

        Raises:
            ConflictError: If another export is running.
        """
        export = self._engine().create_export(
            name,
            space_id,
            format=_format("create_export", export_format, kwargs) or ExportFormat.COCO_JSON,
            content=content or None,
            project_ids=project_ids or None,
            batch_ids=batch_ids or None,
            created_at_from=created_at_from or None,
            created_at_to=created_at_to or None,
            updated_at_from=updated_at_from or None,
            updated_at_to=updated_at_to or None,
        )
        return _export(export.as_dict())

    def get_export(self, space_id: str, export_id: str | uuid.UUID) -> ExportResponse:
        """Fetch one export, with its status.

        Raises:
            NotFoundError: If the space has no such export.
        """
        return _export(self._engine().get_export(export_id, space_id).as_dict())

    def list_exports(
        self,
        space_id: str,
        export_format: ExportFormat | str | None = None,
        limit: int | None = None,
        **kwargs: Any,
    ) -> ExportListResponse:
        """Fetch the first page of the exports of a space, newest first.

        Args:
            space_id: The space.
            export_format: Only exports in this format.
            limit: Maximum number of exports in the page. Chosen by the platform if omitted.
            kwargs: ``format``, the old name of ``export_format``.
        """
        wanted = _format("list_exports", export_format, kwargs)
        path = http.path("spaces", params.object_id("space_id", space_id), "exports")
        query = {"format": None if wanted is None else str.__str__(wanted), "limit": limit}
        page = next(self._engine().iterate_pages(path, query))
        return ExportListResponse(items=[_export(each) for each in page["items"]], meta=_meta(page.get("meta")))

    def wait_for_export(
        self, space_id: str, export_id: str | uuid.UUID, poll_interval: float = 5.0, timeout: float = 600.0
    ) -> ExportResponse:
        """Wait until an export is completed or has failed, and return it.

        Args:
            space_id: The space.
            export_id: The export.
            poll_interval: Maximum seconds between two polls.
            timeout: Maximum seconds to wait.

        Raises:
            ExportTimeoutError: A ``TimeoutError``: if it took too long.
        """
        try:
            export: Export = self._engine().wait_for_export(export_id, space_id, **_wait(poll_interval, timeout))
        except ExportFailedError as error:
            export = error.export
        return _export(export.as_dict())

    def download_export_file(
        self,
        space_id: str,
        export_id: str | uuid.UUID,
        destination: str | os.PathLike[str],
        poll_interval: float = 5.0,
        timeout: float = 600.0,
    ) -> str:
        """Wait for an export, and download its archive to ``<destination>/<name> <export id>.zip``.

        The archive is verified before it is written. An interrupted download resumes.

        Args:
            space_id: The space.
            export_id: The export.
            destination: The folder, created if it does not exist.
            poll_interval: Maximum seconds between two polls.
            timeout: Maximum seconds to wait.

        Returns:
            The absolute path of the archive.

        Raises:
            ExportFileError: A ``ValueError``: if the export failed, or has no download URL.
            ExportTimeoutError: A ``TimeoutError``: if it was not ready in time.
        """
        _log.info("Downloading export %s to %s", export_id, destination)
        options = _wait(poll_interval, timeout)
        try:
            path = self._engine().download_export(export_id, destination, space_id, **options)
        except ExportError as error:
            if isinstance(error, TimeoutError):
                raise
            problem = ExportFileError(error.message, parameter=error.parameter, hint=error.hint)
            problem.export = error.export
            raise problem from None
        _log.info("Export %s was saved to %s", export_id, path)
        return str(path)

    def delete_export(self, space_id: str, export_id: str | uuid.UUID) -> None:
        """Delete an export and its archive, whatever its status.

        Raises:
            NotFoundError: If the space has no such export.
        """
        self._engine().delete_export(export_id, space_id)


class CFUserClient:
    """The client for ``async`` code: the calls of :class:`SyncCFUserClient`, each in its own thread.

    Any number of tasks can use it concurrently. A canceled task ends within half a second and sends no more requests.

    Args:
        api_key: As for :class:`SyncCFUserClient`.
        base_url: As for :class:`SyncCFUserClient`.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with CFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as old_client:
        ...         return await old_client.download_project(sandbox.project_id, sandbox.space_id, "labels")
        >>> asyncio.run(main()).successful
        20
    """

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        api_key = config.Secret(api_key) if isinstance(api_key, str) else api_key
        self._sync = SyncCFUserClient(api_key, base_url)
        #: The URL of the API.
        self.base_url = self._sync.base_url

    @classmethod
    def create_with_api_key(cls, api_key: str, base_url: str | None = None) -> Self:
        """Create a client."""
        return cls(api_key, base_url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} base_url={getattr(self, 'base_url', None)!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        self._sync.close()

    async def download_project(
        self,
        project_id: str,
        space_id: str,
        destination: str | os.PathLike[str],
        batch_ids: list[int] | None = None,
        work_item_ids: list[str] | None = None,
        created_at_from: str | None = None,
        created_at_to: str | None = None,
        updated_at_from: str | None = None,
        updated_at_to: str | None = None,
        max_workers: int = 10,
        limit: int | None = None,
    ) -> DownloadSummary:
        """Download a project; see :meth:`SyncCFUserClient.download_project`."""
        return await _in_thread(
            self._sync.download_project,
            project_id,
            space_id,
            destination,
            batch_ids,
            work_item_ids,
            created_at_from,
            created_at_to,
            updated_at_from,
            updated_at_to,
            max_workers,
            limit,
        )

    async def create_export(
        self,
        space_id: str,
        name: str,
        export_format: ExportFormat | str = ExportFormat.COCO_JSON,
        project_ids: list[str] | None = None,
        batch_ids: list[int] | None = None,
        content: ExportContent | str | None = None,
        created_at_from: str | None = None,
        created_at_to: str | None = None,
        updated_at_from: str | None = None,
        updated_at_to: str | None = None,
        **kwargs: Any,
    ) -> ExportResponse:
        """Create an export; see :meth:`SyncCFUserClient.create_export`."""
        return await _in_thread(
            self._sync.create_export,
            space_id,
            name,
            export_format,
            project_ids,
            batch_ids,
            content,
            created_at_from,
            created_at_to,
            updated_at_from,
            updated_at_to,
            **kwargs,
        )

    async def get_export(self, space_id: str, export_id: str | uuid.UUID) -> ExportResponse:
        """Fetch one export; see :meth:`SyncCFUserClient.get_export`."""
        return await _in_thread(self._sync.get_export, space_id, export_id)

    async def list_exports(
        self,
        space_id: str,
        export_format: ExportFormat | str | None = None,
        limit: int | None = None,
        **kwargs: Any,
    ) -> ExportListResponse:
        """Fetch the first page of the exports of a space; see :meth:`SyncCFUserClient.list_exports`."""
        return await _in_thread(self._sync.list_exports, space_id, export_format, limit, **kwargs)

    async def wait_for_export(
        self, space_id: str, export_id: str | uuid.UUID, poll_interval: float = 5.0, timeout: float = 600.0
    ) -> ExportResponse:
        """Wait until an export is completed or has failed; see :meth:`SyncCFUserClient.wait_for_export`."""
        return await _in_thread(self._sync.wait_for_export, space_id, export_id, poll_interval, timeout)

    async def download_export_file(
        self,
        space_id: str,
        export_id: str | uuid.UUID,
        destination: str | os.PathLike[str],
        poll_interval: float = 5.0,
        timeout: float = 600.0,
    ) -> str:
        """Wait for an export and download its archive; see :meth:`SyncCFUserClient.download_export_file`."""
        return await _in_thread(
            self._sync.download_export_file, space_id, export_id, destination, poll_interval, timeout
        )

    async def delete_export(self, space_id: str, export_id: str | uuid.UUID) -> None:
        """Delete an export; see :meth:`SyncCFUserClient.delete_export`."""
        await _in_thread(self._sync.delete_export, space_id, export_id)


async def _in_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a function in a thread; canceling the task ends the thread and its requests.

    ``asyncio.to_thread`` would not do: a closing loop waits for its threads, even for a server that never responds.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def call(stop: threading.Event) -> T:
        try:
            with http.stopped_by(stop):
                return function(*args, **kwargs)
        finally:
            # The loop may be gone by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set_result, None)

    thread = Background(call, "compat")
    try:
        # asyncio.wait does not cancel the future if it is canceled itself.
        await asyncio.wait({ended})
    except BaseException as error:
        # Cancelled, or closed by a closing loop.
        thread.cancel()
        if isinstance(error, asyncio.CancelledError):
            await asyncio.wait({ended}, timeout=GRACE)
        raise
    return thread.result()


# --- Arguments and bars -----------------------------------------------------------------------------------------------


def _ensure_between(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidParameterError(f"{name} must be an integer from 1 to {most}, not {value!r}.", parameter=name)


def _format(function: str, value: ExportFormat | str | None, kwargs: dict[str, Any]) -> ExportFormat | str | None:
    """Return the format, which may have its old name ``format``; refuse other keywords as Python does."""
    for name in kwargs:
        if name != "format":
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return kwargs.get("format", value)


def _wait(poll_interval: float, timeout: float) -> dict[str, Any]:
    return {"poll_interval": max(MIN_POLL, poll_interval), "timeout": min(MAX_WAIT, max(0.0, timeout))}


def _file_path(destination: str | os.PathLike[str], result: _Result) -> str | None:
    if result.path is None:
        return result.object_url
    return str(Path(destination, result.path.parent.name, result.path.name))


class _Bar(progress.TqdmReporter):
    """The bar of a download; its total is set when the listing has ended."""

    def start(self, total: int | None) -> None:
        self._bar = self._tqdm(desc="Downloading items", total=total, unit="item")

    def set_total(self, total: int) -> None:
        if self._bar is not None:
            self._bar.total = total
            self._bar.refresh()


def _bar() -> _Bar | None:
    return None if importlib.util.find_spec("tqdm") is None else _Bar()
