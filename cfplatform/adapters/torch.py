"""Labels for PyTorch (extra ``torch``): a folder to train on, a stream of documents, and what collates samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from typing import Any

from ..coco.sources import Document
from ..exceptions import CFPlatformError, ConfigurationError, InvalidParameterError
from ..resources import WorkItem
from . import labels
from .live import Items, Live, MakeClient
from .places import Places

# Where types are checked it may be missing, as it is large.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, get_worker_info

    from . import masks as drawn
    from .pictures import opened
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.torch needs PyTorch and Pillow ({error}): pip install 'cfplatform[torch]'"
    ) from error

__all__ = ["FolderDataset", "StreamDataset", "collate", "detection_target", "to_tensor"]


class FolderDataset(Dataset):
    """A map-style dataset of pictures and their labels, on a folder downloaded with ``assets=True``.

    A sample is ``(picture, target)``: a PIL image in RGB and what :func:`detection_target` makes of its document, or
    what the transforms make of the two. Files are opened when a sample is asked for; what is kept is a few bytes an
    item, in a form that workers share.

    Args:
        source: The folder, or that of one batch.
        classes: The names of the classes, in the order of their labels; labels of other classes are left out. If
            omitted, every document is read once to find them, in the order of the alphabet: see ``classes``.
        masks: Put masks into the targets.
        transform: Called with each picture.
        target_transform: Called with each target.
        transforms: Called with both, in place of the two above; returns both.
        skip_missing: Leave out items whose picture is not there, rather than refuse the folder.

    Attributes:
        classes: The classes; the first one has the label 1.

    Raises:
        InvalidParameterError: If it is not such a folder, or a picture is missing.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from cfplatform.adapters.torch import FolderDataset, collate, to_tensor
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> dataset = FolderDataset("labels", transform=to_tensor)
        >>> for pictures, targets in DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=collate):
        ...     print(len(pictures), pictures[0].shape, targets[0]["boxes"].shape[1])
        ...     break
        4 torch.Size([3, 240, 320]) 4
    """

    def __init__(
        self,
        source: Any,
        *,
        classes: Iterable[str] | None = None,
        masks: bool = False,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[dict[str, Any]], Any] | None = None,
        transforms: Callable[[Any, dict[str, Any]], tuple[Any, Any]] | None = None,
        skip_missing: bool = False,
    ) -> None:
        if transforms is not None and (transform is not None or target_transform is not None):
            raise InvalidParameterError("Pass either transforms, or transform and target_transform, and not both.")
        folder = labels.open_folder(source)
        self._places = Places(folder.root, labels.pictured(folder, skip_missing=skip_missing))
        self.classes = labels.checked_classes(classes, source)
        self._masks = masks
        self._transform = transform
        self._target_transform = target_transform
        self._transforms = transforms

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return a sample.

        Raises:
            IndexError: If there is none of this number.
            InvalidResponseError: If its document or its picture cannot be read; the message names the work item.
        """
        document = self.document(index)
        picture = opened(document)
        target = detection_target(document, self.classes, masks=self._masks, image_id=range(len(self))[index])
        if self._transforms is not None:
            return self._transforms(picture, target)
        return (
            picture if self._transform is None else self._transform(picture),
            target if self._target_transform is None else self._target_transform(target),
        )

    def document(self, index: int) -> Document:
        """Return the document of a sample, with the path of its picture.

        Example:
            >>> summary = client.download_project(destination="labels", assets=True)
            >>> FolderDataset("labels").document(0).asset.suffix
            '.png'
        """
        return self._places[index].read()


