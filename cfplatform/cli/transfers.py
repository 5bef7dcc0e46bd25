"""``cfplatform download`` and ``cfplatform upload``."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shlex
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeVar

import click

from ..client import Client
from ..exceptions import CFPlatformError, NotFoundError, OutageError, RateLimitError, ServerError, TransportError
from ..resources import WorkItemStatus
from . import matching
from .common import (
    HasDict,
    Options,
    Output,
    Seconds,
    opened,
    resolved,
    with_connection,
    with_filters,
    with_output,
    with_patience,
    with_space,
    with_workers,
)
from .errors import FAILED, cause, explain, hint, message, without_request, words
from .groups import command
from .matching import with_allow_empty
from .options import SELECTION, completing, option
from .progress import CHECK, DOWNLOAD, UPLOAD, Reporter
from .text import Column, amount, clock, counted, listed, moment

if TYPE_CHECKING:
    from ..resources.results import DownloadResult, DownloadSummary

#: Maximum number of failures that are listed, one of each kind, and of failed work items whose status is fetched.
NAMED_FAILURES = 10
LOOKED_AT = 1000


@command()
@click.argument("destination", shell_complete=completing("dir"))
@with_filters
@with_workers(help="Maximum number of concurrent downloads, 1 to 256.")
@with_patience
@option("--overwrite", is_flag=True, help="Download every item again, even if it is unchanged.")
@option("--assets", is_flag=True, help="Download the images and videos too.")
@option("--raw", is_flag=True, help="Save documents unchanged, without setting info.asset_url.")
@option(
    "--state",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Local folder for the state of the download; required if DESTINATION is a URL.",
)
@option("--prune", is_flag=True, help="Remove files of items that the platform no longer lists.")
@option("--dry-run", is_flag=True, help="Show what would be downloaded and removed.")
@option("--limit", type=click.IntRange(1), section=SELECTION, help="Maximum number of work items.")
@option("--watch", type=Seconds(0.1), metavar="SECONDS", help="Repeat with this pause, until Ctrl-C.")
@with_allow_empty
@with_connection
@with_output
def download(
    output: Output,
    connection: Options,
    filters: Options,
    destination: str,
    max_workers: int,
    patience: float,
    overwrite: bool,
    assets: bool,
    raw: bool,
    state: str | None,
    prune: bool,
    dry_run: bool,
    limit: int | None,
    watch: float | None,
    allow_empty: bool,
) -> int:
    """Download the annotations of a project.

    Saves the annotations of each work item as DESTINATION/<batch name>/<work item id>.json and, with --assets, its
    image or video as DESTINATION/<batch name>/assets/<work item id>.<extension>. Unchanged files are skipped. The same
    command resumes an interrupted download, and later downloads only new and changed items.

    Prints the number of fetched, unchanged, failed and removed items: a sentence on a terminal; tab-separated lines in
    a pipe; with --json a line for each item, and the summary in the last line.

    --watch repeats the download until Ctrl-C. Each run prints one line; in a pipe, the time and the number of
    fetched, unchanged, failed and removed items. With --json, each run prints the fetched and failed items and the
    summary. An outage ends only the current run.

    --prune removes the files of items that the platform no longer lists, unless they were changed locally. It cannot be
    combined with filters or --limit. Preview it with --dry-run.

    DESTINATION may be a URL that fsspec supports, such as s3://bucket/labels. TIME is a date, a date and time, or a
    relative time such as yesterday, 3h or 2d.

    \b
    Examples:
      cfplatform download labels
      cfplatform download labels --assets
      cfplatform download labels --prune --dry-run
      cfplatform download s3://bucket/labels --state labels-state
      cfplatform download labels --batch-name "Street scenes" --max-workers 64
      cfplatform download labels --updated-at-from yesterday --watch 300
      cfplatform download labels --work-item-ids ids.txt
      cfplatform download labels --json | jq -r 'select(.error) | .item_id'
    """
    with opened(output, connection, max_workers=max_workers, patience=patience) as client:

        def run(progress: Reporter | None) -> DownloadSummary:
            return client.download_project(
                destination=destination,
                overwrite=overwrite,
                assets=assets,
                inject_asset_url=not raw,
                state=state,
                prune=prune,
                dry_run=dry_run,
                limit=limit,
                progress=progress,
                **resolved(filters),
            )

        progress = output.reporter(CHECK if dry_run else DOWNLOAD)
        if watch is not None:
            _repeat(output, run, watch, progress)
        summary = run(progress)
        if output.as_json:
            for result in summary.results:
                output.json_line(_result_fields(result))
            output.json_line({"summary": summary_fields(summary)})
        elif not (output.quiet or output.tables):
            show_figures(output, summary)
        if summary.total_items and not summary.failed:
            output.note(closing(summary, destination, dry_run=dry_run))
        for line in _left(summary, prune=prune):
            output.note(line)
        failed = report_failures(output, summary, functools.partial(matching.statuses, client))
        return matching.check(output, client, filters, summary.total_items, allow_empty=allow_empty) or failed


def _repeat(
    output: Output,
    run: Callable[[Reporter | None], DownloadSummary],
    pause: float,
    progress: Reporter | None,
) -> NoReturn:
    """Run a download again and again; only the first run shows its progress."""
    while True:
        try:
            summary = run(progress)
        except (TransportError, RateLimitError, ServerError) as error:
            output.error(f"{explain(error)[0]} The next run is in {pause:g} s.")
        else:
            _show_run(output, summary)
            report_failures(output, summary)
        output.end_progress()
        progress = None
        time.sleep(pause)
        output.touch()


def _show_run(output: Output, summary: DownloadSummary) -> None:
    figures = (summary.successful, summary.skipped, summary.failed, summary.pruned)
    now = datetime.now(timezone.utc)
    if output.as_json:
        for result in summary.results:
            if result.outcome != "skipped":
                output.json_line(_result_fields(result))
        output.json_line({"summary": summary_fields(summary)})
    elif output.tables:
        names = ("fetched", "unchanged", "failed", "removed")
        shown = ", ".join(f"{figure:,} {name}" for figure, name in zip(figures, names, strict=True))
        output.line(f"{now.astimezone():%H:%M:%S}  {shown}")
    elif not output.quiet:
        output.row((moment(now, False), *map(str, figures)))
    sys.stdout.flush()


def _result_fields(result: DownloadResult) -> dict[str, Any]:
    # What this run wrote is not kept with the results.
    fields = {name: value for name, value in vars(result).items() if name != "written"}
    return {**fields, "error": words(result.error) if result.error else None}


def summary_fields(summary: DownloadSummary) -> dict[str, Any]:
    """Return the figures of a summary."""
    return {name: value for name, value in vars(summary).items() if name not in ("run", "state")}


def show_figures(output: Output, summary: DownloadSummary) -> None:
    """Print the figures of a summary as tab-separated lines."""
    figures = {
        "fetched": summary.successful,
        "unchanged": summary.skipped,
        "failed": summary.failed,
        "removed": summary.pruned,
        "bytes": summary.bytes,
        "seconds": f"{summary.elapsed:.1f}",
    }
    for name, figure in figures.items():
        output.row((name, str(figure)))


def closing(summary: DownloadSummary, destination: str, *, dry_run: bool = False) -> str:
    """Return the sentence that ends a run without failures: what was done, where it is, and the next step."""
    path = shlex.quote(destination)
    parts = [f"{summary.skipped:,} unchanged"] if summary.skipped else []
    parts += [f"{summary.pruned:,} {'would be removed' if dry_run else 'removed'}"] if summary.pruned else []
    others = f" ({', '.join(parts)})" if parts else ""
    fetched = counted(summary.successful, "work items")
    if not summary.successful and not summary.pruned:
        return f"All {counted(summary.skipped, 'work items')} in {path} are up to date."
    if dry_run:
        return f"Would download {fetched} to {path}{others}; run the command without --dry-run to do it."
    following = "" if "://" in destination else f"; next: cfplatform validate {path}"
    elapsed = clock(summary.elapsed) if summary.elapsed >= 60 else f"{summary.elapsed:.1f} s"
    size = f"{amount(summary.bytes)} in {elapsed}"
    return f"Downloaded {fetched} to {path}, {size}{others}{following}"


def _left(summary: DownloadSummary, *, prune: bool) -> list[str]:
    left = summary.unlisted - summary.pruned
    if left and prune and not summary.total_items:
        return [f"Kept the files of {counted(left, 'items')}: the platform lists no work items at all."]
    if left and prune:
        return [f"Kept the files of {counted(left, 'items')} no longer listed: the files were changed locally."]
    are = "is" if left == 1 else "are"
    return (
        [f"{counted(left, 'items')} with local files {are} no longer listed; --prune removes the files."]
        if left
        else []
    )


def no_statuses(_: Iterable[str]) -> dict[str, str]:
    """Return no statuses, for callers without a connection to the platform."""
    return {}


def report_failures(
    output: Output, summary: DownloadSummary, statuses: Callable[[Iterable[str]], dict[str, str]] = no_statuses
) -> int:
    """Print the failures, equal ones together, and return the exit code; ``statuses`` are those of items by ID."""
    if not summary.failed:
        return 0
    failures = (result for result in summary.results if result.error)
    groups = Failures("work items")
    if not output.as_json:
        _group(groups, list(itertools.islice(failures, LOOKED_AT)), statuses)
        for each in failures:
            groups.add(each.item_id, each.error)
    share = f"{summary.failed:,} of {counted(summary.total_items, 'work items')}"
    advice = "Run the same command again to download only what is missing."
    output.error(f"{share} failed. {advice}", groups.lines())
    return FAILED


def _group(
    groups: Failures, results: Sequence[DownloadResult], statuses: Callable[[Iterable[str]], dict[str, str]]
) -> None:
    """Add failures to their groups; what was not found may be in review."""
    missing = [each.item_id for each in results if isinstance(each.error, NotFoundError)]
    known: dict[str, str] = {}
    if missing:
        with contextlib.suppress(CFPlatformError):
            known = statuses(missing)
    for each in results:
        text = None
        if isinstance(each.error, NotFoundError) and (status := known.get(each.item_id.lower())) is not None:
            is_completed = status == WorkItemStatus.COMPLETED
            text = cause(each.error) if is_completed else f"No annotation yet: the status is {status}."
        groups.add(each.item_id, each.error, text)


class Failures:
    """Failures with a count for equal ones, and the first one of each kind.

    Args:
        unit: What failed, in the plural.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._first: dict[str, tuple[str, str]] = {}
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, name: str, error: CFPlatformError | None, text: str | None = None) -> None:
        """Add one, with its own text or that of the error; beyond some kinds, the others are only counted."""
        text = text or (f"{cause(error)} {hint(error) or ''}".rstrip() if error is not None else "unknown")
        kind = text.replace(name, "")
        if kind not in self._first and len(self._first) == NAMED_FAILURES:
            self._others += 1
            return
        self._first.setdefault(kind, (name, text))
        self._counts[kind] += 1

    def lines(self) -> list[str]:
        """Return a line for each kind, the most frequent one first."""
        lines = []
        for kind, count in self._counts.most_common():
            name, text = self._first[kind]
            lines.append(f"{counted(count, self._unit)}: {text} (first: {name})" if count > 1 else f"{name}: {text}")
        return [*lines, *([f"and {self._others:,} more"] if self._others else [])]


