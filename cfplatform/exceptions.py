"""The errors of cfplatform: one family, so that one ``except`` can catch them all.

::

    CFPlatformError
    ├── ConfigurationError (ValueError)        a setting is missing or wrong; raised before any request
    ├── InvalidParameterError (ValueError)     an argument is wrong; raised before any request
    ├── TransportError                         no usable response arrived
    │   ├── APIConnectionError (ConnectionError)
    │   ├── APITimeoutError (TimeoutError)
    │   ├── OutageError                        the platform or the storage was down for longer than ``patience``
    │   └── InvalidResponseError (ValueError)  a response arrived that cannot be what was requested
    ├── APIError                               the server responded with an error status
    │   ├── BadRequestError                    400, 422
    │   ├── AuthenticationError                401
    │   ├── PermissionDeniedError              403 (also a PermissionError)
    │   ├── NotFoundError                      404 (also a LookupError)
    │   ├── ConflictError                      409
    │   ├── RateLimitError                     429; ``retry_after`` holds the seconds to wait
    │   └── ServerError                        5xx
    ├── DownloadError
    │   ├── UnsafePathError                    a name points outside the destination
    │   ├── IncompleteDownloadError            fewer or more bytes than announced, or another checksum
    │   ├── DestinationBusyError               another process is downloading into the folder
    │   └── DestinationError (OSError)         the destination is full, gone, read-only, refused, or cannot be reached
    ├── ExportError                            about an export; ``export`` is its last known state
    │   ├── ExportFailedError                  it failed on the platform
    │   └── ExportTimeoutError (TimeoutError)  it was not ready in time
    ├── UploadError                            a file cannot be uploaded: not readable, empty, or changed meanwhile
    └── WebhookVerificationError               a webhook delivery was refused; ``reason`` has the cause

Every error has the attributes of :class:`CFPlatformError`; what does not apply is ``None``. ``str(error)`` is the
message followed by the hint. None of them holds the API key or a signature, and all of them can be pickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: Maximum characters of a server message in an error message.
MAX_MESSAGE_LENGTH = 500
#: Characters of a web page that are searched for its title.
_MAX_SEARCHED = 4096

# Strings: re compiles and caches them at the first error, which keeps the import of the package fast.
# The name before the first "=" holds neither "?" nor "=", so that the search stays linear in any text.
_QUERY = r"\?[^\s'\"<>)\]?=]*=[^\s'\"<>)\]]*"
_SIGNED_VALUE = (
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|Signature(?:Provided)?|sig|"
    r"AWSAccessKeyId|X-API-Key)(\"?\s*[=:]\s*\"?|%3D|>)[^\s&\"'<>,]+"
)


def blank(text: str, secret: str | None = None) -> str:
    """Take query strings, signatures and, where given, the API key out of a text for people."""
    text = text.replace(secret, "***") if secret else text
    return re.sub(_SIGNED_VALUE, r"\1\2***", re.sub(_QUERY, "?...", text))


def blank_url(url: str) -> str:
    """Return a URL without query, fragment and user info."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/@]*@", "//", bare)


class ErrorResponse(NamedTuple):
    """A response as plain data: it holds no request, no connection and no credential.

    Attributes:
        status_code: The HTTP status.
        headers: Its headers, names in lower case.
        text: The start of the body, at most 64 KiB, with signatures blanked.
    """

    status_code: int
    headers: Mapping[str, str] = {}
    text: str = ""


class CFPlatformError(Exception):
    """Base of every error that cfplatform raises on purpose.

    Attributes:
        message: What failed. If it names the argument ``parameter``, it begins with that name.
        parameter: The name of the argument that is wrong, or that the hint advises to change.
        hint: What to do, in terms of Python. A program with another interface can show its own advice instead.
        method: The method of the request.
        url: The URL of the request, without its query.
        status_code: The status of the response.
        request_id: The ID that the server gave the request.
        code: The server's own code for the error, such as "NOT_FOUND": ``code`` or ``error.code`` of its JSON body.
        response: A plain copy of the response, an ``ErrorResponse``.
        cursor: Resumes a listing that failed: pass it as ``cursor=``.
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
    """A setting is missing or cannot be used: key, base URL, project, timeout, or a client that was closed."""


class InvalidParameterError(CFPlatformError, ValueError):
    """An argument was refused before any request was sent."""


class TransportError(CFPlatformError):
    """The request got no usable response."""


class APIConnectionError(TransportError, ConnectionError):
    """No connection could be made, or it broke before the response was complete."""


class APITimeoutError(TransportError, TimeoutError):
    """The server did not respond in time; see the ``timeout`` argument of the client."""


class OutageError(TransportError):
    """The platform or the storage was down for longer than ``patience``, which ends a run; what is finished is kept.

    ``status_code`` is that of the last response, ``None`` if there was none.
    """


class InvalidResponseError(TransportError, ValueError):
    """The response cannot be what was requested: not JSON, cut short, a redirect, or without its ``items``."""


class APIError(CFPlatformError):
    """The server responded with an error status that has no specific class."""


class BadRequestError(APIError):
    """400 or 422: the server refused the arguments."""


class AuthenticationError(APIError):
    """401: the API key is missing, wrong or expired."""


class PermissionDeniedError(APIError, PermissionError):
    """403: the API key is known but may not do this."""


class NotFoundError(APIError, LookupError):
    """404: there is no such object, or the API key cannot see it."""


class ConflictError(APIError):
    """409: the object already exists, or conflicts with another one."""


class RateLimitError(APIError):
    """429: too many requests. ``retry_after`` holds the seconds to wait, where the server sent them."""

    retry_after: float | None = None


class ServerError(APIError):
    """5xx: the platform failed; repeating has not helped."""


class DownloadError(CFPlatformError):
    """A download failed for a reason that no other class covers.

    Attributes:
        failures: For the error of :meth:`~cfplatform.DownloadSummary.raise_for_failures`, the failed results.
    """

    failures: Sequence[Any] = ()


class UnsafePathError(DownloadError):
    """A name from the server or a link on disk points outside the destination."""


class IncompleteDownloadError(DownloadError):
    """The bytes received are not those that the server announced: fewer, more, or with another checksum."""


class DestinationBusyError(DownloadError):
    """Another process is downloading into the same destination."""


class DestinationError(DownloadError, OSError):
    """The destination cannot be written, which ends the run: it is full, missing or read-only, or a store refuses.

    It is an ``OSError`` too; ``errno`` and ``strerror`` are those of the file system, ``None`` for a store.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**vars(self), "errno": self.errno, "strerror": self.strerror}


