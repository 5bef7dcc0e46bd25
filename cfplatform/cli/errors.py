"""Errors on the command line: a sentence with the options of the command, and an exit code."""

from __future__ import annotations

import http
import re
from urllib.parse import unquote, urlsplit

import click

from ..exceptions import (
    APIError,
    APITimeoutError,
    AuthenticationError,
    CFPlatformError,
    ConfigurationError,
    ExportTimeoutError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    OutageError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    server_words,
)

#: Exit codes: some items or the platform failed, the command was wrong, Ctrl-C, the reader of stdout is gone, and
#: SIGTERM.
FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143

#: The sentence and the exit code for each class of errors; the first line that matches is used. ``{words}`` is the
#: message with its advice, ``{reason}`` the same without the request, ``{message}`` the message alone, ``{response}``
#: the status and the server message.
EXPLANATIONS: tuple[tuple[type[Exception], str, int], ...] = (
    (ConfigurationError, "{words}", USAGE),
    (InvalidParameterError, "{words}", USAGE),
    (AuthenticationError, "API key rejected ({response}). Check --api-key or CF_API_KEY, and --base-url.", FAILED),
    (PermissionDeniedError, "Permission denied ({response}). Check --project-id, --space-id and the API key.", FAILED),
    (RateLimitError, "Too many requests ({response}). Try again later, or lower --max-workers.", FAILED),
    (ServerError, "The platform failed ({response}). Run the same command again later.", FAILED),
    (OutageError, "{reason}", FAILED),
    (APITimeoutError, "The platform did not respond in time. Run the same command again later.", FAILED),
    (
        ExportTimeoutError,
        "{message} Run 'cfplatform exports wait {export}' again, or pass a longer --timeout.",
        FAILED,
    ),
    (CFPlatformError, "{words}", FAILED),
    (OSError, "{words}", FAILED),
    (Exception, "Unexpected {kind}: {words}. Run the command with --debug and report the output.", FAILED),
)

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
#: Advice for each parameter, in place of the hint of the error, which is for Python.
HINTS = {
    "allow_private_storage": "Set CF_ALLOW_PRIVATE_STORAGE=1 if the storage is your own.",
    "api_key": "Pass --api-key or set CF_API_KEY.",
    "base_url": "Use https.",
    "by": "Read the downloaded folder, or pass --by item.",
    "content": "Pass --format JSON or --format CSV.",
    "keys": "Pass --jwks to read the keys from a file.",
    "name": "'cfplatform batches' lists the existing batches.",
    "patience": "Run the same command again later, or raise --patience.",
    "project_id": "Pass --project-id or set CF_PROJECT_ID.",
    "proxies": "Check the proxy variables.",
    "space_id": "Pass --space-id or set CF_SPACE_ID.",
    "state": "Pass --state FOLDER, the same folder each time.",
    "status": 'Pass "any" for every status.',
    "timeout": "Try again later.",
    "tolerance": "Raise the limit with --tolerance.",
    "verify": "Behind a proxy with a custom CA, set REQUESTS_CA_BUNDLE.",
    "wait": "Omit --no-wait, or try again later.",
    "wait_for_running": "Wait for it with --wait-for-running.",
}


def option(parameter: str) -> str:
    """Return the option or argument of the running command that sets a parameter of the library.

    A command names them as the library does. A trailing underscore avoids a name that has another meaning there.
    """
    context = click.get_current_context(silent=True)
    for each in context.command.params if context else ():
        if (each.name or "").rstrip("_") == parameter:
            return max(each.opts, key=len) if isinstance(each, click.Option) else metavar(each)
    return parameter


def metavar(argument: click.Parameter) -> str:
    """Return the name of an argument in the help, such as OUTPUT."""
    return (argument.metavar or (argument.name or "").upper()).strip("[]_.")


def message(error: BaseException) -> str:
    """Return what failed, without advice."""
    if not isinstance(error, CFPlatformError):
        if isinstance(error, OSError) and error.strerror:
            return f"{error.strerror}: {error.filename!r}." if error.filename else f"{error.strerror}."
        return str(error)
    # A message that names its parameter begins with it.
    if error.parameter and error.message.startswith(error.parameter):
        return option(error.parameter) + error.message.removeprefix(error.parameter)
    return error.message


