"""Work items, batches, annotations and exports: thin objects over the dict that the server sent."""

from __future__ import annotations

from .base import Resource
from .batches import Batch
from .exports import Export, ExportContent, ExportFormat, ExportStatus
from .work_items import Annotation, WorkItem, WorkItemStatus

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
