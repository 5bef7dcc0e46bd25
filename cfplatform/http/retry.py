"""What is tried again, how often and after which wait; and what is done while an origin is away.

Two things are kept apart. A *transient error* of one request is repeated by :class:`RetryPolicy`, a ``urllib3.Retry``.
An *outage* is found by a :class:`Breaker` (a circuit breaker): while it is open, the calls of a run wait without using
up attempts, and one probe at a time goes out. :class:`Call` is the one loop that all requests pass: it sends, and
counts with the same policy where an answer breaks off after its headers.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timezone
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import requests
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError, ResponseError
from urllib3.util.retry import Retry

from ..exceptions import (
    APIError,
    CFPlatformError,
    IncompleteDownloadError,
    InvalidResponseError,
    OutageError,
    TransportError,
    blank_url,
    error_from_response,
    server_words,
)
from . import errors, timeouts
from .body import CHUNK, drain, start_of_body
from .timeouts import Deadline, Interrupted

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self
    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool

    from .session import Channel

#: Repeats of one request, at the most, unless the caller says otherwise.
DEFAULT_RETRIES = 5
#: Statuses worth repeating: overload and transient errors. 501 and 505 are not: they stay.
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528)})
#: Statuses by which a server says that it has too much to do.
_OVERLOADED = (429, 503)
#: Codes by which a storage says the same of a status that usually is final.
_TRANSIENT_CODE = re.compile(r"<Code>\s*(RequestTimeout|SlowDown|InternalError|ServiceUnavailable)\s*</Code>")
#: Methods that may be repeated after the server may have seen the request.
RETRY_METHODS = frozenset({"GET", "HEAD"})
#: Seconds: before repeat n the wait is random between 0 and min(BACKOFF_MAX, BACKOFF_BASE * 2 ** n), so up to
#: 0.5, 1, 2, 4 and 8 s. Random from zero up, because workers that fail together must not return together.
BACKOFF_BASE = 0.5
BACKOFF_MAX = 20.0
#: Seconds that a single call waits for a Retry-After; a longer one is reported. A run obeys any.
MAX_RETRY_AFTER = 60.0
#: Repeats for an answer that is complete but not what was asked for, such as an HTML page of a proxy.
CONTENT_REPEATS = 1

#: Seconds that a run waits for an outage to end, unless the caller says otherwise.
DEFAULT_PATIENCE = 600.0
#: Seconds without a success after which failures are looked at as an outage.
QUIET = 2.0
#: Calls that must be failing where no earlier success can be asked for again.
SEVERAL = 3
#: Seconds between two probes: at first, and at the most.
FIRST_PROBE = 1.0
LAST_PROBE = 30.0
#: Seconds within which an address that was never reached is tried again if it is refused or unknown.
FIRST_CONTACT = 2.5
#: Seconds after which a stop, the end of an outage and the need to report are noticed.
SLICE = 0.25

log = logging.getLogger(__name__)

T = TypeVar("T")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds that an answer asks to wait; ``None`` where it asks for nothing readable.

    Accepts whole and decimal seconds and HTTP dates; a date is compared with the answer's own ``Date``, so that a
    wrong local clock does no harm.
    """
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]{1,10}(\.[0-9]+)?", value):
        return float(value)
    try:
        moment = _http_date(value)
        date = headers.get("Date")
        now = _http_date(date) if date else time.time()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return max(0.0, moment - now) if math.isfinite(moment) else None


def _http_date(text: str) -> float:
    moment = email.utils.parsedate_to_datetime(text)
    # The old form without a zone means GMT as well, not the zone of this machine.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


