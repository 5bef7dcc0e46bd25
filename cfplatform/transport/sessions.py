"""The two sessions: API requests carry the key to one origin only, storage requests carry no credential at all."""

from __future__ import annotations

import http.cookiejar
import logging
import threading
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from ..exceptions import blank
from . import connections

#: Loggers of urllib3 that print whole URLs. A filter works only on the very logger that a record is made by.
_TALKATIVE = tuple(
    f"urllib3.{name}" for name in ("connectionpool", "connection", "util.retry", "response", "poolmanager")
)


class KeyAuth(AuthBase):
    """Adds the key to requests for one origin, and to no other."""

    def __init__(self, key: str, base_url: str) -> None:
        self._key = key
        self._origin = origin(base_url)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(request.url or "") == self._origin:
            request.headers["X-API-Key"] = self._key
        return request


class NoAuth(AuthBase):
    """Adds nothing. Its presence keeps requests from looking for credentials in ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


class PolicyAdapter(HTTPAdapter):
    """An adapter whose policy can be replaced for a single request by its attribute ``retries``.

    That lets a repeated download go on counting where the attempt before stopped, instead of starting anew.
    """

    def __init__(self, policy: urllib3.Retry, pool_size: int) -> None:
        self._current = threading.local()
        # Sixteen origins: the API, the hosts of the storage, and those where customers keep assets.
        super().__init__(pool_connections=16, pool_maxsize=pool_size, max_retries=policy)

    @property
    def max_retries(self) -> urllib3.Retry:
        """The policy of the request that this thread is sending, else the mounted one."""
        return getattr(self._current, "policy", None) or self._policy

    @max_retries.setter
    def max_retries(self, policy: urllib3.Retry) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._policy = policy

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Build the pools, with connections whose every phase ends."""
        super().init_poolmanager(*args, **kwargs)
        connections.bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Build the pools of a proxy, with connections whose every phase ends."""
        manager = super().proxy_manager_for(*args, **kwargs)
        connections.bound(manager)
        return manager

    def lane(self, url: str, settings: Mapping[str, Any]) -> urllib3.HTTPConnectionPool | None:
        """Return the pool that requests to the origin of a URL go through; ``None`` where a proxy stands between."""
        if requests.utils.select_proxy(url, settings["proxies"]):
            return None
        request = requests.Request("GET", url).prepare()
        pool = self.get_connection_with_tls_context(request, settings["verify"], cert=settings["cert"])
        self.cert_verify(pool, url, settings["verify"], settings["cert"])  # type: ignore[no-untyped-call]
        return cast("urllib3.HTTPConnectionPool", pool)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request under its own policy, if it has one."""
        self._current.policy = getattr(request, "retries", None)
        try:
            return super().send(request, *args, **kwargs)
        finally:
            self._current.policy = None


class PlainSession(requests.Session):
    """A session that follows no redirect, keeps no cookie and is never changed once it is built."""

    def __init__(self, policy: urllib3.Retry, pool_size: int, user_agent: str) -> None:
        super().__init__()
        self.auth = NoAuth()
        self.headers.update({"User-Agent": user_agent})
        # A jar shared by all threads only grows; the API needs no cookie.
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        adapter = PolicyAdapter(policy, pool_size)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Never follow: a redirect would take the key along, and its body would be read without a limit."""
        return


class _Blanking(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        record.msg, record.args = blank(text), None
        return True


def hide_signatures_in_logs() -> None:
    """Blank query strings in what urllib3 logs; it prints whole signed URLs, even at level WARNING."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Blanking) for known in logger.filters):
            logger.addFilter(_Blanking())
