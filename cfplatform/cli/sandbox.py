"""``cfplatform sandbox`` and ``cfplatform demo``: a local platform."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click
from click.core import ParameterSource

from .. import config, params
from ..exceptions import ConfigurationError
from ..resources import WorkItem
from .common import Options, Output, Seconds, connected, opened, with_output
from .datasets import written_report
from .errors import words
from .groups import DefaultGroup, command
from .options import completing, option, usual
from .text import listed
from .transfers import closing, report_failures, summary_fields
from .work_items import show

if TYPE_CHECKING:
    from ..report import ReportSummary
    from ..resources.results import DownloadSummary
    from ..sandbox import Sandbox

#: The demonstration: latency of its platform and number of workers, so that the bar can be seen.
DEMO_LATENCY = 0.01
DEMO_WORKERS = 4
#: Files that the demo lists per batch.
DEMO_FILES = 2

_seed = usual("--seed", type=int, default=0, help="Seed for the generated data.")


@click.group("sandbox", cls=DefaultGroup, default="run")
def sandbox() -> None:
    """Run and control a local platform.

    "cfplatform sandbox" is short for "cfplatform sandbox run", and takes its options.

    \b
    Examples:
      cfplatform sandbox
      cfplatform sandbox run --help
      cfplatform sandbox set-status 0 COMPLETED
      cfplatform sandbox outage 20 --status 503
    """


@sandbox.command()
@usual("--items", type=click.IntRange(0), default=500, help="Number of work items.")
@usual("--batches", type=click.IntRange(0), default=5, help="Number of batches.")
@_seed
@option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on (default: a free one).")
@usual("--latency-seconds", metavar="SECONDS", type=Seconds(0), default=0, help="Delay of each response.")
@option("--latency", "milliseconds", type=click.FloatRange(0), hidden=True, help="Delay in milliseconds.")
@usual("--in-review", metavar="FRACTION", type=click.FloatRange(0, 1), default=0, help="Share of items in review.")
@usual("--export-seconds", metavar="SECONDS", type=Seconds(0), default=0.2, help="Duration of an export.")
@option("--webhook-url", metavar="URL", help="URL on this machine to send webhooks to (default: none).")
@with_output
def run(output: Output, latency_seconds: float, milliseconds: float | None, **options: Any) -> None:
    """Run a local platform.

    It has the API of the real platform and serves generated sample data. Prints the environment variables to set in
    another terminal.

    \b
    Examples:
      cfplatform sandbox
      cfplatform sandbox --items 100000 --batches 20 --port 8080
      cfplatform sandbox --latency-seconds 0.05 --in-review 0.2 --json
      cfplatform sandbox --webhook-url http://127.0.0.1:8000/ --export-seconds 10
    """
    source = click.get_current_context().get_parameter_source("latency_seconds")
    if milliseconds is not None and source is not ParameterSource.DEFAULT:
        raise click.UsageError("--latency and --latency-seconds exclude each other.")
    latency = latency_seconds if milliseconds is None else milliseconds / 1000
    # Neither Ctrl-C nor SIGTERM is an error here.
    with contextlib.suppress(KeyboardInterrupt), _started(latency=latency, **options) as running:
        _show_environment(output, running)
        while True:
            time.sleep(3600)


@sandbox.command("set-status")
@click.argument("item")
@click.argument("status")
@connected("api_key", "base_url")
@with_output
def set_status(output: Output, connection: Options, item: str, status: str) -> None:
    """Set the status of a work item in a running sandbox.

    ITEM is its ID, or its index, starting at 0. The webhook is sent even if the status does not change. The base URL
    must be on this machine. Prints the item as "work-items get" does.

    \b
    Examples:
      cfplatform sandbox set-status 0 CLIENT_REVIEW
      cfplatform sandbox set-status c2fe4a5d-ae6e-4005-8845-d10c59218302 COMPLETED
    """
    path = f"work-items/{quote(params.object_id('ITEM', item), safe='')}/status"
    show(output, WorkItem(_control(output, connection, path, {"status": status})))


_EFFECTS = {"reset": "connections reset", "close": "connections closed", "refused": "connections refused"}


@sandbox.command()
@click.argument("seconds", type=Seconds(0, min_open=True))
@usual("--status", metavar="STATUS", default="500", help='HTTP status, 400 to 599, or "reset", "close" or "refused".')
@option("--at", metavar="ENDPOINT", multiple=True, help="Endpoint that fails (repeatable; default: all).")
@usual("--after", metavar="SECONDS", type=Seconds(0), default=0, help="Time until the outage starts.")
@option("--retry-after", metavar="SECONDS", type=click.IntRange(0), help="Value of a Retry-After header.")
@connected("api_key", "base_url")
@with_output
def outage(
    output: Output,
    connection: Options,
    seconds: float,
    status: str,
    at: tuple[str, ...],
    after: float,
    retry_after: int | None,
) -> None:
    """Plan an outage of a running sandbox.

    For SECONDS, every request fails with the given status. "reset" and "close" end the connection without a response.
    "refused" also closes open connections and accepts no new ones. Endpoints are work_items, batches, annotations,
    signedurls, storage and exports. The base URL must be on this machine. Prints a line that describes the outage.

    \b
    Examples:
      cfplatform sandbox outage 20
      cfplatform sandbox outage 60 --status 503 --retry-after 5 \\
          --at annotations --at storage
      cfplatform sandbox outage 10 --status refused --after 5
    """
    plan: dict[str, Any] = {"seconds": seconds, "status": status, "at": at, "after": after}
    if len(status) == 3 and status.isascii() and status.isdigit():
        plan["status"] = int(status)
    if retry_after is not None:
        plan["headers"] = {"Retry-After": retry_after}
    planned = _control(output, connection, "outages", plan)
    if output.as_json:
        output.json_line(planned)
    else:
        effect = _EFFECTS.get(status, f"status {status}")
        endpoints = ", ".join(at) or "all endpoints"
        start = f"in {after:.12g} s" if after else "now"
        output.line(f"Outage planned: {effect} for {seconds:.12g} s at {endpoints}, starting {start}.")


def _control(output: Output, connection: Options, path: str, content: dict[str, Any]) -> Any:
    """Call the control API of a sandbox on this machine, and return its response."""
    url = urlsplit(config.base_url(connection["base_url"]))
    if not config.is_loopback(url.hostname or ""):
        raise ConfigurationError(
            f"{url.hostname} is not a sandbox on this machine. Set CF_PLATFORM_BASE_URL to the URL that "
            "'cfplatform sandbox' printed."
        )
    root = f"{url.scheme}://{url.netloc}"
    with opened(output, {"api_key": connection["api_key"], "base_url": root}) as client:
        return client.request("POST", f"/_sandbox/{path}", json=content).json()


@command()
@click.argument("destination", default="cfplatform-demo", shell_complete=completing("dir"))
@usual("--items", type=click.IntRange(0), default=200, help="Number of work items.")
@usual("--batches", type=click.IntRange(0), default=4, help="Number of batches.")
@_seed
@with_output
def demo(output: Output, destination: str, items: int, batches: int, seed: int) -> int:
    """Try a download with sample data.

    Starts a local platform, downloads its annotations and images to DESTINATION (default: ./cfplatform-demo), lists the
    files and the requests, and writes an HTML page with the annotated images. Run it again to see that nothing is
    downloaded twice.

    \b
    Examples:
      cfplatform demo
      cfplatform demo labels --items 5000
    """
    with (
        _started(items=items, batches=batches, seed=seed, latency=DEMO_LATENCY) as running,
        running.client(max_workers=DEMO_WORKERS) as client,
    ):
        output.note(f"Local platform: {items:,} work items in {batches:,} batches at {running.base_url}")
        summary = client.download_project(destination=destination, assets=True, progress=output.reporter())
        requests = running.counts
        found = list(client.get_batches())
    page = written_report(output, destination, batches=found) if summary.successful or summary.skipped else None
    if output.as_json:
        path = None if page is None else page.path
        output.json_line({"summary": summary_fields(summary), "requests": requests, "report": path})
    elif not output.quiet:
        _show_demo(output, destination, summary, requests, page)
    return report_failures(output, summary)


_REQUESTS = {
    "work_items": "pages of work items",
    "batches": "pages of batches",
    "annotations": "annotations, one for each item",
    "signing": "signed URLs, many per request",
    "storage": "documents and images",
}
_NEXT_STEPS = """
What to try next:

  cfplatform demo       again: nothing is downloaded twice
  cfplatform sandbox    a platform that keeps running. Paste its output into
                        another terminal, then run there:
  cfplatform batches
  python -c 'from cfplatform import Client; print(*Client().get_batches())'
