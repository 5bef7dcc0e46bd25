"""Documents parsed in memory, fetched ahead of their reader as far as there is room; nothing touches the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from . import documents
from .exceptions import CFPlatformError
from .pipeline import Job, Pipeline
from .resources import WorkItem
from .transport import ObjectStream, Transport

#: Parsed documents that wait to be taken, for each worker.
HELD_PER_WORKER = 2
#: Bytes, as sent, of the documents together that are received and parsed, and that wait to be taken; one that has more
#: goes alone. Parsed, COCO documents take 3 to 8 times their size.
LOOK_AHEAD = 64 * 1024 * 1024


def parsed_documents(
    calls: Transport,
    items: Iterable[WorkItem],
    *,
    space_id: str | None,
    workers: int,
    ordered: bool,
    on_error: Callable[[WorkItem, CFPlatformError], Any] | None,
    look_ahead: int = LOOK_AHEAD,
) -> Iterator[tuple[WorkItem, dict[str, Any]]]:
    """Yield each item with its parsed document; nothing touches the disk."""

    def receive(job: Job[dict[str, Any]], stream: ObjectStream) -> dict[str, Any]:
        document = documents.parse(_read_whole(pipeline, job, stream))
        info = document.get("info")
        document["info"] = {**(info if isinstance(info, dict) else {}), "asset_url": job.item.asset_url or ""}
        return document

    pipeline: Pipeline[dict[str, Any]] = Pipeline(
        calls,
        receive,
        workers=workers,
        space_id=space_id,
        ordered=ordered,
        held=HELD_PER_WORKER * workers,
        room=look_ahead,
    )
    with contextlib.closing(pipeline.run(Job(item) for item in items)) as jobs:
        for job in jobs:
            if job.result is not None:
                yield job.item, cast("dict[str, Any]", job.take())
            elif job.error is not None:
                if on_error is None:
                    raise job.error
                on_error(job.item, job.error)


def _read_whole(pipeline: Pipeline[dict[str, Any]], job: Job[dict[str, Any]], stream: ObjectStream) -> bytearray:
    """Read a document into memory, for which room is made first or, where its size is not told, on the way."""
    told = stream.size
    room = told or 0
    if told is not None:
        pipeline.make_room(job, told)
    document = bytearray()
    for chunk in stream.chunks(documents.LOAD_LIMIT):
        document += chunk
        if len(document) > room:
            room = 2 * len(document)
            pipeline.make_room(job, room, is_all=False)
    if told is None:
        pipeline.make_room(job, len(document))
    return document
