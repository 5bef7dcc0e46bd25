"""The exceptions of cfplatform. All derive from :class:`CFPlatformError`.

::

    CFPlatformError
    ├── ConfigurationError (ValueError)        a setting is missing or wrong; raised before any request
    ├── InvalidParameterError (ValueError)     an argument is wrong; raised before any request
    ├── TransportError                         there was no usable response
    │   ├── APIConnectionError (ConnectionError)
    │   ├── APITimeoutError (TimeoutError)
    │   ├── OutageError                        the platform or the storage was down for longer than ``patience``
    │   └── InvalidResponseError (ValueError)  the response is not valid, for example not JSON
    ├── APIError                               the server responded with an error status
    │   ├── BadRequestError                    400, 422
    │   ├── AuthenticationError                401
    │   ├── PermissionDeniedError              403 (also a PermissionError)
    │   ├── NotFoundError                      404 (also a LookupError)
    │   ├── ConflictError                      409
    │   ├── RateLimitError                     429; ``retry_after`` is the seconds to wait
    │   └── ServerError                        5xx
    ├── DownloadError
    │   ├── UnsafePathError                    a name points outside the destination
    │   ├── IncompleteDownloadError            the size or the checksum does not match
    │   ├── DestinationBusyError               another process is downloading into the folder
    │   └── DestinationError (OSError)         the destination is full, missing, read-only or not reachable
    ├── ExportError                            an export failed; ``export`` is its last known state
    │   ├── ExportFailedError                  the platform could not create it
    │   └── ExportTimeoutError (TimeoutError)  it was not ready in time
    ├── UploadError                            a file is not readable, is empty, or changed during the upload
    └── WebhookVerificationError               a webhook delivery was rejected; ``reason`` is the cause

Every exception has the attributes of :class:`CFPlatformError`; those that do not apply are ``None``. ``str(error)`` is
the message and the hint. No exception contains the API key or a signature, and all can be pickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: Maximum characters of a server message in an error message.
MAX_MESSAGE_LENGTH = 500
#: Characters of an HTML page that are searched for its title.
_MAX_SEARCHED = 4096

# Strings, not compiled patterns: re compiles and caches them on first use, which keeps the import fast. The name before
# the first "=" contains neither "?" nor "=", which keeps the search linear.
_QUERY = r"\?[^\s'\"<>)\]?=]*=[^\s'\"<>)\]]*"
_SIGNED_VALUE = (
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|Signature(?:Provided)?|sig|"
    r"AWSAccessKeyId|X-API-Key)(\"?\s*[=:]\s*\"?|%3D|>)[^\s&\"'<>,]+"
)


def blank(text: str, secret: str | None = None) -> str:
    """Remove query strings, signatures and the API key, if given, from a string."""
    text = text.replace(secret, "***") if secret else text
    return re.sub(_SIGNED_VALUE, r"\1\2***", re.sub(_QUERY, "?...", text))


def blank_url(url: str) -> str:
    """Return a URL without query, fragment and user info."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/@]*@", "//", bare)


class ErrorResponse(NamedTuple):
    """A response as plain data, without request, connection or credentials.

    Attributes:
        status_code: The HTTP status.
        headers: The headers, with names in lower case.
        text: The first 64 KiB of the body, with signatures removed.
    """

    status_code: int
    headers: Mapping[str, str] = {}
    text: str = ""


