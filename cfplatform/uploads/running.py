"""One run of uploads.

Worker threads take a file, then an address, then send. The thread of the caller reads the files and hands out results,
so an iterable is never touched by another.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterable

from .. import progress
from ..exceptions import APIError, CFPlatformError, UploadError
from ..threads import Threads
from ..transport import Interrupted, Transport, has_expired
from .addresses import MAX_URLS, OUTAGE, Addresses
from .results import UploadedFile, UploadResult
from .sources import File, OnDisk, OpenFile, guess_content_type, source

#: New addresses for one file whose address was refused, at the most.
MAX_RENEWALS = 3


class _Job:
    __slots__ = ("file", "has_address", "source")

    def __init__(self, file: File, source: OnDisk | OpenFile) -> None:
        self.file = file
        self.source = source
        self.has_address = False


class Uploader:
    """One run of uploads.

    Args:
        calls: The transport.
        space_id: The space that gets the files.
        content_type: The type of all files; by their names if ``None``.
        workers: Files sent at the same time, at the most.
        pauses: Seconds to wait, in turn, while no address can be had.
    """

    def __init__(
        self,
        calls: Transport,
        space_id: str,
        *,
        content_type: str | None,
        workers: int,
        pauses: tuple[float, ...] = (),
    ) -> None:
        self._calls = calls
        self._content_type = content_type
        self._workers = workers
        # Enough that a whole group of addresses is asked for while the workers are busy.
        self._window = 2 * workers + MAX_URLS
        self._stop = threading.Event()
        self._addresses = Addresses(calls, space_id, self._stop, pauses)
        lock = threading.Lock()
        self._lock = lock
        self._work = threading.Condition(lock)
        self._done = threading.Condition(lock)
        self._threads = Threads("cfplatform-upload", self._halt)
        self._open_files: dict[int, OpenFile] = {}
        self._queue: deque[_Job] = deque()
        self._finished: deque[tuple[UploadResult, _Job | None]] = deque()
        self._idle = self._admitted = self._handed_out = 0
        self._is_listed = False
        self._fatal: BaseException | None = None

    def run(
        self, files: Iterable[File], reporter: progress.ProgressReporter, total: int | None
    ) -> Generator[UploadResult, None, None]:
        """Yield a result for each file as it finishes. Closing the generator cancels what is under way.

        If the iterable raises, the files taken are finished first.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, or the space does not exist.
        """
        reporter.start(total)
        try:
            # Closed here, not when it is collected: an error of the reporter must end the run at once.
            with contextlib.closing(self._results(files)) as results:
                for result in results:
                    uploaded = result.uploaded
                    reporter.advance("uploaded" if uploaded else "failed", uploaded.size if uploaded else 0)
                    yield result
        finally:
            reporter.finish()

    def _results(self, files: Iterable[File]) -> Generator[UploadResult, None, None]:
        given = iter(files)
        listing_error: Exception | None = None
        with self._threads:
            while True:
                for turn in itertools.count():
                    # Two a turn keep the window filled; more of them only while there is nothing to hand out.
                    if self._is_listed or self._is_full() or self._stop.is_set() or (turn >= 2 and self._finished):
                        break
                    try:
                        self._admit(next(given))
                    except StopIteration:
                        self._end_listing()
                    except Exception as error:
                        listing_error = error
                        self._end_listing()
                result = self._next_finished()
                if result is None:
                    break
                yield result
            if listing_error is not None:
                raise listing_error

    # --- The caller's thread -------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._admitted - self._handed_out >= self._window

    def _end_listing(self) -> None:
        self._is_listed = True
        self._addresses.complete()

    def _admit(self, file: File) -> None:
        """Check a file, so that no address is asked for one that cannot be sent, and line it up."""
        self._admitted += 1
        try:
            job = _Job(file, self._source(file))
        except CFPlatformError as error:
            self._finished.append((UploadResult(file, error=error.with_traceback(None)), None))
            return
        self._addresses.need(1)
        with self._lock:
            self._queue.append(job)
            if self._idle:
                self._work.notify()
            if len(self._queue) > self._idle and len(self._threads) < self._workers:
                self._threads.start(self._take_turns)

    def _source(self, file: File) -> OnDisk | OpenFile:
        found = self._open_files.get(id(file)) or source(file)
        if isinstance(found, OpenFile):
            self._open_files[id(file)] = found
            found.uses += 1
        return found

    def _next_finished(self) -> UploadResult | None:
        """Return the next result to hand out, or ``None`` when all are."""
        with self._lock:
            # What was uploaded is told even where the run fails: nothing else remembers it.
            while not self._finished:
                if self._fatal is not None:
                    raise self._fatal
                if self._is_listed and self._admitted == self._handed_out:
                    return None
                # In slices, because an untimed wait cannot be interrupted by Ctrl-C on Windows.
                self._done.wait(0.5)
            result, job = self._finished.popleft()
            self._handed_out += 1
        if job is not None and isinstance(job.source, OpenFile):
            job.source.uses -= 1
            if not job.source.uses:
                del self._open_files[id(job.file)]
        return result

    def _halt(self, error: BaseException | None = None) -> None:
        with self._lock:
            self._fatal = self._fatal or error
            self._stop.set()
            self._queue.clear()
            self._work.notify_all()
            self._done.notify_all()
        self._addresses.wake()

    # --- Workers -------------------------------------------------------------------------------------------

    def _take_turns(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                result = UploadResult(job.file, self._upload(job))
            except Interrupted:
                return
            except CFPlatformError as error:
                # Without its traceback, whose frames hold the signed URL.
                problem = error.with_traceback(None)
                if not _concerns_one(problem, job):
                    self._halt(problem)
                    return
                result = UploadResult(job.file, error=problem)
            except BaseException as error:
                # A fault of our own: it must reach the caller, not die with the thread.
                self._halt(error)
                return
            if not job.has_address:
                self._addresses.need(-1)
            with self._lock:
                self._finished.append((result, job))
                self._done.notify()

    def _next_job(self) -> _Job | None:
        with self._lock:
            while not self._stop.is_set():
                if self._queue:
                    return self._queue.popleft()
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            return None

    def _upload(self, job: _Job) -> UploadedFile:
        with job.source.body(self._stop) as body:
            content_type = self._content_type or guess_content_type(job.source.name)
            renewals = 0
            while True:
                address = self._addresses.take()
                job.has_address = True
                try:
                    self._calls.upload(address.url, body, content_type, stop=self._stop)
                    break
                except APIError as error:
                    if renewals == MAX_RENEWALS or not _is_address_refused(error):
                        raise
                job.has_address = False
                self._addresses.replace(address)
                renewals += 1
            return UploadedFile(address.path, body.size, content_type, job.source.name)


def _is_address_refused(error: APIError) -> bool:
    """Tell whether another address may help: this one has expired, or is refused for a reason of its own."""
    return error.status_code == 403 or has_expired(error)


def _concerns_one(error: CFPlatformError, job: _Job) -> bool:
    """Tell whether other files may fare better: what the storage says is about one, what the API says about all."""
    if isinstance(error, (UploadError, *OUTAGE)):
        return True
    return job.has_address and isinstance(error, APIError)
