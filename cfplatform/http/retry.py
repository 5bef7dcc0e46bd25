"""Retries: which requests, how many, and the waits in between.

:class:`RetryPolicy` is a ``urllib3.Retry`` that counts failures before the headers of a response arrive.
:class:`Attempts` decides whether a request has another attempt, and waits for it: backoff, ``Retry-After``, or the end
of an outage (see :class:`~.breaker.Breaker`).
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import math
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from datetime import timezone
from typing import TYPE_CHECKING, Any, cast

from urllib3.exceptions import MaxRetryError, ProtocolError, ResponseError
from urllib3.util.retry import Retry

from ..exceptions import WEB_PAGE_STATUSES, APIError, CFPlatformError, OutageError, server_words
from . import errors
from .body import drain
from .timeouts import LATE, Deadline, Interrupted

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self
    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool

    from .breaker import Origin, Probe

#: Default number of retries of a request.
DEFAULT_RETRIES = 5
#: Statuses that are retried: overload and transient errors. 501 and 505 are permanent.
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528)})
#: Statuses of an overloaded server.
_OVERLOADED = (429, 503)
#: Storage error codes that make an otherwise permanent status transient.
_TRANSIENT_CODE = re.compile(r"<Code>\s*(RequestTimeout|SlowDown|InternalError|ServiceUnavailable)\s*</Code>")
#: Methods that are retried although the server may have processed the request.
RETRY_METHODS = frozenset({"GET", "HEAD"})
#: Full jitter: the wait before retry n is random from 0 to min(BACKOFF_MAX, BACKOFF_BASE * 2 ** n) seconds, so up to
#: 0.5, 1, 2, 4 and 8 s. Workers that fail together must not retry together.
BACKOFF_BASE = 0.5
BACKOFF_MAX = 20.0
#: Maximum Retry-After in seconds that a single call waits; a longer one is an error. A run obeys any.
MAX_RETRY_AFTER = 60.0
#: Default number of seconds that a run waits for an outage to end.
DEFAULT_PATIENCE = 600.0
#: Seconds for retries of a host that was never reached, if it is unknown or refuses connections.
FIRST_CONTACT = 2.5
#: Seconds between checks for a stop, for the end of an outage and for progress reports.
SLICE = 0.25


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return ``Retry-After`` in seconds; ``None`` if it is missing or malformed.

    A date is compared with the ``Date`` of the response, because the local clock may be wrong.
    """
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]{1,10}(\.[0-9]+)?", value):
        return float(value)
    try:
        moment = _http_date(value)
        now = _http_date(headers["Date"]) if headers.get("Date") else time.time()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return max(0.0, moment - now) if math.isfinite(moment) else None


def _http_date(text: str) -> float:
    moment = email.utils.parsedate_to_datetime(text)
    # The obsolete form without a zone is also in GMT.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


#: The event that ends the calls of a context. All threads of a run have the context of its caller.
_stop: ContextVar[threading.Event | None] = ContextVar("cfplatform_stop", default=None)


@contextlib.contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """End the calls of this context once the event is set: they send no more requests.

    They raise :class:`Interrupted`: at once while waiting or reading a body, otherwise when a response arrives.
    """
    token = _stop.set(event)
    try:
        yield
    finally:
        _stop.reset(token)