class CFPlatformError(Exception):
    """Base class of all exceptions in cfplatform.

    Attributes:
        message: What failed. If it names the argument ``parameter``, it starts with that name.
        parameter: The name of the invalid argument, or of the argument that the hint suggests changing.
        hint: What to do, in Python terms. A program with another interface can show its own advice.
        method: The HTTP method of the request.
        url: The URL of the request, without its query.
        status_code: The HTTP status of the response.
        request_id: The ID that the server gave the request.
        code: The server's error code, such as "NOT_FOUND": ``code`` or ``error.code`` of the JSON body.
        response: A plain copy of the response, an ``ErrorResponse``.
        cursor: Pass it as ``cursor=`` to resume a failed listing.
    """

    def __init__(
        self,
        message: str = "",
        *,
        method: str | None = None,
        url: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
        code: str | None = None,
        response: ErrorResponse | None = None,
        parameter: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter
        self.hint = hint
        self.method = method
        self.url = blank_url(url) if url else None
        self.status_code = status_code
        self.request_id = request_id
        self.code = code
        self.response = response
        self.cursor: str | None = None

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigurationError(CFPlatformError, ValueError):
    """A setting, such as the API key, base URL or project, is missing or not valid, or the client is closed."""


class InvalidParameterError(CFPlatformError, ValueError):
    """An argument is not valid. Methods of the client raise it before any request, unless they say otherwise."""


class TransportError(CFPlatformError):
    """There was no usable response."""


class APIConnectionError(TransportError, ConnectionError):
    """No connection could be made, or it broke before the response was complete."""


class APITimeoutError(TransportError, TimeoutError):
    """The server did not respond in time; see the ``timeout`` argument of the client."""


class OutageError(TransportError):
    """The platform or the storage was down for longer than ``patience``. Finished items are kept.

    ``status_code`` is the status of the last response, or ``None`` if there was none.
    """


class InvalidResponseError(TransportError, ValueError):
    """The response is not valid: not JSON, truncated, a redirect, or without ``items``."""


class APIError(CFPlatformError):
    """The server responded with an error status that has no specific class."""


class BadRequestError(APIError):
    """400 or 422: the server refused the arguments."""


class AuthenticationError(APIError):
    """401: the API key is missing, wrong or expired."""


class PermissionDeniedError(APIError, PermissionError):
    """403: the API key is valid but does not have permission."""


class NotFoundError(APIError, LookupError):
    """404: the object does not exist, or the API key has no access to it."""


class ConflictError(APIError):
    """409: the object already exists, or conflicts with another one."""


class RateLimitError(APIError):
    """429: too many requests. ``retry_after`` is the number of seconds to wait, if the server sent it."""

    retry_after: float | None = None


class ServerError(APIError):
    """5xx: the server failed, even after retries."""


class DownloadError(CFPlatformError):
    """A download failed.

    Attributes:
        failures: The failed results, if :meth:`~cfplatform.DownloadSummary.raise_for_failures` raised the error.
    """

    failures: Sequence[Any] = ()


class UnsafePathError(DownloadError):
    """A name from the server or a link on disk points outside the destination."""


class IncompleteDownloadError(DownloadError):
    """The size or the checksum of the received bytes does not match what the server announced."""


class DestinationBusyError(DownloadError):
    """Another process is downloading into the same destination."""


class DestinationError(DownloadError, OSError):
    """The destination is full, missing, read-only or not reachable. This ends the run.

    It is also an ``OSError``; ``errno`` and ``strerror`` come from the file system and are ``None`` for a store.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**vars(self), "errno": self.errno, "strerror": self.strerror}


class ExportError(CFPlatformError):
    """An export, or its download, failed.

    Attributes:
        export: Its last known state, an :class:`~cfplatform.Export`.
    """

    export: Any = None


class ExportFailedError(ExportError):
    """The platform could not create the export."""


class ExportTimeoutError(ExportError, TimeoutError):
    """The export was not ready in time. It continues on the platform; you can wait for it again."""


class UploadError(CFPlatformError):
    """A file is missing, not readable or empty, or changed during the upload."""


class WebhookVerificationError(CFPlatformError):
    """A webhook delivery was rejected; do not use its content.

    Attributes:
        reason: ``"malformed"`` (a header or the body is malformed), ``"too_large"``, ``"signature"``,
            ``"unknown_key"``, ``"keys_unavailable"`` (the keys could not be fetched), ``"expired"`` (too old, or in
            the future), ``"unexpected"`` (rejected by ``expected``) or ``"replayed"``.
    """

    reason: str = ""


#: Attributes stored in the state file.
_KEPT = ("method", "url", "status_code", "request_id", "code", "parameter", "hint")


def to_dict(error: BaseException) -> dict[str, Any]:
    """Convert an error to plain data for the state file."""
    message = error.message if isinstance(error, CFPlatformError) else str(error)
    return {"type": type(error).__name__, "message": message, **{name: getattr(error, name, None) for name in _KEPT}}


def from_dict(data: Mapping[str, Any]) -> CFPlatformError:
    """Convert the result of :func:`to_dict` back to an error; an unknown type becomes the base class."""
    cls = globals().get(str(data.get("type")))
    if not (isinstance(cls, type) and issubclass(cls, CFPlatformError)):
        cls = CFPlatformError
    error = cls(str(data.get("message")))
    for name in _KEPT:
        setattr(error, name, data.get(name))
    return error


_BY_STATUS: dict[int, tuple[type[APIError], str]] = {
    400: (BadRequestError, "Check the arguments."),
    401: (AuthenticationError, "Check the API key (CF_API_KEY). It must belong to the environment of the base URL."),
    403: (PermissionDeniedError, "The API key is not allowed to do this. Check the project and space IDs."),
    404: (NotFoundError, "Check the IDs, and that the API key belongs to the account that owns them."),
    409: (ConflictError, "It already exists or is in use. Look it up before you try again."),
    422: (BadRequestError, "Check the arguments."),
    429: (RateLimitError, "Wait and try again, or use fewer workers."),
}
#: With these statuses, an HTML body is not from the platform, which responds with JSON.
WEB_PAGE_STATUSES = (401, 403, 407, 451)
_SERVER_ERROR_HINT = "The platform failed. Try again later; finished items are kept."


def error_from_response(
    status_code: int,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    retry_after: float | None = None,
    secret: str | None = None,
    hint: str | None = None,
) -> APIError:
    """Build the error for a response; ``body`` is its start.

    ``secret`` is the API key, which is removed wherever the server repeats it; ``hint`` replaces the default hint.
    """
    plain = {name.lower(): blank(value, secret) for name, value in headers.items()}
    text = blank(body[:65536].decode("utf-8", "replace"), secret)
    content_type = plain.get("content-type", "")
    fallback = (ServerError, _SERVER_ERROR_HINT) if status_code >= 500 else (APIError, "")
    cls, usual_hint = _BY_STATUS.get(status_code, fallback)
    if status_code in WEB_PAGE_STATUSES and is_web_page(text, content_type):
        cls = APIError
        hint = "This page is not from the platform, but from a proxy, firewall or gateway in between."
    words = server_words(text, content_type) or "no message from the server"
    where = blank_url(url)
    message = f"{method} {where} failed with status {status_code}: {words.rstrip('.')}."
    if retry_after is not None:
        message += f" The server says to wait {retry_after:,g} s."
    request_id = printable(plain.get("x-request-id") or plain.get("x-amz-request-id") or "") or None
    if request_id:
        message += f" (request ID {request_id})"
    response = ErrorResponse(status_code, plain, text)
    error = cls(message, method=method, url=where, status_code=status_code, request_id=request_id, response=response)
    error.hint = hint or usual_hint or None
    error.code = _code(text)
    if isinstance(error, RateLimitError):
        error.retry_after = retry_after
    return error


def is_web_page(text: str, content_type: str = "") -> bool:
    """Return whether a body is an HTML page."""
    start = text.lstrip()[:200].lower()
    return start.startswith(("<!doctype html", "<html")) or ("html" in content_type.lower() and start[:1] == "<")


def server_words(text: str, content_type: str = "") -> str:
    """Extract the message from a server's error body: JSON, S3-style XML, HTML or text; ``""`` if there is none."""
    words = text.strip()
    if words.startswith(("{", "[")):
        words = _words_in_json(words) or words
    elif "<Code>" in words:
        found = re.findall(r"<(?:Code|Message)>([^<]*)</", words)
        words = ": ".join(part.strip() for part in found[:2]) or words
    elif words and (words[0] == "<" or "html" in content_type):
        title = re.search(r"(?is)<title[^>]*>(.*?)</title>", words[:_MAX_SEARCHED])
        words = "an HTML page" + (f" titled {title[1].strip()!r}" if title else "")
    return _cut(printable(" ".join(words.split())))


def shown(value: object) -> str:
    """Return an invalid argument for a message: the start of its ``repr``."""
    try:
        return _cut(repr(value))
    except Exception:
        # For example, repr of an integer with thousands of digits.
        return f"a value of type {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 3] + "..."


def printable(text: str) -> str:
    """Replace characters that could control a terminal."""
    return "".join(ch if ch.isprintable() else "\ufffd" for ch in text)


def _error_in_json(text: str) -> dict[str, Any]:
    """Return the members of a JSON body and of its ``error``; empty if the body is not an object."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return {}
    return {**body, **body["error"]} if isinstance(body.get("error"), dict) else body


def _code(text: str) -> str | None:
    code = _error_in_json(text).get("code") if text.lstrip().startswith(("{", "[")) else None
    is_known = isinstance(code, (str, int)) and not isinstance(code, bool)
    return _cut(printable(str(code))) or None if is_known else None


def _words_in_json(text: str) -> str:
    body = _error_in_json(text)
    code = f" [{body['code']}]" if isinstance(body.get("code"), str) and body["code"] else ""
    found = (body.get(key) for key in ("message", "error", "detail", "title"))
    return next((f"{words}{code}" for words in found if isinstance(words, str) and words.strip()), "")
