"""``cfplatform report``."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ..console import REPORT, Output, amount
from .common import Options, opened, usual, with_output, with_project
from .groups import completing

if TYPE_CHECKING:
    from ..report import ReportSummary
    from ..resources import Batch


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("page", metavar="[OUTPUT]", required=False, shell_complete=completing("file"))
@usual("--samples", type=click.IntRange(0, 50_000), default=10_000, help="Pictures in the gallery, at the most.")
@click.option("--title", help="The heading; the name of the folder if omitted.")
@click.option("--ask", is_flag=True, help="Ask the platform how far each batch is, which needs a key.")
@with_project
@with_output
def report(
    output: Output, connection: Options, source: str, page: str | None, samples: int, title: str | None, ask: bool
) -> None:
    """Write one page about labels, with pictures.

    SOURCE is a folder that labels were downloaded into, best with --assets. The page, OUTPUT or SOURCE/report.html, is
    one file that opens in any browser without a network: totals, batches, classes, sizes of boxes, what "validate"
    finds, and a gallery of pictures with their labels, to be filtered by class, batch, findings and words. Where there
    are more documents than --samples, those shown are spread evenly over them. It needs no key and no network, except
    with --ask.

    \b
    Examples:
      cfplatform report labels
      cfplatform report labels night.html --title "Night drives" --samples 500
      cfplatform report labels --ask
    """
    batches: list[Batch] | None = None
    if ask:
        with opened(output, connection) as client:
            batches = list(client.get_batches())
    written = written_report(output, source, page, samples=samples, title=title, batches=batches)
    if output.as_json:
        output.json_line(vars(written))
    elif output.tables:
        output.line()
        output.pairs(
            [
                ("Documents", f"{written.documents:,}"),
                ("Labels", f"{written.annotations:,}"),
                ("Errors", f"{written.errors:,}"),
                ("Warnings", f"{written.warnings:,}"),
                ("Samples", f"{written.samples:,}"),
                ("Size of the page", amount(written.size)),
            ]
        )
        output.line()
        output.line(str(written.path))
    else:
        output.row([str(written.path)])


def written_report(output: Output, source: str, page: str | None = None, **options: Any) -> ReportSummary:
    """Write the page, and show the progress."""
    from ..report import write_report

    return write_report(source, page, made_at=datetime.now(timezone.utc), progress=output.reporter(REPORT), **options)
