"""Validates labels document by document."""

from __future__ import annotations

import functools
import mimetypes
import ntpath
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..progress import Progress, reporter
from .documents import Document, PathLike, Source, finding_about, open_source, reported
from .findings import Finding, FirstProblems, Problem, dangling, shown
from .shapes import Size, shape_problems
from .values import Key, are_numbers, box, key, number, plain, plain_object, size_of, spelling

if TYPE_CHECKING:
    from ..types import CocoDocument


class _Section(NamedTuple):
    """How to validate the entries of a section."""

    #: The code for a duplicate ID.
    duplicate: str
    #: Fields with their own checks for values that JSON lacks; for an object, those of its fields that have such
    #: checks.
    checked: dict[str, dict[str, Any]]


#: The sections, in the order in which they are validated.
_SECTIONS = {
    "licenses": _Section("duplicate-license-id", {"id": {}}),
    "images": _Section("duplicate-image-id", {"id": {}, "file_name": {}, "width": {}, "height": {}}),
    "categories": _Section("duplicate-category-id", {"id": {}, "name": {}}),
    "annotations": _Section(
        "duplicate-annotation-id",
        {
            **dict.fromkeys(("id", "image_id", "category_id", "bbox", "keypoints", "area"), {}),
            "segmentation": {"size": {}, "counts": {}},
        },
    ),
}


class _Seen(NamedTuple):
    """The entries of a document so far that annotations may refer to."""

    #: The size of each image by ID; ``None`` if unknown.
    images: dict[Key, Size | None]
    #: The number of keypoints of each category; ``None`` if it has none.
    categories: dict[Key, int | None]
    #: The image, category and box of each annotation.
    boxes: set[tuple[Key, Key | None, Any]]
    #: The names of categories, and the first name of each spelling.
    names: set[str]
    spellings: dict[str, str]
    #: IDs of images and categories by their text; filled on demand.
    texts: dict[str, dict[str, Key]]


def validate(source: Source, *, images_from: PathLike | None = None, progress: Progress = None) -> Generator[Finding]:
    """Validate labels, and yield the errors and warnings.

    Documents are read one at a time, and findings are in their order. A document without findings loads in common tools
    with all its boxes and masks. The documentation lists all codes.

    The sizes of local images are compared with the document; only headers are read. This needs Pillow, and is skipped
    without it.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`. An unreadable file is a finding,
            too.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`; if given, missing images are
            findings.
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.

    Raises:
        InvalidParameterError: When called, if the source is not valid, or the folder has no labels.

    Example:
        >>> document = {
        ...     "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        ...     "annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5], "area": 25}],
        ...     "categories": [{"id": 1, "name": "car"}],
        ... }
        >>> [(finding.code, finding.pointer) for finding in validate([document])]
        [('dangling-category-id', '/annotations/0/category_id')]
    """
    missed: deque[Finding] = deque()
    return _findings(reported(open_source(source, images_from), reporter(progress), missed.append), missed)


def _findings(documents: Generator[Document], missed: deque[Finding]) -> Generator[Finding]:
    for document in documents:
        while missed:
            yield missed.popleft()
        yield from check(document)
    yield from missed


def check(document: Document) -> Iterator[Finding]:
    """Validate one document; never raises, whatever it contains.

    NumPy values and tuples are treated as lists and numbers, bytes as strings.

    Example:
        >>> [finding.code for finding in check(Document({"images": []}))]
        ['missing-section']
    """
    return (finding_about(document, problem) for problem in _problems(document))


def _problems(document: Document) -> Iterator[Problem]:
    whole = plain(document.data, None, 1)
    if not isinstance(whole, dict):
        yield Problem("wrong-type", f"The document is {shown(whole)}, not an object.")
        return
    # plain() reads no deeper: the entries are unchanged.
    data: dict[str, Any] = whole
    if not isinstance(data.get("info", {}), dict):
        yield Problem("wrong-type", f"The info is {shown(data['info'])}, not an object.", "/info")
    seen = _Seen({}, {}, set(), set(), {}, {})
    files = _Files(document if data is document.data else replace(document, data=cast("CocoDocument", data)))
    for section in _SECTIONS:
        if section in data or _needs(section, data):
            yield from _section_problems(section, data, seen, files)


