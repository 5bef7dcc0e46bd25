"""``cfplatform compare``: what differs between two sets of annotations, without a key."""

from __future__ import annotations

import contextlib
import csv
import json
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from .. import coco
from ..coco.comparing import SHAPES, figure
from ..coco.output import written_atomically
from ..destination import local
from .common import Output, with_output
from .errors import FAILED
from .groups import command
from .options import OUTPUT, completing, option, usual
from .progress import READ
from .sources import selecting, with_images_from
from .text import Column, amount, counted, listed

#: Maximum number of findings, categories confused, and images that are listed.
_NAMED = 10
_COLUMNS = (
    *("kind", "image", "item_id", "id_a", "id_b", "category_a", "category_b"),
    *("iou", "counts", "bbox_a", "bbox_b"),
)


@command()
@click.argument("first", metavar="A", shell_complete=completing("dir"))
@click.argument("second", metavar="B", shell_complete=completing("dir"))
@usual(
    "--iou",
    metavar="IOU",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    help="Minimum intersection over union of a match.",
)
@usual("--shape", type=click.Choice(SHAPES), default="box", help="Shape to compare.")
@with_images_from
@option(
    "--csv",
    "csv_path",
    metavar="FILE",
    shell_complete=completing("file"),
    section=OUTPUT,
    help="Write the differences to a CSV file.",
)
@option(
    "--html",
    "page",
    metavar="FILE",
    shell_complete=completing("file"),
    section=OUTPUT,
    help="Write an HTML page with the images that differ.",
)
@usual(
    "--samples",
    type=click.IntRange(0, 2_000),
    default=200,
    section=OUTPUT,
    help="Maximum number of images on the page, up to 2,000.",
)
@option("--fail-under", type=click.FloatRange(0, 1), metavar="F1", section=OUTPUT, help="Exit with 1 if F1 is lower.")
@with_output
@selecting("first", "second")
def compare(
    output: Output,
    first: coco.Source,
    second: coco.Source,
    iou: float,
    shape: str,
    images_from: str | None,
    csv_path: str | None,
    page: str | None,
    samples: int,
    fail_under: float | None,
) -> int:
    """Compare two sets of annotations of the same images.

    A (the reference) and B are folders of downloaded annotations or COCO files: for example, from before and after a
    rework, or from two annotators. One of them may be a results file: a JSON array of detections with scores. Images
    are paired by work item, or else by asset URL or file name.

    Shows precision, recall, F1, mean IoU, Cohen's kappa and Krippendorff's alpha of matched objects, mAP if there are
    scores, the most confused categories, and the images that differ most. --csv writes a line for each object that
    differs. --html draws both versions of each image that differs, the worst first; this needs the "report" extra.
    Works offline, without an API key.

    Prints tables on a terminal; tab-separated lines of kind, name and figures in a pipe; one object with --json. The
    exit code is 1 if a file cannot be read, or if F1 is below --fail-under.

    \b
    Examples:
      cfplatform compare labels reworked
      cfplatform compare a.json b.json --shape segmentation --html page.html
      cfplatform compare labels predictions.json --json | jq .map
      cfplatform compare labels reworked --csv changes.csv --fail-under 0.9
    """
    unread: list[str] = []

    def note(finding: coco.Finding) -> None:
        unread.append(f"{finding.path}: {finding.message}")
        del unread[_NAMED:]

    options: dict[str, Any] = {"iou": iou, "shape": shape, "images_from": images_from, "on_error": note}
    with _table_of_changes(csv_path) as on_change:
        options |= {"on_change": on_change, "progress": output.reporter(READ)}
        if page is None:
            found, written = coco.compare(first, second, **options), None
        else:
            from ..report import write_comparison

            warnings.filterwarnings("ignore", message="Image size")
            # What was selected of them has no name.
            given = click.get_current_context().params
            title = " and ".join(Path(given[name]).name for name in ("first", "second"))
            made_at = datetime.now(timezone.utc)
            written = write_comparison(first, second, page, samples=samples, title=title, made_at=made_at, **options)
            found = written.comparison
    if output.as_json:
        output.json_line(found.as_dict())
    elif output.tables:
        _show(output, found)
        if written is not None:
            output.line()
            output.line(f"{written.path} ({amount(written.size)})")
    else:
        for cells in _rows(found):
            output.row(cells)
    if not output.as_json:
        for line in listed([each.message for each in found.findings[:_NAMED]], found.finding_count):
            output.note(f"Warning: {line}")
    return _exit_code(output, found, unread, fail_under)


