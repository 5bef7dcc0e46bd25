"""Stream parsed documents, prefetched within the memory budget. Nothing is written to disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import documents
from ..exceptions import CFPlatformError
from ..http import ObjectStream, Transport
from ..resources import WorkItem
from .memory import MemoryBudget
from .steps import Job, Limits, Steps

if TYPE_CHECKING:
    from ..types import CocoDocument

#: Maximum number of parsed documents per worker that wait for the caller.
HELD_PER_WORKER = 2
#: Maximum bytes, as sent, of all documents in progress or waiting for the caller; a larger one is received alone. A
#: parsed COCO document takes 3 to 8 times its size.
PREFETCH_BYTES = 64 * 1024 * 1024


def parsed_documents(
    calls: Transport,
    items: Iterable[WorkItem],
    *,
    space_id: str | None,
    workers: int,
    patience: float,
    ordered: bool,
    on_error: Callable[[WorkItem, CFPlatformError], Any] | None,
    prefetch_bytes: int = PREFETCH_BYTES,
) -> Iterator[tuple[WorkItem, CocoDocument]]:
    """Yield each item with its parsed document."""

    def receive(job: Job, stream: ObjectStream) -> None:
        document = documents.parse(_read_whole(steps, job, stream))
        info = document.get("info")
        document["info"] = {**(info if isinstance(info, dict) else {}), "asset_url": job.item.asset_url or ""}
        job.saved.append(document)

    steps = Steps(
        calls,
        receive,
        Limits(workers, patience, space_id),
        ordered=ordered,
        budget=MemoryBudget(prefetch_bytes, HELD_PER_WORKER * workers),
    )
    with contextlib.closing(steps.run(Job(item) for item in items)) as jobs:
        for job in jobs:
            if job.error is None:
                # Removed from the job, so only the caller keeps the document alive.
                yield job.item, job.saved.pop()
            elif on_error is None:
                raise job.error
            else:
                on_error(job.item, job.error)


def _read_whole(steps: Steps, job: Job, stream: ObjectStream) -> bytearray:
    """Read a document into reserved memory. If its size is unknown, memory is reserved while reading."""
    size = stream.size
    reserved = size or 0
    if size is not None:
        steps.reserve(job, size)
    document = bytearray()
    for chunk in stream.chunks(documents.LOAD_LIMIT):
        document += chunk
        if len(document) > reserved:
            reserved = 2 * len(document)
            steps.reserve(job, reserved, is_all=False)
    if size is None:
        steps.reserve(job, len(document))
    return document
