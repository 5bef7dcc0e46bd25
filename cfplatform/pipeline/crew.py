"""The workers of a run: as many at work as help, each in a thread that is started when there is use for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from ..level import Level
from ..threads import Threads


class Crew:
    """Starts workers, and lets them wait.

    Only the board uses it, with its lock held.

    Args:
        lock: That of the board; given up while a worker waits.
        stop: Set when the run has ended.
        level: How many may be at work.
        threads: Where they are started.
        work: What a worker does.
        sign: What the signer does; its thread is the first.
    """

    def __init__(
        self,
        lock: threading.Lock,
        stop: threading.Event,
        level: Level,
        threads: Threads,
        *,
        work: Callable[[], None],
        sign: Callable[[], None],
    ) -> None:
        self._stop = stop
        self._level = level
        self._threads = threads
        self._work = work
        self._sign = sign
        self._has_work = threading.Condition(lock)
        self._helps = threading.Condition(lock)
        # Workers that are not sent to wait until more of them help, and those of them that lack work.
        self._present = 0
        self._idle = 0

    def call(self, waiting: int) -> None:
        """One more job came, so that many wait: wake a worker for it, or start one."""
        if self._idle:
            self._has_work.notify()
        if waiting > self._idle and len(self._threads) <= self._level.limit:
            if not self._threads:
                self._threads.start(self._sign)
            self._threads.start(self._work)

    def wake(self, workers: int = 1) -> None:
        """Let so many look for work."""
        self._has_work.notify(workers)

    def wake_all(self) -> None:
        """Let all who lack work look for it."""
        self._has_work.notify_all()

    def join(self) -> None:
        """Count in the worker that calls."""
        self._present += 1

    def is_needed(self) -> bool:
        """Tell whether the worker that calls is of use: not more are at work than help."""
        return self._present <= self._level.limit

    def leave(self) -> None:
        """Wait until more workers help."""
        # What this one may have been woken for is there for another.
        self._has_work.notify()
        self._present -= 1
        self._helps.wait()
        self._present += 1

    def wait_for_work(self) -> None:
        """Wait until there may be something to do."""
        self._idle += 1
        since = time.monotonic()
        self._has_work.wait()
        self._level.lacked_work(time.monotonic() - since)
        self._idle -= 1

    def turn(self, busy: float, overloads: int) -> int:
        """Learn from a turn, as :meth:`Level.turn` does; return how many more workers help now."""
        limit = self._level.limit
        self._level.turn(busy, overloads)
        return self._level.limit - limit

    def grow(self, more: int, jobs: int) -> None:
        """Let so many go on that wait, and start what is missing, where there are so many jobs."""
        self._helps.notify(more)
        # None can be started any more while the interpreter ends.
        with contextlib.suppress(RuntimeError):
            while not self._stop.is_set() and len(self._threads) <= min(self._level.limit, jobs):
                self._threads.start(self._work)

    def dismiss(self) -> None:
        """Wake everybody, to see that the run has ended."""
        self._has_work.notify_all()
        self._helps.notify_all()

    def end(self) -> None:
        """Let another run go on from the level that was found."""
        self._level.is_in_use = False
