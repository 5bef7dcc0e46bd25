"""Everything that goes over the wire: two sessions, retries, timeouts, and the turning of answers into errors.

Nothing outside this package imports requests or urllib3.
"""

from __future__ import annotations

import functools
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from .. import config
from ..exceptions import (
    APIConnectionError,
    ConfigurationError,
    InvalidParameterError,
    InvalidResponseError,
    blank_url,
)
from ..level import Level
from . import answers, arguments, failures, lanes, streams
from .arguments import Retries, checked_retries, path
from .attempts import Wire
from .bodies import Body, Resumed
from .failures import has_expired
from .lanes import AnyAnswer, AnyRequest, Outgoing
from .retry import DEFAULT_RETRIES, RETRY_METHODS, Budget, Interrupted, RetryPolicy, Shared
from .sessions import KeyAuth, PlainSession, hide_signatures_in_logs

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

_STORAGE_HINT = "The storage refused the object; a new signed URL is asked for where that can help."
_NO_REDIRECT = "the API key must not travel. Check the base URL."
_NO_REDIRECT_OF_STORAGE = "a signed URL is good for one address only."

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
        self._shared = Shared(budget), Shared(budget)
        to_api, to_storage = map(self._policy, self._shared)
        # More than the workers: beside them run the signing and up to four pages of the listing.
        size = self._pool_size + 5
        self._api = Wire(
            self._own_session or PlainSession(to_api, size, self._user_agent),
            to_api,
            self._settings,
            key=self._key,
            is_own=self._own_session is not None,
            why_no_redirect=_NO_REDIRECT,
        )
        self._storage = Wire(
            PlainSession(to_storage, size, self._user_agent),
            to_storage,
            self._settings,
            key=self._key,
            why_no_redirect=_NO_REDIRECT_OF_STORAGE,
            hint=_STORAGE_HINT,
        )
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
            self._storage.close()
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
            answers.with_body,
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
        return answers.parsed(response, self._key)

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
        if direct and self._api.lane(self._origin) is not None:
            target = f"{self._base_path}{path}?{_encoded(tuple(params))}" if params else self._base_path + path
            # Only below the base URL, so the key may be added without a look at where the request goes.
            outgoing = Outgoing(method, self._origin, target, {**sent, "X-API-Key": self._key})
            if json is not None:
                outgoing = lanes.with_json(outgoing, json)
        else:
            auth = KeyAuth(self._key, self.base_url)
            request = requests.Request(method, self.base_url + path, params=params, json=json, headers=sent, auth=auth)
            outgoing = self._api.prepare(request)
        if outgoing is None:
            raise InvalidParameterError("No request can be made of this. Check params and json, and the base URL.")
        policy = self._api.policy
        if repeatable:
            policy = policy.new(allowed_methods=RETRY_METHODS | {method})
        pair = config.timeout(timeout) if timeout is not None else self.timeout
        if within is not None:
            pair = (min(pair[0], within), min(pair[1], within))
        return self._api.exchange(outgoing, policy, pair, receive, check=check, within=within, stop=stop)

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

        wire = self._storage
        return wire.exchange(prepared, wire.policy, self.timeout, read, resumed=resumed, stop=stop)

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
        policy = self._storage.policy.new(allowed_methods=RETRY_METHODS | {"PUT"})

        def receive(response: AnyAnswer) -> None:
            streams.ignore(response)
            if body.tell() != body.size:
                # The connection was closed under the sender, with an answer that says otherwise.
                raise APIConnectionError("The storage said yes before it had been sent the whole file.")

        self._storage.exchange(prepared, policy, self.timeout, receive, sent=body, stop=stop)

    def _to_storage(self, method: str, url: str, headers: Mapping[str, str], plain: bool = False) -> AnyRequest:
        self.ensure_open()
        prepared = None
        if self._is_storage_url(url, plain):
            parts = urlsplit(url)
            where = f"{parts.scheme}://{parts.netloc}"
            if self._storage.lane(where) is not None:
                target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
                return Outgoing(method, where, target, {"User-Agent": self._user_agent, **headers})
            prepared = self._storage.prepare(requests.Request(method, f"{where}/", headers=dict(headers)))
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


@functools.lru_cache(maxsize=64)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)
