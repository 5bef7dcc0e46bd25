"""Sources of COCO documents: a downloaded folder, a file, or an iterable."""

from __future__ import annotations

import contextlib
import copy
import functools
import glob
import os
import posixpath
import sqlite3
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import documents
from ..destination import local
from ..destination.reading import read_downloaded, read_metadata
from ..destination.state import state_path
from ..exceptions import DownloadError, InvalidParameterError, InvalidResponseError
from ..progress import ProgressReporter
from ..resources import WorkItem
from . import entries, layouts
from .entries import Entries, read_large
from .findings import CODES, ERROR, Finding, Problem
from .results import Results, is_results_file, is_results_list
from .values import Key, by_id, key, number, plain, records

if TYPE_CHECKING:
    from ..types import CocoDocument

#: A source of documents; :func:`read` describes each kind.
Source = (
    str
    | os.PathLike[str]
    | Iterable[Mapping[str, Any]]
    | Iterable[tuple[WorkItem, Mapping[str, Any]]]
    | Iterable["Document"]
)

#: A path on this machine.
PathLike = str | os.PathLike[str]

#: Called with each document that cannot be read.
OnError = Callable[[Finding], Any]

_SUFFIX = ".json"
#: Maximum characters of an ID in a finding.
_ID_LENGTH = 100


class Origin(NamedTuple):
    """The origin of an image, as far as it is known."""

    item_id: str | None
    batch: str | None
    asset_url: str | None


