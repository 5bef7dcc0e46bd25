"""Adapter for pandas (extra ``pandas``): labels, work items and results as data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from ..coco.documents import PathLike, Source
from ..exceptions import ConfigurationError
from ..resources import Batch, WorkItem
from ..resources.results import DownloadResult, DownloadSummary
from .rows import COLUMNS, Row, annotation_rows, as_json, integer, text

try:
    import pandas as pd
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.pandas needs pandas ({error}): pip install 'cfplatform[pandas]'"
    ) from error

__all__ = ["items_to_dataframe", "results_to_dataframe", "to_dataframe"]

_TYPES = {
    "text": "string",
    "json": "string",
    "class": "category",
    "integer": "Int64",
    "number": "float64",
    "flag": "boolean",
    "time": "datetime64[us, UTC]",
}

_ITEM_COLUMNS = {
    "item_id": "text",
    "project_id": "class",
    "batch_id": "integer",
    "status": "class",
    "asset_type": "class",
    "asset_url": "text",
    "result_url": "text",
    "created_at": "time",
    "updated_at": "time",
    "metadata": "json",
}
_BATCH_COLUMNS = {
    "batch_id": "integer",
    "project_id": "class",
    "name": "text",
    "created_by": "class",
    "priority": "integer",
    "total_count": "integer",
    "completed_count": "integer",
    "created_at": "time",
    "metadata": "json",
}
_RESULT_COLUMNS = {
    "item_id": "text",
    "batch_id": "integer",
    "outcome": "class",
    "size": "integer",
    "asset_size": "integer",
    "written": "integer",
    "path": "text",
    "asset_path": "text",
    "object_url": "text",
    "asset_object_url": "text",
    "error": "text",
    "error_type": "class",
}


def to_dataframe(source: Source, *, empty_images: bool = False, images_from: PathLike | None = None) -> pd.DataFrame:
    """Return the annotations of a source as a data frame with one row for each annotation.

    Integers and flags are nullable (``Int64``, ``boolean``), batches and classes are categoricals, boxes are four
    columns, and ``segmentation`` is JSON. ``annotation_id`` and ``image_id`` are those of the document, unique only
    together with ``item_id``. String IDs are in ``annotation_id_text`` and ``image_id_text`` instead. ``item_id``,
    ``batch``, ``asset_url`` and ``asset_path`` are those of each image, including images of merged datasets. The index
    numbers the rows, in the order of the source.

    ``other`` is JSON with all fields of the annotation that have no column (keypoints, attributes), and with values
    that do not fit into their column: a ``bbox`` that is not four numbers, the ``category_id`` of an undefined or
    unnamed class, an ID that is neither a 64-bit integer nor a string, an ``area`` that is not a number, an ``iscrowd``
    that is not 0 or 1.

    Args:
        source: A folder, a file or an iterable, such as :meth:`~cfplatform.Client.iter_annotations`; see
            :func:`~cfplatform.coco.read`.
        empty_images: Add a row for each image without annotations, with missing values in the annotation columns.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`; for ``asset_path``.

    Raises:
        InvalidParameterError: If the source is not valid.
        InvalidResponseError: If a file is not a complete JSON object.

    Example:
        >>> from cfplatform.adapters.pandas import to_dataframe
        >>> frame = to_dataframe(client.iter_annotations(batch_ids=[1001]))
        >>> frame["category"].cat.categories.tolist()
        ['ellipse', 'rectangle', 'star', 'triangle']
        >>> bool((frame.groupby("category", observed=True)["area"].mean() > 0).all())
        True
    """
    return _frame(COLUMNS, annotation_rows(source, empty_images=empty_images, images_from=images_from))


def items_to_dataframe(items: Iterable[WorkItem] | Iterable[Batch]) -> pd.DataFrame:
    """Return work items or batches as a data frame with one row for each.

    Times are in UTC, statuses and asset types are categoricals, ``metadata`` is JSON. ``item_id`` and ``batch_id``
    match the other data frames. The index numbers the rows, in the order of the listing.

    Args:
        items: Work items or batches, such as those of :meth:`~cfplatform.Client.get_work_items` or
            :meth:`~cfplatform.Client.get_batches`.

    Example:
        >>> from cfplatform.adapters.pandas import items_to_dataframe
        >>> items_to_dataframe(client.get_work_items())["status"].value_counts().to_dict()
        {'COMPLETED': 20}
        >>> items_to_dataframe(client.get_batches())["total_count"].tolist()
        [10, 10]
    """
    source: Iterator[Any] = iter(items)
    first = next(source, None)
    everything = () if first is None else chain([first], source)
    columns = _BATCH_COLUMNS if isinstance(first, Batch) else _ITEM_COLUMNS
    return _frame(columns, (_values(each, columns) for each in everything))


def results_to_dataframe(results: DownloadSummary | Iterable[DownloadResult]) -> pd.DataFrame:
    """Return the results of a download as a data frame with one row for each item.

    Outcomes and error types are categoricals. The index numbers the rows, in the order in which items finished.

    Args:
        results: The summary of a download, or its results.

    Example:
        >>> from cfplatform.adapters.pandas import results_to_dataframe
        >>> frame = results_to_dataframe(client.download_project(destination="labels"))
        >>> frame.groupby("outcome", observed=True)["size"].count().to_dict()
        {'downloaded': 20}
    """
    found = results.results if isinstance(results, DownloadSummary) else results
    return _frame(_RESULT_COLUMNS, map(_result, found))


def _values(resource: WorkItem | Batch, columns: dict[str, str]) -> Row:
    own = f"{'batch' if isinstance(resource, Batch) else 'item'}_id"
    return tuple(_CLEAN[kind](getattr(resource, "id" if name == own else name)) for name, kind in columns.items())


def _result(result: DownloadResult) -> Row:
    error = result.error
    values = {
        **vars(result),
        "error": None if error is None else str(error),
        "error_type": None if error is None else type(error).__name__,
    }
    for name in ("path", "asset_path"):
        values[name] = None if values[name] is None else str(values[name])
    return tuple(_CLEAN[kind](values[name]) for name, kind in _RESULT_COLUMNS.items())


_CLEAN: dict[str, Callable[[Any], Any]] = {
    "text": text,
    "class": text,
    "json": as_json,
    "integer": integer,
    "time": lambda value: value,
}


def _frame(columns: dict[str, str], rows: Iterable[Row]) -> pd.DataFrame:
    values: list[list[Any]] = [[] for _ in columns]
    for row in rows:
        for column, value in zip(values, row, strict=True):
            column.append(value)
    typed = {
        name: pd.Series(column, dtype=_TYPES[kind])
        for (name, kind), column in zip(columns.items(), values, strict=True)
    }
    return pd.DataFrame(typed)