def _section_problems(section: str, data: dict[str, Any], seen: _Seen, files: _Files) -> Iterator[Problem]:
    entries = yield from _listed(data, section)
    duplicate, checked = _SECTIONS[section]
    ids = _Ids(section, duplicate)
    for index, raw in enumerate(entries):
        if not issubclass(type(raw), dict):
            continue
        pointer = f"/{section}/{index}"
        troubles: dict[str, str] = {}
        entry = plain_object(raw if type(raw) is dict else dict(dict.items(raw)), troubles, checked=checked)
        if odd := ids.problem(entry, pointer):
            yield odd
        if section == "annotations":
            for code, message, below, _ in _annotation_problems(entry, data, seen):
                yield Problem(code, message, pointer + below, entry.get("id"))
        elif section == "images":
            yield from _image_problems(entry, pointer, seen, files)
        elif section == "categories":
            yield from _category_problems(entry, pointer, seen)
        for code, what in troubles.items():
            yield Problem(code, f"The entry cannot be written as JSON: a value is {what}.", pointer)
    if section == "images":
        yield from files.missing()


def _needs(section: str, data: dict[str, Any]) -> bool:
    """Return whether a required section is missing."""
    return section in ("images", "annotations") or (
        section == "categories" and _uses_categories(data.get("annotations"))
    )


def _listed(data: dict[str, Any], section: str) -> Generator[Problem, None, list[Any]]:
    """Yield the problems of a section itself, and return its entries."""
    if section not in data:
        yield Problem("missing-section", f"The document has no {section}.")
        return []
    found = data[section]
    if not isinstance(found, list):
        yield Problem("wrong-type", f"The {section} are {shown(found)}, not a list.", f"/{section}")
        return []
    if not set(map(type, found)) <= {dict}:
        yield from FirstProblems(
            Problem("wrong-type", f"The entry is {shown(plain(each, None, 0))}, not an object.", f"/{section}/{index}")
            for index, each in enumerate(found)
            if not issubclass(type(each), dict)
        )
    return found


def _uses_categories(annotations: Any) -> bool:
    """Return whether any annotation or segment has a category."""
    for raw in annotations if isinstance(annotations, list) else []:
        annotation = plain(raw, {})
        segments = annotation.get("segments_info") if isinstance(annotation, dict) else None
        inner = segments if isinstance(segments, list) else []
        if any(isinstance(each, dict) and "category_id" in each for each in (annotation, *inner)):
            return True
    return False


class _Ids:
    """The IDs of the entries of a section so far."""

    def __init__(self, section: str, duplicate: str) -> None:
        self._section, self._duplicate = section, duplicate
        self._known: set[Key] = set()
        self._odd_reported = False

    def problem(self, entry: dict[str, Any], pointer: str) -> Problem | None:
        """Return the problem of the ID of an entry, if any."""
        value = entry.get("id")
        about = value if self._section == "annotations" else None
        found = key(value)
        if found is None:
            # Panoptic annotations have no ID.
            if "segments_info" in entry:
                return None
            message = f"The ID is {shown(value)}." if "id" in entry else "The ID is missing."
            return Problem("missing-id", message, pointer, about)
        if found in self._known:
            message = f"The ID {shown(value)} is that of an earlier entry."
            return Problem(self._duplicate, message, f"{pointer}/id", about)
        self._known.add(found)
        if self._odd_reported or not (isinstance(value, str) or (isinstance(value, float) and not value.is_integer())):
            return None
        self._odd_reported = True
        return Problem("odd-id", f"The ID is {shown(value)}, not an integer.", f"{pointer}/id", about)


