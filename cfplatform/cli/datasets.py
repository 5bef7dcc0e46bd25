"""``cfplatform merge``, ``split``, ``stats``, ``validate`` and ``report``: local COCO documents, without a key."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import coco
from .common import Options, Output, opened, usual, with_output, with_project
from .errors import FAILED
from .groups import completing
from .progress import READ, REPORT
from .sources import EITHER, with_images, with_images_from, with_parts, with_selection
from .text import Column, amount, cell, counted, listed

if TYPE_CHECKING:
    from ..report import ReportSummary
    from ..resources import Batch

#: Maximum number of files, warnings and errors that are listed.
_NAMED = 10


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="OUTPUT", shell_complete=completing("file"))
@with_images_from
@with_images
@click.option("--metadata", metavar="NAME", multiple=True, help="Metadata that images get (repeatable).")
@with_output
@with_selection
def merge(
    output: Output,
    source: coco.Source,
    output_: str,
    images_from: str | None,
    images: str | None,
    metadata: tuple[str, ...],
) -> int:
    """Merge annotations into one COCO dataset.

    SOURCE is a folder of downloaded annotations, or a file with one COCO document. All documents become the one file
    OUTPUT: IDs are reassigned, categories are merged by name and supercategory, and the file_name of each image is the
    path to its image, relative to the folder of OUTPUT. With --images, the images are put into the folder "images"
    beside OUTPUT, for tools that refuse paths out of its folder, and to move both together. With --metadata, each image
    gets that member of the metadata of its work item, so that "cfplatform split --by" finds it. Memory does not grow
    with the number of documents, and OUTPUT is written atomically. Entries that cannot be merged are skipped and
    reported; then the exit code is 1. It needs no key and no network. With --json there is a line for each error and
    each warning, and a last one with the summary.

    \b
    Examples:
      cfplatform merge labels dataset.json
      cfplatform merge "labels/Street scenes" streets.json
      cfplatform merge labels training/dataset.json --images link
      cfplatform merge labels dataset.json --metadata externalId
      cfplatform merge export.json dataset.json --images-from photos
      cfplatform merge labels cars.json --only car --min-side 8
      cfplatform merge labels dataset.json --json | jq 'select(.code)'
    """
    summary = coco.merge(
        source,
        output_,
        images_from=images_from,
        images=images,
        metadata=metadata,
        progress=output.reporter(READ),
        on_error=finding_lines(output),
    )
    figures = [
        ("Documents", f"{summary.documents:,}"),
        ("Images", f"{summary.images:,}"),
        ("Annotations", f"{summary.annotations:,}"),
        ("Categories", f"{summary.categories:,}"),
        ("Bytes", f"{summary.size:,}"),
    ]
    return reported(output, summary, figures)


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_folder", metavar="OUTPUT", shell_complete=completing("dir"))
@with_parts
@with_images_from
@with_images
@with_output
@with_selection
def split(
    output: Output,
    source: coco.Source,
    output_folder: str,
    parts: dict[str, Any],
    chosen_by: dict[str, Any],
    images_from: str | None,
    images: str | None,
) -> int:
    """Split annotations into COCO datasets, such as for training.

    SOURCE is a folder of downloaded annotations, or a file with one COCO document. Each part becomes the file
    OUTPUT/<part>.json, as "cfplatform merge" writes it, with the same categories in all of them. A hash of its ID
    decides which part an item belongs to: items that are added later move no others, and a part has about its fraction.
    In datasets of other tools each image is an item, and the frames of a video stay together. With --images, the images
    are put into the folder OUTPUT/images, so no path leads out of OUTPUT.

    With --by, items of one group stay together: the NAME is "batch", "video", or a member of the image, of the metadata
    of its work item, or of "info". --groups names a CSV file instead, with a line "item,group" for each item.
    --stratify moves groups until each part has about its fraction of every class too; then later items may move others,
    unless --keep names the folder of the split before.

    It needs no key and no network. With --json there is a line for each error and each warning, and a last one with
    the summary.

    \b
    Examples:
      cfplatform split labels datasets --part train=0.8 --part val=0.2
      cfplatform split labels datasets --part train=80 --part val=20 --by scene
      cfplatform split labels new --part train=80 --part val=20 --keep datasets
      cfplatform split labels datasets --part train=80 --part val=20 --stratify
      cfplatform split labels datasets --batch train="Day" --batch val="Night"
      cfplatform split labels datasets --part train=.8 --part val=.2 --images copy
    """
    if not parts:
        raise click.UsageError(EITHER)
    summary = coco.split(
        source,
        output_folder,
        parts,
        images_from=images_from,
        images=images,
        progress=output.reporter(READ),
        on_error=finding_lines(output),
        **chosen_by,
    )
    shares = [
        (name, f"{part.images:,} images, {part.annotations:,} annotations") for name, part in summary.parts.items()
    ]
    return reported(output, summary, [("Documents", f"{summary.documents:,}"), *shares])


def finding_lines(output: Output) -> Callable[[coco.Finding], None] | None:
    """Return a function that writes each finding as a line of JSON, with ``--json``."""
    return (lambda finding: output.json_line(finding.as_dict())) if output.as_json else None


def reported(
    output: Output, summary: coco.MergeSummary | coco.SplitSummary | coco.ConvertSummary, figures: list[tuple[str, str]]
) -> int:
    """Print the summary, and return the exit code."""
    if output.as_json:
        for warning in summary.conflicts:
            output.json_line(warning.as_dict())
        output.json_line({"summary": summary.as_dict()})
    else:
        for line in _named(summary.conflicts, summary.conflict_count):
            output.note(f"Warning: {line}")
        if not output.quiet:
            output.line()
            output.pairs([*figures, ("Seconds", f"{summary.elapsed:.1f}")])
    if not summary.problem_count:
        return 0
    named = [] if output.as_json else _named(summary.problems, summary.problem_count)
    output.error(
        f"{counted(summary.problem_count, 'entries')} could not be {summary.verb}; the rest was written.", named
    )
    return FAILED


def _named(findings: list[coco.Finding], count: int) -> list[str]:
    return listed([f"{_location(each)}: {each.message}" for each in findings[:_NAMED]], count)


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@with_images_from
@with_output
@with_selection
def stats(output: Output, source: coco.Source, images_from: str | None) -> int:
    """Show dataset statistics.

    SOURCE is a folder of downloaded annotations, the folder of one batch, an unpacked export, or a file with one COCO
    document. Counts documents, images and annotations, by category and by batch; images without annotations; crowds;
    and object sizes, where "small" and "large" are those of COCO: an area below 32² and above 96² pixels. No image is
    opened: --images-from changes no figure, and is there for scripts that pass it to all commands. It needs no key and
    no network.

    On a terminal these are tables; into a pipe tab-separated lines of kind, name and figures; with --json one object.
    The exit code is 1 if a file could not be read.

    \b
    Examples:
      cfplatform stats labels
      cfplatform stats "labels/Street scenes"
      cfplatform stats labels --json | jq '.categories | map_values(.annotations)'
    """
    unread: list[str] = []
    count = 0

    def note(finding: coco.Finding) -> None:
        nonlocal count
        count += 1
        if len(unread) < _NAMED:
            unread.append(f"{finding.path}: {finding.message}")

    found = coco.stats(source, images_from=images_from, progress=output.reporter(READ), on_error=note)
    if output.as_json:
        output.json_line(found.as_dict())
    elif output.tables:
        _show_statistics(output, found)
    else:
        for cells in _rows(found):
            output.row(cells)
    if not count:
        return 0
    output.error(f"{counted(count, 'files')} could not be read.", [] if output.as_json else listed(unread, count))
    return FAILED


def _totals(found: coco.Stats) -> list[tuple[str, int]]:
    return [
        ("Documents", found.documents),
        ("Unreadable", found.unreadable),
        ("Images", found.images),
        ("Empty images", found.empty_images),
        ("Annotations", found.annotations),
        ("Crowds", found.crowds),
    ]


def _rows(found: coco.Stats) -> Iterator[tuple[str, ...]]:
    """Yield the lines of a pipe: kind, name and figures."""
    for name, count in _totals(found):
        yield "total", name.lower(), str(count)
    for kind, counts in (("kind", found.kinds), ("size", found.box_sizes), ("side", found.box_sides)):
        for key, count in counts.items():
            yield kind, str(key), str(count)
    for name, each in found.categories.items():
        yield "class", name, str(each.annotations), str(each.images), _side(each.mean_side)
    for name, batch in found.batches.items():
        yield "batch", name, str(batch.documents), str(batch.images), str(batch.annotations), str(batch.empty_images)


def _show_statistics(output: Output, found: coco.Stats) -> None:
    output.line()
    output.pairs([(name, f"{count:,}") for name, count in _totals(found) if count or name != "Unreadable"])
    output.table(
        [Column("Class", flexible=True), *_figures("Annotations", "Share", "Images", "Mean side")],
        [
            (
                name,
                f"{each.annotations:,}",
                _share(each.annotations, found),
                f"{each.images:,}",
                _side(each.mean_side),
            )
            for name, each in found.categories.items()
        ],
    )
    output.table(
        [Column("Batch", flexible=True), *_figures("Documents", "Images", "Empty", "Annotations")],
        [
            (name, f"{each.documents:,}", f"{each.images:,}", f"{each.empty_images:,}", f"{each.annotations:,}")
            for name, each in found.batches.items()
        ],
    )
    output.table([Column("With"), *_figures("Annotations", "Share")], _counted(found.kinds, found))
    output.table([Column("Object"), *_figures("Annotations", "Share")], _counted(found.box_sizes, found))
    sides = {f"{side} to {max(1, 2 * side)}": count for side, count in found.box_sides.items()}
    output.table([Column("Side of box"), *_figures("Annotations", "Share")], _counted(sides, found))


def _figures(*titles: str) -> list[Column]:
    return [Column(title, right=True, optional=number) for number, title in enumerate(titles)]


def _counted(counts: dict[str, int], found: coco.Stats) -> list[tuple[str, str, str]]:
    return [(name, f"{count:,}", _share(count, found)) for name, count in counts.items()]


def _side(pixels: float) -> str:
    return f"{pixels:.1f}" if pixels else "-"


def _share(count: int, found: coco.Stats) -> str:
    return f"{count / found.annotations:.1%}" if found.annotations else "-"


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.option(
    "--images-from",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Folder of the images (default: found beside the labels).",
)
@click.option("--errors-only", is_flag=True, help="Ignore warnings.")
@click.option("--strict", is_flag=True, help="Exit with 1 if there are warnings.")
@usual("--limit", type=click.IntRange(0), default=3, help="Maximum number of findings to show per code.")
@with_output
def validate(output: Output, source: str, images_from: str | None, errors_only: bool, strict: bool, limit: int) -> int:
    """Validate COCO annotations.

    SOURCE is a folder of downloaded annotations, the folder of one batch, an unpacked export, or a file with one COCO
    document. Each finding has a code, such as "box-outside" or "dangling-category-id", and its location in the document
    as a JSON pointer; the documentation lists all codes. An error makes tools fail or train on wrong data, a warning
    is only unusual. It needs no key and no network, and changes nothing.

    The sizes of local images are compared with the document, if Pillow is installed. Images are found where labelling
    tools put them; --images-from names another folder, and then missing images are errors.

    On a terminal these are tables; into a pipe tab-separated lines of severity, code, file, JSON pointer and message;
    with --json one object per line. The exit code is 1 if there are errors.

    \b
    Examples:
      cfplatform validate labels
      cfplatform validate labels --errors-only --limit 20
      cfplatform validate annotations --images-from train2017
      cfplatform validate labels | cut -f 2 | sort | uniq -c
      cfplatform validate labels --json | jq -r 'select(.code == "bad-mask").path'
    """
    # Lines on a terminal would run into the bar.
    moves = output.tables or not sys.stdout.isatty()
    bar = output.reporter(READ) if moves else None
    findings = coco.validate(source, images_from=images_from, progress=bar)
    groups = coco.FindingGroups(limit if output.tables else 0)
    for finding in findings:
        if errors_only and finding.severity != coco.ERROR:
            continue
        groups.add(finding)
        if output.as_json:
            output.json_line(finding.as_dict())
        elif not output.tables:
            output.row((finding.severity, finding.code, cell(finding.path), finding.pointer, finding.message))
    if output.tables:
        _show_findings(output, groups.sorted())
    counts = {severity: groups.count(severity) for severity in (coco.ERROR, coco.WARNING)}
    found = " and ".join(counted(count, f"{severity}s") for severity, count in counts.items() if count)
    if counts[coco.ERROR] or (strict and found):
        output.error(f"{found}.")
        return FAILED
    output.note(f"{found}." if found else "No problems found.")
    return 0


def _show_findings(output: Output, groups: list[coco.FindingGroup]) -> None:
    for group in groups:
        if group.first:
            output.findings(group.severity, group.code, [(_location(each), each.message) for each in group.first])
    if groups:
        right = [Column("Findings", right=True), Column("Documents", right=True)]
        rows = [(each.severity, each.code, f"{each.count:,}", f"{each.documents:,}") for each in groups]
        output.table([Column("Severity"), Column("Code", flexible=True), *right], rows)


def _location(finding: coco.Finding) -> str:
    """Return the location, with the path relative to the current folder."""
    return finding.location.removeprefix(f"{Path.cwd()}{os.sep}")


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="[OUTPUT]", required=False, shell_complete=completing("file"))
@click.option("--images-from", metavar="FOLDER", shell_complete=completing("dir"), help="Folder of the images.")
@usual("--samples", type=click.IntRange(0, 50_000), default=10_000, help="Maximum number of images in the gallery.")
@click.option("--title", help="Title (default: the name of SOURCE).")
@click.option("--ask", is_flag=True, help="Get the progress of each batch from the platform (needs a key).")
@with_project
@with_output
@with_selection
def report(
    output: Output,
    connection: Options,
    source: coco.Source,
    output_: str | None,
    images_from: str | None,
    samples: int,
    title: str | None,
    ask: bool,
) -> None:
    """Write an HTML report about a dataset, with annotated images.

    SOURCE is a folder of downloaded annotations, best with --assets, or a file with one COCO document. The page, OUTPUT
    or SOURCE/report.html, is one file that opens in any browser without a network: totals, batches, categories, box
    sizes, the findings of "validate", and a gallery of annotated images with filters for category, batch, findings and
    text. Images are looked for where tools put them, or in the folder of --images-from. Of more images than --samples,
    those shown are evenly spaced. It needs no key and no network, except with --ask.

    \b
    Examples:
      cfplatform report labels
      cfplatform report labels night.html --title "Night drives" --samples 500
      cfplatform report dataset.json dataset.html --images-from images
      cfplatform report labels --ask
    """
    batches: list[Batch] | None = None
    if ask:
        with opened(output, connection) as client:
            batches = list(client.get_batches())
    options = {"images_from": images_from, "samples": samples, "title": title, "batches": batches}
    written = written_report(output, source, output_, **options)
    if output.as_json:
        output.json_line(vars(written))
    elif output.tables:
        output.line()
        output.pairs(
            [
                ("Documents", f"{written.documents:,}"),
                ("Annotations", f"{written.annotations:,}"),
                ("Errors", f"{written.errors:,}"),
                ("Warnings", f"{written.warnings:,}"),
                ("Samples", f"{written.samples:,}"),
                ("Page size", amount(written.size)),
            ]
        )
        output.line()
        output.line(str(written.path))
    else:
        output.row([str(written.path)])


def written_report(output: Output, source: coco.Source, page: str | None = None, **options: Any) -> ReportSummary:
    """Write the page, and show the progress."""
    from ..report import write_report

    # Pillow's warning of an image that is too large, which the page names.
    warnings.filterwarnings("ignore", message="Image size")
    return write_report(source, page, made_at=datetime.now(timezone.utc), progress=output.reporter(REPORT), **options)
