"""Merges documents into one or several datasets, in one pass and in constant memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from ..destination.local import folder_path
from ..exceptions import InvalidParameterError, InvalidResponseError
from ..progress import Progress, reporter
from ..resources.base import table
from .documents import Document, OnError, Opened, PathLike, Source, open_source
from .entries import Entries
from .findings import ERROR, WARNING, Finding, dangling, shown
from .image_files import ImageFolder
from .layouts import is_url
from .output import (
    DatasetFile,
    UnwritableError,
    beside,
    dataset_file,
    encode,
    prepare_folder,
    relative_path,
    sanitized,
)
from .references import Numbers, Target, Targets, is_list_of_entries, may_refer, references
from .tables import Agreement, Categories, FindingLog, Licenses, SceneCategories, is_id
from .values import key

#: Fields that are merged. Other fields are kept if all documents agree on them.
_MERGED = {"info", "images", "annotations", "categories", "licenses", "scene_categories"}
#: Maximum number of further lists in a dataset. Each needs an open file while it is written.
_LISTS = 32

#: Annotations to merge at a time.
_PIECE = 500

#: Returns the dataset for an image of a document; ``None`` skips the image.
Choose = Callable[[Document, dict[str, Any]], DatasetFile | None]
#: New entries of each dataset, by their position in the document.
_Chosen = dict[DatasetFile, dict[int, dict[str, Any]]]
#: Maximum number of errors, and of warnings, in a summary; all are counted.
KEPT = 100
#: Maximum number of errors in the message of an exception.
_NAMED = 3


@dataclass
class Summary:
    """The common fields of the summaries of merge, split and convert.

    Attributes:
        documents: Documents that were merged.
        categories: Categories in the result.
        licenses: Licenses in the result.
        elapsed: Duration in seconds.
        problem_count: The number of errors: entries that were skipped or are ambiguous.
        conflict_count: The number of warnings, such as documents that differ, or fields and shapes that were dropped.
        counts: The number of errors and warnings by code.
        problems: The first errors.
        conflicts: The first warnings, each once.
    """

    #: The verb in messages.
    verb = "merged"

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
        """Count a finding, and keep the first ones."""
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
            f"{self.problem_count:,} entries could not be {self.verb}. {named}{more} The rest was written. The first "
            "errors are in summary.problems; pass on_error to get all of them.",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings."""
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
        images: Images in the file.
        annotations: Annotations in the file.
        size: The size of the file in bytes.
    """

    output: Path = Path()
    images: int = 0
    annotations: int = 0
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, ready for JSON, without the findings."""
        return {**super().as_dict(), "output": str(self.output)}

    def _repr_html_(self) -> str:
        names = ("documents", "images", "annotations", "categories", "size")
        return self._table([("output", self.output), *((name, f"{getattr(self, name):,}") for name in names)])


