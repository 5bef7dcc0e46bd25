"""The worker pool: threads, a window of jobs, and results in order or as they finish.

Only the caller's thread reads the jobs and returns results, so an iterable is never used in another thread. Each job
has several steps, and the next free worker takes the next step.

A worker is started when there is work for it and the others leave the interpreter idle; it then stays. Only one thread
computes at a time: if a server responds at once, two workers are slower than one. If each response takes a while, all
are started after the first check.
"""

from __future__ import annotations

import atexit
import contextvars
import copy
import functools
import heapq
import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, Protocol, TypeVar

from ..exceptions import CFPlatformError
from ..http import SINGLE, Interrupted
from .memory import MemoryBudget, OverBudgetError

#: Seconds that a group waits for more jobs from the caller.
LINGER = 0.05
#: Seconds between the checks of the caller's thread while it waits. On Windows, Ctrl-C does not interrupt a wait that
#: has no timeout.
CHECK_INTERVAL = 0.25
#: Seconds during which results are collected while there is more to do: waking the caller's thread for each result
#: would slow down the workers.
COLLECT_SECONDS = 0.005
#: Seconds during which the workers are measured before another one is started.
MEASURE_SECONDS = 0.03
#: Maximum share of that time spent computing; above it, another worker would only slow down the others.
BUSY = 0.6
#: Seconds that the end of a run waits for threads in a request. They are daemons and end on their own.
JOIN_TIMEOUT = 1.0
#: The same for each run that is still open when the program exits.
EXIT_TIMEOUT = 0.4


class HasIndex(Protocol):
    """A job of a pool."""

    index: int
    error: CFPlatformError | None


J = TypeVar("J", bound=HasIndex)
#: A step of one job, or of a group of jobs.
Step = Callable[[list[J]], object]


