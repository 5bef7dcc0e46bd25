"""``cfplatform request``, ``webhook`` and ``completion``: tools for scripts and integrations."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from email.message import Message
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.shell_completion import ShellComplete, get_completion_class

from ..exceptions import WebhookVerificationError
from .common import Options, Output, connected, given, opened, with_output
from .errors import FAILED, words
from .groups import Group, command
from .options import OUTPUT, option, usual
from .text import cell, moment

if TYPE_CHECKING:
    import requests

#: Shells that can complete commands.
SHELLS = ("bash", "fish", "zsh")
_TIMESTAMP = "x-payload-timestamp"
#: The statuses of responses to rejected deliveries: 503 requests another attempt, the others are final.
_RESPONSES = {"too_large": 413, "keys_unavailable": 503, "replayed": 204}
#: Seconds that a command for an event may take.
EXEC_TIMEOUT = 600.0


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    sign = "=" if parameter.name == "params" else ":"
    found = []
    for value in values:
        name, separator, rest = value.partition(sign)
        if not separator or not name.strip():
            raise click.BadParameter(f"{value!r} must have the form {parameter.metavar}.")
        found.append((name.strip(), rest.strip() if sign == ":" else rest))
    return found


def _body(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read the body from the option or from a file."""
    if value is None:
        return None
    text = value
    if value.startswith("@"):
        try:
            with click.open_file(value[1:], encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise click.BadParameter(f"{value[1:]!r} cannot be read: {reason}.") from None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not valid JSON: {error}.") from None
    if parsed is None:
        raise click.BadParameter("null is not a body; omit the option to send none.")
    return parsed


@command()
@click.argument("method")
@click.argument("path")
@option("--param", "params", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Query parameter (repeatable).")
@option("--json-body", "json_", metavar="TEXT|@FILE", callback=_body, help="JSON body to send; @- reads it from stdin.")
@option("--header", "headers", multiple=True, metavar="NAME:VALUE", callback=_pairs, help="Header (repeatable).")
@option("--include", is_flag=True, section=OUTPUT, help="Print the status and headers of the response too.")
@connected("api_key", "base_url")
@with_output
def request(
    output: Output,
    connection: Options,
    method: str,
    path: str,
    params: list[tuple[str, str]],
    json_: Any,
    headers: list[tuple[str, str]],
    include: bool,
) -> int:
    """Send any request to the API, and print the response body.

    PATH is relative to the base URL. Redirects are not followed. GET and HEAD are retried after transient errors. The
    body is indented on a terminal, unchanged in a pipe, and one line with --json. For an error status the body is
    printed too, and the exit code is 1. The API key is sent, but never printed.

    \b
    Examples:
      cfplatform request GET /projects/$CF_PROJECT_ID/batches --param limit=5
      cfplatform request POST /projects/$CF_PROJECT_ID/batches \\
          --json-body '{"name": "Spring"}'
      cfplatform request POST /spaces/$CF_SPACE_ID/signedurls \\
          --json-body @paths.json --include
    """
    with opened(output, connection) as client:
        response = client.request(method, path, params=params or None, json=json_, headers=dict(headers), check=False)
    _show_response(output, response, secret_of(connection), include)
    if 200 <= response.status_code < 300:
        return 0
    output.error(f"The platform responded with status {response.status_code}.")
    return FAILED


def _show_response(output: Output, response: requests.Response, secret: str, include: bool) -> None:
    headers = {name: without_secret(secret, value) for name, value in response.headers.items()}
    content = without_secret(secret, response.content)
    if output.as_json:
        body = _json_or_text(content)
        shown = {"status": response.status_code, "headers": headers, "body": body} if include else body
        if include or content:
            output.json_line(shown)
        return
    if include:
        for line in (f"Status: {response.status_code}", *(f"{name}: {value}" for name, value in headers.items()), ""):
            output.line(line)
    if output.tables:
        _show_on_terminal(output, content, headers)
    else:
        # As served: the reader of a pipe may compare or parse it.
        sys.stdout.flush()
        sys.stdout.buffer.write(content)


def _show_on_terminal(output: Output, content: bytes, headers: dict[str, str]) -> None:
    body = _json_or_text(content)
    if not isinstance(body, str):
        content = json.dumps(body, indent=2, ensure_ascii=False).encode()
    elif b"\0" in content:
        kind = headers.get("Content-Type", "no content type")
        output.note(f"The response is {len(content):,} bytes ({kind}); redirect stdout to a file to keep them.")
        return
    for line in content.decode("utf-8", "replace").splitlines():
        output.line(line)


def _json_or_text(content: bytes) -> Any:
    """Return the body parsed as JSON, or as text if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")


def secret_of(connection: Options) -> str:
    """Return the key, which must not be printed; empty if there is none."""
    given: str | None = connection["api_key"]
    return (given or os.environ.get("CF_API_KEY", "")).strip()


def without_secret(secret: str, shown: Any) -> Any:
    """Remove the key from a response that repeats it."""
    if not secret:
        return shown
    spellings = {secret, json.dumps(secret)[1:-1]}
    for each in spellings:
        shown = shown.replace(each.encode(), b"***") if isinstance(shown, bytes) else shown.replace(each, "***")
    return shown


@click.group(cls=Group)
def webhook() -> None:
    """Receive and verify webhooks.

    \b
    Examples:
      cfplatform webhook listen --port 8000
      cfplatform webhook verify --body body.json --headers headers.txt
    """


_jwks_url = option("--jwks-url", metavar="URL", help="URL of the keys (default: the platform's).")
_jwks = option("--jwks", "keys", type=click.File("rb"), metavar="FILE", help="File with the keys, in place of a URL.")
_tolerance = option("--tolerance", type=float, metavar="SECONDS", help="Maximum age of a delivery.  [default: 300]")


def _verifying(connection: Options, jwks_url: str | None, keys: BinaryIO | None, tolerance: float | None) -> Options:
    """Return the options of a verifier."""
    if keys is not None and jwks_url is not None:
        raise click.UsageError("--jwks and --jwks-url exclude each other.")
    options = given(jwks_url=jwks_url, tolerance=tolerance)
    if keys is not None:
        options["keys"] = _key_set(keys.read())
    elif jwks_url is None:
        options.update(connection)
    return options


def _command(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | str | None:
    """Read a command that is run without a shell."""
    if value is None or sys.platform == "win32":
        # Windows takes a command line as it is.
        return value
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a command: {error}.") from None
    if not words or shutil.which(words[0]) is None:
        raise click.BadParameter(f"Command not found: {(words or [''])[0]!r}.")
    return words


@webhook.command()
@usual("--port", type=click.IntRange(0, 65_535), default=8000, help="Port to listen on; 0 for a free one.")
@usual("--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen on.")
@option("--exec", "command", metavar="COMMAND", callback=_command, help="Command to run for each event.")
@_jwks_url
@_jwks
@_tolerance
@connected("base_url")
@with_output
def listen(
    output: Output,
    connection: Options,
    port: int,
    host: str,
    command: list[str] | str | None,
    jwks_url: str | None,
    keys: BinaryIO | None,
    tolerance: float | None,
) -> int:
    """Receive webhooks on this machine, and print verified events.

    Prints the body of each verified delivery as a line of JSON. Rejected deliveries and duplicates are reported on
    stderr, with the reason. Ctrl-C stops it, after deliveries in progress are finished. Works without an API key.

    It serves plain HTTP on every path. Forward a public URL to it, through a tunnel or a proxy with TLS, and register
    that URL.

    --exec runs a command for each event, without a shell. The command reads the line of JSON from stdin; its output
    goes to stderr. If it fails, or takes more than ten minutes, the response has status 500, and the platform can
    deliver the event again.

    \b
    Examples:
      cfplatform webhook listen
      cfplatform webhook listen --port 0 | jq -r .workItemID
      cfplatform webhook listen --exec "python3 handle.py"
    """
    from ..webhooks import RecentDeliveries, WebhookVerifier
    from .listening import Listener

    seen, lock = RecentDeliveries(), threading.Lock()
    verifier = WebhookVerifier(**_verifying(connection, jwks_url, keys, tolerance), seen=seen)

    def receive(body: bytes, headers: Message) -> int:
        try:
            event = verifier.verify(body, headers)
        except WebhookVerificationError as error:
            with lock:
                output.error(f"{words(error)} [{error.reason}]")
            return _RESPONSES.get(error.reason, 400)
        with lock:
            output.json_line(event.as_dict())
            sys.stdout.flush()
        problem = None if command is None else _failure(command, event.as_dict())
        if problem is None:
            return 204
        seen.forget(event.delivery_id)
        with lock:
            output.error(f"--exec {problem} for work item {event.work_item_id}.")
        return 500

    try:
        server = Listener(host, port, receive)
    except OSError as error:
        raise click.UsageError(f"Cannot listen on {host} port {port}: {error.strerror}. Pass another --port.") from None
    # SIGTERM ends it like Ctrl-C, and here neither is an error.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    output.note(f"Listening on {server.url}. Register a public URL that forwards to it. Press Ctrl-C to stop.")
    try:
        server.run()
    except KeyboardInterrupt:
        output.note("Stopped.")
    return 0


def _failure(command: list[str] | str, event: Mapping[str, Any]) -> str | None:
    """Run a command with an event on its stdin; return what failed."""
    line = json.dumps(event).encode() + b"\n"
    try:
        done = subprocess.run(  # noqa: S603 - the command of the user
            command, input=line, stdout=sys.stderr, timeout=EXEC_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {EXEC_TIMEOUT:g} s"
    except OSError as error:
        return f"could not be run ({error.strerror})"
    return f"failed with exit code {done.returncode}" if done.returncode else None


@webhook.command()
@option("--body", type=click.File("rb"), required=True, help='File with the raw body; "-" reads stdin.')
@option("--headers", type=click.File("rb"), required=True, help="File with the headers: lines, or a JSON object.")
@_jwks_url
@_jwks
@_tolerance
@option("--any-age", is_flag=True, help="Accept deliveries of any age.")
@connected("base_url")
@with_output
def verify(
    output: Output,
    connection: Options,
    body: BinaryIO,
    headers: BinaryIO,
    jwks_url: str | None,
    keys: BinaryIO | None,
    tolerance: float | None,
    any_age: bool,
) -> int:
    """Verify a saved delivery.

    Checks that the platform signed it recently, and prints the event: one field per line on a terminal; a tab-separated
    line of work item, status and delivery time in a pipe; the body with --json. The exit code is 1 if verification
    fails. The headers are lines such as "X-Payload-Key-Id: ..." or a JSON object.

    The keys are fetched from the platform or from --jwks-url, or read from the file --jwks. Works without an API key.

    \b
    Examples:
      cfplatform webhook verify --body body.json --headers headers.txt
      cfplatform webhook verify --body - --headers headers.json --json < body.json
      cfplatform webhook verify --body old.json --headers old.txt \\
          --jwks keys.json --any-age
    """
    from ..webhooks import WebhookEvent, WebhookVerifier

    options = _verifying(connection, jwks_url, keys, tolerance)
    if any_age and tolerance is not None:
        raise click.UsageError("--any-age and --tolerance exclude each other.")
    if body.name == headers.name:
        raise click.UsageError("--body and --headers must be different files.")
    # Unlike a dict it keeps a header that is there twice, which the verifier rejects.
    read = Message()
    for name, value in _read_headers(headers.read()):
        read[name] = value
    if any_age:
        # At its own time, which disables the age check: the signature is still checked.
        sent_at = _sent_at(read)
        options["clock"] = lambda: sent_at
    verifier = WebhookVerifier(**options)
    try:
        event: WebhookEvent = verifier.verify(body.read(), read)
    except WebhookVerificationError as error:
        output.error(f"{words(error)} [{error.reason}]")
        return FAILED
    if any_age:
        output.note("Age not checked.")
    fields = [
        ("Work item", event.work_item_id),
        ("Status", event.status),
        ("Type", cell(event.asset_type)),
        ("Asset", cell(event.asset_url)),
        ("Created (UTC)", moment(event.created_at, True)),
        ("Updated (UTC)", moment(event.updated_at, True)),
        ("Sent (UTC)", moment(event.delivered_at, True)),
        ("Key", event.key_id),
        ("Delivery", event.delivery_id),
    ]
    output.record(event, fields, (event.work_item_id, event.status, moment(event.delivered_at, False)))
    return 0


def _read_headers(data: bytes) -> list[tuple[str, Any]]:
    """Read saved headers: one JSON object, or one line each below an optional request line."""
    written = data.decode("utf-8", "replace").removeprefix("\ufeff")
    if written.lstrip().startswith("{"):
        try:
            pairs = json.loads(written, object_pairs_hook=list)
        except (ValueError, RecursionError):
            raise click.UsageError("The --headers file starts like a JSON object, but is not valid JSON.") from None
        return [(str(name), value) for name, value in pairs]
    found: list[tuple[str, Any]] = []
    for number, line in enumerate(written.splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip() or (number == 1 and line.rpartition(" ")[2].startswith("HTTP/")):
            continue
        if not colon or not name.strip():
            raise click.UsageError(f"Line {number} of the --headers file is not 'Name: value'.")
        found.append((name.strip(), value.strip()))
    return found


def _key_set(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise click.UsageError("The --jwks file is not valid JSON.") from None


def _sent_at(headers: Message) -> float:
    """Return the sending time in the headers; 0 if they have none, which the verifier then reports."""
    for name, value in headers.items():
        if name.lower() == _TIMESTAMP and isinstance(value, str) and value.isascii() and value.isdigit():
            return float(value[:11])
    return 0.0


@command()
@click.argument("shell", type=click.Choice(SHELLS))
@with_output
def completion(output: Output, shell: str) -> None:
    """Print a completion script for a shell.

    It completes commands, options, values and file names with the Tab key. Requires bash 4.4 or newer.

    \b
    Examples:
      cfplatform completion fish > ~/.config/fish/completions/cfplatform.fish
      eval "$(cfplatform completion bash)"     in ~/.bashrc
      eval "$(cfplatform completion zsh)"      in ~/.zshrc, below compinit
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell) or ShellComplete
    # The method of the class for bash would start a bash to see its version, which may not be that of the user.
    script = ShellComplete.source(kind(root.command, {}, "cfplatform", "_CFPLATFORM_COMPLETE"))
    if output.as_json:
        output.json_line({"shell": shell, "script": script})
        return
    for line in script.strip().splitlines():
        output.line(line)
