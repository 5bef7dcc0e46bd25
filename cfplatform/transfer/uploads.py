"""Uploads: check files, request upload URLs ten at a time, and send the files."""

from __future__ import annotations

import contextlib
import io
import itertools
import mimetypes
import os
import re
import stat
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Generic, TypeVar, cast

from .. import http, progress
from ..exceptions import (
    APIError,
    CFPlatformError,
    InvalidParameterError,
    InvalidResponseError,
    OutageError,
    RateLimitError,
    ServerError,
    TransportError,
    UploadError,
    printable,
    shown,
)
from ..http import Body, Run, Transport
from ..resources.results import UploadedFile, UploadResult
from .pool import Pool

#: Maximum number of URLs in a request (published reference).
MAX_URLS = 10
#: Maximum number of new URLs for a file after refusals.
MAX_RENEWALS = 3

#: The content type of a file without a known extension.
UNKNOWN_TYPE = "application/octet-stream"
#: Maximum length of a content type (our limit), much longer than any registered one.
MAX_TYPE_LENGTH = 255

#: Errors that may not affect the next request. All other API errors affect all files and end the run.
_TRANSIENT = (TransportError, RateLimitError, ServerError)

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^`|~\w-]+/[!#$%&'*+.^`|~\w-]+( ?;[ -~]*[!-~])?", re.ASCII)

T = TypeVar("T")
J = TypeVar("J", bound="Job")


class Job:
    """The job of one file."""

    #: The outcome for progress reporters.
    outcome = "uploaded"

    def __init__(self, file: Any) -> None:
        self.file = file
        self.index = -1
        self.source: OnDisk | OpenFile | None = None
        self.path = self.url = ""
        #: The number of the response with its URL.
        self.response = 0
        self.uploaded: UploadedFile | None = None
        #: Bytes sent by this run.
        self.sent = 0
        self.error: CFPlatformError | None = None


