"""Send prepared requests through ``Session.send`` and an adapter mounted on the session.

Mocks, tracers, caches and auth that hook into requests see every call. Headers, proxies, TLS settings and the
connection pool are looked up once per origin.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.cookiejar
import importlib.util
import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict

from .. import config
from ..exceptions import ConfigurationError, InvalidParameterError, blank, blank_url
from . import errors, timeouts
from .breaker import Origin
from .retry import Attempts

if TYPE_CHECKING:
    from urllib3.util.retry import Retry

#: Loggers of urllib3 that log full URLs. A filter applies only to the logger that creates a record.
_URL_LOGGERS = tuple(
    f"urllib3.{name}" for name in ("connectionpool", "connection", "util.retry", "response", "poolmanager")
)
#: Maximum number of origins with open connections: the API, the storage, and hosts of customers' assets.
MAX_ORIGINS = 64
#: Maximum number of open connections to an origin: one for each worker, and some for listings and prefetched pages.
POOL_SIZE = config.MAX_WORKERS_LIMIT + 5

_log = logging.getLogger("cfplatform.http")
#: The policy of the request that a thread is sending, for the adapter; set only during our own requests.
_sending = threading.local()


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Do nothing. Any auth keeps requests from reading credentials in ``.netrc``."""
    return request


class _NoCookies(RequestsCookieJar):
    """Keeps no cookies: the API needs none, and a jar shared by all threads would grow."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Do nothing."""


class _Response(requests.Response):
    """A ``Response`` that is created in half the time; all share one empty cookie jar."""

    def __init__(self) -> None:
        self._content = False  # type: ignore[assignment]
        self._content_consumed = False
        self._next = None
        self.history = []
        self.cookies = _NO_COOKIES
        self.elapsed = _NO_TIME


