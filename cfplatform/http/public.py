"""Fetch a public document: without any credential, once, bounded in size and in time."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from .. import config
from .._version import __version__
from ..exceptions import APITimeoutError, ConfigurationError, InvalidResponseError, TransportError, blank_url
from .background import Background
from .body import read_body
from .call import Call
from .retry import Run
from .session import Adapter, Channel, PlainSession


def checked_url(url: object) -> str:
    """Return a URL that :func:`get` would fetch: https (or http to this machine), and nothing but host and path."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError("The URL must be a text of printable ASCII without blanks and backslashes.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("The URL must name a host, and have no user name, query or fragment.")
    if parts.scheme != "https" and not (parts.scheme == "http" and config.is_loopback(host)):
        raise ConfigurationError("The URL must begin with https://; http is for servers on this machine only.")
    return url


def get(url: str, *, limit: int, seconds: float) -> tuple[bytes, str]:
    """GET a public document; return it and its ``Cache-Control`` (``""`` if there is none).

    It runs in a thread of its own, because name lookup, proxy and TLS each have a limit, but no common one. That thread
    ends by itself after the time is up.

    Args:
        url: Accepted by :func:`checked_url`.
        limit: Maximum size in bytes.
        seconds: For everything together, name lookup included.
    """
    checked_url(url)
    call = Background(lambda stop: _get(url, limit, seconds, stop), "public")
    problem: TransportError
    try:
        return call.result(seconds)
    except TimeoutError:
        # Ours or that of the thread: both mean that the time is up.
        problem = APITimeoutError(f"GET {blank_url(url)}: no complete response within {seconds:g} s.")
    except TransportError as error:
        problem = error
    finally:
        call.cancel()
    raise problem.with_traceback(None)


def _get(url: str, limit: int, seconds: float, stop: threading.Event) -> tuple[bytes, str]:
    def receive(response: requests.Response) -> tuple[bytes, str]:
        if response.status_code != 200:
            raise InvalidResponseError(f"the response has status {response.status_code} where 200 was expected.")
        return read_body(response, limit), response.headers.get("Cache-Control", "")

    once = urllib3.Retry(0)
    agent = f"cfplatform/{__version__}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent}
    with PlainSession(Adapter(once, 1), headers) as session:
        connection: dict[str, Any] = {"proxies": {}, "verify": None, "cert": None}
        channel = Channel(session, connection, once, (seconds, seconds))
        # Now, so that a proxy that cannot be used is reported as what it is.
        channel.settings(url)
        return Call(channel, "GET", url, seconds=seconds, run=Run(stop=stop), is_checked=False).perform(receive)
