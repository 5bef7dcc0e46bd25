"""Pairs the images of two sources; the images of one source are stored in a temporary file."""

from __future__ import annotations

import marshal
import posixpath
import sqlite3
import unicodedata
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..exceptions import DownloadError, InvalidParameterError
from .documents import Document
from .entries import Entries
from .results import Results
from .values import Key, key, plain, records

#: Keys to pair images by, the most reliable first.
LEVELS = ("work item", "asset URL", "original file name", "file name", "last part of the file name", "local file")


class Labelled(NamedTuple):
    """An image and its annotations."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    #: The number of the category of each annotation; 0 without a category.
    labels: list[int]
    item_id: str | None
    batch: str | None
    asset_url: str | None
    path: str | None
    asset: str | None
    images_from: str | None
    #: Whether it is the only image of its document.
    is_alone: bool

    def keys(self) -> Iterator[tuple[int, str]]:
        """Yield the keys of the image, the most reliable first: the level and the text."""
        names = [self.image.get("original_file_name"), self.image.get("file_name")]
        texts = [_name(each) for each in names]
        last = posixpath.basename(texts[0] or texts[1] or "")
        for level, text in enumerate((self.item_id, self.asset_url, texts[0] or texts[1], texts[1], last)):
            if text:
                yield level, text
        # Training datasets have the names of the local files.
        for local in dict.fromkeys(map(posixpath.basename, (_name(self.asset), *texts))):
            if local:
                yield len(LEVELS) - 1, local

    @property
    def name(self) -> str:
        """The name to show."""
        name = self.image.get("original_file_name") or self.image.get("file_name") or self.item_id
        return name if isinstance(name, str) else str(self.image.get("id"))

    def numbers(self) -> Iterator[str]:
        """Yield the possible values of ``image_id`` in a results list, the most likely first."""
        own = key(self.image.get("id"))
        by_id = [] if own is None else [_id_text(own)]
        stems = dict.fromkeys(
            posixpath.splitext(posixpath.basename(name))[0]
            for name in map(_name, (self.asset, self.image.get("file_name"), self.image.get("original_file_name")))
            if name
        )
        by_stem = [each for stem in stems for each in (stem, str(int(stem)) if stem.isdecimal() else None) if each]
        # In documents of work items, the image always has the same ID.
        yield from [*by_stem, *by_id] if self.is_alone else [*by_id, *by_stem]

    def document(self, categories: list[dict[str, Any]]) -> Document:
        """Return it as a document, with categories by their number."""
        own = [
            {**each, "category_id": label, "image_id": 1}
            for each, label in zip(self.annotations, self.labels, strict=True)
        ]
        data = {"images": [{**self.image, "id": 1}], "annotations": own, "categories": categories}
        path, asset, images_from = (
            None if each is None else Path(each) for each in (self.path, self.asset, self.images_from)
        )
        return Document(data, self.item_id, self.batch, path, asset, images_from)


def _name(value: Any) -> str:
    return unicodedata.normalize("NFC", value).replace("\\", "/") if isinstance(value, str) else ""


def _id_text(own: Key) -> str:
    return str(int(own)) if isinstance(own, float) and own.is_integer() else str(own)


def images_of(document: Document, numbers: dict[Key, int], *, is_part: bool = False) -> Generator[Labelled]:
    """Yield the images of a document.

    Args:
        document: The document.
        numbers: The number of each category, by its ID in the document.
        is_part: Whether it is one image of a document with several.
    """
    if isinstance(document.data.get("annotations"), Entries):
        # The annotations of a large file are streamed.
        for single in document.by_image():
            yield from images_of(single, numbers, is_part=True)
        return
    images, of_image = records(document.data, "images"), dict[Key | None, list[dict[str, Any]]]()
    annotations = records(document.data, "annotations")
    is_alone = len(images) == 1
    if not is_alone:
        for each in annotations:
            of_image.setdefault(key(each.get("image_id")), []).append(each)
    paths = [None if each is None else str(each) for each in (document.path, document.asset, document.images_from)]
    asset = paths.pop(1)
    for image in images:
        item_id, batch, url = document.origin(image)
        own = annotations if is_alone else of_image.pop(key(image.get("id")), [])
        labels = [numbers.get(key(each.get("category_id")), 0) for each in own]  # type: ignore[arg-type]
        own_asset = asset if is_alone else None
        files = paths[0], own_asset, paths[1]
        yield Labelled(image, own, labels, item_id, batch, url, *files, is_alone and not is_part)


class Store:
    """The images of one source, on disk."""

    def __init__(self) -> None:
        # SQLite keeps large tables on disk, in an unnamed file.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute("CREATE TABLE images (number INTEGER PRIMARY KEY, level INTEGER, data BLOB)")
        self._rows.execute(
            "CREATE TABLE keys (level INTEGER, text TEXT, number INTEGER, PRIMARY KEY (level, text)) WITHOUT ROWID"
        )
        # Never committed: the table is temporary.
        self._rows.execute("BEGIN")

    def add(self, found: Labelled) -> None:
        """Store an image."""
        keys = [*found.keys()]
        level = keys[0][0] if keys else len(LEVELS)
        row = self._run("INSERT INTO images (level, data) VALUES (?, ?)", level, _packed(tuple(found)))
        for each, text in keys:
            # A key that several images share identifies none of them.
            query = "INSERT INTO keys VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = -1"
            self._run(query, each, text.encode("utf-8", "surrogatepass"), row.lastrowid)

    def take(self, found: Labelled, at: int | None = None) -> Labelled | None:
        """Remove and return the matching image; ``None`` if there is none.

        Args:
            found: The image of the other source.
            at: Match only by the key of this level. ``None`` for the first level with a match, if neither image could
                be paired by a more reliable key.
        """
        for level, text in found.keys():  # noqa: SIM118 - not a mapping
            if at is not None and level != at:
                continue
            query = (
                "SELECT images.number, images.level, data FROM keys JOIN images USING (number) "
                "WHERE keys.level = ? AND text = ?"
            )
            row = self._run(query, level, text.encode("utf-8", "surrogatepass")).fetchone()
            if row is None:
                continue
            if at is None and row[1] < level:
                return None
            self._run("DELETE FROM images WHERE number = ?", row[0])
            return Labelled(*marshal.loads(row[2]))  # noqa: S302 - written above
        return None

    def rest(self) -> Iterator[tuple[int, Labelled]]:
        """Yield the remaining images with their numbers; each may be removed during the iteration."""
        last = -1
        while row := self._run(
            "SELECT number, data FROM images WHERE number > ? ORDER BY number LIMIT 1", last
        ).fetchone():
            last = row[0]
            yield last, Labelled(*marshal.loads(row[1]))  # noqa: S302 - written above

    def remove(self, number: int) -> None:
        """Remove an image."""
        self._run("DELETE FROM images WHERE number = ?", number)

    def _run(self, query: str, *values: Any) -> sqlite3.Cursor:
        return _run(self._rows, query, *values)


class ResultsStore:
    """The detections of a results list by image, on disk."""

    def __init__(self, results: Results) -> None:
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute("CREATE TABLE detections (image TEXT, data BLOB)")
        self._rows.execute("BEGIN")
        last, together = "", list[dict[str, Any]]()
        for each in results.detections():
            own = _id_text(key(each["image_id"]) or 0)
            if own != last and together:
                _run(self._rows, "INSERT INTO detections VALUES (?, ?)", last, _packed(together))
                together = []
            last = own
            together.append(each)
        if together:
            _run(self._rows, "INSERT INTO detections VALUES (?, ?)", last, _packed(together))
        _run(self._rows, "CREATE INDEX of_image ON detections (image)")

    def take(self, found: Labelled) -> list[dict[str, Any]]:
        """Remove and return the detections of an image."""
        for own in found.numbers():
            query = "SELECT data FROM detections WHERE image = ? ORDER BY rowid"
            rows = _run(self._rows, query, own).fetchall()
            if rows:
                _run(self._rows, "DELETE FROM detections WHERE image = ?", own)
                return [each for row in rows for each in marshal.loads(row[0])]  # noqa: S302 - written above
        return []

    def rest(self) -> Iterator[str]:
        """Yield the ``image_id`` of the remaining detections."""
        for row in _run(self._rows, "SELECT DISTINCT image FROM detections"):
            yield row[0]


def _run(rows: sqlite3.Connection, query: str, *values: Any) -> sqlite3.Cursor:
    try:
        return rows.execute(query, values)
    except sqlite3.Error as error:
        raise DownloadError(
            f"Could not store labels in the temporary folder: {error}. Free disk space there, or set "
            "SQLITE_TMPDIR to another folder, then run it again."
        ) from None


def _packed(value: Any) -> bytes:
    try:
        return marshal.dumps(value)
    except ValueError:
        troubles: dict[str, str] = {}
        made = [*value] if isinstance(value, tuple) else value
        made = plain(made, troubles)
        if troubles.keys() - {"not-finite"}:
            raise InvalidParameterError(
                f"A document of the source is not JSON: {'; '.join(troubles.values())}", parameter="source"
            ) from None
        return marshal.dumps(made)