@dataclass(frozen=True)
class Document:
    """A COCO document and its origin.

    Attributes:
        data: The parsed document.
        item_id: The work item; ``None`` if unknown, or if the document is not that of one work item.
        batch: The folder of the batch, or the batch ID as a string if the document came from a stream; ``None`` if
            unknown.
        path: The file; ``None`` if the document came from a stream.
        asset: The downloaded image or video; ``None`` if there is none.
        images_from: The folder of the images; ``None`` to search the folders that labeling tools use.
        metadata: The metadata of the work item; empty if unknown. Metadata that a merge copied is in each image:
            :meth:`metadata_of` returns both.
    """

    data: CocoDocument
    item_id: str | None = None
    batch: str | None = None
    path: Path | None = None
    asset: Path | None = None
    images_from: Path | None = None
    # May contain secrets, such as a callback URL.
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    if TYPE_CHECKING:
        # Accepts any mapping.
        def __init__(
            self,
            data: Mapping[str, Any],
            item_id: str | None = None,
            batch: str | None = None,
            path: Path | None = None,
            asset: Path | None = None,
            images_from: Path | None = None,
            metadata: Mapping[str, Any] = ...,
        ) -> None: ...

    def finding(self, code: str, severity: str, message: str, pointer: str = "", annotation_id: Any = None) -> Finding:
        """Return a finding about this document."""
        path = None if self.path is None else str(self.path)
        return Finding(code, severity, message, self.item_id, self.batch, path, pointer, annotation_id)

    def origin(self, image: dict[str, Any]) -> Origin:
        """Return the origin of an image of this document; merged datasets record it for each image."""
        info = self.data.get("info")
        url = _text(info.get("asset_url")) if isinstance(info, dict) else None
        if self.item_id is not None:
            return Origin(self.item_id, self.batch, url or _text(image.get("asset_url")))
        batch = image.get("batch")
        own = image.get("work_item_id"), str(batch) if isinstance(batch, int) else batch, image.get("asset_url")
        item_id, batch, own_url = map(_text, own)
        return Origin(item_id, batch or self.batch, own_url or url)

    def with_data(self, data: Mapping[str, Any]) -> Document:
        """Return a document with other content and the same origin."""
        made = replace(self, data=cast("CocoDocument", data))
        if self.asset is not None:
            # An asset that several images share is not the file of any of them, even if only one is left.
            made.__dict__["_has_one_image"] = self._has_one_image
        return made

    def metadata_of(self, image: dict[str, Any]) -> Mapping[str, Any]:
        """Return the metadata of the work item of an image, including metadata that a merge copied to the image."""
        own = image.get("metadata")
        return {**own, **self.metadata} if isinstance(own, dict) else self.metadata

    def member_of(self, image: dict[str, Any], name: str) -> Any:
        """Return a field of an image, else of the metadata of its work item, else of ``info``, else ``None``."""
        info: Any = self.data.get("info")
        places = (image, self.metadata_of(image), info if isinstance(info, dict) else {})
        return next((place[name] for place in places if place.get(name) not in (None, "")), None)

    def video_of(self, image: dict[str, Any]) -> str | None:
        """Return the name of the video that an image is a frame of: its ``name``, ``file_name``, or ID as a string.

        ``None`` if the ``video_id`` of the image is not in the ``videos`` of the document.
        """
        video = self._video(image)
        names = () if video is None else map(_text, (video.get("name"), video.get("file_name"), str(video["id"])))
        return next(filter(None, names), None)

    def _video(self, image: dict[str, Any]) -> dict[str, Any] | None:
        own = key(image.get("video_id"))
        return None if own is None else self._videos.get(own)

    @functools.cached_property
    def _videos(self) -> dict[Key, dict[str, Any]]:
        return by_id(records(self.data, "videos"))

    def image_path(self, image: dict[str, Any]) -> Path | None:
        """Return the local file of an image of this document, or ``None`` if there is none.

        For a work item, that is the downloaded asset, or a file in ``images_from`` if that is given. For a dataset, it
        is the ``asset_path``, or else the file with the ``file_name`` in ``images_from``, or else in the folder of the
        document or one of the folders that labeling tools use: ``images``, ``data``, ``assets`` and the part
        (``train2017`` for ``instances_train2017.json``), next to the document or one level up. Backslashes count as
        separators. Only the last part of an absolute path or a URL is used. Outside these folders, only files with the
        extension of an image or a video are accepted.
        """
        if self.asset is not None and self._has_one_image:
            return self.asset
        name = image.get("file_name")
        if self.item_id is not None and self.images_from is None:
            # Downloaded assets are named by item, so a file with this name belongs to another item.
            return None
        if self.path is not None:
            own = _text(image.get("asset_path"))
            # An asset that several images share, such as a video, is not the file of any of them.
            is_image = own and isinstance(name, str) and _suffix(own) == _suffix(name)
            path = os.path.normpath(os.path.join(self.path.parent, own or ""))
            if is_image and layouts.may_be_image(str(self.path.parent), path) and os.path.isfile(path):
                return Path(path)
        found = layouts.find_image(self._image_folders, name) if isinstance(name, str) and name else None
        return None if found is None else Path(found)

    @functools.cached_property
    def _has_one_image(self) -> bool:
        return len(records(self.data, "images")) == 1

    @functools.cached_property
    def _image_folders(self) -> list[str]:
        if self.path is None and self.images_from is None:
            return []
        folder, stem = ("", "") if self.path is None else (str(self.path.parent), self.path.stem)
        return layouts.image_folders(folder, stem, None if self.images_from is None else str(self.images_from))

    def mask_path(self, annotation: dict[str, Any]) -> Path | None:
        """Return the local PNG with the segments of a panoptic annotation, or ``None`` if there is none.

        The file with the ``file_name`` of the annotation is looked up in a folder named like the document, in
        ``panoptic`` and in ``masks``, next to the document or one level up, and in the folder of the document.
        """
        name = annotation.get("file_name")
        found = layouts.find_image(self._mask_folders, name) if isinstance(name, str) and name else None
        return None if found is None else Path(found)

    @functools.cached_property
    def _mask_folders(self) -> list[str]:
        images = None if self.images_from is None else str(self.images_from)
        folder, stem = ("", "") if self.path is None else (str(self.path.parent), self.path.stem)
        return layouts.mask_folders(folder, stem, images)

    def by_image(self) -> Iterator[Document]:
        """Yield a document for each image, with its annotations, its file, and all categories.

        Example:
            >>> images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
            >>> document = Document({"images": images, "annotations": [{"id": 5, "image_id": 2}]})
            >>> [len(each.data["annotations"]) for each in document.by_image()]
            [0, 1]
        """
        images = records(self.data, "images")
        if len(images) == 1:
            origin = self.origin(images[0])
            data: Any = self.data
            if isinstance(found := data.get("annotations"), Entries):
                data = {**data, "annotations": [*found]}
            asset, metadata = self.image_path(images[0]), self.metadata_of(images[0])
            yield replace(self, data=data, item_id=origin.item_id, batch=origin.batch, asset=asset, metadata=metadata)
            return
        with self._annotations_by_image() as annotations:
            yield from self._by_image(images, annotations)

    @contextlib.contextmanager
    def _annotations_by_image(self) -> Iterator[Callable[[Key | None], list[dict[str, Any]]]]:
        """Yield a function that returns the annotations of an image."""
        found: Any = self.data.get("annotations")
        if isinstance(found, Entries):
            objects = found.picked(lambda number, entry: entry if isinstance(entry, dict) else None)
            with objects.grouped(_image_of) as of:
                yield of
            return
        annotations: dict[Key | None, list[dict[str, Any]]] = {}
        for each in records(self.data, "annotations"):
            annotations.setdefault(_image_of(each), []).append(each)
        yield lambda own: annotations.get(own, [])

    def _by_image(
        self, images: list[dict[str, Any]], annotations: Callable[[Key | None], list[dict[str, Any]]]
    ) -> Iterator[Document]:
        shared: dict[str, Any] = {
            name: value for name, value in self.data.items() if name in ("licenses", "categories")
        }
        info: Any = self.data.get("info")
        head: dict[str, Any] = info if isinstance(info, dict) else {}
        by_own = by_id(images)
        for image in images:
            item_id, batch, url = self.origin(image)
            own = key(image.get("id"))
            # If several images share an ID, the first has the annotations.
            labels = annotations(own) if own is not None and by_own[own] is image else []
            own_head = head if url is None else dict(head, asset_url=url)
            data: dict[str, Any] = {"info": own_head, **shared, "images": [image], "annotations": labels}
            if (video := self._video(image)) is not None:
                data["videos"] = [video]
            files = self.path, self.image_path(image), self.images_from
            yield Document(data, item_id, batch, *files, self.metadata_of(image))


