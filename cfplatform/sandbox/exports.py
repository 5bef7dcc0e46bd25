"""Exports: their timing and their zip files.

The layout of the zips is specific to the sandbox: that of the platform is not documented.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from .catalogue import COMPLETED, WorkItemFilter
from .formats import SECOND, now
from .settings import Settings
from .storage import StoredObject
from .store import Store

PENDING, IN_PROGRESS, FAILED = "PENDING", "IN_PROGRESS", "FAILED"
FORMATS = COCO_JSON, JSON, CSV = "COCO_JSON", "JSON", "CSV"
CONTENTS = ANNOTATION, INFERENCE, ASSET_METADATA = "ANNOTATION", "INFERENCE", "ASSET_METADATA"

#: Listings show the newest export first, so cursors count down from here.
LAST_INDEX = 1 << 32

_FOLDER = "exports/"
_ZIP = "application/zip"
#: The fraction of its time that an export is queued.
_WAITING = 0.3
_PAGE = 500
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
#: The columns about the item, with the API fields they come from.
_ITEM_COLUMNS = {
    "work_item_id": "id",
    "batch_id": "batchId",
    "asset_url": "assetUrl",
    "asset_type": "assetType",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
}
_ANNOTATION_COLUMNS = ("annotation_id", "category", "x", "y", "width", "height", "area")
_ASSET_COLUMNS = ("file_name", "width", "height")


@dataclass
class Export:
    """An export. Nothing runs for it: its status follows from the time."""

    index: int
    id: str
    name: str
    format: str
    content: str
    wanted: WorkItemFilter
    created_at: int
    seconds: float
    #: The error that it fails with.
    reason: str | None

    @property
    def status(self) -> str:
        age, duration = now() - self.created_at, self.seconds * SECOND
        if age >= duration:
            return COMPLETED if self.reason is None else FAILED
        return PENDING if age < duration * _WAITING else IN_PROGRESS

    @property
    def path(self) -> str:
        return f"{_FOLDER}{self.id}.zip"


class Exports:
    """The exports of the space; a zip is written on its first request."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._exports: dict[int, Export] = {}
        #: The errors of the next exports to fail.
        self.reasons: deque[str] = deque()
        self._created = 0

    def create(self, name: str, format: str, content: str, wanted: WorkItemFilter, file: Path | None = None) -> Export:
        """Start an export, or register a file as the zip of a completed export.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the format or the content is unknown.
        """
        if format not in FORMATS or content not in CONTENTS:
            raise ValueError(
                f"format must be one of {FORMATS} and content one of {CONTENTS}, not {format!r} and {content!r}"
            )
        with self._lock:
            # The ID of a deleted export must not be reused.
            index = self._created
            self._created += 1
            export_id = self._store.catalogue.ids.encode("export", index)
            seconds = 0.0 if file else self._settings.export_seconds
            reason = self.reasons.popleft() if self.reasons and not file else None
            export = Export(index, export_id, name, format, content, wanted, now(), seconds, reason)
            self._exports[index] = export
        if file:
            self._store.objects.put(export.path, file, _ZIP, owned=False)
        return export

    def get(self, export_id: str) -> Export | None:
        index = self._store.catalogue.ids.decode("export", export_id)
        return None if index is None else self._exports.get(index)

    def running(self) -> Export | None:
        """Return the export that is not finished, if any."""
        with self._lock:
            return next((export for export in self._exports.values() if export.status in (PENDING, IN_PROGRESS)), None)

    def page(self, format: str | None, start: int, count: int) -> dict[int, Export]:
        with self._lock:
            newest = [(LAST_INDEX - index, export) for index, export in reversed(self._exports.items())]
        matching = [(position, export) for position, export in newest if format in (None, export.format)]
        return dict([entry for entry in matching if entry[0] >= start][:count])

    def delete(self, export: Export) -> None:
        with self._lock:
            self._exports.pop(export.index, None)
        self._store.objects.remove(export.path)

    def archive(self, path: str) -> StoredObject | None:
        """Return the zip at a path of the space; the first call may take a while."""
        export = self.get(path.removeprefix(_FOLDER).removesuffix(".zip"))
        if export is None or export.path != path or export.status != COMPLETED:
            return None
        with self._writing:
            found = self._store.objects.get(path)
            if found is None:
                file = self._store.objects.new_file()
                write_archive(file, export, self._store)
                found = self._store.objects.put(path, file, _ZIP)
        if self.get(export.id) is None:
            self._store.objects.remove(path)
            return None
        return found


