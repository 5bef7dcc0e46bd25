"""A public document: fetched without any credential, from one address, bounded in size and in time."""

from __future__ import annotations

import logging
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from .. import config
from .._version import __version__
from ..exceptions import (
    APITimeoutError,
    CFPlatformError,
    ConfigurationError,
    InvalidResponseError,
    TransportError,
    blank_url,
)
from . import errors, timeouts
from .background import Background
from .body import whole_body
from .session import Adapter, PlainSession

_log = logging.getLogger(__name__)


class Document(NamedTuple):
    """The bytes of a document, and the ``Cache-Control`` that it came with, or ``""``."""

    body: bytes
    cache_control: str


def checked_url(url: object) -> str:
    """Return a URL that :func:`get` would fetch.

    Raises:
        ConfigurationError: If it is not https (or http to this machine), or holds more than an address.
    """
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

    Raises:
        ConfigurationError: If the URL is not acceptable.
        TransportError: If no document arrived.
    """
    checked_url(url)

    def ask(given_up: threading.Event) -> Document:
        timeouts.limit_reading(given_up, timeouts.Deadline(seconds, seconds))
        return _get(url, limit, seconds)

    asked = Background(ask, "public")
    problem: Exception
    try:
        return asked.result(seconds)
    except TimeoutError:
        # Ours or that of the thread: both mean that the time is up.
        problem = APITimeoutError(f"GET {blank_url(url)}: no complete answer within {seconds:g} s.")
    except TransportError as error:
        problem = errors.named(error, "GET", url)
    finally:
        asked.cancel()
    raise problem.with_traceback(None)


def _get(url: str, limit: int, seconds: float) -> Document:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"cfplatform/{__version__}",
    }
    problem: CFPlatformError
    with PlainSession(Adapter(urllib3.Retry(0), 1), headers) as session:
        try:
            prepared = session.prepare_request(requests.Request("GET", url))
            settings = session.merge_environment_settings(url, {}, True, None, None)
            if config.is_loopback(urlsplit(url).hostname or ""):
                # A proxy of the environment does not reach this machine.
                settings["proxies"] = {}
            with session.send(prepared, timeout=(seconds, seconds), allow_redirects=False, **settings) as response:
                _log.debug("GET %s: %d", blank_url(url), response.status_code)
                if response.status_code != 200:
                    raise InvalidResponseError(f"the answer has status {response.status_code} where 200 was expected.")
                body = whole_body(response, limit)
                return Document(body, response.headers.get("Cache-Control", ""))
        except TransportError as error:
            problem = error
        except errors.CAUGHT as error:
            problem = errors.describe(error)
    # Raised outside of the except block, so that no object of requests is its context.
    raise problem.with_traceback(None)
