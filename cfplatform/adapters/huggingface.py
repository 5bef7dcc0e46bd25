"""Adapter for Hugging Face ``datasets`` (extra ``huggingface``): datasets of a folder and of a stream."""

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
    """Return labels with their images as a dataset with one row for each image.

    Columns: ``image`` (decoded on access), ``image_id`` (the number of the row), ``item_id``, ``batch``, ``width`` and
    ``height`` of the image, and ``objects`` with ``bbox`` (x, y, width, height), ``category`` (a ``ClassLabel``),
    ``area`` and ``iscrowd``, in pixels of the image. Annotations with an empty box or of another class are left out.
    The rows are cached by datasets until a document or an image changes. Images stay in the folder; one that datasets
    would not show as :func:`cfplatform.viz.draw` opens it, because it is transparent, has 16 bits, was annotated as
    stored, or is a GIF or TIFF, is in the row as a PNG.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        classes: Class names in the order of their numbers, from 0; by default those of all documents, in alphabetical
            order.
        skip_missing: Leave out images without a file instead of raising.
        cache_dir: The folder for the cached rows; by default that of datasets.

    Raises:
        InvalidParameterError: If it is not such a source, or the file of an image is missing.
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
    # Not a list, which datasets would divide among processes.
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

    The columns are those of :func:`to_dataset`, but with ``asset_url`` instead of ``image``. Each iteration streams
    again, with its own client. :class:`cfplatform.adapters.torch.StreamDataset` describes where the key comes
    from, and the other arguments.

    Args:
        client: ``Client`` itself, or a function that returns a client; called in the process that uses it.
        classes: Class names in the order of their numbers, from 0.
        items: A list of work items to stream, or a function that lists them; by default those that the filters select.
        shards: Number of parts that workers of a ``DataLoader``, or nodes, share; at least as many as there are.
        skip: IDs of work items to leave out.
        max_workers: Maximum number of documents fetched at the same time for each shard that is read.
        ordered: ``False`` yields documents as they arrive.
        on_error: Called with (work item, error) for each item that fails; the item is left out.
        filters: Those of :meth:`~cfplatform.Client.get_work_items`; ``status`` is "COMPLETED" if omitted.

    Raises:
        ConfigurationError: If ``client`` is a client.
        InvalidParameterError: If an argument is wrong.

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
    # datasets divides this list.
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
    """Return an image that datasets decodes as ``draw`` does, the path or a PNG, and its size."""
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
    """Return a text that changes with any document; datasets caches rows by the arguments of the generator."""
    digest = blake2b(__version__.encode(), digest_size=16)
    digest.update(samples.content)
    for entry in samples.entries():
        for path in (entry.path, entry.asset):
            found = None if path is None else path.stat()
            digest.update(f"{found and (found.st_size, found.st_mtime_ns)}\n".encode())
    return digest.hexdigest()
