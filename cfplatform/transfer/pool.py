"""The worker pool: threads, a window of jobs, and results in order or as they finish.

The caller's thread reads the jobs and hands out what is finished, so an iterable is never touched by another. What is
to be done for a job is cut into tasks; whichever worker is free takes the next one.

A worker is started when there is work for it and those before it leave the interpreter idle, and it stays. Only one
thread computes at a time, so where a server answers at once two of them do less than one; where each answer takes a
while, all are started after the first look.
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import heapq
import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, Protocol, TypeVar

from ..exceptions import CFPlatformError
from ..http import Interrupted
from .memory import MemoryBudget, OverBudgetError

#: Seconds that a group waits for more jobs while the caller has none to give.
LINGER = 0.05
#: Seconds after which the caller's thread looks around while it waits: an untimed wait cannot be interrupted by Ctrl-C
#: on Windows.
LOOK = 0.25
#: Seconds in which the results that come are handed out together while there is more to do: a caller's thread that is
#: woken for each one takes the interpreter from the workers.
NAP = 0.005
#: Seconds for which the workers are looked at before another one is started.
FIRST_LOOK = 0.03
#: The part of that time for which they computed, from which on another one would take the interpreter from them.
BUSY = 0.6
#: Seconds that the end of a run waits for threads that are still in a request. They are daemons and end by themselves.
JOIN_TIMEOUT = 1.0
#: The same for each run that a program left open when it ended; there may be some of them.
EXIT_TIMEOUT = 0.4

Task = Callable[[], object]


class HasIndex(Protocol):
    """What passes through a pool."""

    index: int


J = TypeVar("J", bound=HasIndex)


class Group(Generic[J]):
    """Jobs that are handled together, such as those whose paths are signed in one request.

    It is handled by a worker when it has ``size`` jobs, when nothing can join it any more, or when the caller has had
    no job to give for a moment. Only the pool uses it, with its lock held.

    Args:
        size: Jobs that make it full.
        most: Jobs that are handled together, at the most.
        handle: Called with them.
        first: What makes it full the first time, so that first results come soon.
        lingers: Whether it is handled though it is not full, where no more jobs come for a moment.
    """

    def __init__(
        self,
        size: int,
        most: int,
        handle: Callable[[list[J]], object],
        *,
        first: int | None = None,
        lingers: bool = True,
    ) -> None:
        self.jobs: list[J] = []
        self.lingers = lingers
        self.handle = handle
        self.is_urgent = False
        self._most = most
        self._size = size
        self._full = size if first is None else first
        self._grew_at = 0.0

    def add(self, job: J, is_urgent: bool) -> None:
        """Add a job."""
        self.jobs.append(job)
        self.is_urgent = self.is_urgent or is_urgent
        self._grew_at = time.monotonic()

    @property
    def is_full(self) -> bool:
        """Whether it is handled at once."""
        return len(self.jobs) >= self._full or self.is_urgent

    def is_ripe(self, is_window_full: bool) -> bool:
        """Tell whether it is handled though more may come: it has waited long enough, or they cannot come before."""
        return time.monotonic() - self._grew_at >= LINGER if self.lingers else is_window_full

    def take(self) -> list[J]:
        """Take the jobs out."""
        taken, self.jobs = self.jobs[: self._most], self.jobs[self._most :]
        self._full, self.is_urgent = self._size, False
        return taken


class Pool(Generic[J]):
    """Runs the tasks of one run.

    Args:
        workers: Threads, at the most. With 0, or where none can be started, the caller's thread does the work while it
            waits for results.
        window: Jobs, at the most, that came in and did not go out.
        ordered: Hand out jobs in the order in which they came, not as they finish.
        budget: Limits what is fetched before it is taken.
        on_wait: Called now and then by the caller's thread while it waits.
        name: How the names of the threads begin.

    Attributes:
        stop: Set when the run has ended; for waits and reads that are to end early.
    """

    def __init__(
        self,
        workers: int,
        *,
        window: int,
        ordered: bool = False,
        budget: MemoryBudget | None = None,
        on_wait: Callable[[], object] | None = None,
        name: str = "cfplatform",
    ) -> None:
        self.stop = threading.Event()
        self._workers = workers
        self._window = window
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
        # Workers that are known to be of use, and whether the one after them waits to see whether it is.
        self._useful = 1
        self._is_watching = False
        #: Seconds of processor time of the workers' finished tasks.
        self._computed = 0.0
        # What is to be done: first what has an order, then full groups, then the rest.
        self._numbers = itertools.count()
        self._first: list[tuple[int, int, J, Task]] = []
        self._groups: list[Group[J]] = []
        self._rest: deque[Task] = deque()
        self._feeding = 0
        self._is_listed = False
        self._admitted = self._handed_out = 0
        self._finished: deque[J] = deque()
        self._finished_early: dict[int, J] = {}
        self._fatal: BaseException | None = None
        self._has_ended = False

    def run(self, jobs: Iterable[J], begin: Callable[[J], object]) -> Generator[J, None, None]:
        """Yield the jobs when they are finished. Closing the generator cancels what is under way.

        Jobs are taken from the iterable in the caller's thread and only as far ahead as there is use for. If it raises,
        what was taken is finished first.

        Args:
            jobs: What is to be done.
            begin: Called with each job, in the caller's thread; submits its first task, or finishes it.
        """
        source = iter(jobs)
        listing_error: Exception | None = None
        # While the interpreter shuts down a thread may be frozen with a lock in its hands, so a run that was left open
        # is ended before that.
        atexit.register(self._end, EXIT_TIMEOUT)
        try:
            while True:
                for turn in itertools.count():
                    # Two a turn keep the window filled; more of them only while there is nothing to hand out.
                    if self._is_listed or self._is_full() or (turn >= 2 and self._has_output()):
                        break
                    try:
                        self._admit(next(source), begin)
                        self._handle_full_groups()
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

    # --- What tasks use --------------------------------------------------------------------------------------

    def group(self, size: int, handle: Callable[[list[J]], object], **options: Any) -> Group[J]:
        """Make a group; the options are those of :class:`Group`."""
        group: Group[J] = Group(size, options.pop("most", size), handle, **options)
        self._groups.append(group)
        return group

    def submit(self, task: Task) -> None:
        """Have a task done when nothing else is to be done first."""
        with self._lock:
            self._rest.append(task)
            self._call_worker()

    def submit_first(self, tasks: Iterable[tuple[J, Task]]) -> None:
        """Have tasks of jobs done before others: those of earlier jobs first, and as far as the budget allows."""
        with self._lock:
            for job, task in tasks:
                heapq.heappush(self._first, (job.index, next(self._numbers), job, task))
                self._call_worker()

    def submit_together(self, group: Group[J], job: J, *, is_urgent: bool = False) -> None:
        """Have a job handled with others."""
        with self._lock:
            if self._budget is not None:
                self._budget.release(job)
            group.add(job, is_urgent)
            # With the first of a group somebody begins to wait for the others.
            self._call_worker()

    def reserve(self, job: J, size: int, *, is_all: bool = True) -> None:
        """Set aside the bytes of a document that is about to be received.

        Args:
            job: Its job.
            size: The bytes that it has.
            is_all: Whether there are no more to come; else, where there is no memory, it comes again alone.

        Raises:
            OverBudgetError: If others have to go first; then the job is to be submitted again.
        """
        if self._budget is None:
            return
        with self._lock:
            if not self._budget.reserve(job, size, is_all, is_awaited=self._is_awaited(job)):
                raise OverBudgetError
            self._wake_if_wanted()

    def release(self, job: J) -> None:
        """Give back what was set aside for a job."""
        if self._budget is not None:
            with self._lock:
                self._budget.release(job)

    def finish(self, job: J) -> None:
        """Hand a job out."""
        with self._lock:
            if self._ordered:
                self._finished_early[job.index] = job
            else:
                self._finished.append(job)
            if self._has_output():
                self._has_result.notify()

    def abort(self, error: BaseException) -> None:
        """End the run; the caller gets the first reason."""
        with self._lock:
            self._fatal = self._fatal or error
            self._stop_all()

    # --- The caller's thread ---------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._admitted - self._handed_out >= self._window

    def _has_output(self) -> bool:
        return bool(self._finished) or self._handed_out in self._finished_early or self._fatal is not None

    def _has_backlog(self) -> bool:
        return bool(self._first or self._rest)

    def _admit(self, job: J, begin: Callable[[J], object]) -> None:
        job.index = self._admitted
        self._admitted += 1
        begin(job)

    def _handle_full_groups(self) -> None:
        """Do at once what no worker will: with an executor the caller's thread hands out chunks while it lists."""
        while not self._threads:
            with self._lock:
                group = next((group for group in self._groups if group.is_full and group.jobs), None)
                if group is None or self.stop.is_set():
                    return
                found = self._handling(group)
            self._do(*found)

    def _end_listing(self) -> None:
        with self._lock:
            self._is_listed = True
            self._has_work.notify_all()

    def _next_finished(self) -> list[J]:
        """Return the next jobs to hand out, none when all are; work where nobody else does."""
        may_nap = self._budget is None
        while True:
            with self._lock:
                found = self._take_finished()
                if found is not None:
                    return found
                task = None if self._threads else self._next_task()
                may_nap = may_nap and task is None and self._has_backlog()
                if task is None and not may_nap:
                    self._has_result.wait(LOOK if self._threads or not self._groups else LINGER)
            if may_nap:
                time.sleep(NAP)
                may_nap = False
            elif task is not None:
                self._do(*task)
            elif self._on_wait is not None:
                self._on_wait()

    def _take_finished(self) -> list[J] | None:
        """Return what can be handed out now, ``None`` if that is nothing yet, none when all was."""
        # What is finished is handed out even where the run fails: of an upload nothing else remembers it.
        if self._budget is None and self._finished:
            # All at once: a caller that takes the lock for each keeps the workers from theirs.
            found, self._finished = list(self._finished), deque()
            self._handed_out += len(found)
            return found
        if self._finished:
            return [self._handed(self._finished.popleft())]
        if self._handed_out in self._finished_early:
            return [self._handed(self._finished_early.pop(self._handed_out))]
        if self._fatal is not None:
            raise self._fatal
        return [] if self._is_listed and self._admitted == self._handed_out else None

    def _handed(self, job: J) -> J:
        self._handed_out += 1
        if self._budget is not None:
            self._budget.release(job)
            self._has_work.notify()
            self._wake_if_wanted()
        return job

    def _end(self, timeout: float = JOIN_TIMEOUT) -> None:
        if self._pid != os.getpid():
            # A forked child has copies of the run and of its locks, but not the threads that would give them back.
            return
        with self._lock:
            self._first.clear()
            self._rest.clear()
            for group in self._groups:
                group.jobs = []
            self._stop_all()
        if self._has_ended:
            # A run that was left open is ended before the interpreter closes it; who waits once has waited enough.
            return
        self._has_ended = True
        for thread in list(self._threads):
            thread.join(timeout / len(self._threads))

    # --- Workers ---------------------------------------------------------------------------------------------

    def _work(self, is_watching: bool) -> None:
        if is_watching and not self._watch():
            return
        fed = False
        computed = time.thread_time()
        with self._lock:
            if self._has_backlog():
                self._call_worker()
        while True:
            with self._lock:
                before, computed = computed, time.thread_time()
                self._computed += computed - before
                self._has_fed(fed)
                while (found := self._next_task()) is None:
                    if self.stop.is_set():
                        return
                    self._idle += 1
                    self._has_work.wait(LINGER if any(group.jobs for group in self._groups) else None)
                    self._idle -= 1
            task, fed = found
            self._try(task)

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
                    # As many as would compute all the time between them, if they go on like this.
                    self._useful = math.ceil((len(self._threads) - 1) / max(share, 0.001))
                    self._is_watching = False
                    return True
            pause = min(LOOK, 2 * pause)

    def _do(self, task: Task, feeds_groups: bool) -> None:
        self._try(task)
        with self._lock:
            self._has_fed(feeds_groups)

    def _try(self, task: Task) -> None:
        try:
            task()
        except Interrupted:
            pass
        except MemoryError:
            self.abort(
                CFPlatformError("There is no memory left for this run. What is finished is kept; use fewer workers.")
            )
        except BaseException as error:
            # A fault of our own: it must reach the caller, not die with the thread.
            self.abort(error)

    # --- With the lock held ----------------------------------------------------------------------------------

    def _has_fed(self, fed: bool) -> None:
        """Count off a task by which jobs may have joined a group."""
        if fed:
            self._feeding -= 1
            if not self._feeding:
                # Now nothing more may join one.
                self._has_work.notify()

    def _call_worker(self) -> None:
        """Wake a worker for what was submitted, or start one."""
        if self._idle:
            self._has_work.notify()
        elif len(self._threads) < self._workers and not self._is_watching and not self.stop.is_set():
            is_watching = len(self._threads) >= self._useful
            # In the context of who starts it, so that a tracer knows which trace the requests belong to.
            work = functools.partial(contextvars.copy_context().run, self._work, is_watching)
            thread = threading.Thread(target=work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
                self._is_watching = is_watching
            except (RuntimeError, MemoryError):
                # Then those that there are do the work, at worst the caller's; the next task tries again.
                pass
        if not self._threads:
            self._has_result.notify()

    def _next_task(self) -> tuple[Task, bool] | None:
        """Return what is to be done next, and whether jobs may join a group by it; ``None`` where that is nothing."""
        if self.stop.is_set():
            return None
        if self._first:
            _, _, job, task = self._first[0]
            if self._budget is None or self._budget.admit(job, self._before(job), is_awaited=self._is_awaited(job)):
                heapq.heappop(self._first)
                return task, False
        for group in self._groups:
            if group.jobs and group.is_full:
                return self._handling(group)
        if self._rest:
            self._feeding += 1
            return self._rest.popleft(), True
        for group in self._groups:
            if group.jobs and not self._feeding and (self._is_listed or group.is_ripe(self._is_full())):
                return self._handling(group)
        return None

    def _handling(self, group: Group[J]) -> tuple[Task, bool]:
        return functools.partial(group.handle, group.take()), False

    def _before(self, job: J) -> int | None:
        return job.index - self._handed_out if self._ordered else None

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