def _exit_code(output: Output, found: coco.Comparison, unread: list[str], fail_under: float | None) -> int:
    if found.unreadable:
        output.error(f"{counted(found.unreadable, 'files')} could not be read.", listed(unread, found.unreadable))
    is_under = fail_under is not None and found.f1 is not None and found.f1 < fail_under
    if is_under:
        output.error(f"F1 is {found.f1:.4f}, below {fail_under:g}.")
    return FAILED if found.unreadable or is_under else 0


@contextlib.contextmanager
def _table_of_changes(path: str | None) -> Iterator[Callable[[coco.Change], None] | None]:
    """Open the file for changes, which is written atomically."""
    if path is None:
        yield None
        return
    target = local.folder_path(path, "csv")
    with written_atomically(target) as part, open(part, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)

        def write(change: coco.Change) -> None:
            if change.kind != "same":
                values = change.as_dict()
                rows.writerow([_cell(values[name]) for name in _COLUMNS])

        yield write


def _cell(value: Any) -> Any:
    if isinstance(value, (list, bool)):
        return json.dumps(value)
    return round(value, 6) if isinstance(value, float) else value


def _rows(found: coco.Comparison) -> Iterator[tuple[str, ...]]:
    """Yield the lines of a pipe: kind, name and figures."""
    for name, value in found.figures():
        yield "total", name.lower(), value.replace(",", "")
    for name, each in found.categories.items():
        ratios = map(figure, (each.precision, each.recall, each.f1, each.mean_iou))
        yield "category", name, str(each.a), str(each.b), str(each.matched), *ratios
    for first, second, count in _confused(found):
        yield "confusion", first, second, str(count)
    for image in found.worst:
        yield "image", image.image, image.item_id or "", f"{image.difference:.3f}"


def _confused(found: coco.Comparison) -> list[tuple[str, str, int]]:
    """Return pairs of different categories, and of a category and no object, the most frequent first."""
    pairs = [(a, b, count) for a, row in found.confusion.items() for b, count in row.items() if a != b]
    return sorted(pairs, key=lambda each: (-each[2], each))


def _show(output: Output, found: coco.Comparison) -> None:
    output.line()
    output.pairs(found.figures())
    names = ("A", "B", "Precision", "Recall", "F1", "Mean IoU")
    columns = [Column(name, right=True, optional=place) for place, name in enumerate(names)]
    rows = [
        (
            name,
            f"{each.a:,}",
            f"{each.b:,}",
            *map(figure, (each.precision, each.recall, each.f1, each.mean_iou)),
        )
        for name, each in found.categories.items()
    ]
    output.table([Column("Category", flexible=True), *columns], rows)
    confused = _confused(found)[:_NAMED]
    if confused:
        rows_of = [(a or "no object", b or "no object", f"{count:,}") for a, b, count in confused]
        output.table([Column("In A", flexible=True), Column("In B"), Column("Objects", right=True)], rows_of)
    if found.worst:
        worst = [
            (each.image, f"{each.difference:.2f}", ", ".join(f"{n:,} {kind}" for kind, n in each.changes.items()))
            for each in found.worst[:_NAMED]
        ]
        title = [Column("Image that differs", flexible=True), Column("Difference", right=True), Column("Changes")]
        output.table(title, worst)
