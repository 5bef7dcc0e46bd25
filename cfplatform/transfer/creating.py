"""Create work items, each at most once; a bulk run uploads the files first."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from .. import params, timestamps
from ..exceptions import (
    APIError,
    AuthenticationError,
    CFPlatformError,
    DestinationError,
    DownloadError,
    InvalidParameterError,
    NotFoundError,
    OutageError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from ..http import Run
from ..resources import WorkItem
from ..resources.created import CreateResult
from ..resources.results import UploadedFile
from .journal import Entry, Journal
from .once import Once, earliest
from .steps import sign
from .uploads import Job, Uploader

#: Errors that affect all work items.
_FATAL = (OutageError, DestinationError, AuthenticationError, PermissionDeniedError, NotFoundError)


class _Wanted:
    """A work item to search for if the response to its creation is lost."""

    def __init__(self, body: dict[str, Any], since: datetime) -> None:
        self.since = since
        self.found: WorkItem | None = None
        self._asset_url = body["assetUrl"]
        # Paths of uploads are unique.
        metadata = body.get("metadata") if "://" in self._asset_url else None
        self._external_id = (metadata or {}).get("externalId")

    def matches(self, item: WorkItem) -> bool:
        if self.found is not None or item.asset_url != self._asset_url:
            return False
        return self._external_id is None or item.metadata.get("externalId") == self._external_id


class Items:
    """Creates work items of one project and batch.

    Args:
        post: Sends the request that creates an item.
        listed: Yields the items of the project, or of the batch, created since a time.
        batch_id: The batch of the items.
        repeats: Maximum number of retries after a lost response.
    """

    def __init__(
        self,
        post: Callable[[dict[str, Any]], WorkItem],
        listed: Callable[[datetime], Iterable[WorkItem]],
        batch_id: int | None,
        repeats: int,
    ) -> None:
        self._post = post
        self._listed = listed
        self._batch = {} if batch_id is None else {"batchId": batch_id}
        self._repeats = repeats
        #: The request that created each item.
        self._owners: dict[str, object] = {}
        self._lock = threading.Lock()
        self._waiting: list[_Wanted] = []

    def take(self, ids: Iterable[str]) -> None:
        """Mark items as created by an earlier run, so no request claims them."""
        self._owners.update(dict.fromkeys(ids, self))

    def create(self, body: dict[str, Any], since: datetime | None = None) -> tuple[WorkItem, bool]:
        """Create an item; return it and whether it already existed.

        Args:
            body: The body of the request, without the batch.
            since: The earliest time at which a previous run may have created it.
        """
        body = {**body, **self._batch}
        wanted = _Wanted(body, since or earliest())
        if since is not None and (found := self._find(wanted)) is not None:
            return found, True

        def post() -> WorkItem:
            while True:
                item = self._post(body)
                # Another request for the same URL may have claimed the item before the response arrived.
                if self._owners.setdefault(item.id, wanted) is wanted:
                    return item

        return Once(post, lambda: self._find(wanted), self._repeats).send(), False

    def _find(self, wanted: _Wanted) -> WorkItem | None:
        """Search for an item in a listing shared by all threads that wait."""
        self._waiting.append(wanted)
        with self._lock:
            if wanted in self._waiting:
                together, done = [*self._waiting], [wanted]
                try:
                    self._search(together)
                    done = together
                finally:
                    for each in done:
                        self._waiting.remove(each)
        return wanted.found

    def _search(self, together: list[_Wanted]) -> None:
        for item in self._listed(min(each.since for each in together)):
            for wanted in together:
                if wanted.matches(item) and self._owners.setdefault(item.id, wanted) is wanted:
                    wanted.found = item
                    break


# --- Many in one run --------------------------------------------------------------------------------------------------


class _Asset(Job):
    """The job of one asset: upload it and create its work item."""

    outcome = "created"

    def __init__(self, asset: Any) -> None:
        super().__init__(asset)
        self.asset_url = ""
        self.body: dict[str, Any] = {}
        self.entry = Entry()
        self.item: WorkItem | None = None
        self.existed = False

    def result(self) -> CreateResult:
        return CreateResult(self.file, self.item, self.uploaded, self.error, self.existed)


class Creator(Uploader[_Asset]):
    """One run that uploads files and creates a work item for each.

    Args:
        args: As for :class:`Uploader`.
        check_space: Raises if there is no space; called for each file.
        begin: Returns the :class:`Items` of the run; called when the first item is needed.
        make: Creates a work item object from its fields.
        scope: Base URL, project and batch, which are part of the key of a journal entry.
        fields: Fields of each item.
        metadata: The metadata of each item, or a function of the asset.
        options: As for :class:`Uploader`.
    """

    def __init__(
        self,
        *args: Any,
        check_space: Callable[[], object],
        begin: Callable[[Run], Items],
        make: Callable[[dict[str, Any]], WorkItem],
        scope: tuple[object, ...],
        fields: dict[str, Any],
        metadata: Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None] | None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._check_space = check_space
        self._get_items = begin
        self._items: Items | None = None
        self._make = make
        self._scope = scope
        self._fields = fields
        self._metadata = metadata
        self._journal: Journal | None = None

    def create(
        self, assets: Iterable[Any], total: int | None, journal: str | os.PathLike[str] | None
    ) -> Generator[CreateResult, None, None]:
        """Yield a result for each asset as it finishes; see :meth:`run`."""
        with contextlib.nullcontext() if journal is None else Journal(journal) as self._journal:
            yield from self.run(map(self._prepared, assets), total, _Asset.result)

    def _prepared(self, asset: Any) -> _Asset:
        """Return the job of an asset, with its journal entry; raise errors that affect all assets."""
        job = _Asset(asset)
        try:
            self._prepare(job)
        except InvalidParameterError as error:
            job.error = error
        if job.error is None and job.item is None:
            if not job.asset_url:
                self._check_space()
            if self._items is None:
                self._items = self._get_items(self._run)
                self._items.take(self._journal.item_ids if self._journal else ())
        return job

    def _prepare(self, job: _Asset) -> None:
        asset = job.file
        metadata = self._metadata(asset) if callable(self._metadata) else self._metadata
        job.body = {**self._fields, **({} if metadata is None else {"metadata": params.metadata(metadata)})}
        key: tuple[object, ...]
        if isinstance(asset, UploadedFile):
            job.uploaded, job.asset_url = asset, asset.path
            key = ("storage", asset.path)
        elif isinstance(asset, str) and "://" in asset:
            job.asset_url = params.text("assets", asset)
            key = ("url", job.asset_url)
        elif self._journal is None or not isinstance(asset, (str, os.PathLike)):
            if self._journal is not None and hasattr(asset, "read"):
                raise InvalidParameterError(
                    "journal cannot be used with file objects, because it cannot recognize them. Pass paths.",
                    parameter="journal",
                )
            return
        else:
            try:
                path = os.path.abspath(os.fsdecode(asset))
                found = os.stat(path)
            except (OSError, ValueError):
                # The upload reports the error.
                return
            key = ("file", path, found.st_size, found.st_mtime_ns)
        if self._journal is None:
            return
        job.entry = self._journal.entry(*self._scope, *key)
        known = job.entry.known
        if known.get("is_uploaded"):
            job.uploaded = UploadedFile(**known["file"])
            job.asset_url = job.uploaded.path
        if "item" in known:
            fields = {"id": known["item"], "batchId": known["batch_id"], "assetUrl": job.asset_url}
            job.item, job.existed, job.outcome = self._make(fields), True, "skipped"

    def _begin(self, job: _Asset) -> None:
        if job.error is not None:
            self._pool.fail(job, job.error)
        elif job.item is not None:
            self._pool.finish(job)
        elif job.asset_url:
            self._pool.submit_first(self._create, [job])
        elif "file" in job.entry.known:
            self._pool.submit_first(self._find_upload, [job])
        else:
            super()._begin(job)

    def _find_upload(self, jobs: list[_Asset]) -> None:
        """Upload a file, unless an interrupted run has already uploaded it."""
        (job,) = jobs
        uploaded = UploadedFile(**job.entry.known["file"])
        url = sign(self._calls, cast(str, self._space_id), [uploaded.path], self._run)[uploaded.path]
        try:
            if isinstance(url, CFPlatformError):
                raise url
            # The first byte is enough, because objects are stored atomically.
            self._calls.fetch(url, lambda _: None, headers={"Range": "bytes=0-0"}, run=self._run)
        except (APIError, DownloadError) as error:
            if isinstance(error, (RateLimitError, ServerError)):
                raise
            super()._begin(job)
        else:
            job.uploaded = uploaded
            self._has_uploaded(job)

    def _will_send(self, job: _Asset, uploaded: UploadedFile) -> None:
        job.entry.write(file=uploaded.as_dict())

    def _has_uploaded(self, job: _Asset) -> None:
        job.asset_url = cast(UploadedFile, job.uploaded).path
        job.entry.write(is_uploaded=True)
        self._pool.submit_first(self._create, [job])

    def _create(self, jobs: list[_Asset]) -> None:
        (job,) = jobs
        items, entry = cast(Items, self._items), job.entry
        since = timestamps.parse_or_none(entry.known.get("since"))
        if since is None:
            entry.write(since=earliest().isoformat())
        try:
            job.item, job.existed = items.create({"assetUrl": job.asset_url, **job.body}, since)
        except APIError as error:
            if error.method == "POST" and not isinstance(error, ServerError):
                # It was rejected, so the next run need not search for it.
                entry.write(since=None)
            raise
        entry.write(item=job.item.id, batch_id=job.item.batch_id)
        if job.existed:
            job.outcome = "skipped"
        self._pool.finish(job)

    def _concerns_all(self, job: _Asset, error: CFPlatformError) -> bool:
        if job.asset_url:
            return isinstance(error, _FATAL) or error.status_code == 405
        return isinstance(error, DestinationError) or super()._concerns_all(job, error)