class Uploader(Generic[J]):
    """One run of uploads. If ``content_type`` is ``None``, it is guessed from each name."""

    def __init__(
        self,
        calls: Transport,
        space_id: str | None,
        *,
        content_type: str | None,
        workers: int,
        patience: float,
        reporter: progress.ProgressReporter,
    ) -> None:
        self._calls = calls
        self._space_id = space_id
        self._content_type = content_type
        self._reporter = reporter
        on_wait = progress.Watch(calls.trouble, reporter)
        self._pool: Pool[J] = Pool(
            workers,
            self._assign_urls,
            MAX_URLS,
            # Enough to request the URLs of a group while the workers are busy.
            window=2 * workers + MAX_URLS,
            concerns_all=self._concerns_all,
            on_wait=on_wait,
            name="cfplatform-upload",
        )
        self._run = Run(patience, self._pool.stop, on_wait)
        self._responses = itertools.count(1)
        # URLs up to this response are not used, because one of them was refused.
        self._refused = 0
        # A file object that is given twice must be read by one thread at a time.
        self._open_files: weakref.WeakValueDictionary[int, OpenFile] = weakref.WeakValueDictionary()

    def run(self, jobs: Iterable[J], total: int | None, result: Callable[[J], T]) -> Generator[T, None, None]:
        """Yield a result for each job as it finishes. Closing the generator cancels running uploads.

        If the iterable raises, the jobs so far are finished first.

        Raises:
            CFPlatformError: If the key is rejected, the space does not exist, or the platform is down.
        """
        self._reporter.start(total)
        try:
            with contextlib.closing(self._pool.run(jobs, self._begin)) as finished:
                for job in finished:
                    self._reporter.advance("failed" if job.error else job.outcome, job.sent)
                    yield result(job)
        finally:
            self._reporter.finish()

    def _begin(self, job: J) -> None:
        """Check a file before a URL is requested, and queue it."""
        try:
            job.source = self._open_files.get(id(job.file)) or source_of(job.file)
        except CFPlatformError as error:
            self._pool.fail(job, error)
            return
        if isinstance(job.source, OpenFile):
            self._open_files[id(job.file)] = job.source
        self._pool.submit_together(job)

    def _assign_urls(self, jobs: list[J]) -> None:
        """Request a URL for each file, and queue the files for sending."""
        urls = self._new_urls(len(jobs))
        response = next(self._responses)
        for job, (path, url) in zip(jobs, urls, strict=False):
            job.path, job.url, job.response = path, url, response
            self._pool.submit_first(self._send, [job])
        for job in jobs[len(urls) :]:
            # The response has fewer URLs than requested.
            self._pool.submit_together(job, is_urgent=True)

    def _new_urls(self, count: int) -> list[tuple[str, str]]:
        query = [("count", str(count))]
        path = http.path("spaces", cast(str, self._space_id), "signedurls")
        response: Any = self._calls.get_json(path, query, run=self._run, is_essential=True)
        entries = response.get("items") if isinstance(response, dict) else None
        found = {
            entry["path"]: entry["signedUrl"]
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and _is_text(entry.get("path")) and _is_text(entry.get("signedUrl"))
        }
        if not found:
            raise InvalidResponseError("The response to a request for upload URLs has none.", method="GET")
        return list(found.items())

    def _send(self, jobs: list[J]) -> None:
        (job,) = jobs
        if job.response <= self._refused:
            job.url = ""
            self._pool.submit_together(job)
            return
        given = cast("OnDisk | OpenFile", job.source)
        content_type = self._content_type or guess_content_type(given.name)
        for renewals in range(MAX_RENEWALS + 1):
            with given.body(self._pool.stop) as body:
                uploaded = UploadedFile(job.path, body.size, content_type, given.name)
                self._will_send(job, uploaded)
                try:
                    self._calls.upload(job.url, body, content_type, run=self._run)
                    job.uploaded, job.sent = uploaded, body.size
                    break
                except APIError as error:
                    # A new URL may help if this one has expired or was refused.
                    if renewals == MAX_RENEWALS or not (error.status_code == 403 or http.has_expired(error)):
                        raise
            self._refused = max(self._refused, job.response)
            # For this file only and used at once: in a group it could expire again before its turn.
            job.url = ""
            job.path, job.url = self._new_urls(1)[0]
            job.response = next(self._responses)
        self._has_uploaded(job)

    def _will_send(self, job: J, uploaded: UploadedFile) -> None:
        """Called before an upload with the file that it will create."""

    def _has_uploaded(self, job: J) -> None:
        """Called after an upload; finishes the job."""
        self._pool.finish(job)

    def _concerns_all(self, job: J, error: CFPlatformError) -> bool:
        """Return whether an error affects all files. After a URL is assigned, errors of the storage do not."""
        return isinstance(error, OutageError) or not (job.url or isinstance(error, (UploadError, *_TRANSIENT)))


def upload_result(job: Job) -> UploadResult:
    """Return the result of an upload."""
    return UploadResult(job.file, job.uploaded, job.error)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


# --- The caller's files -----------------------------------------------------------------------------------------------


def check_files(files: Any, name: str = "files", single: str = "upload_file()") -> Iterable[Any]:
    """Check that the argument is an iterable of files, not one file."""
    is_one = isinstance(files, (str, bytes, Mapping, os.PathLike)) or hasattr(files, "read")
    if is_one or not isinstance(files, Iterable):
        raise InvalidParameterError(
            f"{name} must be an iterable of paths or binary file objects, not {type(files).__name__}. "
            f"For a single file, use {single}.",
            parameter=name,
        )
    return files


