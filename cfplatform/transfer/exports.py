"""Exports: create each at most once, wait for it, and download and verify its archive."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import archives, http, naming, params, progress
from ..archives import refuse_existing
from ..destination import local, remote
from ..exceptions import (
    CFPlatformError,
    ConflictError,
    DownloadError,
    ExportError,
    ExportFailedError,
    ExportTimeoutError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    OutageError,
    shown,
)
from ..http import SINGLE, Run, Transport
from ..params import WAIT_TIMEOUT, DatetimeLike
from ..resources import Export, ExportContent, ExportFormat, ExportStatus
from ..resources.results import ExportDownloadOptions, WaitOptions
from . import once, pagination, resumable

#: Maximum number of projects and of batches in an export (official client's documentation).
MAX_PROJECTS = 50
MAX_BATCHES = 100
#: Default maximum seconds between two polls.
POLL_INTERVAL = 5.0
#: Seconds before the second poll, and the growth factor of the waits.
FIRST_POLL = 1.0
POLL_GROWTH = 1.3
#: Minimum timeout of a poll in seconds, even if less time is left; ensures at least one poll.
POLL_TIMEOUT = 2.0

#: Maximum number of 409 responses while no export is listed as running.
MAX_UNSEEN_CONFLICTS = 5


def request_body(
    name: str,
    *,
    format: str,
    content: str | None,
    project_ids: Iterable[Any] | None,
    batch_ids: Iterable[Any] | None,
    dates: dict[str, DatetimeLike | None],
) -> dict[str, Any]:
    """Return the body of the request; refuse arguments that the platform would refuse or misinterpret."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidParameterError(f"name must be a non-empty string, not {shown(name)}.", parameter="name")
    body: dict[str, Any] = {"name": name.strip(), "format": _member("format", format, ExportFormat)}
    if content is not None:
        body["content"] = _member("content", content, ExportContent)
        if body["format"] == ExportFormat.COCO_JSON and body["content"] != ExportContent.ANNOTATION:
            raise InvalidParameterError(
                f"content {body['content']} cannot be exported as COCO_JSON.",
                parameter="content",
                hint="Pass format='JSON' or format='CSV'.",
            )
    projects = _ids("project_ids", project_ids, params.object_id, MAX_PROJECTS)
    batches = _ids("batch_ids", batch_ids, params.batch_id, MAX_BATCHES)
    if projects:
        body["projectIds"] = projects
    if batches:
        body["batchIds"] = [int(each) for each in batches]
    chosen = params.selection(params.WorkItemFilters(**dates))  # type: ignore[typeddict-item]
    return {**body, **dict(chosen.dates)}


def _member(name: str, value: Any, kind: type[ExportFormat] | type[ExportContent]) -> str:
    known = [member.value for member in kind]
    if not isinstance(value, str) or str.__str__(value) not in known:
        raise InvalidParameterError(f"{name} must be one of {', '.join(known)}, not {shown(value)}.", parameter=name)
    return str.__str__(value)


def _ids(name: str, ids: Iterable[Any] | None, check: Callable[[str, Any], str], most: int) -> list[str]:
    if ids is None:
        return []
    unique = params.unique(name, ids, check)
    if not unique:
        raise InvalidParameterError(
            f"{name} is empty, which the platform treats as no filter. Omit it to select everything.",
            parameter=name,
        )
    if len(unique) > most:
        raise InvalidParameterError(
            f"{name} has {len(unique)} IDs; the maximum for an export is {most}.", parameter=name
        )
    return unique


def _seconds(name: str, value: Any, least: float = 0.0) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= 366 * 24 * 3600:
        raise InvalidParameterError(f"{name} must be {least:g} or more seconds, not {shown(value)}.", parameter=name)
    return float(value)


def _bounds(options: WaitOptions | ExportDownloadOptions) -> tuple[float, float]:
    """Check the timeout and the poll interval, and return them."""
    return (
        _seconds("timeout", options.get("timeout", WAIT_TIMEOUT)),
        _seconds("poll_interval", options.get("poll_interval", POLL_INTERVAL), least=0.1),
    )


