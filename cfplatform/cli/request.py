"""``cfplatform request``: any call of the API."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ..console import FAILED, Output
from .common import Options, connected, opened, with_output

if TYPE_CHECKING:
    import requests


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    sign = "=" if parameter.name == "params" else ":"
    found = []
    for value in values:
        name, separator, rest = value.partition(sign)
        if not separator or not name.strip():
            raise click.BadParameter(f"{value!r} is no {parameter.metavar}.")
        found.append((name.strip(), rest.strip() if sign == ":" else rest))
    return found


def _body(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read the body, which is the text itself or in a file."""
    if value is None:
        return None
    text = value
    if value.startswith("@"):
        try:
            with click.open_file(value[1:], encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise click.BadParameter(f"{value[1:]!r}: {reason}.") from None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"it is not JSON: {error}.") from None
    if parsed is None:
        raise click.BadParameter("null is no body; leave the option out to send none.")
    return parsed


@click.command()
@click.argument("method")
@click.argument("path")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Repeatable.")
@click.option("--json-body", metavar="TEXT|@FILE", callback=_body, help="A body to send as JSON; @- reads stdin.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", callback=_pairs, help="Repeatable.")
@click.option("--include", is_flag=True, help="Print the status and the headers of the answer too.")
@connected("api_key", "base_url")
@with_output
def request(
    output: Output,
    connection: Options,
    method: str,
    path: str,
    params: list[tuple[str, str]],
    json_body: Any,
    headers: list[tuple[str, str]],
    include: bool,
) -> int:
    """Send any request to the API, and print the body of the answer.

    PATH is relative to the base URL. Redirects are not followed. GET and HEAD are repeated after passing faults. The
    body is printed as served into a pipe, indented on a terminal, and with --json as one line. After an error status
    it is printed too, and the exit code is 1. The key is sent, and never printed.

    \b
    Examples:
      cfplatform request GET /projects/$CF_PROJECT_ID/batches --param limit=5
      cfplatform request POST /projects/$CF_PROJECT_ID/batches \\
          --json-body '{"name": "Spring"}'
      cfplatform request POST /spaces/$CF_SPACE_ID/signedurls \\
          --json-body @paths.json --include
    """
    with opened(output, connection) as client:
        answer = client.request(method, path, params=params or None, json=json_body, headers=dict(headers), check=False)
    _show(output, answer, secret_of(connection), include)
    if 200 <= answer.status_code < 300:
        return 0
    output.error(f"The platform answered with status {answer.status_code}.")
    return FAILED


def _show(output: Output, answer: requests.Response, secret: str, include: bool) -> None:
    headers = {name: without_secret(secret, value) for name, value in answer.headers.items()}
    content = without_secret(secret, answer.content)
    if output.as_json:
        body = _parsed(content)
        shown = {"status": answer.status_code, "headers": headers, "body": body} if include else body
        if include or content:
            output.json_line(shown)
        return
    if include:
        for line in (f"Status: {answer.status_code}", *(f"{name}: {value}" for name, value in headers.items()), ""):
            output.line(line)
    if output.tables:
        _show_on_terminal(output, content, headers)
    else:
        # As served: whoever reads this through a pipe may compare or parse it.
        sys.stdout.flush()
        sys.stdout.buffer.write(content)


def _show_on_terminal(output: Output, content: bytes, headers: dict[str, str]) -> None:
    body = _parsed(content)
    if not isinstance(body, str):
        content = json.dumps(body, indent=2, ensure_ascii=False).encode()
    elif b"\0" in content:
        kind = headers.get("Content-Type", "no content type")
        output.note(f"The answer is {len(content):,} bytes ({kind}); send them into a file to keep them.")
        return
    for line in content.decode("utf-8", "replace").splitlines():
        output.line(line)


def _parsed(content: bytes) -> Any:
    """Return the body as JSON, or as text if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")


def secret_of(connection: Options) -> str:
    """Return the key, which must not be printed; empty where there is none."""
    given: str | None = connection["api_key"]
    return (given or os.environ.get("CF_API_KEY", "")).strip()


def without_secret(secret: str, shown: Any) -> Any:
    """Take the key out of what a server repeats."""
    if not secret:
        return shown
    spellings = {secret, json.dumps(secret)[1:-1]}
    for each in spellings:
        shown = shown.replace(each.encode(), b"***") if isinstance(shown, bytes) else shown.replace(each, "***")
    return shown
