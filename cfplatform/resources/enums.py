"""Texts of the platform that are known by name."""

from __future__ import annotations

from enum import Enum


class WorkItemStatus(str, Enum):
    """The statuses that are known by name; the platform has more, and any text is accepted and returned."""

    COMPLETED = "COMPLETED"
    CLIENT_REVIEW = "CLIENT_REVIEW"

    __str__ = str.__str__


class ExportStatus(str, Enum):
    """How far an export is; the last two are final. Other texts of the server are kept as they are."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    __str__ = str.__str__


class ExportFormat(str, Enum):
    """The formats of an export."""

    COCO_JSON = "COCO_JSON"
    JSON = "JSON"
    CSV = "CSV"

    __str__ = str.__str__


class ExportContent(str, Enum):
    """What an export holds: final annotations, raw inferences, or the metadata of assets."""

    ANNOTATION = "ANNOTATION"
    INFERENCE = "INFERENCE"
    ASSET_METADATA = "ASSET_METADATA"

    __str__ = str.__str__
