"""``cfplatform stats``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from .. import coco
from ..console import FAILED, READ, Column, Output, counted
from .common import with_output
from .groups import completing

#: Files that are named one by one.
NAMED_FILES = 10


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@with_output
def stats(output: Output, source: str) -> int:
    """Count what is in labels.

    SOURCE is a folder that labels were downloaded into, the folder of one batch, an unpacked export, or a file that
    holds one COCO document. Counted are documents, images and annotations, of each class and of each batch; images
    without annotations; crowds; and sizes of objects, where "small" and "large" mean what they mean to COCO: an area
    below 32² and above 96² pixels. It needs no key and no network.

    On a terminal these are tables; into a pipe tab-separated lines of what is counted, its name and its figures; with
    --json one object. The exit code is 1 if a file could not be read.

    \b
    Examples:
      cfplatform stats labels
      cfplatform stats "labels/Street scenes"
      cfplatform stats labels --json | jq '.categories | map_values(.annotations)'
    """
    missed: list[str] = []
    count = 0

    def miss(finding: coco.Finding) -> None:
        nonlocal count
        count += 1
        if len(missed) < NAMED_FILES:
            missed.append(f"{finding.path}: {finding.message}")

    found = coco.stats(source, progress=output.reporter(READ), on_error=miss)
    if output.as_json:
        output.json_line(found.as_dict())
    elif output.tables:
        _show(output, found)
    else:
        for cells in _rows(found):
            output.row(cells)
    if not count:
        return 0
    if count > len(missed):
        missed.append(f"and {count - len(missed):,} more")
    output.error(f"{counted(count, 'files')} could not be read.", [] if output.as_json else missed)
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
    """Yield the lines of a pipe: what is counted, its name, and its figures."""
    for name, count in _totals(found):
        yield "total", name.lower(), str(count)
    for kind, counts in (("kind", found.kinds), ("size", found.box_sizes), ("side", found.box_sides)):
        for key, count in counts.items():
            yield kind, str(key), str(count)
    for name, each in found.categories.items():
        yield "class", name, str(each.annotations), str(each.images), _side(each.mean_side)
    for name, batch in found.batches.items():
        yield "batch", name, str(batch.documents), str(batch.images), str(batch.annotations), str(batch.empty_images)


def _show(output: Output, found: coco.Stats) -> None:
    output.line()
    output.pairs([(name, f"{count:,}") for name, count in _totals(found) if count or name != "Unreadable"])
    output.table(
        [Column("Class", flexible=True), *map(_figure, ("Annotations", "Share", "Images", "Mean side"))],
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
        [Column("Batch", flexible=True), *map(_figure, ("Documents", "Images", "Empty", "Annotations"))],
        [
            (name, f"{each.documents:,}", f"{each.images:,}", f"{each.empty_images:,}", f"{each.annotations:,}")
            for name, each in found.batches.items()
        ],
    )
    output.table([Column("With"), *map(_figure, ("Annotations", "Share"))], _counted(found.kinds, found))
    output.table([Column("Object"), *map(_figure, ("Annotations", "Share"))], _counted(found.box_sizes, found))
    sides = {f"{side} to {max(1, 2 * side)}": count for side, count in found.box_sides.items()}
    output.table([Column("Side of box"), *map(_figure, ("Annotations", "Share"))], _counted(sides, found))


def _figure(title: str) -> Column:
    return Column(title, right=True)


def _counted(counts: dict[str, int], found: coco.Stats) -> list[tuple[str, str, str]]:
    return [(name, f"{count:,}", _share(count, found)) for name, count in counts.items()]


def _side(pixels: float) -> str:
    return f"{pixels:.1f}" if pixels else "-"


def _share(count: int, found: coco.Stats) -> str:
    return f"{count / found.annotations:.1%}" if found.annotations else "-"
