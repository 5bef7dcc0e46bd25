"""Fetch the bytes of one document or asset."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

from .. import documents
from ..exceptions import APIError
from ..http import ObjectStream, Run, Transport
from ..resources import WorkItem
from .receiving import END, check_asset
from .steps import Job, Limits, Steps, should_renew


def document_bytes(calls: Transport, item: WorkItem, space_id: str | None) -> bytes:
    """Return the COCO document of an item, with the same checks as a download."""

    def receive(job: Job, stream: ObjectStream) -> None:
        document = b"".join(stream.chunks(documents.LOAD_LIMIT))
        if len(document) > documents.PARSE_LIMIT:
            documents.check_ends(document[:END], document[-END:])
        else:
            documents.parse(document)
        job.saved.append(document)

    job = Job(item)
    _run(Steps(calls, receive, _limits(space_id)), job)
    return cast(bytes, job.saved.pop())


def asset_bytes(calls: Transport, item: WorkItem, space_id: str | None) -> bytes:
    """Return the asset of an item."""
    content = io.BytesIO()
    _write_asset(calls, item, space_id, content)
    return content.getvalue()


def asset_file(calls: Transport, item: WorkItem, space_id: str | None) -> BinaryIO:
    """Return the asset of an item as an unnamed temporary file, which is removed when it is closed."""
    with contextlib.ExitStack() as stack:
        file = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile(prefix="cfplatform-")))
        _write_asset(calls, item, space_id, file)
        file.seek(0)
        stack.pop_all()
        return file


def _write_asset(calls: Transport, item: WorkItem, space_id: str | None, file: BinaryIO) -> None:
    """Write the asset of an item to a seekable file."""

    def receive_asset(job: Job, sign_again: Callable[[], str] | None, run: Run) -> None:
        def receive(stream: ObjectStream) -> None:
            check_asset(job.asset_url, stream)
            file.seek(0)
            file.truncate()
            for chunk in stream.chunks():
                file.write(chunk)

        def renew(refusal: APIError) -> str | None:
            if sign_again is None or not should_renew(refusal, job.renewals):
                return None
            job.renewals += 1
            return sign_again()

        calls.fetch(job.asset_url, receive, renew=renew, plain=sign_again is None, run=run)

    job = Job(item)
    job.wants_document = False
    job.asset = item.asset_url
    _run(Steps(calls, _no_document, _limits(space_id), receive_asset=receive_asset), job)


def _limits(space_id: str | None) -> Limits:
    # A single call fails after its retries.
    return Limits(1, 0, space_id)


def _no_document(job: Job, stream: ObjectStream) -> None:
    """Do nothing: no document is wanted."""


def _run(steps: Steps, job: Job) -> None:
    with contextlib.closing(steps.run([job])) as jobs:
        next(jobs)
    if job.error is not None:
        raise job.error
