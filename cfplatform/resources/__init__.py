"""Work items, batches, annotations and exports: thin wrappers around the dict from the server."""

from __future__ import annotations

from .base import Resource
from .exports import Export, ExportContent, ExportFormat, ExportStatus
from .work_items import Annotation, Batch, WorkItem, WorkItemStatus

__all__ = [
    "Annotation",
    "Batch",
    "Export",
    "ExportContent",
    "ExportFormat",
    "ExportStatus",
    "Resource",
    "WorkItem",
    "WorkItemStatus",
]