_COLUMNS = (Column("Path"), Column("File", flexible=True), Column("Size", right=True, optional=1))


class Upload(NamedTuple):
    """The result of one file, as it is printed.

    Attributes:
        file: The file, as it was named.
        path: Its path in the space; ``None`` if it failed.
        size: Its bytes; 0 if it failed.
        content_type: The media type that it was stored with; ``None`` if it failed.
        error: Why it failed, else ``None``.
    """

    file: str
    path: str | None = None
    size: int = 0
    content_type: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return self._asdict()


@command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completing("file"))
@option("--content-type", metavar="TYPE", help="Media type of all files (default: guessed from each name).")
@with_workers(help="Maximum number of concurrent uploads, 1 to 256.")
@with_patience
@with_space
@with_output
def upload(
    output: Output,
    connection: Options,
    files: tuple[str, ...],
    content_type: str | None,
    max_workers: int,
    patience: float,
) -> int:
    """Upload files to the storage of a space.

    Prints the storage path of each file, for "cfplatform work-items create", in the order given: a table on a terminal;
    tab-separated lines of path, file and size in a pipe; one object per line with --json, with an error for files that
    failed. The exit code is 1 if any file failed.

    \b
    Examples:
      cfplatform upload street.jpg
      asset=$(cfplatform upload street.jpg | cut -f 1)
      cfplatform upload *.png --json | jq -r 'select(.error == null) | .path'
      cfplatform upload scan.raw --content-type application/octet-stream
    """
    uploaded: dict[str, int] = {}
    failed: list[Upload] = []
    outage: OutageError | None = None

    def finished(client: Client) -> Iterator[Upload]:
        nonlocal outage
        left = Counter(files)
        results = client.upload_files(files, content_type=content_type, progress=output.reporter(UPLOAD))
        try:
            with contextlib.closing(results):
                for result in results:
                    left[str(result.file)] -= 1
                    done = result.uploaded
                    if done is not None:
                        uploaded[done.path] = done.size
                        yield Upload(str(result.file), done.path, done.size, done.content_type)
                    else:
                        error = words(result.error) if result.error else "unknown"
                        failed.append(Upload(str(result.file), error=error))
                        yield failed[-1]
        except OutageError as error:
            # Uploaded files must not be uploaded again, so each failed one is listed.
            outage = error
            missing = [Upload(file, error=_cause(error)) for file in left.elements()]
            failed.extend(missing)
            yield from missing

    with opened(output, connection, max_workers=max_workers, patience=patience) as client:
        show_as_finished(output, _COLUMNS, finished(client), _row, files)
    if not failed:
        size = amount(sum(uploaded.values()))
        path = next(iter(uploaded)) if len(uploaded) == 1 else "PATH"
        output.note(f"Uploaded {counted(len(files), 'files')}, {size}; next: cfplatform work-items create {path}")
    return _report_failed_uploads(output, failed, len(files), outage)


