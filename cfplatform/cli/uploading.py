"""``cfplatform upload``: files to the storage of a space."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from .. import config
from ..client import Client
from ..console import FAILED, UPLOAD, Column, Output, amount, reason, words
from ..exceptions import OutageError
from .common import Options, opened, usual, with_output, with_patience, with_space
from .downloading import NAMED_FAILURES, WORKERS
from .groups import completing

_COLUMNS = (Column("Path"), Column("File", flexible=True), Column("Size", right=True))


class Upload(NamedTuple):
    """What became of one file, as it is printed.

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
@click.option("--content-type", help="The media type of all files; told from each name if omitted.")
@usual("--workers", type=WORKERS, default=config.DEFAULT_MAX_WORKERS, help="Files sent at the same time.")
@with_patience
@with_space
@with_output
def upload(
    output: Output,
    connection: Options,
    files: tuple[str, ...],
    content_type: str | None,
    workers: int,
    patience: float,
) -> int:
    """Upload files to the storage of the space.

    Prints for each file its path in the space, which "cfplatform work-items create" takes: on a terminal as a table;
    into a pipe, as each is finished, as tab-separated lines of path, file and size; with --json as one object a line,
    where files that failed have an error. The exit code is 1 if any failed.

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
                        if output.as_json:
                            yield failed[-1]
        except OutageError as error:
            # What was uploaded must not be uploaded again, so each file that was not is named.
            outage = error
            missing = [Upload(file, error=reason(error)) for file in left.elements()]
            failed.extend(missing)
            if output.as_json:
                yield from missing

    with opened(output, connection, max_workers=workers, patience=patience) as client:
        if output.tables:
            _show_together(output, finished(client), files)
        else:
            output.listing(_COLUMNS, finished(client), _row)
    return _report_failures(output, failed, len(files), outage)


def _show_together(output: Output, uploads: Iterator[Upload], files: Sequence[str]) -> None:
    """Print a table when all is done, since the bar is on the same terminal, and also when it is stopped."""
    done: list[Upload] = []
    try:
        done.extend(uploads)
    finally:
        places = {file: place for place, file in enumerate(files)}
        done.sort(key=lambda upload: places[upload.file])
        if done:
            output.listing(_COLUMNS, done, _row)


def _row(upload: Upload, in_table: bool) -> Sequence[str]:
    if in_table:
        # Of a long path the table would cut off the end, which tells files apart.
        return upload.path or "-", os.path.basename(upload.file), amount(upload.size)
    return upload.path or "-", upload.file, str(upload.size)


def _report_failures(output: Output, failed: Sequence[Upload], total: int, outage: OutageError | None) -> int:
    if not failed:
        return 0
    known = reason(outage) if outage is not None else ""
    named = [] if output.as_json else [_sentence(upload, known) for upload in failed[:NAMED_FAILURES]]
    if named and len(failed) > len(named):
        named.append(f"and {len(failed) - len(named):,} more")
    sentence = f"{len(failed):,} of {total:,} files could not be uploaded."
    if outage is not None:
        sentence += f" {known} Run the command again with only these files, or wait longer with --patience."
    output.error(sentence, named)
    return FAILED


def _sentence(upload: Upload, known: str) -> str:
    """Say which file failed and why; of an outage, which has one reason for all, only which."""
    if upload.error == known:
        return upload.file
    # An error of this machine names the file, one of the platform does not know it.
    error = upload.error or ""
    return error if repr(upload.file) in error else f"{upload.file}: {error}"
