"""The zips of exports. Their inner layout is the sandbox's own: nothing is known of the platform's."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from .catalogue import COMPLETED, WorkItemFilter
from .store import Store

COCO_JSON = "COCO_JSON"
JSON = "JSON"
CSV = "CSV"
FORMATS = (COCO_JSON, JSON, CSV)

ANNOTATION = "ANNOTATION"
INFERENCE = "INFERENCE"
ASSET_METADATA = "ASSET_METADATA"
CONTENTS = (ANNOTATION, INFERENCE, ASSET_METADATA)

_PAGE = 500
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_ITEM_COLUMNS = ("work_item_id", "batch_id", "batch_name", "asset_url", "asset_type", "created_at", "updated_at")
_LABEL_COLUMNS = ("annotation_id", "category", "x", "y", "width", "height", "area")
_ASSET_COLUMNS = ("file_name", "width", "height")


@dataclass(frozen=True)
class ArchivePlan:
    """What goes into a zip, and how it is written."""

    format: str
    content: str
    wanted: WorkItemFilter


def write_archive(path: Path, plan: ArchivePlan, store: Store) -> None:
    """Write the zip of an export; the same items give the same bytes, and only one item is held at a time."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        if plan.format == COCO_JSON:
            for index in _indexes(store, plan.wanted):
                item = store.work_item(index)
                name = f"{_folder(_batch_name(store, item))}/{store.item_id(index)}.json"
                archive.writestr(_entry(name), _with_asset_url(store.document(index), item))
        else:
            name = "annotations.json" if plan.format == JSON else "annotations.csv"
            lines = _json_lines(plan, store) if plan.format == JSON else _csv_lines(plan, store)
            with archive.open(_entry(name), "w", force_zip64=True) as entry:
                for line in lines:
                    entry.write(line.encode())


def _indexes(store: Store, wanted: WorkItemFilter) -> Iterator[int]:
    """Yield the completed items that match; nothing else is ever exported."""
    selection = store.select(wanted)
    start = 0
    while found := store.page(selection, start, _PAGE):
        yield from (index for index in found if store.state(index).status == COMPLETED)
        start = found[-1] + 1


def _json_lines(plan: ArchivePlan, store: Store) -> Iterator[str]:
    yield "["
    for number, index in enumerate(_indexes(store, plan.wanted)):
        item = store.work_item(index)
        fields = ("id", "projectId", "batchId", "assetUrl", "assetType", "createdAt", "updatedAt")
        record = {name: item.get(name) for name in fields} | {"batchName": _batch_name(store, item)}
        if plan.content == ASSET_METADATA:
            record["metadata"] = item.get("metadata")
            record["asset"] = _asset(store.document(index))
        else:
            record["annotations" if plan.content == ANNOTATION else "inferences"] = _labels(plan, store, index)
        yield (",\n" if number else "\n") + json.dumps(record, ensure_ascii=False)
    yield "\n]\n"


def _csv_lines(plan: ArchivePlan, store: Store) -> Iterator[str]:
    columns = _ASSET_COLUMNS if plan.content == ASSET_METADATA else _LABEL_COLUMNS
    if plan.content == INFERENCE:
        columns = (*columns, "score")
    yield _csv_line([*_ITEM_COLUMNS, *columns])
    for index in _indexes(store, plan.wanted):
        item = store.work_item(index)
        values = [item.get(name) for name in ("id", "batchId", "assetUrl", "assetType", "createdAt", "updatedAt")]
        values.insert(2, _batch_name(store, item))
        if plan.content == ASSET_METADATA:
            asset = _asset(store.document(index))
            yield _csv_line([*values, *(asset.get(name) for name in _ASSET_COLUMNS)])
            continue
        for label in _labels(plan, store, index):
            row = [label["id"], label["category"], *(label["bbox"] or [None] * 4), label["area"]]
            yield _csv_line([*values, *row, *([label["score"]] if plan.content == INFERENCE else [])])


def _csv_line(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _labels(plan: ArchivePlan, store: Store, index: int) -> list[dict[str, Any]]:
    """Return the annotations of an item, or the inferences: the same shapes with a score, each found twice."""
    document = _parse(store.document(index))
    categories = {category.get("id"): category.get("name") for category in _objects(document, "categories")}
    labels = [
        {
            "id": annotation.get("id"),
            "category": categories.get(annotation.get("category_id")),
            "bbox": annotation.get("bbox"),
            "area": annotation.get("area"),
        }
        for annotation in _objects(document, "annotations")
    ]
    if plan.content == ANNOTATION:
        return labels
    scores = (store.catalogue.ids.digest(f"score {index}", number, 1)[0] for number in range(2 * len(labels)))
    return [{**label, "score": round(0.5 + score / 512, 3)} for label, score in zip(labels * 2, scores, strict=True)]


def _asset(document: bytes) -> Mapping[str, Any]:
    return next(iter(_objects(_parse(document), "images")), {})


def _objects(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects in a list of a document, which somebody may have replaced by anything."""
    found = document.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _with_asset_url(document: bytes, item: Mapping[str, Any]) -> bytes:
    """Return a document with ``info.asset_url`` set; one that was replaced by something else stays as it is."""
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
    """Return the name of an item's batch; items without one are shown in ``Default``, as the platform does."""
    position = store.batches.position(item["batchId"]) if isinstance(item.get("batchId"), int) else None
    return "Default" if position is None else store.batches.name(position)


def _folder(batch_name: str) -> str:
    """Return a batch name as the name of a folder that stays where it is unpacked."""
    name = _UNSAFE.sub("_", batch_name)
    return name.replace(".", "_") if name.strip(". ") == "" else name


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name)
    # Neither the clock nor the operating system may show in the bytes.
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.compress_type = ZIP_DEFLATED
    return entry
