"""Downloads in other processes: work is cut into chunks that an executor runs.

The caller's process lists, decides what to fetch, and writes the state. A worker process saves files in the same
destination, by the same steps, and reports what it saved.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import socket
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..destination import local
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
from ..http import Transport
from ..http.transport import Settings
from ..resources.options import Executor
from .pool import Pool
from .receiving import Receiver, Target
from .steps import Job, Limits, Steps

#: Items in a chunk. Each chunk fills its window and drains it, which costs some three round trips of the dozen
#: that 200 items take with 32 workers; and a process that dies takes one chunk with it, whose items are fetched again.
CHUNK = 200
#: Chunks that are submitted at the same time, so that 32 processes always find a next one. More would only hold items
#: in memory, some 2 KB each.
MAX_CHUNKS = 64
#: Seconds that the end of a run waits for what its workers have saved meanwhile.
LAST_WAIT = 2.0
#: Transports that a worker process keeps: one for each client that it works for.
KEPT_TRANSPORTS = 4

R = TypeVar("R")


def checked(executor: Executor | None) -> Executor | None:
    """Check that it is an executor."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InvalidParameterError(
            f"executor must be a concurrent.futures.Executor or have such a submit(), not {shown(executor)}.",
            parameter="executor",
        )
    if isinstance(executor, type):
        raise InvalidParameterError(
            f"executor must be an object, not the class {executor.__name__}.", parameter="executor"
        )
    return executor


class Done(NamedTuple):
    """What a worker did with one item; ``error`` is plain data."""

    document: FinishedItem | None
    asset: FinishedAsset | None
    error: Mapping[str, Any] | None


class Report(NamedTuple):
    """What a worker did with a chunk: by position, and what ended it before its end."""

    done: dict[int, Done]
    fatal: Mapping[str, Any] | None = None


# Without a repr, as its settings: executors log what they could not run.
@dataclass(frozen=True, repr=False)
class Chunk:
    """What a worker gets; it holds the API key."""

    settings: Settings
    destination: Destination
    #: A file that exists as long as the run. It also shows that the worker sees the caller's folder (that of the state,
    #: where the destination is a URL), and not a folder of the same name on another machine.
    mark: Path
    limits: Limits
    inject: bool
    jobs: list[Job[Any]]


# --- In a worker process -----------------------------------------------------------------------------------------


@functools.lru_cache(KEPT_TRANSPORTS)
def _transport(settings: Settings) -> Transport:
    return Transport(**settings.arguments)


def download_chunk(chunk: Chunk) -> Report:
    """Download the items of a chunk; everything that goes wrong on the way comes back as data."""
    jobs = chunk.jobs
    for job in jobs:
        # What the caller knows stays with the caller; what is saved here is reported.
        job.target = Target(job.target.folder, job.target.stem)
    fatal = None
    try:
        _download(chunk, jobs)
    except CFPlatformError as error:
        fatal = to_dict(error)
    # Of all jobs, not only of those that were handed out: what is on disk must be recorded in any case.
    done = {
        number: Done(job.target.known, job.target.asset, to_dict(job.error) if job.error else None)
        for number, job in enumerate(jobs)
        if job.result or job.error or job.target.known or job.target.asset
    }
    return Report(done, fatal)


def _download(chunk: Chunk, jobs: list[Job[bool]]) -> None:
    calls = _transport(chunk.settings)
    receiver = Receiver(calls, chunk.destination, inject=chunk.inject)

    def receive(job: Job[bool], stream: Any) -> bool:
        job.target = job.target._replace(known=receiver.document(job, stream))
        return True

    def receive_asset(job: Job[bool], renew: Any, run: Any) -> bool:
        job.target = job.target._replace(asset=receiver.asset(job, renew, run))
        return True

    steps = Steps(calls, receive, chunk.limits, receive_asset=receive_asset)
    _ensure_wanted(chunk.mark)
    try:
        with contextlib.closing(steps.run(jobs)) as finished:
            for _ in finished:
                _ensure_wanted(chunk.mark)
    finally:
        chunk.destination.release()


def _ensure_wanted(mark: Path) -> None:
    if not os.path.lexists(mark):
        raise DownloadError(
            f"A worker on {socket.gethostname()!r} does not see what the caller wrote into the destination: "
            f"{str(mark)!r} is not there. Workers must have the caller's folder under the same path."
        )