def write_archive(path: Path, export: Export, store: Store) -> None:
    """Write the zip of an export, deterministically, with one item in memory at a time."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        if export.format == COCO_JSON:
            for index in _indexes(store, export.wanted):
                item = store.work_item(index)
                name = f"{_folder(_batch_name(store, item))}/{store.item_id(index)}.json"
                archive.writestr(_entry(name), _with_asset_url(store.document(index), item))
        else:
            lines = _json_lines if export.format == JSON else _csv_lines
            with archive.open(_entry(f"annotations.{export.format.lower()}"), "w", force_zip64=True) as entry:
                for line in lines(export, store):
                    entry.write(line.encode())


def _indexes(store: Store, wanted: WorkItemFilter) -> Iterator[int]:
    """Yield the completed items that match; other items are never exported."""
    selection = store.catalogue.select(wanted)
    start = 0
    while found := store.page(selection, start, _PAGE):
        yield from (index for index in found if store.state(index).status == COMPLETED)
        start = found[-1] + 1


def _json_lines(export: Export, store: Store) -> Iterator[str]:
    yield "["
    for number, row in enumerate(_rows(export, store)):
        yield (",\n" if number else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def _csv_lines(export: Export, store: Store) -> Iterator[str]:
    table = csv.DictWriter(line := io.StringIO(), _columns(export))
    table.writeheader()
    for row in _rows(export, store):
        table.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def _columns(export: Export) -> tuple[str, ...]:
    of_content = _ASSET_COLUMNS if export.content == ASSET_METADATA else _ANNOTATION_COLUMNS
    return (*_ITEM_COLUMNS, "batch_name", *of_content, *(("score",) if export.content == INFERENCE else ()))


def _rows(export: Export, store: Store) -> Iterator[dict[str, Any]]:
    """Yield a row for each asset, annotation or inference; an inference is an annotation with a score."""
    columns = _columns(export)
    for index in _indexes(store, export.wanted):
        item, document = store.work_item(index), _parse(store.document(index))
        about = {name: item.get(field) for name, field in _ITEM_COLUMNS.items()}
        about["batch_name"] = _batch_name(store, item)
        categories = {category.get("id"): category.get("name") for category in _objects(document, "categories")}
        entries = _objects(document, "images" if export.content == ASSET_METADATA else "annotations")
        for number, found in enumerate(entries):
            row = {
                **found,
                **about,
                **dict(zip(("x", "y", "width", "height"), found.get("bbox") or (), strict=False)),
                "annotation_id": found.get("id"),
                "category": categories.get(found.get("category_id")),
                "score": round(0.5 + store.catalogue.ids.digest(f"score {index}", number, 1)[0] / 512, 3),
            }
            yield {name: row.get(name) for name in columns}


def _objects(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects in a list of a document; a test may have replaced the document by anything."""
    found = document.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _with_asset_url(document: bytes, item: Mapping[str, Any]) -> bytes:
    """Return a document with ``info.asset_url`` set; unchanged if a test has replaced it."""
    content = _parse(document)
    if not content:
        return document
    info = content.get("info")
    content["info"] = {**(info if isinstance(info, dict) else {}), "asset_url": item.get("assetUrl") or ""}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _parse(document: bytes) -> dict[str, Any]:
    try:
        content = json.loads(document)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _batch_name(store: Store, item: Mapping[str, Any]) -> str:
    """Return the batch name of an item; ``Default`` without a batch, as on the platform."""
    position = store.batch_position(item.get("batchId"))
    return "Default" if position is None else store.batch_name(position)


def _folder(batch_name: str) -> str:
    """Return a batch name as a sanitized folder name."""
    name = _UNSAFE.sub("_", batch_name)
    return name.replace(".", "_") if name.strip(". ") == "" else name


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name)
    # The bytes must not depend on the clock or the operating system.
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.compress_type = ZIP_DEFLATED
    return entry
