"""Requests to the API with the key, and to the storage and public documents without credentials."""

from __future__ import annotations

import functools
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from .. import config
from .._version import __version__
from ..exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConfigurationError,
    InvalidResponseError,
    TransportError,
    blank_url,
)
from ..params import pairs
from . import arguments, body
from .arguments import Retries
from .background import Background
from .body import Body, ObjectStream
from .call import Call, Resumed, no_other_url
from .retry import DEFAULT_RETRIES, RETRY_METHODS, SINGLE, Attempts, RetryPolicy, Run
from .session import Adapter, Channel, PlainSession, hide_signatures_in_logs, kept_headers

if TYPE_CHECKING:
    from ..params import Query

T = TypeVar("T")


class Settings(NamedTuple):
    """The settings of a transport, with the API key. Copies in other processes are equal."""

    api_key: config.Secret
    base_url: str
    timeout: tuple[float, float]
    retries: Retries | None = None
    headers: Mapping[str, str] | None = None
    proxies: Mapping[str, str] | None = None
    verify: bool | str | None = None
    cert: str | tuple[str, str] | None = None
    user_agent: str | None = None
    allow_private_storage: bool = False
    #: Random name from the transport, by which copies are compared.
    name: str = ""

    def __repr__(self) -> str:
        # Executors log the arguments of failed calls.
        return "Settings(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Transport:
    """Sends requests to the API with the key, and to the storage without it. It is thread-safe.

    Sessions are built once per process: a forked child builds its own, because shared connections would mix up
    responses.
    """

    def __init__(self, settings: Settings, session: requests.Session | None = None) -> None:
        self.base_url = settings.base_url
        self.timeout = settings.timeout
        self._key = settings.api_key
        self._settings = settings._replace(name=secrets.token_hex(8))
        self._own_session = session
        self._user_agent = arguments.user_agent(settings.user_agent)
        self._given_headers = arguments.client_headers(settings.headers, self._key)
        if settings.user_agent is not None:
            self._given_headers = {"User-Agent": self._user_agent, **self._given_headers}
        self._connection = {
            "proxies": dict(settings.proxies or {}),
            "verify": arguments.checked_verify(settings.verify),
            "cert": settings.cert,
        }
        is_private = config.is_private(urlsplit(self.base_url).hostname or "")
        self._storage_may_be_private = settings.allow_private_storage or is_private
        self._check_url = functools.partial(arguments.check_storage_url, may_be_private=self._storage_may_be_private)
        self._is_closed = False
        self._parse = functools.partial(body.parsed, key=self._key)
        if session is not None and not isinstance(session, requests.Session):
            raise ConfigurationError(
                f"session must be a requests.Session, not {type(session).__name__}.", parameter="session"
            )
        hide_signatures_in_logs()
        self._build()
        if settings.retries is not None and self._api.makes_retries:
            raise ConfigurationError(
                "retries cannot be used: the session has an adapter with its own retries (max_retries). "
                "Omit retries=, or mount an HTTPAdapter without max_retries.",
                parameter="retries",
            )
        # Not with the first request: a proxy that cannot be used is reported at once.
        self._api.settings(self.base_url)

    def _build(self) -> None:
        # Keeps the last response: errors quote its message.
        given = DEFAULT_RETRIES if self._settings.retries is None else self._settings.retries
        policy = given.new(raise_on_status=False) if isinstance(given, urllib3.Retry) else RetryPolicy.create(given)
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": self._user_agent}
        own = self._own_session
        if own is not None:
            headers = kept_headers(own, headers)
        headers.update(self._given_headers)
        self._api = Channel(
            own or PlainSession(Adapter(policy), headers),
            self._connection,
            policy,
            self.timeout,
            headers=headers if own is not None else {},
            key=self._key,
            base_url=self.base_url,
            is_own=own is not None,
        )
        # Identity: lengths, ranges and checksums apply to the bytes as sent.
        headers = {"Accept-Encoding": "identity", "User-Agent": self._user_agent}
        self._storage = Channel(
            PlainSession(Adapter(policy, is_public=not self._storage_may_be_private), headers),
            self._connection,
            policy,
            self.timeout,
            key=self._key,
        )
        #: For requests that are safe to send twice.
        self._repeating = policy.new(allowed_methods=RETRY_METHODS | {"POST", "PUT"})
        # Last: until then, other threads of a forked child must not use these sessions.
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A Client cannot be pickled: it holds the API key. Create one in each process.")

    def settings(self) -> Settings:
        """Return the settings for an equal transport in another process."""
        if self._own_session is not None:
            raise ConfigurationError(
                "executor cannot be used with session=...: a session cannot be sent to other processes.",
                parameter="executor",
            )
        return self._settings

    @property
    def session(self) -> requests.Session:
        """The session for API requests: the caller's or the one of this process."""
        self.ensure_open()
        return self._api.session

    def close(self) -> None:
        """Close all connections, except those of the caller's session. Closing twice is allowed."""
        if not self._is_closed:
            self._is_closed = True
            self._storage.close()
            self._api.close()

    def ensure_open(self) -> None:
        """Raise if the transport is closed; after a fork, build new sessions."""
        if self._is_closed:
            raise ConfigurationError("The client is closed. Create a new Client, or close it later.")
        if self._pid != os.getpid():
            if self._own_session is not None:
                # In the child, closing drops the connections shared with the parent.
                self._own_session.close()
            self._build()

    def trouble(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, or ``None`` if requests succeed."""
        under_way = self._under_way()
        troubles = [found for each in under_way if (found := each.trouble()) is not None]
        if troubles:
            return troubles[0]
        # All running calls wait for their next attempt.
        repeats = [found for each in under_way if (found := each.repeats()) is not None]
        return min(repeats, key=lambda each: each[1]) if repeats and len(repeats) == len(under_way) else None

    def unanswered(self) -> tuple[str, float] | None:
        """Return an origin and the seconds since any running call had a response, or ``None`` if no call is running."""
        under_way = self._under_way()
        return (under_way[0].origin.name, min(each.unanswered() for each in under_way)) if under_way else None

    def _under_way(self) -> list[Attempts]:
        return [*self._api.under_way.values(), *self._storage.under_way.values()]

    # --- API -----------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        data: Any = None,
        files: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
        stream: bool = False,
    ) -> requests.Response:
        """Send one API request and return the response; the body is read unless ``stream`` is set."""
        content, kind = arguments.body(json, data, files)
        call = self._call(
            arguments.checked_method(method),
            path,
            pairs(params),
            content,
            kind,
            arguments.checked_headers(headers),
            timeout=None if timeout is None else config.timeout(timeout),
            is_checked=check,
            is_left_open=stream,
        )
        return call.perform((lambda response: response) if stream else body.with_body)

    def get_json(
        self,
        path: str,
        params: Query | None = None,
        *,
        run: Run = SINGLE,
        within: float | None = None,
        is_essential: bool = False,
        repeats: bool = True,
    ) -> Any:
        """Send a GET request and parse the JSON response.

        Args:
            within: Maximum seconds, including retries. Defaults to the limit of the client.
            is_essential: Whether the run cannot continue without it.
            repeats: ``False`` disables retries.
        """
        connect, read = self.timeout
        timeout = self.timeout if within is None else (min(connect, within), min(read, within))
        policy = None if repeats else self._api.policy.new(total=0)
        call = self._call(
            "GET", path, params, run=run, seconds=within, timeout=timeout, policy=policy, is_essential=is_essential
        )
        return call.perform(self._parse)

    def post_json(self, path: str, content: Any, *, is_repeatable: bool = False, run: Run = SINGLE) -> Any:
        """Send a POST request and parse the JSON response; retried only if the caller declares it idempotent."""
        options: dict[str, Any] = {"policy": self._repeating} if is_repeatable else {"route": f"POST {_route(path)}"}
        sent, kind = arguments.body(content)
        call = self._call("POST", path, None, sent, kind, run=run, is_essential=True, **options)
        return call.perform(self._parse)

    def _call(
        self,
        method: str,
        path: str,
        params: Query | None = None,
        content: bytes | Body | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Call:
        self.ensure_open()
        target = arguments.target(path, params or [])
        if content_type is not None:
            headers = {"Content-Type": content_type, **(headers or {})}
        options.setdefault("route", _route(target))
        return Call(self._api, method, self.base_url + target, headers, content, **options)

    # --- Storage -------------------------------------------------------------------------------------------

    def fetch(
        self,
        url: str,
        receive: Callable[[ObjectStream], T],
        *,
        headers: Mapping[str, str] | None = None,
        resumed: Resumed | None = None,
        renew: Callable[[APIError], str | None] = no_other_url,
        plain: bool = False,
        run: Run = SINGLE,
        is_essential: bool = False,
    ) -> T:
        """Fetch a stored object through its signed URL, and pass its body to ``receive``.

        Args:
            url: The signed URL, sent exactly as the platform returned it.
            receive: Reads and checks the body. Called again with a new stream after a truncated body or a failed check,
                as often as the retry policy allows.
            resumed: Continues where the last attempt stopped; see :class:`~.call.Call`.
            renew: Returns a new URL after a refusal, or ``None`` if that cannot help.
            plain: Whether ``http://`` is allowed, as for an unsigned asset on a customer's server.
            is_essential: Whether the run cannot continue without it.
        """
        self.ensure_open()
        self._check_url(url, plain)

        def read(response: requests.Response) -> T:
            stream = ObjectStream(response, run.stop, ranged="Range" in response.request.headers)
            try:
                return receive(stream)
            except InvalidResponseError as error:
                failure = error
            raise stream.shown_in(failure, self._key)

        def renewed(failure: APIError) -> str | None:
            if (new := renew(failure)) is not None:
                self._check_url(new, plain)
            return new

        call = Call(
            self._storage, "GET", url, headers, run=run, is_essential=is_essential, resumed=resumed, renew=renewed
        )
        return call.perform(read)

    def look(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, limit: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request to the storage; return status, headers and up to ``limit`` bytes, even for an error status."""
        self.ensure_open()
        self._check_url(url)
        call = Call(self._storage, method, url, headers, is_checked=False)
        return call.perform(lambda found: (found.status_code, found.headers, body.start_of_body(found, limit)))

    def upload(self, url: str, content: Body, content_type: str, *, run: Run = SINGLE) -> None:
        """Upload an object through its signed URL; sent again from the start after transient errors."""
        self.ensure_open()
        self._check_url(url)

        def receive(response: requests.Response) -> None:
            body.drain(response.raw)
            if content.tell() != content.size:
                # The response reports success, but the connection was closed during the upload.
                raise APIConnectionError("The storage responded before the upload finished.")

        headers = {"Content-Type": content_type}
        Call(self._storage, "PUT", url, headers, content, policy=self._repeating, run=run).perform(receive)


def _route(target: str) -> str:
    """Return the kind of request: the last part of its path that is not an ID."""
    return next((part for part in reversed(target.partition("?")[0].split("/")) if part.isalpha()), "")


def get_public(url: str, *, limit: int, seconds: float) -> tuple[bytes, str]:
    """Fetch a public document; return it and its ``Cache-Control`` (``""`` if there is none).

    It runs in a separate thread, because name lookup, proxy and TLS have separate limits but no common one. The thread
    ends after ``seconds``.

    Args:
        url: A URL accepted by :func:`~.arguments.public_url`.
        limit: Maximum size in bytes.
        seconds: Maximum seconds in total, including the name lookup.
    """
    arguments.public_url(url)
    call = Background(lambda stop: _get_public(url, limit, seconds, stop), "public")
    problem: TransportError
    try:
        return call.result(seconds)
    except TimeoutError:
        # From this wait or from the thread.
        problem = APITimeoutError(f"GET {blank_url(url)}: no complete response within {seconds:g} s.")
    except TransportError as error:
        problem = error
    finally:
        call.cancel()
    raise problem.with_traceback(None)


def _get_public(url: str, limit: int, seconds: float, stop: threading.Event) -> tuple[bytes, str]:
    def receive(response: requests.Response) -> tuple[bytes, str]:
        if response.status_code != 200:
            raise InvalidResponseError(f"the response has status {response.status_code} instead of 200.")
        return body.read_body(response, limit), response.headers.get("Cache-Control", "")

    once = urllib3.Retry(0)
    agent = f"cfplatform/{__version__}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent}
    with PlainSession(Adapter(once), headers) as session:
        connection: dict[str, Any] = {"proxies": {}, "verify": None, "cert": None}
        channel = Channel(session, connection, once, (seconds, seconds))
        # First: a proxy that cannot be used has its own error.
        channel.settings(url)
        return Call(channel, "GET", url, seconds=seconds, run=Run(stop=stop), is_checked=False).perform(receive)
