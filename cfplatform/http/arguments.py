"""Which arguments of a request and of a transport are accepted? All are checked before anything is sent."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

import requests
import urllib3

from .._version import __version__
from ..exceptions import ConfigurationError, InvalidParameterError

if TYPE_CHECKING:
    from ..params import Query

#: Repeats that a caller may ask for, at the most; with growing waits that is several minutes.
MAX_RETRIES = 20
_NO_REQUEST = "No request can be made of this. Check params and json, and the base URL."
_ANY_HOST = "http://host"
#: How a caller sets retries: a number, or a policy of their own.
Retries = int | urllib3.Retry


def _is_plain(part: str) -> bool:
    """Return whether quoting leaves a text as it is."""
    return part.isascii() and part.replace("-", "").replace("_", "").isalnum()


def path(*parts: str) -> str:
    """Build a path from parts, each quoted, so that no id can change which route is called."""
    if not all(map(_is_plain, parts)):
        for part in parts:
            # These quoting leaves as they are.
            if part in ("", ".", ".."):
                raise InvalidParameterError(f"{part!r} cannot be a part of a path.")
        parts = tuple(quote(part, safe="") for part in parts)
    return "/" + "/".join(parts)


def checked_method(method: str) -> str:
    if not isinstance(method, str) or not method.isascii() or not method.isalpha():
        raise InvalidParameterError(f"method must be a word such as 'GET', not {method!r}.", parameter="method")
    return method.upper()


def client_headers(headers: Mapping[str, str] | None, key: str) -> dict[str, str]:
    """Check the headers that every API call of a client is to have: none may hold the API key."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            f"headers must be a mapping of names to values, not {type(headers).__name__}.", parameter="headers"
        )
    try:
        checked = dict(checked_headers(headers))
    except InvalidParameterError as error:
        problem = f"headers: {error.message}"
    else:
        if any(name.lower() == "x-api-key" or key in value for name, value in checked.items()):
            problem = "headers must not hold the API key: pass api_key=..., which sends it to the base URL only."
        else:
            return checked
    raise ConfigurationError(problem, parameter="headers")


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
            # Without the value, which may be a secret.
            raise InvalidParameterError(
                f"The header {name!r} must be a text of printable ASCII without outer blanks.", parameter="headers"
            )
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^`|~\w-]+", name, re.ASCII):
            raise InvalidParameterError(f"{name!r} cannot be the name of a header.", parameter="headers")
    return headers


def target(path: str, params: Query | Mapping[str, Any] | None) -> str:
    """Return a path that is relative to the base URL with its query, escaped as requests does it."""
    is_plain = isinstance(path, str) and path.startswith("/") and _is_plain(path.replace("/", ""))
    if is_plain and (not params or isinstance(params, list)):
        # What requests would make of pairs of texts, in a twentieth of the time; it drops None and repeats lists.
        with contextlib.suppress(ValueError, TypeError):
            if not params:
                return path
            if all(isinstance(value, str) for value in itertools.chain.from_iterable(params)):
                return f"{path}?{_encoded(tuple(params))}"
    if not isinstance(path, str) or "://" in path or not path.isprintable():
        raise InvalidParameterError(
            f"path must be relative to the base URL, such as '/projects/...', not {path!r}.", parameter="path"
        )
    if any(unquote(part) in (".", "..") for part in re.split(r"[/\\?#]", path)):
        raise InvalidParameterError(f"path must not hold '.' or '..': {path!r}.", parameter="path")
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(_ANY_HOST + (path if path.startswith("/") else f"/{path}"), params)
    except (requests.RequestException, ValueError, TypeError):
        prepared.url = None
    if not prepared.url:
        raise InvalidParameterError(_NO_REQUEST)
    return prepared.url.removeprefix(_ANY_HOST)


@functools.lru_cache(64)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)


def json_bytes(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    raise InvalidParameterError(_NO_REQUEST)


def user_agent(extra: str | None) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    own = f"cfplatform/{__version__} requests/{requests.__version__} python/{python}"
    if extra is None:
        return own
    if not isinstance(extra, str) or not extra.strip() or not extra.isascii() or not extra.isprintable():
        raise ConfigurationError("user_agent must be printable ASCII, such as 'my-tool/1.2'.", parameter="user_agent")
    return f"{extra.strip()} {own}"


def checked_verify(value: bool | str | None) -> bool | str | None:
    """Refuse what requests would take for ``False`` although nobody wrote that, such as a variable that is empty."""
    if value is None or value is False or value:
        return value
    raise ConfigurationError(
        f"verify must be the path of a file with certificate authorities, not {value!r}.", parameter="verify"
    )


def checked_retries(value: Retries) -> Retries:
    """Check what a caller gave as ``retries``: 0 to 20, or a ``urllib3.Retry``."""
    if isinstance(value, urllib3.Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise ConfigurationError(
            f"retries must be a whole number from 0 to {MAX_RETRIES}, or a urllib3.Retry.", parameter="retries"
        )
    return value