class ExportError(CFPlatformError):
    """Something about an export failed.

    Attributes:
        export: The last known state, an :class:`~cfplatform.Export`.
    """

    export: Any = None


class ExportFailedError(ExportError):
    """The platform reported that the export failed."""


class ExportTimeoutError(ExportError, TimeoutError):
    """The export was not ready in time; it continues on the platform, and you can wait for it again."""


class UploadError(CFPlatformError):
    """A file cannot be uploaded: it is not there, cannot be read, is empty, or changed while it was sent."""


class WebhookVerificationError(CFPlatformError):
    """A webhook delivery was refused; do not use its content.

    Attributes:
        reason: ``"malformed"`` (a header or the body is malformed), ``"too_large"``, ``"signature"``,
            ``"unknown_key"``, ``"keys_unavailable"`` (the keys could not be fetched), ``"expired"`` (sent too long
            ago, or in the future), ``"unexpected"`` (rejected by ``expected``) or ``"replayed"``.
    """

    reason: str = ""


#: Attributes that the state file keeps.
_KEPT = ("method", "url", "status_code", "request_id", "code", "parameter", "hint")


def to_dict(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data, for the state file."""
    message = error.message if isinstance(error, CFPlatformError) else str(error)
    return {"type": type(error).__name__, "message": message, **{name: getattr(error, name, None) for name in _KEPT}}


def from_dict(data: Mapping[str, Any]) -> CFPlatformError:
    """Rebuild an error from what :func:`to_dict` wrote; one of an unknown type becomes the base class."""
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
    403: (PermissionDeniedError, "The API key is not allowed to do this. Check the project and space ids."),
    404: (NotFoundError, "Check the ids, and that the API key belongs to the account that owns them."),
    409: (ConflictError, "It exists already or is in use. Look it up before you try again."),
    422: (BadRequestError, "Check the arguments."),
    429: (RateLimitError, "Wait and try again, or use fewer workers."),
}
#: Statuses that are not the platform's if the body is a web page: the platform responds in JSON.
WEB_PAGE_STATUSES = (401, 403, 407, 451)
_SERVER_ERROR_HINT = "The platform failed. Try again later; what is finished is kept."


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
    """Build the error of a response; ``body`` is its start.

    ``secret`` is the API key, which is blanked wherever the server repeats it; ``hint`` replaces the usual advice.
    """
    plain = {name.lower(): blank(value, secret) for name, value in headers.items()}
    text = blank(body[:65536].decode("utf-8", "replace"), secret)
    content_type = plain.get("content-type", "")
    fallback = (ServerError, _SERVER_ERROR_HINT) if status_code >= 500 else (APIError, "")
    cls, usual_hint = _BY_STATUS.get(status_code, fallback)
    if status_code in WEB_PAGE_STATUSES and is_web_page(text, content_type):
        cls = APIError
        hint = "This web page is not from the platform: it was sent by a proxy, firewall or gateway in between."
    words = server_words(text, content_type) or "the server gave no reason"
    where = blank_url(url)
    message = f"{method} {where} failed with status {status_code}: {words.rstrip('.')}."
    if retry_after is not None:
        message += f" The server requires a wait of {retry_after:g} s."
    request_id = printable(plain.get("x-request-id") or plain.get("x-amz-request-id") or "") or None
    if request_id:
        message += f" (request id {request_id})"
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
    """Return the form of a wrong argument in messages: the start of its ``repr``."""
    try:
        return _cut(repr(value))
    except Exception:
        # Such as that of a number with thousands of digits.
        return f"a value of type {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 3] + "..."


def printable(text: str) -> str:
    """Replace characters that could control a terminal."""
    return "".join(ch if ch.isprintable() else "\ufffd" for ch in text)


def _error_in_json(text: str) -> dict[str, Any]:
    """Return the members of a JSON body and of its ``error``; none where it is not an object."""
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
