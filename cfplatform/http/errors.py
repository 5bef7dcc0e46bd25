"""Convert exceptions of requests and urllib3 to ours.

The original exceptions are not kept: they refer to the key, connections and signed URLs.
"""

from __future__ import annotations

import re
import ssl

import requests
import urllib3

from ..exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    CFPlatformError,
    ConfigurationError,
    InvalidResponseError,
    blank,
    blank_url,
    printable,
)
from .timeouts import PrivateAddressError, TooSlow

#: All exceptions of sending and reading. Unusual headers can raise a plain ValueError.
CAUGHT = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)

_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
#: OpenSSL reasons if the peer does not use TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_BAD_URLS = (urllib3.exceptions.LocationValueError, requests.exceptions.InvalidURL)
#: The message for a SOCKS proxy without PySocks.
NO_SOCKS = (
    "A SOCKS proxy needs PySocks: pip install 'requests[socks]'. To use another proxy, check ALL_PROXY, HTTPS_PROXY "
    "and HTTP_PROXY."
)
_PROXY_ERRORS = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_BAD_HEADERS = (requests.exceptions.InvalidHeader, urllib3.exceptions.InvalidHeader)


def describe(error: BaseException) -> CFPlatformError:
    """Convert an exception to ours, with the cause and a hint."""
    chain = _chain_of(error)
    if _is_any(chain, PrivateAddressError):
        return InvalidResponseError(
            "The host is on a private network and was not contacted.",
            parameter="allow_private_storage",
            hint="Pass allow_private_storage=True if this is your own storage.",
        )
    if _is_any(chain, _BAD_URLS):
        return InvalidResponseError("The host name in the URL is not valid.")
    return _of_proxy(chain) or _of_tls(chain) or _of_response(error, chain)


def _is_any(chain: list[BaseException], kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(part, kinds) for part in chain)


def _is_not_tls(chain: list[BaseException]) -> bool:
    return any(isinstance(part, ssl.SSLError) and (part.reason or "") in _NO_TLS for part in chain)


def _of_proxy(chain: list[BaseException]) -> CFPlatformError | None:
    if any("SOCKS support" in str(part) for part in chain):
        return ConfigurationError(NO_SOCKS)
    # The exceptions of PySocks, which is optional.
    is_of_socks = any(type(part).__module__ == "socks" for part in chain) and not _is_any(chain, TimeoutError)
    if not (_is_any(chain, _PROXY_ERRORS) or is_of_socks) or _is_any(chain, ssl.SSLCertVerificationError):
        return None
    if _is_not_tls(chain):
        return APIConnectionError(
            "The proxy failed: it uses plain HTTP, but its URL starts with https://.",
            parameter="proxies",
            hint="Use http:// in proxies= or in the proxy variables.",
        )
    return APIConnectionError(
        f"The proxy failed: {_cause(chain)}.", parameter="proxies", hint="Check proxies= and the proxy variables."
    )


def _of_tls(chain: list[BaseException]) -> CFPlatformError | None:
    if not _is_any(chain, (ssl.SSLError, requests.exceptions.SSLError)):
        return None
    if _is_not_tls(chain):
        return APIConnectionError(
            "The server does not use TLS: it responded in plain text. Check that the base URL and any proxy in between "
            "use https."
        )
    return APIConnectionError(
        f"The TLS connection failed: {_cause(chain)}.",
        parameter="verify",
        hint="Behind a proxy with a custom CA, pass verify='path/to/ca.pem' or set REQUESTS_CA_BUNDLE.",
    )


