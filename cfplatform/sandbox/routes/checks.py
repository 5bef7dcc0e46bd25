"""Checks that several resources share."""

from __future__ import annotations

from starlette.requests import Request

from ..answers import ApiError
from ..platform import Platform


def require_project(platform: Platform, request: Request) -> None:
    """Refuse a project that does not exist."""
    if request.path_params["project_id"] != platform.store.project_id:
        raise ApiError(404, "project not found")


def require_space(platform: Platform, request: Request) -> None:
    """Refuse a space that does not exist."""
    if request.path_params["space_id"] != platform.store.space_id:
        raise ApiError(404, "space not found")
