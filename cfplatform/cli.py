"""The ``cfplatform`` command: each subcommand is one call of the library, and the printing of what it returned."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from . import __version__, config, params
from .client import Client
from .console import FAILED, Column, Output, rate, reason, words
from .downloads import DownloadSummary
from .exceptions import ConfigurationError
from .resources import Batch, WorkItem

if TYPE_CHECKING:
    from .sandbox import Sandbox

#: Work items that a listing shows unless it is told otherwise.
LISTED = 20
#: Failures that are named one by one.
NAMED_FAILURES = 10
#: The demonstration: seconds by which its platform is slow and workers that it uses, so that the bar can be seen; and
#: files that it names of each batch.
DEMO_LATENCY = 0.01
DEMO_WORKERS = 4
DEMO_FILES = 2

_WORKERS = click.IntRange(1, config.MAX_WORKERS_LIMIT)

F = TypeVar("F", bound=Callable[..., Any])
#: Values of options, under the names that the library has for them.
Options = dict[str, Any]


def _unless_from_environment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Leave variables to the library, which reads the same ones and names them in its errors."""
    source = context.get_parameter_source(parameter.name or "")
    return None if source is ParameterSource.ENVIRONMENT else value


_setting = functools.partial(click.option, show_envvar=True, callback=_unless_from_environment)
_time = functools.partial(click.option, metavar="TIME")
_usual = functools.partial(click.option, show_default=True)
_CONNECTION = {
    "api_key": _setting("--api-key", envvar="CF_API_KEY", help="The API key; in the variable nobody else can see it."),
    "base_url": _setting("--base-url", envvar="CF_PLATFORM_BASE_URL", help="The API, if not the production one."),
    "project_id": _setting("--project-id", envvar="CF_PROJECT_ID", help="The project."),
    "space_id": _setting("--space-id", envvar="CF_SPACE_ID", help="The space; found by itself if omitted."),
}
_FILTERS = {
    "batch_ids": click.option("--batch-id", "batch_ids", type=int, multiple=True, help="Only this batch; repeatable."),
    "batch_names": click.option("--batch-name", "batch_names", multiple=True, help="Only this batch; repeatable."),
    "work_item_ids": click.option("--work-item-id", "work_item_ids", multiple=True, help="Only this item; repeatable."),
    "status": _usual("--status", default="COMPLETED", help='Only this status; "any" for every one.'),
    "created_at_from": _time("--created-from", "created_at_from", help="Only items created at this time or later."),
    "created_at_to": _time("--created-to", "created_at_to", help="Only items created at this time or before."),
    "updated_at_from": _time("--updated-from", "updated_at_from", help="Only items changed at this time or later."),
    "updated_at_to": _time("--updated-to", "updated_at_to", help="Only items changed at this time or before."),
}
_OUTPUT = {
    "as_json": click.option("--json", "as_json", is_flag=True, help="Write JSON lines to stdout, and nothing else."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Only data and errors: no progress, no decoration."),
    "debug": click.option("--debug", is_flag=True, help="Show tracebacks and a log of all requests on stderr."),
}


def _gathering(parameter: str, options: dict[str, Callable[[Any], Any]]) -> Callable[[F], F]:
    """Add options to a command, which gets their values as one dict."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            gathered = {name: values.pop(name) for name in options}
            return function(**{parameter: gathered}, **values)

        for option in reversed(options.values()):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate


def _with_output(function: Callable[..., int | None]) -> Callable[..., None]:
    """Add the options on output; the command runs inside of it and returns the exit code."""

    @_gathering("options", _OUTPUT)
    @functools.wraps(function)
    def command(options: dict[str, bool], **values: Any) -> None:
        output = Output(**options)
        click.get_current_context().exit(output.run(lambda: function(output=output, **values)))

    return command


_with_connection = _gathering("connection", _CONNECTION)
_with_filters = _gathering("filters", _FILTERS)


def _resolved(client: Client, filters: Options) -> Options:
    """Return filters as the library takes them: batch names looked up, and what was not given as ``None``."""
    batches = [*filters["batch_ids"], *(client.get_batch(name=name).id for name in filters["batch_names"])]
    given = {**filters, "batch_ids": batches or None, "work_item_ids": filters["work_item_ids"] or None}
    if filters["status"].strip().lower() == "any":
        given["status"] = None
    return {name: given[name] for name in params.FILTER_NAMES}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cfplatform")
def cli() -> None:
    """Get finished labels out of the CloudFactory AI Platform.

    The key and the ids come from CF_API_KEY, CF_PROJECT_ID and CF_SPACE_ID, or from options of each command.
    Data is written to stdout, everything else to stderr. The exit code is 0 if all went well, 1 if some items or the
    platform failed, 2 if the command was wrong, and 130 after Ctrl-C.

    \b
    Examples:
      cfplatform demo                see it work, without an account
      cfplatform download labels     fetch all finished labels, or what is new
      cfplatform download --help     show all options of a command
    """


@cli.command()
@click.argument("destination")
@_with_filters
@_usual("--workers", type=_WORKERS, default=config.DEFAULT_MAX_WORKERS, help="Items worked on at the same time.")
@click.option("--overwrite", is_flag=True, help="Fetch every item, changed or not.")
@click.option("--raw", is_flag=True, help="Save documents as served, without setting info.asset_url.")
@_with_connection
@_with_output
def download(
    output: Output, connection: Options, filters: Options, destination: str, workers: int, overwrite: bool, raw: bool
) -> int:
    """Download labels into a folder.

    Each work item becomes DESTINATION/<batch name>/<work item id>.json. Files that are there and unchanged are
    skipped, so the same command continues an interrupted download, and later fetches only what is new. Times are
    ISO 8601 with a time zone. With --json there is a line for each item, and a last one with the summary.

    \b
    Examples:
      cfplatform download labels
      cfplatform download labels --batch-name "Street scenes" --workers 64
      cfplatform download labels --updated-from 2026-07-11T00:00:00Z
      cfplatform download labels --json | jq -r 'select(.error) | .item_id'
    """
    with Client(**connection, max_workers=workers) as client:
        summary = client.download_project(
            destination=destination,
            overwrite=overwrite,
            inject_asset_url=not raw,
            progress=output.reporter(),
            **_resolved(client, filters),
        )
    if output.as_json:
        for result in summary.results:
            output.json_line(vars(result))
        output.json_line({"summary": _fields(summary)})
    elif not output.quiet:
        _show_summary(output, summary)
    return _report_failures(output, summary)


@cli.command("work-items")
@_with_filters
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Show at most so many.  [default: {LISTED}, with --json all]"
)
@click.option("--all", "everything", is_flag=True, help="Show all of them.")
@_with_connection
@_with_output
def work_items(output: Output, connection: Options, filters: Options, limit: int | None, everything: bool) -> None:
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
    with Client(**connection) as client:
        # One more than is shown tells whether there are more.
        items = client.get_work_items(max_items=limit and limit + 1, **_resolved(client, filters))
        output.listing(_WORK_ITEM_COLUMNS, itertools.islice(items, limit), _work_item_row)
        if limit is not None and next(items, None) is not None:
            output.note(f"These are the first {limit}; --all shows the others too.")


@cli.command()
@_with_connection
@_with_output
def batches(output: Output, connection: Options) -> None:
    """List the batches of a project.

    Shown are id, name, how many of the items are completed, time of creation and priority: on a terminal as a table,
    in UTC; into a pipe as tab-separated lines without a header; with --json as the platform's own objects, one a line.

    \b
    Examples:
      cfplatform batches
      cfplatform batches | grep -i street
      cfplatform batches --json | jq 'select(.completedCount > 0) | .name'
    """
    with Client(**connection) as client:
        output.listing(_BATCH_COLUMNS, client.get_batches(), _batch_row)


@cli.command()
@_with_filters
@_with_connection
@_with_output
def count(output: Output, connection: Options, filters: Options) -> None:
    """Count work items.

    Prints how many "cfplatform download" with the same options would look at. Times are ISO 8601 with a time zone.

    \b
    Examples:
      cfplatform count
      cfplatform count --status any
      cfplatform count --batch-name "Street scenes" --json
    """
    with Client(**connection) as client:
        number = client.get_work_items_count(**_resolved(client, filters))
    if output.as_json:
        output.json_line({"count": number})
    else:
        output.line(str(number))


_seed = _usual("--seed", type=int, default=0, help="Another number gives other contents.")


@cli.command()
@_usual("--items", type=click.IntRange(0), default=500, help="Work items.")
@_usual("--batches", type=click.IntRange(0), default=5, help="Batches.")
@_seed
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; a free one if omitted.")
@_usual("--latency", type=click.FloatRange(0), default=0, help="Milliseconds by which its answers are delayed.")
@_usual("--in-review", type=click.FloatRange(0, 1), default=0, help="Part of the items that is not completed.")
@_with_output
def sandbox(output: Output, latency: float, **options: Any) -> None:
    """Run a platform on this machine.

    It speaks the API of the real one and serves invented labels, for trying and testing without an account. It prints
    the variables that lead another terminal there.

    \b
    Examples:
      cfplatform sandbox
      cfplatform sandbox --items 100000 --batches 20 --port 8080
      cfplatform sandbox --latency 50 --in-review 0.2 --json
    """
    # To be ended by a signal is as good as Ctrl-C, and here neither is an error.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), _sandbox(latency=latency / 1000, **options) as running:
        _show_environment(output, running)
        while True:
            time.sleep(3600)


@cli.command()
@click.argument("destination", default="cfplatform-demo")
@_usual("--items", type=click.IntRange(0), default=200, help="Work items.")
@_usual("--batches", type=click.IntRange(0), default=4, help="Batches.")
@_seed
@_with_output
def demo(output: Output, destination: str, items: int, batches: int, seed: int) -> int:
    """See a download at work, without an account.

    Starts a platform on this machine, downloads its labels into DESTINATION (./cfplatform-demo if omitted), and shows
    what lies there then and what it took. Run it again to see that nothing is fetched twice.

    \b
    Examples:
      cfplatform demo
      cfplatform demo labels --items 5000
    """
    with (
        _sandbox(items=items, batches=batches, seed=seed, latency=DEMO_LATENCY) as running,
        running.client(max_workers=DEMO_WORKERS) as client,
    ):
        output.note(f"Local platform: {items:,} work items in {batches:,} batches at {running.base_url}")
        summary = client.download_project(destination=destination, progress=output.reporter())
        requests = running.counts
    if output.as_json:
        output.json_line({"summary": _fields(summary), "requests": requests})
    elif not output.quiet:
        _show_demo(output, destination, summary, requests)
    return _report_failures(output, summary)


_WORK_ITEM_COLUMNS = (
    Column("Id"),
    Column("Batch", right=True),
    Column("Status", flexible=True),
    Column("Type", flexible=True),
    Column("Updated (UTC)"),
)
_BATCH_COLUMNS = (
    Column("Id", right=True),
    Column("Name", flexible=True),
    Column("Completed", right=True),
    Column("Created (UTC)"),
    Column("Priority", right=True),
)
_REQUESTS = {
    "work_items": "pages of work items",
    "batches": "pages of batches",
    "annotations": "annotations, one for each item",
    "signing": "signing of addresses, many at once",
    "storage": "documents, one for each item",
}
_NEXT_STEPS = """
What to try next:

  cfplatform demo       once more: nothing is fetched twice
  cfplatform sandbox    a platform that stays. Paste what it prints into another
                        terminal, and type there:
  cfplatform batches
  python -c 'from cfplatform import Client; print(*Client().get_batches())'
"""


def _work_item_row(item: WorkItem, in_table: bool) -> Sequence[str]:
    updated = _moment(item.updated_at, in_table)
    return item.id, _text(item.batch_id), _text(item.status), _text(item.asset_type), updated


def _batch_row(batch: Batch, in_table: bool) -> Sequence[str]:
    completed = f"{_text(batch.completed_count)}/{_text(batch.total_count)}"
    return str(batch.id), _text(batch.name), completed, _moment(batch.created_at, in_table), _text(batch.priority)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _moment(value: datetime | None, in_table: bool) -> str:
    if value is None:
        return "-"
    moment = value.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{moment:%Y-%m-%d %H:%M}" if in_table else f"{moment.isoformat(timespec='milliseconds')}Z"


def _fields(summary: DownloadSummary) -> dict[str, Any]:
    return {name: value for name, value in vars(summary).items() if name != "run"}


def _show_summary(output: Output, summary: DownloadSummary) -> None:
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


def _report_failures(output: Output, summary: DownloadSummary) -> int:
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


def _sandbox(**options: Any) -> Sandbox:
    """Build a local platform, or say why there is none."""
    try:
        from .sandbox import Sandbox
    except ImportError as error:
        if (error.name or "").startswith("cfplatform"):
            raise
        raise ConfigurationError(f"{error.name} is missing: pip install 'cfplatform[sandbox]'") from None
    try:
        return Sandbox(**options)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The platform cannot be started: {words(error)}") from None


def _show_environment(output: Output, running: Sandbox) -> None:
    if output.as_json:
        output.json_line({name: getattr(running, name) for name in ("base_url", "api_key", "project_id", "space_id")})
    else:
        for variable, value in running.environment().items():
            output.line(f"export {variable}={shlex.quote(value)}")
    # Whoever reads this through a pipe waits for it.
    sys.stdout.flush()
    if output.tables:
        output.note("Paste these lines into another terminal, then try: cfplatform download labels")
    output.note("Ctrl-C stops the platform.")


def _show_demo(output: Output, destination: str, summary: DownloadSummary, requests: dict[str, int]) -> None:
    _show_summary(output, summary)
    output.line()
    if summary.skipped and not summary.successful:
        output.line(f"Nothing had to be fetched: all {summary.skipped:,} files were there, unchanged.")
        output.line()
    folders: dict[str, list[str]] = {}
    for result in summary.results:
        if result.path is not None:
            folders.setdefault(result.path.parent.name, []).append(result.path.name)
    output.line(f"{destination}/")
    for folder, files in sorted(folders.items()):
        output.line(f"  {folder}/")
        for file in sorted(files)[:DEMO_FILES]:
            output.line(f"    {file}")
        if len(files) > DEMO_FILES:
            output.line(f"    ... {len(files) - DEMO_FILES:,} more")
    output.line()
    output.line("Requests that the platform answered:")
    output.pairs([(kind, f"{requests[name]:,}") for name, kind in _REQUESTS.items()])
    for line in _NEXT_STEPS.splitlines():
        output.line(line)
