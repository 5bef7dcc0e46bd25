"""The worker pool: threads, a window of jobs, and results in order or as they finish.

The caller's thread reads the jobs and hands out what is finished, so an iterable is never touched by another. What is
to be done for a job is cut into tasks; whichever worker is free takes the next one.

A worker is started when there is work for it and those before it leave the interpreter idle, and it stays. Only one
thread computes at a time, so if a server responds at once, two of them do less than one; if each response takes a
while, all are started after the first check.
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

#: Seconds that a group waits for more jobs while the caller has none to give.
LINGER = 0.05
#: Seconds between the checks of the caller's thread while it waits: an untimed wait cannot be interrupted by Ctrl-C on
#: Windows.
LOOK = 0.25
#: Seconds over which results are collected and handed out together while there is more to do: waking the caller's
#: thread for each one would slow down the workers.
NAP = 0.005
#: Seconds for which the workers are measured before another one is started.
FIRST_LOOK = 0.03
#: The share of that time spent computing above which no other worker is started: it would only slow down the others.
BUSY = 0.6
#: Seconds that the end of a run waits for threads that are still in a request. They are daemons and end by themselves.
JOIN_TIMEOUT = 1.0
#: The same for each run that a program left open when it ended; there may be some of them.
EXIT_TIMEOUT = 0.4


class HasIndex(Protocol):
    """What passes through a pool."""

    index: int
    error: CFPlatformError | None


J = TypeVar("J", bound=HasIndex)
#: What is done with one job, or with several that are handled together.
Step = Callable[[list[J]], object]


class Pool(Generic[J]):
    """Takes the jobs of one run through their steps.

    Some jobs are handled in a group, such as those whose paths are signed in one request. A worker takes a group when
    it is full, when nothing can join it any more, or when nothing has joined it for a moment.

    Args:
        workers: Maximum number of threads. If none can be started, the caller's thread does the work while it waits for
            results.
        handle: The step for a group.
        size: Maximum number of jobs in a group.
        window: Maximum number of jobs that were accepted and not handed out.
        concerns_all: Returns whether an error of a job's step would affect every other job too.
        ordered: Hand out jobs in the order in which they came, not as they finish.
        budget: Limits what is fetched before it is taken.
        on_wait: Called periodically by the caller's thread while it waits.
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
        # Number of workers known to be useful, and whether the next one is measuring whether it would be.
        self._useful = 1
        self._is_watching = False
        #: Seconds of processor time of the workers' finished steps.
        self._computed = 0.0
        # Pending work: first what has an order, then a full group, then the rest.
        self._first: list[tuple[int, J, Step[J]]] = []
        self._group: list[J] = []
        # The first group is full sooner, so that first results come soon.
        self._full = min(workers, size)
        self._grew_at = 0.0
        self._rest: deque[tuple[Step[J], list[J]]] = deque()
        #: Steps under way by which jobs may join the group.
        self._feeding = 0
        self._is_listed = False
        self._admitted = self._done = self._handed_out = 0
        #: Finished jobs that wait for the caller, by position: in input order or in order of completion.
        self._finished: dict[int, J] = {}
        self._fatal: BaseException | None = None

    def run(self, jobs: Iterable[J], begin: Callable[[J], object]) -> Generator[J, None, None]:
        """Yield the jobs when they are finished. Closing the generator cancels what is under way.

        Jobs are taken from the iterable in the caller's thread, with prefetch limited by the window. If it raises,
        what was taken is finished first.

        Args:
            jobs: The jobs.
            begin: Called with each job, in the caller's thread; submits its first step, or finishes it.
        """
        source = iter(jobs)
        listing_error: Exception | None = None
        # During interpreter shutdown a thread may be frozen while it holds a lock, so a run that was left open
        # is ended before that.
        atexit.register(self._end, EXIT_TIMEOUT)
        try:
            while True:
                for turn in itertools.count():
                    # Two a turn keep the window filled; more of them only while there is nothing to hand out.
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

    # --- What steps use --------------------------------------------------------------------------------------

    def submit(self, step: Step[J], jobs: list[J]) -> None:
        """Queue a step with the lowest priority."""
        with self._lock:
            self._rest.append((step, jobs))
            self._call_worker()

    def submit_first(self, step: Step[J], jobs: Iterable[J]) -> None:
        """Queue a step for each job before other work: earlier jobs first, as far as the budget allows."""
        with self._lock:
            for job in jobs:
                heapq.heappush(self._first, (job.index, job, step))
                self._call_worker()

    def submit_together(self, job: J, *, is_urgent: bool = False) -> None:
        """Queue a job to be handled in a group."""
        with self._lock:
            self._group.append(job)
            self._grew_at = time.monotonic()
            if is_urgent:
                self._full = 1
            # The first job of a group starts the wait for the others.
            self._call_worker()

    def reserve(self, job: J, size: int, *, is_all: bool = True) -> None:
        """Reserve the bytes of a document that is about to be received.

        Args:
            job: Its job.
            size: The bytes that it has.
            is_all: Whether no more bytes follow; otherwise, without memory, the document is requested again alone.

        Raises:
            OverBudgetError: If others have priority; then nothing is reserved, and the job must be submitted again.
        """
        if self._budget is None:
            return
        with self._lock:
            if not self._budget.reserve(job, size, is_all, is_awaited=self._is_awaited(job)):
                raise OverBudgetError
            self._wake_if_wanted()

    def finish(self, job: J) -> None:
        """Hand a job out."""
        with self._lock:
            self._finished[job.index if self._ordered else self._done] = job
            self._done += 1
            if self._has_output():
                self._has_result.notify()

    def fail(self, job: J, error: CFPlatformError) -> None:
        """Hand a job out with an error."""
        # Without its traceback, whose frames hold the job, its document, the signed URL and the client.
        job.error = error.with_traceback(None)
        self.finish(job)

    def abort(self, error: BaseException) -> None:
        """End the run; the caller gets the first reason."""
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
        """Return the next jobs to hand out, none at the end; do the work if there are no workers."""
        may_nap = self._budget is None
        while True:
            # Stopped from another thread, steps end without finishing their jobs.
            SINGLE.ensure_running()
            with self._lock:
                found = self._take_finished()
                if found is not None:
                    return found
                work = None if self._threads else self._next_work()
                may_nap = may_nap and work is None and self._has_backlog()
                if work is None and not may_nap:
                    self._has_result.wait(LOOK if self._threads else LINGER)
            if may_nap:
                time.sleep(NAP)
                may_nap = False
            elif work is not None:
                step, jobs, is_feeding = work
                self._do(step, jobs)
                with self._lock:
                    self._has_fed(is_feeding)
            elif self._on_wait is not None:
                self._on_wait()

    def _take_finished(self) -> list[J] | None:
        """Return the jobs that can be handed out now: ``None`` if there are none yet, an empty list at the end."""
        found: list[J] = []
        # All at once: a caller that takes the lock for each keeps the workers from theirs.
        while self._handed_out in self._finished:
            found.append(self._finished.pop(self._handed_out))
            self._handed_out += 1
            if self._budget is not None:
                # Each one alone, since it is counted until it is handed out.
                self._budget.release(found[0])
                self._has_work.notify()
                self._wake_if_wanted()
                break
        # Finished jobs are handed out even if the run fails: for uploads there is no other record of them.
        if not found and self._fatal is not None:
            raise self._fatal
        return found if found or (self._is_listed and self._admitted == self._handed_out) else None

    def _end(self, timeout: float = JOIN_TIMEOUT) -> None:
        if self._pid != os.getpid():
            # A forked child has copies of the run and of its locks, but not the threads that would release them.
            return
        with self._lock:
            self._stop_all()
        # A run that was left open is ended before the interpreter closes it, and then waits only once.
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
                self._has_fed(is_feeding)
                while (work := self._next_work()) is None:
                    if self.stop.is_set():
                        return
                    self._idle += 1
                    self._has_work.wait(LINGER if self._group else None)
                    self._idle -= 1
            step, jobs, is_feeding = work
            self._do(step, jobs)

    def _watch(self) -> bool:
        """Wait until the workers before this one leave the interpreter idle; return ``False`` if the run ended."""
        pause = FIRST_LOOK
        while True:
            began, before, was_idle = time.monotonic(), self._computed, self._idle
            if self.stop.wait(pause):
                return False
            with self._lock:
                share = (self._computed - before) / (time.monotonic() - began)
                if share < BUSY and not was_idle and not self._idle:
                    # As many as would together use all the computing time at the current rate.
                    self._useful = math.ceil((len(self._threads) - 1) / max(share, 0.001))
                    self._is_watching = False
                    return True
            pause = min(LOOK, 2 * pause)

    def _do(self, step: Step[J], jobs: list[J]) -> None:
        try:
            step(jobs)
        except Interrupted:
            pass
        except MemoryError:
            self.abort(
                CFPlatformError("There is no memory left for this run. What is finished is kept; use fewer workers.")
            )
        except CFPlatformError as error:
            if self._concerns_all(jobs[0], error):
                self.abort(error.with_traceback(None))
            else:
                for job in jobs:
                    # A copy, because each may be raised.
                    self.fail(job, copy.copy(error))
        except BaseException as error:
            # A bug of ours: it must reach the caller, not end with the thread.
            self.abort(error)

    # --- With the lock held ----------------------------------------------------------------------------------

    def _has_fed(self, is_feeding: bool) -> None:
        """Count off a step by which jobs may have joined the group."""
        if is_feeding:
            self._feeding -= 1
            if not self._feeding:
                # Now nothing more may join it.
                self._has_work.notify()

    def _call_worker(self) -> None:
        """Wake a worker for what was submitted, or start one."""
        if self._idle:
            self._has_work.notify()
        elif len(self._threads) < self._workers and not self._is_watching and not self.stop.is_set():
            is_watching = len(self._threads) >= self._useful
            # In the caller's context, so that a tracer can attribute the requests.
            work = functools.partial(contextvars.copy_context().run, self._work, is_watching)
            thread = threading.Thread(target=work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
                self._is_watching = is_watching
            except (RuntimeError, MemoryError):
                # Then the existing threads do the work, at worst the caller's; the next task tries again.
                pass
        if not self._threads:
            self._has_result.notify()

    def _next_work(self) -> tuple[Step[J], list[J], bool] | None:
        """Return the next step, its jobs, and whether they may join the group by it; ``None`` if there is none."""
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
