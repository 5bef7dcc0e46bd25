"""Splits labels into datasets, such as for training and validation, the same way in every run."""

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
    """Split all documents of a source into COCO datasets, ``<output_folder>/<part>.json``.

    Each part is what :func:`merge` makes of its documents, with IDs from 1, but all parts have the same categories and
    licenses. The part of an item depends only on its ID, the ``seed`` and the fractions: items that are added later
    move no others, and a folder, a stream and a merged file are split the same way. Hence the fractions are
    approximate. If the work item of an image is unknown, the name of its video decides, so the frames of a video stay
    together, or else its ``asset_url`` or the name of its file: a document of many images is divided image by image.

    All parts are written before the first one replaces a previous file. The source is read once, in flat memory; with
    ``stratify``, or ``keep`` and groups, it is read twice, and memory grows with the number of groups.

    Args:
        source: Where the documents come from; see :func:`~cfplatform.coco.read`.
        output_folder: The folder of the datasets; created if it does not exist.
        parts: The fraction of each part by its name, with a sum of 1; or the batches of each part.
        by: What is kept together: "item"; "batch"; "video"; the name of a member of the image, or else of the metadata
            of its work item, or else of ``info``; or a function of (document, image) that returns the group, ``None``
            if there is none. Work items and videos always stay whole: their first image decides. An item without a
            group is one of its own, with a warning ("no-group").
        groups: Instead: the group of each item, or a CSV file with two columns, item and group. An item is the ID of
            the work item or, in datasets of other tools, the name of the video or the image.
        stratify: Move whole groups until each part has about its fraction of all images, of images without annotations,
            and of the annotations of each class. Items that are added later may move others: pass ``keep`` then.
        keep: The folder of an earlier split: its items stay in their parts, and so do their groups.
        seed: Random seed.
        images_from: The folder of the images, by their ``file_name``; see :func:`~cfplatform.coco.read`.
        images: "link" or "copy" to put the images beside the datasets, as for :func:`merge`.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.

    Raises:
        InvalidParameterError: If the source, the folder or the parts cannot be used; if the batch of an image is needed
            and unknown; if there are fewer groups than parts (except for items without ``stratify``), or no image has
            the member; if a group was in two parts of ``keep``; or if the source must be read twice and cannot be.
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