def check_content_type(value: Any) -> str | None:
    """Check a content type: a media type such as ``image/png``, with or without parameters."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(value):
        raise InvalidParameterError(
            f"content_type must be a media type such as 'image/png', in printable ASCII, not {shown(value)}.",
            parameter="content_type",
        )
    return value


def guess_content_type(name: str | None) -> str:
    """Return the content type for the extension of a name."""
    if not name:
        return UNKNOWN_TYPE
    # As a path, because a name with a colon would look like a URL.
    guessed, encoding = mimetypes.guess_type(f"./{name}", strict=False)
    # For a compressed file, the guess is the type of its content.
    if guessed is None or encoding is not None or not _MEDIA_TYPE.fullmatch(guessed):
        return UNKNOWN_TYPE
    return guessed


def source_of(file: Any) -> OnDisk | OpenFile:
    """Return the source for a path or file object.

    Raises:
        InvalidParameterError: If it is neither.
        UploadError: If it cannot be read or is empty.
    """
    if isinstance(file, (str, os.PathLike)):
        return OnDisk(_attempt(type(file).__name__, os.fsdecode, file))
    if hasattr(file, "read"):
        return OpenFile(file)
    hint = " Wrap bytes in io.BytesIO." if isinstance(file, (bytes, bytearray, memoryview)) else ""
    raise InvalidParameterError(f"A file must be a path or a binary file object, not {type(file).__name__}.{hint}")


class OnDisk:
    """A file given by its path; open only during the upload."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.name: str | None = os.path.basename(path)
        _check_found(path, _attempt(path, os.stat, path))
        if not os.access(path, os.R_OK):
            raise UploadError(f"Could not read {shown(path)}: permission denied.")

    @contextlib.contextmanager
    def body(self, stop: threading.Event) -> Iterator[Body]:
        """Open the file and yield its content."""
        with cast("BinaryIO", _attempt(self._path, open, self._path, "rb")) as file:
            found = os.fstat(file.fileno())
            _check_found(self._path, found)

            def is_unchanged() -> bool:
                now = os.fstat(file.fileno())
                return (now.st_size, now.st_mtime_ns) == (found.st_size, found.st_mtime_ns)

            yield Body(file, found.st_size, name=self._path, stop=stop, is_unchanged=is_unchanged)


class OpenFile:
    """A file object of the caller, read from its current position and reset to it afterwards."""

    def __init__(self, file: Any) -> None:
        name = getattr(file, "name", None)
        self.name = os.path.basename(name) if isinstance(name, str) else None
        self._shown = self.name or type(file).__name__
        self._file = file
        self._lock = threading.Lock()
        if isinstance(file, io.TextIOBase) or not isinstance(_attempt(self._shown, file.read, 0), bytes):
            raise InvalidParameterError(
                f"{shown(self._shown)} is open in text mode. Open it in binary mode: open(path, 'rb')."
            )
        if not _attempt(self._shown, self._can_seek):
            raise InvalidParameterError(
                f"{shown(self._shown)} is not seekable, so it cannot be sent again after an error. Pass a path or "
                "io.BytesIO(file.read())."
            )
        self._start, self._end = _attempt(self._shown, self._measure)
        if self._start >= self._end:
            raise UploadError(f"{shown(self._shown)} has no bytes after its current position. Call seek(0) first.")

    @contextlib.contextmanager
    def body(self, stop: threading.Event) -> Iterator[Body]:
        """Yield the content, to one thread at a time."""
        with self._lock:
            _attempt(self._shown, self._file.seek, self._start)
            try:
                yield Body(
                    self._file,
                    self._end - self._start,
                    name=self._shown,
                    stop=stop,
                    is_unchanged=lambda: self._measure()[1] == self._end,
                )
            finally:
                # The caller may have closed the file.
                with contextlib.suppress(Exception):
                    self._file.seek(self._start)

    def _can_seek(self) -> bool:
        if hasattr(self._file, "seekable"):
            return bool(self._file.seekable())
        # Some temporary files of Python 3.10 can seek but have no seekable().
        return hasattr(self._file, "seek") and hasattr(self._file, "tell")

    def _measure(self) -> tuple[int, int]:
        start = self._file.tell()
        self._file.seek(0, io.SEEK_END)
        end = self._file.tell()
        self._file.seek(start)
        return start, end


def _check_found(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise UploadError(f"{shown(path)} is {kind}; only files can be uploaded.")
    if not found.st_size:
        raise UploadError(f"{shown(path)} is empty.")


def _attempt(name: str, function: Callable[..., T], *args: Any) -> T:
    """Call a function that reads a file; convert any error to :class:`UploadError`."""
    try:
        return function(*args)
    except Exception as error:
        # Any exception: the file object is the caller's.
        reason = printable(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    raise UploadError(f"Could not read {shown(name)}: {reason}.")
