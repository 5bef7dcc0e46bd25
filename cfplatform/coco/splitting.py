"""Splits labels into datasets, such as for training and validation, the same way in every run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeGuard

from .. import naming
from ..destination import local
from ..exceptions import InvalidParameterError
from ..progress import Progress
from .documents import Document, OnError, PathLike, Source, open_source
from .findings import ERROR, Finding, shown
from .image_files import COPY, LINK
from .merging import Merger, Summary, refuse_own
from .output import DatasetFile, dataset_file, prepare_folder

#: Units that can be kept together.
UNITS = ("item", "batch")
#: How far the sum of fractions may be from 1.
_TOLERANCE = 1e-6


@dataclass
class Part:
    """One file of a split.

    Attributes:
        output: The absolute path of the file.
        images: Images in it.
        annotations: Annotations in it.
        size: Its size in bytes.
    """

    output: Path
    images: int = 0
    annotations: int = 0
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the part as plain values, ready for JSON."""
        return {**asdict(self), "output": str(self.output)}


@dataclass
class SplitSummary(Summary):
    """The summary of a split.

    Attributes:
        parts: The parts by name.
    """

    parts: dict[str, Part] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings themselves."""
        return {**super().as_dict(), "parts": {name: part.as_dict() for name, part in self.parts.items()}}

    def _repr_html_(self) -> str:
        shares = [
            (name, f"{each.images:,} images, {each.annotations:,} annotations") for name, each in self.parts.items()
        ]
        return self._table([("documents", f"{self.documents:,}"), *shares])


def split(
    source: Source,
    output_folder: str | os.PathLike[str],
    parts: Mapping[str, float] | Mapping[str, Sequence[str]],
    *,
    by: str = "item",
    seed: int | str = 0,
    images_from: PathLike | None = None,
    images: str | None = None,
    progress: Progress = None,
    on_error: OnError | None = None,
) -> SplitSummary:
    """Split all documents of a source into COCO datasets, ``<output_folder>/<part>.json``.

    Each part is what :func:`merge` makes of its documents, with IDs from 1, but all parts have the same categories and
    licenses. The part of an item depends only on its ID, the ``seed`` and the fractions: items that are added later
    move no others, and a folder, a stream and a merged file are split the same way. Hence the fractions are
    approximate. If the work item of an image is unknown, the name of its video decides, so the frames of a video stay
    together, or else its ``asset_url`` or the name of its file: a document of many images is divided image by image.

    The source is read once. All parts are written before the first one replaces a previous file.

    Args:
        source: Where the documents come from; see :func:`~cfplatform.coco.read`.
        output_folder: The folder of the datasets; created if it does not exist.
        parts: The fraction of each part by its name, with a sum of 1; or the batches of each part.
        by: "item", or "batch" to keep items of one batch together. Not used with batches in ``parts``.
        seed: Random seed.
        images_from: The folder of the images, by their ``file_name``; see :func:`~cfplatform.coco.read`.
        images: "link" or "copy" to put the images beside the datasets, as for :func:`merge`.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.

    Raises:
        InvalidParameterError: If the source, the folder or the parts cannot be used, or the batch of an image is needed
            and unknown.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> result = coco.split("labels", "datasets", {"train": 0.8, "val": 0.2})
        >>> result.parts["train"].images + result.parts["val"].images == summary.successful
        True
    """
    opened = open_source(source, images_from)
    choose = _chooser(parts, by, seed)
    if images not in (None, LINK, COPY):
        raise InvalidParameterError(f"images must be {LINK!r} or {COPY!r}, not {images!r}.", parameter="images")
    folder = local.folder_path(output_folder, "output_folder").resolve()
    summary = SplitSummary(parts={name: Part(folder / f"{name}.json") for name in parts})
    for part in summary.parts.values():
        refuse_own(opened, part.output)
    prepare_folder(folder)
    with ExitStack() as stack:
        datasets = {name: stack.enter_context(dataset_file(part.output)) for name, part in summary.parts.items()}

        def dataset(document: Document, image: dict[str, Any]) -> DatasetFile | None:
            name = choose(document, image)
            return None if name is None else datasets[name]

        merger = Merger(folder, summary, on_error, dataset, images)
        merger.add_all(opened, progress)
        if isinstance(choose, _ByBatch):
            for finding in choose.missing():
                merger.report(finding)
        merger.write(datasets.values())
    for name, part in summary.parts.items():
        part.images, part.annotations = datasets[name].images.count, datasets[name].annotations.count
        part.size = part.output.stat().st_size
    return summary


#: Returns the part of an image; ``None`` skips the image.
_Choose = Callable[[Document, dict[str, Any]], str | None]


def _by_fraction(fractions: Mapping[str, float], by: str, seed: int | str) -> _Choose:
    """Choose parts by a hash, so the part of an image does not depend on other images."""
    names = list(fractions)
    # The last part takes the rest, whatever rounding leaves.
    bounds = [*accumulate(fractions.values())][:-1]
    unit = _item if by == "item" else _batch
    start = f"{seed}\0".encode("utf-8", "surrogatepass")

    def choose(document: Document, image: dict[str, Any]) -> str:
        key = unit(document, image).encode("utf-8", "surrogatepass")
        position = int.from_bytes(blake2b(start + key, digest_size=8).digest(), "big") / 2**64
        return names[sum(position >= bound for bound in bounds)]

    return choose


class _ByBatch:
    """Chooses parts by lists of batches."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self._parts = {batch: name for name, batches in lists.items() for batch in batches}
        self._seen: set[str] = set()

    def __call__(self, document: Document, image: dict[str, Any]) -> str | None:
        batch = _batch(document, image)
        self._seen.add(batch)
        return self._parts.get(batch)

    def missing(self) -> Iterator[Finding]:
        """Yield the batches that only the lists or only the source have."""
        for batch in sorted(self._seen - self._parts.keys()):
            message = f"The batch {shown(batch)} is in no part, so its items were left out."
            yield Finding("batch-without-part", ERROR, message, batch=batch)
        for batch in sorted(self._parts.keys() - self._seen):
            message = f"The batch {shown(batch)} of the part {self._parts[batch]!r} is not in the source."
            yield Finding("unknown-batch", ERROR, message, batch=batch)


