"""The steps of a download: annotate, sign, fetch. No step waits for all items to have passed the one before.

Each item costs a worker two round trips, and is signed together with about a hundred others; so with W workers and
latency L the steady rate is W / (2 L) items a second.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from .. import http, params
from ..destination import local
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

#: Annotated items that are signed together. Large enough that signing hardly counts, small enough that the URLs are
#: used soon: they may live for minutes only.
SIGN_GROUP = 100
#: Paths in one request, at the most (published reference).
MAX_PATHS = 1000

#: New signatures for one object: when its URL expired, and when it was refused for another reason.
MAX_RENEWALS_EXPIRED = 3
MAX_RENEWALS_REFUSED = 1

_TOO_MUCH = frozenset({400, 413, 422})

R = TypeVar("R")

_OUT_OF_FILES = os.strerror(errno.EMFILE)


class Limits(NamedTuple):
    """What bounds a run: workers, seconds that it waits for an outage, and the space, if not each annotation's."""

    workers: int
    patience: float
    space_id: str | None


class Job(Generic[R]):
    """One item under way; ``result`` or ``error`` is set when it is done."""

    def __init__(self, item: WorkItem) -> None:
        self.item = item
        #: The project to request it from: the one that was listed, whatever the item says.
        self.project_id = item.listed_project_id or ""
        self.wants_document = True
        #: The asset's URL or storage path, as the platform says; ``None`` if it is not wanted.
        self.asset: str | None = None
        self.asset_path = ""
        self.asset_url = ""
        #: Why there is no asset; raised after the document is saved.
        self.asset_error: DownloadError | None = None
        #: What the receiver needs to know; the steps do not look at it.
        self.target: Any = None
        self.result: R | None = None
        self.error: CFPlatformError | None = None
        self.headers: dict[str, str] | None = None
        #: Bytes that the document needs, where known, and those that are reserved for it.
        self.size: int | None = None
        self.reserved = 0
        self.is_held = False
        self.index = -1
        self.space_id = ""
        self.path = ""
        self.url = ""
        self.renewals = 0

    @property
    def is_done(self) -> bool:
        """Whether it is finished."""
        return self.result is not None or self.error is not None

    def fail(self, error: CFPlatformError) -> None:
        """Finish it with an error."""
        # Without its traceback, whose frames hold the job, its document and the client.
        self.error = error.with_traceback(None)
        self.result = None

    def take(self) -> R | None:
        """Return the result and drop it here, so that a document lives only as long as the caller keeps it."""
        result, self.result = self.result, None
        return result


