"""``cfplatform work-items`` and ``cfplatform count``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import click

from ..console import Column, Output
from ..resources import WorkItem
from .common import (
    Options,
    moment,
    opened,
    resolved,
    text,
    with_connection,
    with_filters,
    with_output,
    with_project,
)
from .groups import DefaultGroup

#: Work items that a listing shows unless it is told otherwise.
LISTED = 20

_COLUMNS = (
    Column("Id"),
    Column("Batch", right=True),
    Column("Status", flexible=True),
    Column("Type", flexible=True),
    Column("Updated (UTC)"),
)


@click.group("work-items", cls=DefaultGroup, default="list")
def work_items() -> None:
    """List, show and create work items.

    Without the name of a command the items are listed: "cfplatform work-items" means "cfplatform work-items list",
    and takes its options.

    \b
    Examples:
      cfplatform work-items
      cfplatform work-items list --help
      cfplatform work-items create assets/7b3ddb3e-9911-466b-b6f5-edc26ae4c1da
    """


@work_items.command("list")
@with_filters
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Show at most so many.  [default: {LISTED}, with --json all]"
)
@click.option("--all", "everything", is_flag=True, help="Show all of them.")
@with_connection
@with_output
def list_(output: Output, connection: Options, filters: Options, limit: int | None, everything: bool) -> None:
    """List work items.

    Shown are id, batch, status, type and the last change: on a terminal as a table, in UTC; into a pipe as
    tab-separated lines without a header; with --json as the platform's own objects, one a line. Times are ISO 8601
    with a time zone.

    \b
    Examples:
      cfplatform work-items
      cfplatform work-items --status any --all | cut -f 3 | sort | uniq -c
      cfplatform work-items --batch-id 1001 --json | jq .assetUrl
    """
    if everything and limit is not None:
        raise click.UsageError("--all and --limit exclude each other.")
    if limit is None and not (everything or output.as_json):
        limit = LISTED
    with opened(output, connection) as client:
        # One more than is shown tells whether there are more.
        items = client.get_work_items(max_items=limit and limit + 1, **resolved(client, filters))
        output.listing(_COLUMNS, itertools.islice(items, limit), _row)
        if limit is not None and next(items, None) is not None:
            output.note(f"These are the first {limit}; --all shows the others too.")


@work_items.command()
@click.argument("item_id")
@with_project
@with_output
def get(output: Output, connection: Options, item_id: str) -> None:
    """Show one work item.

    On a terminal a field a line; into a pipe the line that "work-items list" would have; with --json the platform's
    own object.

    \b
    Examples:
      cfplatform work-items get c2fe4a5d-ae6e-4005-8845-d10c59218302
      cfplatform work-items get c2fe4a5d-ae6e-4005-8845-d10c59218302 --json
    """
    with opened(output, connection) as client:
        show(output, client.get_work_item(item_id))


@work_items.command()
@click.argument("item_id")
@with_project
@with_output
def annotation(output: Output, connection: Options, item_id: str) -> None:
    """Show the annotation of a work item.

    It says where in the storage the COCO document is; "download" fetches that. On a terminal a field a line; into a
    pipe a tab-separated line of work item and place; with --json the platform's own object. Only completed items have
    one.

    \b
    Examples:
      cfplatform work-items annotation c2fe4a5d-ae6e-4005-8845-d10c59218302
      cfplatform work-items annotation c2fe4a5d-ae6e-4005-8845-d10c59218302 \\
          --json | jq .metadata
    """
    with opened(output, connection) as client:
        found = client.get_annotation(item_id)
    item, place = text(found.work_item_id), text(found.coco_results_url)
    output.record(found, [("Work item", item), ("Project", text(found.project_id)), ("Labels", place)], (item, place))


def _metadata(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise click.BadParameter("it must be a JSON object such as '{\"camera\": 7}'.")
    return parsed


@work_items.command()
@click.argument("asset_url")
@click.option("--type", "asset_type", help='Such as "image" or "video"; the platform decides if omitted.')
@click.option("--batch", "--batch-id", "batch_id", type=int, help="The id of its batch; none if omitted.")
@click.option("--metadata", metavar="JSON", callback=_metadata, help="A JSON object to keep with the item.")
@click.option("--callback-url", metavar="URL", help="Where webhooks about this item go.")
@with_project
@with_output
def create(
    output: Output,
    connection: Options,
    asset_url: str,
    asset_type: str | None,
    batch_id: int | None,
    metadata: dict[str, Any] | None,
    callback_url: str | None,
) -> None:
    """Create a work item of an asset.

    ASSET_URL is what "cfplatform upload" printed, or a URL that the platform can read. Prints the new item as
    "work-items get" does. The call is provisional: no published source shows it.

    \b
    Examples:
      cfplatform work-items create assets/7b3ddb3e-9911-466b-b6f5-edc26ae4c1da
      cfplatform work-items create https://example.com/a.jpg --type image
      cfplatform work-items create "$(cfplatform upload a.jpg | cut -f 1)" \\
          --batch 1001 --metadata '{"camera": 7}' \\
          --callback-url https://example.com/webhooks
    """
    if callback_url is not None:
        if metadata and "callbackUrl" in metadata:
            raise click.UsageError("--callback-url and callbackUrl in --metadata exclude each other.")
        metadata = {**(metadata or {}), "callbackUrl": callback_url}
    with opened(output, connection) as client:
        show(output, client.create_work_item(asset_url, asset_type=asset_type, batch_id=batch_id, metadata=metadata))


@click.command()
@with_filters
@with_connection
@with_output
def count(output: Output, connection: Options, filters: Options) -> None:
    """Count work items.

    Prints how many "cfplatform download" with the same options would look at. Times are ISO 8601 with a time zone.

    \b
    Examples:
      cfplatform count
      cfplatform count --status any
      cfplatform count --batch-name "Street scenes" --json
    """
    with opened(output, connection) as client:
        number = client.get_work_items_count(**resolved(client, filters))
    if output.as_json:
        output.json_line({"count": number})
    else:
        output.line(str(number))


def _row(item: WorkItem, in_table: bool) -> Sequence[str]:
    updated = moment(item.updated_at, in_table)
    return item.id, text(item.batch_id), text(item.status), text(item.asset_type), updated


def show(output: Output, item: WorkItem) -> None:
    """Print one work item."""
    fields = [
        ("Id", item.id),
        ("Batch", text(item.batch_id)),
        ("Status", text(item.status)),
        ("Type", text(item.asset_type)),
        ("Asset", text(item.asset_url)),
        ("Created (UTC)", moment(item.created_at, True)),
        ("Updated (UTC)", moment(item.updated_at, True)),
        ("Metadata", json.dumps(item.metadata) if item.metadata else "-"),
    ]
    output.record(item, fields, _row(item, False))
