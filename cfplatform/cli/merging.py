"""``cfplatform merge`` and ``cfplatform split``: labels as one dataset, or as several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..coco import Finding, MergeSummary, SplitSummary
from ..coco import merge as merge_documents
from ..coco import split as split_documents
from ..console import FAILED, READ, Output
from .common import usual, with_output
from .groups import completing

#: Problems and conflicts that are named one by one.
_NAMED = 10


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("file", metavar="OUTPUT", shell_complete=completing("file"))
@with_output
def merge(output: Output, source: str, file: str) -> int:
    """Join labels into one COCO dataset.

    SOURCE is a folder that labels were downloaded into, or a file with one COCO document. All documents become the one
    file OUTPUT: ids are given anew, categories are joined by name and supercategory, and each image has the way to its
    downloaded picture as its file_name, seen from the folder of OUTPUT. Memory does not grow with the number of
    documents, and OUTPUT appears only when it is whole. What cannot be joined is left out and told, and makes the exit
    code 1. No key and no network are needed. With --json there is a line for each problem and each conflict, and a last
    one with the summary.

    \b
    Examples:
      cfplatform merge labels dataset.json
      cfplatform merge "labels/Street scenes" streets.json
      cfplatform merge labels dataset.json --json | jq 'select(.code)'
    """
    summary = merge_documents(source, file, progress=output.reporter(READ), on_error=_lines(output))
    figures = [
        ("Documents", f"{summary.documents:,}"),
        ("Images", f"{summary.images:,}"),
        ("Labels", f"{summary.annotations:,}"),
        ("Categories", f"{summary.categories:,}"),
        ("Bytes", f"{summary.size:,}"),
    ]
    return _told(output, summary, figures)


def _share(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Take names and what belongs to them apart."""
    pairs = [value.partition("=") for value in values]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise click.BadParameter(
                f"{name + sign + value!r} must have the form {parameter.metavar}.", context, parameter
            )
    return [(name, value) for name, _, value in pairs]


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.argument("folder", metavar="OUTPUT", shell_complete=completing("dir"))
@click.option("--part", "parts", metavar="NAME=FRACTION", multiple=True, callback=_share, help="A part; repeatable.")
@click.option(
    "--batch",
    "batches",
    metavar="NAME=BATCH",
    multiple=True,
    callback=_share,
    help="Instead of fractions: a batch that belongs to a part; repeatable.",
)
@usual("--by", type=click.Choice(["item", "batch"]), default="item", help="What stays together.")
@usual("--seed", metavar="TEXT", default="0", help="Another one divides in another way.")
@with_output
def split(
    output: Output,
    source: str,
    folder: str,
    parts: list[tuple[str, str]],
    batches: list[tuple[str, str]],
    by: str,
    seed: str,
) -> int:
    """Divide labels into COCO datasets, such as for training.

    SOURCE is a folder that labels were downloaded into, or a file with one COCO document. Each part becomes the file
    OUTPUT/<part>.json, as "cfplatform merge" would write it, with the same categories in all of them. A hash of its id
    decides where an item goes, so items that are added later move no others, and a part has about its fraction. No key
    and no network are needed. With --json there is a line for each problem and each conflict, and a last one with the
    summary.

    \b
    Examples:
      cfplatform split labels datasets --part train=0.8 --part val=0.2
      cfplatform split labels datasets --part train=0.8 --part val=0.2 --by batch
      cfplatform split labels datasets --batch train="Day" --batch val="Night"
    """
    summary = split_documents(
        source,
        folder,
        _parts(parts, batches),
        by=by,
        seed=seed,
        progress=output.reporter(READ),
        on_error=_lines(output),
    )
    shares = [(name, f"{part.images:,} images, {part.annotations:,} labels") for name, part in summary.parts.items()]
    return _told(output, summary, [("Documents", f"{summary.documents:,}"), *shares])


def _parts(parts: list[tuple[str, str]], batches: list[tuple[str, str]]) -> dict[str, Any]:
    if bool(parts) == bool(batches):
        raise click.UsageError("Name the parts, either with --part NAME=FRACTION or with --batch NAME=BATCH.")
    if batches:
        return {name: [batch for part, batch in batches if part == name] for name, _ in batches}
    fractions: dict[str, float] = {}
    for name, value in parts:
        if name in fractions:
            raise click.UsageError(f"The part {name!r} is there twice.")
        try:
            fractions[name] = float(value)
        except ValueError:
            raise click.UsageError(f"The fraction of the part {name!r} is no number: {value!r}.") from None
    return fractions


def _lines(output: Output) -> Callable[[Finding], None] | None:
    """Return what writes each problem as a line of JSON, if that is wanted."""
    return (lambda finding: output.json_line(finding.as_dict())) if output.as_json else None


def _told(output: Output, summary: MergeSummary | SplitSummary, figures: list[tuple[str, str]]) -> int:
    """Print the account, and return the exit code."""
    if output.as_json:
        for conflict in summary.conflicts:
            output.json_line(conflict.as_dict())
        output.json_line({"summary": summary.as_dict()})
    else:
        for line in _named(summary.conflicts, summary.conflict_count):
            output.note(f"Note: {line}")
        if not output.quiet:
            output.line()
            output.pairs([*figures, ("Seconds", f"{summary.elapsed:.1f}")])
    if not summary.problem_count:
        return 0
    named = [] if output.as_json else _named(summary.problems, summary.problem_count)
    output.error(f"{summary.problem_count:,} things could not be joined; the rest was written.", named)
    return FAILED


def _named(findings: list[Finding], count: int) -> list[str]:
    lines = [": ".join(filter(None, (_place(each), each.message))) for each in findings[:_NAMED]]
    return lines + ([f"and {count - _NAMED:,} more"] if count > _NAMED else [])


def _place(finding: Finding) -> str:
    return " ".join(filter(None, (finding.path or finding.item_id, finding.pointer)))
