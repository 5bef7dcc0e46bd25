"""cfplatform."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any

from cfplatform import Client, coco

from . import frame


def download(destination: str, max_workers: int | None = None, **options: Any) -> dict[str, Any]:
    """Download a project; options are those of ``download_project``."""
    settings = {} if max_workers is None else {"max_workers": max_workers}
    with Client(**settings) as client:
        summary = client.download_project(destination=destination, **options)
    assert summary.failed == 0, summary
    return {"items": summary.successful, "skipped": summary.skipped}


def spread(destination: str, max_workers: int, processes: int) -> dict[str, Any]:
    """Download a project with worker processes, which are there and have imported before the clock runs."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(processes)
    with (
        Client(max_workers=max_workers) as client,
        ProcessPoolExecutor(processes, context, _meet, (together,)) as pool,
    ):
        before, own, began = sum(pool.map(_used, range(processes))), time.process_time(), time.perf_counter()
        summary = client.download_project(destination=destination, executor=pool)
        seconds, caller = time.perf_counter() - began, time.process_time() - own
        workers = sum(pool.map(_used, range(processes))) - before
    assert summary.failed == 0, summary
    cpu = {"cpu": caller + workers, "caller_cpu": caller, "workers_cpu": workers}
    return {"items": summary.successful, "seconds": seconds, **cpu}


def _meet(together: Barrier) -> None:
    """Get a worker process ready: with its imports done, and with what lets all of them answer once each."""
    global _together
    # What a chunk is unpickled with.
    import cfplatform.executing  # noqa: F401

    _together = together


def _used(_: int) -> float:
    """Return the processor time of a worker process; no process answers twice, since it waits for the others."""
    _together.wait()
    return time.process_time()


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


def merge(source: str, output: str) -> dict[str, Any]:
    """Join the documents of a folder into one dataset."""
    summary = coco.merge(source, output)
    assert summary.problem_count == 0, summary
    return {"items": summary.documents}


if __name__ == "__main__":
    frame.run({each.__name__: each for each in (download, spread, listing, first, annotations, export, merge)})
