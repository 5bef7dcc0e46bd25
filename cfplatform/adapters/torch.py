"""Adapter for PyTorch (extra ``torch``): datasets, targets and a collate function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import Any

from ..coco.documents import Document, PathLike, Source, with_plain_values
from ..coco.samples import samples_of
from ..exceptions import CFPlatformError, ConfigurationError, InvalidParameterError
from ..resources import WorkItem
from . import labels
from .live import Items, Live, MakeClient

# PyTorch is large, so it may be missing during type checks.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, get_worker_info

    from .opening import opened
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.torch needs PyTorch and Pillow ({error}): pip install 'cfplatform[torch]'"
    ) from error

__all__ = ["FolderDataset", "StreamDataset", "collate", "detection_target", "to_tensor"]


class FolderDataset(Dataset):
    """A map-style dataset of images and labels in a folder downloaded with ``assets=True``.

    A sample is ``(image, target)``: an RGB PIL image, opened as by :func:`cfplatform.viz.draw`, and the
    :func:`detection_target` of its document in pixels of that image; or the results of the transforms. Files are opened
    on access. The dataset needs a few bytes of memory for each item, which workers share.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`. Documents of a stream, and of images that share a file, are kept in memory as
            JSON.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        classes: Class names in the order of their labels; annotations of other classes are skipped. Defaults to the
            classes of all documents, sorted by name, which reads every document once.
        masks: Whether to include masks in targets.
        transform: Called with each image.
        target_transform: Called with each target.
        transforms: Called with (image, target) instead of the two above; returns both.
        skip_missing: Skip images without a file instead of raising.

    Attributes:
        classes: The class names; the first has the label 1.

    Raises:
        InvalidParameterError: If the source is not valid, or an image has no file.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from cfplatform.adapters.torch import FolderDataset, collate, to_tensor
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> dataset = FolderDataset("labels", transform=to_tensor)
        >>> for images, targets in DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=collate):
        ...     print(len(images), images[0].shape, targets[0]["boxes"].shape[1])
        ...     break
        4 torch.Size([3, 240, 320]) 4
    """

    def __init__(
        self,
        source: Source,
        *,
        images_from: PathLike | None = None,
        classes: Iterable[str] | None = None,
        masks: bool = False,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[dict[str, Any]], Any] | None = None,
        transforms: Callable[[Any, dict[str, Any]], tuple[Any, Any]] | None = None,
        skip_missing: bool = False,
    ) -> None:
        if transforms is not None and (transform is not None or target_transform is not None):
            raise InvalidParameterError("Pass either transforms, or transform and target_transform, not both.")
        self._samples = samples_of(source, images_from=images_from, skip_missing=skip_missing)
        self.classes = labels.checked_classes(classes, self._samples)
        self._masks = masks
        self._transform = transform
        self._target_transform = target_transform
        self._transforms = transforms

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return a sample.

        Raises:
            IndexError: If the index is out of range.
            InvalidResponseError: If the document or image cannot be read; the message names the work item.
        """
        document = self.document(index)
        image = opened(document)
        number = range(len(self))[index]
        target = detection_target(document, self.classes, masks=self._masks, image_id=number, image_size=image.size)
        if self._transforms is not None:
            return self._transforms(image, target)
        return (
            image if self._transform is None else self._transform(image),
            target if self._target_transform is None else self._target_transform(target),
        )

    def document(self, index: int) -> Document:
        """Return the document of a sample, with the path of its image.

        Example:
            >>> summary = client.download_project(destination="labels", assets=True)
            >>> FolderDataset("labels").document(0).asset.suffix
            '.png'
        """
        return self._samples[index]


class StreamDataset(IterableDataset):
    """An iterable dataset of documents streamed from the platform; nothing is written to disk.

    A sample is ``(work item, document)`` as :meth:`~cfplatform.Client.iter_annotations` yields it, or the result of
    ``transform``. Each worker of a ``DataLoader`` creates its own client and listing, and streams the items in its
    share, which is chosen by ID. So no item is repeated or lost, even if the project changes; shares have about the
    same size.

    ``client`` determines the API key. ``Client`` itself reads ``CF_API_KEY`` from the environment of each worker, so
    the dataset does not contain the key. A ``functools.partial`` with ``api_key=`` is pickled with the key.

    Args:
        client: ``Client`` itself, or a function that returns a client, which is closed at the end. It must be
            importable unless workers are forked.
        items: The work items, or a function of the client that lists them. Defaults to the items that match the
            filters.
        project_id: The project. Defaults to the client's.
        transform: Called with (work item, document), in the worker.
        skip: IDs of work items to skip, for example to resume an epoch.
        part: The rank of this process and the number of processes, for distributed training.
        max_workers: Maximum number of threads of each worker, 1 to 256. Defaults to its client's.
        ordered: ``False`` yields documents as they arrive, instead of in the order of the listing.
        on_error: Called with (work item, error), in the worker, for each item that fails; the item is skipped. Without
            it, the first error ends the epoch; its message names the work item.
        filters: Filters of :meth:`~cfplatform.Client.get_work_items`; ``status`` defaults to "COMPLETED".

    Raises:
        ConfigurationError: If ``client`` is a client, which contains the key and cannot be pickled.
        InvalidParameterError: If an argument is not valid.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from cfplatform.adapters.torch import StreamDataset, collate
        >>> dataset = StreamDataset(Client, batch_ids=[1001])
        >>> loader = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=collate)
        >>> sum(len(documents) for items, documents in loader)
        10
    """

    def __init__(
        self,
        client: MakeClient,
        *,
        items: Items | None = None,
        transform: Callable[[WorkItem, Any], Any] | None = None,
        skip: Collection[str] = (),
        part: tuple[int, int] = (0, 1),
        max_workers: int | None = None,
        ordered: bool = True,
        on_error: Callable[[WorkItem, CFPlatformError], Any] | None = None,
        **filters: Any,
    ) -> None:
        rank, count = part
        if not 0 <= rank < count:
            raise InvalidParameterError(
                "part must be (rank, number of processes), with ranks from 0.", parameter="part"
            )
        options = {"max_workers": max_workers, "ordered": ordered}
        self._live = Live(client, items=items, skip=skip, on_error=on_error, options=options, filters=filters)
        self._transform = transform
        self._part = part

    def __iter__(self) -> Generator[Any]:
        """Yield the share of this worker, or everything if there are no workers."""
        worker = get_worker_info()
        parts = [self._part] if worker is None else [self._part, (worker.id, worker.num_workers)]
        for item, document in self._live.share(*parts):
            yield (item, document) if self._transform is None else self._transform(item, document)


def detection_target(
    document: Document | Mapping[str, Any],
    classes: Sequence[str],
    *,
    masks: bool = False,
    image_id: int = 0,
    image_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return the labels of the image of a document as a target for torchvision detectors.

    Annotations are skipped if their box is empty, their class is not in ``classes``, or, with ``masks``, they have no
    mask of the size in the document. ``cfplatform.coco.validate`` reports them. A rotated box
    (``attributes.rotation``) becomes the upright box around it, and its mask is the rotated box. Annotations with a
    segmentation are not rotated.

    Args:
        document: The document.
        classes: Class names; the first has the label 1, because 0 is the background.
        masks: Whether to include masks.
        image_id: A unique number for the image.
        image_size: Width and height of the image, to scale labels to. Defaults to the size in the document.

    Returns:
        ``boxes`` (float32, left, top, right, bottom), ``labels`` (int64), ``area`` (float32), ``iscrowd`` (int64) and,
        with ``masks``, ``masks`` (uint8, 0 or 1), with one row for each label; and ``image_id``.

    Raises:
        InvalidResponseError: If the document does not have exactly one image.

    Example:
        >>> item = next(client.get_work_items())
        >>> target = detection_target(item.load(), ["ellipse", "rectangle", "star", "triangle"], masks=True)
        >>> len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        True
    """
    document = with_plain_values(document)
    size = image_size or labels.image_size(document)
    found = labels.labels_of(document, classes, masks=masks, size=size)
    target = {
        "boxes": torch.tensor([label.corners for label in found], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([label.number + 1 for label in found], dtype=torch.int64),
        "area": torch.tensor([label.area for label in found], dtype=torch.float32),
        "iscrowd": torch.tensor([label.crowd for label in found], dtype=torch.int64),
        "image_id": image_id,
    }
    if masks:
        width, height = size
        # A tensor needs a writable, non-empty buffer.
        pixels = bytearray().join(label.mask for label in found)
        flat = torch.frombuffer(pixels, dtype=torch.uint8) if pixels else torch.zeros(0, dtype=torch.uint8)
        target["masks"] = flat.reshape(len(found), height, width)
    return target


def to_tensor(picture: Any) -> Any:
    """Convert an image to a float tensor (3, height, width) with values from 0 to 1, without torchvision.

    Example:
        >>> from PIL import Image
        >>> to_tensor(Image.new("RGB", (4, 2), "red"))[:, 0, 0]
        tensor([1., 0., 0.])
    """
    width, height = picture.size
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, 3).permute(2, 0, 1).to(torch.float32) / 255


def collate(samples: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Return the samples of a batch as tuples, because images and targets differ in size.

    Example:
        >>> collate([("image 1", "target 1"), ("image 2", "target 2")])
        (('image 1', 'image 2'), ('target 1', 'target 2'))
    """
    return tuple(zip(*samples, strict=True))