class _Files:
    """The names and local files of the images of a document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names: set[str] = set()
        self._missing: list[tuple[str, str]] = []
        self._some_found = document.images_from is not None

    def problems(self, image: dict[str, Any], pointer: str) -> Iterator[Problem]:
        """Yield the problems of the ``file_name`` and the file."""
        name, pointer_to_name = image["file_name"], f"{pointer}/file_name"
        path = name.replace("\\", "/")
        if "\\" in name or path.startswith("/") or ntpath.splitdrive(path)[0] or ".." in path.split("/"):
            message = f"The file_name {shown(name)} must be a relative path with slashes inside the image folder."
            yield Problem("odd-file-name", message, pointer_to_name)
        if name in self._names:
            message = f"The file_name {shown(name)} is that of an earlier image."
            yield Problem("duplicate-file-name", message, pointer_to_name)
        self._names.add(name)
        file = self._document.image_path(image)
        if file is None:
            self._missing.append((pointer_to_name, name))
            return
        self._some_found = True
        size, read = size_of(image), _size_reader()
        sizes = None if read is None else read(file)
        # Files without an image extension may be videos.
        if read is not None and sizes is None and (mimetypes.guess_type(file.name)[0] or "").startswith("image/"):
            yield Problem("bad-image", f"The file {shown(file.name)} cannot be opened as an image.", pointer_to_name)
        # Either as stored or with the EXIF orientation applied.
        if sizes and size and size not in sizes:
            ours, theirs = (f"{width} x {height}" for width, height in (size, sizes[1]))
            message = f"The image file is {theirs}, not {ours}; annotations are scaled to it."
            yield Problem("size-mismatch", message, pointer)

    def missing(self) -> Iterator[Problem]:
        """Yield the problem of each image without a file, if others have one or the folder was given."""
        if self._some_found:
            for pointer, name in self._missing:
                yield Problem("missing-image", f"The file {shown(name)} does not exist.", pointer)


@functools.cache
def _size_reader() -> Callable[[Path], tuple[tuple[int, int], tuple[int, int]] | None] | None:
    try:
        from .images import stored_size
    except ImportError:
        # Without Pillow, sizes are not compared.
        return None
    return stored_size


def _image_problems(image: dict[str, Any], pointer: str, seen: _Seen, files: _Files) -> Iterator[Problem]:
    sides = []
    for name in ("width", "height"):
        side = number(image.get(name))
        if name not in image:
            yield Problem("missing-size", f"The image has no {name}.", pointer)
        elif side is None or side <= 0 or side % 1:
            message = f"The {name} is {shown(image[name])}, not a positive integer."
            yield Problem("bad-size", message, f"{pointer}/{name}")
        else:
            sides.append(side)
            if isinstance(side, float):
                # NumPy cannot allocate an array of such a size.
                yield Problem("bad-size", f"The {name} is {side!r}; tools need an integer.", f"{pointer}/{name}")
    if "file_name" not in image:
        yield Problem("missing-file-name", "The image has no file_name.", pointer)
    elif not isinstance(image["file_name"], str) or not image["file_name"]:
        yield Problem("missing-file-name", f"The file_name is {shown(image['file_name'])}.", f"{pointer}/file_name")
    else:
        yield from files.problems(image, pointer)
    found = key(image.get("id"))
    if found is not None:
        seen.images.setdefault(found, (sides[0], sides[1]) if len(sides) == 2 else None)


def _category_problems(category: dict[str, Any], pointer: str, seen: _Seen) -> Iterator[Problem]:
    name = category.get("name")
    if "name" not in category:
        yield Problem("missing-category-name", "The category has no name.", pointer)
    elif not isinstance(name, str) or not name:
        yield Problem("missing-category-name", f"The name is {shown(name)}.", f"{pointer}/name")
    else:
        similar = seen.spellings.setdefault(spelling(name), name)
        if name in seen.names:
            message = f"The name {shown(name)} is that of an earlier category."
            yield Problem("duplicate-category-name", message, f"{pointer}/name")
        elif similar != name:
            message = f"The name {shown(name)} differs from {shown(similar)} only by case, spaces or Unicode form."
            yield Problem("category-spelling", message, f"{pointer}/name")
        seen.names.add(name)
    keypoints, count = category.get("keypoints"), None
    if isinstance(keypoints, list) and set(map(type, keypoints)) <= {str}:
        count = len(keypoints)
    elif "keypoints" in category:
        message = f"The keypoints are {shown(keypoints)}, not a list of names."
        yield Problem("bad-keypoint-names", message, f"{pointer}/keypoints")
    if "skeleton" in category:
        yield from _skeleton_problems(category["skeleton"], count, f"{pointer}/skeleton")
    found = key(category.get("id"))
    if found is not None:
        seen.categories.setdefault(found, count)


def _skeleton_problems(skeleton: Any, count: int | None, pointer: str) -> Iterator[Problem]:
    """Yield the first problem of a skeleton; ``count`` is the number of keypoints, ``None`` if unknown."""
    if not isinstance(skeleton, list):
        yield Problem("bad-skeleton", f"The skeleton is {shown(skeleton)}, not a list of pairs.", pointer)
        return
    for index, pair in enumerate(skeleton):
        if not are_numbers(pair) or len(pair) != 2:
            message = "The edge is not a pair of keypoint numbers."
        elif any(each < 1 or each % 1 for each in pair):
            message = f"The edge goes from {shown(pair[0])} to {shown(pair[1])}; keypoints are counted from 1."
        elif count is not None and max(pair) > count:
            message = f"The edge goes from {shown(pair[0])} to {shown(pair[1])}, but there are {count} keypoints."
        else:
            continue
        yield Problem("bad-skeleton", message, f"{pointer}/{index}")
        return


def _similar(kind: str, owner: dict[str, Any], known: dict[Key, Any], seen: _Seen) -> Key | None:
    """Return a known ID that differs from the one of an entry only in type (string or number)."""
    value = key(owner.get(f"{kind}_id"))
    if value is None:
        return None
    if kind not in seen.texts:
        seen.texts[kind] = {_as_text(each): each for each in known}
    found = seen.texts[kind].get(_as_text(value))
    return None if isinstance(found, str) == isinstance(value, str) else found


def _as_text(value: Key) -> str:
    if isinstance(value, str):
        return value.strip().lstrip("0") or "0"
    return f"{value:.0f}" if value == value // 1 else str(value)


def _annotation_problems(annotation: dict[str, Any], data: dict[str, Any], seen: _Seen) -> Iterator[Problem]:
    """Yield the problems of an annotation; pointers are relative to it."""
    image, category = key(annotation.get("image_id")), key(annotation.get("category_id"))
    has_categories = type(data.get("categories")) is list
    if image not in seen.images and type(data.get("images")) is list:
        yield dangling("image", annotation, similar=_similar("image", annotation, seen.images, seen))
    # If there are categories, tools look up the category of every annotation, including captions.
    # Merging sets a missing category to null.
    is_panoptic = "segments_info" in annotation and annotation.get("category_id") is None
    needs_category = has_categories and not is_panoptic
    if needs_category and category not in seen.categories:
        yield dangling("category", annotation, similar=_similar("category", annotation, seen.categories, seen))
    yield from _plain_problems(annotation)
    found = box(annotation.get("bbox"))
    if found and image is not None:
        same = image, category, found
        if same in seen.boxes:
            yield Problem("duplicate-annotation", "An earlier annotation has the same image, category and box.")
        seen.boxes.add(same)
    size = None if image is None else seen.images.get(image)
    named = None if category is None else seen.categories.get(category)
    yield from shape_problems(annotation, found, size, named)
    if "segments_info" in annotation and has_categories and isinstance(annotation["segments_info"], list):
        yield from FirstProblems(_segment_problems(annotation["segments_info"], seen))


def _plain_problems(annotation: dict[str, Any]) -> Iterator[Problem]:
    get = annotation.get
    if not (get("bbox") or get("segmentation") or get("keypoints") or get("caption") or get("segments_info")):
        yield Problem("no-shape", "The annotation has no box, segmentation, keypoints or caption.")
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, (int, float)) or crowd not in (0, 1):
        yield Problem("bad-crowd", f"iscrowd is {shown(crowd)}, neither 0 nor 1.", "/iscrowd")
    caption = annotation.get("caption", "-")
    if not isinstance(caption, str) or not caption.strip():
        yield Problem("bad-caption", f"The caption is {shown(caption)}.", "/caption")
    segments = annotation.get("segments_info", [])
    if not isinstance(segments, list):
        yield Problem("wrong-type", f"The segments are {shown(segments)}, not a list.", "/segments_info")


def _segment_problems(segments: list[Any], seen: _Seen) -> Iterator[Problem]:
    for index, segment in enumerate(segments):
        pointer = f"/segments_info/{index}"
        if not isinstance(segment, dict):
            yield Problem("wrong-type", f"The segment is {shown(segment)}, not an object.", pointer)
        elif key(segment.get("category_id")) not in seen.categories:
            yield dangling("category", segment, pointer, similar=_similar("category", segment, seen.categories, seen))