def _item(document: Document, image: dict[str, Any]) -> str:
    origin = document.origin(image)
    # A merge keeps each of them; the first name of a file is the one that it had before.
    known = (origin.item_id, document.video_of(image), origin.asset_url, image.get("original_file_name"))
    return str(next((each for each in (*known, image.get("file_name")) if each), image.get("id")))


def _batch(document: Document, image: dict[str, Any]) -> str:
    batch = document.origin(image).batch
    if batch is None:
        raise InvalidParameterError(
            "The batch of an image is unknown, so the source cannot be split by batch.",
            parameter="by",
            hint="Pass a downloaded folder or the stream of iter_annotations(), or use by='item'.",
        )
    return batch


def _chooser(parts: Mapping[str, float] | Mapping[str, Sequence[str]], by: str, seed: int | str) -> _Choose:
    """Check the parts."""
    if not isinstance(parts, Mapping) or not parts:
        raise InvalidParameterError(
            f"parts must be a dict such as {{'train': 0.8, 'val': 0.2}}, not {parts!r}.", parameter="parts"
        )
    if by not in UNITS:
        raise InvalidParameterError(f"by must be 'item' or 'batch', not {by!r}.", parameter="by")
    if isinstance(seed, bool) or not isinstance(seed, (int, str)):
        raise InvalidParameterError(f"seed must be a number or a string, not {seed!r}.", parameter="seed")
    _check_names(parts)
    fractions = {name: float(value) for name, value in parts.items() if _is_fraction(value)}
    if len(fractions) == len(parts):
        total = math.fsum(fractions.values())
        if abs(total - 1) > _TOLERANCE:
            raise InvalidParameterError(f"parts must be fractions that sum to 1, not to {total:g}.", parameter="parts")
        return _by_fraction(fractions, by, seed)
    lists = {name: [*value] for name, value in parts.items() if _is_list(value)}
    if len(lists) != len(parts):
        raise InvalidParameterError(
            f"parts must be all fractions between 0 and 1, or all lists of batches, not {parts!r}.", parameter="parts"
        )
    batches = [batch for each in lists.values() for batch in each]
    if twice := sorted({batch for batch in batches if batches.count(batch) > 1}):
        raise InvalidParameterError(f"parts must have each batch once, not {twice[0]!r} twice.", parameter="parts")
    return _ByBatch(lists)


def chooser(
    parts: Mapping[str, float] | Mapping[str, Sequence[str]], *, by: str = "item", seed: int | str = 0
) -> Callable[[Document, dict[str, Any]], str | None]:
    """Return what chooses the part of an image; the arguments are those of :func:`split`."""
    return _chooser(parts, by, seed)


def choose_missing(choose: Callable[[Document, dict[str, Any]], str | None]) -> Iterator[Finding]:
    """Yield what is wrong with the parts, once all images were chosen."""
    if isinstance(choose, _ByBatch):
        yield from choose.missing()


def _is_fraction(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _is_list(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(each, str) for each in value)


def _check_names(parts: Mapping[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name in parts:
        if not isinstance(name, str) or naming.safe_name(name) != name:
            raise InvalidParameterError(
                f"parts must have names that are valid file names, not {name!r}.", parameter="parts"
            )
        if (other := seen.setdefault(naming.collision_key(name), name)) != name:
            raise InvalidParameterError(
                f"parts {other!r} and {name!r} would be the same file on some systems.", parameter="parts"
            )
