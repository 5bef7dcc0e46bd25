"""Checks that several resources share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from .. import timestamps
from ..answers import ApiError, read_json
from ..platform import Platform

#: The platform's limit on the ids in one filter.
MAX_FILTER_IDS = 100


def require_project(platform: Platform, request: Request) -> None:
    """Refuse a project that does not exist."""
    if request.path_params["project_id"] != platform.store.project_id:
        raise ApiError(404, "project not found")


def require_space(platform: Platform, request: Request) -> None:
    """Refuse a space that does not exist."""
    if request.path_params["space_id"] != platform.store.space_id:
        raise ApiError(404, "space not found")


async def read_object(request: Request) -> dict[str, Any]:
    """Return the body of a request.

    Raises:
        ApiError: If it is not a JSON object.
    """
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def require_text(body: Mapping[str, Any], name: str) -> str:
    """Return a text that must be there and must not be blank."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ApiError(400, f"{name} must be a string that is not empty")
    return value


def read_time(values: Mapping[str, Any], name: str) -> int | None:
    """Return a time, or ``None`` if none is given."""
    text = values.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ApiError(400, f"{name} must be a string")
    try:
        return timestamps.parse(text)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}") from error
