"""Explains why a selection matches nothing, or not all requested IDs, and shows what exists instead."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections import Counter
from collections.abc import Iterable

import click
from click.core import ParameterSource

from ..client import Client
from ..exceptions import CFPlatformError
from . import options
from .common import Options, Output, resolved
from .errors import FAILED, option
from .text import counted, listed

#: Maximum number of work items that are looked at for their statuses, and of those that are named.
LOOKED_AT = 100
NAMED = 10

with_allow_empty = options.option(
    "--allow-empty", is_flag=True, help="Exit with 0 even if nothing matches or IDs are not found."
)


def is_selection(filters: Options) -> bool:
    """Return whether a filter was given; the default status alone does not count, a file without IDs does."""
    given = (value or _has_no_ids(filters) for name, value in filters.items() if name != "status")
    return not has_default_status() or any(given)


def _has_no_ids(filters: Options) -> bool:
    # Only with a file it is a list.
    return bool(filters["work_item_ids"] == [])


def has_default_status() -> bool:
    """Return whether no status was given to the running command."""
    return click.get_current_context().get_parameter_source("status") is ParameterSource.DEFAULT


def check(output: Output, client: Client, filters: Options, found: int, *, allow_empty: bool) -> int:
    """Report what a selection did not match, and return the exit code; ``found`` is the number of matches."""
    # A UUID may be written in either case.
    ids = {each.strip().lower() for each in filters["work_item_ids"]}
    if found and found >= len(ids):
        return 0
    lines: list[str] = []
    is_error = bool(found) or is_selection(filters)
    # The result is the same without an explanation.
    with contextlib.suppress(CFPlatformError):
        if not is_error:
            lines = [_of_statuses(client, filters) or "The project has no work items."]
        else:
            lines = _of_ids(client, filters) if ids else _of_others(client, filters)
    if not is_error:
        output.note("".join(lines) or "There are no work items to list.")
        return 0
    if found:
        text = f"{len(ids) - found:,} of {counted(len(ids), 'work items')} were not found, or do not match."
    else:
        text = f"No work items match {_named(filters)}."
    if allow_empty:
        for line in (text, *lines):
            output.note(line)
        return 0
    output.error(f"{text} Pass --allow-empty if this is expected.", lines)
    return FAILED


def statuses(client: Client, ids: Iterable[str]) -> dict[str, str]:
    """Return the statuses of work items by ID in lower case, without those that are not found."""
    return {item.id.lower(): str(item.status) for item in client.get_work_items(work_item_ids=ids)}


def _named(filters: Options) -> str:
    """Return the filters as they are written."""
    given = resolved(filters)
    parts = [
        f"{option(name)} {value}"
        for name, values in given.items()
        if values
        for value in (values if isinstance(values, tuple) else [json.dumps(values) if name == "metadata" else values])
    ]
    parts = ["--work-item-ids", *parts] if _has_no_ids(filters) else parts
    return ", ".join(listed(parts[:NAMED], len(parts)))


def _of_ids(client: Client, filters: Options) -> list[str]:
    ids = list(dict.fromkeys(each.strip() for each in filters["work_item_ids"]))
    known = statuses(client, ids)
    wanted = resolved(filters)["status"]
    lines = [f"Not found: {each}" for each in ids if each.lower() not in known]
    for each in ids:
        status = known.get(each.lower())
        if status is not None and wanted is not None and status not in wanted:
            lines.append(f"Not {' or '.join(wanted)}: {each} is {status}")
    return listed(lines[:NAMED], len(lines)) or ["The work items exist, but the other filters exclude them."]


def _of_others(client: Client, filters: Options) -> list[str]:
    """Return why nothing matches: the batches, else the statuses, else the other filters."""
    if _has_no_ids(filters):
        return ["--work-item-ids has no IDs."]
    if filters["batch_ids"]:
        known = {int(batch.id): str(batch.name) for batch in client.get_batches()}
        missing = [f"There is no batch {each}." for each in filters["batch_ids"] if each not in known]
        if missing:
            named = listed([f"{each} ({name})" for each, name in list(known.items())[:NAMED]], len(known))
            return [*listed(missing[:NAMED], len(missing)), f"Batches: {', '.join(named) or 'none'}."]
    found = _of_statuses(client, filters)
    return [found] if found else []


def _of_statuses(client: Client, filters: Options) -> str:
    """Return the statuses of what matches the other filters: of the first page, since a listing may be long."""
    wanted = resolved(filters)["status"]
    if wanted is None:
        return ""
    # The platform has no filter for metadata: all of the project would be listed.
    given = {**resolved(filters), "status": None, "metadata": None}
    seen = Counter(str(item.status) for item in client.get_work_items(limit=LOOKED_AT, **given))
    if not seen or not seen.keys().isdisjoint(wanted):
        return ""
    near = dict.fromkeys(each for one in wanted for each in difflib.get_close_matches(one.upper(), [*seen], 1))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    are = ", ".join(f"{status} ({count:,})" for status, count in seen.most_common())
    first = f" of the first {LOOKED_AT}" if seen.total() == LOOKED_AT else ""
    return f"No work item has the status {' or '.join(wanted)}.{hint} Statuses{first}: {are}."
