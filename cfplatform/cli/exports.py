"""``cfplatform exports``."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..resources import Export, ExportContent, ExportFormat
from .common import Options, Output, given, opened, with_dates, with_output, with_patience, with_space
from .errors import FAILED
from .groups import DefaultGroup
from .options import OUTPUT, SELECTION, option
from .progress import ARCHIVE, WAIT
from .text import Column, cell, clean, moment

_format = functools.partial(
    option,
    "--format",
    "format_",
    type=click.Choice([member.value for member in ExportFormat], case_sensitive=False),
    metavar="|".join(ExportFormat),
)
_content = option(
    "--content",
    type=click.Choice([member.value for member in ExportContent], case_sensitive=False),
    metavar="|".join(ExportContent),
    help="Content; COCO_JSON supports only ANNOTATION.  [default: ANNOTATION]",
)
_timeout = option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Maximum time to wait.  [default: 3600]",
)
_poll_interval = option(
    "--poll-interval",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Maximum time between two polls.  [default: 5]",
)

_COLUMNS = (
    Column("ID"),
    Column("Name", flexible=True),
    Column("Status"),
    Column("Format", optional=2),
    Column("Content", optional=3),
    Column("Created (UTC)", optional=1),
)


@click.group(cls=DefaultGroup, default="list")
def exports() -> None:
    """Create, wait for and download exports.

    An export is an archive of the annotations of a space, created by the platform. "cfplatform exports" is short for
    "cfplatform exports list", and takes its options.

    \b
    Examples:
      cfplatform exports
      cfplatform exports create nightly --wait
      cfplatform exports download 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 archives
    """


@exports.command("list")
@_format(section=SELECTION, help="Filter by format.")
@option("--limit", aliases=["--max-items"], type=click.IntRange(1), section=OUTPUT, help="Maximum number of results.")
@with_space
@with_output
def list_(output: Output, connection: Options, format_: str | None, limit: int | None) -> None:
    """List the exports of a space, the newest first.

    Prints ID, name, status, format, content and creation time: a table on a terminal, in UTC, with fewer columns if it
    is narrow; tab-separated lines without a header in a pipe; the platform's JSON objects, one per line, with --json.

    \b
    Examples:
      cfplatform exports
      cfplatform exports list --format CSV --limit 5
      cfplatform exports --json | jq -r 'select(.status == "FAILED") | .error'
    """
    with opened(output, connection) as client:
        output.listing(_COLUMNS, client.get_exports(format=format_, limit=limit), _row)


@exports.command()
@click.argument("name")
@_format(default=ExportFormat.COCO_JSON.value, show_default=True, help="Format.")
@_content
@option(
    "--project-id",
    "project_ids",
    aliases=["--project"],
    metavar="ID",
    multiple=True,
    section=SELECTION,
    help="Filter by project ID (repeatable).  [default: all projects of the space]",
)
@option(
    "--batch-id",
    "batch_ids",
    aliases=["--batch"],
    type=int,
    metavar="ID",
    multiple=True,
    section=SELECTION,
    help="Filter by batch ID (repeatable).",
)
@with_dates
@option("--wait", is_flag=True, help="Wait until the export is completed.")
@option("--wait-for-running", is_flag=True, help="If another export is running, wait for it to end first.")
@_timeout
@_poll_interval
@with_space
@with_output
def create(
    output: Output,
    connection: Options,
    dates: Options,
    name: str,
    format_: str,
    content: str | None,
    project_ids: tuple[str, ...],
    batch_ids: tuple[int, ...],
    wait: bool,
    wait_for_running: bool,
    timeout: float | None,
    poll_interval: float | None,
) -> None:
    """Create an export.

    The platform creates one export at a time per space. NAME need not be unique. Prints the export: one field per line
    on a terminal; a tab-separated line that starts with its ID in a pipe; the platform's JSON object with --json.

    TIME is a date, a date and time, or a relative time such as yesterday, 3h or 2d.

    \b
    Examples:
      cfplatform exports create nightly
      cfplatform exports create nightly --batch-id 1001 --batch-id 1002 --wait
      cfplatform exports create week --format CSV \\
          --updated-at-from 2026-07-11T00:00:00Z --wait-for-running
      export=$(cfplatform exports create nightly --wait | cut -f 1)
    """
    with opened(output, connection) as client:
        export = client.create_export(
            name,
            format=format_,
            content=content,
            project_ids=project_ids or None,
            batch_ids=batch_ids or None,
            wait_for_running=wait_for_running,
            **given(timeout=timeout, **dates),
        )
        if wait:
            output.note(f"Created export {export.id}.")
            export = client.wait_for_export(export.id, **_waiting(output, timeout, poll_interval))
    _show(output, export)


@exports.command()
@click.argument("export_id")
@with_space
@with_output
def get(output: Output, connection: Options, export_id: str) -> None:
    """Show one export.

    Prints one field per line on a terminal; the line of "exports list" in a pipe; the platform's JSON object with
    --json, which includes the signed URL of the archive: anyone who has it can read the archive.

    \b
    Examples:
      cfplatform exports get 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11
      cfplatform exports get 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 --json
    """
    with opened(output, connection) as client:
        _show(output, client.get_export(export_id))


@exports.command()
@click.argument("export_id")
@_timeout
@_poll_interval
@with_space
@with_output
def wait(
    output: Output, connection: Options, export_id: str, timeout: float | None, poll_interval: float | None
) -> None:
    """Wait until an export is completed.

    Prints the export as "exports get" does. The exit code is 1 if the export fails, or if it takes longer than
    --timeout; in that case, run the command again.

    \b
    Examples:
      cfplatform exports wait 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11
      cfplatform exports wait 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 --timeout 60
    """
    with opened(output, connection) as client:
        _show(output, client.wait_for_export(export_id, **_waiting(output, timeout, poll_interval)))


@exports.command()
@click.argument("export_id")
@click.argument("destination", type=click.Path(file_okay=False))
@option("--extract", is_flag=True, help="Unpack the archive, and do not keep it.")
@option("--overwrite", is_flag=True, help="Download the archive again if it exists.")
@option("--no-wait", is_flag=True, help="Fail if the export is not completed yet.")
@with_patience
@_timeout
@_poll_interval
@with_space
@with_output
def download(
    output: Output,
    connection: Options,
    export_id: str,
    destination: str,
    extract: bool,
    overwrite: bool,
    no_wait: bool,
    patience: float,
    timeout: float | None,
    poll_interval: float | None,
) -> None:
    """Download an export.

    Waits until the export is completed. Saves the archive as DESTINATION/<name> <export id>.zip, or, with --extract, as
    a folder of that name. The archive is written atomically, after the checksums of its files are verified. The same
    command resumes an interrupted download, and does nothing if the archive exists. Prints the path: in a sentence on a
    terminal, alone in a pipe.

    \b
    Examples:
      cfplatform exports download 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 archives
      cfplatform exports download 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 labels \\
          --extract
    """
    with opened(output, connection, patience=patience) as client:
        export = None
        if not no_wait:
            export = client.wait_for_export(export_id, **_waiting(output, timeout, poll_interval))
        path = client.download_export(
            export_id,
            destination,
            wait=False,
            extract=extract,
            overwrite=overwrite,
            progress=output.reporter(ARCHIVE),
        )
    if output.as_json:
        output.json_line({"path": path})
    elif not output.tables:
        output.line(str(path))
    where = shlex.quote(str(path))
    following = "" if extract else "; add --extract to unpack it"
    if extract and export is not None and export.format == ExportFormat.COCO_JSON:
        following = f"; next: cfplatform validate {where}"
    output.note(f"Downloaded export {export_id} to {where}{following}")


@exports.command()
@click.argument("export_id")
@option("--yes", is_flag=True, help="Skip the confirmation.")
@with_space
@with_output
def delete(output: Output, connection: Options, export_id: str, yes: bool) -> int:
    """Delete an export and its archive.

    Asks for confirmation, unless --yes is given. Downloaded files are kept.

    \b
    Examples:
      cfplatform exports delete 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11
      cfplatform exports delete 2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11 --yes
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("Not a terminal; pass --yes to delete the export.")
    with opened(output, connection) as client:
        if not yes:
            export = client.get_export(export_id)
            question = f"Delete export {export.id} ({cell(export.name)}, {cell(export.status)})?"
            is_confirmed = click.confirm(clean(question), err=True)
            output.touch()
            if not is_confirmed:
                output.note("Nothing was deleted.")
                return FAILED
        client.delete_export(export_id)
    if output.as_json:
        output.json_line({"deleted": export_id})
    output.note(f"Deleted export {export_id}.")
    return 0


def _waiting(output: Output, timeout: float | None, poll_interval: float | None) -> dict[str, Any]:
    return {**given(timeout=timeout, poll_interval=poll_interval), "progress": output.reporter(WAIT)}


def _row(export: Export, in_table: bool) -> Sequence[str]:
    created = moment(export.created_at, in_table)
    return export.id, cell(export.name), cell(export.status), cell(export.format), cell(export.content), created


def _show(output: Output, export: Export) -> None:
    fields = [
        ("ID", export.id),
        ("Name", cell(export.name)),
        ("Status", cell(export.status)),
        ("Format", cell(export.format)),
        ("Content", cell(export.content)),
        ("Created (UTC)", moment(export.created_at, True)),
        ("Created by", cell(export.created_by)),
    ]
    if export.error:
        fields.append(("Error", export.error))
    output.record(export, fields, _row(export, False))
