"""The references between entries of a document, which merging updates when it changes IDs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .documents import Document
from .findings import shown
from .output import DatasetFile
from .tables import FindingLog, is_id
from .values import each_record, key, records

#: Fields that contain an ID or a list of IDs, and the section that they refer to.
_REFERENCES = {
    "image_id": "images",
    "image_ids": "images",
    "prev_image_id": "images",
    "next_image_id": "images",
    "category_id": "categories",
    "category_ids": "categories",
    "neg_category_ids": "categories",
    "not_exhaustive_category_ids": "categories",
    "background_ids": "scene_categories",
    "video_id": "videos",
    "video_ids": "videos",
    "track_id": "tracks",
    "track_ids": "tracks",
    "instance_id": "instances",
    "instance_ids": "instances",
}
#: Without its image or category an entry is refused; any other broken reference is removed.
_NEEDED = {"image_id", "category_id"}
#: Fields that refer to categories, besides the category of the entry itself.
CATEGORY_REFERENCES = {name for name, section in _REFERENCES.items() if section == "categories"} - _NEEDED
#: Sections that may be missing although there are IDs: the IDs only group entries.
FREE = {"videos", "tracks", "instances"}
#: Fields that are named like references but do not refer to anything in the document.
_OUTSIDE = {"work_item_id", "frame_id"}


class References(NamedTuple):
    """The references among the fields of an entry, each with the section that it refers to.

    Attributes:
        needed: ``image_id`` and ``category_id``.
        others: Other known references.
        unknown: Fields that are named like references.
        has_attributes: Whether there are ``attributes``, which may name tracks.
        has_more: Whether there are references besides ``needed``.
    """

    needed: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    has_attributes: bool
    has_more: bool


#: The dataset of an image and its entry there, without an ID if it could not be written; ``None`` if it was skipped.
Target = tuple[DatasetFile, dict[str, Any]] | None
Targets = dict[Any, Target]
#: The new value of a reference whose entry does not exist.
_GONE = object()
#: References in ``attributes``: only tracks are known, since annotators choose the other names.
_TRACKS = References((), (), (), has_attributes=False, has_more=False)


@functools.lru_cache(maxsize=256)
def references(members: tuple[str, ...]) -> References:
    """Return the references among the fields of an entry.

    Example:
        >>> references(("id", "image_id", "track_id", "parent_id"))[:3]
        ((('image_id', 'images'),), (('track_id', 'tracks'),), ('parent_id',))
    """
    known = [(name, _REFERENCES[name]) for name in members if name in _REFERENCES]
    others = tuple(each for each in known if each[0] not in _NEEDED)
    unknown = tuple(
        name
        for name in members
        if isinstance(name, str) and name.endswith(("_id", "_ids")) and name not in _REFERENCES and name not in _OUTSIDE
    )
    has_attributes = "attributes" in members
    needed = tuple(each for each in known if each[0] in _NEEDED)
    return References(needed, others, unknown, has_attributes, bool(others or unknown or has_attributes))


def is_list_of_entries(name: str, value: Any) -> bool:
    """Return whether a field of a document is a list of entries that have references or are referred to."""
    return (
        isinstance(name, str)
        and isinstance(value, list)
        and any(isinstance(each, dict) and (name in FREE or any(references(tuple(each))[:2])) for each in value)
    )


def may_refer(value: Any) -> bool:
    """Return whether any field inside a value is named like a reference."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if any(references(tuple(value))[:3]):
                return True
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return False


