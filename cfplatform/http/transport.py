"""The calls: to the API with the key, to the storage and for public documents without any credential."""

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
    """The settings of a transport, with the API key; equal to their copies in other processes."""

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
    #: Given by the transport; its copies in other processes have it too.
    name: str = ""

    def __repr__(self) -> str:
        # Executors log what they could not run.
        return "Settings(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Transport:
    """Sends requests to the API with the key and to the storage without; safe to use from many threads.

    The sessions are built once for each process: a forked child builds its own, since a connection shared with its
    parent would mix up their responses.
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
                "retries cannot be obeyed: the session has an adapter with its own retries (max_retries). "
                "Leave out retries=, or mount an HTTPAdapter without max_retries.",
                parameter="retries",
            )
        # Now, and not with the first request, so that a proxy that cannot be used is reported at once.
        self._api.settings(self.base_url)

    def _build(self) -> None:
        # The last response is kept, so that an error can repeat the server's message.
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
        # Identity, so that lengths, ranges and checksums apply to the bytes that arrive.
        headers = {"Accept-Encoding": "identity", "User-Agent": self._user_agent}
        self._storage = Channel(
            PlainSession(Adapter(policy, is_public=not self._storage_may_be_private), headers),
            self._connection,
            policy,
            self.timeout,
            key=self._key,
        )
        #: Of a request that is safe to send twice.
        self._repeating = policy.new(allowed_methods=RETRY_METHODS | {"POST", "PUT"})
        # Last, so that no other thread of a forked child uses its parent's sessions.
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A cfplatform client cannot be pickled: it holds the API key. Build one where it is used.")

    def settings(self) -> Settings:
        """Return the settings, for a transport like this one in another process."""
        if self._own_session is not None:
            raise ConfigurationError(
                "executor= needs a client without session=...: a session cannot be handed to other processes.",
                parameter="executor",
            )
        return self._settings

    @property
    def session(self) -> requests.Session:
        """The session that sends the API's requests: the caller's own, else one of this process."""
        self.ensure_open()
        return self._api.session

    def close(self) -> None:
        """Close all connections; a session that the caller gave stays open. Calling it again does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._storage.close()
            self._api.close()

    def ensure_open(self) -> None:
        """Raise if it was closed; after a fork, build new sessions."""
        if self._is_closed:
            raise ConfigurationError("This client is closed. Build a new Client, or keep it open for longer.")
        if self._pid != os.getpid():
            if self._own_session is not None:
                # The child's copy of it: closing drops the connections shared with the parent, and new ones are made.
                self._own_session.close()
            self._build()

    def trouble(self) -> tuple[str, float] | None:
        """Return the reason and the seconds until the next attempt, where nothing has succeeded lately."""
        under_way = self._under_way()
        troubles = [found for each in under_way if (found := each.trouble()) is not None]
        if troubles:
            return troubles[0]
        # All that are under way wait before their next attempt.
        repeats = [found for each in under_way if (found := each.repeats()) is not None]
        return min(repeats, key=lambda each: each[1]) if repeats and len(repeats) == len(under_way) else None

    def unanswered(self) -> tuple[str, float] | None:
        """Return an origin and for how many seconds no call under way has had a response, if there are any."""
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
        """Send one API request and return the response, with its body read unless ``stream`` leaves it open."""
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
        """GET and parse.

        Args:
            within: Seconds that all of it may take, if not as usual.
            is_essential: Whether the run cannot continue without it.
            repeats: ``False`` sends it once.
        """
        connect, read = self.timeout
        timeout = self.timeout if within is None else (min(connect, within), min(read, within))
        policy = None if repeats else self._api.policy.new(total=0)
        call = self._call(
            "GET", path, params, run=run, seconds=within, timeout=timeout, policy=policy, is_essential=is_essential
        )
        return call.perform(self._parse)

    def post_json(self, path: str, content: Any, *, is_repeatable: bool = False, run: Run = SINGLE) -> Any:
        """POST and parse; repeated after a failure only if the caller declares it idempotent."""
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
        """GET a stored object through its signed URL and hand its body to ``receive``.

        Args:
            url: The signed URL, sent exactly as the platform made it.
            receive: Reads and checks the body. Called again, with a new stream, after a body that broke off or a
                check that failed, as often as the retry policy allows.
            resumed: Continues where an attempt stopped; see :class:`~.call.Call`.
            renew: Returns a new URL for one that was refused, or ``None`` where that cannot help.
            plain: Whether ``http://`` is allowed, as for an unsigned asset that the customer stores.
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
        """Send a request to the storage; return status, headers and up to ``limit`` bytes, whatever they are."""
        self.ensure_open()
        self._check_url(url)
        call = Call(self._storage, method, url, headers, is_checked=False)
        return call.perform(lambda found: (found.status_code, found.headers, body.start_of_body(found, limit)))

    def upload(self, url: str, content: Body, content_type: str, *, run: Run = SINGLE) -> None:
        """PUT an object through its signed URL; repeated from its start after transient errors."""
        self.ensure_open()
        self._check_url(url)

        def receive(response: requests.Response) -> None:
            body.drain(response.raw)
            if content.tell() != content.size:
                # The connection was closed during sending, although the response reports success.
                raise APIConnectionError("The storage responded before the upload finished.")

        headers = {"Content-Type": content_type}
        Call(self._storage, "PUT", url, headers, content, policy=self._repeating, run=run).perform(receive)


def _route(target: str) -> str:
    """Return the kind of request: the last part of its path that is no ID."""
    return next((part for part in reversed(target.partition("?")[0].split("/")) if part.isalpha()), "")


def get_public(url: str, *, limit: int, seconds: float) -> tuple[bytes, str]:
    """GET a public document; return it and its ``Cache-Control`` (``""`` if there is none).

    It runs in a separate thread, because name lookup, proxy and TLS each have a limit, but no common one. That thread
    ends by itself after ``seconds``.

    Args:
        url: Accepted by :func:`~.arguments.public_url`.
        limit: Maximum size in bytes.
        seconds: For everything together, name lookup included.
    """
    arguments.public_url(url)
    call = Background(lambda stop: _get_public(url, limit, seconds, stop), "public")
    problem: TransportError
    try:
        return call.result(seconds)
    except TimeoutError:
        # Ours or that of the thread: both are timeouts.
        problem = APITimeoutError(f"GET {blank_url(url)}: no complete response within {seconds:g} s.")
    except TransportError as error:
        problem = error
    finally:
        call.cancel()
    raise problem.with_traceback(None)


def _get_public(url: str, limit: int, seconds: float, stop: threading.Event) -> tuple[bytes, str]:
    def receive(response: requests.Response) -> tuple[bytes, str]:
        if response.status_code != 200:
            raise InvalidResponseError(f"the response has status {response.status_code} where 200 was expected.")
        return body.read_body(response, limit), response.headers.get("Cache-Control", "")

    once = urllib3.Retry(0)
    agent = f"cfplatform/{__version__}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent}
    with PlainSession(Adapter(once), headers) as session:
        connection: dict[str, Any] = {"proxies": {}, "verify": None, "cert": None}
        channel = Channel(session, connection, once, (seconds, seconds))
        # Now, so that a proxy that cannot be used has its own error.
        channel.settings(url)
        return Call(channel, "GET", url, seconds=seconds, run=Run(stop=stop), is_checked=False).perform(receive)
