"""The sentence and the exit code of each error, in the words of the command line."""

from __future__ import annotations

import re

from ..exceptions import (
    APIError,
    APITimeoutError,
    AuthenticationError,
    CFPlatformError,
    ConfigurationError,
    InvalidParameterError,
    OutageError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    WebhookVerificationError,
    server_words,
)

#: Exit codes: some items or the platform failed, the command was wrong, Ctrl-C, the reader of stdout went away.
FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141

#: What is said of each class of errors, and the exit code; the first line that fits is used. ``{words}`` stands for the
#: words of the error, ``{reason}`` for these without the request, ``{answer}`` for the status and the server message.
EXPLANATIONS: tuple[tuple[type[Exception], str, int], ...] = (
    (ConfigurationError, "{words}", USAGE),
    (InvalidParameterError, "{words}", USAGE),
    (AuthenticationError, "The key was refused ({answer}). Check --api-key or CF_API_KEY, and --base-url.", FAILED),
    (PermissionDeniedError, "The API key may not do this ({answer}). Check --project-id and --space-id.", FAILED),
    (RateLimitError, "Too many requests ({answer}). Wait a while, or use fewer --workers.", FAILED),
    (ServerError, "The platform had a fault ({answer}). Run the same command again later.", FAILED),
    (OutageError, "{reason} Run the same command again later, or wait longer with --patience.", FAILED),
    (APITimeoutError, "The platform did not answer in time. Run the same command again later.", FAILED),
    (CFPlatformError, "{words}", FAILED),
    (OSError, "{words}", FAILED),
    (Exception, "Unexpected {kind}: {words}. Run it with --debug and report what it shows.", FAILED),
)

#: What the library says of calls, said of commands.
_PHRASES = (
    (" to the call or to Client", ""),
    (", or pass allow_insecure_http=True if you are sure", ""),
    ("pass verify='path/to/ca.pem' or set", "set"),
    ("Check proxies= and the proxy variables", "Check the proxy variables"),
    ("; run the same call again to fetch the rest, or pass a larger patience.", "."),
    (" (patience)", ""),
    ("Or check proxies= and the variables", "Or check the variables"),
    ("the same call again", "the same command again"),
    ("status must be a text such as 'COMPLETED', or None", "--status must be a text such as 'COMPLETED', or 'any'"),
    ("Wait for it with wait_for_export(), or pass wait_for_running=True", "Wait for it with --wait-for-running"),
    ("Leave out wait=False", "Leave out --no-wait"),
    ("or pass a longer timeout", "or pass a longer --timeout"),
    ("get_batch(name=...) finds the batch that has it", "'cfplatform batches' lists the batch that has it"),
    ("tolerance= allows more", "--tolerance allows more"),
    ("pass keys=...", "pass --jwks"),
)
_WAIT_AGAIN = re.compile(r"call wait_for_export\('([^']*)'\) again")
_VALUE = re.compile(r"\b(format|content)='(\w+)'")
_ARGUMENT = re.compile(
    r"\b(?:[Tt]he )?(api_key|base_url|project_id|space_id|max_workers|batch_ids?|work_item_ids|created_at_from|"
    r"created_at_to|updated_at_from|updated_at_to|max_items|poll_interval|asset_type|content_type|jwks_url)\b"
    r"(?: argument|=\.\.\.)?"
)
#: Arguments whose names are words of English too, which therefore count only where a message begins with them.
_FIRST_WORDS = {
    "asset_url": "ASSET_URL",
    "content": "--content",
    "export_id": "EXPORT_ID",
    "format": "--format",
    "keys": "--jwks",
    "metadata": "--metadata",
    "method": "METHOD",
    "name": "NAME",
    "output": "OUTPUT",
    "output_folder": "OUTPUT",
    "parts": "--part",
    "path": "PATH",
    "project_ids": "--project",
    "source": "SOURCE",
    "timeout": "--timeout",
    "tolerance": "--tolerance",
    "work_item_id": "ITEM_ID",
}
_FIRST_WORD = re.compile(rf"^(?:{'|'.join(_FIRST_WORDS)})(?=:| (?:must|is|has|cannot)\b)")
_OF_ARGUMENTS = (ConfigurationError, InvalidParameterError, WebhookVerificationError, Warning)
#: Options that are not spelled as their argument.
_SPELLINGS = {"asset_type": "--type", "max_items": "--max-items"}


def words(error: BaseException) -> str:
    """Return what an error says, in the words of the command line."""
    if isinstance(error, OSError) and not isinstance(error, CFPlatformError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}." if error.filename else f"{error.strerror}."
    text = str(error)
    for phrase, replacement in _PHRASES:
        text = text.replace(phrase, replacement)
    text = _WAIT_AGAIN.sub(r"run 'cfplatform exports wait \1' again", text)
    if isinstance(error, _OF_ARGUMENTS):
        text = _FIRST_WORD.sub(lambda found: _FIRST_WORDS[found.group()], text)
        text = _VALUE.sub(r"--\1 \2", text)
        text = _ARGUMENT.sub(lambda found: _option(found.group(1)), text)
    return text


def reason(error: CFPlatformError) -> str:
    """Return what an error says, without the request that it speaks of."""
    text = words(error)
    for prefix in (f"{error.method} {error.url} failed with ", f"{error.method} {error.url}: "):
        text = text.removeprefix(prefix)
    return text


def _option(argument: str) -> str:
    """Return the option that stands for an argument, such as --created-from for created_at_from."""
    name = argument.removeprefix("max_").replace("_at_", "_").replace("_ids", "_id")
    return _SPELLINGS.get(argument, f"--{name.replace('_', '-')}")


def explain(error: Exception) -> tuple[str, int]:
    """Return the sentence for an error, and the exit code."""
    sentence, code = next((sentence, code) for kind, sentence, code in EXPLANATIONS if isinstance(error, kind))
    said = reason(error) if isinstance(error, CFPlatformError) else words(error)
    return sentence.format(words=words(error), reason=said, answer=_answer(error), kind=type(error).__name__), code


def _answer(error: Exception) -> str:
    if not isinstance(error, APIError) or error.response is None:
        return ""
    said = server_words(error.response.text, error.response.headers.get("content-type", ""))
    parts = (f"status {error.status_code}", said, f"request id {error.request_id}" if error.request_id else "")
    return ", ".join(filter(None, parts))