class Run:
    """What the calls of one run share. A call that belongs to no run has ``patience`` 0: it waits for no outage.

    Args:
        patience: Seconds that a call of the run waits for an outage to end.
        stop: Ends waits and reads early when it is set.
        on_wait: Called now and then while the run waits, in the thread that made it.
    """

    def __init__(
        self,
        patience: float = 0.0,
        stop: threading.Event | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self.patience = patience
        self.stop = stop
        self._on_wait = on_wait
        self._thread = threading.get_ident()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Interrupted: If the run was stopped.
        """
        if self.stop is None:
            time.sleep(seconds)
        elif self.stop.wait(seconds):
            raise Interrupted
        if self._on_wait is not None and threading.get_ident() == self._thread:
            self._on_wait()


#: Of all calls that belong to no run.
SINGLE = Run()


class Origin:
    """What all requests to one scheme, host and port share."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Whether it ever answered.
        self.is_reached = False
        #: The calls that are under way.
        self.calls: dict[int, Call] = {}
        self._resume_at = 0.0
        self._paused_by = ""
        self._breakers: dict[str, Breaker] = {}

    def breaker(self, route: str) -> Breaker:
        """Return the breaker of a kind of request, since one endpoint may be away while others answer."""
        try:
            return self._breakers[route]
        except KeyError:
            return self._breakers.setdefault(route, Breaker(self))

    def pause(self, seconds: float, reason: str) -> None:
        """Let every request wait for that long, as a 429 or 503 asks."""
        self._paused_by = reason
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def pause_left(self) -> float:
        """Return the seconds of the pause that are left."""
        return self._resume_at - time.monotonic()

    def trouble(self) -> tuple[str, float] | None:
        """Return what is wrong and the seconds until the next attempt, where nothing has succeeded lately."""
        found = (breaker.trouble() for breaker in list(self._breakers.values()))
        trouble = next((each for each in found if each is not None), None)
        left = self.pause_left()
        if trouble is None and left > 0 and self.calls:
            # Requests that were sent before the pause may still succeed, but now all wait.
            return self._paused_by, left
        return trouble


class Breaker:
    """The circuit breaker of one kind of request of one origin.

    It opens when calls fail and none has succeeded since. While it is open one probe at a time goes out: a request that
    worked before, if there is one, so that a few items that always fail are not taken for an outage; else one of the
    calls that wait.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        # When the latest request that succeeded was sent, and how to send it again.
        self._succeeded_at = -math.inf
        self._worked: Call | None = None
        # Since when calls fail without a success, and which.
        self._quiet_since: float | None = None
        self._failing: set[int] = set()
        self._next_attempt = 0.0
        #: The last answer that was no success, in words, and its status.
        self.reason = ""
        self.status: int | None = None
        #: When the latest outage ended.
        self.recovered_at = -math.inf
        #: Whether requests wait.
        self.is_open = False
        self._is_probing = self._is_confirmed = self._was_confirmed = False
        self._probe_pause = FIRST_PROBE

    @property
    def has_worked(self) -> bool:
        """Whether such a request was ever answered as it should be."""
        return self._worked is not None

    def succeeded(self, call: Call) -> None:
        """Learn that a request was answered."""
        self._succeeded_at = call.sent_at
        if call.is_repeatable:
            self._worked = call
        # Without the lock: nearly always nothing fails.
        if self._quiet_since is not None or self.is_open:
            with self._lock:
                self._reset()

    def failed(self, call: Call, reason: str, status: int | None) -> None:
        """Learn that an attempt failed; open where it looks like an outage."""
        with self._lock:
            now = time.monotonic()
            if self._quiet_since is None:
                self._quiet_since = now
            self._failing.add(id(call))
            self.reason, self.status = reason, status
            is_likely = self._worked is not None or call.is_essential or len(self._failing) >= SEVERAL
            if call.run.patience and is_likely and not call.is_lost and now - self._quiet_since >= QUIET:
                self._open(now)

    def outlasts(self, call: Call) -> bool:
        """Wait for the end of an outage; tell whether there was one, so that a call without attempts may begin again.

        Raises:
            OutageError: If it lasts longer than the patience of the run.
        """
        with self._lock:
            if not self.is_open:
                if self._succeeded_at > call.failing_since:
                    return False
                if self._worked is None and not call.is_essential and len(self._failing) < SEVERAL:
                    return False
                self._open(time.monotonic())
        self.wait(call)
        return call.is_probe or self._was_confirmed

    def wait(self, call: Call) -> None:
        """Wait until it is closed, or until the call is to be the probe.

        Raises:
            OutageError: If that takes longer than the patience of the run.
        """
        while True:
            worked = None
            with self._lock:
                if not self.is_open:
                    return
                now = time.monotonic()
                is_due = not self._is_probing and now >= self._next_attempt and self._origin.pause_left() <= 0
                if is_due:
                    self._is_probing = True
                    worked = self._worked
            if not is_due:
                call.wait(SLICE)
            elif worked is None:
                call.is_probe = True
                return
            else:
                try:
                    answered = worked.is_answered(call.run)
                except BaseException:
                    self.give_probe_back()
                    raise
                self.probed(answered)

    def probed(self, answered: bool) -> None:
        """Learn what came of a probe."""
        with self._lock:
            self._is_probing = False
            if not self.is_open:
                return
            if answered:
                self._succeeded_at = time.monotonic()
                self._reset()
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
        """Learn when a request that failed will be sent again."""
        if not self.is_open:
            now = time.monotonic()
            known = self._next_attempt if self._next_attempt > now else math.inf
            self._next_attempt = min(known, now + seconds)

    def trouble(self) -> tuple[str, float] | None:
        """Return what is wrong and the seconds until the next attempt, where nothing has succeeded lately."""
        since, now = self._quiet_since, time.monotonic()
        if since is None or now - since < QUIET / 2:
            return None
        # Calls that were given up are over, and one that has never reached its address is about to be.
        if all(call.is_lost or call.breaker is not self for call in list(self._origin.calls.values())):
            return None
        return self.reason, max(0.0, self._next_attempt - now, self._origin.pause_left())

    def _open(self, now: float) -> None:
        if not self.is_open:
            self.is_open, self._next_attempt, self._probe_pause = True, now, FIRST_PROBE

    def _reset(self) -> None:
        if self._is_confirmed:
            log.info("%s answers again after %.0f s", self._origin.name, time.monotonic() - (self._quiet_since or 0.0))
            self.recovered_at = time.monotonic()
        self._was_confirmed = self._is_confirmed
        self.is_open = self._is_confirmed = self._is_probing = False
        self._quiet_since = None
        self._failing = set()


class RetryPolicy(Retry):
    """The policy of one request. Copies made while it runs share ``call``, which knows the run and its breaker."""

    call: Call | None = None

    @classmethod
    def create(cls, total: int) -> RetryPolicy:
        """Build the policy that is mounted on both schemes of a session."""
        return cls(
            total=total,
            # TLS failures count as "other": trying again will not repair a certificate.
            other=0,
            redirect=False,
            status_forcelist=RETRY_STATUSES,
            allowed_methods=RETRY_METHODS,
            # The last answer is kept, so that an error can repeat the server's message.
            raise_on_status=False,
        )

    def of(self, call: Call) -> Self:
        """Return a copy for a call; nothing of it is counted yet."""
        # Much faster than new() and copy(), and there is one for each request.
        policy = object.__new__(type(self))
        policy.__dict__ = {**self.__dict__, "call": call}
        return policy

    def new(self, **changes: Any) -> Self:
        """Return a copy with changes; called by urllib3 between attempts."""
        changed = super().new(**changes)
        changed.call = self.call
        return changed

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
        call = self.call
        if call is None:
            return super().increment(method, url, response, error, _pool, _stacktrace)
        call.attempt_failed(response, error)
        try:
            if call.must_leave(response, error):
                reason = error or ResponseError(f"too many {response.status if response else ''} error responses")
                raise MaxRetryError(_pool, url or "", reason)  # type: ignore[arg-type]
            if response is not None and response.status == http.HTTPStatus.TOO_MANY_REQUESTS and call.has_patience:
                # Who asks too often is slowed down, and that is no failure; patience bounds it.
                following = self.new()
            else:
                following = super().increment(method, url, response, error, _pool, _stacktrace)
        except BaseException:
            call.is_exhausted = True
            raise
        if response is not None:
            drain(response)
        # It holds the errors, these their frames, and these the connections, which would stay open.
        following.history = ()
        call.policy = following
        return following

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait before the next attempt: as long as the server asks, else a random time that grows."""
        if self.call is not None:
            self.call.before_repeat(retry_after(response.headers) if response is not None else None)
        else:
            super().sleep(response)


class Resumed(Protocol):
    """An object that is fetched in several attempts."""

    def headers(self) -> Mapping[str, str]:
        """Return what the next attempt asks for, such as ``Range`` and ``If-Range``."""
        ...

    def position(self) -> int:
        """Return how many bytes are there."""
        ...


class Call:
    """One request with all of its attempts.

    Args:
        channel: Prepares and sends.
        method: Of the request.
        url: Of the request.
        headers: Those that are not the session's own.
        body: Bytes, or a file-like object that can seek.
        route: The kind of request, such as "annotations".
        policy: What is repeated; nothing of it is counted yet.
        timeout: Seconds to connect, and between two reads.
        run: The run that it belongs to.
        deadline: The end of the call with all of its attempts, waits for an outage not included.
        is_essential: Whether the run cannot go on without it, as without the next page of the listing.
        is_checked: Raise for statuses that are refusals.
        resumed: Continues where an attempt stopped: what it wants is asked for again before each attempt, and an
            attempt that got on does not count as a failed one.
        renew: Returns a new signed URL where the one in use was refused and ``should_renew`` says that it may help.
    """

    def __init__(
        self,
        channel: Channel,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        route: str,
        policy: Retry,
        timeout: tuple[float, float],
        run: Run = SINGLE,
        deadline: Callable[[], Deadline],
        is_essential: bool = False,
        is_checked: bool = True,
        resumed: Resumed | None = None,
        renew: Callable[[APIError], str | None] | None = None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._mounted = self.policy = policy
        self._timeout = timeout
        self.run = run
        self._new_deadline = deadline
        self.is_essential = is_essential
        self._is_checked = is_checked
        self._resumed = resumed
        self._renew = renew
        self.origin = channel.origin(url)
        self.breaker = self.origin.breaker(route)
        # Can be sent again to see whether the origin answers: no upload, and nothing that creates.
        self.is_repeatable = self._allows_repeat() and resumed is None and (body is None or isinstance(body, bytes))
        self.is_probe = self.is_exhausted = self._has_left = self.is_lost = self._is_asking = False
        self._is_unreachable = False
        self._failure: CFPlatformError | None = None
        self._content_repeats = CONTENT_REPEATS
        self._reached = resumed.position() if resumed is not None else 0
        self.sent_at = self.failing_since = math.inf
        self._resumes_at: float | None = None
        self._began = time.monotonic()
        self._failures = 0
        self._waited = 0.0
        self._begin_again()

    # --- The loop --------------------------------------------------------------------------------------------

    def perform(self, receive: Callable[[requests.Response], T]) -> T:
        """Send the request until its answer is received, and return what ``receive`` returned.

        Raises:
            CFPlatformError: If there is no usable answer.
        """
        self.origin.calls[id(self)] = self
        try:
            while True:
                self._before_attempt()
                response = failure = None
                is_final = self._is_unreachable = False
                prepared = self._prepared()
                timeouts.limit_reading(self.run.stop, self._deadline)
                # Sending a file may take long, and is not waiting for an answer.
                self._is_asking = self._body is None or isinstance(self._body, bytes)
                try:
                    response = self._channel.send(prepared, self.policy, self._timeout)
                except errors.CAUGHT as error:
                    # A hook that raises for the status, as raise_for_status does, has the answer.
                    response = getattr(error, "response", None)
                    if response is None:
                        failure, is_final = self._described(error)
                self._is_asking = False
                if response is not None:
                    value, failure = self._received(receive, response)
                    if failure is None:
                        self._succeed()
                        return cast(T, value)
                # Outside of the except block, so that no object of requests, which holds the key, is its context.
                self._recover(cast(CFPlatformError, failure), response, is_final)
        finally:
            del self.origin.calls[id(self)]
            if self.is_probe:
                self.breaker.give_probe_back()

    def unanswered(self) -> float:
        """Return for how many seconds not even the headers of an answer have come."""
        return time.monotonic() - self.sent_at if self._is_asking and self._resumes_at is None else 0.0

    def repeats(self) -> tuple[str, float] | None:
        """Return why it waits before its next attempt and the seconds until then, if it does."""
        at = self._resumes_at
        return None if at is None or self.is_lost else (self.breaker.reason, max(0.0, at - time.monotonic()))

    def _received(
        self, receive: Callable[[requests.Response], T], response: requests.Response
    ) -> tuple[T | None, CFPlatformError | None]:
        """Receive an answer; return what came of it, or the failure that another attempt may repair."""
        try:
            refusal = self._refusal(response)
            return (None, refusal) if refusal is not None else (receive(response), None)
        except (TransportError, IncompleteDownloadError) as error:
            # Without its traceback, whose frames hold what the server sent.
            return None, error.with_traceback(None)
        finally:
            response.close()

    def _succeed(self) -> None:
        self.is_probe = False
        self.origin.is_reached = True
        self.breaker.succeeded(self)

    def _recover(self, failure: CFPlatformError, response: requests.Response | None, is_final: bool) -> None:
        """Do what has to be done before another attempt; raise where there is none."""
        self._failure = failure
        if isinstance(failure, APIError) and self._has_new_url(failure):
            return
        if isinstance(failure, InvalidResponseError) and not is_final:
            # Where the same endpoint has answered before, a web page in its place is an outage like any other.
            is_final = self._content_repeats == 0 and not (self.run.patience and self.breaker.has_worked)
            is_final = is_final or 300 <= (failure.status_code or 0) < 400
            self._content_repeats = max(0, self._content_repeats - 1)
        if is_final or not self._is_transient(failure):
            if isinstance(failure, APIError):
                # The origin is there, whatever it says.
                self._succeed()
            raise errors.named(failure, self._method, self._url)
        if self._resumed is not None and self._resumed.position() >= self._reached + CHUNK:
            # It got further than any attempt before, so it does not count as a failed one.
            self._reached = self._resumed.position()
            self._begin_again()
        elif not self._may_repeat(failure, response):
            raise errors.named(failure, self._method, self._url)

    def is_answered(self, run: Run) -> bool:
        """Send the request once, as a probe; tell whether the origin answers."""
        prepared = self._prepared()
        if self._channel.is_storage:
            # The first byte will do.
            prepared.headers["Range"] = "bytes=0-0"
        timeouts.limit_reading(run.stop, Deadline(2 * sum(self._timeout), max(self._timeout)))
        try:
            response = self._channel.send(prepared, self._mounted.new(total=0), self._timeout)
        except errors.CAUGHT:
            return False
        with contextlib.closing(response):
            status = response.status_code
            if status in RETRY_STATUSES:
                self._obey(status, retry_after(response.headers))
                return False
            # A refusal is an answer as well; a body that breaks off is none.
            return drain(response.raw) or status >= http.HTTPStatus.BAD_REQUEST

    def _described(self, error: Exception) -> tuple[CFPlatformError, bool]:
        """Return the error of ours, and whether it would be the same the next time."""
        status = errors.exhausted_status(error)
        if status is None:
            self._is_unreachable = errors.is_unreachable(errors.chain_of(error))
            return errors.describe(error), not errors.is_transient(error)
        # The caller's own Retry gave up, and kept nothing of the answer but this.
        self.is_exhausted = True
        return error_from_response(status, method=self._method, url=self._url, headers={}), False

    def _refusal(self, response: requests.Response) -> CFPlatformError | None:
        """Return the error of an answer whose status is a refusal."""
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in (self._headers or ())):
            return None
        if not self._is_checked and not self._would_repeat(status):
            return None
        if 300 <= status < 400:
            target = blank_url(response.headers.get("Location", "nowhere"))
            return InvalidResponseError(
                f"The server answered with a redirect ({status}) to {target[:200]!r}, which is not followed: "
                f"{self._channel.why_no_redirect}",
                status_code=status,
            )
        return error_from_response(
            status,
            method=self._method,
            url=self._url,
            headers=dict(response.headers),
            body=start_of_body(response),
            retry_after=retry_after(response.headers),
            secret=self._channel.key,
            hint=self._channel.hint,
        )

    def _is_transient(self, failure: CFPlatformError) -> bool:
        if not isinstance(failure, APIError) or failure.status_code in self._statuses():
            return True
        if failure.response is not None and _TRANSIENT_CODE.search(failure.response.text):
            return True
        # A run outlasts the page of a proxy, which says nothing of the key; a single call reports it.
        return self.run.patience > 0 and errors.is_from_between(failure)

    def _statuses(self) -> Collection[int]:
        return self._mounted.status_forcelist or RETRY_STATUSES

    def _allows_repeat(self) -> bool:
        allowed = self._mounted.allowed_methods
        return not allowed or self._method in allowed

    def _would_repeat(self, status: int) -> bool:
        policy = self.policy
        return (
            isinstance(policy, RetryPolicy)
            and not self.is_exhausted
            and bool(policy.total)
            and policy.is_retry(self._method, status)
        )

    def _has_new_url(self, failure: APIError) -> bool:
        url = self._renew(failure) if self._renew is not None else None
        if url is None:
            return False
        self._url = url
        return True

    def _may_repeat(self, failure: CFPlatformError, response: requests.Response | None) -> bool:
        """Count a failed attempt, wait, and tell whether there is another."""
        if not self.is_exhausted and self._is_counted(failure, response):
            return True
        if not self.run.patience or self.is_lost or not self._allows_repeat():
            return False
        if not isinstance(self.policy, RetryPolicy):
            self.attempt_failed(None, None)
        # An attempt may have waited for a server that says nothing.
        self._waited += min(time.monotonic() - self.sent_at, sum(self._timeout) + timeouts.LATE)
        if self.is_probe:
            self.is_probe = False
            self.breaker.probed(False)
        if self.breaker.outlasts(self):
            self._begin_again()
            return True
        if self._has_left:
            # Nothing was away, so the attempts that are left are used.
            self._has_left = self.is_exhausted = False
            return self._may_repeat(failure, response)
        return False

    def _is_counted(self, failure: CFPlatformError, response: requests.Response | None) -> bool:
        """Count a failed attempt that urllib3 did not see, and wait; tell whether there is another."""
        policy, raw = self.policy, getattr(response, "raw", None)
        is_ours = isinstance(policy, RetryPolicy)
        if self._channel.makes_retries or not (is_ours or self._channel.is_own):
            if isinstance(failure, APIError) or response is None:
                # The adapter has repeated it as the caller's own policy says.
                return False
            if not is_ours:
                policy = getattr(raw, "retries", None) or policy
        is_status = isinstance(failure, APIError) and failure.status_code in self._statuses()
        try:
            if is_status and isinstance(raw, urllib3.BaseHTTPResponse):
                if not policy.is_retry(self._method, raw.status, "Retry-After" in raw.headers):
                    return False
                following = policy.increment(self._method, "", response=raw)
            else:
                following = policy.increment(self._method, "", error=ProtocolError())
        except HTTPError:
            return False
        self.policy = following
        if isinstance(following, RetryPolicy):
            self.before_repeat(retry_after(response.headers) if response is not None else None)
        else:
            following.sleep()
        return True

    # --- What the policy asks and tells ----------------------------------------------------------------------

    def attempt_failed(self, response: BaseHTTPResponse | None, error: BaseException | None) -> None:
        """Learn that an attempt failed."""
        self._failures += 1
        self.failing_since = min(self.failing_since, self.sent_at)
        # Nothing to wait for: the address may as well be wrong.
        is_unreachable = error is not None and errors.is_unreachable(errors.chain_of(error))
        self.is_lost = not self.origin.is_reached and (is_unreachable or self._is_unreachable)
        status = response.status if response is not None else None
        if response is not None:
            self.origin.is_reached = True
            self._obey(response.status, retry_after(response.headers))
        self.breaker.failed(self, self._reason(status, error), status)

    def must_leave(self, response: BaseHTTPResponse | None, error: BaseException | None) -> bool:
        """Tell whether the attempts end here, although the policy would allow another."""
        asked = retry_after(response.headers) if response is not None else None
        if self.is_lost and time.monotonic() - self._began >= FIRST_CONTACT:
            return True
        if self.run.patience:
            self._has_left = self.breaker.is_open and not self.is_lost
            if self._has_left:
                return True
        elif asked is not None and asked > MAX_RETRY_AFTER:
            return True
        return self._deadline.left() < min(asked or 0.0, MAX_RETRY_AFTER)

    def before_repeat(self, asked: float | None) -> None:
        """Wait before the next attempt: as long as was asked, else a random time that grows."""
        is_asked = asked is not None
        if asked is None:
            ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** max(0, self._failures - 1))
            asked = random.uniform(0, ceiling)  # noqa: S311 - spreads load, protects nothing
            if self.run.patience:
                asked = min(asked, max(SLICE, self.run.patience - self._waited))
            if not self.origin.is_reached:
                asked = min(asked, max(0.0, self._began + FIRST_CONTACT - time.monotonic()))
        elif self.run.patience and self._waited + asked > self.run.patience:
            raise self._outage()
        self.breaker.attempt_in(asked)
        began = time.monotonic()
        self._resumes_at = began + asked
        # A call that waits for an outage to end resumes when it has ended.
        while (left := self._resumes_at - time.monotonic()) > 0 and (is_asked or self.breaker.recovered_at < began):
            self.wait(min(left, SLICE))
        self._keep_pause()
        self._resumes_at = None
        self.sent_at = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait a moment, which is counted against the patience of the run.

        Raises:
            OutageError: If there is no patience left.
        """
        began = time.monotonic()
        self.run.sleep(seconds)
        # What is longer is time in which the process did not run.
        spent = min(time.monotonic() - began, seconds + timeouts.LATE)
        if self.run.patience:
            self._waited += spent
            self._deadline.extend(spent)
            if not self.has_patience and self.breaker.is_open:
                raise self._outage()

    @property
    def has_patience(self) -> bool:
        """Whether it may wait on for the platform."""
        return self._waited < self.run.patience

    # --- Helpers ---------------------------------------------------------------------------------------------

    def _prepared(self) -> requests.PreparedRequest:
        headers = self._headers
        if self._resumed is not None:
            headers = {**(headers or {}), **self._resumed.headers()}
        if hasattr(self._body, "seek"):
            self._body.seek(0)
        return self._channel.prepare(self._method, self._url, headers, self._body)

    def _before_attempt(self) -> None:
        if self.run.patience and self.breaker.is_open and not self.is_probe:
            self.breaker.wait(self)
        self._keep_pause()
        self.sent_at = time.monotonic()

    def _keep_pause(self) -> None:
        left = self.origin.pause_left()
        if left > 0 and (self.run.patience or left <= MAX_RETRY_AFTER):
            # Spread over a tenth, so that the workers do not all return at the same instant.
            late = random.uniform(0, left / 10)  # noqa: S311 - spreads load, protects nothing
            while (left := self.origin.pause_left() + late) > 0:
                if self.run.patience and self._waited + left > self.run.patience + late:
                    raise self._outage()
                self.wait(min(left, SLICE))

    def _obey(self, status: int, asked: float | None) -> None:
        if asked is not None and status in _OVERLOADED and (self.run.patience or asked <= MAX_RETRY_AFTER):
            self.origin.pause(asked, self._reason(status, None))

    def _begin_again(self) -> None:
        """Count nothing of what has failed until now."""
        self._deadline = self._new_deadline()
        self.failing_since = math.inf
        self._failures = 0
        self.is_exhausted = self._has_left = False
        self.policy = self._mounted
        if isinstance(self.policy, RetryPolicy):
            self.policy = self.policy.of(self)

    def _reason(self, status: int | None, error: BaseException | None) -> str:
        if status is None and isinstance(self._failure, APIError):
            status = self._failure.status_code
        if status is not None:
            phrase = http.client.responses.get(status, "")
            return f"{status} {phrase} from {self.origin.name}".replace("  ", " ")
        problem = self._failure if error is None or type(error) is ProtocolError and self._failure else None
        text = problem.message if problem is not None else errors.describe(error).message if error is not None else ""
        return f"{text.partition('. ')[0].rstrip('.')} ({self.origin.name})"

    def _outage(self) -> OutageError:
        url, failure = blank_url(self._url), self._failure
        said = server_words(failure.response.text) if isinstance(failure, APIError) and failure.response else ""
        return OutageError(
            f"{self._method} {url}: {self.breaker.reason}{': ' + said.rstrip('.') if said else ''}. Nothing has "
            f"succeeded for {round(self.run.patience, 1):g} s.",
            parameter="patience",
            hint="Try again later, or pass a larger patience.",
            method=self._method,
            url=url,
            status_code=self.breaker.status,
        )
