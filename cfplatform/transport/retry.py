"""The retry policy: a ``urllib3.Retry`` that jitters, obeys the server within bounds and can be interrupted."""

from __future__ import annotations

import email.utils
import math
import random
import re
import threading
import time
from datetime import timezone
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError
from urllib3.util.retry import Retry

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self
    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool

#: Repeats of one request, at the most, unless the caller says otherwise.
DEFAULT_RETRIES = 5
#: Statuses worth repeating: overload and passing faults. 501 and 505 are not: they stay.
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528)})
#: Statuses by which a server says that it has too much to do.
_OVERLOADED = (429, 503)
#: Methods that may be repeated after the server may have seen the request.
RETRY_METHODS = frozenset({"GET", "HEAD"})
#: Seconds: before repeat n the wait is random between 0 and min(BACKOFF_MAX, BACKOFF_BASE * 2 ** n), so up to
#: 0.5, 1, 2, 4 and 8 s. Random from zero up, because workers that fail together must not return together.
BACKOFF_BASE = 0.5
BACKOFF_MAX = 20.0
#: Seconds that a Retry-After may ask for; a longer one is not waited for but reported.
MAX_RETRY_AFTER = 60.0
#: Bytes of an error answer that are read to keep its connection; a longer one is closed.
DRAIN_LIMIT = 64 * 1024
#: The repeats of a whole client: each costs 5 of 500 tokens, each success gives 1 back (botocore's measure).
BUDGET = 500
REPEAT_COST = 5


class Interrupted(Exception):
    """A wait was ended because the run that it belongs to was stopped."""


class Shared:
    """What all requests to one origin share: the pause that a 429 or 503 asks for, and the budget of repeats."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        #: Answers 429 and 503 so far; one more or less does not matter, so there is no lock.
        self.overloads = 0
        self._resume_at = 0.0

    def pause(self, seconds: float) -> None:
        """Let every request wait for that long."""
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def wait(self, stop: threading.Event | None) -> None:
        """Wait until the pause is over."""
        while (left := self._resume_at - time.monotonic()) > 0:
            # Spread over a tenth, so that the workers do not all return at the same instant.
            sleep(left * random.uniform(1.0, 1.1), stop)  # noqa: S311 - spreads load, protects nothing


class Budget:
    """Tokens that repeats cost and successes give back, so that a server in trouble is not stormed."""

    def __init__(self, tokens: int = BUDGET) -> None:
        self._lock = threading.Lock()
        self._most = self._tokens = tokens

    def take(self) -> bool:
        """Pay for one repeat; tell whether there was enough."""
        with self._lock:
            if self._tokens < REPEAT_COST:
                return False
            self._tokens -= REPEAT_COST
            return True

    def give(self) -> None:
        """Count a success."""
        # Read without the lock on purpose: it is full nearly always, and one token more or less does not matter.
        if self._tokens < self._most:
            with self._lock:
                self._tokens = min(self._most, self._tokens + 1)


def sleep(seconds: float, stop: threading.Event | None) -> None:
    """Wait; where there is a stop event, end at once when it is set.

    Raises:
        Interrupted: If it was.
    """
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Interrupted


class RetryPolicy(Retry):
    """The policy of one request. Copies made while it runs share ``shared``, ``stop`` and ``deadline``."""

    shared: Shared | None = None
    stop: threading.Event | None = None
    #: The moment, by the monotonic clock, after which nothing is repeated.
    deadline: float = math.inf

    @classmethod
    def create(cls, total: int, shared: Shared) -> RetryPolicy:
        """Build the policy that is mounted on both schemes of a session."""
        policy = cls(
            total=total,
            # TLS failures count as "other": trying again will not mend a certificate.
            other=0,
            redirect=False,
            status_forcelist=RETRY_STATUSES,
            allowed_methods=RETRY_METHODS,
            # The last answer is kept, so that it can be told what the server said.
            raise_on_status=False,
        )
        policy.shared = shared
        return policy

    def new(self, **changes: Any) -> Self:
        """Return a copy with changes; called by urllib3 between attempts."""
        copy = super().new(**changes)
        copy.shared, copy.stop, copy.deadline = self.shared, self.stop, self.deadline
        return copy

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Count an attempt that failed; raise where no other one is allowed."""
        following = super().increment(method, url, response, error, _pool, _stacktrace)
        asked = retry_after(response) if response is not None else None
        if response is not None and response.status in _OVERLOADED and self.shared is not None:
            self.shared.overloads += 1
        too_long = (asked or 0.0) > MAX_RETRY_AFTER or time.monotonic() + (asked or 0.0) > self.deadline
        if too_long or (self.shared is not None and not self.shared.budget.take()):
            reason = error or ResponseError("too long a wait asked for" if too_long else "out of repeats")
            raise MaxRetryError(_pool, url or "", reason)  # type: ignore[arg-type]
        if response is not None:
            drain(response)
        return following

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait before the next attempt: as long as the server asks, else a random time that grows."""
        asked = retry_after(response) if response is not None else None
        overloaded = response is not None and response.status in _OVERLOADED
        if asked is not None and overloaded and self.shared is not None:
            self.shared.pause(asked)
            self.shared.wait(self.stop)
            return
        sleep(asked if asked is not None else self.get_backoff_time(), self.stop)
        if self.shared is not None:
            # Another request may have been told to pause in the meantime.
            self.shared.wait(self.stop)

    def get_backoff_time(self) -> float:
        """Return a random wait in seconds, between 0 and a ceiling that doubles with each attempt."""
        ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** (len(self.history) - 1))
        return random.uniform(0, ceiling)  # noqa: S311 - spreads load, protects nothing


def drain(response: BaseHTTPResponse) -> None:
    """Read the rest of an answer that nobody needs, so that its connection can be used again; close a long one."""
    try:
        if len(response.read(DRAIN_LIMIT, decode_content=False)) == DRAIN_LIMIT:
            response.close()
        response.release_conn()
    except (HTTPError, OSError, ValueError):
        response.close()


def retry_after(response: BaseHTTPResponse) -> float | None:
    """Read the seconds that an answer asks to wait; ``None`` where it asks for nothing readable.

    Accepts whole and decimal seconds and HTTP dates; a date is compared with the answer's own ``Date``, so that a
    wrong local clock does no harm.
    """
    value = (response.headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]{1,10}(\.[0-9]+)?", value):
        return float(value)
    try:
        moment = _http_date(value)
        now = _http_date(response.headers["Date"]) if response.headers.get("Date") else time.time()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return max(0.0, moment - now) if math.isfinite(moment) else None


def _http_date(text: str) -> float:
    moment = email.utils.parsedate_to_datetime(text)
    # The old form without a zone means GMT as well, not the zone of this machine.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
