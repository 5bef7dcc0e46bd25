"""Adapter for Hugging Face ``datasets`` (extra ``huggingface``)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Generator, Iterable
from hashlib import blake2b
from typing import Any

from .._version import __version__
from ..coco.documents import Document, PathLike, Source
from ..coco.placing import Size
from ..coco.samples import Samples, samples_of
from ..exceptions import CFPlatformError, ConfigurationError, InvalidParameterError
from ..resources import WorkItem
from . import labels
from .live import Items, Live, MakeClient

try:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    from .opening import header_of, opened
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.huggingface needs datasets and Pillow ({error}): pip install 'cfplatform[huggingface]'"
    ) from error

__all__ = ["stream_dataset", "to_dataset"]


def to_dataset(
    source: Source,
    *,
    images_from: PathLike | None = None,
    classes: Iterable[str] | None = None,
    skip_missing: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> datasets.Dataset:
    """Return labels and images as a dataset with one row for each image.

    Columns: ``image`` (decoded on access), ``image_id`` (the row number), ``item_id``, ``batch``, ``width`` and
    ``height`` of the image, and ``objects`` with ``bbox`` (x, y, width, height), ``category`` (a ``ClassLabel``),
    ``area`` and ``iscrowd``, in pixels of the image. Annotations with an empty box or of another class are skipped.
    Rows are cached by ``datasets`` until a document or an image changes. Images are not copied, except those that
    ``datasets`` would decode differently from :func:`cfplatform.viz.draw` (transparent, 16-bit, annotated without their
    EXIF orientation, GIF or TIFF): their rows contain a PNG.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        classes: Class names in the order of their numbers, from 0. Defaults to the classes of all documents, sorted by
            name.
        skip_missing: Skip images without a file instead of raising.
        cache_dir: The folder for cached rows. Defaults to the cache of ``datasets``.

    Raises:
        InvalidParameterError: If the source is not valid, or an image has no file.
        InvalidResponseError: If a document or the header of an image cannot be read, or a document does not have
            exactly one image.

    Example:
        >>> from cfplatform.adapters.huggingface import to_dataset
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> dataset = to_dataset("labels", cache_dir="cache")
        >>> dataset[0]["image"].size, dataset.features["objects"]["category"].feature.names
        ((320, 240), ['ellipse', 'rectangle', 'star', 'triangle'])
    """
    samples = samples_of(source, images_from=images_from, skip_missing=skip_missing)
    names = labels.checked_classes(classes, samples)
    # Not a list, because datasets would split it among processes.
    arguments = {"samples": samples, "classes": names, "stamp": _stamp(samples)}
    options: dict[str, Any] = {} if cache_dir is None else {"cache_dir": os.fspath(cache_dir)}
    try:
        return datasets.Dataset.from_generator(
            _folder_rows, features=_features(names, images=True), gen_kwargs=arguments, **options
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, CFPlatformError):
            raise error.__cause__ from None
        raise


def stream_dataset(
    client: MakeClient,
    *,
    classes: Iterable[str],
    items: Items | None = None,
    shards: int = 1,
    skip: Collection[str] = (),
    max_workers: int | None = None,
    ordered: bool = True,
    on_error: Callable[[WorkItem, CFPlatformError], Any] | None = None,
    **filters: Any,
) -> datasets.IterableDataset:
    """Return the documents of a project, streamed from the platform, as an iterable dataset.

    The columns are those of :func:`to_dataset`, with ``asset_url`` instead of ``image``. Each iteration streams the
    project again, with a new client. See :class:`cfplatform.adapters.torch.StreamDataset` for the API key and the other
    arguments.

    Args:
        client: ``Client`` itself, or a function that returns a client; called in the process that uses it.
        classes: Class names in the order of their numbers, from 0.
        items: The work items, or a function that lists them. Defaults to the items that match the filters.
        shards: Number of shards for the workers of a ``DataLoader`` or for nodes; at least the number of workers.
        skip: IDs of work items to skip.
        max_workers: Maximum number of threads for each shard, 1 to 256. Defaults to the client's.
        ordered: ``False`` yields documents as they arrive.
        on_error: Called with (work item, error) for each item that fails; the item is skipped.
        filters: Filters of :meth:`~cfplatform.Client.get_work_items`; ``status`` defaults to "COMPLETED".

    Raises:
        ConfigurationError: If ``client`` is a client.
        InvalidParameterError: If an argument is not valid.

    Example:
        >>> from cfplatform.adapters.huggingface import stream_dataset
        >>> dataset = stream_dataset(Client, classes=["ellipse", "star"], shards=4, batch_ids=[1001])
        >>> sum(1 for row in dataset), dataset.num_shards
        (10, 4)
    """
    if not isinstance(shards, int) or shards < 1:
        raise InvalidParameterError("shards must be an integer of at least 1.", parameter="shards")
    names = labels.checked_classes(classes)
    options = {"max_workers": max_workers, "ordered": ordered}
    live = Live(client, items=items, skip=skip, on_error=on_error, options=options, filters=filters)
    # datasets splits this list.
    arguments = {"live": live, "classes": names, "count": shards, "shards": list(range(shards))}
    return datasets.IterableDataset.from_generator(
        _live_rows, features=_features(names, images=False), gen_kwargs=arguments
    )


def _folder_rows(samples: Samples, classes: tuple[str, ...], stamp: str) -> Generator[dict[str, Any]]:
    for number, document in enumerate(samples):
        image, size = _image(document)
        yield {"image": image, "image_id": number, **_row(document, classes, size)}


def _live_rows(live: Live, classes: tuple[str, ...], count: int, shards: list[int]) -> Generator[dict[str, Any]]:
    for shard in shards:
        for item, data in live.share((shard, count)):
            batch = None if item.batch_id is None else str(item.batch_id)
            yield {"asset_url": item.asset_url, **_row(Document(data, item.id, batch), classes)}


def _image(document: Document) -> tuple[str | bytes, Size]:
    """Return an image that ``datasets`` decodes like ``draw``, as path or PNG, and its size."""
    header = header_of(document)
    if header.is_shown_alike(labels.image_of(document)):
        return str(document.asset), header.upright
    image, buffer = opened(document), io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), image.size


def _row(document: Document, classes: tuple[str, ...], size: Size | None = None) -> dict[str, Any]:
    found = labels.labels_of(document, classes, size=size)
    width, height = size or labels.image_size(document)
    return {
        "item_id": document.item_id,
        "batch": document.batch,
        "width": width,
        "height": height,
        "objects": {
            "bbox": [label.box for label in found],
            "category": [label.number for label in found],
            "area": [label.area for label in found],
            "iscrowd": [label.crowd for label in found],
        },
    }


def _features(classes: tuple[str, ...], *, images: bool) -> datasets.Features:
    text, integer, number = (datasets.Value(kind) for kind in ("string", "int64", "float64"))
    asset = {"image": datasets.Image(), "image_id": integer} if images else {"asset_url": text}
    objects = {
        "bbox": datasets.Sequence(datasets.Sequence(number, length=4)),
        "category": datasets.Sequence(datasets.ClassLabel(names=list(classes))),
        "area": datasets.Sequence(number),
        "iscrowd": datasets.Sequence(datasets.Value("bool")),
    }
    return datasets.Features(
        {**asset, "item_id": text, "batch": text, "width": integer, "height": integer, "objects": objects}
    )


def _stamp(samples: Samples) -> str:
    """Return a digest that changes with any document; ``datasets`` caches rows by the arguments of the generator."""
    digest = blake2b(__version__.encode(), digest_size=16)
    digest.update(samples.content)
    for entry in samples.entries():
        for path in (entry.path, entry.asset):
            found = None if path is None else path.stat()
            digest.update(f"{found and (found.st_size, found.st_mtime_ns)}\n".encode())
    return digest.hexdigest()
