"""The retry loop of a request, from its first attempt to its result. All requests use it.

:class:`~.retry.Attempts` decides whether there is another attempt. urllib3 counts the failures before the headers
arrive. With the same policy, this module counts the others: truncated bodies, and errors of a mock or of the caller's
own adapter.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

import requests
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError
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
)
from . import errors, timeouts
from .body import CHUNK, Body, drain, start_of_body
from .retry import RETRY_STATUSES, SINGLE, Attempts, RetryPolicy, Run, retry_after
from .session import Channel

#: Number of retries after a complete but unexpected response, such as an HTML page from a proxy.
CONTENT_REPEATS = 1
_STORAGE_HINT = "The storage refused the object, and a new signed URL did not or would not help."
_NO_REDIRECT = "the API key is only sent to the base URL. Check the base URL."
_NO_REDIRECT_OF_STORAGE = "a signed URL is valid for one location only."

T = TypeVar("T")


class Resumed(Protocol):
    """The download of an object that several attempts can continue."""

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the next attempt, such as ``Range`` and ``If-Range``."""
        ...

    def position(self) -> int:
        """Return the number of bytes received so far."""
        ...


def no_other_url(_: APIError) -> str | None:
    """Return no replacement for a refused URL."""
    return None


class Call:
    """One request with all of its attempts.

    Args:
        channel: Prepares and sends the request.
        headers: Headers in addition to the session's.
        body: A file is sent again from its start.
        route: The kind of request, such as "annotations". Defaults to the method.
        policy: Retry policy, with nothing counted yet. Defaults to the channel's.
        timeout: Seconds to connect and to read. Defaults to the channel's.
        seconds: Limit for all attempts together, excluding waits for an outage. Defaults to :func:`~.timeouts.of_call`.
        is_essential: Whether the run cannot continue without it, such as the next page of the listing.
        is_checked: Whether to raise for error statuses.
        resumed: Continues where the last attempt stopped. Its headers are read before each attempt, and an attempt
            that made progress does not count as failed.
        renew: Returns a new signed URL after a refusal, or ``None`` if that cannot help.
        is_left_open: Whether the caller reads the body of the response later, and closes it.
    """

    def __init__(
        self,
        channel: Channel,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        *,
        route: str = "",
        policy: Retry | None = None,
        timeout: tuple[float, float] | None = None,
        seconds: float | None = None,
        run: Run = SINGLE,
        is_essential: bool = False,
        is_checked: bool = True,
        resumed: Resumed | None = None,
        renew: Callable[[APIError], str | None] = no_other_url,
        is_left_open: bool = False,
    ) -> None:
        policy = policy or channel.policy
        self._channel = channel
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._timeout = timeout = timeout or channel.timeout
        self._is_checked = is_checked
        self._resumed = resumed
        self._renew = renew
        self._is_left_open = is_left_open
        self._may_be_repeated = not policy.allowed_methods or method in policy.allowed_methods
        self._file = body if isinstance(body, Body) else None
        self._content_repeats = CONTENT_REPEATS
        self._reached = resumed.position() if resumed is not None else 0
        seconds = seconds or timeouts.of_call(timeout, self._file.size if self._file else 0)
        self._attempts = Attempts(channel.origin(url), route or method, policy, run, timeout, seconds, is_essential)

    def perform(self, receive: Callable[[requests.Response], T]) -> T:
        """Send the request until its response is received; return the result of ``receive``."""
        attempts = self._attempts
        self._channel.under_way[id(self)] = attempts
        try:
            while True:
                attempts.begin()
                response = failure = None
                is_final = attempts.is_unreachable = False
                prepared = self._prepared()
                timeouts.limit_reading(attempts.run.stop, attempts.deadline)
                # Sending a file may take long; it is not a wait for a response.
                attempts.is_unanswered = self._file is None
                try:
                    response = self._channel.send(prepared, attempts.policy, self._timeout)
                except errors.CAUGHT as error:
                    # The error of a hook that calls raise_for_status has the response.
                    response = getattr(error, "response", None)
                    if response is None:
                        failure, is_final = self._described(error)
                attempts.is_unanswered = False
                if response is not None:
                    value, failure = self._received(receive, response)
                    if failure is None:
                        self._succeeded()
                        return cast(T, value)
                # Outside the except block: the error's context must not hold the request, which has the key.
                self._recover(cast(CFPlatformError, failure), response, is_final)
        except OutageError as error:
            errors.named(error, self._method, self._url)
            raise
        finally:
            del self._channel.under_way[id(self)]
            if attempts.is_probe:
                attempts.breaker.release_probe()

    def _prepared(self) -> requests.PreparedRequest:
        headers = self._headers
        if self._resumed is not None:
            headers = {**(headers or {}), **self._resumed.headers()}
        if self._file is not None:
            self._file.seek(0)
        return self._channel.prepare(self._method, self._url, headers, self._body)

    def _received(
        self, receive: Callable[[requests.Response], T], response: requests.Response
    ) -> tuple[T | None, CFPlatformError | None]:
        """Receive a response; return the result, or the failure if another attempt may succeed."""
        is_closed = True
        try:
            refusal = self._refusal(response)
            if refusal is not None:
                return None, refusal
            value = receive(response)
            if self._is_left_open:
                # Each read has a timeout, but the caller may take any time between reads.
                self._attempts.deadline.extend(math.inf)
                is_closed = False
            return value, None
        except (TransportError, IncompleteDownloadError) as error:
            # Without its traceback, because the frames hold the response.
            return None, error.with_traceback(None)
        finally:
            if is_closed:
                response.close()

    def _succeeded(self) -> None:
        # Uploads and POST requests are never repeated as a probe.
        is_harmless = self._may_be_repeated and self._resumed is None and self._file is None
        self._attempts.succeeded(self._probe if is_harmless else None)

    def _probe(self, stop: threading.Event | None) -> bool:
        """Send the request once; return whether the origin responds."""
        prepared = self._prepared()
        if self._channel.is_storage:
            # The first byte is enough.
            prepared.headers["Range"] = "bytes=0-0"
        timeouts.limit_reading(stop, timeouts.Deadline(2 * sum(self._timeout), max(self._timeout)))
        try:
            response = self._channel.send(prepared, self._attempts.mounted.new(total=0), self._timeout)
        except errors.CAUGHT:
            return False
        with contextlib.closing(response):
            status = response.status_code
            if status in RETRY_STATUSES:
                self._attempts.obey(status, retry_after(response.headers))
                return False
            # An error status also shows that the origin responds; a truncated body does not.
            return drain(response.raw) or status >= 400

    # --- Failures --------------------------------------------------------------------------------------------

    def _described(self, error: Exception) -> tuple[CFPlatformError, bool]:
        """Return our exception, and whether another attempt would fail in the same way."""
        status = errors.exhausted_status(error)
        if status is None:
            self._attempts.is_unreachable = errors.is_unreachable(error)
            return errors.describe(error), not errors.is_transient(error)
        # The caller's Retry is exhausted and kept only the status.
        self._attempts.is_exhausted = True
        return error_from_response(status, method=self._method, url=self._url, headers={}), False

    def _refusal(self, response: requests.Response) -> CFPlatformError | None:
        """Return the error for a response with an error status, or ``None``."""
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in (self._headers or ())):
            return None
        if not self._is_checked and not self._attempts.would_repeat(self._method, status):
            return None
        if 300 <= status < 400:
            target = blank_url(response.headers.get("Location", "nowhere"))
            reason = _NO_REDIRECT_OF_STORAGE if self._channel.is_storage else _NO_REDIRECT
            return InvalidResponseError(
                f"The server responded with a redirect ({status}) to {target[:200]!r}, which is not followed: {reason}",
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
            hint=_STORAGE_HINT if self._channel.is_storage else None,
        )

    def _recover(self, failure: CFPlatformError, response: requests.Response | None, is_final: bool) -> None:
        """Prepare the next attempt and wait; raise if there is none."""
        attempts = self._attempts
        attempts.failure = failure
        if isinstance(failure, APIError) and (url := self._renew(failure)) is not None:
            self._url = url
            return
        if isinstance(failure, InvalidResponseError) and not is_final:
            # If the endpoint worked before, an HTML page in its place counts as an outage.
            is_final = self._content_repeats == 0 and not (attempts.run.patience and attempts.breaker.probe)
            is_final = is_final or 300 <= (failure.status_code or 0) < 400
            self._content_repeats = max(0, self._content_repeats - 1)
        if is_final or not attempts.is_transient(failure):
            if isinstance(failure, APIError):
                # An error status also shows that the origin responds.
                self._succeeded()
            raise errors.named(failure, self._method, self._url)
        if self._resumed is not None and self._resumed.position() >= self._reached + CHUNK:
            # It got further than earlier attempts, so it does not count as failed.
            self._reached = self._resumed.position()
            attempts.begin_again()
        elif not self._may_repeat(failure, response):
            raise errors.named(failure, self._method, self._url)

    def _may_repeat(self, failure: CFPlatformError, response: requests.Response | None) -> bool:
        """Count a failed attempt and wait; return whether there is another."""
        attempts = self._attempts
        if not attempts.is_exhausted and self._is_counted(failure, response):
            return True
        if not self._may_be_repeated:
            if attempts.run.patience:
                # Opens the breaker for other calls, although this one must not be sent again.
                status, headers = getattr(failure, "status_code", None), getattr(response, "headers", {})
                attempts.failed(status, retry_after(headers))
                attempts.end()
            return False
        return attempts.wait_out() or (attempts.has_left() and self._may_repeat(failure, response))

    def _is_counted(self, failure: CFPlatformError, response: requests.Response | None) -> bool:
        """Count a failed attempt that urllib3 did not count, and wait; return whether there is another."""
        policy, raw = self._attempts.policy, getattr(response, "raw", None)
        is_ours = isinstance(policy, RetryPolicy)
        if self._channel.makes_retries or not (is_ours or self._channel.is_own):
            if isinstance(failure, APIError) or response is None:
                # The adapter has already applied the caller's policy.
                return False
            if not is_ours:
                policy = getattr(raw, "retries", None) or policy
        is_status = isinstance(failure, APIError) and failure.status_code in self._attempts.statuses
        try:
            if is_status and isinstance(raw, urllib3.BaseHTTPResponse):
                if not policy.is_retry(self._method, raw.status, "Retry-After" in raw.headers):
                    return False
                following = policy.increment(self._method, "", response=raw)
            else:
                following = policy.increment(self._method, "", error=ProtocolError())
        except HTTPError:
            return False
        self._attempts.policy = following
        if isinstance(following, RetryPolicy):
            self._attempts.wait(retry_after(response.headers) if response is not None else None)
        else:
            following.sleep()
        return True
