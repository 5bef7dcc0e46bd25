"""Selects classes, batches and annotations of a source, and renames classes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unicodedata import normalize

from ..exceptions import InvalidParameterError
from .documents import Document, OnError, PathLike, Source, Stream, open_source
from .entries import Entries
from .findings import shown
from .references import CATEGORY_REFERENCES, is_list_of_entries, references
from .statistics import kinds as kinds_of
from .tables import Categories
from .values import Key, are_numbers, each_record, is_crowd, key, number, records

#: Returns whether to keep an annotation, given its image and its document.
Where = Callable[[dict[str, Any], dict[str, Any], Document], object]
#: Possible results of :func:`~cfplatform.coco.statistics.kinds`.
KINDS = ("polygon", "rle", "box", "keypoints", "caption", "panoptic", "none")
#: Sections that are handled separately.
_OWN = ("info", "licenses", "categories", "images", "annotations")
#: The cached decision about an annotation of a large file.
_KEPT, _LEFT_OUT = 1, 2


@dataclass
class Removed:
    """The annotations and images that a selection dropped.

    Attributes:
        annotations: Number of annotations by reason: "batch", "class", "crowd", "kind", "side" or "where".
        images: Number of images by reason: "batch", or "empty" for those without annotations.
    """

    annotations: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)


class _Classes(NamedTuple):
    """The changes to the categories of a document."""

    entries: list[Any]
    #: The IDs of dropped categories, and the new ID of each category that is merged into an earlier one.
    gone: set[Key]
    joined: dict[Key, Any]


class Selection(Stream):
    """A filtered source; made by :func:`select`.

    Accepted by every function that takes a source, any number of times.

    Attributes:
        removed: The annotations and images dropped so far by the last run, as a :class:`Removed`.
    """

    def __init__(
        self,
        source: Source,
        only: Sequence[str] | None,
        drop: Collection[str],
        rename: Mapping[str, str],
        batches: Collection[str] | None,
        kinds: frozenset[str] | None,
        min_side: float | None,
        crowds: bool,
        empty_images: bool,
        where: Where | None,
        images_from: PathLike | None,
    ) -> None:
        self.source = open_source(source, images_from)
        super().__init__(())
        self.removed = Removed()
        self._only = None if only is None else {_same(name): number for number, name in enumerate(only)}
        self._drop = set(map(_same, drop))
        self._rename = {_same(name): new for name, new in rename.items()}
        self._new_names = set(map(_same, rename.values()))
        self._batches, self._crowds, self._empty_images, self._where = batches, crowds, empty_images, where
        #: The reasons to drop an annotation regardless of its image and class, except for ``where``.
        self._tests: list[tuple[str, Callable[[dict[str, Any]], bool]]] = []
        if not crowds:
            self._tests.append(("crowd", is_crowd))
        if kinds is not None:
            self._tests.append(("kind", lambda annotation: kinds.isdisjoint(kinds_of(annotation))))
        if min_side is not None:
            self._tests.append(("side", lambda annotation: _is_below(annotation.get("bbox"), min_side)))
        self._asked = {
            "only": [*(only or ())],
            "drop": [*drop],
            "rename": [*rename],
            "batches": [*(batches or ())],
        }
        before = self.source.order if only is None else only
        names = [self._rename.get(_same(name), name) for name in before if _same(name) not in self._drop]
        self.order = tuple({_same(name): name for name in names}.values())
        # Documents that will be empty are not known before they are read.
        self.total = self.source.total if batches is None and empty_images else None
        self.is_read_once = getattr(self.source, "is_read_once", False)
        self._is_tested = bool(self._tests) or where is not None
        self._begin()

    def _begin(self) -> None:
        # Copies with other image folders share the counts.
        self.removed.annotations.clear()
        self.removed.images.clear()
        self._found: dict[str, dict[str, None]] = {"class": {}, "batch": {}}
        #: The fields of each new class by name, and the name of the first category it was made from.
        self._targets: dict[str, tuple[dict[str, Any], str]] = {}
        self._last: tuple[Any, _Classes] = None, _Classes([], set(), {})

    def reads(self, path: Any) -> bool:
        """Return whether the source would read a file at this path."""
        return self.source.reads(path)

    def documents(self, on_error: OnError | None, *, streamed: bool = False) -> Generator[Document]:
        """Yield the selected part of each document.

        Raises:
            InvalidParameterError: After the last document, if a given class or batch is not in the source; before, if
                classes with different meanings would be merged.
        """
        self._begin()
        for document in self.source.documents(on_error, streamed=streamed):
            selected = self._selected(self._placed(document))
            if selected is not None:
                yield selected
        for parameter, names in self._asked.items():
            self._check_found(parameter, names)

    def _check_found(self, parameter: str, names: Iterable[str]) -> None:
        kind = "batch" if parameter == "batches" else "class"
        known = self._found[kind]
        for name in names:
            own = name if kind == "batch" else _same(name)
            if own in known:
                continue
            near = difflib.get_close_matches(own, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else None
            if hint is None and known:
                hint = f"It has {', '.join(shown(each) for each in sorted(known)[:10])}."
            raise InvalidParameterError(
                f"{parameter} lists the {kind} {name!r}, which is not in the source.",
                parameter=parameter,
                hint=hint,
            )

    # --- Documents -------------------------------------------------------------------------------------------

    def _selected(self, document: Document) -> Document | None:
        data: Any = document.data
        if not isinstance(data, dict):
            return document
        classes = self._classes(data.get("categories"))
        images = data.get("images")
        if not isinstance(images, list):
            return document
        made = {**data}
        if isinstance(data.get("categories"), list):
            made["categories"] = classes.entries
        gone = self._other_batches(document, images)
        annotations = data.get("annotations")
        if isinstance(annotations, (list, Entries)):
            made["annotations"] = self._annotations(document, annotations, classes, gone)
        if not self._empty_images:
            self._add_empty(images, made, gone)
        if gone:
            made["images"] = [each for each in images if not isinstance(each, dict) or key(each.get("id")) not in gone]
            if not made["images"]:
                return None
        if gone or classes.gone or classes.joined:
            _follow_all(made, classes, gone)
        return document.with_data(made)

    def _other_batches(self, document: Document, images: list[Any]) -> set[Key | None]:
        """Return the IDs of images of other batches."""
        gone: set[Key | None] = set()
        if self._batches is None:
            return gone
        for image in images:
            if isinstance(image, dict):
                batch = document.origin(image).batch
                if batch is not None:
                    self._found["batch"][batch] = None
                if batch not in self._batches:
                    gone.add(key(image.get("id")))
                    self.removed.images["batch"] += 1
        return gone

    def _add_empty(self, images: list[Any], made: dict[str, Any], gone: set[Key | None]) -> None:
        """Add the IDs of images without annotations."""
        labelled = {key(each.get("image_id")) for each in each_record(made, "annotations")}
        own = [key(each.get("id")) for each in images if isinstance(each, dict)]
        empty = [each for each in own if each not in labelled and each not in gone]
        self.removed.images["empty"] += len(empty)
        gone.update(empty)

    # --- Classes ---------------------------------------------------------------------------------------------

    def _classes(self, categories: Any) -> _Classes:
        """Return the changes to the categories of a document."""
        if not isinstance(categories, list):
            return _Classes([], set(), {})
        last, found = self._last
        # Most documents have the same categories as the previous one.
        if categories == last:
            return found
        found = _Classes([], set(), {})
        # The position in ``only``, and the entry.
        kept: list[tuple[int, Any]] = []
        known: set[Key] = set()
        ids: dict[str, Any] = {}
        for entry in categories:
            own = key(entry.get("id")) if isinstance(entry, dict) else None
            if own is None or own in known:
                # Not a category; validation reports it.
                if own not in found.gone:
                    kept.append((-1, entry))
                continue
            known.add(own)
            name = _name(entry)
            if name is not None:
                self._found["class"][name] = None
            if name in self._drop or (self._only is not None and name not in self._only):
                found.gone.add(own)
                continue
            position = self._only[name] if self._only is not None and name is not None else 0
            new = _same(self._rename.get(name, name)) if name is not None else None
            if new is not None and new in self._new_names:
                if new in ids:
                    found.joined[own] = ids[new]
                    self._target(new, entry)
                    continue
                ids[new] = entry["id"]
                entry = {**entry, **self._target(new, entry), "id": entry["id"]}
            kept.append((position, entry))
        found.entries.extend(entry for _, entry in sorted(kept, key=lambda each: each[0]))
        # A copy, because a stream may modify and reuse one document.
        self._last = [{**each} if isinstance(each, dict) else each for each in categories], found
        return found

    def _target(self, new: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a renamed class: those of its first category."""
        if new not in self._targets:
            made = {"name": self._rename.get(_name(entry) or "", entry["name"])}
            if entry.get("supercategory") is not None:
                made["supercategory"] = entry["supercategory"]
            self._targets[new] = made, entry["name"]
        known, first = self._targets[new]
        for member, value in Categories.meaning(entry).items():
            if known.setdefault(member, value) != value:
                raise InvalidParameterError(
                    f"rename merges {shown(first)} and {shown(entry['name'])}, but they differ in {member!r}, "
                    "so their annotations mean different things.",
                    parameter="rename",
                    hint="Give them different names, or drop one of them.",
                )
        return known

    # --- Annotations -----------------------------------------------------------------------------------------

    def _annotations(
        self, document: Document, annotations: list[Any] | Entries, classes: _Classes, gone: set[Key | None]
    ) -> list[Any] | Entries:
        """Return the annotations to keep."""
        if not (gone or classes.gone or classes.joined or self._only is not None or self._is_tested):
            return annotations
        kept = self._keeper(document, classes, frozenset(gone))
        if isinstance(annotations, list):
            # Entries that are not annotations are kept, to be reported later.
            return [made for each in annotations if (made := kept(each)) is not None or each is None]
        # The decision for each annotation: the file is read several times, but each is counted once.
        known = bytearray()

        def pick(number: int, annotation: Any) -> Any:
            if number >= len(known):
                known.extend(bytes(number + 1 - len(known)))
            if known[number]:
                return self._changed(annotation, classes) if known[number] == _KEPT else None
            made = kept(annotation)
            known[number] = _LEFT_OUT if made is None else _KEPT
            return made

        return annotations.picked(pick)

    def _keeper(
        self, document: Document, classes: _Classes, others: Collection[Key | None]
    ) -> Callable[[Any], dict[str, Any] | None]:
        """Return a function that returns an annotation as kept, or counts it as dropped."""
        images = {} if self._where is None else _images(document)
        needs_class, has_classes = self._only is not None, bool(document.data.get("categories"))
        is_tested, is_changed = self._is_tested, bool(classes.gone or classes.joined or not self._crowds)

        def reason(annotation: dict[str, Any]) -> str | None:
            if others and key(annotation.get("image_id")) in others:
                return "batch"
            category = key(annotation.get("category_id"))
            if category in classes.gone:
                return "class"
            if needs_class and (category is None or not has_classes) and _has_no_class(annotation):
                return "class"
            return self._failed(annotation, images, document) if is_tested else None

        def kept(annotation: Any) -> Any:
            if not isinstance(annotation, dict):
                return annotation
            why, made = reason(annotation), annotation
            if why is None and is_changed:
                made = self._changed(annotation, classes)
                why = "class" if made is None else None
            if why is None:
                return made
            self.removed.annotations[why] += 1
            return None

        return kept

    def _failed(
        self, annotation: dict[str, Any], images: dict[Key | None, dict[str, Any]], document: Document
    ) -> str | None:
        """Return the reason to drop an annotation, regardless of its image and class."""
        for reason, leaves_out in self._tests:
            if leaves_out(annotation):
                return reason
        image = None if self._where is None else images.get(key(annotation.get("image_id")))
        return "where" if self._where and image is not None and not self._where(annotation, image, document) else None

    def _changed(self, annotation: Any, classes: _Classes) -> Any:
        """Return an annotation with only the kept segments, and with updated category IDs."""
        if not isinstance(annotation, dict):
            return annotation
        if "segments_info" in annotation:
            with_segments = self._with_segments(annotation, classes)
            if with_segments is None:
                return None
            annotation = with_segments
        if not classes.joined and CATEGORY_REFERENCES.isdisjoint(annotation):
            return annotation
        return _follow(annotation, classes, ())

    def _with_segments(self, annotation: dict[str, Any], classes: _Classes) -> dict[str, Any] | None:
        """Return a panoptic annotation with only the kept segments; ``None`` if there are none."""
        segments = annotation["segments_info"]
        if not isinstance(segments, list) or not segments:
            return annotation
        kept: list[Any] = []
        for segment in segments:
            if not isinstance(segment, dict):
                kept.append(segment)
            elif self._crowds or not is_crowd(segment):
                followed = _follow(segment, classes, set())
                if followed is not None:
                    kept.append(followed)
        return {**annotation, "segments_info": kept} if kept else None