def merge(
    source: Source,
    output: str | os.PathLike[str],
    *,
    images_from: PathLike | None = None,
    images: str | None = None,
    metadata: Iterable[str] = (),
    progress: Progress = None,
    on_error: OnError | None = None,
) -> MergeSummary:
    """Merge all documents of a source into one COCO dataset.

    IDs of images and annotations are reassigned, from 1 in the order of the source. So are the IDs of videos, tracks
    and instances, which are never merged across documents. Categories with the same ``name`` and ``supercategory`` are
    merged, and so are licenses with the same ``name`` and ``url``. References to any of these are updated; see the
    documentation for the list. Fields of ``info``, and top-level fields that are not part of COCO, are kept if all
    documents agree on them. All other fields of images and annotations are unchanged.

    Each image gets ``work_item_id``, ``batch``, ``asset_url`` and ``asset_path``, if they are known. ``asset_path`` is
    the path of the local image relative to the folder of the output. It is also the new ``file_name``, so loaders find
    the image if that folder is their root; the old name is kept in ``original_file_name``. Without a local image,
    ``file_name`` is unchanged, unless it is already taken or points outside the folder.

    Documents are read one at a time, so memory does not grow with their number. The output is deterministic and is
    written atomically: if anything fails, the previous file is unchanged.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        output: The file to write. It must not be a path that the source would read as labels.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`.
        images: "link" or "copy" puts the local images into the folder ``images`` next to the output, and the masks of
            panoptic annotations into ``masks``; ``file_name`` points there. "link" makes hard links, or copies where
            the file system has no hard links. Existing files are not overwritten.
        metadata: Names of work item metadata, or of fields of ``info``, to copy to the ``metadata`` of each image.
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: Called with a :class:`~cfplatform.coco.Finding` for each entry that is skipped. The summary also has
            the first ones.

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
    opened = open_source(source, images_from)
    path = _output_path(output)
    names = _names_of(metadata)
    refuse_own(opened, path)
    summary = MergeSummary(output=path)
    prepare_folder(path.parent)
    with dataset_file(path) as dataset:
        merger = Merger(path.parent, summary, on_error, lambda document, image: dataset, images, names)
        merger.add_all(opened, progress)
        merger.write([dataset])
    summary.images, summary.annotations = dataset.images.count, dataset.annotations.count
    summary.size = path.stat().st_size
    return summary


def _names_of(metadata: object) -> tuple[str, ...]:
    is_list = isinstance(metadata, Iterable) and not isinstance(metadata, str)
    names = tuple(cast("Iterable[Any]", metadata)) if is_list else ()
    if not is_list or not all(isinstance(name, str) and name for name in names):
        raise InvalidParameterError(
            f"metadata must be a list of names such as ['externalId'], not {metadata!r}.", parameter="metadata"
        )
    return names


def _output_path(value: object) -> Path:
    """Return the absolute path of the output, with links in its folder resolved."""
    path = folder_path(value, "output")
    if path.is_dir() or not path.name:
        raise InvalidParameterError(
            f"output must be the path of a file, such as 'dataset.json', not {str(path)!r}.", parameter="output"
        )
    return path.parent.resolve() / path.name


def refuse_own(opened: Opened, path: Path) -> None:
    """Refuse an output that the source would read as labels in the next run."""
    if opened.reads(path):
        raise InvalidParameterError(
            f"output {str(path)!r} would be read as labels of the source in the next run. "
            "Write it elsewhere, for example next to the folder of the source.",
            parameter="output",
        )


class Merger:
    """Merges documents into one or several datasets of one folder, which share categories and licenses."""

    def __init__(
        self,
        folder: Path,
        summary: Summary,
        on_error: OnError | None,
        choose: Choose,
        images: str | None = None,
        metadata: tuple[str, ...] = (),
    ) -> None:
        self._began = time.monotonic()
        self._folder = str(folder)
        self._summary = summary
        self._on_error = on_error
        self._choose = choose
        self._log = FindingLog(self.report)
        self._categories, self._licenses = Categories(self._log), Licenses(self._log)
        self._scenes = SceneCategories(self._log)
        self._info, self._others = Agreement(), Agreement()
        self._placed = None if images is None else ImageFolder(folder, images)
        #: The metadata to copy to images, and those that no item has had so far.
        self._metadata, self._unknown = metadata, dict.fromkeys(metadata)
        #: The names of further lists, and the last number of each section that is numbered across datasets.
        self._lists: dict[str, None] = {}
        self._counts: dict[str, int] = {}
        #: Whether an ID changed, so a shared field may refer to a wrong one.
        self._is_renumbered = False

    def report(self, finding: Finding) -> None:
        """Report an error or a warning."""
        self._summary.add(finding)
        if self._on_error is not None and finding.severity == ERROR:
            self._on_error(finding)

    def add_all(self, opened: Opened, progress: Progress) -> None:
        """Add all documents of a source."""
        bar = reporter(progress)
        self._categories.reserve(opened.order)

        def unreadable(finding: Finding) -> None:
            self.report(finding)
            bar.advance("failed", 0)

        bar.start(opened.total)
        try:
            with closing(opened.documents(unreadable, streamed=True)) as documents:
                for document in documents:
                    size = self._add(document)
                    self._summary.documents += size is not None
                    bar.advance("failed" if size is None else "read", size or 0)
        finally:
            bar.finish()

    def write(self, datasets: Iterable[DatasetFile]) -> None:
        """Write datasets under their temporary names, and complete the summary."""
        others = self._others.members
        if self._is_renumbered:
            for name in [name for name, value in others.items() if may_refer(value)]:
                del others[name]
                message = f"The field {shown(name)} may refer to IDs that changed, so it is dropped."
                self.report(Finding("member-left-out", WARNING, message))
        for name in self._unknown:
            message = f"No work item has the metadata {shown(name)}."
            self.report(Finding("unknown-metadata", WARNING, message))
        head = {"info": self._info.members, **others}
        lists = {"licenses": self._licenses.entries, "categories": self._categories.entries}
        self._summary.licenses, self._summary.categories = map(len, lists.values())
        if self._scenes.entries:
            lists["scene_categories"] = self._scenes.entries
        for dataset in datasets:
            for name in self._lists:
                dataset.list_of(name)
            dataset.write(head, lists)
        self._summary.elapsed = time.monotonic() - self._began

    def _add(self, document: Document) -> int | None:
        """Add a document; return its size in the datasets in bytes, or ``None`` if it could not be added."""
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
        lists = self._compare(document)
        numbers = Numbers(document, self._log, self._counts, self._tables(document))
        size = self._add_images(document, images, numbers)
        annotations = document.data.get("annotations")
        if isinstance(annotations, (list, Entries)):
            rest, first = iter(annotations), 0
            while piece := [*islice(rest, _PIECE)]:
                size += self._add_annotations(document, piece, first, numbers)
                first += len(piece)
        elif annotations is not None:
            self._log.error(document, "wrong-type", "The annotations are not a list.", "/annotations")
        for name in lists:
            size += self._add_list(document, name, numbers)
        if self._others.members and not self._is_renumbered:
            self._is_renumbered = not numbers.are_same
        return size

    def _tables(self, document: Document) -> dict[str, dict[Any, int]]:
        """Return the numbers of the entries that all datasets share, by section."""
        tables = {"categories": self._categories.numbers(document)}
        if "scene_categories" in document.data:
            tables["scene_categories"] = self._scenes.numbers(document)
        return tables

    def _compare(self, document: Document) -> list[str]:
        """Keep the fields that are equal in all documents; return the names of the lists to merge."""
        self._info.add({name: value for name, value in _info(document).items() if name != "asset_url"})
        lists, others = [], {}
        for name, each in document.data.items():
            if name in _MERGED:
                continue
            if is_list_of_entries(name, each) and (name in self._lists or len(self._lists) < _LISTS):
                self._lists[name] = None
                lists.append(name)
            else:
                others[name] = each
        before = {**self._others.members} if self._lists else {}
        for name in self._others.add(others):
            if name in self._lists and not (before.get(name) or others.get(name)):
                # Earlier values were empty lists, which match any kind of list.
                continue
            message = f"The field {shown(name)} differs between documents, so it is dropped."
            self._log.warning(document, "member-left-out", name, message)
        return lists

    # --- Images ----------------------------------------------------------------------------------------------

    def _add_images(self, document: Document, images: list[Any], numbers: Numbers) -> int:
        """Add the images of a document; return their size in bytes."""
        licenses = self._licenses.numbers(document)
        chosen: _Chosen = {}
        for index, image in enumerate(images):
            pointer = f"/images/{index}"
            if not isinstance(image, dict):
                self._log.error(document, "wrong-type", "The image is not an object.", pointer)
                continue
            target = None
            if (dataset := self._choose(document, image)) is not None:
                entries = chosen.get(dataset)
                if entries is None:
                    entries = chosen[dataset] = {}
                    numbers.starts[dataset] = dataset.images.count, dataset.annotations.count
                entries[index] = made = {**image, "id": dataset.images.count + len(entries) + 1}
                self._set_origin(document, made, numbers, dataset)
                self._set_license(document, made, licenses, pointer)
                target = dataset, made
            self._set_target(document, image.get("id"), pointer, numbers.targets, target)
        for dataset, entries in chosen.items():
            self._follow(images, entries, numbers, dataset)
        return self._write_entries(document, "images", chosen, numbers, images)

    def _follow(
        self, images: list[Any], entries: dict[int, dict[str, Any]], numbers: Numbers, dataset: DatasetFile
    ) -> None:
        """Update the references of the images of a dataset, once all of them have IDs."""
        for index, made in entries.items():
            found = references(tuple(images[index]))
            if found.has_more or found.needed:
                known = (*found.needed, *found.others)
                made.update((name, images[index][name]) for name, _ in known)
                numbers.follow(made, found, known, dataset, f"/images/{index}")

    def _set_origin(self, document: Document, made: dict[str, Any], numbers: Numbers, dataset: DatasetFile) -> None:
        """Set the work item, batch, URL, local path and file names of an image."""
        item_id, batch, url = document.origin(made)
        local, original = document.image_path(made), made.get("file_name")
        if item_id is not None:
            made["work_item_id"] = item_id
        if batch is not None:
            made["batch"] = batch
        if url is not None:
            made["asset_url"] = url
        if self._metadata:
            self._copy_metadata(document, made)
        asset: str | Path | None = document.asset or local
        if document.asset is None and document.path is not None:
            # Paths in a dataset are relative to its folder.
            asset = beside(document.path, made.get("asset_path")) or local
        if isinstance(original, str):
            made.setdefault("original_file_name", original)
        if local is not None:
            numbers.files.add(local)
            made["file_name"] = self._path_of(local, "images")
            # Two images may share a file; no other image may have its name.
            dataset.names.take(made["file_name"])
        elif isinstance(original, str):
            name = sanitized(original)
            made["file_name"] = name if is_url(name) else dataset.names.unique(name, made["id"])
        if asset is not None:
            is_image = local is not None and os.path.normpath(asset) == os.path.normpath(local)
            made["asset_path"] = made["file_name"] if is_image else relative_path(asset, self._folder)

    def _copy_metadata(self, document: Document, made: dict[str, Any]) -> None:
        known = {**_info(document), **document.metadata_of(made)}
        copied = {name: known[name] for name in self._metadata if known.get(name) is not None}
        for name in copied:
            self._unknown.pop(name, None)
        own = made.get("metadata")
        if copied:
            made["metadata"] = {**own, **copied} if isinstance(own, dict) else copied

    def _path_of(self, local: Path, folder: str) -> str:
        """Return the path of a local file relative to the datasets, after it was put into ``folder`` if requested."""
        return relative_path(local, self._folder) if self._placed is None else self._placed.place(local, folder)

    def _set_license(self, document: Document, made: dict[str, Any], licenses: dict[Any, int], pointer: str) -> None:
        old = made.get("license")
        if old is None:
            return
        try:
            made["license"] = licenses[old]
        except (KeyError, TypeError):
            # The old ID may now be that of another license.
            del made["license"]
            message = f"There is no license {shown(old)}; the image is kept without a license."
            self._log.warning(document, "dangling-license-id", shown(old), message, f"{pointer}/license")

    def _set_target(self, document: Document, old: Any, pointer: str, targets: Targets, target: Target) -> None:
        if not is_id(old):
            self._log.error(document, "missing-id", "The ID of the image is not a number or a string.", pointer)
        elif targets.setdefault(old, target) is not target:
            message = f"The ID {shown(old)} is that of an earlier image, which gets the annotations."
            self._log.error(document, "duplicate-image-id", message, f"{pointer}/id")

    # --- Annotations -----------------------------------------------------------------------------------------

    def _add_annotations(self, document: Document, annotations: list[Any], first: int, numbers: Numbers) -> int:
        """Add annotations of a document, starting at position ``first``; return their size in bytes."""
        targets, categories = numbers.targets, numbers.tables["categories"]
        chosen: _Chosen = {}
        members: tuple[str, ...] = ()
        found, has_more, has_segments = references(members), False, False
        last: DatasetFile | None = None
        entries: dict[int, dict[str, Any]] = {}
        number = 0
        for index, annotation in enumerate(annotations, first):
            try:
                target = targets[annotation.get("image_id")]
                if target is None or target[1]["id"] is None:
                    continue
                dataset, image = target
                category = annotation.get("category_id")
                # Captions have no category, but pycocotools needs the field to load them with other annotations.
                if category is not None:
                    category = None if not categories and _is_caption(document, annotation) else categories[category]
                made = {**annotation, "id": None, "image_id": image["id"], "category_id": category}
            except (KeyError, TypeError, AttributeError):
                self._refuse(document, annotation, index, targets)
                continue
            # Most annotations have the same dataset and fields as the previous one.
            if dataset is not last:
                last, entries = dataset, chosen.setdefault(dataset, {})
                number = dataset.annotations.count + len(entries)
            made["id"] = number = number + 1
            if (own_members := tuple(made)) != members:
                members, found = own_members, references(own_members)
                has_more, has_segments = found.has_more, "segments_info" in made
            if has_more:
                own = annotation.get("id")
                numbers.follow(made, found, found.others, dataset, f"/annotations/{index}", own)
            if has_segments and isinstance(made.get("segments_info"), list):
                made["segments_info"] = self._segments(document, annotation, index, numbers, dataset)
                self._set_mask(document, made, numbers, dataset)
            entries[index] = made
        return self._write_entries(document, "annotations", chosen, numbers, annotations, first)

    def _segments(
        self, document: Document, annotation: dict[str, Any], index: int, numbers: Numbers, dataset: DatasetFile
    ) -> list[Any]:
        """Return the segments of a panoptic annotation; their IDs are colors of its PNG, so they are kept."""
        categories = numbers.tables["categories"]
        made = []
        for position, segment in enumerate(annotation["segments_info"]):
            pointer = f"/annotations/{index}/segments_info/{position}"
            try:
                old = segment.get("category_id")
                made.append(new := {**segment} if old is None else {**segment, "category_id": categories[old]})
                found = references(tuple(new))
                if found.has_more:
                    numbers.follow(new, found, found.others, dataset, pointer, annotation.get("id"))
            except (KeyError, TypeError, AttributeError):
                own = annotation.get("id")
                if not isinstance(segment, dict):
                    self._log.error(document, "wrong-type", "The segment is not an object.", pointer, own)
                else:
                    self._log.error(document, *dangling("category", segment, pointer, own))
        return made

    def _set_mask(self, document: Document, made: dict[str, Any], numbers: Numbers, dataset: DatasetFile) -> None:
        """Set the file name of a panoptic annotation: the PNG with its segments."""
        original, local = made.get("file_name"), document.mask_path(made)
        if not isinstance(original, str):
            return
        made.setdefault("original_file_name", original)
        # Names of masks do not collide with those of images: they have another root.
        if local is not None and local not in numbers.files:
            made["file_name"] = self._path_of(local, "masks")
            dataset.names.take(f"\0mask\0{made['file_name']}")
        else:
            made["file_name"] = dataset.names.unique(sanitized(original), made["image_id"], "\0mask\0")

    def _refuse(self, document: Document, annotation: Any, index: int, targets: Targets) -> None:
        pointer = f"/annotations/{index}"
        if not isinstance(annotation, dict):
            self._log.error(document, "wrong-type", "The annotation is not an object.", pointer)
            return
        image = annotation.get("image_id")
        kind = "category" if is_id(image) and image in targets else "image"
        self._log.error(document, *dangling(kind, annotation, pointer, annotation.get("id")))

    # --- Both ------------------------------------------------------------------------------------------------

    def _write_entries(
        self,
        document: Document,
        section: str,
        chosen: _Chosen,
        numbers: Numbers,
        originals: list[Any],
        first: int = 0,
    ) -> int:
        """Write the entries of a section into their datasets; return their size in bytes.

        Entries that cannot be written are reported and removed, and the entries after them get the freed IDs.
        """
        size = 0
        for dataset, entries in chosen.items():
            target = dataset.images if section == "images" else dataset.annotations
            try:
                text = encode([*entries.values()])[1:-1]
            except UnwritableError:
                self._drop_unwritable(document, section, entries, target.count + 1, originals, first)
                if section == "images":
                    self._follow(originals, entries, numbers, dataset)
                text = ",".join(map(encode, entries.values()))
            # Each document has one line, even if it is merged piece by piece.
            before = numbers.starts[dataset][section == "annotations"]
            target.add(text, len(entries), continues=target.count > before)
            size += len(text)
        return size

    def _drop_unwritable(
        self,
        document: Document,
        section: str,
        entries: dict[int, dict[str, Any]],
        number: int,
        originals: list[Any],
        first: int,
    ) -> None:
        for index, entry in list(entries.items()):
            entry["id"] = number
            try:
                encode(entry)
                number += 1
            except UnwritableError as error:
                del entries[index]
                entry["id"] = None
                message, pointer = f"The entry cannot be written as JSON: {error}.", f"/{section}/{index}"
                own = originals[index - first].get("id") if section == "annotations" else None
                self._log.error(document, error.code, message, pointer, own)

    # --- Further lists ---------------------------------------------------------------------------------------

    def _add_list(self, document: Document, name: str, numbers: Numbers) -> int:
        """Add a list whose entries have references; return its size in bytes."""
        size = 0
        for index, entry in enumerate(cast("dict[str, Any]", document.data)[name]):
            pointer = f"/{name}/{index}"
            if not isinstance(entry, dict):
                self._log.error(document, "wrong-type", "The entry is not an object.", pointer)
                continue
            found = references(tuple(entry))
            if any(numbers.is_gone(kind, entry[member]) for member, kind in found.needed):
                kind = "image" if numbers.is_gone("images", entry.get("image_id")) else "category"
                self._log.error(document, *dangling(kind, entry, pointer))
                continue
            homes, is_shared = numbers.homes(name, entry)
            for dataset in homes:
                made = {**entry}
                if key(entry.get("id")) is not None:
                    made["id"] = numbers.free(name, entry["id"])
                numbers.follow(made, found, (*found.needed, *found.others), dataset, pointer)
                try:
                    text = encode(made)
                except UnwritableError as error:
                    message = f"The entry cannot be written as JSON: {error}."
                    self._log.error(document, error.code, message, pointer)
                    break
                # If many documents describe the same categories, one entry is enough.
                if not is_shared or "id" in entry or dataset.names.take(f"\0{name}\0{text}"):
                    dataset.list_of(name).add(text, 1)
                    size += len(text)
        return size


def _is_caption(document: Document, annotation: dict[str, Any]) -> bool:
    """Return whether an annotation is a caption of a document without categories, whose category ID has no meaning."""
    return isinstance(annotation.get("caption"), str) and not document.data.get("categories")


def _info(document: Document) -> Mapping[str, Any]:
    info = document.data.get("info")
    return info if isinstance(info, dict) else {}
