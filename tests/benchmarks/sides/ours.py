"""cfplatform."""

from __future__ import annotations

import time
from typing import Any

from cfplatform import Client

from . import frame


def download(destination: str, max_workers: int | None = None, **options: Any) -> dict[str, Any]:
    """Download a project; options are those of ``download_project``."""
    settings = {} if max_workers is None else {"max_workers": max_workers}
    with Client(**settings) as client:
        summary = client.download_project(destination=destination, **options)
    assert summary.failed == 0, summary
    return {"items": summary.successful, "skipped": summary.skipped}


def listing() -> dict[str, Any]:
    """Read a whole listing, item by item."""
    with Client() as client:
        return {"items": sum(1 for _ in client.get_work_items(status="COMPLETED"))}


def first() -> dict[str, Any]:
    """Read the first item of a listing."""
    with Client() as client:
        item = next(client.get_work_items(status="COMPLETED"))
    return {"items": 1, "id": item.id}


def annotations(max_workers: int) -> dict[str, Any]:
    """Stream all documents to a reader that does nothing; tell also when the first one came."""
    began = time.perf_counter()
    count, soonest = 0, 0.0
    with Client(max_workers=max_workers) as client:
        for _ in client.iter_annotations():
            soonest = soonest or time.perf_counter() - began
            count += 1
    return {"items": count, "first": soonest}


def export(export_id: str, destination: str) -> dict[str, Any]:
    """Download the archive of an export."""
    with Client() as client:
        return {"items": 1, "bytes": client.download_export(export_id, destination).stat().st_size}


if __name__ == "__main__":
    frame.run({each.__name__: each for each in (download, listing, first, annotations, export)})