def _images(document: Document) -> dict[Key | None, dict[str, Any]]:
    # If several images share an ID, the first has the annotations.
    return {key(each.get("id")): each for each in reversed(records(document.data, "images"))}


def _follow_all(made: dict[str, Any], classes: _Classes, gone: Collection[Key | None]) -> None:
    """Update the references of images and of lists of other tools."""
    for name, entries in made.items():
        if name == "images" or (name not in _OWN and is_list_of_entries(name, entries)):
            made[name] = [new for each in entries if (new := _follow(each, classes, gone)) is not None or each is None]


def _follow(entry: Any, classes: _Classes, gone: Collection[Key | None]) -> Any:
    """Return an entry without references to dropped entries; ``None`` if it needs them."""
    if not isinstance(entry, dict):
        return entry
    found = references(tuple(entry))
    made = entry
    lost: dict[str, Collection[Key | None]] = {"images": gone, "categories": classes.gone}
    for name, kind in (*found.needed, *found.others):
        if kind not in lost:
            continue
        value = entry[name]
        values = value if isinstance(value, list) else [value]
        kept = [each for each in values if key(each) not in lost[kind]]
        if kind == "categories" and classes.joined:
            kept = [classes.joined.get(key(each) or "", each) for each in kept]
        if kept == values:
            continue
        made = {**made}
        if isinstance(value, list):
            made[name] = [*dict.fromkeys(kept)] if all(key(each) is not None for each in kept) else kept
        elif kept:
            made[name] = kept[0]
        elif (name, kind) in found.needed:
            return None
        else:
            del made[name]
    return made