def _image_of(annotation: dict[str, Any]) -> Key | None:
    return key(annotation.get("image_id"))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def finding_about(document: Document, problem: Problem) -> Finding:
    """Return the finding for a problem of a document."""
    own = problem.annotation_id
    is_short = own is not None and (len(own) <= _ID_LENGTH if isinstance(own, str) else number(own) is not None)
    severity = CODES[problem.code].severity
    return document.finding(problem.code, severity, problem.message, problem.pointer, own if is_short else None)


class Entry(NamedTuple):
    """A document of a folder that has not been read yet; the fields are those of :class:`Document`."""

    #: ``None`` if the state of the folder does not list the file; the document itself may have the work item.
    item_id: str | None
    batch: str
    path: Path
    asset: Path | None
    images_from: Path | None = None
    #: JSON, parsed only when needed.
    metadata: str | None = None

    def read(self, *, streamed: bool = False) -> Document:
        """Read the document; raise :class:`InvalidResponseError` if the file is not a complete JSON object."""
        return cast("Document", self.parsed(None, streamed=streamed))

    def parsed(self, on_error: OnError | None, *, streamed: bool = False) -> Document | None:
        """Read the document; call ``on_error`` and return ``None`` if it cannot be read."""
        data = _parsed(self.path, self.item_id, self.batch, on_error, streamed=streamed)
        if data is None:
            return None
        return Document(data, self.item_id or _item_of(self.path, data), *self[1:-1], read_metadata(self.metadata))


def _item_of(path: Path, data: dict[str, Any]) -> str | None:
    """Return the work item of a file, if its ``info`` has the asset URL that downloads and exports write."""
    info = data.get("info")
    is_item = isinstance(info, dict) and isinstance(info.get("asset_url"), str)
    return os.path.splitext(os.path.basename(path))[0] if is_item else None


