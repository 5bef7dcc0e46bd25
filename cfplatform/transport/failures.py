"""What requests and urllib3 raise, described as one of our errors without keeping any of their objects."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING

import requests
import urllib3

from ..exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidResponseError,
    TransportError,
    blank,
    printable,
)
from .connections import TooSlow

if TYPE_CHECKING:
    from .streams import ObjectStream

#: Everything that sending or reading may raise: both families, the system's errors, and the plain ValueError that
#: unusual headers lead to.
CAUGHT = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)

_TIMEOUTS = (
    requests.Timeout,
    urllib3.exceptions.ReadTimeoutError,
    urllib3.exceptions.ConnectTimeoutError,
    socket.timeout,
)
_EXPIRED = r"(?i)expired|RequestTimeTooSkewed"
_BAD_HEADERS = (requests.exceptions.InvalidHeader, urllib3.exceptions.InvalidHeader)


def describe(error: BaseException) -> TransportError:
    """Return the error of ours that tells what went wrong and what to do."""
    chain = _chain(error)
    if any(isinstance(part, (ssl.SSLError, requests.exceptions.SSLError)) for part in chain):
        return APIConnectionError(
            f"The secure connection failed: {_words(chain)}. Behind a proxy with its own certificate authority pass "
            "verify='path/to/ca.pem' or set REQUESTS_CA_BUNDLE."
        )
    if any(isinstance(part, (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)) for part in chain):
        return APIConnectionError(f"The proxy failed: {_words(chain)}. Check proxies= and the proxy variables.")
    if any(isinstance(part, urllib3.exceptions.NameResolutionError) for part in chain):
        return APIConnectionError("The host name could not be resolved. Check the base URL and the network.")
    # A refused connection is a kind of connect timeout to urllib3.
    refused = any(isinstance(part, urllib3.exceptions.NewConnectionError) for part in chain)
    slow = next((part for part in chain if isinstance(part, TooSlow)), None)
    if slow is not None:
        return APITimeoutError(
            f"No answer in time: {slow}. Raise timeout=(connect, read), use fewer workers, or try again later."
        )
    if not refused and any(isinstance(part, _TIMEOUTS) for part in chain):
        return APITimeoutError("No answer in time. Raise timeout=(connect, read), or try again later.")
    plain = isinstance(error, ValueError) and not isinstance(error, (OSError, urllib3.exceptions.HTTPError))
    if plain or any(isinstance(part, _BAD_HEADERS) for part in chain):
        return InvalidResponseError("The answer has headers that contradict each other or cannot be read.")
    if refused:
        return APIConnectionError(f"No connection could be made: {_words(chain)}. Check the base URL and the network.")
    return APIConnectionError(f"The connection broke: {_words(chain)}. Check the network, or try again later.")


def with_content(error: InvalidResponseError, stream: ObjectStream, key: str) -> InvalidResponseError:
    """Say in an error what it was that could not be used: its content type and how it begins."""
    kind = _shown(stream.headers.get("Content-Type", "no content type"))[:80]
    # Blanked before it is cut, since half a secret is not recognised as one.
    start = printable(blank(stream.head.decode("utf-8", "replace"), key))[:60]
    error.message = f"{error.message} It came as {kind} and begins with {start!r}."
    error.args = (error.message,)
    return error.with_traceback(None)


def has_expired(error: APIError) -> bool:
    """Tell whether the storage refused a signed URL because of its age."""
    text = error.response.text if error.response else ""
    return error.status_code in (400, 403) and re.search(_EXPIRED, text) is not None


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error with all that it wraps, outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 30:
        part = waiting.pop(0)
        if isinstance(part, BaseException) and not any(part is known for known in found):
            found.append(part)
            waiting += [getattr(part, "reason", None), *part.args, part.__cause__, part.__context__]
    return found


def _words(chain: list[BaseException]) -> str:
    """Return what the innermost cause says, without URLs and objects."""
    for part in reversed(chain):
        if isinstance(part, ssl.SSLCertVerificationError):
            return f"certificate verify failed, {part.verify_message}"
        if isinstance(part, OSError) and part.strerror and not isinstance(part, requests.RequestException):
            return _shown(str(part.strerror))
    for part in reversed(chain):
        if part.args and isinstance(part.args[0], str) and not isinstance(part, requests.RequestException):
            return _shown(part.args[0]).rstrip(".")
    return type(chain[-1]).__name__


def _shown(text: str) -> str:
    return printable(" ".join(blank(text).split()))[:200]
