"""``cfplatform work-items``, ``cfplatform count`` and ``cfplatform batches``."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from ..exceptions import CFPlatformError, NotFoundError, blank_url
from ..resources import Batch, WorkItem, WorkItemStatus
from ..resources.created import CreateResult
from ..resources.results import UploadedFile
from . import matching
from .common import (
    Options,
    Output,
    json_object,
    opened,
    resolved,
    with_connection,
    with_filters,
    with_output,
    with_patience,
    with_project,
    with_workers,
)
from .errors import FAILED, words
from .groups import DefaultGroup, command
from .matching import with_allow_empty
from .options import OUTPUT, completing, option, usual
from .progress import CREATE
from .text import Column, cell, listed, moment
from .transfers import NAMED_FAILURES, sentence, show_as_finished

#: Work items that a listing shows by default.
LISTED = 20

_COLUMNS = (
    Column("ID"),
    Column("Batch", right=True, optional=1),
    Column("Status"),
    Column("Type", optional=2),
    Column("Updated (UTC)", optional=3),
)


@click.group("work-items", cls=DefaultGroup, default="list")
def work_items() -> None:
    """List, show and create work items.

    "cfplatform work-items" is short for "cfplatform work-items list", and takes its options.

    \b
    Examples:
      cfplatform work-items
      cfplatform work-items list --help
      cfplatform work-items create assets/7b3ddb3e-9911-466b-b6f5-edc26ae4c1da
    """


@work_items.command("list")
@with_filters
@option(
    "--limit",
    type=click.IntRange(min=1),
    section=OUTPUT,
    help=f"Maximum number of results.  [default: {LISTED} on a terminal, else all]",
)
@option("--all", "everything", is_flag=True, section=OUTPUT, help="List everything, on a terminal too.")
@with_allow_empty
@with_connection
@with_output
def list_work_items(
    output: Output,
    connection: Options,
    filters: Options,
    limit: int | None,
    everything: bool,
    allow_empty: bool,
) -> int:
    """List work items.

    Prints ID, batch, status, type and last change: a table on a terminal, in UTC, with fewer columns if it is narrow;
    tab-separated lines without a header in a pipe; the platform's JSON objects, one per line, with --json.

    TIME is a date, a date and time, or a relative time such as yesterday, 3h or 2d.

    \b
    Examples:
      cfplatform work-items
      cfplatform work-items --status any | cut -f 3 | sort | uniq -c
      cfplatform work-items --work-item-ids ids.txt
      cfplatform work-items --batch-id 1001 --json | jq .assetUrl
    """
    if everything and limit is not None:
        raise click.UsageError("--all and --limit exclude each other.")
    if limit is None and output.tables and not everything:
        limit = LISTED
    shown = 0

    def counted(items: Iterable[WorkItem]) -> Iterator[WorkItem]:
        nonlocal shown
        for item in items:
            shown += 1
            yield item

    with opened(output, connection) as client:
        # One more than is listed, to know whether there are more.
        items = client.get_work_items(limit=limit and limit + 1, **resolved(filters))
        first = next(items, None)
        if first is not None:
            output.listing(_COLUMNS, counted(itertools.islice(itertools.chain([first], items), limit)), _row)
        if limit is not None and next(items, None) is not None:
            output.note(f"Showing the first {limit}; --all lists all.")
            return 0
        return matching.check(output, client, filters, shown, allow_empty=allow_empty)


@work_items.command()
@click.argument("work_item_id", metavar="ITEM_ID")
@with_project
@with_output
def get(output: Output, connection: Options, work_item_id: str) -> None:
    """Show one work item.

    Prints one field per line on a terminal; the line of "work-items list" in a pipe; the platform's JSON object with
    --json.

    \b
    Examples:
      cfplatform work-items get c2fe4a5d-ae6e-4005-8845-d10c59218302
      cfplatform work-items get c2fe4a5d-ae6e-4005-8845-d10c59218302 --json
    """
    with opened(output, connection) as client:
        show(output, client.get_work_item(work_item_id))


@work_items.command()
@click.argument("work_item_id", metavar="ITEM_ID")
@with_project
@with_output
def annotation(output: Output, connection: Options, work_item_id: str) -> int:
    """Show the annotation of a work item.

    It contains the storage path of the COCO document, the file that "cfplatform download" saves. Only completed items
    have one. Prints one field per line on a terminal; a tab-separated line of work item and storage path in a pipe; the
    platform's JSON object with --json.

    \b
    Examples:
      cfplatform work-items annotation c2fe4a5d-ae6e-4005-8845-d10c59218302
      cfplatform work-items annotation c2fe4a5d-ae6e-4005-8845-d10c59218302 \\
          --json | jq .metadata
    """
    with opened(output, connection) as client:
        try:
            found = client.get_annotation(work_item_id)
        except NotFoundError:
            status: str | None = WorkItemStatus.COMPLETED
            with contextlib.suppress(CFPlatformError):
                status = matching.statuses(client, [work_item_id]).get(work_item_id.strip().lower())
            if status == WorkItemStatus.COMPLETED:
                raise
            reason = f"is {status}, and only completed items have annotations" if status else "is not in this project"
            output.error(f"Work item {work_item_id} {reason}.")
            return FAILED
    item, path = cell(found.work_item_id), cell(found.coco_results_url)
    output.record(
        found, [("Work item", item), ("Project", cell(found.project_id)), ("Annotations", path)], (item, path)
    )
    return 0


def _batch(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    return int(value) if value is not None and re.fullmatch("[+-]?[0-9]+", value.strip()) else value


@work_items.command()
@click.argument("asset_url", nargs=-1, required=True, metavar="ASSET...", shell_complete=completing("file"))
@option(
    "--asset-type",
    aliases=["--type"],
    metavar="TYPE",
    help='Such as "image" or "video" (default: the platform decides).',
)
@option(
    "--batch-id",
    aliases=["--batch"],
    metavar="ID",
    callback=_batch,
    help="Batch of the items, by ID (default: no batch).",
)
@option("--batch-name", metavar="NAME", help="Batch of the items, by name; created if it does not exist.")
@option("--metadata", metavar="JSON", callback=json_object, help="JSON object to store with each item.")
@option("--callback-url", metavar="URL", help="URL for webhooks about the items.")
@usual(
    "--journal",
    metavar="FILE",
    default=".cfplatform-created.jsonl",
    shell_complete=completing("file"),
    help="File that records created items, for local files and several assets.",
)
@with_workers(help="Maximum number of concurrent uploads, 1 to 256.")
@with_patience
@with_connection
@with_output
def create(
    output: Output,
    connection: Options,
    asset_url: tuple[str, ...],
    asset_type: str | None,
    batch_id: int | str | None,
    batch_name: str | None,
    metadata: dict[str, Any] | None,
    callback_url: str | None,
    journal: str,
    max_workers: int,
    patience: float,
) -> int:
    """Create work items for files or URLs.

    ASSET is a local file, which is uploaded first; a folder, for the files in it (without subfolders and hidden files);
    a URL that the platform can read; or a storage path printed by "cfplatform upload". The call to the platform is
    provisional: it is not publicly documented.

    The same command resumes after an interruption: nothing is uploaded or created twice, even if the process was
    killed. A changed file is a new asset. To create items for the same files again, pass another --journal.

    For a single URL or storage path, prints the item as "work-items get" does. Otherwise prints ID, batch and asset of
    each item, in the order given: a table on a terminal; tab-separated lines in a pipe; one object per line with
    --json, with an error for assets that failed. The exit code is 1 if any asset failed.

    \b
    Examples:
      cfplatform work-items create images/*.png --batch-name Spring
      cfplatform work-items create images --batch-id 1001 --metadata '{"camera": 7}'
      cfplatform work-items create images --json | jq -r '.item.id // empty'
      cfplatform work-items create https://example.com/a.jpg --asset-type image
      cfplatform work-items create "$(cfplatform upload a.jpg | cut -f 1)" \\
          --callback-url https://example.com/webhooks
    """
    if callback_url is not None:
        if metadata and "callbackUrl" in metadata:
            raise click.UsageError("--callback-url and callbackUrl in --metadata exclude each other.")
        metadata = {**(metadata or {}), "callbackUrl": callback_url}
    if batch_name is not None and batch_id is not None:
        raise click.UsageError("--batch-id and --batch-name exclude each other.")
    batch = batch_id if batch_name is None else batch_name
    with opened(output, connection, max_workers=max_workers, patience=patience) as client:
        first, *others = asset_url
        if others or _is_file(first):
            assets = [found for given in asset_url for found in _assets(given)]
            if not assets:
                raise click.UsageError(f"No files in {', '.join(map(repr, asset_url))}.")
            results = client.create_work_items(
                assets,
                batch=batch,
                asset_type=asset_type,
                metadata=metadata,
                journal=journal,
                progress=output.reporter(CREATE),
            )
            return _show_created(output, results, assets)
        if isinstance(batch, str):
            batch = client.create_batch(batch, exist_ok=True).id
        show(output, client.create_work_item(first, asset_type=asset_type, batch_id=batch, metadata=metadata))
        return 0


def _is_file(given: str) -> bool:
    """Return whether an asset is a local file; one that is misspelled must not become a work item as a storage path."""
    is_remote = "://" in given or given.startswith("assets/")
    return os.path.exists(given) or (not is_remote and (os.path.splitext(given)[1] != "" or given.endswith("/")))


def _assets(given: str) -> Sequence[str | UploadedFile]:
    """Return the files of a folder; any other asset as the library takes it."""
    if os.path.isdir(given):
        with os.scandir(given) as entries:
            return sorted(each.path for each in entries if each.is_file() and not each.name.startswith("."))
    is_stored = given.startswith("assets/") and not os.path.exists(given)
    return [UploadedFile(given, 0, "", None) if is_stored else given]


def _name(asset: object) -> str:
    return asset.path if isinstance(asset, UploadedFile) else str(asset)


class _Created(NamedTuple):
    """The result of one asset, as it is printed."""

    file: str
    result: CreateResult

    @property
    def error(self) -> CFPlatformError | None:
        return self.result.error

    def as_dict(self) -> dict[str, Any]:
        error = self.result.error
        return {**self.result.as_dict(), "error": words(error) if error else None}


_CREATED_COLUMNS = (Column("ID"), Column("Batch", right=True, optional=1), Column("Asset", flexible=True))


def _created_row(created: _Created, in_table: bool) -> Sequence[str]:
    item, asset = created.result.item, created.file
    # Of a long path the table would cut off the end, which distinguishes files.
    asset = blank_url(asset) if "://" in asset else os.path.basename(asset) if in_table else asset
    return cell(item and item.id), cell(item and item.batch_id), asset


def _show_created(output: Output, results: Generator[CreateResult, None, None], assets: Sequence[object]) -> int:
    created = existed = 0
    failed: list[str] = []

    def finished() -> Iterator[_Created]:
        nonlocal created, existed
        with contextlib.closing(results):
            for result in results:
                done = _Created(_name(result.asset), result)
                if result.error is not None:
                    failed.append(sentence(_created_row(done, False)[-1], words(result.error)))
                existed += result.existed
                created += result.ok and not result.existed
                yield done

    try:
        show_as_finished(output, _CREATED_COLUMNS, finished(), _created_row, [_name(each) for each in assets])
    except CFPlatformError:
        if created:
            output.note(f"{created:,} created, {existed:,} existed already. Run the same command again to resume.")
        raise
    if failed:
        named = [] if output.as_json else listed(failed[:NAMED_FAILURES], len(failed))
        share = f"{len(failed):,} of {len(assets):,}"
        output.error(f"{share} work items could not be created. Run the same command again to create them.", named)
        return FAILED
    output.note(f"{created:,} created, {existed:,} existed already. 'cfplatform work-items --status any' lists them.")
    return 0


@command()
@with_filters
@with_allow_empty
@with_connection
@with_output
def count(output: Output, connection: Options, filters: Options, allow_empty: bool) -> int:
    """Count work items.

    Counts the items that "cfplatform download" selects with the same filters. TIME is a date, a date and time, or a
    relative time such as yesterday, 3h or 2d. If a filter matches nothing, prints 0, and the exit code is 1.

    \b
    Examples:
      cfplatform count
      cfplatform count --status any
      cfplatform count --batch-name "Street scenes" --json
    """
    with opened(output, connection) as client:
        number = client.get_work_items_count(**resolved(filters))
        if output.as_json:
            output.json_line({"count": number})
        else:
            output.line(str(number))
        if number and output.tables and matching.has_default_status():
            output.note("Only COMPLETED items; --status any counts all.")
        return matching.check(output, client, filters, number, allow_empty=allow_empty)


def _row(item: WorkItem, in_table: bool) -> Sequence[str]:
    updated = moment(item.updated_at, in_table)
    return item.id, cell(item.batch_id), cell(item.status), cell(item.asset_type), updated


def show(output: Output, item: WorkItem) -> None:
    """Print one work item."""
    fields = [
        ("ID", item.id),
        ("Batch", cell(item.batch_id)),
        ("Status", cell(item.status)),
        ("Type", cell(item.asset_type)),
        ("Asset", cell(item.asset_url)),
        ("Created (UTC)", moment(item.created_at, True)),
        ("Updated (UTC)", moment(item.updated_at, True)),
        ("Metadata", json.dumps(item.metadata) if item.metadata else "-"),
    ]
    output.record(item, fields, _row(item, False))


_BATCH_COLUMNS = (
    Column("ID", right=True),
    Column("Name", flexible=True),
    Column("Completed", right=True),
    Column("Created (UTC)", optional=1),
    Column("Priority", right=True, optional=2),
)


@click.group(cls=DefaultGroup, default="list")
def batches() -> None:
    """List, create and rename batches.

    "cfplatform batches" is short for "cfplatform batches list", and takes its options.

    \b
    Examples:
      cfplatform batches
      cfplatform batches list --help
      cfplatform batches create Spring
    """


@batches.command("list")
@option("--limit", type=click.IntRange(1), section=OUTPUT, help="Maximum number of results.")
@with_connection
@with_output
def list_batches(output: Output, connection: Options, limit: int | None) -> None:
    """List the batches of a project.

    Prints ID, name, completed and total items, creation time and priority: a table on a terminal, in UTC, with fewer
    columns if it is narrow; tab-separated lines without a header in a pipe; the platform's JSON objects, one per line,
    with --json.

    \b
    Examples:
      cfplatform batches
      cfplatform batches | grep -i street
      cfplatform batches --json | jq 'select(.completedCount > 0) | .name'
    """
    with opened(output, connection) as client:
        output.listing(_BATCH_COLUMNS, client.get_batches(limit=limit), _batch_row)


@batches.command("create")
@click.argument("name")
@with_project
@with_output
def create_batch(output: Output, connection: Options, name: str) -> None:
    """Create a batch.

    NAME must be unique in the project. Prints the batch: one field per line on a terminal; a tab-separated line that
    starts with its ID in a pipe; the platform's JSON object with --json.

    \b
    Examples:
      cfplatform batches create Spring
      batch=$(cfplatform batches create "Night drive" | cut -f 1)
    """
    with opened(output, connection) as client:
        _show_batch(output, client.create_batch(name))


@batches.command("rename")
@click.argument("batch_id", type=click.IntRange(0))
@click.argument("name")
@with_project
@with_output
def rename_batch(output: Output, connection: Options, batch_id: int, name: str) -> None:
    """Rename a batch.

    Prints the batch as "batches create" does. The next download moves its downloaded annotations to a folder with the
    new name.

    \b
    Examples:
      cfplatform batches rename 1001 "Spring, checked"
    """
    with opened(output, connection) as client:
        _show_batch(output, client.update_batch(batch_id, name=name))


def _batch_row(batch: Batch, in_table: bool) -> Sequence[str]:
    completed = f"{cell(batch.completed_count)}/{cell(batch.total_count)}"
    return str(batch.id), cell(batch.name), completed, moment(batch.created_at, in_table), cell(batch.priority)


def _show_batch(output: Output, batch: Batch) -> None:
    # The response to creating or renaming has no counts.
    fields = [("ID", str(batch.id)), ("Name", cell(batch.name)), ("Created (UTC)", moment(batch.created_at, True))]
    output.record(batch, fields, _batch_row(batch, False))