class Run:
    """State shared by the calls of one run. A call outside a run has ``patience`` 0 and does not wait for outages.

    Args:
        patience: Seconds that a call of the run waits for an outage to end.
        stop: Event that ends waits and reads early.
        on_wait: Called periodically while the run waits, in the thread that created it.
    """

    def __init__(
        self,
        patience: float = 0.0,
        stop: threading.Event | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self.patience = patience
        self._stop = stop
        self._on_wait = on_wait
        self._thread = threading.get_ident()

    @property
    def stop(self) -> threading.Event | None:
        """The event that ends waits and reads early: that of the run or of the context."""
        return self._stop or _stop.get()

    def ensure_running(self) -> None:
        """Raise ``Interrupted`` if the run or its context was stopped."""
        if any(event is not None and event.is_set() for event in (self._stop, _stop.get())):
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Wait; raise ``Interrupted`` if the run was stopped."""
        stop = self.stop
        if stop is None:
            time.sleep(seconds)
        elif stop.wait(seconds):
            raise Interrupted
        if self._on_wait is not None and threading.get_ident() == self._thread:
            self._on_wait()


#: For calls outside a run.
SINGLE = Run()


class Attempts:
    """Counts the attempts of one :class:`~.call.Call`, and waits between them."""

    def __init__(
        self,
        origin: Origin,
        route: str,
        policy: Retry,
        run: Run,
        timeout: tuple[float, float],
        seconds: float,
        is_essential: bool,
    ) -> None:
        self.origin = origin
        self.breaker = origin.breaker(route)
        self.run = run
        self.mounted = policy
        self._timeout = timeout
        self.deadline = Deadline(seconds, max(timeout))
        self._is_essential = is_essential
        #: The last failure, and whether no connection could be established.
        self.failure: CFPlatformError | None = None
        self.is_unreachable = False
        #: Whether this request is the probe of the breaker.
        self.is_probe = False
        #: Whether it is waiting for response headers.
        self.is_unanswered = False
        # Whether the host was never reached and may not exist.
        self._is_never_reached = False
        self._sent_at = math.inf
        self._resumes_at: float | None = None
        self._began = time.monotonic()
        self._waited = 0.0
        self.begin_again()

    def begin_again(self) -> None:
        """Discard the failures so far."""
        # The same object, because a response that is being read may refer to it.
        self.deadline.restart()
        self._failing_since = math.inf
        self._failures = 0
        #: Whether the policy is exhausted.
        self.is_exhausted = False
        # Whether the attempts ended early because of an outage.
        self._has_left = False
        self.policy = self.mounted
        if isinstance(self.mounted, RetryPolicy):
            self.policy = self.mounted.of(self)

    def begin(self) -> None:
        """Wait for the end of an outage or pause, then begin an attempt."""
        if self.run.patience and self.breaker.is_open and not self.is_probe:
            self._wait_for_recovery()
        self._wait_for_pause()
        self._sent_at = time.monotonic()

    def succeeded(self, probe: Probe | None) -> None:
        """Record a success, and a function that repeats the request, if repeating is safe."""
        self.is_probe = False
        self.origin.is_reached = True
        self.breaker.succeeded(self._sent_at, probe)

    def failed(self, status: int | None = None, pause: float | None = None, error: BaseException | None = None) -> None:
        """Record a failed attempt, with its status and its ``Retry-After`` in seconds."""
        if self._began_in_outage:
            self.begin_again()
        self._failures += 1
        self._failing_since = min(self._failing_since, self._sent_at)
        is_unreachable = self.is_unreachable or (error is not None and errors.is_unreachable(error))
        self._is_never_reached = not self.origin.is_reached and is_unreachable
        if status is not None:
            self.origin.is_reached = True
            self.obey(status, pause)
        reason = self._reason(status, error)
        self.breaker.failed(id(self), reason, status, is_essential=self._is_essential, can_wait=self._can_wait)

    def must_end(self, pause: float | None) -> bool:
        """Return whether the attempts end although the policy would allow another."""
        pause = pause or 0.0
        if self._is_never_reached and time.monotonic() - self._began >= FIRST_CONTACT:
            return True
        self._has_left = self._can_wait and self.breaker.is_open
        is_too_long = pause > MAX_RETRY_AFTER and not self.run.patience
        return self._has_left or is_too_long or self.deadline.left() < min(pause, MAX_RETRY_AFTER)

    def wait_out(self) -> bool:
        """Wait for the end of an outage; return whether there was one. Earlier failures then no longer count."""
        if not self._can_wait:
            return False
        if not isinstance(self.policy, RetryPolicy):
            self.failed()
        # The attempt may have waited for a server that does not respond.
        self._waited += min(time.monotonic() - self._sent_at, sum(self._timeout) + LATE)
        if self.end():
            self._wait_for_recovery()
            if self.is_probe or self._began_in_outage:
                self.begin_again()
                return True
        return False

    def end(self) -> bool:
        """Record that the attempts have failed; return whether this is an outage."""
        if self.is_probe:
            self.is_probe = False
            self.breaker.end_probe(False)
        return self._can_wait and self.breaker.opens(self._failing_since, is_essential=self._is_essential)

    def is_transient(self, failure: CFPlatformError) -> bool:
        """Return whether a retry may succeed, judging by the status."""
        if not isinstance(failure, APIError) or failure.status_code in self.statuses:
            return True
        if failure.response is not None and _TRANSIENT_CODE.search(failure.response.text):
            return True
        # A run waits while a proxy or firewall sends HTML pages: they do not mean that the key is wrong.
        return self.run.patience > 0 and type(failure) is APIError and failure.status_code in WEB_PAGE_STATUSES

    @property
    def statuses(self) -> Collection[int]:
        """The statuses that are retried."""
        return self.mounted.status_forcelist or RETRY_STATUSES

    def would_repeat(self, method: str, status: int) -> bool:
        """Return whether our policy retries a status; the adapter applies a caller's own policy."""
        policy = self.policy
        is_ours = isinstance(policy, RetryPolicy) and not self.is_exhausted
        return is_ours and bool(policy.total) and policy.is_retry(method, status)

    def has_left(self) -> bool:
        """Return whether attempts were saved for the time after an outage, and release them."""
        if had_left := self._has_left:
            self._has_left = self.is_exhausted = False
        return had_left

    def wait(self, pause: float | None) -> None:
        """Wait before the next attempt: ``Retry-After``, else backoff."""
        is_fixed = pause is not None
        if pause is None:
            ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** max(0, self._failures - 1))
            pause = random.uniform(0, ceiling)  # noqa: S311 - spreads load, protects nothing
            if self.run.patience:
                pause = min(pause, max(SLICE, self.run.patience - self._waited))
            if not self.origin.is_reached:
                pause = min(pause, max(0.0, self._began + FIRST_CONTACT - time.monotonic()))
        elif self.run.patience and self._waited + pause > self.run.patience:
            raise self._outage()
        self.breaker.attempt_in(pause)
        began = time.monotonic()
        self._resumes_at = began + pause
        # A backoff ends early when an outage ends.
        while (left := self._resumes_at - time.monotonic()) > 0 and (is_fixed or self.breaker.recovered_at < began):
            self._sleep(min(left, SLICE))
        self._wait_for_pause()
        self._resumes_at = None
        self._sent_at = time.monotonic()

    @property
    def _can_wait(self) -> bool:
        """Whether it waits for the end of an outage; not if the host was never reached: the URL may be wrong."""
        return self.run.patience > 0 and not self._is_never_reached

    @property
    def _began_in_outage(self) -> bool:
        """Whether its failures began before the end of an outage; they then use up no attempts."""
        return self.run.patience > 0 and self._failing_since < self.breaker.recovered_at

    @property
    def has_patience(self) -> bool:
        """Whether it may continue to wait."""
        return self._waited < self.run.patience

    def obey(self, status: int, pause: float | None) -> None:
        """Pause all requests to the origin after a 429 or 503 with ``Retry-After``."""
        if pause is not None and status in _OVERLOADED and (self.run.patience or pause <= MAX_RETRY_AFTER):
            self.origin.pause(pause, self._reason(status, None))

    # --- For progress reports -------------------------------------------------------------------------------

    def unanswered(self) -> float:
        """Return the seconds since the request was sent, while no response headers have arrived."""
        return time.monotonic() - self._sent_at if self.is_unanswered and self._resumes_at is None else 0.0

    def repeats(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, while it waits for one."""
        at = self._resumes_at
        return None if at is None or self._is_never_reached else (self.breaker.reason, max(0.0, at - time.monotonic()))

    def trouble(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, or ``None`` if requests succeed."""
        # A call that never reached its host fails soon.
        found = None if self._is_never_reached else self.breaker.trouble()
        if found is None and (left := self.origin.pause_left()) > 0:
            # Requests sent before the pause may still succeed, but new ones wait.
            return self.origin.paused_by, left
        return found

    # --- Waiting ---------------------------------------------------------------------------------------------

    def _wait_for_recovery(self) -> None:
        """Wait until the breaker is closed, or until this call becomes the probe."""
        breaker = self.breaker
        while breaker.is_open:
            if not breaker.begin_probe():
                self._sleep(SLICE)
                continue
            if breaker.probe is None:
                self.is_probe = True
                return
            try:
                succeeded = breaker.probe(self.run.stop)
            except BaseException:
                breaker.release_probe()
                raise
            breaker.end_probe(succeeded)

    def _wait_for_pause(self) -> None:
        """Wait while the origin is paused; raise ``Interrupted`` if the run was stopped."""
        self.run.ensure_running()
        left = self.origin.pause_left()
        if left > 0 and (self.run.patience or left <= MAX_RETRY_AFTER):
            # Jitter of a tenth, because workers must not all resume at the same moment.
            late = random.uniform(0, left / 10)  # noqa: S311 - spreads load, protects nothing
            while (left := self.origin.pause_left() + late) > 0:
                if self.run.patience and self._waited + left > self.run.patience + late:
                    raise self._outage()
                self._sleep(min(left, SLICE))
            self.run.ensure_running()

    def _sleep(self, seconds: float) -> None:
        """Wait; the time counts towards ``patience``."""
        began = time.monotonic()
        self.run.sleep(seconds)
        # In the rest of the time the process did not run.
        spent = min(time.monotonic() - began, seconds + LATE)
        if self.run.patience:
            self._waited += spent
            self.deadline.extend(spent)
            if not self.has_patience and self.breaker.is_open:
                raise self._outage()

    def _reason(self, status: int | None, error: BaseException | None) -> str:
        if status is None and isinstance(self.failure, APIError):
            status = self.failure.status_code
        if status is not None:
            phrase = http.client.responses.get(status, "")
            return f"{status} {phrase} from {self.origin.name}".replace("  ", " ")
        problem = self.failure if error is None or type(error) is ProtocolError and self.failure else None
        text = problem.message if problem is not None else errors.describe(error).message if error is not None else ""
        return f"{text.partition('. ')[0].rstrip('.')} ({self.origin.name})"

    def _outage(self) -> OutageError:
        failure = self.failure
        message = server_words(failure.response.text) if isinstance(failure, APIError) and failure.response else ""
        return OutageError(
            f"{self.breaker.reason}{': ' + message.rstrip('.') if message else ''}. No request has succeeded for "
            f"{round(self.run.patience, 1):g} s.",
            parameter="patience",
            hint="Try again later, or pass a larger patience.",
            status_code=self.breaker.status,
        )


class RetryPolicy(Retry):
    """The retry policy of one request. Copies made by urllib3 share ``attempts``."""

    attempts: Attempts | None = None

    @classmethod
    def create(cls, total: int) -> RetryPolicy:
        """Build the policy to mount on a session."""
        return cls(
            total=total,
            # TLS errors count as "other"; a retry does not fix a certificate.
            other=0,
            redirect=False,
            status_forcelist=RETRY_STATUSES,
            allowed_methods=RETRY_METHODS,
            # Keeps the last response: errors quote its message.
            raise_on_status=False,
        )

    def of(self, attempts: Attempts) -> Self:
        """Return a fresh copy for a request, much faster than ``new``."""
        policy = object.__new__(type(self))
        policy.__dict__ = {**self.__dict__, "attempts": attempts}
        return policy

    def new(self, **changes: Any) -> Self:
        """Return a changed copy; urllib3 calls this between attempts."""
        changed = super().new(**changes)
        changed.attempts = self.attempts
        return changed

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Return whether a status is retried. In a run, 429 is retried for every method: the server did nothing."""
        is_limited = status_code == http.HTTPStatus.TOO_MANY_REQUESTS
        if is_limited and self.attempts is not None and self.attempts.run.patience > 0:
            return True
        return super().is_retry(method, status_code, has_retry_after)

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Count a failed attempt; raise if no other is allowed."""
        attempts = self.attempts
        if attempts is None:
            return super().increment(method, url, response, error, _pool, _stacktrace)
        status, pause = (response.status, retry_after(response.headers)) if response is not None else (None, None)
        attempts.failed(status, pause, error)
        # Reset by begin_again() if the attempt began in an outage.
        policy = cast("Self", attempts.policy)
        try:
            if attempts.must_end(pause):
                reason = error or ResponseError(f"too many {status or ''} error responses")
                raise MaxRetryError(_pool, url or "", reason)  # type: ignore[arg-type]
            if status == http.HTTPStatus.TOO_MANY_REQUESTS and attempts.has_patience:
                # Rate limiting is not a failure; patience limits the wait.
                following = policy.new()
            else:
                following = super(RetryPolicy, policy).increment(method, url, response, error, _pool, _stacktrace)
        except BaseException:
            attempts.is_exhausted = True
            raise
        if response is not None:
            drain(response)
        # The history refers to errors, frames and connections, which would stay open.
        following.history = ()
        attempts.policy = following
        return following

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait with :meth:`Attempts.wait`."""
        if self.attempts is None:
            super().sleep(response)
        else:
            self.attempts.wait(None if response is None else retry_after(response.headers))
