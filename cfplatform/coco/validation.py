"""Validates labels document by document, whatever these contain."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from ..progress import Progress, reporter
from .documents import Document, Source, finding_about, open_source, reported
from .findings import Finding, Problem, dangling, shown
from .shapes import Size, shape_problems
from .values import Key, box, key, number

#: Members that make an annotation useful.
_SHAPES = ("bbox", "segmentation", "keypoints", "caption", "segments_info")
#: The code for a duplicate ID, by section.
_ID_CODES = {
    "images": "duplicate-image-id",
    "categories": "duplicate-category-id",
    "annotations": "duplicate-annotation-id",
}


class _Seen(NamedTuple):
    """The entries of a document so far, to which annotations refer."""

    #: The size of each image by its ID, ``None`` if it is unknown.
    images: dict[Key, Size | None]
    #: How many keypoints each category names, ``None`` if it names none.
    categories: dict[Key, int | None]
    #: Image, category and box of each annotation.
    boxes: set[tuple[Key, Key | None, Any]]


def validate(source: Source, *, progress: Progress = None) -> Generator[Finding]:
    """Validate labels, and yield what is wrong and where.

    Documents are read one at a time, and their findings come in order. A document without findings loads into the usual
    tools. The documentation has a table of all codes.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`. An unreadable file is
            a finding too.
        progress: ``True`` for a tqdm bar, a function of (done, total), or a reporter.

    Raises:
        InvalidParameterError: At the call, if the source is not valid, or the folder has no labels.

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
    return _findings(reported(open_source(source), reporter(progress), missed.append), missed)


def _findings(documents: Generator[Document], missed: deque[Finding]) -> Generator[Finding]:
    for document in documents:
        while missed:
            yield missed.popleft()
        yield from check(document)
    yield from missed


def check(document: Document) -> Iterator[Finding]:
    """Validate one document; never raises, whatever it contains.

    Example:
        >>> [finding.code for finding in check(Document({"images": []}))]
        ['missing-section']
    """
    return (finding_about(document, problem) for problem in _problems(document.data))


def _problems(data: Any) -> Iterator[Problem]:
    if not isinstance(data, dict):
        yield Problem("wrong-type", f"The document is {shown(data)}, not an object.")
        return
    for section in _ID_CODES:
        yield from _section_problems(data, section)
        yield from _id_problems(data, section)
    seen = _Seen({}, {}, set())
    for index, image in _entries(data, "images"):
        yield from _image_problems(image, f"/images/{index}", seen)
    yield from _category_problems(data, seen)
    for index, annotation in _entries(data, "annotations"):
        pointer, annotation_id = f"/annotations/{index}", annotation.get("id")
        for problem in _annotation_problems(annotation, data, seen):
            yield problem._replace(pointer=pointer + problem.pointer, annotation_id=annotation_id)


def _entries(data: dict[str, Any], section: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a section with their positions."""
    found = data.get(section)
    if isinstance(found, list):
        yield from ((index, each) for index, each in enumerate(found) if isinstance(each, dict))


def _section_problems(data: dict[str, Any], section: str) -> Iterator[Problem]:
    if section not in data:
        if section != "categories" or any("category_id" in each for _, each in _entries(data, "annotations")):
            yield Problem("missing-section", f"The document has no {section}.")
        return
    found = data[section]
    if not isinstance(found, list):
        yield Problem("wrong-type", f"The {section} are {shown(found)}, not a list.", f"/{section}")
        return
    for index, each in enumerate(found):
        if not isinstance(each, dict):
            yield Problem("wrong-type", f"The entry is {shown(each)}, not an object.", f"/{section}/{index}")


def _id_problems(data: dict[str, Any], section: str) -> Iterator[Problem]:
    ids: set[Key] = set()
    odd_reported = False
    for index, entry in _entries(data, section):
        pointer, value = f"/{section}/{index}", entry.get("id")
        about = value if section == "annotations" else None
        found = key(value)
        if found is None:
            # Panoptic annotations have none.
            if "segments_info" not in entry:
                message = f"The id is {shown(value)}." if "id" in entry else "There is no id."
                yield Problem("missing-id", message, pointer, about)
            continue
        if found in ids:
            message = f"The id {shown(value)} is that of an earlier entry."
            yield Problem(_ID_CODES[section], message, f"{pointer}/id", about)
        elif not odd_reported and (isinstance(value, str) or (isinstance(value, float) and not value.is_integer())):
            odd_reported = True
            yield Problem("odd-id", f"The id is {shown(value)}, not an integer.", f"{pointer}/id", about)
        ids.add(found)


def _image_problems(image: dict[str, Any], pointer: str, seen: _Seen) -> Iterator[Problem]:
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
    if "file_name" not in image:
        yield Problem("missing-file-name", "The image has no file_name.", pointer)
    elif not isinstance(image["file_name"], str) or not image["file_name"]:
        yield Problem("missing-file-name", f"The file_name is {shown(image['file_name'])}.", f"{pointer}/file_name")
    found = key(image.get("id"))
    if found is not None:
        seen.images.setdefault(found, (sides[0], sides[1]) if len(sides) == 2 else None)


def _category_problems(data: dict[str, Any], seen: _Seen) -> Iterator[Problem]:
    names: set[str] = set()
    for index, category in _entries(data, "categories"):
        pointer, name = f"/categories/{index}", category.get("name")
        if "name" not in category:
            yield Problem("missing-category-name", "The category has no name.", pointer)
        elif not isinstance(name, str) or not name:
            yield Problem("missing-category-name", f"The name is {shown(name)}.", f"{pointer}/name")
        elif name in names:
            message = f"The name {shown(name)} is that of an earlier category."
            yield Problem("duplicate-category-name", message, f"{pointer}/name")
        else:
            names.add(name)
        found, keypoints = key(category.get("id")), category.get("keypoints")
        if found is not None:
            seen.categories.setdefault(found, len(keypoints) if isinstance(keypoints, list) else None)


def _annotation_problems(annotation: dict[str, Any], data: dict[str, Any], seen: _Seen) -> Iterator[Problem]:
    """Yield the problems of an annotation, with pointers below it."""
    image, category = key(annotation.get("image_id")), key(annotation.get("category_id"))
    has_images, has_categories = (isinstance(data.get(section), list) for section in ("images", "categories"))
    if has_images and image not in seen.images:
        yield dangling("image", annotation)
    # If there are categories, tools look up that of every annotation, captions too.
    needs_category = has_categories and ("category_id" in annotation or "segments_info" not in annotation)
    if needs_category and category not in seen.categories:
        yield dangling("category", annotation)
    yield from _plain_problems(annotation)
    found = box(annotation.get("bbox"))
    if found and image is not None:
        same = image, category, found
        if same in seen.boxes:
            yield Problem("duplicate-annotation", "An earlier annotation has the same image, category and box.")
        seen.boxes.add(same)
    size = None if image is None else seen.images.get(image)
    yield from shape_problems(annotation, size, None if category is None else seen.categories.get(category))
    if has_categories and isinstance(annotation.get("segments_info"), list):
        yield from _segment_problems(annotation["segments_info"], seen)


def _plain_problems(annotation: dict[str, Any]) -> Iterator[Problem]:
    if not any(annotation.get(name) for name in _SHAPES):
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
            yield dangling("category", segment, pointer)
