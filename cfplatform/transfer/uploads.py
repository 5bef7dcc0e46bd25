"""One run of uploads: each file waits for a URL to upload to, which are asked for ten at a time, and is then sent."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any, cast

from .. import http, progress
from ..exceptions import (
    APIError,
    CFPlatformError,
    InvalidResponseError,
    OutageError,
    RateLimitError,
    ServerError,
    TransportError,
    UploadError,
)
from ..http import Run, Transport
from .pool import Pool
from .results import UploadedFile, UploadResult
from .upload_sources import File, OnDisk, OpenFile, guess_content_type, source

#: URLs in one request, at the most (published reference).
MAX_URLS = 10
#: New URLs for one file whose URL was refused, at the most.
MAX_RENEWALS = 3

#: What the next request may not meet. Every other refusal of the API would meet each file, and so ends the run.
_TRANSIENT = (TransportError, RateLimitError, ServerError)


class _Job:
    __slots__ = ("answer", "error", "file", "index", "path", "source", "uploaded", "url")

    def __init__(self, file: File) -> None:
        self.file = file
        self.index = -1
        self.source: OnDisk | OpenFile | None = None
        self.path = self.url = ""
        #: Counts the answers that URLs came with.
        self.answer = 0
        self.uploaded: UploadedFile | None = None
        self.error: CFPlatformError | None = None

    @property
    def result(self) -> UploadResult:
        return UploadResult(self.file, self.uploaded, self.error)


class Uploader:
    """One run of uploads.

    Args:
        calls: The transport.
        space_id: The space that gets the files.
        content_type: The type of all files; by their names if ``None``.
        workers: Files sent at the same time, at the most.
        patience: Seconds that a request waits for an outage to end.
        reporter: Receives what finishes, and what the run waits for.
    """

    def __init__(
        self,
        calls: Transport,
        space_id: str,
        *,
        content_type: str | None,
        workers: int,
        patience: float,
        reporter: progress.ProgressReporter,
    ) -> None:
        self._calls = calls
        self._path = http.path("spaces", space_id, "signedurls")
        self._content_type = content_type
        self._reporter = reporter
        on_wait = progress.Watch(calls.trouble, reporter)
        # Enough that a whole group of URLs is asked for while the workers are busy.
        self._pool: Pool[_Job] = Pool(workers, window=2 * workers + MAX_URLS, on_wait=on_wait, name="cfplatform-upload")
        self._run = Run(patience, self._pool.stop, on_wait)
        self._to_sign = self._pool.group(MAX_URLS, self._ask)
        self._answers = itertools.count(1)
        # URLs that came with this answer or before it are not tried: one of them was refused.
        self._refused = 0
        self._open_files: dict[int, OpenFile] = {}

    def run(self, files: Iterable[File], total: int | None) -> Generator[UploadResult, None, None]:
        """Yield a result for each file as it finishes. Closing the generator cancels what is under way.

        If the iterable raises, the files taken are finished first.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, the space does not exist, or the platform is
                away.
        """
        self._reporter.start(total)
        try:
            with contextlib.closing(self._pool.run(map(_Job, files), self._begin)) as jobs:
                for job in jobs:
                    self._let_go(job)
                    uploaded = job.uploaded
                    self._reporter.advance("uploaded" if uploaded else "failed", uploaded.size if uploaded else 0)
                    yield job.result
        finally:
            self._reporter.finish()

    # --- The caller's thread -------------------------------------------------------------------------------

    def _begin(self, job: _Job) -> None:
        """Check a file, so that no URL is asked for one that cannot be sent, and line it up."""
        try:
            job.source = self._source(job.file)
        except CFPlatformError as error:
            self._fail(job, error)
            return
        self._pool.submit_together(self._to_sign, job)

    def _source(self, file: File) -> OnDisk | OpenFile:
        found = self._open_files.get(id(file)) or source(file)
        if isinstance(found, OpenFile):
            self._open_files[id(file)] = found
            found.uses += 1
        return found

    def _let_go(self, job: _Job) -> None:
        if isinstance(job.source, OpenFile):
            job.source.uses -= 1
            if not job.source.uses:
                del self._open_files[id(job.file)]

    # --- Workers -------------------------------------------------------------------------------------------

    def _do(self, step: Callable[[], object], jobs: list[_Job]) -> None:
        """Take a step for jobs; what goes wrong is about these, or about all."""
        try:
            step()
        except CFPlatformError as error:
            # What the storage says is about one, what the API says about all.
            is_about_these = isinstance(error, (UploadError, *_TRANSIENT)) or bool(jobs[0].url)
            if isinstance(error, OutageError) or not is_about_these:
                self._pool.abort(error.with_traceback(None))
                return
            for job in jobs:
                # A copy, because each may be raised.
                self._fail(job, copy.copy(error))

    def _fail(self, job: _Job, error: CFPlatformError) -> None:
        # Without its traceback, whose frames hold the signed URL.
        job.error = error.with_traceback(None)
        self._pool.finish(job)

    def _ask(self, jobs: list[_Job]) -> None:
        self._do(functools.partial(self._give_urls, jobs), jobs)

    def _give_urls(self, jobs: list[_Job]) -> None:
        """Ask for as many URLs as there are files, and have the files sent."""
        urls = self._new_urls(len(jobs))
        answer = next(self._answers)
        for job in jobs:
            if not urls:
                # Fewer than were asked for.
                self._pool.submit_together(self._to_sign, job, is_urgent=True)
                continue
            job.path, job.url = urls.pop(0)
            job.answer = answer
            send = functools.partial(self._do, functools.partial(self._send, job), [job])
            self._pool.submit_first([(job, send)])

    def _new_urls(self, count: int) -> list[tuple[str, str]]:
        query = [("count", str(count))]
        answer: Any = self._calls.get_json(self._path, query, run=self._run, is_essential=True)
        entries = answer.get("items") if isinstance(answer, dict) else None
        found = {
            entry["path"]: entry["signedUrl"]
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and _is_text(entry.get("path")) and _is_text(entry.get("signedUrl"))
        }
        if not found:
            raise InvalidResponseError("The answer to a request for upload URLs holds none.", method="GET")
        return list(found.items())

    def _send(self, job: _Job) -> None:
        if job.answer <= self._refused:
            job.url = ""
            self._pool.submit_together(self._to_sign, job)
            return
        given = cast("OnDisk | OpenFile", job.source)
        content_type = self._content_type or guess_content_type(given.name)
        for renewals in range(MAX_RENEWALS + 1):
            with given.body(self._pool.stop) as body:
                try:
                    self._calls.upload(job.url, body, content_type, run=self._run)
                    job.uploaded = UploadedFile(job.path, body.size, content_type, given.name)
                    break
                except APIError as error:
                    if renewals == MAX_RENEWALS or not _is_url_refused(error):
                        raise
            self._refused = max(self._refused, job.answer)
            # For this file alone, and used at once: among others it could expire again before its turn comes.
            job.url = ""
            job.path, job.url = self._new_urls(1)[0]
            job.answer = next(self._answers)
        self._pool.finish(job)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_url_refused(error: APIError) -> bool:
    """Tell whether another URL may help: this one has expired, or is refused for a reason of its own."""
    return error.status_code == 403 or http.has_expired(error)
