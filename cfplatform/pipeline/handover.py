"""What is finished, on its way to the thread of the caller."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

from .job import Job

#: Seconds, and results, that the caller's thread waits for where results come faster than that.
GATHER = 0.01
GATHERED = 16

R = TypeVar("R")


class Handover(Generic[R]):
    """Counts jobs in and hands them out when they are finished.

    Only the board uses it, with its lock held, but for what says otherwise.

    Args:
        lock: That of the board; given up while :meth:`take` waits.
        window: Jobs, at the most, that are under way.
        ordered: Hand out jobs in the order in which they came, not as they finish.
        held: Results, at the most, that wait to be taken. ``None`` where a result is small.

    Attributes:
        is_listed: Whether no more jobs will come.
        handed_out: How many were handed out.
    """

    def __init__(self, lock: threading.Lock, window: int, *, ordered: bool, held: int | None) -> None:
        self._done = threading.Condition(lock)
        self._window = window
        self._ordered = ordered
        # Far from as many as would keep the workers waiting.
        self._enough = GATHERED if held is None else min(GATHERED, held // 2)
        self.is_listed = False
        self._admitted = 0
        self.handed_out = 0
        self._finished: deque[Job[R]] = deque()
        self._finished_early: dict[int, Job[R]] = {}
        self._fatal: BaseException | None = None
        # Whether results came fast lately, and whether the caller waits for more than one.
        self._is_brisk = self._is_gathering = False

    @property
    def under_way(self) -> int:
        """Jobs that came and are not handed out."""
        return self._admitted - self.handed_out

    def is_full(self) -> bool:
        """Tell whether one is to be handed out before the next comes; may be asked without the lock."""
        return self._admitted - self.handed_out >= self._window

    def has_output(self) -> bool:
        """Tell whether :meth:`take` would not wait; may be asked without the lock."""
        return bool(self._finished) or self.handed_out in self._finished_early or self._fatal is not None

    def is_awaited(self, job: Job[R]) -> bool:
        """Tell whether this one must be finished before any other is handed out."""
        return self._ordered and job.index == self.handed_out

    def admit(self, job: Job[R]) -> None:
        """Count one in."""
        job.index = self._admitted
        self._admitted += 1

    def put(self, job: Job[R]) -> None:
        """Take one that is finished."""
        if self._ordered:
            self._finished_early[job.index] = job
        else:
            self._finished.append(job)
        if self._ready() in (self._enough, self.under_way) if self._is_gathering else self.has_output():
            self._done.notify()

    def abort(self, error: BaseException) -> None:
        """Hand out nothing more: raise, the first that is told."""
        self._fatal = self._fatal or error
        self._done.notify()

    def take(self) -> Job[R] | None:
        """Wait for the next job to hand out, and return it; ``None`` when all are."""
        if not self.has_output():
            waited_since = time.monotonic()
            while not self.has_output():
                if self.is_listed and self._admitted == self.handed_out:
                    return None
                # In slices, because an untimed wait cannot be interrupted by Ctrl-C on Windows.
                self._done.wait(0.5)
            if self._is_brisk and self._ready() < self._enough and self._fatal is None:
                self._gather()
            self._is_brisk = time.monotonic() - waited_since < 2 * GATHER
        if self._fatal is not None:
            raise self._fatal
        job = self._finished_early.pop(self.handed_out) if self._ordered else self._finished.popleft()
        self.handed_out += 1
        return job

    def _gather(self) -> None:
        """Wait a moment for more results.

        They are handed out together then: a caller who is woken for each one takes the interpreter from the workers a
        thousand times a second.
        """
        self._is_gathering = True
        self._done.wait(GATHER)
        self._is_gathering = False

    def _ready(self) -> int:
        return len(self._finished) + len(self._finished_early)
