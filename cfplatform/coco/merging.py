"""Merges documents into one dataset, or into several, in one pass and flat memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..destination.local import folder_path
from ..exceptions import InvalidParameterError, InvalidResponseError, shown
from ..progress import Progress, ProgressReporter
from ..progress import reporter as progress_reporter
from ..resources.base import table
from .documents import Document, File, Folder, OnError, Source, Stream, open_source
from .findings import ERROR, Finding
from .output import DatasetFile, RelativePaths, beside, encode, prepare_folder, sanitized
from .tables import Agreement, Categories, FindingLog, Licenses, is_id, unwritable

#: Members that are merged; of all others those are kept on which the documents agree.
_MERGED = {"info", "images", "annotations", "categories", "licenses"}

#: Returns the dataset that an image of a document belongs to; ``None`` skips the image.
Choose = Callable[[Document, dict[str, Any]], DatasetFile | None]
#: The dataset of an image and its ID there; ``None`` if it was skipped.
_Target = tuple[DatasetFile, int] | None
_Targets = dict[Any, _Target]
#: Errors and warnings that a summary keeps; all are counted.
KEPT = 100
#: Errors that an exception names.
_NAMED = 3


@dataclass
class Summary:
    """The members that summaries of merging and splitting share.

    Attributes:
        documents: Documents that were merged.
        categories: Categories of the result.
        licenses: Licenses of the result.
        elapsed: Duration in seconds.
        problem_count: The number of errors: entries that were skipped, or that are ambiguous.
        conflict_count: The number of warnings: documents that differ, although nothing was lost.
        counts: The number of errors and warnings of each code.
        problems: The first errors.
        conflicts: The first warnings, each once.
    """

    documents: int = 0
    categories: int = 0
    licenses: int = 0
    elapsed: float = 0.0
    problem_count: int = 0
    conflict_count: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list, repr=False)
    conflicts: list[Finding] = field(default_factory=list, repr=False)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first."""
        self.counts[finding.code] = self.counts.get(finding.code, 0) + 1
        if finding.severity == ERROR:
            self.problem_count += 1
            kept = self.problems
        else:
            self.conflict_count += 1
            kept = self.conflicts
        if len(kept) < KEPT:
            kept.append(finding)

    def raise_for_problems(self) -> None:
        """Raise if there were errors.

        Raises:
            InvalidResponseError: With the first errors.

        Example:
            >>> from cfplatform import coco
            >>> summary = client.download_project(destination="labels")
            >>> coco.merge("labels", "dataset.json").raise_for_problems()
        """
        if not self.problem_count:
            return
        named = " ".join(f"{each.location}: {each.message}" for each in self.problems[:_NAMED])
        more = f" And {self.problem_count - _NAMED:,} more." if self.problem_count > _NAMED else ""
        raise InvalidResponseError(
            f"{self.problem_count:,} entries could not be merged. {named}{more} The rest was written. See "
            "problems of the summary for the first of them, or pass on_error to get each."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings themselves."""
        plain = asdict(self)
        del plain["problems"], plain["conflicts"]
        return plain

    def _table(self, figures: Sequence[tuple[str, Any]]) -> str:
        counts = [(name, f"{count:,}") for name, count in sorted(self.counts.items())]
        return table(type(self).__name__, [*figures, *counts, ("elapsed", f"{self.elapsed:.1f} s")])


@dataclass
class MergeSummary(Summary):
    """The summary of a merge.

    Attributes:
        output: The absolute path of the file.
        images: Images in it.
        annotations: Annotations in it.
        size: Its size in bytes.
    """

    output: Path = Path()
    images: int = 0
    annotations: int = 0
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings themselves."""
        return {**super().as_dict(), "output": str(self.output)}

    def _repr_html_(self) -> str:
        names = ("documents", "images", "annotations", "categories", "size")
        return self._table([("output", self.output), *((name, f"{getattr(self, name):,}") for name in names)])


def merge(
    source: Source, output: str | os.PathLike[str], *, progress: Progress = None, on_error: OnError | None = None
) -> MergeSummary:
    """Merge all documents of a source into one COCO dataset.

    IDs of images and annotations are reassigned, from 1 in the order of the source. Categories with the same ``name``
    and ``supercategory`` become one, and so do licenses with the same ``name`` and ``url``. Members of ``info``, and
    members that are not part of COCO, are kept if all documents agree on them. All other members of images and
    annotations stay as they are.

    Each image gets ``work_item_id``, ``batch``, ``asset_url`` and ``asset_path``, if they are known. ``asset_path`` is
    the path of the local image relative to the folder of the output. It becomes the ``file_name`` too, so loaders find
    the image if that folder is their root; the previous name is in ``original_file_name``. Without a local image
    ``file_name`` stays as it was, unless another image has it or it leads out of the folder.

    Documents are read one at a time, so memory does not grow with their number. The same source gives the same bytes.
    The output is written atomically: if anything fails, the previous file stays.

    Args:
        source: Where the documents come from; see :func:`~cfplatform.coco.read`.
        output: The file to write; not a path that the source would read as labels.
        progress: ``True`` for a bar (needs the extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: Called with a :class:`~cfplatform.coco.Finding` for each entry that cannot be merged and is skipped.
            The summary has the first ones too.

    Raises:
        InvalidParameterError: If the source or the output cannot be used.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> merged = coco.merge("labels", "dataset.json")
        >>> merged.images == summary.successful
        True
    """
    opened = open_source(source)
    path = output_path(output, "output")
    refuse_own(opened, path)
    summary = MergeSummary(output=path)
    prepare_folder(path.parent)
    with ExitStack() as stack:
        dataset = DatasetFile(path)
        stack.callback(dataset.close)
        merge_into(opened, path.parent, [dataset], lambda document, image: dataset, summary, progress, on_error)
    summary.images, summary.annotations = dataset.images.count, dataset.annotations.count
    summary.size = path.stat().st_size
    return summary


def merge_into(
    opened: Folder | File | Stream,
    folder: Path,
    datasets: list[DatasetFile],
    choose: Choose,
    summary: Summary,
    progress: Progress,
    on_error: OnError | None,
    missing: Callable[[], Iterable[Finding]] = tuple,
) -> None:
    """Read a source to its end and write it into datasets, which are committed together.

    Args:
        opened: The source.
        folder: The folder of the datasets.
        datasets: Where the images go.
        choose: Returns the dataset of an image.
        summary: Filled in.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.
        missing: Called after the last document; returns more findings.
    """
    began = time.monotonic()
    bar = progress_reporter(progress)

    def report(finding: Finding) -> None:
        summary.add(finding)
        if on_error is not None and finding.severity == ERROR:
            on_error(finding)

    def unreadable(finding: Finding) -> None:
        report(finding)
        bar.advance("failed", 0)

    merger = Merger(folder, FindingLog(report), choose)
    bar.start(opened.total)
    try:
        summary.documents = _add_all(opened, merger, bar, unreadable)
    finally:
        bar.finish()
    for finding in missing():
        report(finding)
    for dataset in datasets:
        dataset.write(merger.head(), merger.lists())
    for dataset in datasets:
        dataset.commit()
    summary.categories, summary.licenses = len(merger.categories.entries), len(merger.licenses.entries)
    summary.elapsed = time.monotonic() - began


def _add_all(
    opened: Folder | File | Stream, merger: Merger, bar: ProgressReporter, unreadable: Callable[[Finding], None]
) -> int:
    count = 0
    with closing(opened.documents(unreadable)) as documents:
        for document in documents:
            size = merger.add(document)
            count += size is not None
            bar.advance("failed" if size is None else "read", size or 0)
    return count


def output_path(value: object, what: str) -> Path:
    """Return the absolute path of an output, with links of its folder resolved.

    Raises:
        InvalidParameterError: If it is not the path of a file.
    """
    path = folder_path(value, what)
    if path.is_dir() or not path.name:
        raise InvalidParameterError(
            f"{what} must be the path of a file, such as 'dataset.json', not {str(path)!r}.", parameter=what
        )
    return path.parent.resolve() / path.name


def refuse_own(opened: Folder | File | Stream, path: Path) -> None:
    """Refuse an output that the source would read as labels in the next run.

    Raises:
        InvalidParameterError: If it would.
    """
    if opened.reads(path):
        raise InvalidParameterError(
            f"output {str(path)!r} is among the labels of the source, so the next run would read it as one of them. "
            "Write it elsewhere, such as beside the folder of the source.",
            parameter="output",
        )


class Merger:
    """Merges documents into one dataset, or several with the same categories and licenses.

    Args:
        folder: The folder of the datasets.
        log: Gets the errors and warnings.
        choose: Returns the dataset of an image.
    """

    def __init__(self, folder: Path, log: FindingLog, choose: Choose) -> None:
        self._log, self._choose = log, choose
        self.categories = Categories(log)
        self.licenses = Licenses(log)
        self._info = Agreement()
        self._others = Agreement()
        self._paths = RelativePaths(folder)

    def head(self) -> dict[str, Any]:
        """Return the members that are the same in all documents."""
        return {"info": self._info.members, **self._others.members}

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Return the lists that all datasets share."""
        return {"licenses": self.licenses.entries, "categories": self.categories.entries}

    def add(self, document: Document) -> int | None:
        """Add a document; return its size in the dataset in bytes, ``None`` if it could not be added."""
        if not isinstance(document.data, dict):
            self._log.error(document, "wrong-type", "The document is not an object.")
            return None
        images = document.data.get("images")
        if not isinstance(images, list):
            if "images" in document.data:
                self._log.error(document, "wrong-type", "The images are not a list.", "/images")
            else:
                self._log.error(document, "missing-section", "The document has no images.")
            return None
        info = document.data.get("info")
        info = info if isinstance(info, dict) else {}
        url = info.get("asset_url")
        self._info.add({name: value for name, value in info.items() if name != "asset_url"})
        self._agree(document)
        targets: _Targets = {}
        size = self._add_images(document, images, url, targets)
        annotations = document.data.get("annotations")
        if isinstance(annotations, list):
            return size + self._add_annotations(document, annotations, targets)
        if annotations is not None:
            self._log.error(document, "wrong-type", "The annotations are not a list.", "/annotations")
        return size

    def _agree(self, document: Document) -> None:
        for name in self._others.add({name: each for name, each in document.data.items() if name not in _MERGED}):
            message = f"The member {shown(name)} is not the same in all documents, so it is left out."
            self._log.warning(document, "member-left-out", name, message)

    # --- Images ----------------------------------------------------------------------------------------------

    def _add_images(self, document: Document, images: list[Any], url: Any, targets: _Targets) -> int:
        licenses = self.licenses.numbers(document)
        alone = len(images) == 1
        chosen: dict[DatasetFile, list[int]] = {}
        for index, image in enumerate(images):
            if not isinstance(image, dict):
                self._log.error(document, "wrong-type", "The image is not an object.", f"/images/{index}")
            elif (dataset := self._choose(document, image)) is not None:
                chosen.setdefault(dataset, []).append(index)
            else:
                self._assign(document, image.get("id"), f"/images/{index}", targets, None)
        size = 0
        for dataset, indexes in chosen.items():
            first = dataset.images.count + 1
            entries = [
                self._image(document, images[index], first + offset, licenses, f"/images/{index}")
                for offset, index in enumerate(indexes)
            ]
            self._locate(document, entries, url, dataset, alone)
            text, written = self._written(document, "images", entries, indexes, first)
            dataset.images.add(text, len(written))
            size += len(text)
            numbers = dict(zip(written, range(first, first + len(written)), strict=True))
            for index in indexes:
                target = (dataset, numbers[index]) if index in numbers else None
                self._assign(document, images[index].get("id"), f"/images/{index}", targets, target)
        return size

    def _image(
        self, document: Document, image: dict[str, Any], number: int, licenses: dict[Any, int], pointer: str
    ) -> dict[str, Any]:
        made = {**image, "id": number}
        if document.item_id is not None:
            made["work_item_id"] = document.item_id
        if document.batch is not None:
            made["batch"] = document.batch
        old = image.get("license")
        if old is not None:
            try:
                made["license"] = licenses[old]
            except (KeyError, TypeError):
                # Its ID would be that of another license.
                del made["license"]
                message = f"There is no license {shown(old)}; the image is kept without one."
                self._log.warning(document, "dangling-license-id", shown(old), message, f"{pointer}/license")
        return made

    def _locate(
        self, document: Document, entries: Sequence[dict[str, Any]], url: Any, dataset: DatasetFile, alone: bool
    ) -> None:
        """Set the URL, local path and file names of images."""
        for made in entries:
            if url:
                made["asset_url"] = url
            original = made.get("file_name")
            local: str | Path | None = document.asset
            asset = local
            if asset is None and document.item_id is None and document.path is not None:
                # A dataset; its paths are relative to its own folder.
                local = beside(document.path, original)
                asset = beside(document.path, made.get("asset_path")) or local
            if asset is not None:
                made["asset_path"] = self._paths.path(asset)
            if isinstance(original, str):
                made.setdefault("original_file_name", original)
            if local is not None and (alone or document.asset is None):
                made["file_name"] = self._paths.path(local)
                # Two images may be one file; no other may have its name.
                dataset.names.take(made["file_name"])
            elif isinstance(original, str):
                made["file_name"] = dataset.names.unique(sanitized(original), made["id"])

    def _assign(self, document: Document, old: Any, pointer: str, targets: _Targets, target: _Target) -> None:
        if not is_id(old):
            self._log.error(document, "missing-id", "The id of the image is not a number or a string.", pointer)
        elif targets.setdefault(old, target) is not target:
            message = f"The id {shown(old)} is that of an earlier image, which gets its annotations."
            self._log.error(document, "duplicate-image-id", message, f"{pointer}/id")

    # --- Annotations -----------------------------------------------------------------------------------------

    def _add_annotations(self, document: Document, annotations: list[Any], targets: _Targets) -> int:
        categories = self.categories.numbers(document)
        chosen: dict[DatasetFile, tuple[list[dict[str, Any]], list[int]]] = {}
        for index, annotation in enumerate(annotations):
            try:
                target = targets[annotation.get("image_id")]
                if target is None:
                    continue
                dataset, number = target
                category = annotation.get("category_id")
                # Captions have no category; pycocotools loads them beside others only if the member is there.
                category = None if category is None else categories[category]
                made = {**annotation, "id": None, "image_id": number, "category_id": category}
            except (KeyError, TypeError, AttributeError):
                self._refuse(document, annotation, index, targets)
                continue
            if "segments_info" in made:
                made["segments_info"] = self._segments(document, annotation, index, categories)
            if dataset not in chosen:
                chosen[dataset] = ([], [])
            entries, indexes = chosen[dataset]
            made["id"] = dataset.annotations.count + len(entries) + 1
            entries.append(made)
            indexes.append(index)
        size = 0
        for dataset, (entries, indexes) in chosen.items():
            text, written = self._written(document, "annotations", entries, indexes, dataset.annotations.count + 1)
            dataset.annotations.add(text, len(written))
            size += len(text)
        return size

    def _segments(self, document: Document, annotation: dict[str, Any], index: int, categories: dict[Any, int]) -> Any:
        """Return the segments of a panoptic annotation; their IDs are colors of its image, so they stay."""
        segments = annotation["segments_info"]
        if not isinstance(segments, list):
            return segments
        made = []
        for position, segment in enumerate(segments):
            try:
                old = segment.get("category_id")
                made.append(segment if old is None else {**segment, "category_id": categories[old]})
            except (KeyError, TypeError, AttributeError):
                pointer = f"/annotations/{index}/segments_info/{position}"
                if not isinstance(segment, dict):
                    self._log.error(document, "wrong-type", "The segment is not an object.", pointer)
                else:
                    self._dangling(document, "category", segment, pointer, annotation.get("id"))
        return made

    def _refuse(self, document: Document, annotation: Any, index: int, targets: _Targets) -> None:
        pointer = f"/annotations/{index}"
        if not isinstance(annotation, dict):
            self._log.error(document, "wrong-type", "The annotation is not an object.", pointer)
            return
        image = annotation.get("image_id")
        kind = "category" if is_id(image) and image in targets else "image"
        self._dangling(document, kind, annotation, pointer, annotation.get("id"))

    def _dangling(
        self, document: Document, kind: str, owner: dict[str, Any], pointer: str, annotation_id: object
    ) -> None:
        name = f"{kind}_id"
        if name in owner:
            message, pointer = f"There is no {kind} {shown(owner[name])}.", f"{pointer}/{name}"
        else:
            message = f"There is no {name}."
        self._log.error(document, f"dangling-{kind}-id", message, pointer, _plain_id(annotation_id))

    # --- Both ------------------------------------------------------------------------------------------------

    def _written(
        self, document: Document, section: str, entries: list[dict[str, Any]], indexes: list[int], first: int
    ) -> tuple[str, list[int]]:
        """Return entries as JSON without brackets, and the indexes of those that could be written."""
        try:
            return encode(entries)[1:-1], indexes
        except (ValueError, TypeError, RecursionError):
            pass
        texts: list[str] = []
        written: list[int] = []
        for entry, index in zip(entries, indexes, strict=True):
            old = document.data[section][index].get("id")
            entry["id"] = first + len(texts)
            try:
                texts.append(encode(entry))
            except (ValueError, TypeError, RecursionError) as error:
                message = f"It cannot be written as JSON: {error}."
                own = _plain_id(old) if section == "annotations" else None
                self._log.error(document, unwritable(error), message, f"/{section}/{index}", own)
            else:
                written.append(index)
        return ",".join(texts), written


def _plain_id(value: object) -> int | str | None:
    """Return the ID of an annotation if a finding can have it."""
    return value if isinstance(value, (int, str)) else None