"""


def _started(**options: Any) -> Sandbox:
    """Build a local platform, or report why it cannot be started."""
    try:
        from ..sandbox import Sandbox
    except ImportError as error:
        if (error.name or "").startswith("cfplatform"):
            raise
        raise ConfigurationError(f"{error.name} is missing: pip install 'cfplatform[sandbox]'") from None
    try:
        return Sandbox(**options)
    except (OSError, ValueError) as error:
        port = options.get("port")
        advice = f" Pass another --port than {port}." if port and isinstance(error, OSError) else ""
        raise ConfigurationError(f"Could not start the platform: {words(error)}{advice}") from None


def _show_environment(output: Output, running: Sandbox) -> None:
    if output.as_json:
        output.json_line({name: getattr(running, name) for name in ("base_url", "api_key", "project_id", "space_id")})
    else:
        for variable, value in running.environment().items():
            output.line(f"export {variable}={shlex.quote(value)}")
    # The reader of a pipe waits for it.
    sys.stdout.flush()
    if output.tables:
        output.note("Paste these lines into another terminal, then run: cfplatform download labels")
    output.note("Ctrl-C stops the platform.")


def _show_demo(
    output: Output,
    destination: str,
    summary: DownloadSummary,
    requests: dict[str, int],
    page: ReportSummary | None,
) -> None:
    output.line(closing(summary, destination))
    output.line()
    folders: dict[str, list[str]] = {}
    for result in summary.results:
        if result.path is not None:
            folders.setdefault(result.path.parent.name, []).append(result.path.name)
    output.line(f"{destination}/")
    for folder, files in sorted(folders.items()):
        output.line(f"  {folder}/")
        for line in listed(sorted(files)[:DEMO_FILES], len(files)):
            output.line(f"    {line}")
        output.line("    assets/ with the images")
    if page is not None:
        output.line(f"  {page.path.name}")
    output.line()
    output.line("Requests to the platform:")
    output.pairs([(kind, f"{requests[name]:,}") for name, kind in _REQUESTS.items()])
    for line in _NEXT_STEPS.splitlines():
        output.line(line)
    if page is not None:
        output.line()
        output.line(f"{page.samples:,} annotated images, to open in a browser:")
        output.line(f"  {page.path}")
