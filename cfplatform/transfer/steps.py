"""The steps of a download: annotate, sign, fetch. They are pipelined: no step waits for all items of the one before.

Each item takes two round trips of a worker, and is signed together with about a hundred others. With W workers and
latency L the rate is W / (2 L) items per second.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .. import http, params
from ..exceptions import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    CFPlatformError,
    DestinationError,
    DownloadError,
    InvalidResponseError,
    OutageError,
    PermissionDeniedError,
    UnsafePathError,
    blank,
)
from ..http import SINGLE, ObjectStream, Run, Transport
from ..resources import Annotation, WorkItem
from .memory import MemoryBudget, OverBudgetError
from .pool import Pool

#: Maximum number of items that are signed together. Large enough to make signing cheap, small enough to use the URLs
#: before they expire, which may be within minutes.
SIGN_GROUP = 100
#: Maximum number of paths in a request (published reference).
MAX_PATHS = 1000

#: Maximum number of new signed URLs for one object: after one expired, and after any other refusal.
MAX_RENEWALS_EXPIRED = 3
MAX_RENEWALS_REFUSED = 1

_SPLIT_STATUSES = frozenset({400, 413, 422})

_OUT_OF_FILES = os.strerror(errno.EMFILE)


class Limits(NamedTuple):
    """Workers, patience in seconds, and the space of a run; ``None`` for the space of each annotation."""

    workers: int
    patience: float
    space_id: str | None


class Job:
    """The job of one item."""

    def __init__(self, item: WorkItem) -> None:
        self.item = item
        #: The project for requests: the one that was listed, even if the item has another.
        self.project_id = item.listed_project_id or ""
        self.wants_document = True
        #: The asset's URL or storage path, as sent by the platform; ``None`` if it is not requested.
        self.asset: str | None = None
        self.asset_path = ""
        self.asset_url = ""
        #: The error of the asset; raised after the document is saved.
        self.asset_error: DownloadError | None = None
        #: Its paths and saved files; the steps do not use them.
        self.target: Any = None
        self.saved: list[Any] = []
        self.error: CFPlatformError | None = None
        self.headers: dict[str, str] | None = None
        #: Size of the document in bytes, if known, and bytes reserved for it.
        self.size: int | None = None
        self.reserved = 0
        self.is_held = False
        self.index = -1
        self.space_id = ""
        self.path = ""
        self.url = ""
        self.is_signed = False
        #: Whether there is nothing to do.
        self.is_done = False
        self.renewals = 0


class Steps:
    """Runs the steps of the jobs of one run.

    Args:
        receive: Called in a worker with a job and the stream of its document.
        budget: Memory budget for prefetched documents; ``receive`` calls :meth:`reserve`.
        receive_asset: Called in a worker with a job whose asset is requested, a function that renews its signed URL
            (``None`` if it has none), and the run.
    """

    def __init__(
        self,
        calls: Transport,
        receive: Callable[[Job, ObjectStream], object],
        limits: Limits,
        *,
        ordered: bool = False,
        budget: MemoryBudget | None = None,
        receive_asset: Callable[[Job, Callable[[], str] | None, Run], object] | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self._calls = calls
        self._receive = receive
        self._receive_asset = receive_asset
        workers, patience, self._space_id = limits
        self._pool: Pool[Job] = Pool(
            workers,
            self._sign,
            SIGN_GROUP,
            # Enough to fetch one group while the next is annotated.
            window=2 * SIGN_GROUP + 4 * workers,
            concerns_all=_concerns_all,
            ordered=ordered,
            budget=budget,
            on_wait=on_wait,
        )
        self._run = Run(patience, self._pool.stop, on_wait)
        self.reserve = self._pool.reserve

    def run(self, jobs: Iterable[Job]) -> Generator[Job, None, None]:
        """Yield the jobs when they are finished; see :meth:`Pool.run`.

        Raises:
            CFPlatformError: If the key is rejected, the platform is down, or the disk is full.
        """
        return self._pool.run(jobs, self._begin)

    def _begin(self, job: Job) -> None:
        if job.is_done or job.error is not None:
            self._pool.finish(job)
        else:
            self._pool.submit(self._annotate, [job])

    def _annotate(self, jobs: list[Job]) -> None:
        """Determine the storage paths of the document and asset of a job."""
        (job,) = jobs
        on_the_web = job.asset is not None and job.asset.lower().startswith(("http://", "https://"))
        if job.wants_document:
            job.space_id, job.path = self._locate(job)
        elif not on_the_web:
            job.space_id = self._space_id or self._locate(job)[0]
        if on_the_web:
            job.asset_url = job.asset or ""
        elif job.asset is not None:
            try:
                _, job.asset_path = locate(job.asset, job.space_id, "asset")
            except DownloadError as error:
                job.asset_error = error.with_traceback(None)
        self._pool.submit_together(job)

    def _locate(self, job: Job) -> tuple[str, str]:
        annotation = fetch_annotation(self._calls, job.project_id, job.item.id, run=self._run)
        url = annotation.coco_results_url
        if url is None:
            raise DownloadError(
                f"The annotation of work item {job.item.id} has no COCO document: coco_results_url is missing."
            )
        return locate(url, self._space_id)

    def _sign(self, jobs: list[Job]) -> None:
        spaces = list(dict.fromkeys(job.space_id for job in jobs))
        if len(spaces) > 1:
            for space_id in spaces:
                self._pool.submit(self._sign, [job for job in jobs if job.space_id == space_id])
            return
        signed = sign(
            self._calls, spaces[0], [path for job in jobs for path in (job.path, job.asset_path) if path], self._run
        )
        ready = []
        for job in jobs:
            job.is_signed = True
            asset = signed[job.asset_path] if job.asset_path else job.asset_url
            if isinstance(asset, str):
                job.asset_url = asset
            else:
                job.asset_error = asset
            url = signed[job.path] if job.path else ""
            if isinstance(url, str):
                job.url = url
                ready.append(job)
            else:
                self._pool.fail(job, url)
        self._pool.submit_first(self._fetch, ready)

    def _fetch(self, jobs: list[Job]) -> None:
        (job,) = jobs
        try:
            if job.path:
                receive, renew = functools.partial(self._receive, job), functools.partial(self._renewed, job)
                self._calls.fetch(job.url, receive, headers=job.headers, renew=renew, run=self._run)
            if job.asset is not None and self._receive_asset is not None:
                if job.asset_error is not None:
                    raise job.asset_error
                sign_again = functools.partial(self._sign_again, job, job.asset_path) if job.asset_path else None
                self._receive_asset(job, sign_again, self._run)
            self._pool.finish(job)
        except OverBudgetError:
            self._pool.submit_first(self._fetch, jobs)

    def _renewed(self, job: Job, refusal: APIError) -> str | None:
        if not should_renew(refusal, job.renewals):
            return None
        job.renewals += 1
        job.url = self._sign_again(job, job.path)
        return job.url

    def _sign_again(self, job: Job, path: str) -> str:
        # Until the path is signed, errors are from the platform.
        job.is_signed = False
        url = sign(self._calls, job.space_id, [path], self._run)[path]
        job.is_signed = True
        if isinstance(url, str):
            return url
        raise url


def _concerns_all(job: Job, error: CFPlatformError) -> bool:
    """Return whether an error affects all items: key rejected, outage, destination, or out of sockets."""
    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        # From the storage, it affects one object only.
        return not job.is_signed
    return isinstance(error, (OutageError, DestinationError)) or (
        isinstance(error, APIConnectionError) and _OUT_OF_FILES in error.message
    )


def fetch_annotation(calls: Transport, project_id: str, work_item_id: str, *, run: Run = SINGLE) -> Annotation:
    """Fetch one annotation, whose metadata has the storage path of the COCO document."""
    path = http.path(
        "projects",
        params.object_id("project_id", project_id),
        "workItems",
        params.object_id("work_item_id", work_item_id),
        "annotations",
    )
    data = calls.get_json(path, [("format", "coco")], run=run)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The annotation of work item {work_item_id} is not a JSON object.", method="GET")
    return Annotation({"id": work_item_id, **data}, None, work_item_id)


# --- Storage paths to signed URLs, up to 1000 in one request ---------------------------------------------------------


def locate(url: str, space_id: str | None = None, what: str = "result") -> tuple[str, str]:
    """Split a storage path such as ``s3://bucket/spaces/<space id>/output/f.json`` into space ID and relative path.

    A path without a scheme is relative to the space. ``what`` is the kind of object in messages.

    Raises:
        DownloadError: If the path is in another space, or no space is known.
        UnsafePathError: If it points outside the space.
    """
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme not in ("s3", "gs"):
            raise DownloadError(f"The {what} has a {scheme}:// URL; only s3:// and gs:// can be signed.")
        # The first part is the bucket, which may itself be called "spaces".
        _, _, key = rest.partition("/")
        match = re.fullmatch(r"(?:.*?/)??spaces/([^/]+)/(.+)", key)
        if match is None:
            shown = blank(url)
            raise DownloadError(f"The {what}'s path {shown!r} has no space ID: 'spaces/<space id>/' is missing.")
        found, path = match.groups()
        if space_id is not None and found != space_id:
            raise DownloadError(
                f"space_id is {space_id!r}, but the {what} is in space {found!r}. Omit it and CF_SPACE_ID to "
                "detect the space.",
                parameter="space_id",
            )
    else:
        if space_id is None:
            raise DownloadError(
                f"The space of the {what} is unknown: its path is relative.",
                parameter="space_id",
                hint="Pass space_id=... or set CF_SPACE_ID.",
            )
        found, path = space_id, url.lstrip("/")
    if any(part in ("", ".", "..") for part in [found, *path.split("/")]) or not path.isprintable():
        raise UnsafePathError(f"The {what}'s path {blank(url)!r} points outside its space; it was not requested.")
    return found, path


def should_renew(error: APIError, renewals: int) -> bool:
    """Return whether a new signed URL may help: it has expired, or was refused for the first time."""
    if http.has_expired(error):
        return renewals < MAX_RENEWALS_EXPIRED
    return error.status_code == 403 and renewals < MAX_RENEWALS_REFUSED


def sign(calls: Transport, space_id: str, paths: Sequence[str], run: Run = SINGLE) -> dict[str, str | DownloadError]:
    """Return the signed URL of each path, or the error if there is none.

    Raises:
        CFPlatformError: If the platform refuses the request or cannot be reached.
    """
    signed: dict[str, str | DownloadError] = {}
    for group in params.chunks(list(dict.fromkeys(paths)), MAX_PATHS):
        signed.update(_sign_group(calls, space_id, group, run))
        missing = [path for path in group if path not in signed]
        if missing:
            signed.update(_sign_group(calls, space_id, missing, run))
        for path in missing:
            signed.setdefault(
                path,
                DownloadError(f"The platform returned no signed URL for {path!r}. The object may no longer exist."),
            )
    return signed


def signed_urls(calls: Transport, paths: Sequence[str], space_id: str | None) -> dict[str, str]:
    """Return the signed URL of each storage path, absolute or relative to the space.

    Raises:
        DownloadError: If a path cannot be signed; the first such error.
    """
    located = {path: locate(path, space_id, "object") for path in paths}
    urls = {
        (space, path): url
        for space in dict.fromkeys(space for space, _ in located.values())
        for path, url in sign(calls, space, [path for found, path in located.values() if found == space]).items()
    }
    signed: dict[str, str] = {}
    for path, place in located.items():
        url = urls[place]
        if not isinstance(url, str):
            raise url
        signed[path] = url
    return signed


def _sign_group(calls: Transport, space_id: str, paths: Sequence[str], run: Run) -> dict[str, str | DownloadError]:
    try:
        response: Any = calls.post_json(
            http.path("spaces", space_id, "signedurls"), {"paths": list(paths)}, is_repeatable=True, run=run
        )
    except APIError as error:
        if error.status_code not in _SPLIT_STATUSES:
            raise
        refusal = error.message
    else:
        entries = response.get("items") if isinstance(response, dict) else None
        if not isinstance(entries, list):
            raise InvalidResponseError("The response to a signing request has no list of items.")
        wanted = set(paths)
        # Matched by path, never by their order.
        return {
            entry["path"]: entry["signedUrl"]
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("path"), str)
            and entry["path"] in wanted
            and _is_url(entry.get("signedUrl"))
        }
    if len(paths) == 1:
        return {paths[0]: DownloadError(f"The platform refused to sign {paths[0]!r}: {refusal}")}
    # One bad path must not fail the others, and a limit may be lower than documented.
    middle = len(paths) // 2
    halves = paths[:middle], paths[middle:]
    return {path: url for half in halves for path, url in _sign_group(calls, space_id, half, run).items()}


def _is_url(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(urlsplit(value).scheme)
    except ValueError:
        return False
