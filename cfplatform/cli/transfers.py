"""``cfplatform download`` and ``cfplatform upload``."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeVar

import click

from ..client import Client
from ..exceptions import OutageError, RateLimitError, ServerError, TransportError
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
from .errors import FAILED, explain, message, reason, without_request, words
from .groups import completing
from .progress import UPLOAD, Reporter
from .text import Column, amount, listed, moment, rate

if TYPE_CHECKING:
    from ..resources.results import DownloadResult, DownloadSummary

#: Maximum number of failures that are listed.
NAMED_FAILURES = 10


@click.command()
@click.argument("destination", shell_complete=completing("dir"))
@with_filters
@with_workers(help="Items that are downloaded at the same time.")
@with_patience
@click.option("--overwrite", is_flag=True, help="Download every item, changed or not.")
@click.option("--assets", is_flag=True, help="Download the assets too, such as the images.")
@click.option("--raw", is_flag=True, help="Save documents as served, without setting info.asset_url.")
@click.option(
    "--state",
    metavar="FOLDER",
    shell_complete=completing("dir"),
    help="Local folder that records what is finished; required if DESTINATION is a URL.",
)
@click.option("--prune", is_flag=True, help="Remove the files of items that the platform no longer lists.")
@click.option("--dry-run", is_flag=True, help="Only show what would be downloaded and removed.")
@click.option("--limit", "max_items", type=click.IntRange(1), help="Maximum number of work items. Not with --prune.")
@click.option("--watch", type=Seconds(0.1), metavar="SECONDS", help="Repeat after this pause until Ctrl-C.")
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
    max_items: int | None,
    watch: float | None,
) -> int:
    """Download the annotations of a project.

    Each work item becomes DESTINATION/<batch name>/<work item id>.json, with --assets its image or video
    DESTINATION/<batch name>/assets/<work item id>.<extension>. Unchanged files are skipped. The
    same command resumes an interrupted download, and later downloads only what is new. TIME is a date, a date and
    time, or such as yesterday, 3h or 2d. Prints the figures of the run: into a pipe as tab-separated lines of name and
    figure; with --json as a line for each item, and a last one with the summary.

    With --watch it repeats until Ctrl-C. Each run prints a line: into a pipe tab-separated, with the time and the
    numbers of fetched, unchanged, failed and removed items; with --json the summary, below the items that were fetched
    or failed. After an outage it continues with the next run.

    DESTINATION may be a URL that fsspec knows, such as s3://bucket/labels. Its state is kept in the local folder that
    --state names.

    With --prune, files of items that the platform no longer lists are removed, unless they were changed locally.
    It cannot be used with filters. Add --dry-run to preview the changes.

    \b
    Examples:
      cfplatform download labels
      cfplatform download labels --assets
      cfplatform download labels --prune --dry-run
      cfplatform download s3://bucket/labels --state labels-state
      cfplatform download labels --batch-name "Street scenes" --workers 64
      cfplatform download labels --updated-from yesterday --watch 300
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
                max_items=max_items,
                progress=progress,
                **resolved(filters),
            )

        if watch is not None:
            _repeat(output, run, watch)
        summary = run(output.reporter())
    if output.as_json:
        for result in summary.results:
            output.json_line(_result_fields(result))
        output.json_line({"summary": summary_fields(summary)})
    elif not output.quiet:
        show_summary(output, summary, prune=prune, dry_run=dry_run)
    return report_failures(output, summary)


def _repeat(output: Output, run: Callable[[Reporter | None], DownloadSummary], pause: float) -> NoReturn:
    """Run a download again and again; only the first run shows its progress."""
    progress: Reporter | None = output.reporter()
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


def show_summary(output: Output, summary: DownloadSummary, *, prune: bool = False, dry_run: bool = False) -> None:
    """Print the figures of a summary; only they are data."""
    say = output.line if output.tables else output.note
    if output.tables:
        output.line()
    gone = [("Removed" if not dry_run else "Would be removed", f"{summary.pruned:,}")] if prune else []
    output.pairs(
        [
            ("Fetched" if not dry_run else "Would be fetched", f"{summary.successful:,}"),
            ("Skipped", f"{summary.skipped:,}"),
            ("Failed", f"{summary.failed:,}"),
            *gone,
            ("Bytes", f"{summary.bytes:,}"),
            ("Seconds", f"{summary.elapsed:.1f}"),
            ("Items/s", rate(summary.total_items, summary.elapsed)),
        ]
    )
    left = summary.unlisted - summary.pruned
    if left and prune and not summary.total_items:
        say(f"Kept, since the platform lists no work item at all: the files of {left:,} items.")
    elif left and prune:
        say(f"Kept, since somebody changed their files: {left:,} items that are not listed any more.")
    elif left:
        say(f"{left:,} items with files are no longer listed; --prune removes their files.")


def report_failures(output: Output, summary: DownloadSummary) -> int:
    """Print the failures, if any, and return the exit code."""
    if not summary.failed:
        return 0
    failures = (f"{result.item_id}: {reason(result.error)}" for result in summary.results if result.error)
    named = [] if output.as_json else listed(list(itertools.islice(failures, NAMED_FAILURES)), summary.failed)
    share = f"{summary.failed:,} of {summary.total_items:,}"
    output.error(f"{share} work items failed. Run the same command again to download only what is missing.", named)
    return FAILED


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


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completing("file"))
@click.option("--content-type", help="Media type of all files (default: guessed from each name).")
@with_workers(help="Files that are uploaded at the same time.")
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

    Prints for each file its path in the space, which "cfplatform work-items create" takes: on a terminal as a table;
    into a pipe as tab-separated lines of path, file and size; with --json as one object per line, where files that
    failed have an error. They are printed in the order given. The exit code is 1 if any failed.

    \b
    Examples:
      cfplatform upload street.jpg
      asset=$(cfplatform upload street.jpg | cut -f 1)
      cfplatform upload *.png --json | jq -r 'select(.error == null) | .path'
      cfplatform upload scan.raw --content-type application/octet-stream
    """
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
        sentence += f" {known} Run the command again with only these files, or wait longer with --patience."
    output.error(sentence, named)
    return FAILED


def _failure(upload: Upload, known: str) -> str:
    """Return the failed file and the reason; in an outage, which has one reason for all, only the file."""
    return upload.file if upload.error == known else sentence(upload.file, upload.error or "")


def sentence(file: str, error: str) -> str:
    """Return a failed file with the reason: an error of this machine names it, one of the platform does not know it."""
    return error if repr(file) in error else f"{file}: {error}"
