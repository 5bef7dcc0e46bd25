"""Annotations: what the platform knows of the labels of one item, asked of it one by one."""

from __future__ import annotations

from . import http, params
from .exceptions import InvalidResponseError
from .http import SINGLE, Run, Transport
from .resources import Annotation


def fetch_annotation(calls: Transport, project_id: str, work_item_id: str, *, run: Run = SINGLE) -> Annotation:
    """Fetch one annotation, with the COCO document's place in its metadata."""
    path = http.path(
        "projects",
        params.object_id("project_id", project_id),
        "workItems",
        params.object_id("work_item_id", work_item_id),
        "annotations",
    )
    data = calls.get_json(path, [("format", "coco")], run=run)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The annotation of work item {work_item_id} is not an object.", method="GET")
    return Annotation({"id": work_item_id, **data}, None, work_item_id)
