"""``cfplatform batches``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ..console import Column, Output
from ..resources import Batch
from .common import Options, moment, opened, text, with_connection, with_output, with_project
from .groups import DefaultGroup

_COLUMNS = (
    Column("Id", right=True),
    Column("Name", flexible=True),
    Column("Completed", right=True),
    Column("Created (UTC)"),
    Column("Priority", right=True),
)


@click.group(cls=DefaultGroup, default="list")
def batches() -> None:
    """List, create and rename batches.

    Without the name of a command the batches are listed: "cfplatform batches" means "cfplatform batches list", and
    takes its options.

    \b
    Examples:
      cfplatform batches
      cfplatform batches list --help
      cfplatform batches create Spring
    """


@batches.command("list")
@with_connection
@with_output
def list_(output: Output, connection: Options) -> None:
    """List the batches of a project.

    Shown are id, name, how many of the items are completed, time of creation and priority: on a terminal as a table,
    in UTC; into a pipe as tab-separated lines without a header; with --json as the platform's own objects, one a line.

    \b
    Examples:
      cfplatform batches
      cfplatform batches | grep -i street
      cfplatform batches --json | jq 'select(.completedCount > 0) | .name'
    """
    with opened(output, connection) as client:
        output.listing(_COLUMNS, client.get_batches(), _row)


@batches.command()
@click.argument("name")
@with_project
@with_output
def create(output: Output, connection: Options, name: str) -> None:
    """Create a batch.

    NAME must be new in the project. Prints the batch: on a terminal a field a line; into a pipe as a tab-separated
    line that begins with its id; with --json as the platform's own object.

    \b
    Examples:
      cfplatform batches create Spring
      batch=$(cfplatform batches create "Night drive" | cut -f 1)
    """
    with opened(output, connection) as client:
        _show(output, client.create_batch(name))


@batches.command()
@click.argument("batch_id", type=click.IntRange(0))
@click.argument("name")
@with_project
@with_output
def rename(output: Output, connection: Options, batch_id: int, name: str) -> None:
    """Rename a batch.

    Prints the batch as "batches create" does. Labels that were downloaded move to a folder of the new name with the
    next download.

    \b
    Examples:
      cfplatform batches rename 1001 "Spring, checked"
    """
    with opened(output, connection) as client:
        _show(output, client.update_batch(batch_id, name=name))


def _row(batch: Batch, in_table: bool) -> Sequence[str]:
    completed = f"{text(batch.completed_count)}/{text(batch.total_count)}"
    return str(batch.id), text(batch.name), completed, moment(batch.created_at, in_table), text(batch.priority)


def _show(output: Output, batch: Batch) -> None:
    # An answer to creating or renaming holds no counts.
    fields = [("Id", str(batch.id)), ("Name", text(batch.name)), ("Created (UTC)", moment(batch.created_at, True))]
    output.record(batch, fields, _row(batch, False))
