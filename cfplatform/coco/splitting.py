"""Splits labels into datasets, for example for training and validation, deterministically."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..destination import local
from ..exceptions import InvalidParameterError
from ..progress import Progress
from .choosing import By, Groups, Parts, chooser
from .documents import Document, OnError, PathLike, Source, open_source
from .image_files import COPY, LINK
from .merging import Merger, Summary, refuse_own
from .output import DatasetFile, dataset_file, prepare_folder


@dataclass
class Part:
    """One file of a split.

    Attributes:
        output: The absolute path of the file.
        images: Images in the file.
        annotations: Annotations in the file.
        size: The size of the file in bytes.
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
        """Return the summary as plain values, ready for JSON, without the findings."""
        return {**super().as_dict(), "parts": {name: part.as_dict() for name, part in self.parts.items()}}

    def _repr_html_(self) -> str:
        shares = [
            (name, f"{each.images:,} images, {each.annotations:,} annotations") for name, each in self.parts.items()
        ]
        return self._table([("documents", f"{self.documents:,}"), *shares])


def split(
    source: Source,
    output_folder: str | os.PathLike[str],
    parts: Parts,
    *,
    by: By = "item",
    groups: Groups | None = None,
    stratify: bool = False,
    keep: PathLike | None = None,
    seed: int | str = 0,
    images_from: PathLike | None = None,
    images: str | None = None,
    progress: Progress = None,
    on_error: OnError | None = None,
) -> SplitSummary:
    """Split the documents of a source into COCO datasets, ``<output_folder>/<part>.json``.

    Each part is merged as by :func:`merge`, with IDs from 1; all parts have the same categories and licenses. The part
    of an item depends only on its ID, the ``seed`` and the fractions. Adding items therefore never moves others, and
    a folder, a stream and a merged file are split the same way. The fractions are approximate. If the work item of an
    image is unknown, the name of its video decides (frames of a video stay together), or else its ``asset_url`` or file
    name: a document with many images is split image by image.

    All parts are written before the first one replaces an earlier file. The source is read once, in constant memory.
    With ``stratify``, or ``keep`` and groups, it is read twice, and memory grows with the number of groups.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        output_folder: The folder of the datasets; created if it does not exist.
        parts: The fraction of each part by name (fractions must sum to 1), or the batches of each part.
        by: Unit to keep together: "item"; "batch"; "video"; the name of a field of the image, else of the metadata of
            its work item, else of ``info``; or a function of (document, image) that returns the group or ``None``. Work
            items and videos are never split: their first image decides. An item without a group becomes its own group,
            with a warning ("no-group").
        groups: Used instead of ``by``: the group of each item, or a CSV file with the columns item and group. An item
            is a work item ID or, in datasets from other tools, the name of a video or image.
        stratify: Move whole groups until each part has about its fraction of all images, of images without annotations,
            and of the annotations of each class. Adding items may move others: use ``keep`` then.
        keep: The folder of an earlier split: its items, and their groups, stay in their parts.
        seed: Random seed.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`.
        images: "link" or "copy" to put the images next to the datasets, as for :func:`merge`.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.

    Raises:
        InvalidParameterError: If the source, the folder or the parts cannot be used; if the batch of an image is needed
            but unknown; if there are fewer groups than parts (except for items without ``stratify``), or no image has
            the field; if a group was in two parts of ``keep``; or if the source must be read twice and cannot be.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> result = coco.split("labels", "datasets", {"train": 0.8, "val": 0.2})
        >>> result.parts["train"].images + result.parts["val"].images == summary.successful
        True
        >>> even = coco.split("labels", "even", {"train": 0.5, "val": 0.5}, stratify=True)
        >>> even.parts["train"].images == even.parts["val"].images
        True
    """
    opened = open_source(source, images_from)
    choose = chooser(parts, by=by, groups=groups, stratify=stratify, keep=keep, seed=seed)
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
        choose.begin(opened, merger.report, progress)
        merger.add_all(opened, progress)
        choose.end()
        merger.write(datasets.values())
    for name, part in summary.parts.items():
        part.images, part.annotations = datasets[name].images.count, datasets[name].annotations.count
        part.size = part.output.stat().st_size
    return summary
