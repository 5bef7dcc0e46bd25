"""The circuit breaker: detects the start and end of an outage.

Each kind of request to an origin has a :class:`Breaker`. Calls report the result of each attempt; the breaker decides
whether they wait, and which call sends the next probe. It neither sends nor waits itself.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

#: Seconds without a success after which failures count as an outage.
QUIET = 2.0
#: Minimum number of failing calls if there is no earlier success to repeat as a probe.
MIN_FAILING = 3
#: Seconds between two probes: initial and maximum.
FIRST_PROBE = 1.0
LAST_PROBE = 30.0

#: The documentation mentions this name.
log = logging.getLogger("cfplatform.http.retry")

#: Repeats a request that succeeded before, until the event is set; returns whether the origin responded.
Probe = Callable[[threading.Event | None], bool]


class Origin:
    """State shared by all requests to one scheme, host and port."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Whether it has ever responded.
        self.is_reached = False
        #: The reason for the pause.
        self.paused_by = ""
        self._resume_at = 0.0
        self._breakers: dict[str, Breaker] = {}

    def breaker(self, route: str) -> Breaker:
        """Return the breaker of a kind of request: one endpoint may be down while others work."""
        return self._breakers.get(route) or self._breakers.setdefault(route, Breaker(self))

    def pause(self, seconds: float, reason: str) -> None:
        """Pause all requests, after a 429 or 503."""
        self.paused_by = reason
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def pause_left(self) -> float:
        """Return the remaining seconds of the pause."""
        return self._resume_at - time.monotonic()


class Breaker:
    """The circuit breaker of one kind of request to one origin.

    It opens when calls fail and none has succeeded since. While it is open, one probe at a time is sent: a request that
    succeeded before, if there is one, because a few items that always fail are not an outage; otherwise one of the
    waiting calls.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        # When the last successful request was sent.
        self._succeeded_at = -math.inf
        #: Repeats a successful request; ``None`` if none has succeeded.
        self.probe: Probe | None = None
        # The start of failures without a success, and the failing calls.
        self._quiet_since: float | None = None
        self._failing: set[int] = set()
        self._next_attempt = 0.0
        #: The reason and status of the last failure.
        self.reason = ""
        self.status: int | None = None
        #: When the last outage ended.
        self.recovered_at = -math.inf
        #: Whether requests wait.
        self.is_open = False
        self._is_probing = self._is_confirmed = False
        self._probe_pause = FIRST_PROBE

    def succeeded(self, sent_at: float, probe: Probe | None) -> None:
        """Record a success, and a function that repeats the request, if repeating is safe."""
        self._succeeded_at = sent_at
        if probe is not None:
            self.probe = probe
        # Checked without the lock, because failures are rare.
        if self._quiet_since is not None or self.is_open:
            with self._lock:
                self._close()

    def failed(self, call: int, reason: str, status: int | None, *, is_essential: bool, can_wait: bool) -> None:
        """Record a failed attempt; open if an outage is likely and the call can wait for its end."""
        with self._lock:
            now = time.monotonic()
            if self._quiet_since is None:
                self._quiet_since = now
            self._failing.add(call)
            self.reason, self.status = reason, status
            if can_wait and self._is_likely(is_essential) and now - self._quiet_since >= QUIET:
                self._open(now)

    def opens(self, failing_since: float, *, is_essential: bool) -> bool:
        """Open for a call without attempts left, unless only this call fails; return whether the breaker is open."""
        with self._lock:
            # Others may have succeeded after its first failure, before an outage used up its attempts.
            fails_alone = self._succeeded_at > failing_since and len(self._failing) < MIN_FAILING
            if not self.is_open and not fails_alone and self._is_likely(is_essential):
                self._open(time.monotonic())
            return self.is_open

    def begin_probe(self) -> bool:
        """Return whether the caller sends the next probe. If so, it must call ``end_probe`` or ``release_probe``."""
        with self._lock:
            is_due = time.monotonic() >= self._next_attempt and self._origin.pause_left() <= 0
            if self.is_open and is_due and not self._is_probing:
                self._is_probing = True
                return True
            return False

    def end_probe(self, succeeded: bool) -> None:
        """Record the result of a probe."""
        with self._lock:
            self._is_probing = False
            if not self.is_open:
                return
            if succeeded:
                self._succeeded_at = time.monotonic()
                self._close()
                return
            if not self._is_confirmed:
                self._is_confirmed = True
                log.warning("%s: waiting for it to recover", self.reason)
            self._next_attempt = time.monotonic() + self._probe_pause
            self._probe_pause = min(LAST_PROBE, 2 * self._probe_pause)

    def release_probe(self) -> None:
        """Let another call send the probe, because this one was stopped."""
        with self._lock:
            self._is_probing = False

    def attempt_in(self, seconds: float) -> None:
        """Record the time until a failed request is sent again."""
        if not self.is_open:
            now = time.monotonic()
            known = self._next_attempt if self._next_attempt > now else math.inf
            self._next_attempt = min(known, now + seconds)

    def trouble(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, or ``None`` if requests succeed."""
        since, now = self._quiet_since, time.monotonic()
        if since is None or now - since < QUIET / 2:
            return None
        return self.reason, max(0.0, self._next_attempt - now, self._origin.pause_left())

    def _is_likely(self, is_essential: bool) -> bool:
        return self.probe is not None or is_essential or len(self._failing) >= MIN_FAILING

    def _open(self, now: float) -> None:
        if not self.is_open:
            self.is_open, self._next_attempt, self._probe_pause = True, now, FIRST_PROBE

    def _close(self) -> None:
        if self._is_confirmed:
            log.info("%s responds again after %.0f s", self._origin.name, time.monotonic() - (self._quiet_since or 0.0))
            self.recovered_at = time.monotonic()
        self.is_open = self._is_confirmed = self._is_probing = False
        self._quiet_since = None
        self._failing = set()
