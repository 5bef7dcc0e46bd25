"""Settings: the argument, else the environment, else the default. All are checked before any request."""

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
#: Schemes of proxies that requests can use; without one, a proxy is an HTTP proxy.
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
#: Seconds to wait for a connection, and for the next bytes of a response.
DEFAULT_TIMEOUT = (10.0, 60.0)
#: Maximum timeout in seconds (our limit): sockets do not accept arbitrarily large ones.
MAX_TIMEOUT = 86_400.0
#: Default number of workers.
DEFAULT_MAX_WORKERS = 32
#: Maximum number of workers (our limit): more threads only compete for the interpreter.
MAX_WORKERS_LIMIT = 256

#: Seconds for connecting and reading, or a pair (connect, read).
Timeout = float | tuple[float, float]


class Secret(str):
    """A string with a masked ``repr``, because tools that print local variables show the ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def api_key(value: str | None) -> Secret:
    """Return the API key from the argument or ``CF_API_KEY``. It never appears in messages."""
    source = "api_key" if value is not None else "CF_API_KEY"
    # Reuses the name: no traceback frame may hold the key as a plain string.
    value = os.environ.get("CF_API_KEY") if value is None else value
    if value is None:
        raise ConfigurationError("No API key.", parameter="api_key", hint="Pass api_key=... or set CF_API_KEY.")
    if not isinstance(value, str):
        raise ConfigurationError(f"{source} must be a string, not {type(value).__name__}.", parameter="api_key")
    value = Secret(value)
    stripped = Secret(value.strip(" \t\r\n"))
    if not stripped:
        raise ConfigurationError(f"{source} is blank. Set it to your CloudFactory API key.", parameter="api_key")
    if not re.fullmatch(r"[!-~]{1,512}", stripped):
        raise ConfigurationError(
            f"{source} is not a valid API key: it contains whitespace, control characters or non-ASCII characters, "
            "or is longer than 512 characters. Copy the key again, without quotes.",
            parameter="api_key",
        )
    if stripped != value:
        name = "The API key" if source == "api_key" else source
        warnings.warn(f"{name} had leading or trailing whitespace, which was removed.", UserWarning, stacklevel=3)
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
            problem = "must not contain a user name or password. The API key is sent in a header."
        elif parts.scheme not in ("http", "https") or not host:
            problem = f"must start with https:// and a host name. {example}"
        elif re.search(r"[?#\\\s\x00-\x1f\x7f]", url):
            problem = f"must not contain a query, fragment, backslash or whitespace. {example}"
        elif parts.scheme == "http" and not is_loopback(host) and not allow_insecure_http:
            problem = f"uses http:// for {host}, which would send the API key unencrypted."
            hint = "Use https, or pass allow_insecure_http=True if you are sure."
    if problem:
        raise ConfigurationError(f"{source} {problem}", parameter="base_url", hint=hint)
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or IP address refers to this machine."""
    host = host.rstrip(".")
    address = read_address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def is_private(host: str) -> bool:
    """Return whether a host is a non-public IP address (private, link-local or loopback) or this machine."""
    address = read_address(host.rstrip("."))
    return is_loopback(host) if address is None else not address.is_global


# Called for every signed URL, but there are few hosts.
@functools.lru_cache(maxsize=256)
def read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address in any notation the system accepts, such as ``127.1`` or ``2130706433``."""
    for read in (ipaddress.ip_address, lambda text: ipaddress.ip_address(socket.inet_aton(text))):
        try:
            address = read(host.partition("%")[0])
            # An IPv4-mapped IPv6 address is checked as the IPv4 address.
            return getattr(address, "ipv4_mapped", None) or address
        except (ValueError, OSError):
            continue
    return None


def default_id(value: str | None, variable: str) -> str | None:
    """Return a default ID from the argument or the environment; a blank variable counts as unset."""
    return value if value is not None else (os.environ.get(variable) or "").strip() or None


def timeout(value: Timeout) -> tuple[float, float]:
    """Check a timeout and return it as the pair (connect, read), both in seconds."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(_is_number(part) and 0 < part <= MAX_TIMEOUT for part in pair):
        raise ConfigurationError(
            f"timeout must be a number of seconds above 0 and up to {MAX_TIMEOUT:,g}, or a pair (connect, read). "
            "It cannot be disabled: a stalled connection would never end.",
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
    """Check how many seconds a run waits for an outage to end: 0 or more."""
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"patience must be 0 or more seconds, not {shown(value)}. With 0 a run does not wait for an outage to end.",
            parameter="patience",
        )
    return float(value)


def flag(value: bool | None, variable: str) -> bool:
    """Return a boolean setting: the argument, else the variable (unset, "", "0", "false", "no", "off": False)."""
    if value is None:
        return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")
    if not isinstance(value, bool):
        name = variable.removeprefix("CF_").lower()
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}.", parameter=name)
    return value
