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
from .common import Options, Output, opened, with_output, with_project
from .errors import FAILED
from .groups import command
from .options import OUTPUT, completing, option, usual
from .progress import MERGE, READ, REPORT
from .sources import EITHER, with_images, with_images_from, with_parts, with_selection
from .text import Column, amount, cell, counted, listed

if TYPE_CHECKING:
    from ..report import ReportSummary
    from ..resources import Batch

#: Maximum number of files, warnings and errors that are listed.
_NAMED = 10


@command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="OUTPUT", shell_complete=completing("file"))
@with_images_from
@with_images
@option(
    "--metadata",
    metavar="NAME",
    multiple=True,
    help="Metadata of work items to copy to their images (repeatable).",
)
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

    SOURCE is a folder of downloaded annotations, or a COCO file. OUTPUT is one COCO file: IDs are reassigned,
    categories are merged by name and supercategory, and the file_name of each image is the path to its image, relative
    to the folder of OUTPUT. --images adds the images in a folder "images" next to OUTPUT, for tools that reject paths
    outside the dataset. --metadata copies metadata of work items to their images, where "cfplatform split --by"
    finds it.

    Memory does not grow with the number of documents, and OUTPUT is written atomically. Entries that cannot be merged
    are skipped and reported, and the exit code is 1. Works offline, without an API key. With --json, prints a line for
    each error and warning, and the summary in the last line.

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
        progress=output.reporter(MERGE),
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


@command()
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

    SOURCE is a folder of downloaded annotations, or a COCO file. Each part becomes a file OUTPUT/<part>.json, as
    "cfplatform merge" writes it, and all parts have the same categories. The part of an item depends on a hash of its
    ID: items that are added later do not move others, and fractions are approximate. In datasets from other tools, each
    image is an item, and the frames of a video stay together. --images adds the images in OUTPUT/images.

    --by keeps the items of a group together. GROUP is "batch", "video", or a key of the image, of the metadata of
    its work item, or of "info". --groups reads the groups from a CSV file with a line "item,group" for each item.
    --stratify balances the classes: it moves groups until each part has about its fraction of every class. Items that
    are added later may then move others, unless --keep names the folder of the earlier split.

    Works offline, without an API key. With --json, prints a line for each error and warning, and the summary in the
    last line.

    \b
    Examples:
      cfplatform split labels datasets --part train=0.8 --part val=0.2
      cfplatform split labels datasets --part train=80 --part val=20 --by scene
      cfplatform split labels new --part train=80 --part val=20 --keep datasets
      cfplatform split labels datasets --part train=80 --part val=20 --stratify
      cfplatform split labels datasets \\
          --batch-name train="Day" --batch-name val="Night"
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
        progress=output.reporter(MERGE),
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
        # One of each kind: a conversion may report the same loss for every image.
        kinds = list({each.code: each for each in reversed(summary.conflicts)}.values())[::-1]
        for line in _named(kinds, summary.conflict_count):
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


@command()
@click.argument("source", shell_complete=completing("dir"))
@with_images_from
@with_output
@with_selection
def stats(output: Output, source: coco.Source, images_from: str | None) -> int:
    """Show dataset statistics.

    SOURCE is a folder of downloaded annotations, the folder of one batch, an unpacked export, or a COCO file. Counts
    documents, images and annotations, by class and by batch; images without annotations; crowds; and object sizes.
    "small" and "large" are as in COCO: an area below 32² or above 96² pixels. Images are not read: --images-from
    has no effect here, and is accepted for scripts that pass it to every command. Works offline, without an API key.

    Prints tables on a terminal; tab-separated lines of kind, name and figures in a pipe; one object with --json. The
    exit code is 1 if a file cannot be read.

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
    output.table([Column("Object size"), *_figures("Annotations", "Share")], _counted(found.box_sizes, found))
    sides = {f"{side} to {max(1, 2 * side)}": count for side, count in found.box_sides.items()}
    output.table([Column("Box side"), *_figures("Annotations", "Share")], _counted(sides, found))


def _figures(*titles: str) -> list[Column]:
    return [Column(title, right=True, optional=number) for number, title in enumerate(titles)]


def _counted(counts: dict[str, int], found: coco.Stats) -> list[tuple[str, str, str]]:
    return [(name, f"{count:,}", _share(count, found)) for name, count in counts.items()]


def _side(pixels: float) -> str:
    return f"{pixels:.1f}" if pixels else "-"


def _share(count: int, found: coco.Stats) -> str:
    return f"{count / found.annotations:.1%}" if found.annotations else "-"


@command()
@click.argument("source", shell_complete=completing("dir"))
@option(
    "--images-from",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Folder of the images (default: next to the annotations).",
)
@option("--errors-only", is_flag=True, section=OUTPUT, help="Ignore warnings.")
@option("--strict", is_flag=True, section=OUTPUT, help="Exit with 1 if there are warnings.")
@usual(
    "--limit",
    type=click.IntRange(0),
    default=3,
    section=OUTPUT,
    help="Maximum number of findings per code, on a terminal.",
)
@with_output
def validate(output: Output, source: str, images_from: str | None, errors_only: bool, strict: bool, limit: int) -> int:
    """Validate COCO annotations.

    SOURCE is a folder of downloaded annotations, the folder of one batch, an unpacked export, or a COCO file. Each
    finding has a code, which the documentation explains, and its location in the document as a JSON pointer. Errors
    make tools fail or train on wrong data; warnings are unusual, but valid. Works offline, without an API key, and
    changes nothing.

    If Pillow is installed, the sizes of local images are checked too. Images are found where labeling tools put them.
    With --images-from, missing images are errors.

    Prints tables on a terminal; tab-separated lines of severity, code, file, JSON pointer and message in a pipe; one
    object per line with --json. The exit code is 1 if there are errors.

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


@command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="[OUTPUT]", required=False, shell_complete=completing("file"))
@option("--images-from", metavar="FOLDER", shell_complete=completing("dir"), help="Folder of the images.")
@usual(
    "--samples",
    type=click.IntRange(0, 50_000),
    default=10_000,
    section=OUTPUT,
    help="Maximum number of images in the gallery, up to 50,000.",
)
@option("--title", section=OUTPUT, help="Title of the page (default: the name of SOURCE).")
@option("--ask", is_flag=True, help="Fetch the progress of each batch from the platform (needs an API key).")
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

    SOURCE is a folder of downloaded annotations, best downloaded with --assets, or a COCO file. OUTPUT (default:
    SOURCE/report.html) is a single file that opens in any browser, offline. It shows totals, batches, classes, box
    sizes, the findings of "validate", and a gallery of annotated images with filters for class, batch, findings and
    text. Images are found where labeling tools put them, or in the folder of --images-from. If there are more images
    than --samples, an evenly spaced sample is shown. Works offline, without an API key, except with --ask.

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