class Steps(Generic[R]):
    """Takes jobs through the steps of one run.

    Args:
        receive: Called in a worker with a job and the stream of its object; returns the result.
        budget: Limits the documents that are fetched before they are taken; ``receive`` calls :meth:`reserve` for it.
        receive_asset: Called in a worker with a job whose asset is wanted, what renews its signed URL (``None`` where
            it has none), and the run; returns the result.
    """

    def __init__(
        self,
        calls: Transport,
        receive: Callable[[Job[R], ObjectStream], R],
        limits: Limits,
        *,
        ordered: bool = False,
        budget: MemoryBudget | None = None,
        receive_asset: Callable[[Job[R], Callable[[], str] | None, Run], R] | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self._calls = calls
        self._receive = receive
        self._receive_asset = receive_asset
        workers, patience, self._space_id = limits
        # Enough that one group is fetched while the next is annotated.
        window = 2 * SIGN_GROUP + 4 * workers
        self._pool: Pool[Job[R]] = Pool(workers, window=window, ordered=ordered, budget=budget, on_wait=on_wait)
        self._run = Run(patience, self._pool.stop, on_wait)
        self._signer = Signer(calls, self._run)
        self._to_sign = self._pool.group(SIGN_GROUP, self._sign, most=MAX_PATHS, first=min(workers, SIGN_GROUP))
        self.reserve = self._pool.reserve

    def run(self, jobs: Iterable[Job[R]]) -> Generator[Job[R], None, None]:
        """Yield the jobs when they are done; see :meth:`Pool.run`.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, the platform is away, or the disk is full.
        """
        return self._pool.run(jobs, self._begin)

    def _begin(self, job: Job[R]) -> None:
        if job.is_done:
            self._pool.finish(job)
        else:
            self._pool.submit(functools.partial(self._do, self._annotate, job))

    def _do(self, step: Callable[[Job[R]], None], job: Job[R]) -> None:
        """Take a job through a step; an error concerns this job, or all of them."""
        try:
            step(job)
        except (CFPlatformError, OSError) as error:
            problem = error if isinstance(error, CFPlatformError) else local.destination_error(error)
            if _concerns_all(problem):
                self._pool.abort(problem.with_traceback(None))
            else:
                self._fail(job, problem)

    def _fail(self, job: Job[R], error: CFPlatformError) -> None:
        job.fail(error)
        self._pool.finish(job)

    # --- Annotate --------------------------------------------------------------------------------------------

    def _annotate(self, job: Job[R]) -> None:
        """Find out where the document and the asset of a job are stored."""
        on_the_web = job.asset is not None and job.asset.lower().startswith(("http://", "https://"))
        try:
            if job.wants_document:
                job.space_id, job.path = self._locate(job)
            elif not on_the_web:
                job.space_id = self._space_id or self._locate(job)[0]
        except (AuthenticationError, PermissionDeniedError) as error:
            # The key is refused: every other item would be refused too.
            self._pool.abort(error.with_traceback(None))
            return
        if on_the_web:
            job.asset_url = job.asset or ""
        elif job.asset is not None:
            try:
                _, job.asset_path = locate(job.asset, job.space_id, "asset")
            except DownloadError as error:
                job.asset_error = error.with_traceback(None)
        self._pool.submit_together(self._to_sign, job)

    def _locate(self, job: Job[R]) -> tuple[str, str]:
        annotation = fetch_annotation(self._calls, job.project_id, job.item.id, run=self._run)
        url = annotation.coco_results_url
        if url is None:
            raise DownloadError(
                f"The annotation of work item {job.item.id} names no COCO document: no coco_results_url."
            )
        return locate(url, self._space_id)

    # --- Sign ------------------------------------------------------------------------------------------------

    def _sign(self, group: list[Job[R]]) -> None:
        for space_id in dict.fromkeys(job.space_id for job in group):
            self._sign_in_space(space_id, [job for job in group if job.space_id == space_id])

    def _sign_in_space(self, space_id: str, group: list[Job[R]]) -> None:
        try:
            signed = self._signer.sign(space_id, [path for job in group for path in (job.path, job.asset_path) if path])
        except CFPlatformError as error:
            if _concerns_all(error) or isinstance(error, (AuthenticationError, PermissionDeniedError)):
                self._pool.abort(error.with_traceback(None))
                return
            for job in group:
                self._fail(job, error)
            return
        ready = []
        for job in group:
            asset = signed[job.asset_path] if job.asset_path else job.asset_url
            if isinstance(asset, str):
                job.asset_url = asset
            else:
                job.asset_error = asset
            url = signed[job.path] if job.path else ""
            if isinstance(url, str):
                job.url = url
                ready.append((job, functools.partial(self._do, self._fetch, job)))
            else:
                self._fail(job, url)
        self._pool.submit_first(ready)

    # --- Fetch -----------------------------------------------------------------------------------------------

    def _fetch(self, job: Job[R]) -> None:
        try:
            if job.path:
                receive = functools.partial(self._receive, job)
                job.result = self._calls.fetch(job.url, receive, headers=job.headers, run=self._run)
        except OverBudgetError:
            self._pool.release(job)
            self._pool.submit_first([(job, functools.partial(self._do, self._fetch, job))])
            return
        except APIError as error:
            if not should_renew(error, job.renewals):
                raise
            job.renewals += 1
            self._pool.submit_together(self._to_sign, job, is_urgent=True)
            return
        if job.asset is not None and self._receive_asset is not None:
            if job.asset_error is not None:
                raise job.asset_error
            renew = functools.partial(self._sign_asset, job) if job.asset_path else None
            job.result = self._receive_asset(job, renew, self._run)
        self._pool.finish(job)

    def _sign_asset(self, job: Job[R]) -> str:
        url = self._signer.sign(job.space_id, [job.asset_path])[job.asset_path]
        if isinstance(url, str):
            return url
        raise url


def _concerns_all(error: CFPlatformError) -> bool:
    """Tell whether every other item would meet the same: nothing answers, nothing can be saved, no socket opened."""
    return isinstance(error, (OutageError, DestinationError)) or (
        isinstance(error, APIConnectionError) and _OUT_OF_FILES in error.message
    )


def fetch_annotation(calls: Transport, project_id: str, work_item_id: str, *, run: Run = SINGLE) -> Annotation:
    """Fetch one annotation, whose metadata says where the COCO document is stored."""
    path = http.path(
        "projects",
        params.object_id("project_id", project_id),
        "workItems",
        params.object_id("work_item_id", work_item_id),
        "annotations",
    )
    data = calls.get_json(path, [("format", "coco")], run=run)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The annotation of work item {work_item_id} is not an object.", method="GET")
    return Annotation({"id": work_item_id, **data}, None, work_item_id)


# --- Storage paths to signed URLs, up to 1000 in one request ---------------------------------------------------------


def locate(url: str, space_id: str | None = None, what: str = "result") -> tuple[str, str]:
    """Split a storage path such as ``s3://bucket/spaces/<space id>/output/f.json`` into space id and relative path.

    A path without a scheme is relative to the space already. ``what`` says in messages what is stored there.

    Raises:
        DownloadError: If the path is in another space, or names none and none is given.
        UnsafePathError: If it would lead out of the space.
    """
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme not in ("s3", "gs"):
            raise DownloadError(f"The {what} is stored at a {scheme}:// address; only s3:// and gs:// can be signed.")
        # The first part is the bucket, which may itself be called "spaces".
        _, _, key = rest.partition("/")
        match = re.fullmatch(r"(?:.*?/)??spaces/([^/]+)/(.+)", key)
        if match is None:
            shown = blank(url)
            raise DownloadError(f"The {what}'s path {shown!r} names no space: it has no part 'spaces/<space id>/...'.")
        found, path = match.groups()
        if space_id is not None and found != space_id:
            raise DownloadError(
                f"space_id is {space_id!r}, but the {what} lies in space {found!r}. Leave it out (and CF_SPACE_ID "
                "too): the space is detected.",
                parameter="space_id",
            )
    else:
        if space_id is None:
            raise DownloadError(
                f"The {what}'s path names no space.",
                parameter="space_id",
                hint="Pass space_id=... or set CF_SPACE_ID.",
            )
        found, path = space_id, url.lstrip("/")
    if any(part in ("", ".", "..") for part in [found, *path.split("/")]) or not path.isprintable():
        raise UnsafePathError(f"The {what}'s path {blank(url)!r} would lead out of its space; nothing was asked for.")
    return found, path


def should_renew(error: APIError, renewals: int) -> bool:
    """Tell whether a new signature may help: the URL has expired, or was refused for the first time."""
    if http.has_expired(error):
        return renewals < MAX_RENEWALS_EXPIRED
    return error.status_code == 403 and renewals < MAX_RENEWALS_REFUSED


class Signer:
    """Asks for signed URLs; the answers are matched by path, never by their order."""

    def __init__(self, calls: Transport, run: Run = SINGLE) -> None:
        self._calls = calls
        self._run = run

    def sign(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        """Return for each path its signed URL, or the reason why there is none.

        Raises:
            CFPlatformError: If the platform cannot be asked at all.
        """
        unique = list(dict.fromkeys(paths))
        signed: dict[str, str | DownloadError] = {}
        for group in params.chunks(unique, MAX_PATHS):
            signed.update(self._sign_group(space_id, group))
            missing = [path for path in group if path not in signed]
            if missing:
                signed.update(self._sign_group(space_id, missing))
        for path in unique:
            if path not in signed:
                signed[path] = DownloadError(f"The platform signed no URL for {path!r}. The object may be gone.")
        return signed

    def _sign_group(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        try:
            return self._ask(space_id, paths)
        except APIError as error:
            if error.status_code not in _TOO_MUCH:
                raise
            refusal = error
        if len(paths) == 1:
            return {paths[0]: DownloadError(f"The platform refused to sign {paths[0]!r}: {refusal.message}")}
        # One bad path must not take the others with it, and a limit may be lower than documented.
        middle = len(paths) // 2
        return {**self._sign_group(space_id, paths[:middle]), **self._sign_group(space_id, paths[middle:])}

    def _ask(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        answer: Any = self._calls.post_json(
            http.path("spaces", space_id, "signedurls"),
            {"paths": list(paths)},
            is_repeatable=True,
            run=self._run,
        )
        entries = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise InvalidResponseError("The answer to a signing request has no list of items.")
        asked = set(paths)
        return {
            entry["path"]: entry["signedUrl"]
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("path"), str)
            and entry["path"] in asked
            and _is_url(entry.get("signedUrl"))
        }


def _is_url(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(urlsplit(value).scheme)
    except ValueError:
        return False
