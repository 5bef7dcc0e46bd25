"""What is an outage, and when is it over?

One :class:`Breaker` (a circuit breaker) watches each kind of request to an origin. Calls report the result of each
attempt; it decides whether they wait and which one sends the next probe. It sends nothing and never waits itself.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

#: Seconds without a success after which failures count as an outage.
QUIET = 2.0
#: Calls that must be failing where no earlier success can be repeated.
SEVERAL = 3
#: Seconds between two probes: at first, and the maximum.
FIRST_PROBE = 1.0
LAST_PROBE = 30.0

#: The name is in the documentation.
log = logging.getLogger("cfplatform.http.retry")

#: Sends a request that succeeded again, until the event is set; returns whether the origin responded.
Probe = Callable[[threading.Event | None], bool]


class Origin:
    """State that all requests to one scheme, host and port share."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Whether it ever responded.
        self.is_reached = False
        #: The reason for the pause.
        self.paused_by = ""
        self._resume_at = 0.0
        self._breakers: dict[str, Breaker] = {}

    def breaker(self, route: str) -> Breaker:
        """Return the breaker of a kind of request, since one endpoint may be down while others work."""
        return self._breakers.get(route) or self._breakers.setdefault(route, Breaker(self))

    def pause(self, seconds: float, reason: str) -> None:
        """Let every request wait for that long, as a 429 or 503 demands."""
        self.paused_by = reason
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def pause_left(self) -> float:
        """Return the seconds of the pause that are left."""
        return self._resume_at - time.monotonic()


class Breaker:
    """The circuit breaker of one kind of request of one origin.

    It opens when calls fail and none has succeeded since. While it is open one probe at a time goes out: a request that
    worked before, if there is one, so that a few items that always fail are not taken for an outage; else one of the
    calls that wait.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        # When the latest request that succeeded was sent.
        self._succeeded_at = -math.inf
        #: How to send it again; ``None`` where none ever succeeded.
        self.probe: Probe | None = None
        # Since when calls fail without a success, and which.
        self._quiet_since: float | None = None
        self._failing: set[int] = set()
        self._next_attempt = 0.0
        #: Why the latest attempt failed, and its status.
        self.reason = ""
        self.status: int | None = None
        #: When the latest outage ended.
        self.recovered_at = -math.inf
        #: Whether requests wait.
        self.is_open = False
        self._is_probing = self._is_confirmed = False
        self._probe_pause = FIRST_PROBE

    def succeeded(self, sent_at: float, probe: Probe | None) -> None:
        """Record that a request succeeded, and how to send it again, if that does no harm."""
        self._succeeded_at = sent_at
        if probe is not None:
            self.probe = probe
        # Without the lock: nearly always nothing fails.
        if self._quiet_since is not None or self.is_open:
            with self._lock:
                self._close()

    def failed(self, call: int, reason: str, status: int | None, *, is_essential: bool, can_wait: bool) -> None:
        """Record that an attempt of a call failed; open where it looks like an outage and the call can wait for one."""
        with self._lock:
            now = time.monotonic()
            if self._quiet_since is None:
                self._quiet_since = now
            self._failing.add(call)
            self.reason, self.status = reason, status
            if can_wait and self._is_likely(is_essential) and now - self._quiet_since >= QUIET:
                self._open(now)

    def opens(self, failing_since: float, *, is_essential: bool) -> bool:
        """Open for a call that has no attempts left, unless it alone fails; return whether it is open."""
        with self._lock:
            # Others may have succeeded since it began to fail, and then the outage took its last attempts.
            fails_alone = self._succeeded_at > failing_since and len(self._failing) < SEVERAL
            if not self.is_open and not fails_alone and self._is_likely(is_essential):
                self._open(time.monotonic())
            return self.is_open

    def begin_probe(self) -> bool:
        """Return whether the caller is to send the next probe; then it reports the result, or gives the probe back."""
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

    def give_probe_back(self) -> None:
        """Let another call be the probe: this one was stopped."""
        with self._lock:
            self._is_probing = False

    def attempt_in(self, seconds: float) -> None:
        """Record when a request that failed will be sent again."""
        if not self.is_open:
            now = time.monotonic()
            known = self._next_attempt if self._next_attempt > now else math.inf
            self._next_attempt = min(known, now + seconds)

    def trouble(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, where nothing has succeeded lately."""
        since, now = self._quiet_since, time.monotonic()
        if since is None or now - since < QUIET / 2:
            return None
        return self.reason, max(0.0, self._next_attempt - now, self._origin.pause_left())

    def _is_likely(self, is_essential: bool) -> bool:
        return self.probe is not None or is_essential or len(self._failing) >= SEVERAL

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