class HasFile(HasDict, Protocol):
    """The result of one file."""

    @property
    def file(self) -> str:
        """The file, as it was named."""
        ...

    @property
    def error(self) -> object:
        """Why it failed, else ``None``."""
        ...


R = TypeVar("R", bound=HasFile)


def show_as_finished(
    output: Output,
    columns: Sequence[Column],
    results: Iterator[R],
    row: Callable[[R, bool], Sequence[str]],
    files: Sequence[str],
) -> None:
    """Print results in the order of the files, failed ones only as JSON.

    Into a pipe, each is printed as soon as all before it are. A table is printed when all is done or stopped, since the
    bar is on the same terminal.
    """
    left = deque(files)
    finished: defaultdict[str, list[R]] = defaultdict(list)

    def show(ready: Iterable[R]) -> None:
        shown = [result for result in ready if output.as_json or result.error is None]
        if shown:
            output.listing(columns, shown, row)

    def next_ones(*, with_gaps: bool) -> Iterator[R]:
        while left and (with_gaps or finished[left[0]]):
            found = finished[left.popleft()]
            if found:
                yield found.pop(0)
        if with_gaps:
            yield from itertools.chain.from_iterable(finished.values())

    try:
        for result in results:
            finished[result.file].append(result)
            if not output.tables:
                show(next_ones(with_gaps=False))
    finally:
        show(next_ones(with_gaps=True))