def read(
    source: Source, *, on_error: OnError | None = None, images_from: PathLike | None = None, by_image: bool = False
) -> Generator[Document]:
    """Iterate over the documents of a source, one in memory at a time.

    Args:
        source: One of:

            - a folder of documents, one level deep: a downloaded folder (``<batch>/<work item>.json`` with images in
              ``<batch>/assets``), the folder of one batch, an unpacked export, or the output of other tools, such as
              ``annotations/instances_val2017.json``. Documents are sorted by name;
            - a file with one COCO document, such as a merged dataset, which is loaded into memory;
            - an iterable of parsed documents, of (work item, document) pairs as
              :meth:`~cfplatform.Client.iter_annotations` yields them, or of :class:`Document`.

            A file counts as the document of a work item if the download recorded it, or if its ``info`` has the
            ``asset_url`` that downloads and exports write.
        on_error: Called with a :class:`Finding` ("unreadable") for each file that is not a COCO document; the file is
            skipped. Without it, the first one raises.
        images_from: The folder of the images. Defaults to the folders that labeling tools use; see
            :meth:`Document.image_path`.
        by_image: Yield one document for each image; see :meth:`Document.by_image`.

    Raises:
        InvalidParameterError: When called, if the source is not valid, or the folder has no labels.
        InvalidResponseError: While iterating, if a file is not a complete JSON object and ``on_error`` is not given.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> sum(len(document.data["annotations"]) for document in read("labels")) > 0
        True
    """
    found = open_source(source, images_from).documents(on_error, streamed=by_image)
    return (each for document in found for each in document.by_image()) if by_image else found


def open_source(source: Source, images_from: PathLike | None = None) -> Opened:
    """Check a source and open it."""
    images = None if images_from is None else local.folder_path(images_from, "images_from")
    if images is not None and not images.is_dir():
        raise InvalidParameterError(f"images_from {str(images)!r} is not a folder.", parameter="images_from")
    if isinstance(source, Stream):
        return source.with_images_from(images)
    if isinstance(source, (str, os.PathLike)):
        path = local.folder_path(source, "source")
        if path.is_dir():
            return Folder(path, images)
        if path.is_file():
            return Results(path) if is_results_file(path) else File(path, images)
        raise InvalidParameterError(f"source {str(path)!r} is neither a folder nor a file.", parameter="source")
    if is_results_list(source):
        return Results(cast("list[Any]", source))
    if isinstance(source, dict) or not isinstance(source, Iterable):
        raise InvalidParameterError(
            f"source must be a folder, a file, or an iterable of documents, not {type(source).__name__}.",
            parameter="source",
        )
    return Stream(source, images)


