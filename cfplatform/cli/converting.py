"""``cfplatform convert``: annotations in other formats, without a key."""

from __future__ import annotations

import shlex
from typing import Any

import click

from .. import coco
from .common import Output, with_output
from .datasets import finding_lines, reported
from .groups import command
from .options import completing, option, usual
from .progress import CONVERT
from .sources import with_images_from, with_parts, with_selection


@command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="OUTPUT", shell_complete=completing("dir"))
@option("--to", type=click.Choice(["yolo", "voc", "coco"]), required=True, help="Format of OUTPUT.")
@option(
    "--task",
    type=click.Choice(["detect", "segment", "pose", "obb"]),
    help="YOLO: type of the annotations (default: detect, or the type of SOURCE).",
)
@with_parts
@option(
    "--images",
    type=click.Choice(["link", "copy", "none"]),
    help="Add the images to OUTPUT, as hard links or copies (default: link, if OUTPUT is a folder).",
)
@with_images_from
@usual(
    "--layout",
    type=click.Choice(["annotations", "parts"]),
    default="annotations",
    help="COCO: annotations/instances_<part>.json or <part>/_annotations.coco.json.",
)
@usual(
    "--origin",
    type=click.IntRange(0, 1),
    default=1,
    help="VOC: index of the first pixel, 0 or 1.",
)
@with_output
@with_selection
def convert(
    output: Output,
    source: coco.Source,
    output_: str,
    to: str,
    task: str | None,
    parts: dict[str, Any],
    chosen_by: dict[str, Any],
    images: str | None,
    images_from: str | None,
    layout: str,
    origin: int,
) -> int:
    """Convert annotations to YOLO, Pascal VOC or COCO with images.

    SOURCE is a folder of downloaded annotations, a COCO file, or a YOLO dataset: its data.yaml or the folder that
    contains it. OUTPUT is a folder for this dataset only: a second run replaces it, and a folder with other files is an
    error. For COCO it may also be a .json file. Without --part, a document goes to the part that its file or folder is
    named after, such as val.json; all others go to "train".

    Annotations that the format cannot express, such as crowds in YOLO, are skipped, counted and reported as warnings.
    The exit code is 1 if something cannot be read; the rest is written. Works offline, without an API key. With --json,
    prints a line for each error and warning, and the summary in the last line.

    \b
    Examples:
      cfplatform convert labels training --to yolo --part train=80 --part val=20
      cfplatform convert labels training --to yolo --task segment --images copy
      cfplatform convert datasets training --to yolo
      cfplatform convert labels voc --to voc --origin 0
      cfplatform convert datasets training --to coco --layout parts
      cfplatform convert training/data.yaml dataset.json --to coco
    """
    options = chosen_by if images is None else {**chosen_by, "images": None if images == "none" else images}
    summary = coco.convert(
        source,
        output_,
        to,
        task=task,
        parts=parts or None,
        images_from=images_from,
        layout=layout,
        origin=origin,
        progress=output.reporter(CONVERT),
        on_error=finding_lines(output),
        **options,
    )
    shares = [(name, f"{count:,} images") for name, count in summary.parts.items()]
    losses = [(code, f"{count:,}") for code, count in summary.losses.items()]
    counts = [("Documents", summary.documents), ("Images", summary.images), ("Annotations", summary.annotations)]
    code = reported(output, summary, [*((name, f"{count:,}") for name, count in counts), *shares, *losses])
    if not output.as_json and not output.quiet:
        output.line()
        output.line(_next(summary))
    return code


def _next(summary: coco.ConvertSummary) -> str:
    """Return the path of the result, and for YOLO how to train with it, unless a part has no images."""
    path = str(summary.output)
    is_ready = summary.to == "yolo" and summary.images and all(summary.parts.values())
    return f"yolo {summary.task} train data={shlex.quote(path)}" if is_ready else path