class Exports:
    """The exports of one space. ``patience`` applies to downloads."""

    def __init__(
        self, calls: Transport, space_id: str, make: Callable[[dict[str, Any]], Export], patience: float
    ) -> None:
        self._calls = calls
        self._space_id = space_id
        self._make = make
        self._patience = patience

    def _path(self, *parts: str) -> str:
        return http.path("spaces", self._space_id, "exports", *parts)

    def listed(self, kind: str | None, limit: int | None) -> Iterator[Export]:
        """Yield the exports, newest first."""
        query = [("limit", str(min(params.MAX_PAGE_SIZE, limit or params.MAX_PAGE_SIZE)))]
        if kind is not None:
            query.insert(0, ("format", _member("format", kind, ExportFormat)))
        pages = pagination.iterate_pages(lambda query: self._calls.get_json(self._path(), query), query, restart=True)
        return (self._make(data) for data in pagination.items(pages, limit=limit))

    def get(self, export_id: str, run: Run = SINGLE, within: float | None = None) -> Export:
        """Fetch one export, within a number of seconds if given."""
        return self._made(self._calls.get_json(self._path(export_id), run=run, within=within, is_essential=True))

    def delete(self, export_id: str) -> None:
        """Delete an export."""
        self._calls.request("DELETE", self._path(export_id))

    def _made(self, data: Any) -> Export:
        if not isinstance(data, dict) or not isinstance(data.get("exportId"), str):
            raise InvalidResponseError("The response is not a valid export: it has no exportId.")
        return self._make(data)

    # --- Creating --------------------------------------------------------------------------------------------

    def create(self, body: dict[str, Any], *, wait_for_running: bool, timeout: float) -> Export:
        """Create an export; see :meth:`~cfplatform.Client.create_export`."""
        deadline = time.monotonic() + _seconds("timeout", timeout)
        # Names need not be unique, so existing exports are recognized by their IDs.
        known = {export.id for export in self._newest()}

        def find() -> Export | None:
            return next((each for each in self._newest() if each.id not in known and each.name == body["name"]), None)

        creation = once.Once(lambda: self._made(self._calls.post_json(self._path(), body)), find)
        attempts = MAX_UNSEEN_CONFLICTS
        while True:
            try:
                return creation.send()
            except ConflictError as error:
                refusal = error.with_traceback(None)
            running = next((export for export in self._newest() if not export.is_final), None)
            attempts -= running is None
            self._wait_for_running(refusal, running, deadline if wait_for_running and attempts else 0.0)

    def _wait_for_running(self, refusal: ConflictError, running: Export | None, deadline: float) -> None:
        """Wait for the running export; raise the refusal if it is still running at the deadline."""
        left = deadline - time.monotonic()
        if left > 0:
            # Its result does not matter; if it does not end, the next refusal is raised.
            with contextlib.suppress(ExportError, NotFoundError):
                if running is not None:
                    self.wait(running.id, WaitOptions(timeout=left))
                else:
                    # It has just ended, or is about to.
                    SINGLE.sleep(min(FIRST_POLL, left))
            return
        if running is not None:
            # Replaces the server message, which may not name the export; the response still has it.
            known_as = f" (request ID {refusal.request_id})" if refusal.request_id else ""
            refusal.message = (
                f"{refusal.method} {refusal.url} failed with status 409. Export {running.id} ({running.name!r}) is "
                f"{running.status}, and a space runs one export at a time.{known_as}"
            )
            refusal.parameter = "wait_for_running"
            refusal.hint = "Wait for it with wait_for_export(), or pass wait_for_running=True."
            refusal.args = (refusal.message,)
        raise refusal

    def _newest(self) -> list[Export]:
        return list(self.listed(None, params.MAX_PAGE_SIZE))

    # --- Waiting ---------------------------------------------------------------------------------------------

    def wait(self, export_id: str, options: WaitOptions) -> Export:
        """Wait until an export is completed; see :meth:`~cfplatform.Client.wait_for_export`."""
        timeout, longest = _bounds(options)
        reporter = progress.reporter(options.get("progress"))
        deadline = time.monotonic() + timeout
        pause = min(FIRST_POLL, longest)
        on_wait = progress.Watch(self._calls.trouble, reporter)
        export: Export | None = None
        problem: CFPlatformError | None = None
        reporter.start(None)
        try:
            while True:
                try:
                    left = max(POLL_TIMEOUT, deadline - time.monotonic())
                    export = self.get(export_id, Run(left, on_wait=on_wait), left)
                except OutageError as error:
                    problem = error.with_traceback(None)
                    break
                except InvalidResponseError as error:
                    # For example an HTML page of a proxy; the next poll may succeed.
                    problem = error.with_traceback(None)
                else:
                    problem = None
                    reporter.advance(export.status or "", 0)
                    if export.is_final:
                        return _succeeded(export)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                SINGLE.sleep(min(pause, left))
                pause = min(pause * POLL_GROWTH, longest)
        finally:
            reporter.finish()
        state = export.status if export is not None else "in an unknown state"
        failed = f"; the last poll failed: {problem.message.rstrip('.')}" if problem else ""
        raise _with_export(
            ExportTimeoutError(
                f"Export {export_id} is {state} after {timeout:g} s{failed}. It continues on the platform.",
                parameter="timeout",
                hint=f"Call wait_for_export({export_id!r}) again, or pass a longer timeout.",
            ),
            export,
        )

    # --- Downloading -----------------------------------------------------------------------------------------

    def download(self, export_id: str, destination: str | os.PathLike[str], options: ExportDownloadOptions) -> Path:
        """Download an export; see :meth:`~cfplatform.Client.download_export`."""
        timeout, longest = _bounds(options)
        reporter = progress.reporter(options.get("progress"), counts_bytes=True)
        extract = options.get("extract", False)
        overwrite = options.get("overwrite", False)
        remote.refuse_url(destination)
        folder = local.Destination(local.prepare_destination(destination))
        run = Run(self._patience, on_wait=progress.Watch(self._calls.trouble, reporter))
        export = self.get(export_id, run)
        if options.get("wait", True) and not export.is_final:
            export = self.wait(export_id, WaitOptions(timeout=timeout, poll_interval=longest))
        _link(_succeeded(export))
        name = naming.safe_name(f"{export.name} {export.id}" if export.name else f"export {export.id}")
        target = folder.root / (name if extract else f"{name}.zip")
        if not overwrite and _is_there(target, folder=extract):
            return target
        if extract:
            refuse_existing(target)
        problem: CFPlatformError
        try:
            with folder.errors(name):
                self._save(export, folder, target, extract, reporter, run)
            return target
        except CFPlatformError as error:
            # Without its traceback, whose frames hold the signed URL.
            problem = error.with_traceback(None)
        raise problem

    def _save(
        self,
        export: Export,
        folder: local.Destination,
        target: Path,
        extract: bool,
        reporter: progress.ProgressReporter,
        run: Run,
    ) -> None:
        """Download, verify and save an archive; start again if an earlier run left damaged bytes."""

        def renew() -> str:
            return _link(self.get(export.id, run))

        while True:
            with contextlib.closing(resumable.Resumable(folder, f"export {export.id}", reporter)) as part:
                continued = part.position() > 0
                try:
                    resumable.fetch(self._calls, _link(export), part, renew, run=run, is_essential=True)
                finally:
                    reporter.finish()
                damage = _damage(part.path)
                # The state folder may have been removed; then the archive is fetched again.
                if damage is not None and not part.path.exists():
                    continued = True
                if damage is None and extract:
                    _extract(part.path, target)
                elif damage is None:
                    part.commit(target.name)
                part.discard()
            if damage is None:
                return
            # In a resumed download, damage can cause any of these errors.
            if not continued:
                raise damage

    def iter_members(
        self, export_id: str, pattern: str, destination: str | os.PathLike[str] | None
    ) -> Iterator[archives.ArchiveMember]:
        """Iterate over the files in an archive, which is downloaded when iteration starts."""
        if not isinstance(pattern, str):
            raise InvalidParameterError(
                f"pattern must be a string such as '*.json', not {shown(pattern)}.", parameter="pattern"
            )
        return self._members(export_id, pattern, destination)

    def _members(
        self, export_id: str, pattern: str, destination: str | os.PathLike[str] | None
    ) -> Iterator[archives.ArchiveMember]:
        with contextlib.ExitStack() as stack:
            folder = destination or stack.enter_context(tempfile.TemporaryDirectory(prefix="cfplatform-"))
            yield from archives.iter_members(self.download(export_id, folder, {}), pattern)