def words(error: BaseException) -> str:
    """Return what failed and what to do."""
    advice = hint(error) if isinstance(error, CFPlatformError) else None
    return f"{message(error)} {advice}" if advice else message(error)


def hint(error: CFPlatformError) -> str | None:
    """Return what to do, in terms of the command line."""
    missing = _missing(error) if isinstance(error, (NotFoundError, InvalidResponseError)) else None
    return missing or (error.hint and HINTS.get(error.parameter or "", error.hint))


def _missing(error: CFPlatformError) -> str | None:
    """Return advice about an object that was not found, by the path of the request."""
    parts = urlsplit(error.url or "")
    start, found, rest = parts.path.partition("/api/v1/")
    if not parts.netloc or error.method is None or (error.status_code or 200) not in (200, 404):
        return None
    if not found:
        return _outside_api(f"{parts.scheme}://{parts.netloc}", start)
    if error.status_code != 404:
        return None
    if "an HTML page" in error.message:
        return "The response is a web page: check --base-url and the proxy."
    match [unquote(each) for each in rest.split("/")]:
        case ["projects", _, "workItems", item, "annotations"]:
            return f"Only completed items have annotations: 'cfplatform work-items get {item}' shows its status."
        case ["projects", project, "workItems" | "batches"] if error.method == "GET":
            return _check_id("project", project)
        case ["projects", project, "batches", _]:
            return f"'cfplatform batches' lists the batches of the project. {_check_id('project', project)}"
        case ["spaces", space, "exports", _]:
            return f"'cfplatform exports' lists the exports of the space. {_check_id('space', space)}"
        case ["spaces", space, *_]:
            return _check_id("space", space)
    return None


def _outside_api(server: str, path: str) -> str:
    """Return advice about a path without ``/api/v1``."""
    if path.startswith("/_sandbox/work-items/"):
        return "ITEM is an ID or an index: 'cfplatform work-items --status any' lists the items of the sandbox."
    base = f"{server}{re.split('/(?:projects|spaces)/', path)[0].rstrip('/')}"
    # The base URL may have a part of it, or another version.
    url = f"{re.sub('/api(/v[0-9]+)?$', '', base)}/api/v1"
    return f"The base URL has no /api/v1: set CF_PLATFORM_BASE_URL or --base-url to {url}, unless it is a gateway."


def _check_id(kind: str, value: str) -> str:
    setting = f"--{kind}-id or CF_{kind.upper()}_ID"
    return f"Check {setting}, which is {value!r}, and that the API key belongs to the account of this {kind}."


def without_request(error: CFPlatformError, text: str) -> str:
    """Return a message without the request that it begins with."""
    for prefix in (f"{error.method} {error.url} failed with ", f"{error.method} {error.url}: "):
        text = text.removeprefix(prefix)
    return text


def reason(error: CFPlatformError) -> str:
    """Return what failed and what to do, without the request."""
    return without_request(error, words(error))


def cause(error: CFPlatformError) -> str:
    """Return what failed, the same for all requests that fail alike: without the request and its ID."""
    text = without_request(error, message(error)).removesuffix(f" (request ID {error.request_id})")
    number = f"status {error.status_code}"
    if error.status_code in _PHRASES and text.startswith(number):
        text = f"{error.status_code} {_PHRASES[error.status_code]}{text.removeprefix(number)}"
    return text


def explain(error: Exception) -> tuple[str, int]:
    """Return the sentence and the exit code for an error."""
    sentence, code = next((sentence, code) for kind, sentence, code in EXPLANATIONS if isinstance(error, kind))
    values = {
        "words": words(error),
        "reason": reason(error) if isinstance(error, CFPlatformError) else "",
        "message": message(error),
        "response": _response(error),
        "export": getattr(getattr(error, "export", None), "id", "EXPORT_ID"),
        "kind": type(error).__name__,
    }
    return sentence.format(**values), code


def _response(error: Exception) -> str:
    if not isinstance(error, APIError) or error.response is None:
        return ""
    detail = server_words(error.response.text, error.response.headers.get("content-type", ""))
    parts = (f"status {error.status_code}", detail, f"request ID {error.request_id}" if error.request_id else "")
    return ", ".join(filter(None, parts))