class Pool(Generic[J]):
    """Runs the steps of the jobs of one run.

    Some jobs are handled in a group, such as those whose paths are signed in one request. A worker takes a group when
    it is full, when no more jobs can join it, or when none has joined it for a moment.

    Args:
        workers: Maximum number of threads. If none can be started, the caller's thread does the work while it waits for
            results.
        handle: The step for a group.
        size: Maximum number of jobs in a group.
        window: Maximum number of jobs that were accepted but not yet returned.
        concerns_all: Returns whether an error in a step affects all other jobs.
        ordered: Return jobs in input order, not as they finish.
        budget: Memory budget for prefetched documents.
        on_wait: Called periodically in the caller's thread while it waits.
        name: Prefix of the thread names.

    Attributes:
        stop: Set when the run has ended; ends waits and reads early.
    """

    def __init__(
        self,
        workers: int,
        handle: Step[J],
        size: int,
        *,
        window: int,
        concerns_all: Callable[[J, CFPlatformError], bool],
        ordered: bool = False,
        budget: MemoryBudget | None = None,
        on_wait: Callable[[], object] | None = None,
        name: str = "cfplatform",
    ) -> None:
        self.stop = threading.Event()
        self._workers = workers
        self._handle = handle
        self._size = size
        self._window = window
        self._concerns_all = concerns_all
        self._ordered = ordered
        self._budget = budget
        self._on_wait = on_wait
        self._name = name
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._has_work = threading.Condition(self._lock)
        self._has_result = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        # Number of useful workers so far, and whether the next one is measuring whether it would be useful.
        self._useful = 1
        self._is_watching = False
        #: Seconds of processor time of the workers' finished steps.
        self._computed = 0.0
        # Pending work, by priority: ordered steps, a full group, the rest.
        self._first: list[tuple[int, J, Step[J]]] = []
        self._group: list[J] = []
        # The first group is smaller, for early results.
        self._full = min(workers, size)
        self._grew_at = 0.0
        self._rest: deque[tuple[Step[J], list[J]]] = deque()
        #: Running steps that may add jobs to the group.
        self._feeding = 0
        self._is_listed = False
        self._admitted = self._done = self._handed_out = 0
        #: Finished jobs for the caller, by position in input order or in order of completion.
        self._finished: dict[int, J] = {}
        self._fatal: BaseException | None = None

    def run(self, jobs: Iterable[J], begin: Callable[[J], object]) -> Generator[J, None, None]:
        """Yield the jobs when they are finished. Closing the generator cancels running steps.

        Jobs are read from the iterable in the caller's thread, as far as the window allows. If the iterable raises, the
        jobs so far are finished first.

        Args:
            jobs: The jobs.
            begin: Called with each job in the caller's thread. Submits its first step, or finishes it.
        """
        source = iter(jobs)
        listing_error: Exception | None = None
        # At interpreter shutdown a thread may be frozen while it holds a lock, so an open run is ended first.
        atexit.register(self._end, EXIT_TIMEOUT)
        try:
            while True:
                for turn in itertools.count():
                    # Two per turn keep the window filled; more only while there are no results.
                    if self._is_listed or self._is_full() or (turn >= 2 and self._has_output()):
                        break
                    try:
                        job = next(source)
                        job.index = self._admitted
                        self._admitted += 1
                        begin(job)
                    except StopIteration:
                        self._end_listing()
                    except Exception as error:
                        listing_error = error
                        self._end_listing()
                jobs_done = self._next_finished()
                if not jobs_done:
                    break
                yield from jobs_done
            if listing_error is not None:
                raise listing_error
        finally:
            atexit.unregister(self._end)
            self._end()

    # --- Called by steps -------------------------------------------------------------------------------------

    def submit(self, step: Step[J], jobs: list[J]) -> None:
        """Queue a step with the lowest priority."""
        with self._lock:
            self._rest.append((step, jobs))
            self._call_worker()

    def submit_first(self, step: Step[J], jobs: Iterable[J]) -> None:
        """Queue a step for each job with the highest priority: earlier jobs first, within the budget."""
        with self._lock:
            for job in jobs:
                heapq.heappush(self._first, (job.index, job, step))
                self._call_worker()

    def submit_together(self, job: J, *, is_urgent: bool = False) -> None:
        """Add a job to the group."""
        with self._lock:
            self._group.append(job)
            self._grew_at = time.monotonic()
            if is_urgent:
                self._full = 1
            # A worker must wait for the group to fill.
            self._call_worker()

    def reserve(self, job: J, size: int, *, is_all: bool = True) -> None:
        """Reserve memory for a document before it is received.

        Args:
            job: Its job.
            size: Bytes to reserve.
            is_all: Whether ``size`` is the full size; see :meth:`MemoryBudget.reserve`.

        Raises:
            OverBudgetError: If there is no memory. Nothing is reserved, and the job must be submitted again.
        """
        if self._budget is None:
            return
        with self._lock:
            if not self._budget.reserve(job, size, is_all, is_awaited=self._is_awaited(job)):
                raise OverBudgetError
            self._wake_if_wanted()

    def finish(self, job: J) -> None:
        """Return a job to the caller."""
        with self._lock:
            self._finished[job.index if self._ordered else self._done] = job
            self._done += 1
            if self._has_output():
                self._has_result.notify()

    def fail(self, job: J, error: CFPlatformError) -> None:
        """Return a job to the caller with an error."""
        # Without its traceback, whose frames refer to the job, its document, the signed URL and the client.
        job.error = error.with_traceback(None)
        self.finish(job)

    def abort(self, error: BaseException) -> None:
        """End the run with an error; the first one is raised in the caller."""
        with self._lock:
            self._fatal = self._fatal or error
            self._stop_all()

    # --- The caller's thread ---------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._admitted - self._handed_out >= self._window

    def _has_output(self) -> bool:
        return self._handed_out in self._finished or self._fatal is not None

    def _has_backlog(self) -> bool:
        return bool(self._first or self._rest)

    def _end_listing(self) -> None:
        with self._lock:
            self._is_listed = True
            self._has_work.notify_all()

    def _next_finished(self) -> list[J]:
        """Return the next finished jobs, empty at the end; do the work if there are no workers."""
        may_collect = self._budget is None
        while True:
            # After a stop from another thread, jobs are never finished.
            SINGLE.ensure_running()
            with self._lock:
                found = self._take_finished()
                if found is not None:
                    return found
                work = None if self._threads else self._next_work()
                may_collect = may_collect and work is None and self._has_backlog()
                if work is None and not may_collect:
                    self._has_result.wait(CHECK_INTERVAL if self._threads else LINGER)
            if may_collect:
                time.sleep(COLLECT_SECONDS)
                may_collect = False
            elif work is not None:
                step, jobs, is_feeding = work
                self._do(step, jobs)
                with self._lock:
                    self._end_feeding(is_feeding)
            elif self._on_wait is not None:
                self._on_wait()

    def _take_finished(self) -> list[J] | None:
        """Return the jobs that are finished: ``None`` if there are none yet, an empty list at the end."""
        found: list[J] = []
        # All at once: taking the lock for each would delay the workers.
        while self._handed_out in self._finished:
            found.append(self._finished.pop(self._handed_out))
            self._handed_out += 1
            if self._budget is not None:
                # One at a time: each is counted until it is returned.
                self._budget.release(found[0])
                self._has_work.notify()
                self._wake_if_wanted()
                break
        # Finished jobs are returned even if the run fails: for uploads there is no other record of them.
        if not found and self._fatal is not None:
            raise self._fatal
        return found if found or (self._is_listed and self._admitted == self._handed_out) else None

    def _end(self, timeout: float = JOIN_TIMEOUT) -> None:
        if self._pid != os.getpid():
            # A forked child has copies of the locks, but not the threads that would release them.
            return
        with self._lock:
            self._stop_all()
        # Cleared, because an open run is ended twice at interpreter shutdown but should wait once.
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(timeout / len(threads))

    # --- Workers ---------------------------------------------------------------------------------------------

    def _work(self, is_watching: bool) -> None:
        if is_watching and not self._watch():
            return
        is_feeding = False
        computed = time.thread_time()
        with self._lock:
            if self._has_backlog():
                self._call_worker()
        while True:
            with self._lock:
                before, computed = computed, time.thread_time()
                self._computed += computed - before
                self._end_feeding(is_feeding)
                while (work := self._next_work()) is None:
                    if self.stop.is_set():
                        return
                    self._idle += 1
                    self._has_work.wait(LINGER if self._group else None)
                    self._idle -= 1
            step, jobs, is_feeding = work
            self._do(step, jobs)

    def _watch(self) -> bool:
        """Wait until the other workers leave the interpreter idle; return ``False`` if the run has ended."""
        pause = MEASURE_SECONDS
        while True:
            began, before, was_idle = time.monotonic(), self._computed, self._idle
            if self.stop.wait(pause):
                return False
            with self._lock:
                share = (self._computed - before) / (time.monotonic() - began)
                if share < BUSY and not was_idle and not self._idle:
                    # As many as would use all the computing time at the current rate.
                    self._useful = math.ceil((len(self._threads) - 1) / max(share, 0.001))
                    self._is_watching = False
                    return True
            pause = min(CHECK_INTERVAL, 2 * pause)

    def _do(self, step: Step[J], jobs: list[J]) -> None:
        try:
            step(jobs)
        except Interrupted:
            pass
        except MemoryError:
            self.abort(CFPlatformError("Out of memory. Finished items are kept; run it again with fewer workers."))
        except CFPlatformError as error:
            if self._concerns_all(jobs[0], error):
                self.abort(error.with_traceback(None))
            else:
                for job in jobs:
                    # A copy for each job, because each may be raised.
                    self.fail(job, copy.copy(error))
        except BaseException as error:
            # A bug of ours: it must reach the caller.
            self.abort(error)

    # --- With the lock held ----------------------------------------------------------------------------------

    def _end_feeding(self, is_feeding: bool) -> None:
        """Record the end of a step that could add jobs to the group."""
        if is_feeding:
            self._feeding -= 1
            if not self._feeding:
                # No more jobs can join.
                self._has_work.notify()

    def _call_worker(self) -> None:
        """Wake a worker, or start one."""
        if self._idle:
            self._has_work.notify()
        elif len(self._threads) < self._workers and not self._is_watching and not self.stop.is_set():
            is_watching = len(self._threads) >= self._useful
            # In the caller's context: a tracer must know the trace of a request.
            work = functools.partial(contextvars.copy_context().run, self._work, is_watching)
            thread = threading.Thread(target=work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
                self._is_watching = is_watching
            except (RuntimeError, MemoryError):
                # The existing threads do the work, or the caller's; the next step tries again.
                pass
        if not self._threads:
            self._has_result.notify()

    def _next_work(self) -> tuple[Step[J], list[J], bool] | None:
        """Return the next step, its jobs, and whether it may add jobs to the group; ``None`` if there is none."""
        if self.stop.is_set():
            return None
        if self._first:
            _, job, step = self._first[0]
            if self._budget is None or self._budget.admit(job, is_awaited=self._is_awaited(job)):
                heapq.heappop(self._first)
                return step, [job], False
        if len(self._group) >= self._full:
            return self._take_group()
        if self._rest:
            self._feeding += 1
            return *self._rest.popleft(), True
        has_waited = self._is_listed or time.monotonic() - self._grew_at >= LINGER
        return self._take_group() if self._group and not self._feeding and has_waited else None

    def _take_group(self) -> tuple[Step[J], list[J], bool]:
        taken, self._group = self._group[: self._size], self._group[self._size :]
        self._full = self._size
        return self._handle, taken, False

    def _is_awaited(self, job: J) -> bool:
        return self._ordered and job.index == self._handed_out

    def _wake_if_wanted(self) -> None:
        if self._budget is not None and self._budget.is_wanted:
            self._budget.is_wanted = False
            self._has_work.notify_all()

    def _stop_all(self) -> None:
        self.stop.set()
        self._has_work.notify_all()
        self._has_result.notify()
