"""Downloads in other processes, in chunks that an executor runs.

The caller's process lists items, decides which to fetch, and writes the state. A worker process runs the same steps,
saves files in the same destination, and reports the saved files.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import pickle
import queue
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..destination.local import Destination
from ..destination.state import FinishedAsset, FinishedItem
from ..exceptions import (
    CFPlatformError,
    ConfigurationError,
    DestinationError,
    DownloadError,
    InvalidParameterError,
    blank,
    from_dict,
    printable,
    shown,
    to_dict,
)
from ..http import Settings, Transport
from ..resources.results import Executor
from .pool import CHECK_INTERVAL
from .receiving import Receiver
from .steps import Job, Limits, Steps

#: Items in a chunk. With 32 workers, 200 items take about a dozen round trips; filling and draining the window costs
#: about three of them. If a process dies, the items of its chunk are fetched again.
CHUNK = 200
#: Maximum number of submitted chunks, enough for 32 processes. More would only use memory, about 2 KB an item.
MAX_CHUNKS = 64
#: Seconds that the end of a run waits for the reports of its workers.
LAST_WAIT = 2.0
#: Maximum number of transports in a worker process, one per client.
KEPT_TRANSPORTS = 4


def checked(executor: Executor | None) -> Executor | None:
    """Check an executor."""
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        raise InvalidParameterError(
            f"executor must be a concurrent.futures.Executor or have a compatible submit(), not {shown(executor)}.",
            parameter="executor",
        )
    return executor


class Report(NamedTuple):
    """The result of a chunk: saved files and error of each job, and the error that ended the chunk."""

    done: dict[int, tuple[list[FinishedItem | FinishedAsset], Mapping[str, Any] | None]]
    fatal: Mapping[str, Any] | None = None


# Without a repr, like its settings: executors log the arguments of failed calls.
@dataclass(frozen=True, repr=False)
class Chunk:
    """The argument of a worker; it has the API key."""

    settings: Settings
    destination: Destination
    #: A file that exists during the run. It also shows that the worker has access to the caller's folder (the state
    #: folder, if the destination is a URL), not to a folder with the same name on another machine.
    mark: Path
    limits: Limits
    inject: bool
    jobs: list[Job]


# --- In a worker process -----------------------------------------------------------------------------------------


@functools.lru_cache(KEPT_TRANSPORTS)
def _transport(settings: Settings) -> Transport:
    return Transport(settings)


def download_chunk(chunk: Chunk) -> Report:
    """Download the items of a chunk; errors are returned as data."""
    # Copies, because a thread executor passes the caller's objects.
    jobs = [copy.copy(job) for job in chunk.jobs]
    for job in jobs:
        job.saved = []
    fatal = None
    try:
        calls = _transport(chunk.settings)
        receiver = Receiver(calls, chunk.destination, lambda job, saved: job.saved.append(saved), inject=chunk.inject)
        steps = Steps(calls, receiver.document, chunk.limits, receive_asset=receiver.asset)
        _ensure_running(chunk.mark)
        with contextlib.closing(steps.run(jobs)) as finished:
            for _ in finished:
                _ensure_running(chunk.mark)
    except CFPlatformError as error:
        fatal = to_dict(error)
    finally:
        chunk.destination.release()
    # All jobs, not only finished ones: all files on disk must be recorded.
    return Report({n: (job.saved, to_dict(job.error) if job.error else None) for n, job in enumerate(jobs)}, fatal)


def _ensure_running(mark: Path) -> None:
    if not os.path.lexists(mark):
        raise DownloadError(
            f"A worker on {socket.gethostname()!r} has no access to the caller's folder: {str(mark)!r} is missing. "
            "Workers need the same folder at the same path."
        )


# --- In the caller's process -------------------------------------------------------------------------------------


class ExecutorSteps:
    """Runs jobs like :class:`Steps`, but in the processes of an executor, which is not shut down.

    ``keep`` is called in the caller's thread with a job and each of its saved files, and writes the state.
    """

    def __init__(
        self,
        executor: Executor,
        settings: Settings,
        destination: Destination,
        keep: Callable[[Job, FinishedItem | FinishedAsset], None],
        limits: Limits,
        *,
        inject: bool,
    ) -> None:
        problem = ""
        try:
            pickle.dumps(settings)
        except Exception as error:
            problem = type(error).__name__
        if problem:
            # All other settings are plain values. Raised outside the except block: its context would have the key.
            raise ConfigurationError(
                f"executor needs a client with picklable settings ({problem}). Pass retries=... as a number, or as a "
                "urllib3.Retry whose class can be imported in the worker processes.",
                parameter="executor",
            )
        self._executor = executor
        self._settings = settings
        self._destination = destination
        self._keep = keep
        self._limits = limits
        self._inject = inject
        self._running: dict[Any, list[Job]] = {}
        self._finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, jobs: Iterable[Job]) -> Generator[Job]:
        """Yield the jobs when they are finished. If the iterable raises, the jobs so far are finished first.

        Raises:
            CFPlatformError: If the key is rejected, the disk is full, or the executor fails.
        """
        pid = os.getpid()
        mark = self._destination.part()
        try:
            yield from self._run(iter(jobs), mark.path)
        finally:
            # The copy in a forked child must not end the parent's run.
            if pid == os.getpid():
                # First: without the file, the workers stop.
                mark.discard()
                self._end()

    def _run(self, source: Iterator[Job], mark: Path) -> Iterator[Job]:
        chunk: list[Job] = []
        job: Job | None
        listing_error = None
        while True:
            try:
                job = next(source, None)
            except Exception as error:
                job, listing_error = None, error
            if job is not None and (job.is_done or job.error is not None):
                yield job
            elif job is not None:
                chunk.append(job)
            if chunk and (job is None or len(chunk) == CHUNK):
                self._submit(chunk, mark)
                chunk = []
            while self._running and (job is None or len(self._running) >= MAX_CHUNKS or not self._finished.empty()):
                # In slices: on Windows, Ctrl-C does not interrupt a wait without a timeout.
                with contextlib.suppress(queue.Empty):
                    yield from self._collect(self._finished.get(timeout=CHECK_INTERVAL))
            if job is None:
                break
        if listing_error is not None:
            raise listing_error

    def _submit(self, jobs: list[Job], mark: Path) -> None:
        chunk = Chunk(self._settings, self._destination, mark, self._limits, self._inject, jobs)
        with self._destination.errors():
            if not mark.exists():
                raise DestinationError(
                    f"{str(mark.parent)!r} was removed while other processes were using it. Finished items are kept; "
                    "run it again to fetch the missing items."
                )
            # Otherwise another process would remove it as stale after a day.
            os.utime(mark)
        try:
            future = self._executor.submit(download_chunk, chunk)
        except Exception as error:
            raise self._lost(error) from error
        self._running[future] = jobs
        future.add_done_callback(self._finished.put)

    def _collect(self, future: Any) -> list[Job]:
        """Record the result of a chunk, and return its jobs."""
        jobs = self._running.pop(future)
        try:
            report = future.result()
        except Exception as error:
            raise self._lost(error) from error
        self._record(jobs, report)
        if report.fatal is not None:
            raise from_dict(report.fatal)
        return jobs

    def _record(self, jobs: list[Job], report: Report) -> None:
        for number, (saved, error) in report.done.items():
            job = jobs[number]
            for each in saved:
                self._keep(job, each)
            job.error = None if error is None else from_dict(error)

    def _lost(self, error: Exception) -> DownloadError:
        words = printable(blank(str(error), self._settings.api_key))[:200]
        return DownloadError(
            f"The executor failed ({type(error).__name__}: {words}). A worker process may have died, or the executor "
            "was shut down. Finished items are kept; run it again with a working executor to fetch the missing items."
        )

    def _end(self) -> None:
        """Record the reports that arrive shortly after the stop; cancel the rest."""
        give_up = time.monotonic() + LAST_WAIT
        for future, jobs in list(self._running.items()):
            # The original error must be raised.
            with contextlib.suppress(Exception):
                self._record(jobs, future.result(timeout=max(0.0, give_up - time.monotonic())))
            future.cancel()
