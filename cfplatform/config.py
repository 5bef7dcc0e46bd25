"""Settings: the argument, then the environment, then the default; each checked before anything is sent."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import socket
import warnings
from urllib.parse import urlsplit

from .exceptions import ConfigurationError, shown

#: The platform's production API.
DEFAULT_BASE_URL = "https://api.ai.cloudfactory.app/api/v1"
#: Seconds to wait for a connection, and for the next bytes of a response.
DEFAULT_TIMEOUT = (10.0, 60.0)
#: Our own limit: sockets do not accept arbitrarily large timeouts.
MAX_TIMEOUT = 86_400.0
#: Default maximum number of concurrent items.
DEFAULT_MAX_WORKERS = 32
#: Our own limit: more threads only compete for the interpreter.
MAX_WORKERS_LIMIT = 256

#: Seconds for both halves, or the pair (connect, read).
Timeout = float | tuple[float, float]


class Secret(str):
    """A text whose ``repr`` hides it, since tools that print local variables use that."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def api_key(value: str | None) -> Secret:
    """Return the API key from the argument or CF_API_KEY. No message ever shows it."""
    source = "api_key" if value is not None else "CF_API_KEY"
    # Over the old name, so that no frame of an error holds it as plain text.
    value = os.environ.get("CF_API_KEY") if value is None else value
    if value is None:
        raise ConfigurationError("No API key.", parameter="api_key", hint="Pass api_key=... or set CF_API_KEY.")
    if not isinstance(value, str):
        raise ConfigurationError(f"{source} must be a string, not {type(value).__name__}.", parameter="api_key")
    value = Secret(value)
    stripped = Secret(value.strip(" \t\r\n"))
    if not stripped:
        raise ConfigurationError(f"{source} is blank. Pass your CloudFactory API key.", parameter="api_key")
    if not re.fullmatch(r"[!-~]{1,512}", stripped):
        raise ConfigurationError(
            f"{source} has characters that cannot be part of a key (white space or control characters inside, "
            "anything outside ASCII) or more than 512 of them. Copy the key again, without quotes around it.",
            parameter="api_key",
        )
    if stripped != value:
        name = "The API key" if source == "api_key" else source
        warnings.warn(f"{name} had white space around it, which was removed.", UserWarning, stacklevel=3)
    return stripped


def base_url(value: str | None, *, allow_insecure_http: bool = False) -> str:
    """Return the base URL from the argument, CF_PLATFORM_BASE_URL or the default, without a trailing slash."""
    source = "base_url" if value is not None else "CF_PLATFORM_BASE_URL"
    url = value if value is not None else os.environ.get("CF_PLATFORM_BASE_URL") or DEFAULT_BASE_URL
    if not isinstance(url, str):
        raise ConfigurationError(f"{source} must be a string, not {type(url).__name__}.", parameter="base_url")
    url = url.strip().rstrip("/")
    example = f"It looks like {DEFAULT_BASE_URL}."
    problem, hint = "", None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        problem = f"is not a URL. {example}"
    else:
        if parts.username is not None or parts.password is not None:
            problem = "must not hold a user name or password. The API key is sent in a header."
        elif parts.scheme not in ("http", "https") or not host:
            problem = f"must begin with https:// and name a host. {example}"
        elif re.search(r"[?#\\\s\x00-\x1f\x7f]", url):
            problem = f"must have no query, fragment, backslash or white space. {example}"
        elif parts.scheme == "http" and not is_loopback(host) and not allow_insecure_http:
            problem = f"uses plain http to {host}, which would send the API key in clear text."
            hint = "Use https, or pass allow_insecure_http=True if you are sure."
    if problem:
        raise ConfigurationError(f"{source} {problem}", parameter="base_url", hint=hint)
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    host = host.rstrip(".")
    address = read_address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def is_private(host: str) -> bool:
    """Return whether a host is an address that public storage cannot have: private, link-local or this machine."""
    address = read_address(host.rstrip("."))
    return is_loopback(host) if address is None else not address.is_global


# Called for every signed URL, and there are few hosts.
@functools.lru_cache(maxsize=256)
def read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address in any spelling that the system would connect to, such as ``127.1`` or ``2130706433``."""
    for read in (ipaddress.ip_address, lambda text: ipaddress.ip_address(socket.inet_aton(text))):
        try:
            address = read(host.partition("%")[0])
            # An IPv4-mapped IPv6 address is checked as the IPv4 address.
            return getattr(address, "ipv4_mapped", None) or address
        except (ValueError, OSError):
            continue
    return None


def default_id(value: str | None, variable: str) -> str | None:
    """Return a default id from the argument or the environment; a blank variable counts as not set."""
    return value if value is not None else (os.environ.get(variable) or "").strip() or None


def timeout(value: Timeout) -> tuple[float, float]:
    """Check a timeout and return it as the pair (connect, read), both in seconds."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(_is_number(part) and 0 < part <= MAX_TIMEOUT for part in pair):
        raise ConfigurationError(
            f"timeout must be a number of seconds above 0 and up to {MAX_TIMEOUT:g}, or a pair of them "
            "(connect, read). There is no 'wait for ever': a stuck connection would never end.",
            parameter="timeout",
        )
    return float(pair[0]), float(pair[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def max_workers(value: int) -> int:
    """Check the number of workers: 1 to 256."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS_LIMIT:
        raise ConfigurationError(
            f"max_workers must be an integer from 1 to {MAX_WORKERS_LIMIT}, not {shown(value)}.",
            parameter="max_workers",
        )
    return value


def patience(value: float) -> float:
    """Check how long a run waits for an outage to end: seconds from 0 up."""
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"patience must be a number of seconds from 0 up, not {shown(value)}. 0 does not wait for the end of an "
            "outage.",
            parameter="patience",
        )
    return float(value)


def flag(value: bool | None, variable: str) -> bool:
    """Return a boolean setting: the argument, else whether the variable is set to anything but 0."""
    if value is None:
        return os.environ.get(variable, "").strip() not in ("", "0", "false", "no")
    if not isinstance(value, bool):
        name = variable.removeprefix("CF_").lower()
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}.", parameter=name)
    return value
