"""``cfplatform download``: labels into a folder, and the account of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from .. import config
from ..console import FAILED, Output, rate, reason
from .common import Options, opened, resolved, usual, with_connection, with_filters, with_output, with_patience
from .groups import completing

if TYPE_CHECKING:
    from ..resources.results import DownloadResult, DownloadSummary

#: Failures that are named one by one.
NAMED_FAILURES = 10

#: A number of workers.
WORKERS = click.IntRange(1, config.MAX_WORKERS_LIMIT)


@click.command()
@click.argument("destination", shell_complete=completing("dir"))
@with_filters
@usual("--workers", type=WORKERS, default=config.DEFAULT_MAX_WORKERS, help="Items worked on at the same time.")
@with_patience
@click.option("--overwrite", is_flag=True, help="Fetch every item, changed or not.")
@click.option("--assets", is_flag=True, help="Fetch the assets too, such as the pictures.")
@click.option("--raw", is_flag=True, help="Save documents as served, without setting info.asset_url.")
@click.option(
    "--state",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Where DESTINATION is a URL: remembers what is finished there.",
)
@with_connection
@with_output
def download(
    output: Output,
    connection: Options,
    filters: Options,
    destination: str,
    workers: int,
    patience: float,
    overwrite: bool,
    assets: bool,
    raw: bool,
    state: str | None,
) -> int:
    """Download labels into a folder, or to a store.

    Each work item becomes DESTINATION/<batch name>/<work item id>.json, with --assets its picture or video
    DESTINATION/<batch name>/assets/<work item id>.<extension>. Files that are there and unchanged are skipped, so the
    same command continues an interrupted download, and later fetches only what is new. Times are ISO 8601 with a time
    zone. With --json there is a line for each item, and a last one with the summary.

    DESTINATION may be a URL that fsspec knows, such as s3://bucket/labels. What is finished there is then remembered in
    the local folder that --state names.

    \b
    Examples:
      cfplatform download labels
      cfplatform download labels --assets
      cfplatform download s3://bucket/labels --state labels-state
      cfplatform download labels --batch-name "Street scenes" --workers 64
      cfplatform download labels --updated-from 2026-07-11T00:00:00Z
      cfplatform download labels --json | jq -r 'select(.error) | .item_id'
    """
    with opened(output, connection, max_workers=workers, patience=patience) as client:
        summary = client.download_project(
            destination=destination,
            overwrite=overwrite,
            assets=assets,
            inject_asset_url=not raw,
            state=state,
            progress=output.reporter(),
            **resolved(client, filters),
        )
    if output.as_json:
        for result in summary.results:
            output.json_line(_result_fields(result))
        output.json_line({"summary": summary_fields(summary)})
    elif not output.quiet:
        show_summary(output, summary)
    return report_failures(output, summary)


def _result_fields(result: DownloadResult) -> dict[str, Any]:
    # What this run wrote is not kept with the results.
    return {name: value for name, value in vars(result).items() if name != "written"}


def summary_fields(summary: DownloadSummary) -> dict[str, Any]:
    """Return the figures of a summary."""
    return {name: value for name, value in vars(summary).items() if name not in ("run", "state")}


def show_summary(output: Output, summary: DownloadSummary) -> None:
    """Print the figures of a summary."""
    output.line()
    output.pairs(
        [
            ("Fetched", f"{summary.successful:,}"),
            ("Skipped", f"{summary.skipped:,}"),
            ("Failed", f"{summary.failed:,}"),
            ("Bytes", f"{summary.bytes:,}"),
            ("Seconds", f"{summary.elapsed:.1f}"),
            ("Items/s", rate(summary.total_items, summary.elapsed)),
        ]
    )


def report_failures(output: Output, summary: DownloadSummary) -> int:
    """Say what failed, if anything did, and return the exit code."""
    if not summary.failed:
        return 0
    failures = (f"{result.item_id}: {reason(result.error)}" for result in summary.results if result.error)
    named = [] if output.as_json else list(itertools.islice(failures, NAMED_FAILURES))
    if named and summary.failed > len(named):
        named.append(f"and {summary.failed - len(named):,} more")
    share = f"{summary.failed:,} of {summary.total_items:,}"
    output.error(f"{share} work items failed. Run the same command again to fetch only what is missing.", named)
    return FAILED
