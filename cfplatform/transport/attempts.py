"""The attempts that a call takes: sent, judged, received, and begun anew where that can help."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import requests
import urllib3

from .. import config
from ..exceptions import (
    CFPlatformError,
    IncompleteDownloadError,
    InvalidResponseError,
    TransportError,
    blank_url,
    error_from_response,
)
from . import connections, failures, lanes, streams
from .bodies import Body, Resumed
from .lanes import Answer, AnyAnswer, AnyRequest, Outgoing
from .retry import RetryPolicy, retry_after
from .sessions import PolicyAdapter, origin

#: Seconds that one call may take, with all its repeats and waits; or so many times the timeouts, where that is more.
DEADLINE = 600.0
DEADLINE_TIMEOUTS = 10
#: Repeats for an answer that is whole but not what was asked for, such as an HTML page of a proxy.
CONTENT_REPEATS = 1

_log = logging.getLogger(__package__)

T = TypeVar("T")


class Wire:
    """One of the two ways to the network, that to the API or that to the storage; safe to use from many threads.

    Args:
        session: Sends what cannot go the short way.
        policy: What is repeated; a call may have one of its own.
        given: The caller's ``proxies``, ``verify`` and ``cert``.
        key: The API key, to be blanked in what a server says.
        is_own: Whether the session is the caller's own: used for every request, and never closed.
        why_no_redirect: What is said of a redirect, which is never followed.
        hint: What is added to a refusal.
    """

    def __init__(
        self,
        session: requests.Session,
        policy: urllib3.Retry,
        given: Mapping[str, Any],
        *,
        key: str,
        is_own: bool = False,
        why_no_redirect: str,
        hint: str | None = None,
    ) -> None:
        self.policy = policy
        self._session = session
        self._given = given
        self._key = key
        self._is_own = is_own
        self._why_no_redirect = why_no_redirect
        self._hint = hint
        self._environments: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        self._lanes: dict[str, urllib3.HTTPConnectionPool | None] = {}

    def close(self) -> None:
        """Close all connections, but not the caller's own."""
        self._lanes.clear()
        if not self._is_own:
            self._session.close()

    def prepare(self, request: requests.Request) -> requests.PreparedRequest | None:
        """Return what the session would send; ``None`` where no request can be made of it."""
        try:
            return self._session.prepare_request(request)
        except (*failures.CAUGHT, TypeError):
            return None

    def lane(self, where: str) -> urllib3.HTTPConnectionPool | None:
        """Return the pool for an origin, or ``None`` where requests must go through the session."""
        if self._is_own:
            return None
        try:
            return self._lanes[where]
        except KeyError:
            adapter = cast(PolicyAdapter, self._session.get_adapter(where))
            try:
                lane = adapter.lane(where, self._environment(where))
            except failures.CAUGHT:
                # What is wrong with it is told when it is sent.
                lane = None
            self._lanes[where] = lane
            return lane

    def _environment(self, url: str) -> Mapping[str, Any]:
        """Return proxies and TLS settings for an origin; looked up once, since that walks the whole environment."""
        key = origin(url)
        settings = self._environments.get(key)
        if settings is None:
            given = self._given
            settings = self._session.merge_environment_settings(
                url, dict(given["proxies"]), True, given["verify"], given["cert"]
            )
            own = self._is_own or given["proxies"]
            if not own and config.is_loopback(urlsplit(url).hostname or ""):
                # A proxy of the environment does not reach this machine, and would be told the key.
                settings["proxies"] = {}
            self._environments[key] = settings
        return settings

    def exchange(
        self,
        prepared: AnyRequest,
        policy: urllib3.Retry,
        timeout: tuple[float, float],
        receive: Callable[[Any], T],
        *,
        check: bool = True,
        sent: Body | None = None,
        resumed: Resumed | None = None,
        within: float | None = None,
        stop: threading.Event | None = None,
    ) -> T:
        """Send and receive until it works or the policy has no attempt left.

        urllib3 repeats until the headers of an answer are there; what happens after that it cannot see. This loop
        goes on counting with the very object that urllib3 counted with, so that there is one budget and not two.

        Args:
            prepared: What is sent.
            policy: What is repeated; nothing of it is counted yet.
            timeout: Seconds to connect, and between two reads.
            receive: Reads and checks the body.
            check: Raise for statuses that are refusals.
            sent: The body of the request, where it is a file.
            resumed: Goes on where an attempt stopped.
            within: Seconds that all of it may take, if not as usual.
            stop: Ends waits and reads early when it is set.
        """
        allowed = within or max(DEADLINE, DEADLINE_TIMEOUTS * sum(timeout))
        allowed += sent.size / connections.MIN_AVERAGE if sent else 0
        mounted = policy
        # Those of API calls hold the key, which must not stand in the frame of an error.
        headers = dict(prepared.headers) if resumed is not None else {}
        policy, deadline = _begin(mounted, allowed, stop)
        content_repeats = CONTENT_REPEATS
        reached = resumed.position() if resumed is not None else 0
        while True:
            if resumed is not None:
                prepared.headers.clear()
                prepared.headers.update({**headers, **resumed.headers()})
            if sent is not None:
                sent.seek(0)
            response = self._send(prepared, policy, timeout, stop, deadline)
            try:
                if check:
                    self._check_status(prepared, response)
                value, failure = _attempt(receive, response)
            finally:
                response.close()
            if failure is None:
                if isinstance(policy, RetryPolicy) and policy.shared is not None:
                    policy.shared.budget.give()
                return cast(T, value)
            if isinstance(failure, InvalidResponseError):
                if content_repeats == 0:
                    raise _named(failure, prepared)
                content_repeats -= 1
            if resumed is not None and resumed.position() >= reached + streams.CHUNK:
                # It got further than ever, so this was not a failed attempt but a part of the whole.
                reached = resumed.position()
                policy, deadline = _begin(mounted, allowed, stop)
            else:
                policy = self._following(prepared, policy, response, failure)

    def _send(
        self,
        prepared: AnyRequest,
        policy: urllib3.Retry,
        timeout: tuple[float, float],
        stop: threading.Event | None,
        deadline: float,
    ) -> AnyAnswer:
        if isinstance(policy, RetryPolicy) and policy.shared is not None:
            policy.shared.wait(stop)
        connections.limit_reading(stop, deadline)
        response: AnyAnswer
        try:
            if isinstance(prepared, Outgoing):
                response = self._send_directly(prepared, policy, timeout)
            else:
                prepared.retries = policy  # type: ignore[attr-defined]
                settings = self._environment(prepared.url or "")
                response = self._session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
        except failures.CAUGHT as error:
            problem = failures.describe(error)
        else:
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s %s: %d", prepared.method, blank_url(prepared.url or ""), response.status_code)
            return response
        # Raised outside of the except block, so that no object of requests, which holds the key, is its context.
        raise _named(problem, prepared)

    def _send_directly(self, outgoing: Outgoing, policy: urllib3.Retry, timeout: tuple[float, float]) -> Answer:
        try:
            return lanes.send(self.lane(outgoing.origin), outgoing, timeout, policy)
        except urllib3.exceptions.ClosedPoolError:
            # The adapter keeps the pools of a limited number of origins; this one was given up for another.
            self._lanes.clear()
        return lanes.send(self.lane(outgoing.origin), outgoing, timeout, policy)

    def _following(
        self, prepared: AnyRequest, policy: urllib3.Retry, response: AnyAnswer, failure: CFPlatformError
    ) -> urllib3.Retry:
        """Count the failed attempt, wait, and return the policy for the next; raise where there is none."""
        used = getattr(response.raw, "retries", None)
        if isinstance(used, urllib3.Retry) and not self._is_own:
            policy = used
        try:
            following = policy.increment(prepared.method, "", error=urllib3.exceptions.ProtocolError())
        except urllib3.exceptions.HTTPError:
            following = None
        if following is None:
            raise _named(failure, prepared)
        following.sleep()
        return following

    def _check_status(self, prepared: AnyRequest, response: AnyAnswer) -> None:
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in prepared.headers):
            return
        if 300 <= status < 400:
            target = blank_url(response.headers.get("Location", "nowhere"))
            problem = InvalidResponseError(
                f"The server answered with a redirect ({status}) to {target[:200]!r}, which is not followed: "
                f"{self._why_no_redirect}",
                status_code=status,
            )
            raise _named(problem, prepared)
        raise error_from_response(
            status,
            method=prepared.method or "",
            url=prepared.url or "",
            headers=dict(response.headers),
            body=streams.start_of_body(response),
            retry_after=retry_after(response.raw),
            secret=self._key,
            hint=self._hint,
        )


def _named(error: CFPlatformError, prepared: AnyRequest) -> CFPlatformError:
    """Say in an error which call it was."""
    if error.method is None:
        error.method, error.url = prepared.method, blank_url(prepared.url or "")
        error.message = f"{error.method} {error.url}: {error.message}"
        error.args = (error.message,)
    return error


def _begin(policy: urllib3.Retry, allowed: float, stop: threading.Event | None) -> tuple[urllib3.Retry, float]:
    """Return a policy that has counted nothing yet, and the moment until which it may repeat."""
    deadline = time.monotonic() + allowed
    if isinstance(policy, RetryPolicy):
        policy = policy.new()
        policy.stop, policy.deadline = stop, deadline
    return policy, deadline


def _attempt(
    receive: Callable[[Any], T], response: AnyAnswer
) -> tuple[T | None, TransportError | IncompleteDownloadError | None]:
    """Receive a body; return what came of it, or the failure that another attempt may mend."""
    try:
        return receive(response), None
    except (TransportError, IncompleteDownloadError) as error:
        # Without its traceback, whose frames hold what the server sent.
        return None, error.with_traceback(None)
