"""Converts labels to and from YOLO, Pascal VOC, and COCO with images."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..destination import local
from ..exceptions import InvalidParameterError
from ..progress import Progress, reporter
from .choosing import Chooser, chooser
from .dataset_folder import MARKER, DatasetFolder, content_of
from .documents import Document, OnError, Opened, PathLike, Source, file_size, finding_about, open_source
from .entries import Entries
from .findings import ERROR, WARNING, Finding, Problem, dangling, shown
from .image_files import COPY, LINK, is_rotated_by_others, upright_size
from .layouts import is_url, stem_of
from .losses import Losses
from .merging import Merger, Summary, refuse_own
from .output import DatasetFile, dataset_file, prepare_folder
from .references import Numbers
from .tables import Categories, FindingLog
from .values import each_record, key, plain_object, records, size_of
from .voc import VocWriter
from .yolo import DETECT, TASKS, Size, YoloWriter
from .yolo_reading import Yolo, find_yolo

#: Formats of the output.
YOLO, VOC, COCO = "yolo", "voc", "coco"
#: Layouts of COCO: ``annotations/instances_<part>.json`` or ``<part>/_annotations.coco.json``.
ANNOTATIONS, PARTS = "annotations", "parts"
#: Link the images, unless the output is one file.
AUTO = "auto"
#: Maximum number of findings of each code in a summary.
_KEPT_OF_CODE = 3
#: A part in the name of a document or its folder.
_PART = re.compile(r"(?i)(train|val(?:id(?:ation)?)?|test)(?:[-_]?\d{4})?")

_Writer = YoloWriter | VocWriter
_Any = TypeVar("_Any")


@dataclass
class ConvertSummary(Summary):
    """The summary of a conversion.

    Attributes:
        output: The absolute path of the result: ``data.yaml`` for YOLO, else the folder or file.
        to: The format.
        task: The kind of YOLO rows; ``None`` for other formats.
        images: Images in the result.
        annotations: Annotations in the result: YOLO rows or Pascal VOC objects.
        parts: The number of images of each part.
        losses: The number of annotations or images that lost information, by finding code.
    """

    verb = "converted"

    output: Path = Path()
    to: str = COCO
    task: str | None = None
    images: int = 0
    annotations: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep the first errors and the first warnings of each code."""
        if finding.severity != ERROR and self.counts.get(finding.code, 0) >= _KEPT_OF_CODE:
            self.counts[finding.code] += 1
            self.conflict_count += 1
        else:
            super().add(finding)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings."""
        return {**super().as_dict(), "output": str(self.output)}

    def _repr_html_(self) -> str:
        figures = [(name, f"{getattr(self, name):,}") for name in ("documents", "images", "annotations", "categories")]
        return self._table([("output", self.output), *figures])


def convert(
    source: Source,
    output: str | os.PathLike[str],
    to: str = COCO,
    *,
    task: str | None = None,
    parts: Mapping[str, float] | Mapping[str, Sequence[str]] | None = None,
    images: str | None = AUTO,
    images_from: PathLike | None = None,
    layout: str = ANNOTATIONS,
    origin: int = 1,
    progress: Progress = None,
    on_error: OnError | None = None,
    **split_options: Any,
) -> ConvertSummary:
    """Convert labels to YOLO, Pascal VOC, or COCO with images; or convert a YOLO dataset to any of them.

    The output folder is managed by ``convert``: a second run replaces the files of the first, and removes those no
    longer in the source, including the caches that ultralytics writes to ``labels``. A folder with other files is
    refused.

    Annotations that the format cannot represent, such as crowds, or segmentations where rows are boxes, are dropped.
    They are counted in ``losses`` and reported as one warning for each image.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`. Also a YOLO dataset: its
            ``data.yaml`` or the folder of that file.
        output: The folder to write. For COCO also a ``.json`` file, written as by :func:`merge`.
        to: "yolo", "voc" or "coco".
        task: The kind of YOLO rows: "detect" for boxes, "segment" for polygons, "pose" for keypoints, or "obb" for
            rotated boxes. Defaults to the task of the source if it is a YOLO dataset, else "detect".
        parts: As for :func:`split`. By default, the name or folder of a document selects its part, such as ``val.json``
            or ``valid/_annotations.coco.json``; all other documents go to ``train``.
        images: "link" for hard links to the images (copies where the file system has no hard links), "copy", or
            ``None`` for labels only. "auto", the default, is "link", or ``None`` if the output is one file.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`.
        layout: For COCO: "annotations" for ``annotations/instances_<part>.json`` and ``images/<part>``, or "parts"
            for ``<part>/_annotations.coco.json`` with the images next to it.
        origin: For Pascal VOC: 1 for pixels counted from 1, the last one included, as in the original format; 0 for
            coordinates from 0, as torchvision expects.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.
        split_options: Other options of :func:`split` that choose the parts: ``by``, ``groups``, ``stratify``, ``keep``
            and ``seed``.

    Raises:
        InvalidParameterError: If the source or the output cannot be used, or classes have different numbers of
            keypoints and the task is "pose".
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> made = coco.convert("labels", "training", to="yolo", parts={"train": 0.8, "val": 0.2})
        >>> made.output.name, made.images == summary.successful
        ('data.yaml', True)
    """
    _check("to", to, (YOLO, VOC, COCO))
    _check("task", task, (None, *TASKS))
    _check("images", images, (AUTO, LINK, COPY, None))
    _check("layout", layout, (ANNOTATIONS, PARTS))
    _check("origin", origin, (0, 1))
    if split_options and parts is None:
        raise InvalidParameterError(f"{', '.join(split_options)} can only be used with parts.", parameter="parts")
    described = find_yolo(source)
    opened: Opened
    if described is not None:
        folder = None if images_from is None else local.folder_path(images_from, "images_from")
        opened = Yolo(described, task if to != YOLO else None, folder)
        task = task or opened.task
    else:
        opened = open_source(source, images_from)
    choose = _PartsByName() if parts is None else chooser(parts, **split_options)
    path = _output_path(output, source)
    summary = ConvertSummary(output=path, to=to)
    if parts is not None:
        summary.parts = dict.fromkeys(parts, 0)
        if to == YOLO and "images" in parts:
            # Training tools find labels by replacing the last "images" in a path with "labels".
            raise InvalidParameterError("A part must not be named 'images'. Choose another name.", parameter="parts")
    if to == COCO:
        _to_coco(opened, summary, choose, parts is not None, images, layout, progress, on_error)
    else:
        _to_files(
            opened, summary, choose, task or DETECT, LINK if images == AUTO else images, origin, progress, on_error
        )
    return summary


def _check(name: str, value: _Any, allowed: Sequence[_Any]) -> None:
    if value not in allowed or isinstance(value, bool):
        shown_values = ", ".join(repr(each) for each in allowed if each not in (None, AUTO))
        raise InvalidParameterError(f"{name} must be one of {shown_values}, not {value!r}.", parameter=name)


def _output_path(output: object, source: object) -> Path:
    """Return the absolute path of the output; refuse a folder that contains the source."""
    path = local.folder_path(output, "output").resolve()
    if isinstance(source, (str, os.PathLike)):
        own = Path(os.fsdecode(source)).expanduser().resolve()
        if path == own or (path in own.parents and (path / MARKER).exists()):
            raise InvalidParameterError(
                f"output {str(path)!r} contains the source. Choose another folder.", parameter="output"
            )
    return path


class _PartsByName(Chooser):
    """Returns the part in the name of a document."""

    def __call__(self, document: Document, image: dict[str, Any]) -> str:
        if document.path is None or document.item_id is not None:
            return "train"
        names = (stem_of(document.path.stem), document.path.parent.name, document.batch or "")
        found = next((match for name in names if (match := _PART.fullmatch(name))), None)
        part = "train" if found is None else found[1].lower()
        return "val" if part.startswith("val") else part


# --- YOLO and Pascal VOC ------------------------------------------------------------------------------------------


def _to_files(
    opened: Opened,
    summary: ConvertSummary,
    choose: Chooser,
    task: str,
    images: str | None,
    origin: int,
    progress: Progress,
    on_error: OnError | None,
) -> None:
    with DatasetFolder(summary.output, images) as folder:
        converter = _Converter(folder, summary, choose, on_error)
        writer: _Writer
        if summary.to == YOLO:
            summary.task = task
            writer = YoloWriter(folder, task, converter.losses)
        else:
            writer = VocWriter(folder, origin, converter.losses, converter.categories)
        converter.run(opened, writer, progress)
        converter.finish(writer)
    if summary.to == YOLO:
        summary.output = summary.output / "data.yaml"


class _Converter:
    """Writes the images of a source one by one, in constant memory."""

    def __init__(
        self, folder: DatasetFolder, summary: ConvertSummary, choose: Chooser, on_error: OnError | None
    ) -> None:
        self._began = time.monotonic()
        self._folder = folder
        self._summary = summary
        self._choose = choose
        self._on_error = on_error
        self._log = FindingLog(self._report)
        self._table = Categories(self._log)
        #: All categories so far, numbered from 1.
        self.categories = self._table.entries
        self.losses = Losses(summary.losses, self._report)

    def _report(self, finding: Finding) -> None:
        self._summary.add(finding)
        if self._on_error is not None and finding.severity == ERROR:
            self._on_error(finding)

    def run(self, opened: Opened, writer: _Writer, progress: Progress) -> None:
        """Convert all documents of a source."""
        bar = reporter(progress)

        def unreadable(finding: Finding) -> None:
            self._report(finding)
            bar.advance("failed", 0)

        self._table.reserve(opened.order)
        self._choose.begin(opened, self._report, progress)
        bar.start(opened.total)
        try:
            with closing(opened.documents(unreadable, streamed=True)) as documents:
                for document in documents:
                    is_read = self._add(document, writer)
                    self._summary.documents += is_read
                    bar.advance("read" if is_read else "failed", file_size(document))
        finally:
            bar.finish()

    def finish(self, writer: _Writer) -> None:
        """Write the files that the whole dataset shares."""
        for code, message in writer.finish(self._summary.parts, self.categories):
            self._report(Finding(code, WARNING, message))
        self._choose.end()
        self._summary.categories = len(self.categories)
        self._summary.elapsed = time.monotonic() - self._began

    def _add(self, document: Document, writer: _Writer) -> bool:
        """Add a document; return whether it could be read."""
        data: Any = document.data
        if not isinstance(data, dict) or not isinstance(data.get("images"), list):
            missing = isinstance(data, dict) and "images" not in data
            code = "missing-section" if missing else "wrong-type"
            message = "The document has no images." if missing else "The images are not a list."
            self._log.error(document, code, message, "/images" if isinstance(data, dict) and not missing else "")
            return False
        annotations = data.get("annotations")
        if annotations is not None and not isinstance(annotations, (list, Entries)):
            self._log.error(document, "wrong-type", "The annotations are not a list.", "/annotations")
        for section in ("images", "annotations"):
            listed = data.get(section)
            if odd := sum(not isinstance(each, dict) for each in listed) if isinstance(listed, (list, Entries)) else 0:
                message = f"{odd:,} of the {section} are not objects; they are skipped."
                self._log.error(document, "wrong-type", message, f"/{section}")
        numbers = self._table.numbers(document)
        images = records(data, "images")
        known = {key(image.get("id")) for image in images}
        for each in each_record(data, "annotations"):
            if (own := key(each.get("image_id"))) is None or own not in known:
                self._refuse(document, dangling("image", each, "", each.get("id")))
        for single in document.by_image():
            self._add_image(document, single, numbers, writer)
        return True

    def _refuse(self, document: Document, problem: Problem) -> None:
        self._report(finding_about(document, problem))

    def _add_image(self, whole: Document, document: Document, numbers: dict[Any, int], writer: _Writer) -> None:
        """Add one image, given as a document of its own."""
        image = records(document.data, "images")[0]
        part = self._choose(whole, image)
        if part is None:
            return
        name, local_file = image.get("file_name"), document.asset
        is_placed = self._folder.images is not None
        if not isinstance(name, str) or not name:
            name = f"{shown(image.get('id'))}.jpg"
        if is_placed and local_file is None:
            message = f"The image {shown(name)} has no file; it is skipped."
            self.losses.add_image("no-image", document, message)
            return
        size = size_of(image) or _stored_size(local_file)
        if size is None:
            code = "missing-size" if image.get("width") is None or image.get("height") is None else "bad-size"
            message = f"The size of the image {shown(name)} is unknown; it is skipped."
            self._refuse(document, Problem(code, message))
            return
        path = self._place(document, image, name, part, writer)
        if path is None:
            return
        labels = self._labels(document, image, numbers)
        self._summary.annotations += writer.add(part, path.rpartition("/")[2], size, labels)
        self._summary.images += 1
        self._summary.parts[part] = self._summary.parts.get(part, 0) + 1
        self.losses.report(document, name)

    def _place(self, document: Document, image: dict[str, Any], name: str, part: str, writer: _Writer) -> str | None:
        """Put an image into the folder; return its path, or the path it would have."""
        local_file = document.asset
        own = (
            local_file.name
            if local_file is not None
            else re.split(r"[\\/]", name.partition("?")[0] if is_url(name) else name)[-1]
        )
        stem = self._folder.stem(writer.image_path(part, ""), own or name, f"{document.item_id} {document.path} {name}")
        if local_file is None or self._folder.images is None:
            suffix = os.path.splitext(own)[1].lower()
            return writer.image_path(part, f"{stem}{suffix or '.jpg'}")
        try:
            content = content_of(local_file)
        except OSError as error:
            reason = error.strerror or error
            self.losses.add_image("no-image", document, f"Could not read the image {shown(name)}: {reason}.")
            return None
        if content.has_exif and self._summary.to == YOLO and is_rotated_by_others(local_file, image):
            message = (
                f"The image {shown(name)} is annotated as stored, but YOLO applies its EXIF orientation; it is skipped."
            )
            self.losses.add_image("turned-image", document, message)
            return None
        suffix = content.extension
        if not content.is_known or suffix == ".gif":
            self.losses.add_image(
                "image-format", document, f"The image {shown(name)} has a format that training tools may not read."
            )
        path = writer.image_path(part, f"{stem}{suffix}")
        self._folder.place(local_file, path)
        return path

    def _labels(
        self, document: Document, image: dict[str, Any], numbers: dict[Any, int]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the annotations of an image with their categories."""
        own, labels, categories = key(image.get("id")), [], self.categories
        for each in records(document.data, "annotations"):
            if own is None or key(each.get("image_id")) != own:
                continue
            if document.path is None:
                # Streams may have arrays and tuples.
                each = plain_object(each, None)
            category = each.get("category_id")
            try:
                labels.append((each, categories[numbers[category] - 1]))
            except (KeyError, TypeError):
                if category is None and each.get("caption") is not None:
                    self.losses.add("no-row", each)
                else:
                    self._refuse(document, dangling("category", each, "", each.get("id")))
        return labels