class Numbers:
    """The new IDs of one document, and the references to them."""

    def __init__(
        self, document: Document, log: FindingLog, counts: dict[str, int], tables: dict[str, dict[Any, int]]
    ) -> None:
        self._document = document
        self._log = log
        #: The last number of each free section, over all documents.
        self._counts = counts
        self._free: dict[str, dict[Any, int]] = {}
        self._has_new_free = False
        self._used_in: dict[tuple[str, Any], dict[DatasetFile, None]] = {}
        #: The numbers of entries that all datasets share.
        self.tables = tables
        #: The target of each image.
        self.targets: Targets = {}
        #: The local files of the images.
        self.files: set[Path] = set()
        #: The number of images and annotations in the datasets before this document.
        self.starts: dict[DatasetFile, tuple[int, int]] = {}
        for kind in FREE & document.data.keys():
            for each in records(document.data, kind):
                if key(each.get("id")) is not None:
                    self.free(kind, each["id"])

    def free(self, kind: str, old: Any) -> int:
        """Return the new number for an ID of a section that is numbered across documents."""
        known = self._free.setdefault(kind, {})
        if old not in known:
            known[old] = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._has_new_free = self._has_new_free or known[old] != old
        return known[old]

    def follow(
        self,
        made: dict[str, Any],
        found: References,
        known: Iterable[tuple[str, str]],
        dataset: DatasetFile,
        pointer: str,
        annotation_id: Any = None,
    ) -> None:
        """Update the references of an entry; remove those that would be wrong."""

        def warn(code: str, subject: str, message: str) -> None:
            self._log.warning(self._document, code, subject, message, f"{pointer}/{name}", annotation_id)

        for name, kind in known:
            old = made[name]
            new = (
                [self._new(kind, each, dataset) for each in old]
                if isinstance(old, list)
                else [self._new(kind, old, dataset)]
            )
            if _GONE in new:
                message = f"{shown(name)} refers to {kind} that do not exist here; the references are removed."
                warn("dangling-reference", name, message)
                new = [each for each in new if each is not _GONE]
            if isinstance(old, list):
                made[name] = new
            elif new:
                made[name] = new[0]
            else:
                del made[name]
        for name in found.unknown:
            if name in made and self._may_refer(made[name]) and not self.are_same:
                del made[name]
                message = f"The field {shown(name)} may refer to IDs that changed, so it is dropped."
                warn("member-left-out", f"{name} of entries", message)
        attributes = made.get("attributes") if found.has_attributes else None
        if isinstance(attributes, dict):
            inner = references(tuple(attributes))
            tracks = [(name, kind) for name, kind in inner.others if kind in FREE]
            if tracks:
                made["attributes"] = {**attributes}
                self.follow(made["attributes"], _TRACKS, tracks, dataset, f"{pointer}/attributes", annotation_id)

    def _new(self, kind: str, old: Any, dataset: DatasetFile) -> Any:
        """Return the new value of a reference in a dataset."""
        if kind in FREE:
            if key(old) is None or (_is_negative(old) and old not in self._free.get(kind, ())):
                return old
            self._used_in.setdefault((kind, old), {})[dataset] = None
            return self.free(kind, old)
        if old is None:
            return None
        if self.is_gone(kind, old):
            # Negative IDs mean "none".
            return old if _is_negative(old) else _GONE
        if kind != "images":
            return self.tables[kind][old]
        target = self.targets[old]
        return target[1]["id"] if target is not None and target[0] is dataset and target[1]["id"] else _GONE

    def is_gone(self, kind: str, old: Any) -> bool:
        """Return whether the entry of a reference is missing from the document."""
        known = self.targets if kind == "images" else self.tables.get(kind, {})
        return old is not None and (not is_id(old) or old not in known)

    def homes(self, name: str, entry: dict[str, Any]) -> tuple[Iterable[DatasetFile], bool]:
        """Return the datasets of a list entry, and whether these are all datasets of the document."""
        if "image_id" in entry and entry["image_id"] is not None:
            target = self.targets[entry["image_id"]]
            return ([target[0]] if target is not None and target[1]["id"] is not None else []), False
        for kind, own in ((name, entry.get("id")), ("videos", entry.get("video_id"))):
            if key(own) is not None and (used := self._used_in.get((kind, own))):
                return [*used], False
        return [*self.starts], True

    def _may_refer(self, value: Any) -> bool:
        """Return whether a value may be an ID of the document, or a list of IDs."""
        values = value if isinstance(value, list) else [value]
        return any(each in self._texts if isinstance(each, str) else key(each) is not None for each in values)

    @functools.cached_property
    def _texts(self) -> set[str]:
        """The IDs that are strings."""
        data = self._document.data
        ids = (each.get("id") for section in data for each in each_record(data, section))
        return {own for own in ids if isinstance(own, str)}

    @property
    def are_same(self) -> bool:
        """Whether all IDs are unchanged, as far as is known before the document is written."""
        return not self._has_new_free and self._are_entry_ids_same

    @functools.cached_property
    def _are_entry_ids_same(self) -> bool:
        if len(self.starts) != 1:
            return False
        ((_, annotations),) = self.starts.values()
        own = [each.get("id") for each in each_record(self._document.data, "annotations")]
        return (
            all(target is not None and old == target[1]["id"] for old, target in self.targets.items())
            and own == [*range(annotations + 1, annotations + len(own) + 1)]
            and all(old == new for each in self.tables.values() for old, new in each.items())
        )


def _is_negative(value: Any) -> bool:
    return isinstance(value, (int, float)) and value < 0
