"""Everything that goes over the wire: two sessions, retries, timeouts, and the turning of answers into errors.

Nothing outside this package imports requests or urllib3.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from .. import config
from ..exceptions import (
    APIConnectionError,
    CFPlatformError,
    ConfigurationError,
    IncompleteDownloadError,
    InvalidParameterError,
    InvalidResponseError,
    TransportError,
    blank,
    blank_url,
    error_from_response,
    printable,
)
from ..level import Level
from . import arguments, connections, failures, lanes, streams
from .arguments import Retries, checked_retries, path
from .bodies import Body, Resumed
from .failures import has_expired
from .lanes import Answer, AnyAnswer, AnyRequest, Outgoing
from .retry import DEFAULT_RETRIES, RETRY_METHODS, Budget, Interrupted, RetryPolicy, Shared, retry_after
from .sessions import KeyAuth, PlainSession, PolicyAdapter, hide_signatures_in_logs, origin

if TYPE_CHECKING:
    from ..params import Query
    from .settings import Settings

__all__ = [
    "DEFAULT_RETRIES",
    "Body",
    "Interrupted",
    "ObjectStream",
    "Resumed",
    "Transport",
    "checked_retries",
    "has_expired",
    "path",
]

ObjectStream = streams.ObjectStream

#: Bytes of one API answer, at the most: a page of 100 items is some 50 KB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
#: Seconds that one call may take, with all its repeats and waits; or so many times the timeouts, where that is more.
DEADLINE = 600.0
DEADLINE_TIMEOUTS = 10
#: Repeats for an answer that is whole but not what was asked for, such as an HTML page of a proxy.
CONTENT_REPEATS = 1

_STORAGE_HINT = "The storage refused the object; a new signed URL is asked for where that can help."

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Transport:
    """Sends requests to the API with the key and to the storage without; safe to use from many threads.

    The sessions are built once for each process and never changed: a forked child builds its own, since a
    connection shared with its parent would mix up their answers.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        timeout: tuple[float, float],
        retries: Retries = DEFAULT_RETRIES,
        pool_size: int = config.DEFAULT_MAX_WORKERS,
        session: requests.Session | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        user_agent: str | None = None,
    ) -> None:
        self.base_url = base_url
        parts = urlsplit(base_url)
        self._origin, self._base_path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._storage_may_be_local = config.is_loopback(parts.hostname or "")
        self.timeout = timeout
        self._key = api_key
        self._retries = retries
        self._pool_size = pool_size
        self._own_session = session
        self._settings: dict[str, Any] = {
            "proxies": dict(proxies or {}),
            "verify": arguments.checked_verify(verify),
            "cert": cert,
        }
        self._given_agent = user_agent
        self._user_agent = arguments.user_agent(user_agent)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": self._user_agent,
        }
        self._name = secrets.token_hex(8)
        self._closed = False
        self._level: Level | None = None
        if session is not None and not isinstance(session, requests.Session):
            raise ConfigurationError(f"session must be a requests.Session, not {type(session).__name__}.")
        hide_signatures_in_logs()
        self._build()

    def _build(self) -> None:
        budget = Budget()
        self._environments: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        self._lanes: dict[tuple[Any, ...], urllib3.HTTPConnectionPool | None] = {}
        self._shared = Shared(budget), Shared(budget)
        self._api_policy, self._storage_policy = map(self._policy, self._shared)
        # More than the workers: beside them run the signing and up to four pages of the listing.
        size = self._pool_size + 5
        self._api = self._own_session or PlainSession(self._api_policy, size, self._user_agent)
        self._storage = PlainSession(self._storage_policy, size, self._user_agent)
        # Last, so that no other thread of a forked child goes on with its parent's sessions.
        self._pid = os.getpid()

    def _policy(self, shared: Shared) -> urllib3.Retry:
        if isinstance(self._retries, urllib3.Retry):
            # The last answer is kept, so that it can be told what the server said.
            return self._retries.new(raise_on_status=False)
        return RetryPolicy.create(self._retries, shared)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A cfplatform client cannot be pickled: it holds the API key. Build one where it is used.")

    def settings(self) -> Settings:
        """Return what builds a transport like this one in another process.

        Raises:
            ConfigurationError: If something of it cannot leave this process.
        """
        from .settings import Settings

        if self._own_session is not None:
            raise ConfigurationError(
                "executor= needs a client without session=...: a session cannot be handed to other processes."
            )
        arguments = {
            "api_key": self._key,
            "base_url": self.base_url,
            "timeout": self.timeout,
            "retries": self._retries,
            "pool_size": self._pool_size,
            "user_agent": self._given_agent,
            **self._settings,
        }
        return Settings.of(self._name, arguments)

    def close(self) -> None:
        """Close all connections; a session that the caller gave stays open. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._lanes.clear()
            self._storage.close()
            if self._own_session is None:
                self._api.close()

    @property
    def overloads(self) -> int:
        """How often a server has answered until now that it has too much to do."""
        return sum(shared.overloads for shared in self._shared)

    def level_for(self, workers: int) -> Level:
        """Begin a run at the level of the one before; at a new one for other workers, or while that goes on."""
        level = self._level
        if level is None or level.most != workers or level.is_in_use:
            level = self._level = Level(workers)
        level.begin(self.overloads)
        return level

    def ensure_open(self) -> None:
        """Raise if it was closed; after a fork, build sessions of its own."""
        if self._closed:
            raise ConfigurationError("This client is closed. Build a new Client, or keep it open for longer.")
        if self._pid != os.getpid():
            if self._own_session is not None:
                # The child's copy of it: closing drops the connections shared with the parent, and new ones are made.
                self._own_session.close()
            self._build()

    # --- API -----------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
        repeatable: bool = False,
        stop: threading.Event | None = None,
    ) -> requests.Response:
        """Send one API request and return the answer with its body read."""
        return self._call(
            method,
            path,
            _with_body,
            params=params,
            json=json,
            headers=headers,
            timeout=timeout,
            check=check,
            repeatable=repeatable,
            stop=stop,
        )

    def get_json(
        self,
        path: str,
        params: Query | None = None,
        *,
        stop: threading.Event | None = None,
        within: float | None = None,
    ) -> Any:
        """GET and parse; an answer that breaks off or is not JSON is asked for again, ``within`` seconds if given."""
        return self._call("GET", path, self._parsed, params=params, stop=stop, within=within, direct=True)

    def post_json(self, path: str, body: Any, *, repeatable: bool = False, stop: threading.Event | None = None) -> Any:
        """POST and parse; repeated after a failure only where the caller says that this is harmless."""
        return self._call("POST", path, self._parsed, json=body, repeatable=repeatable, stop=stop, direct=True)

    def _parsed(self, response: AnyAnswer) -> Any:
        body = streams.whole_body(response, MAX_ANSWER_BYTES)
        try:
            return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
        except (ValueError, RecursionError):
            pass
        kind = printable(blank(response.headers.get("Content-Type", "no content type"), self._key)[:80])
        # Blanked before it is cut, since half a signature is not recognised as one.
        start = blank(body[:4096].decode("utf-8", "replace"), self._key)[:80]
        raise InvalidResponseError(
            f"The answer is not whole JSON ({kind}, {len(body)} bytes, begins with {start!r}). "
            "Check that the base URL is the CloudFactory AI Platform API.",
            status_code=response.status_code,
        )

    def _call(
        self,
        method: str,
        path: str,
        receive: Callable[[Any], T],
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
        repeatable: bool = False,
        stop: threading.Event | None = None,
        within: float | None = None,
        direct: bool = False,
    ) -> T:
        self.ensure_open()
        method = arguments.checked_method(method)
        path = arguments.checked_path(path)
        sent = {**self._headers, **arguments.checked_headers(headers)} if headers else self._headers
        outgoing: AnyRequest | None
        if direct and self._lane(self._api, self._origin) is not None:
            target = f"{self._base_path}{path}?{_encoded(tuple(params))}" if params else self._base_path + path
            # Only below the base URL, so the key may be added without a look at where the request goes.
            outgoing = Outgoing(method, self._origin, target, {**sent, "X-API-Key": self._key})
            if json is not None:
                outgoing = lanes.with_json(outgoing, json)
        else:
            auth = KeyAuth(self._key, self.base_url)
            request = requests.Request(method, self.base_url + path, params=params, json=json, headers=sent, auth=auth)
            outgoing = _prepare(self._api, request)
        if outgoing is None:
            raise InvalidParameterError("No request can be made of this. Check params and json, and the base URL.")
        policy = self._api_policy
        if repeatable:
            policy = policy.new(allowed_methods=RETRY_METHODS | {method})
        pair = config.timeout(timeout) if timeout is not None else self.timeout
        if within is not None:
            pair = (min(pair[0], within), min(pair[1], within))
        return self._exchange(self._api, outgoing, policy, pair, receive, check=check, within=within, stop=stop)

    # --- Storage -------------------------------------------------------------------------------------------

    def fetch(
        self,
        url: str,
        receive: Callable[[ObjectStream], T],
        *,
        headers: Mapping[str, str] | None = None,
        resumed: Resumed | None = None,
        plain: bool = False,
        stop: threading.Event | None = None,
    ) -> T:
        """GET a stored object through its signed URL and hand its body to ``receive``.

        Args:
            url: The signed URL, sent exactly as the platform made it.
            receive: Reads and checks the body. Called again, with a new stream, after a body that broke off or a
                check that failed, as often as the retry policy allows.
            headers: Further headers, such as ``If-None-Match``.
            resumed: Goes on where an attempt stopped: what it wants is asked for anew before each attempt, and an
                attempt that got on does not count as a failed one.
            plain: Whether ``http://`` will do, as for an asset that the customer stores and nobody signed.
            stop: Ends waits and reads early when it is set.
        """
        # Identity, so that lengths, ranges and checksums speak of the bytes that arrive.
        prepared = self._to_storage("GET", url, {"Accept-Encoding": "identity", **(headers or {})}, plain)

        def read(response: AnyAnswer) -> T:
            stream = ObjectStream(response, stop, ranged="Range" in prepared.headers)
            try:
                return receive(stream)
            except InvalidResponseError as error:
                failure = error
            raise failures.with_content(failure, stream, self._key)

        return self._exchange(
            self._storage, prepared, self._storage_policy, self.timeout, read, resumed=resumed, stop=stop
        )

    def upload(self, url: str, body: Body, content_type: str, *, stop: threading.Event | None = None) -> None:
        """PUT an object through its signed URL; repeated from its start after passing faults.

        Args:
            url: The signed URL, sent exactly as the platform made it.
            body: What to send; it is read again from its start by each attempt.
            content_type: The object's media type.
            stop: Ends waits and reads early when it is set.
        """
        prepared = self._to_storage("PUT", url, {"Content-Type": content_type})
        # Set afterwards too: preparing would measure the body by its own means.
        prepared.headers["Content-Length"] = str(body.size)
        prepared.body = cast("Any", body)
        policy = self._storage_policy.new(allowed_methods=RETRY_METHODS | {"PUT"})

        def receive(response: AnyAnswer) -> None:
            streams.ignore(response)
            if body.tell() != body.size:
                # The connection was closed under the sender, with an answer that says otherwise.
                raise APIConnectionError("The storage said yes before it had been sent the whole file.")

        self._exchange(self._storage, prepared, policy, self.timeout, receive, sent=body, stop=stop)

    def _to_storage(self, method: str, url: str, headers: Mapping[str, str], plain: bool = False) -> AnyRequest:
        self.ensure_open()
        prepared = None
        if self._is_storage_url(url, plain):
            parts = urlsplit(url)
            where = f"{parts.scheme}://{parts.netloc}"
            if self._lane(self._storage, where) is not None:
                target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
                return Outgoing(method, where, target, {"User-Agent": self._user_agent, **headers})
            prepared = _prepare(self._storage, requests.Request(method, f"{where}/", headers=dict(headers)))
        if prepared is None:
            raise InvalidResponseError(
                f"The platform sent {'an asset URL' if plain else 'a signed URL'} that is not an "
                f"{'http or ' if plain else ''}https address of a public host; it was not opened.",
                url=blank_url(url),
            )
        # Set afterwards, because preparing would rewrite escapes that the signature covers.
        prepared.url = url
        return prepared

    def _is_storage_url(self, url: str, plain: bool) -> bool:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return False
        # Parsers disagree about a backslash: what one takes for the host is a part of the path to another.
        if not host or parts.username is not None or "\\" in url or not url.isprintable():
            return False
        if parts.scheme == "http" and not plain:
            return self._storage_may_be_local and config.is_loopback(host)
        return parts.scheme in ("http", "https") and (self._storage_may_be_local or not config.is_private(host))

    # --- Both ----------------------------------------------------------------------------------------------

    def _exchange(
        self,
        session: requests.Session,
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
            response = self._send(session, prepared, policy, timeout, stop, deadline)
            try:
                if check:
                    self._check_status(session, prepared, response)
                value, failure = _attempt(receive, response)
            finally:
                response.close()
            if failure is None:
                if isinstance(policy, RetryPolicy) and policy.shared is not None:
                    policy.shared.budget.give()
                return cast(T, value)
            if isinstance(failure, InvalidResponseError):
                if content_repeats == 0:
                    raise self._named(failure, prepared)
                content_repeats -= 1
            if resumed is not None and resumed.position() >= reached + streams.CHUNK:
                # It got further than ever, so this was not a failed attempt but a part of the whole.
                reached = resumed.position()
                policy, deadline = _begin(mounted, allowed, stop)
            else:
                policy = self._following(session, prepared, policy, response, failure)

    def _send(
        self,
        session: requests.Session,
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
                response = self._send_directly(session, prepared, policy, timeout)
            else:
                prepared.retries = policy  # type: ignore[attr-defined]
                settings = self._environment(session, prepared.url or "")
                response = session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
        except failures.CAUGHT as error:
            problem = failures.describe(error)
        else:
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s %s: %d", prepared.method, blank_url(prepared.url or ""), response.status_code)
            return response
        # Raised outside of the except block, so that no object of requests, which holds the key, is its context.
        raise self._named(problem, prepared)

    def _send_directly(
        self, session: requests.Session, outgoing: Outgoing, policy: urllib3.Retry, timeout: tuple[float, float]
    ) -> Answer:
        try:
            return lanes.send(self._lane(session, outgoing.origin), outgoing, timeout, policy)
        except urllib3.exceptions.ClosedPoolError:
            # The adapter keeps the pools of a limited number of origins; this one was given up for another.
            self._lanes.clear()
        return lanes.send(self._lane(session, outgoing.origin), outgoing, timeout, policy)

    def _lane(self, session: requests.Session, where: str) -> urllib3.HTTPConnectionPool | None:
        """Return the pool for an origin, or ``None`` where requests must go through the session."""
        if session is self._own_session:
            return None
        key = (session is self._storage, where)
        try:
            return self._lanes[key]
        except KeyError:
            adapter = cast(PolicyAdapter, session.get_adapter(where))
            try:
                lane = adapter.lane(where, self._environment(session, where))
            except failures.CAUGHT:
                # What is wrong with it is told when it is sent.
                lane = None
            self._lanes[key] = lane
            return lane

    def _environment(self, session: requests.Session, url: str) -> Mapping[str, Any]:
        """Return proxies and TLS settings for an origin; looked up once, since that walks the whole environment."""
        key = (session is self._storage, *origin(url))
        settings = self._environments.get(key)
        if settings is None:
            given = self._settings
            settings = session.merge_environment_settings(
                url, dict(given["proxies"]), True, given["verify"], given["cert"]
            )
            own = session is self._own_session or given["proxies"]
            if not own and config.is_loopback(urlsplit(url).hostname or ""):
                # A proxy of the environment does not reach this machine, and would be told the key.
                settings["proxies"] = {}
            self._environments[key] = settings
        return settings

    def _following(
        self,
        session: requests.Session,
        prepared: AnyRequest,
        policy: urllib3.Retry,
        response: AnyAnswer,
        failure: CFPlatformError,
    ) -> urllib3.Retry:
        """Count the failed attempt, wait, and return the policy for the next; raise where there is none."""
        used = getattr(response.raw, "retries", None)
        if isinstance(used, urllib3.Retry) and session is not self._own_session:
            policy = used
        try:
            following = policy.increment(prepared.method, "", error=urllib3.exceptions.ProtocolError())
        except urllib3.exceptions.HTTPError:
            following = None
        if following is None:
            raise self._named(failure, prepared)
        following.sleep()
        return following

    def _check_status(self, session: requests.Session, prepared: AnyRequest, response: AnyAnswer) -> None:
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in prepared.headers):
            return
        if 300 <= status < 400:
            target = blank_url(response.headers.get("Location", "nowhere"))
            why = (
                "a signed URL is good for one address only."
                if session is self._storage
                else "the API key must not travel. Check the base URL."
            )
            raise self._named(
                InvalidResponseError(
                    f"The server answered with a redirect ({status}) to {target[:200]!r}, which is not followed: {why}",
                    status_code=status,
                ),
                prepared,
            )
        raise error_from_response(
            status,
            method=prepared.method or "",
            url=prepared.url or "",
            headers=dict(response.headers),
            body=streams.start_of_body(response),
            retry_after=retry_after(response.raw),
            secret=self._key,
            hint=_STORAGE_HINT if session is self._storage else None,
        )

    def _named(self, error: CFPlatformError, prepared: AnyRequest) -> CFPlatformError:
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


def _prepare(session: requests.Session, request: requests.Request) -> requests.PreparedRequest | None:
    """Return what is to be sent; ``None`` where no request can be made of it."""
    try:
        return session.prepare_request(request)
    except (*failures.CAUGHT, TypeError):
        return None


def _with_body(response: requests.Response) -> requests.Response:
    # What Response.content does, with a limit: that property would read a body of any size.
    response._content = streams.whole_body(response, MAX_ANSWER_BYTES)
    response._content_consumed = True  # type: ignore[attr-defined]
    return response


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


@functools.lru_cache(maxsize=64)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)
