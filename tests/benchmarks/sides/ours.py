"""cfplatform."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cfplatform
from cfplatform import CFPlatformError, Client, coco

from . import frame
from .stacks import CALLER, START, Stacks


def download(destination: str, max_workers: int | None = None, **options: Any) -> dict[str, Any]:
    """Download a project; options are those of ``download_project``."""
    settings = {} if max_workers is None else {"max_workers": max_workers}
    with Client(**settings) as client:
        summary = client.download_project(destination=destination, **options)
    assert summary.failed == 0, summary
    return {"items": summary.successful, "skipped": summary.skipped}


def endure(destination: str, items: int, max_workers: int | None = None) -> dict[str, Any]:
    """Download a project whose server has a fault, and count the items that did not arrive."""
    settings = {} if max_workers is None else {"max_workers": max_workers}
    ended = None
    with Client(**settings) as client:
        try:
            client.download_project(destination=destination)
        except CFPlatformError as error:
            ended = f"{type(error).__name__}: {error}"
    # The files decide: a run that ended with an error has no summary. The hidden folder has none of them.
    arrived = sum(1 for _ in Path(destination).glob("[!.]*/*.json"))
    return {"items": arrived, "lost": items - arrived, "ended": ended}


def stacks(destination: str) -> dict[str, Any]:
    """Count the frames of the package at each read: of a download, and of a listing that is read item by item."""
    package = Path(cfplatform.__file__).parent
    download, listing = Stacks(package), Stacks(package)
    with Client() as client, download.watch():
        summary = client.download_project(destination=destination)
    assert summary.failed == 0, summary
    with Client() as client, listing.watch():
        count = sum(1 for _ in client.get_work_items(status="COMPLETED"))
    assert count == summary.successful, count
    reads = {kind: download.deepest[kind] for kind in ("annotations", "storage")}
    caller = {kind: download.deepest.get(kind, 0) for kind in (START, CALLER)}
    return {"items": count, **reads, **caller, "listing": listing.deepest["workItems"]}


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
    """Get a worker process ready: with its imports done, and with the barrier that lets each of them report once."""
    global _together
    _together = together


def _used(_: int) -> float:
    """Return the processor time of a worker process; no process reports twice, because it waits for the others."""
    _together.wait()
    return time.process_time()


def listing() -> dict[str, Any]:
    """Read a complete listing, item by item."""
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


def compare(source: str, other: str) -> dict[str, Any]:
    """Compare two folders."""
    found = coco.compare(source, other)
    assert found.f1 == 1, found
    return {"items": found.images}


if __name__ == "__main__":
    actions = (download, endure, stacks, spread, listing, first, annotations, export, merge, compare)
    frame.run({each.__name__: each for each in actions})