# --- In the caller's process -------------------------------------------------------------------------------------


class ExecutorSteps(Generic[R]):
    """Runs jobs as :class:`Steps` does, but in the processes of an executor, which is not shut down.

    ``take`` is called in the caller's thread with a job and what was done; it writes the state and sets the result.
    """

    def __init__(
        self,
        executor: Executor,
        settings: Settings,
        destination: Destination,
        take: Callable[[Job[R], Done], None],
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
            # Everything else is checked to be plain values. Raised here, so that no frame or context holds the key.
            raise ConfigurationError(
                f"executor= needs a client whose settings can be pickled ({problem}): pass retries=... as a number, or "
                "as a urllib3.Retry of a class that is importable in the worker processes.",
                parameter="executor",
            )
        self._executor = executor
        self._settings = settings
        self._destination = destination
        self._take = take
        self._limits = limits
        self._inject = inject
        # Without threads of its own: the caller's hands chunks out and takes back what was done.
        self._pool: Pool[Job[R]] = Pool(0, window=MAX_CHUNKS * CHUNK)
        self._chunk = self._pool.group(CHUNK, self._submit, lingers=False)
        self._running: dict[Any, list[Job[R]]] = {}

    def run(self, jobs: Iterable[Job[R]]) -> Generator[Job[R]]:
        """Yield the jobs when they are done; see :meth:`Pool.run`.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, the disk is full, or the executor fails.
        """
        pid = os.getpid()
        try:
            mark = self._destination.part()
        except OSError as error:
            raise local.destination_error(error) from None
        self._mark = mark.path
        try:
            with contextlib.closing(self._pool.run(jobs, self._begin)) as finished:
                yield from finished
        finally:
            # A forked child has a copy of this, which must not end its parent's run.
            if pid == os.getpid():
                # First, because its absence stops the workers.
                mark.discard()
                self._end()

    def _begin(self, job: Job[R]) -> None:
        if job.is_done:
            self._pool.finish(job)
        else:
            self._pool.submit_together(self._chunk, job)

    def _submit(self, jobs: list[Job[R]]) -> None:
        chunk = Chunk(self._settings, self._destination, self._mark, self._limits, self._inject, jobs)
        try:
            # Otherwise another process would remove it after a day as left behind.
            os.utime(self._mark)
        except OSError as error:
            raise local.destination_error(error) from None
        try:
            future = self._executor.submit(download_chunk, chunk)
        except Exception as error:
            raise self._lost(error) from error
        self._running[future] = jobs
        future.add_done_callback(lambda future: self._pool.submit(functools.partial(self._collect, future)))

    def _collect(self, future: Any) -> None:
        """Record what was done of a chunk."""
        jobs = self._running.pop(future)
        try:
            report = future.result()
        except Exception as error:
            raise self._lost(error) from error
        for position, done in report.done.items():
            self._remember(jobs[position], done)
        if report.fatal is not None:
            raise from_dict(report.fatal)
        for job in jobs:
            self._pool.finish(job)

    def _remember(self, job: Job[R], done: Done) -> None:
        try:
            self._take(job, done)
        except OSError as error:
            # As the steps do where the file system refuses something.
            problem = local.destination_error(error)
            if isinstance(problem, DestinationError):
                raise problem from None
            job.fail(problem)

    def _lost(self, error: Exception) -> DownloadError:
        words = printable(blank(str(error), self._settings.arguments["api_key"]))[:200]
        return DownloadError(
            f"The executor could not finish its work ({type(error).__name__}: {words}). A worker process may have "
            "died, or the executor was shut down. What is finished is kept; run it again, with an executor "
            "that works, to fetch only what is missing."
        )

    def _end(self) -> None:
        """Record what workers save in a short time after the stop; cancel the rest."""
        give_up = time.monotonic() + LAST_WAIT
        for future, jobs in list(self._running.items()):
            # The error that ended the run must be raised, not one of these.
            with contextlib.suppress(Exception):
                report = future.result(timeout=max(0.0, give_up - time.monotonic()))
                for position, done in report.done.items():
                    self._take(jobs[position], done)
            future.cancel()