def _succeeded(export: Export) -> Export:
    if export.status == ExportStatus.FAILED:
        raise _with_export(
            ExportFailedError(
                f"Export {export.id} ({export.name!r}) failed: {export.error or 'no message from the platform'}. "
                "Fix the cause and create a new export."
            ),
            export,
        )
    return export


def _link(export: Export) -> str:
    url = export.download_url
    if export.status != ExportStatus.COMPLETED or not url:
        raise _with_export(
            ExportError(
                f"Export {export.id} is {export.status} and has no archive{'.' if export.is_final else ' yet.'}",
                parameter="wait",
                hint=None if export.is_final else "Omit wait=False, or try again later.",
            ),
            export,
        )
    return url


def _with_export(error: ExportError, export: Export | None) -> ExportError:
    error.export = export
    return error


def _extract(archive: Path, target: Path) -> None:
    try:
        archives.extract(archive, target)
    except DownloadError:
        # Another process may have extracted it first.
        if not _is_there(target, folder=True):
            raise


def _damage(path: Path) -> DownloadError | None:
    try:
        archives.verify(path)
    except DownloadError as error:
        return error.with_traceback(None)
    return None


def _is_there(target: Path, *, folder: bool) -> bool:
    """Return whether the archive or folder exists; both are written atomically."""
    found = target.is_dir() if folder else target.is_file()
    return found and not target.is_symlink()
