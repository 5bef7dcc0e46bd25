"""What a caller says of an export, and of waiting for it; all is checked before anything is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import TypedDict

from .. import params, progress
from ..exceptions import InvalidParameterError, shown
from ..params import WAIT_TIMEOUT, DatetimeLike
from ..resources import ExportContent, ExportFormat

#: Projects and batches in one export, at the most (official client's documentation).
MAX_PROJECTS = 50
MAX_BATCHES = 100
#: Seconds between two looks once waiting has gone on for a while, unless the caller says otherwise.
POLL_INTERVAL = 5.0

_DATES = {
    "created_at_from": "createdAtFrom",
    "created_at_to": "createdAtTo",
    "updated_at_from": "updatedAtFrom",
    "updated_at_to": "updatedAtTo",
}


class WaitOptions(TypedDict, total=False):
    """Options of waiting; what they mean stands at :meth:`~cfplatform.Client.wait_for_export`."""

    timeout: float
    poll_interval: float
    progress: progress.Progress


class ExportDownloadOptions(TypedDict, total=False):
    """Options of a download; what they mean stands at :meth:`~cfplatform.Client.download_export`."""

    wait: bool
    timeout: float
    poll_interval: float
    extract: bool
    overwrite: bool
    progress: progress.Progress


def request_body(
    name: str,
    *,
    format: str,
    content: str | None,
    project_ids: Iterable[Any] | None,
    batch_ids: Iterable[Any] | None,
    dates: dict[str, DatetimeLike | None],
) -> dict[str, Any]:
    """Check what an export is to be made of, and return it as the platform spells it.

    Raises:
        InvalidParameterError: If the platform would refuse it, or would take it for something else.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidParameterError(f"name must be a text that is not blank, not {shown(name)}.", parameter="name")
    body: dict[str, Any] = {"name": name.strip(), "format": _member("format", format, ExportFormat)}
    if content is not None:
        body["content"] = _member("content", content, ExportContent)
        if body["format"] == ExportFormat.COCO_JSON and body["content"] != ExportContent.ANNOTATION:
            raise InvalidParameterError(
                f"content {body['content']} cannot be exported as COCO_JSON.",
                parameter="content",
                hint="Pass format='JSON' or format='CSV'.",
            )
    projects = _ids("project_ids", project_ids, params.object_id, MAX_PROJECTS)
    batches = _ids("batch_ids", batch_ids, params.batch_id, MAX_BATCHES)
    if projects:
        body["projectIds"] = projects
    if batches:
        body["batchIds"] = [int(each) for each in batches]
    params.work_item_queries(params.WorkItemFilters(**dates))  # type: ignore[typeddict-item]
    for argument, key in _DATES.items():
        value = dates.get(argument)
        if value is not None:
            body[key] = params.date(argument, value)[1]
    return body


def checked_format(value: str | None) -> str | None:
    """Check the filter of a listing."""
    return None if value is None else _member("format", value, ExportFormat)


def _member(name: str, value: Any, kind: type[ExportFormat] | type[ExportContent]) -> str:
    known = [member.value for member in kind]
    if not isinstance(value, str) or str.__str__(value) not in known:
        raise InvalidParameterError(f"{name} must be one of {', '.join(known)}, not {shown(value)}.", parameter=name)
    return str.__str__(value)


def _ids(name: str, ids: Iterable[Any] | None, check: Callable[[str, Any], str], most: int) -> list[str]:
    if ids is None:
        return []
    if isinstance(ids, (str, bytes, dict)) or not isinstance(ids, Iterable):
        raise InvalidParameterError(f"{name} must be a list of ids, not {type(ids).__name__}.", parameter=name)
    unique = list(dict.fromkeys(check(name, each) for each in ids))
    if not unique:
        raise InvalidParameterError(
            f"{name} is empty, which the platform takes for everything. Leave it out if that is what you want.",
            parameter=name,
        )
    if len(unique) > most:
        raise InvalidParameterError(
            f"{name} has {len(unique)} ids; one export takes {most} at the most.", parameter=name
        )
    return unique


def seconds(name: str, value: Any, least: float = 0.0) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= 366 * 24 * 3600:
        raise InvalidParameterError(
            f"{name} must be a number of seconds from {least:g} up, not {shown(value)}.", parameter=name
        )
    return float(value)


def bounds(options: WaitOptions | ExportDownloadOptions) -> tuple[float, float]:
    """Check how long is waited, and return it: at the most, and between two looks."""
    return (
        seconds("timeout", options.get("timeout", WAIT_TIMEOUT)),
        seconds("poll_interval", options.get("poll_interval", POLL_INTERVAL), least=0.1),
    )
