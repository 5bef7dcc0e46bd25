"""Options that several commands about labels share: where images are, how to choose parts, what to select."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from .. import coco
from .common import Output, given
from .groups import completing
from .text import counted

with_images_from = click.option(
    "--images-from",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Folder of the images (default: where labelling tools put them).",
)
with_images = click.option(
    "--images",
    type=click.Choice(["link", "copy"]),
    help="Put the images beside the output, as hard links or as copies.",
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


EITHER = "Name the parts, either with --part NAME=FRACTION or with --batch NAME=BATCH."
_PARTS = (
    click.option(
        "--part",
        "parts",
        metavar="NAME=FRACTION",
        multiple=True,
        callback=in_pairs,
        help="Part and its fraction or percentage (repeatable).",
    ),
    click.option(
        "--batch",
        "batches",
        metavar="NAME=BATCH",
        multiple=True,
        callback=in_pairs,
        help="Instead of fractions: batch that belongs to a part (repeatable).",
    ),
    click.option("--by", metavar="NAME", help="What to keep together: item (default), batch, video, or a member."),
    click.option(
        "--groups",
        metavar="FILE",
        shell_complete=completing("file"),
        help="CSV file of items and groups to keep together.",
    ),
    click.option("--stratify", is_flag=True, default=None, help="Spread each class evenly."),
    click.option(
        "--keep",
        metavar="FOLDER",
        shell_complete=completing("dir"),
        help="Earlier split whose items stay in their parts.",
    ),
    click.option("--seed", metavar="TEXT", help="Random seed (default: 0)."),
)


def _parts_of(parts: list[tuple[str, str]], batches: list[tuple[str, str]]) -> dict[str, Any]:
    if parts and batches:
        raise click.UsageError(EITHER)
    if batches:
        return {name: [batch for part, batch in batches if part == name] for name, _ in batches}
    fractions: dict[str, float] = {}
    for name, value in parts:
        if name in fractions:
            raise click.UsageError(f"The part {name!r} is given twice.")
        try:
            fractions[name] = float(value)
        except ValueError:
            raise click.UsageError(f"The fraction of the part {name!r} is not a number: {value!r}.") from None
    # Such as 80 and 20.
    total = math.fsum(fractions.values())
    percent = math.isclose(total, 100)
    if not percent and any(value > 1 for value in fractions.values()):
        raise click.UsageError(f"The percentages of --part must sum to 100, not to {total:g}.")
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

    for option in reversed(_PARTS):
        command = option(command)
    return command


_SELECTION = (
    click.option("--only", metavar="CLASS", multiple=True, help="Keep only this class (repeatable, in order)."),
    click.option("--drop", metavar="CLASS", multiple=True, help="Leave out this class (repeatable)."),
    click.option(
        "--rename",
        metavar="OLD=NEW",
        multiple=True,
        callback=in_pairs,
        help="Rename a class; classes with the same name become one (repeatable).",
    ),
    click.option(
        "--min-side",
        metavar="PIXELS",
        type=click.FloatRange(0),
        help="Leave out annotations whose box is less wide or high than this.",
    ),
    click.option("--no-crowds", is_flag=True, help="Leave out crowds."),
    click.option("--drop-empty", is_flag=True, help="Leave out images without annotations."),
)
#: What the reasons of a selection mean.
_REASONS = {
    "class": "of other classes",
    "crowd": "that are crowds",
    "side": "below --min-side",
    "empty": "without annotations",
}


def selecting(*sources: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Return what adds the options that select a part of these arguments, which the command gets instead."""

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
                raise click.UsageError(f"The class {repeated[0]!r} is renamed twice.")
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
            output.note(f"Left out: {', '.join(left_out) or 'nothing'}.")
            return code

        for option in reversed(_SELECTION):
            command = option(command)
        return command

    return with_options


with_selection = selecting("source")