def _row(upload: Upload, in_table: bool) -> Sequence[str]:
    if in_table:
        # Of a long path the table would cut off the end, which distinguishes files.
        return upload.path or "-", os.path.basename(upload.file), amount(upload.size)
    return upload.path or "-", upload.file, str(upload.size)


def _cause(outage: OutageError) -> str:
    """Return the message. The usual advice, to run the command again, would upload finished files twice."""
    return without_request(outage, message(outage))


def _report_failed_uploads(output: Output, failed: Sequence[Upload], total: int, outage: OutageError | None) -> int:
    if not failed:
        return 0
    known = _cause(outage) if outage is not None else ""
    named = [] if output.as_json else listed([_failure(each, known) for each in failed[:NAMED_FAILURES]], len(failed))
    sentence = f"{len(failed):,} of {total:,} files could not be uploaded."
    if outage is not None:
        sentence += f" {known} Run the command again with only these files, or raise --patience."
    output.error(sentence, named)
    return FAILED


def _failure(upload: Upload, known: str) -> str:
    """Return the failed file and the reason; in an outage, which has one reason for all, only the file."""
    return upload.file if upload.error == known else sentence(upload.file, upload.error or "")


def sentence(file: str, error: str) -> str:
    """Return a failed file with the reason: an error of this machine names it, one of the platform does not know it."""
    return error if repr(file) in error else f"{file}: {error}"