_NO_COOKIES = _NoCookies(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
_NO_TIME = datetime.timedelta(0)


class Adapter(HTTPAdapter):
    """An adapter that applies the policy of each request, and looks up the pool of an origin once.

    Every phase of its connections has a limit, including connections to a proxy; see :mod:`.timeouts`.
    """

    def __init__(self, policy: Retry, *, is_public: bool = False) -> None:
        self._is_public = is_public
        self._pools: dict[tuple[Any, ...], Any] = {}
        super().__init__(pool_connections=MAX_ORIGINS, pool_maxsize=POOL_SIZE, max_retries=policy)

    @property
    def max_retries(self) -> Retry:
        """The policy of the request that this thread is sending, else the mounted one."""
        return getattr(_sending, "policy", None) or self._policy

    @max_retries.setter
    def max_retries(self, policy: Retry) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._policy = policy

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        timeouts.bound(self.poolmanager, is_public=self._is_public)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            timeouts.bound(manager)
        return manager

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        key = (origin(request.url or ""), verify, cert, id(proxies) if proxies else None)
        pool = self._pools.get(key)
        # The manager keeps a limited number of pools, and closes the others.
        if pool is None or pool.pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
            if len(self._pools) >= MAX_ORIGINS:
                self._pools.clear()
            self._pools[key] = pool
        return pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: done when the pool was looked up."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        if proxies:
            return super().request_url(request, proxies)
        target = (request.url or "").split("/", 3)[3:]
        return f"/{target[0].partition('#')[0]}" if target else request.path_url

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return a response; without ``Set-Cookie``, all share one empty cookie jar."""
        if "Set-Cookie" in resp.headers or not isinstance(resp, urllib3.BaseHTTPResponse):
            return super().build_response(req, resp)
        response = _Response()
        response.status_code = resp.status
        # Case-insensitive too, and needs no copy.
        response.headers = cast(Any, resp.headers)
        is_json = resp.headers.get("Content-Type") == "application/json"
        response.encoding = "utf-8" if is_json else requests.utils.get_encoding_from_headers(response.headers)
        response.raw = resp
        response.reason = resp.reason or ""
        response.url = req.url or ""
        response.request = req
        response.connection = self
        return response

    def close(self) -> None:
        """Close all connections now; clearing a manager leaves them open while anything refers to a pool."""
        self._pools.clear()
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in list(manager.pools.keys()):
                with contextlib.suppress(KeyError):
                    manager.pools[key].close()
        super().close()


class PlainSession(requests.Session):
    """A session that follows no redirects, keeps no cookies and does not read ``.netrc``."""

    def __init__(self, adapter: Adapter, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.auth = _no_auth
        self.headers = CaseInsensitiveDict(headers)
        self.cookies = _NoCookies(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Any:
        """Follow no redirects: the key would be sent along, and the body read without a limit."""
        return iter(())


class Channel:
    """A session and the state shared by its requests. It is thread-safe.

    Args:
        session: Sends all requests.
        connection: The caller's ``proxies``, ``verify`` and ``cert``.
        policy: Default retry policy.
        timeout: Default seconds to connect and to read.
        headers: Headers in addition to the session's.
        key: The API key: sent to the origin of ``base_url``, and removed from server messages.
        base_url: The URL that the key is sent to; ``None`` to never send it.
        is_own: Whether the session is the caller's own, which is never closed.
    """

    def __init__(
        self,
        session: requests.Session,
        connection: Mapping[str, Any],
        policy: Retry,
        timeout: tuple[float, float],
        *,
        headers: Mapping[str, str] | None = None,
        key: str = "",
        base_url: str | None = None,
        is_own: bool = False,
    ) -> None:
        self.session = session
        self.key = key
        self.is_own = is_own
        self.is_storage = base_url is None
        self.policy = policy
        self.timeout = timeout
        self._connection = connection
        self._headers = headers or {}
        self._base_url = base_url
        self._key_origin = origin(base_url) if base_url is not None else None
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._origins: dict[str, Origin] = {}
        #: The attempts of running calls.
        self.under_way: dict[int, Attempts] = {}

    def close(self) -> None:
        """Close all connections, but not the caller's own."""
        if not self.is_own:
            self.session.close()

    def origin(self, url: str) -> Origin:
        """Return the state of the origin of a URL."""
        name = origin(url)
        return self._origins.get(name) or self._origins.setdefault(name, Origin(name))

    def prepare(self, method: str, url: str, headers: Mapping[str, str] | None, body: Any) -> requests.PreparedRequest:
        """Return a prepared request."""
        session = self.session
        is_plain = isinstance(session, PlainSession) and session.auth is _no_auth
        if is_plain and not session.params and not len(session.cookies):
            # Nothing is set that needs prepare_request.
            prepared = requests.PreparedRequest()
            prepared.method, prepared.url, prepared.body = method, url, body
            prepared.headers = CaseInsensitiveDict(cast("dict[str, str]", {**session.headers, **(headers or {})}))
            prepared.hooks = {event: list(hooks) for event, hooks in session.hooks.items()}
            prepared._cookies = session.cookies  # type: ignore[attr-defined]
        else:
            prepared = self._prepared_by_session(method, url, headers, body)
        if isinstance(body, bytes):
            prepared.headers["Content-Length"] = str(len(body))
        elif body is not None:
            # Set afterwards, because preparing would measure the size itself.
            prepared.headers["Content-Length"] = str(body.size)
            prepared.body = body
        if self._key_origin is not None and origin(prepared.url or "") == self._key_origin:
            prepared.headers["X-API-Key"] = self.key
        return prepared

    def _prepared_by_session(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: Any
    ) -> requests.PreparedRequest:
        # Without an auth, requests would read .netrc.
        auth = None if self.session.auth is not None else _no_auth
        data = body if isinstance(body, bytes) else None
        request = requests.Request(method, url, headers={**self._headers, **(headers or {})}, data=data, auth=auth)
        try:
            prepared = self.session.prepare_request(request)
        except (*errors.CAUGHT, TypeError):
            raise InvalidParameterError(
                f"Could not prepare {method} {blank_url(url)}. Check params and the base URL."
            ) from None
        if self.is_storage:
            # As signed: preparing rewrites escapes that the signature covers.
            prepared.url = url
        return prepared

    def send(
        self, prepared: requests.PreparedRequest, policy: Retry, timeout: tuple[float, float]
    ) -> requests.Response:
        """Send a request, and return the response when its headers have arrived."""
        settings = self._settings.get(origin(prepared.url or "")) or self.settings(prepared.url or "")
        _sending.policy = policy
        try:
            response = self.session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
        finally:
            _sending.policy = None
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %s: %d", prepared.method, blank_url(prepared.url or ""), response.status_code)
        return response

    def settings(self, url: str) -> Mapping[str, Any]:
        """Return proxies and TLS settings for an origin, cached for the client's session because the lookup is slow.

        Raises:
            ConfigurationError: For a proxy with an unknown scheme, or a SOCKS proxy without PySocks.
        """
        given = self._connection
        settings = self.session.merge_environment_settings(
            url, dict(given["proxies"]), True, given["verify"], given["cert"]
        )
        if not self.is_own and not given["proxies"] and config.is_loopback(urlsplit(url).hostname or ""):
            # A proxy from the environment cannot reach this machine, and would see the key.
            settings["proxies"] = {}
        proxy = requests.utils.select_proxy(url, settings["proxies"]) or ""
        scheme, has_scheme, _ = proxy.lower().partition("://")
        if has_scheme and scheme not in config.PROXY_SCHEMES and not self.is_own:
            raise ConfigurationError(
                f"The URL of the proxy has an unknown scheme. Valid schemes: {', '.join(config.PROXY_SCHEMES)}. "
                "Check proxies=, ALL_PROXY, HTTPS_PROXY and HTTP_PROXY."
            )
        if proxy.lower().startswith("socks") and importlib.util.find_spec("socks") is None:
            raise ConfigurationError(errors.NO_SOCKS)
        if not self.is_own:
            self._settings[origin(url)] = settings
        return cast(Mapping[str, Any], settings)

    @property
    def makes_retries(self) -> bool:
        """Whether an adapter of the caller retries requests."""
        adapter = self.session.get_adapter(self._base_url or "https://")
        policy: Any = getattr(adapter, "max_retries", None)
        is_theirs = isinstance(policy, urllib3.Retry) and not isinstance(adapter, Adapter)
        return is_theirs and any((policy.total, policy.connect, policy.read, policy.status))


@functools.lru_cache(256)
def origin(url: str) -> str:
    """Return scheme, host and port of a URL, such as ``https://host``."""
    return "/".join(url.split("/", 3)[:3]).partition("?")[0].lower()


def kept_headers(session: requests.Session, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a caller's session does not set itself."""
    usual = requests.utils.default_headers()
    return {name: value for name, value in headers.items() if session.headers.get(name) in (None, usual.get(name))}


def _redact(record: logging.LogRecord) -> bool:
    # Only for our own requests; other records of the program stay unchanged.
    if getattr(_sending, "policy", None) is not None:
        record.msg, record.args = blank(record.getMessage()), None
    return True


def hide_signatures_in_logs() -> None:
    """Remove query strings from urllib3's log records of our requests; it logs signed URLs even at level WARNING."""
    for name in _URL_LOGGERS:
        # Adding it twice has no effect.
        logging.getLogger(name).addFilter(_redact)