def _stored_size(path: Path | None) -> Size | None:
    # Without Pillow the size is unknown.
    with contextlib.suppress(ImportError):
        return None if path is None else upright_size(path)
    return None


# --- COCO ---------------------------------------------------------------------------------------------------------


def _to_coco(
    opened: Opened,
    summary: ConvertSummary,
    choose: Chooser,
    has_parts: bool,
    images: str | None,
    layout: str,
    progress: Progress,
    on_error: OnError | None,
) -> None:
    path = summary.output
    if path.suffix.lower() == ".json":
        if has_parts:
            raise InvalidParameterError("output must be a folder if parts are given, not one file.", parameter="output")
        if path.is_dir():
            raise InvalidParameterError(f"output {str(path)!r} is a folder, not a file.", parameter="output")
        refuse_own(opened, path)
        prepare_folder(path.parent)
        with dataset_file(path) as dataset:
            merger = Merger(
                path.parent, summary, on_error, lambda document, image: dataset, None if images == AUTO else images
            )
            merger.add_all(opened, progress)
            merger.write([dataset])
        summary.images, summary.annotations = dataset.images.count, dataset.annotations.count
        return
    with DatasetFolder(path, LINK if images == AUTO else images) as folder, ExitStack() as stack:
        merger = _LayoutMerger(folder, summary, on_error, choose, layout, stack)
        for part in summary.parts:
            merger.dataset_of(part)
        choose.begin(opened, merger.report, progress)
        merger.add_all(opened, progress)
        choose.end()
        merger.write(merger.datasets.values())
    summary.parts = {part: dataset.images.count for part, dataset in merger.datasets.items()}
    summary.images = sum(summary.parts.values())
    summary.annotations = sum(dataset.annotations.count for dataset in merger.datasets.values())


