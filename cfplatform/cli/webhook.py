"""``cfplatform webhook``: deliveries that were written down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

import click

from ..console import FAILED, Output, words
from ..exceptions import WebhookVerificationError
from .common import Options, connected, given, moment, text, with_output
from .groups import Group

_TIMESTAMP = "x-payload-timestamp"


@click.group(cls=Group)
def webhook() -> None:
    """Check deliveries of webhooks.

    \b
    Examples:
      cfplatform webhook verify --body body.json --headers headers.txt
    """


class _Headers:
    """Headers in their order, with those that are there twice."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = list(pairs)

    def items(self) -> list[tuple[str, Any]]:
        """Return them."""
        return self._pairs


@webhook.command()
@click.option("--body", type=click.File("rb"), required=True, help='The raw body of the request; "-" reads stdin.')
@click.option("--headers", type=click.File("rb"), required=True, help="Its headers, as lines or as a JSON object.")
@click.option("--jwks-url", metavar="URL", help="Where the keys are, if not at the API.")
@click.option("--jwks", type=click.File("rb"), metavar="FILE", help="The keys; then nothing is fetched.")
@click.option("--tolerance", type=float, metavar="SECONDS", help="How old it may be.  [default: 300]")
@click.option("--any-age", is_flag=True, help="Accept it however old it is; for deliveries that were kept.")
@connected("base_url")
@with_output
def verify(
    output: Output,
    connection: Options,
    body: BinaryIO,
    headers: BinaryIO,
    jwks_url: str | None,
    jwks: BinaryIO | None,
    tolerance: float | None,
    any_age: bool,
) -> int:
    """Verify a delivery that was written down.

    Proves that the platform signed it and that it is fresh, and prints the event: on a terminal a field a line; into a
    pipe as a tab-separated line of work item, status and time of delivery; with --json as the body. The exit code is 1
    if it is refused. The headers are lines such as "X-Payload-Key-Id: ..." or one JSON object.

    The keys are those of the API, from --jwks-url, or from a file. It needs no API key.

    \b
    Examples:
      cfplatform webhook verify --body body.json --headers headers.txt
      cfplatform webhook verify --body - --headers headers.json --json < body.json
      cfplatform webhook verify --body old.json --headers old.txt \\
          --jwks keys.json --any-age
    """
    from ..webhooks import WebhookEvent, WebhookVerifier

    if jwks is not None and jwks_url is not None:
        raise click.UsageError("--jwks and --jwks-url exclude each other.")
    if any_age and tolerance is not None:
        raise click.UsageError("--any-age and --tolerance exclude each other.")
    if body.name == headers.name:
        raise click.UsageError("--body and --headers must be two files.")
    read = _Headers(_parsed(headers.read()))
    options = given(jwks_url=jwks_url, tolerance=tolerance)
    if jwks is not None:
        options["keys"] = _key_set(jwks.read())
    elif jwks_url is None:
        options.update(connection)
    if any_age:
        # As old as it says itself: its signature is checked all the same.
        sent_at = _sent_at(read)
        options["clock"] = lambda: sent_at
    verifier = WebhookVerifier(**options)
    try:
        event: WebhookEvent = verifier.verify(body.read(), read)
    except WebhookVerificationError as error:
        output.error(f"{words(error)} [{error.reason}]")
        return FAILED
    if any_age:
        output.note("Its age was not checked.")
    fields = [
        ("Work item", event.work_item_id),
        ("Status", event.status),
        ("Type", text(event.asset_type)),
        ("Asset", text(event.asset_url)),
        ("Created (UTC)", moment(event.created_at, True)),
        ("Updated (UTC)", moment(event.updated_at, True)),
        ("Sent (UTC)", moment(event.delivered_at, True)),
        ("Key", event.key_id),
        ("Delivery", event.delivery_id),
    ]
    output.record(event, fields, (event.work_item_id, event.status, moment(event.delivered_at, False)))
    return 0


def _parsed(data: bytes) -> list[tuple[str, Any]]:
    """Read headers as they were written down: one JSON object, or a line each below an optional request line."""
    written = data.decode("utf-8", "replace").removeprefix("\ufeff")
    if written.lstrip().startswith("{"):
        try:
            pairs = json.loads(written, object_pairs_hook=list)
        except (ValueError, RecursionError):
            raise click.UsageError("The file of --headers begins as a JSON object, but is none.") from None
        return [(str(name), value) for name, value in pairs]
    found: list[tuple[str, Any]] = []
    for number, line in enumerate(written.splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip() or (number == 1 and line.rpartition(" ")[2].startswith("HTTP/")):
            continue
        if not colon or not name.strip():
            raise click.UsageError(f"Line {number} of --headers is no 'Name: value'.")
        found.append((name.strip(), value.strip()))
    return found


def _key_set(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise click.UsageError("The file of --jwks is not JSON.") from None


def _sent_at(headers: _Headers) -> float:
    """Return the time of sending that the headers name; 0 where they name none, which the verifier then says."""
    for name, value in headers.items():
        if name.lower() == _TIMESTAMP and isinstance(value, str) and value.isascii() and value.isdigit():
            return float(value[:11])
    return 0.0
