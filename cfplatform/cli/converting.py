"""``cfplatform convert``: labels in other formats, without a key."""

from __future__ import annotations

import shlex
from typing import Any

import click

from .. import coco
from .common import Output, usual, with_output
from .datasets import finding_lines, reported
from .groups import completing
from .progress import READ
from .sources import with_images_from, with_parts, with_selection


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("output_", metavar="OUTPUT", shell_complete=completing("dir"))
@click.option("--to", type=click.Choice(["yolo", "voc", "coco"]), required=True, help="Format of OUTPUT.")
@click.option(
    "--task",
    type=click.Choice(["detect", "segment", "pose", "obb"]),
    help="Rows of YOLO: boxes, polygons, keypoints or turned boxes (default: boxes, or what SOURCE has).",
)
@with_parts
@click.option(
    "--images",
    type=click.Choice(["link", "copy", "none"]),
    help="Put the images into OUTPUT, as hard links or as copies (default: link, if OUTPUT is a folder).",
)
@with_images_from
@usual(
    "--layout",
    type=click.Choice(["annotations", "parts"]),
    default="annotations",
    help="COCO: annotations/instances_<part>.json, or <part>/_annotations.coco.json.",
)
@usual("--origin", type=click.IntRange(0, 1), default=1, help="VOC: number of the first pixel; 0 for torchvision.")
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

    SOURCE is a folder of downloaded annotations, a file with one COCO document, or a dataset of YOLO: its data.yaml or
    the folder of that. OUTPUT is a folder for this dataset alone: a second run replaces it, and a folder with other
    files is refused. For COCO it can also be a file that ends with .json. Without --part, documents keep the part of
    their name or folder, such as val.json; all others are in "train".

    What a format does not have, such as crowds, is left out, counted and reported as a warning. The exit code is 1 if
    something could not be read; the rest was written. It needs no key and no network. With --json there is a line for
    each error and each warning, and a last one with the summary.

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
        progress=output.reporter(READ),
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