class Folder:
    """A folder of batches, or of one batch."""

    order: Sequence[str] = ()

    def __init__(self, root: Path, images_from: Path | None = None) -> None:
        self.root = root.resolve()
        self._images_from = images_from
        # SQLite keeps large tables on disk, so a million names need no memory. The file is deleted with the connection.
        self._names = sqlite3.connect("", check_same_thread=False)
        weakref.finalize(self, self._names.close)
        self._names.execute(
            "CREATE TABLE files (folder BLOB, stem BLOB, name BLOB, asset BLOB, item TEXT, metadata TEXT, "
            "PRIMARY KEY (folder, stem)) WITHOUT ROWID"
        )
        self._add_files(_folders_in(self.root))
        if not self.total:
            # The folder of a single batch.
            self._add_files([""])
        if not self.total:
            raise InvalidParameterError(
                f"{str(self.root)!r} contains no labels: there is no {_SUFFIX} file in any of its folders.",
                parameter="source",
            )
        folders = [os.fsdecode(row[0]) for row in self._names.execute("SELECT DISTINCT folder FROM files")]
        self._is_batch = folders == [""]
        # If an item has several assets, the first by name is used.
        self._names.executemany(
            "UPDATE files SET asset = ? WHERE folder = ? AND stem = ? AND (asset IS NULL OR asset > ?)",
            self._assets(folders),
        )
        self._names.executemany("UPDATE files SET item = ?, metadata = ? WHERE folder = ? AND stem = ?", self._items())

    @property
    def total(self) -> int:
        """The number of documents."""
        count: int = self._names.execute("SELECT count(*) FROM files").fetchone()[0]
        return count

    def documents(self, on_error: OnError | None, *, streamed: bool = False) -> Generator[Document]:
        """Yield the documents, sorted by name; ``streamed`` as for :class:`File`."""
        for entry in self.entries():
            found = entry.parsed(on_error, streamed=streamed)
            if found is not None:
                yield found

    def entries(self) -> Generator[Entry]:
        """Yield the documents in the same order without reading them."""
        last, parent, batch = None, self.root, ""
        for row in self._names.execute("SELECT folder, name, asset, item, metadata FROM files ORDER BY folder, stem"):
            if row[0] != last:
                last, folder = row[0], os.fsdecode(row[0])
                parent, batch = self.root / folder, folder or self.root.name
            asset = None if row[2] is None else parent / local.ASSETS_FOLDER / os.fsdecode(row[2])
            yield Entry(row[3], batch, parent / os.fsdecode(row[1]), asset, self._images_from, row[4])

    def reads(self, path: Path) -> bool:
        """Return whether a file at this path would be read as labels or as an asset."""
        folder = path.parent
        if folder.name == local.ASSETS_FOLDER and self._holds_labels(folder.parent):
            return True
        return path.suffix == _SUFFIX and self._holds_labels(folder)

    def _holds_labels(self, folder: Path) -> bool:
        # In the folder of one batch, too: labels in a subfolder would make it a folder of batches in the next run.
        return (folder.parent == self.root and not folder.name.startswith(".")) or (
            self._is_batch and folder == self.root
        )

    def _add_files(self, folders: Iterable[str]) -> None:
        found = (
            (os.fsencode(folder), os.fsencode(stem), os.fsencode(name))
            for folder in folders
            for name in _files_in(self.root / folder)
            for stem, suffix in [os.path.splitext(name)]
            if suffix == _SUFFIX
        )
        self._names.executemany("INSERT INTO files (folder, stem, name) VALUES (?, ?, ?)", found)

    def _assets(self, folders: Iterable[str]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in _files_in(self.root / folder / local.ASSETS_FOLDER):
                    stem, asset = os.path.splitext(name)[0], os.fsencode(name)
                    yield asset, os.fsencode(folder), os.fsencode(stem), asset

    def _items(self) -> Iterator[tuple[str, str | None, bytes, bytes]]:
        """Yield the work item and metadata of each file in the state of the download."""
        root = self.root.parent if self._is_batch else self.root
        if not state_path(root).is_file():
            return
        # Without a readable state it may still be a folder of labels.
        with contextlib.suppress(DownloadError):
            for row in read_downloaded(root):
                folder, name = posixpath.split(row.path or "")
                if self._is_batch and folder == self.root.name:
                    folder = ""
                yield row.item_id, row.metadata, os.fsencode(folder), os.fsencode(os.path.splitext(name)[0])


class File:
    """A file with one COCO document."""

    total = 1
    order: Sequence[str] = ()

    def __init__(self, path: Path, images_from: Path | None = None) -> None:
        self.path = path.resolve()
        self._images_from = images_from

    def reads(self, path: Path) -> bool:
        """Return whether this is the file."""
        return path == self.path

    def documents(self, on_error: OnError | None, *, streamed: bool = False) -> Generator[Document]:
        """Yield the document.

        Args:
            on_error: Called if it cannot be read.
            streamed: Leave the annotations of a large file on disk, as :class:`~.entries.Entries` instead of a list.
                Read them with :func:`~.values.each_record` or :meth:`Document.by_image`.
        """
        found = _parsed(self.path, None, None, on_error, streamed=streamed)
        if found is not None:
            folder, item_id, batch, asset = self.path.parent, _item_of(self.path, found), None, None
            if item_id is not None:
                assets = (folder / local.ASSETS_FOLDER).glob(f"{glob.escape(item_id)}.*")
                batch, asset = folder.name, min(assets, default=None)
            yield Document(found, item_id, batch, self.path, asset, self._images_from)


class Stream:
    """An iterable of documents."""

    total: int | None = None
    #: Names of classes that come first in a merge, in this order.
    order: Sequence[str] = ()

    def __init__(self, source: Iterable[Any], images_from: Path | None = None) -> None:
        self._source = source
        self.is_read_once = isinstance(source, Iterator)
        self._images_from = images_from

    def __iter__(self) -> Iterator[Document]:
        return self.documents(None)

    def with_images_from(self, images_from: Path | None) -> Stream:
        """Return this source with another folder of images, unless it is ``None``."""
        if images_from is None:
            return self
        made = copy.copy(self)
        made._images_from = images_from
        return made

    def _placed(self, document: Document) -> Document:
        return document if self._images_from is None else replace(document, images_from=self._images_from)

    def reads(self, path: Path) -> bool:
        """Return ``False``: a stream reads no files."""
        return False

    def documents(self, on_error: OnError | None, *, streamed: bool = False) -> Generator[Document]:
        """Yield the documents in the order of the iterable."""
        for each in self._source:
            found = with_plain_values(_streamed(each))
            yield self._placed(found)


def _streamed(each: Any) -> Document:
    if isinstance(each, Document):
        return each
    if isinstance(each, dict):
        return Document(each)
    kinds = type(each).__name__
    if isinstance(each, tuple):
        if len(each) == 2 and isinstance(each[0], WorkItem) and isinstance(each[1], dict):
            item, data = each
            batch = None if item.batch_id is None else str(item.batch_id)
            return Document(data, item.id, batch, metadata=item.metadata)
        kinds = f"({', '.join(type(part).__name__ for part in each[:3])})"
    raise InvalidParameterError(
        f"source must yield documents or (work item, document) pairs, not {kinds}.", parameter="source"
    )


def with_plain_values(document: Document | Mapping[str, Any]) -> Document:
    """Return a document with NumPy values converted to plain ones; unchanged if it has values that JSON lacks."""
    found = document if isinstance(document, Document) else Document(document)
    troubles: dict[str, str] = {}
    data = plain(found.data, troubles)
    return found if data is found.data or "not-json" in troubles else replace(found, data=data)


#: An opened source.
Opened = Folder | File | Stream | Results


def _parsed(
    path: Path, item_id: str | None, batch: str | None, on_error: OnError | None, *, streamed: bool
) -> dict[str, Any] | None:
    try:
        size = path.stat().st_size
        if streamed and size > entries.LARGE and (found := read_large(path)) is not None:
            return found
        if size > documents.LOAD_LIMIT:
            raise InvalidResponseError(f"The document has more than {documents.LOAD_LIMIT:,} bytes.")
        return documents.parse(path.read_bytes())
    except (OSError, InvalidResponseError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
        if on_error is None:
            raise InvalidResponseError(f"{str(path)!r}: {reason}") from None
        on_error(Finding("unreadable", ERROR, reason, item_id, batch, str(path)))
        return None


def _folders_in(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def _files_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                yield entry.name


def reported(
    opened: Opened, bar: ProgressReporter, on_error: OnError | None, *, streamed: bool = False
) -> Generator[Document]:
    """Yield the documents of a source, and report progress.

    A document counts when the next one is requested, by the size of its file; an unreadable file counts as failed.
    """

    def failed(finding: Finding) -> None:
        bar.advance("failed", 0)
        if on_error is not None:
            on_error(finding)

    bar.start(opened.total)
    try:
        for document in opened.documents(failed if on_error is not None else None, streamed=streamed):
            yield document
            bar.advance("read", file_size(document))
    finally:
        bar.finish()


def file_size(document: Document) -> int:
    """Return the size of the file of a document, or 0 if it has none."""
    # A stream may refer to files on another machine, and a file may have been removed.
    with contextlib.suppress(OSError):
        return document.path.stat().st_size if document.path else 0
    return 0
