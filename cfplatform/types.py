"""Typed dictionaries for COCO documents and API responses, for editors and type checkers.

At run time they are plain dicts, and nothing is checked: a server or a file may leave out or add keys. Functions that
take a document accept any dict; :func:`cfplatform.coco.validate` checks one.

Example:
    >>> from cfplatform.types import CocoAnnotation
    >>> def width(annotation: CocoAnnotation) -> float:
    ...     return annotation["bbox"][2]
    >>> width(next(client.get_work_items()).load()["annotations"][0]) > 0
    True
"""

# Without "from __future__ import annotations": with string annotations, __required_keys__ would ignore NotRequired.
from typing import Any, Literal

from typing_extensions import NotRequired, Required, TypedDict

__all__ = [
    "AnnotationData",
    "AnnotationMetadata",
    "BatchData",
    "CocoAnnotation",
    "CocoCategory",
    "CocoDocument",
    "CocoImage",
    "CocoInfo",
    "CocoLicense",
    "CocoRLE",
    "ExportData",
    "Page",
    "PageMeta",
    "WebhookEventData",
    "WorkItemData",
]

# --- COCO -------------------------------------------------------------------------------------------------------------


class CocoInfo(TypedDict, total=False):
    """Information about a document. ``asset_url`` is set by cfplatform."""

    description: str
    version: str
    year: int
    contributor: str
    url: str
    date_created: str
    asset_url: str


class CocoLicense(TypedDict, total=False):
    """An image license."""

    id: Required[int]
    name: str
    url: str


class CocoImage(TypedDict):
    """An image; ``width`` and ``height`` in pixels.

    :func:`cfplatform.coco.merge` adds the keys from ``work_item_id`` on. ``asset_path`` is relative to the folder of
    the dataset.
    """

    id: int
    width: int
    height: int
    file_name: str
    license: NotRequired[int]
    coco_url: NotRequired[str]
    flickr_url: NotRequired[str]
    date_captured: NotRequired[str]
    work_item_id: NotRequired[str]
    batch: NotRequired[str]
    asset_url: NotRequired[str]
    asset_path: NotRequired[str]
    original_file_name: NotRequired[str]


class CocoCategory(TypedDict):
    """A category. ``keypoints`` are names; ``skeleton`` lists pairs of keypoint numbers, counted from 1."""

    id: int
    name: str
    supercategory: NotRequired[str]
    keypoints: NotRequired[list[str]]
    skeleton: NotRequired[list[list[int]]]


class CocoRLE(TypedDict):
    """A run-length encoded mask, by column: ``size`` is [height, width], ``counts`` a list or compressed string."""

    size: list[int]
    counts: list[int] | str


class CocoAnnotation(TypedDict):
    """An annotation of one object, or of a crowd.

    ``bbox`` is [left, top, width, height] in pixels. ``segmentation`` is a list of polygons, each [x, y, x, y, ...], or
    an RLE mask. ``keypoints`` has x, y and visibility (0 to 2) for each keypoint of the category.
    """

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    segmentation: list[list[float]] | CocoRLE
    keypoints: NotRequired[list[float]]
    num_keypoints: NotRequired[int]
    attributes: NotRequired[dict[str, Any]]
    caption: NotRequired[str]
    score: NotRequired[float]


class CocoDocument(TypedDict):
    """The document of a work item, or a merged dataset."""

    info: CocoInfo
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]
    licenses: NotRequired[list[CocoLicense]]


# --- API responses ----------------------------------------------------------------------------------------------------


class WorkItemData(TypedDict, total=False):
    """A work item, as :meth:`~cfplatform.WorkItem.as_dict` returns it. Times are ISO 8601 strings."""

    id: Required[str]
    projectId: str
    batchId: int | None
    status: str
    assetType: str
    assetUrl: str | None
    resultUrl: str | None
    createdAt: str
    updatedAt: str
    metadata: dict[str, Any] | None


class BatchData(TypedDict, total=False):
    """A batch, as :meth:`~cfplatform.Batch.as_dict` returns it. Only listings include the counts."""

    id: Required[int]
    projectId: str
    name: str
    createdBy: str
    createdAt: str
    metadata: dict[str, Any] | None
    priority: int
    totalCount: int
    completedCount: int


class AnnotationMetadata(TypedDict, total=False):
    """The metadata of an annotation, with the storage path of the COCO document."""

    coco_results_url: str


class AnnotationData(TypedDict, total=False):
    """The annotation of a work item, as :meth:`~cfplatform.Annotation.as_dict` returns it."""

    id: Required[str]
    projectID: str
    workItemID: str
    metadata: AnnotationMetadata | None


class ExportData(TypedDict, total=False):
    """An export, as :meth:`~cfplatform.Export.as_dict` returns it. ``downloadUrl`` is a signed URL."""

    exportId: Required[str]
    status: Required[str]
    name: str | None
    format: str | None
    content: str | None
    createdBy: str | None
    createdAt: str | None
    downloadUrl: str | None
    error: str | None


class WebhookEventData(TypedDict, total=False):
    """The body of a webhook delivery, as :meth:`~cfplatform.webhooks.WebhookEvent.as_dict` returns it."""

    workItemID: Required[str]
    status: Required[str]
    deliveredAt: Required[str]
    assetType: str
    assetUrl: str
    createdAt: str
    updatedAt: str


class PageMeta(TypedDict, total=False):
    """The position of a page in its listing. The platform uses either spelling for cursors."""

    object: str
    limit: int
    page: Literal["NEXT", "PREV"] | None
    cursorNext: str | None
    cursorPrev: str | None
    cursor_next: str | None
    cursor_prev: str | None


class Page(TypedDict):
    """A page of a listing, as :meth:`~cfplatform.Client.iterate_pages` yields it."""

    items: list[dict[str, Any]]
    meta: NotRequired[PageMeta]
    total: NotRequired[int]
