"""What is to be done next, by whom: all that the threads of a run share, and the one lock that guards it."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..exceptions import CFPlatformError
from ..level import Level
from ..signing import MAX_PATHS
from ..threads import Threads
from .crew import Crew
from .handover import Handover
from .job import Job
from .limits import Limits
from .room import NoRoom

#: Annotated items that are signed together. Large enough that signing hardly counts, small enough that
#: the URLs are used soon: they may live for minutes only.
SIGN_GROUP = 100
#: Seconds that a smaller group waits for company while the listing has nothing to give.
LINGER = 0.05

R = TypeVar("R")


class Board(Generic[R]):
    """The jobs of a run that wait: to be annotated, to be signed, to be fetched.

    The lock is taken by the methods here that have no underscore, and by nothing else. Those with one, and the parts
    of the board (crew, handover, limits), are used by these with the lock held. The arguments are those of
    :class:`Pipeline`.

    Attributes:
        stop: Set when the run has ended; for waits and reads that are to end early.
    """

    def __init__(self, *, workers: int, ordered: bool, held: int | None, room: int | None) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._to_annotate: deque[Job[R]] = deque()
        self._to_sign: list[Job[R]] = []
        self._to_fetch: list[Job[R]] = []
        self._annotating = 0
        # The signer waits for a group of so many.
        self._has_group = threading.Condition(self._lock)
        self._group = SIGN_GROUP
        self._renewing = False
        # Enough that one group is fetched while the next is annotated.
        window = 2 * SIGN_GROUP + 4 * workers
        self._handover: Handover[R] = Handover(self._lock, window, ordered=ordered, held=held)
        self._limits = Limits(self._handover, ordered=ordered, held=held, room=room)

    # --- For the caller's thread ---------------------------------------------------------------------------

    def begin(self, level: Level, threads: Threads, *, work: Callable[[], None], sign: Callable[[], None]) -> None:
        """Get ready; threads are started when there is something to do.

        Args:
            level: How many workers may be at work.
            threads: Where they are started.
            work: What a worker does.
            sign: What the signer does.
        """
        self._crew = Crew(self._lock, self.stop, level, threads, work=work, sign=sign)
        # The first group is small, so that the first results come soon.
        self._group = min(level.limit, SIGN_GROUP)

    def wants_more(self, turn: int) -> bool:
        """Tell whether another job is to be admitted before one is handed out."""
        # Without the lock: what counts here is changed by the caller's thread, or may as well be seen a turn later.
        handover = self._handover
        # Two a turn keep the window filled; more of them only while there is nothing to hand out.
        return not (handover.is_listed or handover.is_full() or (turn >= 2 and handover.has_output()))

    def admit(self, job: Job[R]) -> None:
        """Line a job up."""
        with self._lock:
            self._handover.admit(job)
            if job.result is not None or job.error is not None:
                self._handover.put(job)
                return
            self._to_annotate.append(job)
            self._crew.call(len(self._to_annotate))

    def end_listing(self) -> None:
        """Say that no more jobs will come."""
        with self._lock:
            self._handover.is_listed = True
            self._has_group.notify()

    def next_finished(self) -> Job[R] | None:
        """Return the next job to hand out, or ``None`` when all are.

        Raises:
            BaseException: What ended the run.
        """
        with self._lock:
            job = self._handover.take()
            if job is not None:
                self._limits.release(job)
                if self._limits.most is not None:
                    self._crew.wake()
                if self._limits.was_room_wanted():
                    self._crew.wake_all()
            return job

    def end(self) -> None:
        """End the run: drop what waits, and let every thread see that."""
        with self._lock:
            self._to_annotate.clear()
            self._to_fetch.clear()
            self._to_sign.clear()
            self._stop_all()
            self._crew.end()

    # --- For the workers -----------------------------------------------------------------------------------

    def join(self) -> None:
        """Count in the worker that calls."""
        with self._lock:
            self._crew.join()

    def next_turn(self) -> tuple[bool, Job[R]] | None:
        """Wait for something to do; return whether it is signed, and the job. ``None`` when the run has ended."""
        with self._lock:
            while not self.stop.is_set():
                if not self._crew.is_needed():
                    self._crew.leave()
                elif self._to_fetch and self._limits.let_in(self._to_fetch[0]):
                    return True, heapq.heappop(self._to_fetch)
                elif self._to_annotate:
                    self._annotating += 1
                    return False, self._to_annotate.popleft()
                else:
                    self._crew.wait_for_work()
            return None

    def end_turn(self, busy: float, overloads: int) -> None:
        """Say that a turn is over.

        Args:
            busy: Seconds of a processor that it took.
            overloads: How often servers have said until now that they have too much to do.
        """
        with self._lock:
            more = self._crew.turn(busy, overloads)
            if more > 0:
                self._crew.grow(more, self._handover.under_way)

    def annotated(self, job: Job[R] | None) -> None:
        """Say that a job can be signed; ``None`` where it turned out that it cannot."""
        with self._lock:
            self._annotating -= 1
            if job is not None:
                self._to_sign.append(job)
            # With the first of a group the signer begins to wait for the others.
            if len(self._to_sign) == 1 or self._should_sign():
                self._has_group.notify()

    def make_room(self, job: Job[R], size: int, is_all: bool) -> None:
        """Set aside the bytes of a document; see :meth:`Pipeline.make_room`."""
        with self._lock:
            held = job.room
            if not self._limits.make_room(job, size, is_all):
                raise NoRoom
            if held > job.room and self._limits.was_room_wanted():
                self._crew.wake_all()

    def fetch_later(self, job: Job[R]) -> None:
        """Put a job back for which there is no room."""
        with self._lock:
            self._limits.release(job)
            heapq.heappush(self._to_fetch, job)

    def sign_again(self, job: Job[R]) -> None:
        """Put a job back whose URL was refused, to be signed at once."""
        with self._lock:
            self._limits.release(job)
            self._to_sign.append(job)
            self._renewing = True
            self._has_group.notify()

    def finish(self, job: Job[R]) -> None:
        """Hand a job over."""
        with self._lock:
            self._handover.put(job)

    def fail(self, job: Job[R], error: CFPlatformError) -> None:
        """Hand a job over that cannot be done."""
        # Without its traceback, whose frames hold the job, its document and the client.
        job.error = error.with_traceback(None)
        job.result = None
        self.finish(job)

    def abort(self, error: BaseException) -> None:
        """End the run; the caller is told the first reason."""
        if isinstance(error, CFPlatformError):
            # As above; the frames hold signed URLs too. The traceback of a fault of our own is kept: it is needed.
            error = error.with_traceback(None)
        with self._lock:
            self._handover.abort(error)
            self._stop_all()

    # --- For the signer ------------------------------------------------------------------------------------

    def next_group(self) -> list[Job[R]] | None:
        """Wait for jobs that are signed together; ``None`` when the run has ended."""
        with self._lock:
            self._wait_for_group()
            if self.stop.is_set():
                return None
            group = self._to_sign[:MAX_PATHS]
            del self._to_sign[:MAX_PATHS]
            self._group = SIGN_GROUP
            self._renewing = False
            return group

    def signed(self, jobs: list[Job[R]]) -> None:
        """Say that jobs can be fetched."""
        with self._lock:
            for job in jobs:
                heapq.heappush(self._to_fetch, job)
            self._crew.wake(len(jobs))

    # --- With the lock held --------------------------------------------------------------------------------

    def _should_sign(self) -> bool:
        if not self._to_sign:
            return False
        if len(self._to_sign) >= self._group or self._renewing:
            return True
        # Nothing more will join the group.
        return self._is_drained() and (self._handover.is_listed or self._handover.is_full())

    def _is_drained(self) -> bool:
        return not (self._to_annotate or self._annotating)

    def _wait_for_group(self) -> None:
        """Wait until there is a group to sign; a partial one while the listing keeps everybody waiting."""
        while not self._should_sign() and not self.stop.is_set():
            waiting = len(self._to_sign)
            woken = self._has_group.wait(LINGER if waiting else None)
            if not woken and waiting == len(self._to_sign) and self._is_drained() and not self._to_fetch:
                return

    def _stop_all(self) -> None:
        self.stop.set()
        self._crew.dismiss()
        self._has_group.notify_all()
