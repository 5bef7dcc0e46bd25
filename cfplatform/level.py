"""The level of concurrency: how many workers are at work at the same time.

More of them help while they wait for answers. Where they wait for the processor instead, or for a server that has
enough to do, they only get in each other's way. Neither can be known before, so it is tried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

#: Workers at the beginning.
START = 4
#: Seconds that a level is watched before it is judged; so long that every worker has had a turn, in any case.
WATCH = 0.1
#: The same where the processor is in use for half of the time: turns then differ by what they do, not by waiting.
WATCH_BUSY = 0.3
BUSY = 0.5
#: So many turns are enough in any case.
WATCH_TURNS = 300
#: Share of a processor that the workers use, from which fewer are tried.
SATURATED = 0.75
#: What twice as many workers must bring to be kept: the rate times this.
HELPS = 1.25
#: What fewer workers may cost to be kept, and the fall of the rate at one level that shows that answers take longer.
AS_GOOD = 0.97
FALLEN = 0.6
#: Share of the last rate in the usual one of a level.
NEWS = 0.2
#: Share of their time for which workers may lack work before the rate says nothing of the level.
LACKING = 0.25
#: Seconds without a trial after one that was of no use; doubled each time, up to the longest. Also those in which
#: refusals count as one.
REST = 2.0
LONGEST_REST = 60.0

_log = logging.getLogger(__name__)


class Level:
    """Finds out how many workers help. Not safe for threads: its user has a lock.

    Args:
        most: Never more than so many.
        clock: Tells the time in seconds.

    Attributes:
        most: Never more than so many.
        limit: How many may be at work now.
        is_in_use: Whether a run goes on.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = min(START, most)
        self.is_in_use = False
        self._overloads = 0
        self._clock = clock
        # What is gone back to if the trial that is going on is of no use, and the rate that it had.
        self._before: tuple[int, float] | None = None
        # The rate of this level, smoothed, and whether it was far below the last time.
        self._usual = 0.0
        self._has_fallen = False
        self._rest, self._rest_until = REST, 0.0
        self._halved_until = 0.0
        self._tries_fewer = True
        self._watch()

    def begin(self, overloads: int) -> None:
        """Begin a run, with what was found out in the one before.

        Args:
            overloads: How often servers have said until now that they have too much to do.
        """
        self.is_in_use = True
        self._overloads = overloads
        self._watch()

    def _watch(self) -> None:
        self._since = self._clock()
        self._turns = 0
        self._busy = self._lacking = 0.0

    def lacked_work(self, seconds: float) -> None:
        """A worker had nothing to do for so long."""
        self._lacking += seconds

    def turn(self, busy: float, overloads: int) -> None:
        """A worker has finished a turn.

        Args:
            busy: Seconds of a processor that it took.
            overloads: How often servers have said until now that they have too much to do.
        """
        self._turns += 1
        self._busy += busy
        if overloads > self._overloads:
            self._overloads = overloads
            self._back_off()
            return
        elapsed = self._clock() - self._since
        if elapsed < WATCH or self._turns < self.limit:
            return
        if self._lacking > LACKING * self.limit * elapsed:
            self._watch()
        elif elapsed >= WATCH_BUSY or self._turns >= WATCH_TURNS or self._busy < BUSY * elapsed:
            self._judge(self._turns / elapsed, self._busy / elapsed)
            self._watch()

    def _back_off(self) -> None:
        # Refusals that follow soon are answers to what was sent before.
        if self._clock() >= self._halved_until:
            self._take(max(1, self.limit // 2), "a server is overloaded")
            self._before, self._usual = None, 0.0
            self._halved_until = self._clock() + REST
            self._pause()
        self._watch()

    def _pause(self) -> None:
        self._rest_until = self._clock() + self._rest
        self._rest = min(LONGEST_REST, 2 * self._rest)

    def _judge(self, rate: float, busy: float) -> None:
        shrank = False
        if self._before is not None:
            before, rate_before = self._before
            needed = 1 + (HELPS - 1) * (self.limit / before - 1) if self.limit > before else AS_GOOD
            self._before = None
            if rate < needed * rate_before:
                # The other direction next time.
                self._tries_fewer = self.limit > before
                self._take(before, "that was of no use")
                self._pause()
                return
            shrank = self.limit < before
            self._rest, self._usual = REST, 0.0
            # More were of no use a moment ago.
            self._rest_until = self._clock() + (REST if shrank else 0)
        # Twice, since once may be chance.
        had_fallen, self._has_fallen = self._has_fallen, rate < FALLEN * self._usual
        if self._has_fallen and had_fallen and self.limit > 1:
            # Where it has too much to do, fewer at a time get as much; where that is not the reason, it shows soon.
            self._usual, self._has_fallen = rate, False
            self._try(self.limit * 3 // 4, rate, "answers take longer")
            return
        if not self._has_fallen:
            self._usual += (rate - self._usual) * (NEWS if self._usual else 1)
        rests = self._clock() < self._rest_until
        if busy >= SATURATED and self._tries_fewer and self.limit > 1 and (shrank or not rests):
            self._try(self.limit // 2, rate, "the processor is busy")
        elif self.limit < self.most and not rests:
            self._try(min(self.most, 2 * self.limit), rate, "more may help")
        if not rests:
            self._tries_fewer = True

    def _try(self, limit: int, rate: float, reason: str) -> None:
        self._before = self.limit, rate
        self._take(limit, reason)

    def _take(self, limit: int, reason: str) -> None:
        _log.debug("%d workers at a time instead of %d: %s", limit, self.limit, reason)
        self.limit = limit
