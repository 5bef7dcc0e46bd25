"""Check the arguments of requests and transports, and every URL, before anything is sent."""

from __future__ import annotations

import functools
import io
import json
import re
import sys
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3

from .. import config
from .._version import __version__
from ..exceptions import (
    CFPlatformError,
    ConfigurationError,
    InvalidParameterError,
    InvalidResponseError,
    blank_url,
    printable,
)
from .body import Body
from .session import origin

if TYPE_CHECKING:
    from ..params import Query

#: Maximum number of retries of a request (our limit); with backoff, several minutes.
MAX_RETRIES = 20
#: A dot segment in a path, escaped or not.
_DOTS = re.compile(r"(?:^|[/\\?#])(?:\.|%2e){1,2}(?:$|[/\\?#])", re.IGNORECASE)
#: The type of ``retries``: a number, or a custom policy.
Retries = int | urllib3.Retry


def path(*parts: str) -> str:
    """Build a path from quoted parts: an ID must not change the route."""
    for part in parts:
        # Quoting leaves these unchanged.
        if part in ("", ".", ".."):
            raise InvalidParameterError(f"{part!r} is not a valid path segment.")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def checked_method(method: str) -> str:
    if not isinstance(method, str) or not method.isascii() or not method.isalpha():
        raise InvalidParameterError(f"method must be an HTTP method such as 'GET', not {method!r}.", parameter="method")
    return method.upper()


def client_headers(headers: Mapping[str, str] | None, key: str) -> dict[str, str]:
    """Check the additional headers of a client: none may contain the API key."""
    checked = checked_headers(headers, ConfigurationError)
    if any(name.lower() == "x-api-key" or key in value for name, value in checked.items()):
        raise ConfigurationError(
            "headers must not contain the API key. Pass api_key=..., which is sent to the base URL only.",
            parameter="headers",
        )
    return checked


def checked_headers(
    headers: Mapping[str, str] | None, error: type[CFPlatformError] = InvalidParameterError
) -> dict[str, str]:
    if not isinstance(headers, (Mapping, NoneType)):
        raise error(f"headers must be a mapping of names to values, not {type(headers).__name__}.", parameter="headers")
    for name, value in (headers or {}).items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
            # The value is not shown: it may be a secret.
            raise error(
                f"headers: the value of {name!r} must be printable ASCII without surrounding spaces.",
                parameter="headers",
            )
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^`|~\w-]+", name, re.ASCII):
            raise error(f"headers: {name!r} is not a valid header name.", parameter="headers")
    return dict(headers or {})


def target(path: str, query: Query) -> str:
    """Return a path relative to the base URL with its query, escaped as in requests."""
    if not isinstance(path, str) or "://" in path or not path.isprintable():
        raise InvalidParameterError(
            f"path must be relative to the base URL, such as '/projects/...', not {path!r}.", parameter="path"
        )
    if _DOTS.search(path):
        raise InvalidParameterError(f"path must not contain '.' or '..' segments: {path!r}.", parameter="path")
    path = requests.utils.requote_uri(path if path.startswith("/") else f"/{path}").partition("#")[0]
    try:
        return path + ("&" if "?" in path else "?") + urlencode(query) if query else path
    except UnicodeEncodeError:
        raise InvalidParameterError("params cannot be encoded as UTF-8.", parameter="params") from None


def body(json: Any = None, data: Any = None, files: Any = None) -> tuple[bytes | Body | None, str | None]:
    """Return the body of a request and its content type, from the arguments of ``requests.request``."""
    if json is not None:
        if data is not None or files is not None:
            raise InvalidParameterError("json cannot be used with data or files.", parameter="json")
        return json_bytes(json), "application/json"
    if data is None and files is None:
        return None, None
    if files is None and hasattr(data, "read"):
        return _file(data), None
    try:
        # As in requests. The URL is not used.
        prepared = requests.Request("POST", "http://localhost", data=data, files=files).prepare()
    except Exception as error:
        # Any exception: the objects to read are the caller's.
        problem = f"data and files cannot be sent: {printable(str(error) or type(error).__name__)[:200]}."
    else:
        content: Any = prepared.body
        if isinstance(content, str):
            content = content.encode()
        if isinstance(content, (bytes, bytearray, NoneType)):
            return bytes(content or b""), prepared.headers.get("Content-Type")
        kind = type(data).__name__
        problem = f"data must be form fields, text, bytes or a seekable binary file, not {kind}."
    raise InvalidParameterError(problem, parameter="data")


def _file(file: Any) -> Body:
    """Return the rest of a file as a body that can be sent again."""
    try:
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        is_binary = isinstance(file.read(0), bytes)
    except Exception:
        # Any exception: the file object is the caller's.
        size, is_binary = 0, False
    if not is_binary:
        raise InvalidParameterError("data must be a seekable binary file. Open it with mode 'rb'.", parameter="data")
    return Body(file, size, name=getattr(file, "name", "the file"))


def json_bytes(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = printable(str(error))[:200]
    raise InvalidParameterError(f"json cannot be sent: {problem}.", parameter="json")


def user_agent(extra: str | None) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    own = f"cfplatform/{__version__} requests/{requests.__version__} python/{python}"
    if extra is None:
        return own
    if not isinstance(extra, str) or not extra.strip() or not extra.isascii() or not extra.isprintable():
        raise ConfigurationError("user_agent must be printable ASCII, such as 'my-tool/1.2'.", parameter="user_agent")
    return f"{extra.strip()} {own}"


def checked_verify(value: bool | str | None) -> bool | str | None:
    """Refuse values that requests would treat as ``False``, such as an empty string."""
    if value is None or value is False or value:
        return value
    raise ConfigurationError(
        f"verify must be True, False or the path of a CA bundle, not {value!r}.", parameter="verify"
    )


def checked_retries(value: Retries) -> Retries:
    """Check ``retries``: 0 to 20, or a ``urllib3.Retry``."""
    if isinstance(value, urllib3.Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise ConfigurationError(
            f"retries must be an integer from 0 to {MAX_RETRIES}, or a urllib3.Retry.", parameter="retries"
        )
    return value


def check_storage_url(url: str, plain: bool = False, *, may_be_private: bool) -> None:
    """Refuse a URL from the platform with a host that is not public; ``plain`` allows http."""
    # Parsers disagree about whether a backslash ends the host.
    is_odd = "\\" in url or not url.isprintable()
    if is_odd or not _is_storage(origin(url), plain, may_be_private):
        raise InvalidResponseError(
            f"The platform sent {'an asset URL' if plain else 'a signed URL'} that is not an "
            f"{'http or ' if plain else ''}https URL of a public host; it was not opened.",
            url=blank_url(url),
        )


@functools.lru_cache(maxsize=256)
def _is_storage(origin: str, plain: bool, may_be_private: bool) -> bool:
    """Return whether an origin is allowed for the storage."""
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    # Parsers also disagree about escapes in a host.
    if not host or host.startswith(("*", ".")) or parts.username is not None or "%" in parts.netloc:
        return False
    if parts.scheme == "http" and not plain:
        return may_be_private and config.is_loopback(host)
    # Host names are checked by address when connecting.
    return parts.scheme in ("http", "https") and (may_be_private or not config.is_private(host))


def public_url(url: object) -> str:
    """Check the URL of a public document: https (or http to this machine), with host and path only."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError("The URL must be printable ASCII without spaces or backslashes.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("The URL must have a host, and no user name, query or fragment.")
    if parts.scheme != "https" and not (parts.scheme == "http" and config.is_loopback(host)):
        raise ConfigurationError("The URL must start with https://; http is only allowed for servers on this machine.")
    return url
