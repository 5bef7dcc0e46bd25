"""Joins documents: ids are given anew, and what refers to them follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..exceptions import shown
from .findings import Finding
from .names import Local, beside, harmless
from .sources import Document
from .tables import Agreement, Categories, Conflicts, Licenses, Tell, is_id, unwritable
from .writing import DatasetFile, encode

#: Members that are joined; of all others those are kept on which the documents agree.
_JOINED = {"info", "images", "annotations", "categories", "licenses"}

#: Names the dataset that an image of a document belongs to; ``None`` leaves it out.
Choose = Callable[[Document, dict[str, Any]], DatasetFile | None]
#: Where an image has gone: its dataset and its id there; nowhere if it was left out.
_Place = tuple[DatasetFile, int] | None
_Places = dict[Any, _Place]


class Joiner:
    """Joins documents into one dataset or several, which have the same categories and licenses.

    Args:
        folder: The folder of the datasets.
        tell: Called with each finding.
        choose: Names the dataset of an image.
    """

    def __init__(self, folder: Path, tell: Tell, choose: Choose) -> None:
        self._tell, self._choose = tell, choose
        self._conflicts = Conflicts(tell)
        self.categories = Categories(tell, self._conflicts)
        self.licenses = Licenses(tell, self._conflicts)
        self._info = Agreement()
        self._others = Agreement()
        self._local = Local(folder)

    def head(self) -> dict[str, Any]:
        """Return the members on which all documents agree."""
        return {"info": self._info.members, **self._others.members}

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Return the lists that all datasets share."""
        return {"licenses": self.licenses.entries, "categories": self.categories.entries}

    def add(self, document: Document) -> int | None:
        """Add a document; return its bytes in the dataset, ``None`` if it could not be added at all."""
        if not isinstance(document.data, dict):
            self._tell(document.finding("wrong-type", "error", "The document is no object."))
            return None
        images = document.data.get("images")
        if not isinstance(images, list):
            if "images" in document.data:
                self._tell(document.finding("wrong-type", "error", "The images are no list.", "/images"))
            else:
                self._tell(document.finding("missing-section", "error", "The document has no images."))
            return None
        info = document.data.get("info")
        said = info if isinstance(info, dict) else {}
        url = said.get("asset_url")
        self._info.add({name: value for name, value in said.items() if name != "asset_url"})
        self._agree(document)
        places: _Places = {}
        size = self._add_images(document, images, url, places)
        annotations = document.data.get("annotations")
        if isinstance(annotations, list):
            return size + self._add_annotations(document, annotations, places)
        if annotations is not None:
            self._tell(document.finding("wrong-type", "error", "The annotations are no list.", "/annotations"))
        return size

    def _agree(self, document: Document) -> None:
        for name in self._others.add({name: each for name, each in document.data.items() if name not in _JOINED}):
            message = f"The member {shown(name)} is not the same in all documents, so it is left out."
            self._conflicts(document, "member-left-out", name, message)

    # --- Images ----------------------------------------------------------------------------------------------

    def _add_images(self, document: Document, images: list[Any], url: Any, places: _Places) -> int:
        licenses = self.licenses.numbers(document)
        alone = len(images) == 1
        chosen: dict[DatasetFile, list[int]] = {}
        for index, image in enumerate(images):
            if not isinstance(image, dict):
                self._tell(document.finding("wrong-type", "error", "The image is no object.", f"/images/{index}"))
            elif (dataset := self._choose(document, image)) is not None:
                chosen.setdefault(dataset, []).append(index)
            else:
                self._place(document, image.get("id"), f"/images/{index}", places, None)
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
                place = (dataset, numbers[index]) if index in numbers else None
                self._place(document, images[index].get("id"), f"/images/{index}", places, place)
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
                # Its number would be that of another license.
                del made["license"]
                message = f"There is no license {shown(old)}; the image is kept without."
                self._conflicts(document, "dangling-license-id", repr(old), message, f"{pointer}/license")
        return made

    def _locate(
        self, document: Document, entries: Sequence[dict[str, Any]], url: Any, dataset: DatasetFile, alone: bool
    ) -> None:
        """Say of each image where it is: on the platform, on this machine, and in the words of its document."""
        for made in entries:
            if url:
                made["asset_url"] = url
            original = made.get("file_name")
            picture: str | Path | None = document.asset
            asset = picture
            if asset is None and document.item_id is None and document.path is not None:
                # A dataset, whose paths are seen from its own folder.
                picture = beside(document.path, original)
                asset = beside(document.path, made.get("asset_path")) or picture
            if asset is not None:
                made["asset_path"] = self._local.path(asset)
            if isinstance(original, str):
                made.setdefault("original_file_name", original)
            if picture is not None and (alone or document.asset is None):
                made["file_name"] = self._local.path(picture)
                # Two images may be one file; no other may have its name.
                dataset.names.take(made["file_name"])
            elif isinstance(original, str):
                made["file_name"] = dataset.names.unique(harmless(original), made["id"])

    def _place(self, document: Document, old: Any, pointer: str, places: _Places, place: _Place) -> None:
        if not is_id(old):
            self._tell(document.finding("missing-id", "error", "The id of the image is no number or text.", pointer))
        elif places.setdefault(old, place) is not place:
            message = f"The id {shown(old)} is that of an earlier image, to which its annotations go."
            self._tell(document.finding("duplicate-image-id", "error", message, f"{pointer}/id"))

    # --- Annotations -----------------------------------------------------------------------------------------

    def _add_annotations(self, document: Document, annotations: list[Any], places: _Places) -> int:
        categories = self.categories.numbers(document)
        chosen: dict[DatasetFile, tuple[list[dict[str, Any]], list[int]]] = {}
        for index, annotation in enumerate(annotations):
            try:
                place = places[annotation.get("image_id")]
                if place is None:
                    continue
                dataset, number = place
                category = annotation.get("category_id")
                # Captions have no category, and pycocotools loads them beside others only if they say so.
                category = None if category is None else categories[category]
                made = {**annotation, "id": None, "image_id": number, "category_id": category}
            except (KeyError, TypeError, AttributeError):
                self._refuse(document, annotation, index, places)
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
        """Return the segments of a panoptic annotation; their ids are colours of its picture, so they stay."""
        segments = annotation["segments_info"]
        if not isinstance(segments, list):
            return segments
        made = []
        for place, segment in enumerate(segments):
            try:
                old = segment.get("category_id")
                made.append(segment if old is None else {**segment, "category_id": categories[old]})
            except (KeyError, TypeError, AttributeError):
                pointer = f"/annotations/{index}/segments_info/{place}"
                if not isinstance(segment, dict):
                    finding = document.finding("wrong-type", "error", "The segment is no object.", pointer)
                else:
                    finding = _dangling(document, "category", segment, pointer, annotation.get("id"))
                self._tell(finding)
        return made

    def _refuse(self, document: Document, annotation: Any, index: int, places: _Places) -> None:
        pointer = f"/annotations/{index}"
        if not isinstance(annotation, dict):
            self._tell(document.finding("wrong-type", "error", "The annotation is no object.", pointer))
            return
        image = annotation.get("image_id")
        kind = "category" if is_id(image) and image in places else "image"
        self._tell(_dangling(document, kind, annotation, pointer, annotation.get("id")))

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
                about = _told(old) if section == "annotations" else None
                self._tell(document.finding(unwritable(error), "error", message, f"/{section}/{index}", about))
            else:
                written.append(index)
        return ",".join(texts), written


def _dangling(document: Document, kind: str, owner: dict[str, Any], pointer: str, annotation_id: Any) -> Finding:
    name = f"{kind}_id"
    if name in owner:
        message, pointer = f"There is no {kind} {shown(owner[name])}.", f"{pointer}/{name}"
    else:
        message = f"There is no {name}."
    return document.finding(f"dangling-{kind}-id", "error", message, pointer, _told(annotation_id))


def _told(old: Any) -> Any:
    """Return the id of an annotation if it can stand in a finding."""
    return old if isinstance(old, (int, str)) else None
