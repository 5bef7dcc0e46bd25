"""Options that commands about datasets share: where images are, how to choose parts, what to select."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from .. import coco
from .common import Output, given
from .options import PARTS, SELECTION, completing, option
from .text import counted

with_images_from = option(
    "--images-from",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Folder of the images (default: where labeling tools put them).",
)
with_images = option(
    "--images",
    type=click.Choice(["link", "copy"]),
    help="Add the images to the output, as hard links or copies.",
)


def in_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Split NAME=VALUE pairs."""
    pairs = [value.partition("=") for value in values]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise click.BadParameter(
                f"{name + sign + value!r} must have the form {parameter.metavar}.", context, parameter
            )
    return [(name, value) for name, _, value in pairs]


EITHER = "Name the parts, either with --part PART=FRACTION or with --batch-name PART=BATCH."
_part = functools.partial(option, section=PARTS)
_PARTS = (
    _part(
        "--part",
        "parts",
        metavar="PART=FRACTION",
        multiple=True,
        callback=in_pairs,
        help="Part and its fraction or percentage (repeatable).",
    ),
    _part(
        "--batch-name",
        "batches",
        aliases=["--batch"],
        metavar="PART=BATCH",
        multiple=True,
        callback=in_pairs,
        help="Instead of fractions: batch to put in a part (repeatable).",
    ),
    _part("--by", metavar="GROUP", help="Unit to keep together: item (default), batch, video, or a metadata key."),
    _part(
        "--groups",
        metavar="FILE",
        shell_complete=completing("file"),
        help="CSV file of items and their groups, to keep together.",
    ),
    _part("--stratify", is_flag=True, default=None, help="Balance the classes across the parts."),
    _part(
        "--keep",
        metavar="FOLDER",
        shell_complete=completing("dir"),
        help="Earlier split; its items stay in their parts.",
    ),
    _part("--seed", metavar="SEED", help="Random seed (default: 0)."),
)


def _parts_of(parts: list[tuple[str, str]], batches: list[tuple[str, str]]) -> dict[str, Any]:
    if parts and batches:
        raise click.UsageError(EITHER)
    if batches:
        return {name: [batch for part, batch in batches if part == name] for name, _ in batches}
    fractions: dict[str, float] = {}
    for name, value in parts:
        if name in fractions:
            raise click.UsageError(f"Part {name!r} is given twice.")
        try:
            fractions[name] = float(value)
        except ValueError:
            raise click.UsageError(f"Fraction of part {name!r} is not a number: {value!r}.") from None
    # Such as 80 and 20.
    total = math.fsum(fractions.values())
    percent = math.isclose(total, 100)
    if not percent and any(value > 1 for value in fractions.values()):
        raise click.UsageError(f"Percentages of --part must sum to 100, not {total:g}.")
    return {name: value / 100 for name, value in fractions.items()} if percent else fractions


def with_parts(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Add the options that choose the parts, which the command gets as ``parts`` and ``chosen_by``."""

    @functools.wraps(function)
    def command(
        parts: list[tuple[str, str]],
        batches: list[tuple[str, str]],
        by: str | None,
        groups: str | None,
        stratify: bool | None,
        keep: str | None,
        seed: str | None,
        **values: Any,
    ) -> int | None:
        chosen_by = given(by=by, groups=groups, stratify=stratify, keep=keep, seed=seed)
        return function(parts=_parts_of(parts, batches), chosen_by=chosen_by, **values)

    for add in reversed(_PARTS):
        command = add(command)
    return command


_select = functools.partial(option, section=SELECTION)
_SELECTION = (
    _select("--only", metavar="CLASS", multiple=True, help="Keep only this class (repeatable; sets their order)."),
    _select("--drop", metavar="CLASS", multiple=True, help="Remove this class (repeatable)."),
    _select(
        "--rename",
        metavar="OLD=NEW",
        multiple=True,
        callback=in_pairs,
        help="Rename a class, or merge it into another one (repeatable).",
    ),
    _select(
        "--min-side",
        metavar="PIXELS",
        type=click.FloatRange(0),
        help="Remove annotations whose box is narrower or shorter than this.",
    ),
    _select("--no-crowds", is_flag=True, help="Remove crowd annotations."),
    _select("--drop-empty", is_flag=True, help="Remove images without annotations."),
)
#: The text for each reason of removal.
_REASONS = {
    "class": "of other classes",
    "crowd": "that are crowds",
    "side": "below --min-side",
    "empty": "without annotations",
}


def selecting(*sources: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Return a decorator that adds the selection options; the command gets these arguments as selections."""

    def with_options(function: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(function)
        def command(
            output: Output,
            only: tuple[str, ...],
            drop: tuple[str, ...],
            rename: list[tuple[str, str]],
            min_side: float | None,
            no_crowds: bool,
            drop_empty: bool,
            **values: Any,
        ) -> int | None:
            if not (only or drop or rename or min_side is not None or no_crowds or drop_empty):
                return function(output=output, **values)
            if repeated := sorted(name for name, count in Counter(name for name, _ in rename).items() if count > 1):
                raise click.UsageError(f"Class {repeated[0]!r} is renamed twice.")
            selections = {
                source: coco.select(
                    values[source],
                    only=only or None,
                    drop=drop,
                    rename=dict(rename),
                    min_side=min_side,
                    crowds=not no_crowds,
                    empty_images=not drop_empty,
                )
                for source in sources
            }
            code = function(output=output, **{**values, **selections})
            removed = Counter[tuple[str, str]]()
            for selection in selections.values():
                for unit, counts in vars(selection.removed).items():
                    removed.update({(unit, reason): count for reason, count in counts.items()})
            left_out = [
                f"{counted(count, unit)} {_REASONS[reason]}" for (unit, reason), count in sorted(removed.items())
            ]
            output.note(f"Removed: {', '.join(left_out) or 'nothing'}.")
            return code

        for add in reversed(_SELECTION):
            command = add(command)
        return command

    return with_options


with_selection = selecting("source")