def _has_no_class(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation has no class; panoptic annotations have the classes of their segments."""
    if annotation.get("category_id") is None:
        return not isinstance(annotation.get("segments_info"), list)
    # In a document without categories, the category ID of a caption has no meaning.
    return isinstance(annotation.get("caption"), str)


def _is_below(bbox: Any, min_side: float) -> bool:
    return are_numbers(bbox) and len(bbox) == 4 and bool(bbox[2] < min_side or bbox[3] < min_side)


def _same(name: str) -> str:
    """Return a name in the form in which :class:`Categories` compares it."""
    return normalize("NFC", name)


def _name(entry: dict[str, Any]) -> str | None:
    name = entry.get("name")
    return _same(name) if isinstance(name, str) and name else None


def select(
    source: Source,
    *,
    only: Sequence[str] | None = None,
    drop: Collection[str] | None = None,
    rename: Mapping[str, str] | None = None,
    batches: Collection[str] | None = None,
    kinds: Collection[str] | None = None,
    min_side: float | None = None,
    crowds: bool = True,
    empty_images: bool = True,
    where: Where | None = None,
    images_from: PathLike | None = None,
) -> Selection:
    """Select classes, batches and annotations of a source, and rename classes.

    The result is a source for every function that takes one, and an iterable of documents. It is lazy: documents are
    read one at a time when it is used. Input files and documents are not changed. Classes are selected by their name in
    the source (Unicode form NFC), regardless of supercategory.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        only: The classes to keep, in the order that they will have in a merge. Drops annotations without a class.
        drop: Classes to drop.
        rename: New names by old name. Classes that get the same name, or the name of another class, are merged, with
            the supercategory of the first. Names are replaced once: ``{"a": "b", "b": "c"}`` does not turn "a" into
            "c".
        batches: The batches to keep: folders, or batch IDs as strings if the source is a stream.
        kinds: The kinds of annotations to keep: "polygon", "rle", "box", "keypoints", "caption", "panoptic" or "none",
            as counted by :func:`~cfplatform.coco.stats`.
        min_side: Drop annotations whose box is narrower or shorter than this, in pixels. Those without a box are kept.
        crowds: Whether to keep annotations and segments with ``iscrowd``.
        empty_images: Whether to keep images without annotations, which detectors use as negatives.
        where: Called with each remaining annotation, its image, and its :class:`Document`; returns whether to keep it.
            It must not modify them.
        images_from: The folder of the images; see :func:`~cfplatform.coco.read`.

    Raises:
        InvalidParameterError: At the call, if an argument is not valid. After the last document was read, and before
            any output is written, if a given class or batch is not in the source. While reading, if ``rename`` would
            merge classes whose keypoints, skeleton or ``isthing`` differ.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> selection = coco.select("labels", only=["ellipse"], rename={"ellipse": "round"})
        >>> list(coco.stats(selection).categories)
        ['round']
    """
    _check_names(only, "only")
    _check_names(drop, "drop")
    _check_names(batches, "batches")
    _check_names(kinds, "kinds")
    if rename is not None and not (
        isinstance(rename, Mapping) and all(isinstance(each, str) and each for pair in rename.items() for each in pair)
    ):
        raise InvalidParameterError(
            f"rename must be a dict such as {{'car': 'vehicle'}}, not {rename!r}.", parameter="rename"
        )
    if unknown := sorted({*(kinds or ())} - {*KINDS}):
        raise InvalidParameterError(
            f"kinds must be among {', '.join(map(repr, KINDS))}, not {unknown[0]!r}.", parameter="kinds"
        )
    if both := sorted({*map(_same, only or ())} & {*map(_same, drop or ())}):
        raise InvalidParameterError(
            f"only and drop both list the class {both[0]!r}. Leave it out of one of them.", parameter="drop"
        )
    if min_side is not None and ((side := number(min_side)) is None or side < 0):
        raise InvalidParameterError(
            f"min_side must be a non-negative number of pixels, not {min_side!r}.", parameter="min_side"
        )
    if where is not None and not callable(where):
        raise InvalidParameterError(f"where must be a function, not {where!r}.", parameter="where")
    return Selection(
        source,
        only,
        drop or (),
        rename or {},
        None if batches is None else frozenset(batches),
        None if kinds is None else frozenset(kinds),
        min_side,
        crowds,
        empty_images,
        where,
        images_from,
    )


def _check_names(names: Any, parameter: str) -> None:
    if names is None:
        return
    if isinstance(names, str) or not isinstance(names, Collection) or not all(isinstance(each, str) for each in names):
        raise InvalidParameterError(f"{parameter} must be a list of names, not {names!r}.", parameter=parameter)
    if not names and parameter != "drop":
        raise InvalidParameterError(f"{parameter} must not be empty.", parameter=parameter)