class StreamDataset(IterableDataset):
    """An iterable dataset of documents straight from the platform; nothing is written to disk.

    A sample is ``(work item, document)`` as :meth:`~cfplatform.Client.iter_annotations` yields it, or what
    ``transform`` makes of the two. Each worker of a ``DataLoader`` makes a client of its own, lists for itself and
    streams the items whose ids fall into its share. So none comes twice or is lost, whatever is added to the project
    meanwhile; but shares are only about equally large.

    The key is where ``client`` takes it from. With ``Client`` itself that is ``CF_API_KEY`` in the environment, which
    workers have too, and the dataset holds no key. A ``functools.partial`` with ``api_key=`` in it takes the key along
    wherever the dataset is pickled.

    Args:
        client: Makes a client, which is closed at the end: ``Client`` itself, or a function, which must be importable
            where workers are not forked.
        items: A list of work items to stream, or a function that is given the client and lists them; else those that
            the filters select.
        project_id: The project; else the client's.
        transform: Called with (work item, document), in the worker.
        skip: Ids of work items that were seen already, to go on with an epoch.
        part: For several processes that train together: the rank of this one, and how many there are.
        max_workers: Documents that each worker fetches at the same time, at the most; else the number of its client.
        ordered: ``False`` yields documents as they arrive, rather than in the order of the listing.
        on_error: Called with (work item, error), in the worker, for each item that fails, which is then left out.
            Without it the first one ends the epoch, with an error that names the item.
        filters: Those of :meth:`~cfplatform.Client.get_work_items`; ``status`` is "COMPLETED" if omitted.

    Raises:
        ConfigurationError: If ``client`` is a client, which holds the key and cannot go to other processes.
        InvalidParameterError: If an argument is wrong.

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
        transform: Callable[[WorkItem, dict[str, Any]], Any] | None = None,
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
                "part must be (rank, number of processes), with a rank from 0 on.", parameter="part"
            )
        options = {"max_workers": max_workers, "ordered": ordered}
        self._live = Live(client, items=items, skip=skip, on_error=on_error, options=options, filters=filters)
        self._transform = transform
        self._part = part

    def __iter__(self) -> Generator[Any]:
        """Yield the share of this worker, or everything where there are no workers."""
        worker = get_worker_info()
        parts = [self._part] if worker is None else [self._part, (worker.id, worker.num_workers)]
        for item, document in self._live.share(*parts):
            yield (item, document) if self._transform is None else self._transform(item, document)


def detection_target(
    document: Document | dict[str, Any], classes: Sequence[str], *, masks: bool = False, image_id: int = 0
) -> dict[str, Any]:
    """Return what torchvision's detectors learn from: the labels of the one image of a document, as tensors.

    An annotation is left out where its box has no size, its class is none of ``classes``, or with ``masks`` where it
    has no mask of the picture's size; ``cfplatform.coco.validate`` tells which.

    Args:
        document: The document.
        classes: The names of the classes; the first one has the label 1, as 0 is the background.
        masks: Draw the masks too.
        image_id: A number for the image, different for each.

    Returns:
        ``boxes`` (float32, left, top, right, bottom), ``labels`` (int64), ``area`` (float32), ``iscrowd`` (int64), with
        ``masks`` also those (uint8, 0 or 1), one row for each label; and ``image_id``.

    Raises:
        InvalidResponseError: If the document has no image, or several.

    Example:
        >>> item = next(client.get_work_items())
        >>> target = detection_target(item.load(), ["ellipse", "rectangle", "star", "triangle"], masks=True)
        >>> len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        True
    """
    if not isinstance(document, Document):
        document = Document(document)
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    found = [label for label in labels.labels_of(document) if label.name in numbers]
    masked = drawn.of_labels(document, found) if masks else None
    if masked is not None:
        found = [label for label, _ in masked.labels]
    target = {
        "boxes": torch.tensor([label.corners for label in found], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([numbers[label.name] for label in found], dtype=torch.int64),
        "area": torch.tensor([label.area for label in found], dtype=torch.float32),
        "iscrowd": torch.tensor([label.crowd for label in found], dtype=torch.int64),
        "image_id": image_id,
    }
    if masked is not None:
        # Bytes that can be written to, which is what tensors are made on.
        pixels = bytearray().join(shape.tobytes() for _, shape in masked.labels)
        flat = torch.frombuffer(pixels, dtype=torch.uint8) if pixels else torch.zeros(0, dtype=torch.uint8)
        target["masks"] = (flat > 0).to(torch.uint8).reshape(len(found), masked.height, masked.width)
    return target


def to_tensor(picture: Any) -> Any:
    """Return a picture as a tensor of its three colours, each from 0 to 1: a ``transform`` that needs no torchvision.

    Example:
        >>> from PIL import Image
        >>> to_tensor(Image.new("RGB", (4, 2), "red"))[:, 0, 0]
        tensor([1., 0., 0.])
    """
    width, height = picture.size
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, 3).permute(2, 0, 1).to(torch.float32) / 255


def collate(samples: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Put the samples of a batch side by side, as they are: pictures and targets differ in size.

    Example:
        >>> collate([("picture 1", "target 1"), ("picture 2", "target 2")])
        (('picture 1', 'picture 2'), ('target 1', 'target 2'))
    """
    return tuple(zip(*samples, strict=True))
