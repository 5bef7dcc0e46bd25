"""Adapter for Parquet (extra ``parquet``): writes labels to a file as they are read."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path

from ..coco.documents import PathLike, Source
from ..coco.output import written_atomically
from ..destination import local
from ..exceptions import ConfigurationError, InvalidParameterError
from .rows import COLUMNS, Row, annotation_rows

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.parquet needs pyarrow ({error}): pip install 'cfplatform[parquet]'"
    ) from error

__all__ = ["SCHEMA", "write_parquet"]

#: Supported compression codecs.
CODECS = ("brotli", "gzip", "lz4", "none", "snappy", "zstd")
#: Maximum number of rows in a row group.
ROWS = 50_000
#: Maximum number of JSON characters in a row group, plus one row, to limit memory for long polygons.
JSON_CHARACTERS = 32 * 1024 * 1024

_TYPES = {
    "text": pa.string(),
    "json": pa.string(),
    "class": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
}
#: The columns; any of them may be null.
SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])

_JSON = [number for number, kind in enumerate(COLUMNS.values()) if kind == "json"]


def write_parquet(
    source: Source,
    path: str | os.PathLike[str],
    *,
    empty_images: bool = False,
    images_from: PathLike | None = None,
    rows_per_group: int = ROWS,
    compression: str = "zstd",
) -> int:
    """Write the annotations of a source to a Parquet file with one row for each, and return the number of rows.

    The columns are those of :func:`cfplatform.adapters.pandas.to_dataframe`. Their types do not depend on the content:
    string IDs have their own columns. ``segmentation`` is JSON, because polygons and masks have no common type; boxes
    are four columns. Row groups are written while the source is read, so memory does not grow with it. The file is
    written atomically.

    Args:
        source: A folder, a file or an iterable, such as :meth:`~cfplatform.Client.iter_annotations`; see
            :func:`~cfplatform.coco.read`.
        path: The file to write; an existing file is replaced.
        empty_images: Add a row for each image without annotations, with null in the annotation columns.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`; for ``asset_path``.
        rows_per_group: Maximum number of rows in a row group; fewer if polygons are long.
        compression: "zstd", "snappy", "gzip", "brotli", "lz4" or "none".

    Raises:
        InvalidParameterError: If the source or an argument is not valid.
        InvalidResponseError: If a file is not a complete JSON object; then nothing is written.
        DownloadError: If the file cannot be written.

    Example:
        >>> import pyarrow.parquet
        >>> from cfplatform.adapters.parquet import write_parquet
        >>> rows = write_parquet(client.iter_annotations(), "labels.parquet")
        >>> table = pyarrow.parquet.read_table("labels.parquet", columns=["category", "area"])
        >>> table.num_rows == rows > 20
        True
    """
    if not isinstance(rows_per_group, int) or rows_per_group < 1:
        raise InvalidParameterError("rows_per_group must be an integer of at least 1.", parameter="rows_per_group")
    if compression not in CODECS:
        raise InvalidParameterError(f"compression must be one of {', '.join(CODECS)}.", parameter="compression")
    rows = annotation_rows(source, empty_images=empty_images, images_from=images_from)
    final = local.folder_path(path, "path")
    with written_atomically(final) as temporary:
        return _write(rows, temporary, rows_per_group, compression)


def _write(rows: Iterable[Row], path: Path, size: int, compression: str) -> int:
    count = 0
    with open(path, "wb") as file, pq.ParquetWriter(file, SCHEMA, compression=compression) as writer:
        for group in _groups(rows, size):
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(zip(*group, strict=True), SCHEMA, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA), row_group_size=size)
            count += len(group)
    return count


def _groups(rows: Iterable[Row], size: int) -> Generator[list[Row]]:
    group: list[Row] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += sum(len(row[number] or "") for number in _JSON)
        if len(group) >= size or characters >= JSON_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
