"""Which public document may be fetched, and how? Without any credential, once, bounded in size and in time."""

from __future__ import annotations

import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from .. import config
from .._version import __version__
from ..exceptions import APITimeoutError, ConfigurationError, InvalidResponseError, TransportError, blank_url
from .background import Background
from .body import whole_body
from .call import Call
from .retry import Run
from .session import Adapter, Channel, PlainSession


class Document(NamedTuple):
    """A document, and the ``Cache-Control`` that it came with, or ``""``."""

    body: bytes
    cache_control: str


def checked_url(url: object) -> str:
    """Return a URL that :func:`get` would fetch: https (or http to this machine), and nothing but an address."""
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


def get(url: str, *, limit: int, seconds: float) -> Document:
    """GET a public document, once: no redirect is followed, nothing is repeated, no credential is looked up.

    It runs in a thread of its own, because name lookup, proxy and TLS each have a limit, but no common one. After the
    time is up that thread ends by itself.

    Args:
        url: What :func:`checked_url` accepts.
        limit: Bytes of the document, at the most.
        seconds: For everything together, name lookup included.
    """
    checked_url(url)
    asked = Background(lambda given_up: _get(url, limit, seconds, given_up), "public")
    problem: TransportError
    try:
        return asked.result(seconds)
    except TimeoutError:
        # Ours or that of the thread: both mean that the time is up.
        problem = APITimeoutError(f"GET {blank_url(url)}: no complete answer within {seconds:g} s.")
    except TransportError as error:
        problem = error
    finally:
        asked.cancel()
    raise problem.with_traceback(None)


def _get(url: str, limit: int, seconds: float, given_up: threading.Event) -> Document:
    def receive(response: requests.Response) -> Document:
        if response.status_code != 200:
            raise InvalidResponseError(f"the answer has status {response.status_code} where 200 was expected.")
        return Document(whole_body(response, limit), response.headers.get("Cache-Control", ""))

    once = urllib3.Retry(0)
    agent = f"cfplatform/{__version__}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent}
    with PlainSession(Adapter(once, 1), headers) as session:
        channel = Channel(session, {"proxies": {}, "verify": None, "cert": None})
        # Now, so that a proxy that cannot be used is reported as what it is.
        channel.settings(url)
        call = Call(
            channel,
            "GET",
            url,
            route="public",
            policy=once,
            timeout=(seconds, seconds),
            seconds=seconds,
            run=Run(stop=given_up),
            is_checked=False,
        )
        return call.perform(receive)