class _LayoutMerger(Merger):
    """Merges documents into one dataset for each part, with the images of each part in a folder."""

    def __init__(
        self,
        folder: DatasetFolder,
        summary: ConvertSummary,
        on_error: OnError | None,
        choose: Chooser,
        layout: str,
        stack: ExitStack,
    ) -> None:
        super().__init__(folder.root, summary, on_error, self._dataset_for)
        self.datasets: dict[str, DatasetFile] = {}
        self._target = folder
        self._part_of = choose
        self._is_by_part = layout == PARTS
        self._stack = stack
        self._losses = Losses(summary.losses, self.report)

    def _dataset_for(self, document: Document, image: dict[str, Any]) -> DatasetFile | None:
        part = self._part_of(document, image)
        return None if part is None else self.dataset_of(part)

    def dataset_of(self, part: str) -> DatasetFile:
        """Return the dataset of a part, creating it if it is new."""
        if part not in self.datasets:
            name = f"{part}/_annotations.coco.json" if self._is_by_part else f"annotations/instances_{part}.json"
            path = self._target.add(name)
            prepare_folder(path.parent)
            self._target.make(self._images_of(part))
            self.datasets[part] = self._stack.enter_context(dataset_file(path))
        return self.datasets[part]

    def _images_of(self, part: str) -> str:
        return part if self._is_by_part else f"images/{part}"

    def _set_origin(self, document: Document, made: dict[str, Any], numbers: Numbers, dataset: DatasetFile) -> None:
        """Put the image into the folder of its part; ``file_name`` is relative to that folder."""
        original = made.get("file_name")
        local_file = document.image_path(made)
        super()._set_origin(document, made, numbers, dataset)
        if self._target.images is None:
            return
        if local_file is None:
            message = f"The image {shown(original)} has no file; it is listed without one."
            self._losses.add_image("no-image", document, message)
            return
        part = next(name for name, each in self.datasets.items() if each is dataset)
        folder = self._images_of(part)
        try:
            suffix = content_of(local_file).extension
        except OSError:
            suffix = local_file.suffix
        stem = self._target.stem(folder, local_file.name, f"{document.item_id} {document.path} {original}")
        self._target.place(local_file, f"{folder}/{stem}{suffix}")
        made["file_name"] = f"{stem}{suffix}"
        made["asset_path"] = made["file_name"] if self._is_by_part else f"../{folder}/{stem}{suffix}"