def _of_response(error: BaseException, chain: list[BaseException]) -> CFPlatformError:
    if _is_any(chain, urllib3.exceptions.NameResolutionError):
        return APIConnectionError("The host name could not be resolved. Check the base URL and the network.")
    # urllib3 derives NewConnectionError from its connect timeout.
    refused = _is_any(chain, urllib3.exceptions.NewConnectionError)
    slow = next((part for part in chain if isinstance(part, TooSlow)), None)
    if slow is not None:
        return APITimeoutError(
            f"No response in time: {slow}.",
            parameter="timeout",
            hint="Increase timeout=(connect, read), use fewer workers, or try again later.",
        )
    if not refused and _is_any(chain, _TIMEOUTS):
        return APITimeoutError(
            "No response in time.", parameter="timeout", hint="Increase timeout=(connect, read), or try again later."
        )
    plain = isinstance(error, ValueError) and not isinstance(error, (OSError, urllib3.exceptions.HTTPError))
    if plain or _is_any(chain, _BAD_HEADERS):
        return InvalidResponseError("The response has invalid or contradictory headers.")
    if refused:
        return APIConnectionError(f"Could not connect: {_cause(chain)}. Check the base URL and the network.")
    if not _is_of_the_network(chain):
        # Mocking tools list the registered calls at the end of a long message.
        return APIConnectionError(f"The request failed: {_shown(str(error), 1000) or type(error).__name__}")
    return APIConnectionError(f"The connection was lost: {_cause(chain)}. Check the network, or try again later.")


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed."""
    chain = _chain_of(error)
    if _is_any(chain, (PrivateAddressError, *_BAD_HEADERS, *_BAD_URLS)):
        return False
    if _is_any(chain, ssl.SSLError):
        # Only a connection that is closed during the handshake; other TLS errors are permanent.
        return _is_any(chain, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return _is_of_the_network(chain)


def _is_of_the_network(chain: list[BaseException]) -> bool:
    """Return whether an error comes from a connection, not only from requests or a mocking tool."""
    return any(
        isinstance(part, (urllib3.exceptions.HTTPError, OSError)) and not isinstance(part, requests.RequestException)
        for part in chain
    )


def is_unreachable(error: BaseException) -> bool:
    """Return whether no connection could be established: refused, or unknown host."""
    return _is_any(_chain_of(error), urllib3.exceptions.NewConnectionError)


def exhausted_status(error: BaseException) -> int | None:
    """Return the status that exhausted the caller's ``Retry``, which keeps nothing else of the response."""
    found = re.search(r"too many ([0-9]{3}) error responses", str(error))
    return int(found.group(1)) if found and isinstance(error, requests.exceptions.RetryError) else None


def named(error: CFPlatformError, method: str, url: str) -> CFPlatformError:
    """Add method and URL to an error."""
    if error.method is None:
        error.method, error.url = method, blank_url(url)
        error.message = f"{method} {error.url}: {error.message}"
        error.args = (error.message,)
    return error


def has_expired(error: APIError) -> bool:
    """Return whether the storage refused a signed URL because it has expired."""
    text = error.response.text if error.response else ""
    return error.status_code in (400, 403) and re.search("(?i)expired|RequestTimeTooSkewed", text) is not None


def _chain_of(error: BaseException) -> list[BaseException]:
    """Return an error and all errors that it wraps, outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 30:
        part = waiting.pop(0)
        if isinstance(part, BaseException) and not any(part is known for known in found):
            found.append(part)
            waiting += [getattr(part, "reason", None), *part.args, part.__cause__, part.__context__]
    return found


def _cause(chain: list[BaseException]) -> str:
    """Return the message of the innermost cause, without URLs and objects."""
    for part in reversed(chain):
        if isinstance(part, ssl.SSLCertVerificationError):
            return f"certificate verify failed, {part.verify_message}"
        if isinstance(part, OSError) and part.strerror and not isinstance(part, requests.RequestException):
            return _shown(str(part.strerror))
    for part in reversed(chain):
        if part.args and isinstance(part.args[0], str) and not isinstance(part, requests.RequestException):
            return _shown(part.args[0]).rstrip(".")
    return _shown(str(chain[0])).rstrip(".") or type(chain[-1]).__name__


def _shown(text: str, most: int = 200) -> str:
    return printable(" ".join(blank(text).split()))[:most]
