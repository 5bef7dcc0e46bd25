"""What commands share: their output, their options, and the client."""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import json
import logging
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import click
from click.shell_completion import CompletionItem

from .. import config, http, timestamps
from ..client import Client
from ..resources import WorkItemStatus
from . import profiles
from .errors import INTERRUPTED, PIPE_CLOSED, TERMINATED, explain
from .options import GLOBALS, SELECTION, SETTINGS, completing, option, usual, values
from .progress import DOWNLOAD, WAIT, LineReporter, Reporter, StateReporter, Watcher, Work
from .text import Column, clean, is_terminal, write_line

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
#: Values of ``--status``; the platform may have others.
_STATUSES = (*(each.value for each in WorkItemStatus), "any")
#: Seconds that the shell waits for names from the platform.
COMPLETION_TIMEOUT = 3.0
#: The notes of options, in the ``meta`` of the context.
_NOTES = "cfplatform.notes"
#: Values of options, under the names that the library has for them.
Options = dict[str, Any]


class HasDict(Protocol):
    """An object of the platform."""

    def as_dict(self) -> Mapping[str, Any]:
        """Return it under the platform's names."""
        ...


class Output:
    """Everything that one command prints: data on stdout, everything else on stderr.

    Text from a server is passed through :func:`~cfplatform.cli.text.clean`, and is never interpreted as markup.

    Args:
        as_json: Only JSON lines on stdout.
        quiet: Only data and errors.
        debug: Show tracebacks, and the log of the library and of urllib3 on stderr.
    """

    def __init__(self, *, as_json: bool, quiet: bool, debug: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._debug = debug
        self._reporter: Reporter | None = None
        # Shows the waits of single calls.
        self._lines: Reporter | None = None
        #: Whether stdout is a terminal that shows tables.
        self.tables = is_terminal(sys.stdout) and not (as_json or quiet)
        self._has_escaped = False
        self._prepare_streams()
        if debug:
            _log_to_stderr()

    def run(self, command: Callable[[], int | None]) -> int:
        """Run a command and return its exit code; an error becomes a sentence."""
        try:
            try:
                with _termination():
                    return command() or 0
            finally:
                _flush_stdout()
                if self._has_escaped:
                    encoding = sys.stdout.encoding
                    self.note(
                        f"stdout is {encoding}: other characters were escaped. Set PYTHONIOENCODING=utf-8 to keep them."
                    )
        except click.ClickException:
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            if isinstance(error, click.Abort):
                # An unanswered prompt is on this line.
                sys.stderr.write("\n")
            write_line(sys.stderr, f"Stopped. {self._reporter.stopped}" if self._reporter else "Stopped.")
            return TERMINATED if isinstance(error, _TerminatedError) else INTERRUPTED
        except BrokenPipeError:
            return PIPE_CLOSED
        except Exception as error:
            if self._debug:
                for line in traceback.format_exc().splitlines():
                    write_line(sys.stderr, line)
            sentence, code = explain(error)
            self.error(sentence)
            return code

    def _prepare_streams(self) -> None:
        """Make printing safe: no name fails in a limited encoding, and a warning is one line."""

        def escape(error: UnicodeError) -> tuple[str | bytes, int]:
            self._has_escaped = True
            return codecs.backslashreplace_errors(error)

        if isinstance(sys.stdout, io.TextIOWrapper):
            codecs.register_error("cfplatform.escape", escape)
            sys.stdout.reconfigure(errors="cfplatform.escape")
        warnings.showwarning = _show_warning

    def line(self, text: str = "") -> None:
        """Write a line of data."""
        write_line(sys.stdout, text)

    def json_line(self, value: Any) -> None:
        """Write a value as one line of JSON, in ASCII, which no terminal can misinterpret."""
        sys.stdout.write(json.dumps(value, default=str) + "\n")

    def note(self, text: str) -> None:
        """Write a note for the user; ``--quiet`` omits it."""
        if not self.quiet:
            write_line(sys.stderr, text)

    def error(self, text: str, details: Iterable[str] = ()) -> None:
        """Write an error line, and lines with details."""
        write_line(sys.stderr, f"Error: {text}")
        for detail in details:
            write_line(sys.stderr, f"  {detail}")

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Write names with their figures: aligned on a terminal, else as tab-separated lines."""
        if not self.tables:
            for name, figure in pairs:
                self.row((name, figure.replace(",", "")))
            return
        left, right = (max(map(len, texts)) for texts in zip(*pairs, strict=True))
        for name, figure in pairs:
            self.line(f"  {name:<{left}}  {figure:>{right}}")

    def listing(
        self, columns: Sequence[Column], resources: Iterable[HasDict], row: Callable[[Any, bool], Sequence[str]]
    ) -> None:
        """Write resources as they come: a table on a terminal, else tab-separated lines or JSON.

        ``row`` returns the cells of a resource, given whether a table will show them.
        """
        resources = self._touching(resources)
        if self.as_json:
            for resource in resources:
                self.json_line(resource.as_dict())
        elif self.tables:
            if not self._table(columns, (row(resource, True) for resource in resources)):
                self.note("Nothing to list.")
        else:
            for resource in resources:
                self.row(row(resource, False))

    def _touching(self, resources: Iterable[T]) -> Iterator[T]:
        for resource in resources:
            self.touch()
            yield resource

    def touch(self) -> None:
        """Note that the command has just shown something, or was not waiting for the platform."""
        if self._lines is not None:
            self._lines.touch()

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Write rows as a table on a terminal, below an empty line."""
        self.line()
        self._table(columns, rows)

    def _table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> bool:
        from .terminal import print_table

        return print_table(columns, ([clean(cell) for cell in row] for row in rows))

    def row(self, cells: Iterable[str]) -> None:
        """Write a tab-separated line."""
        sys.stdout.write("\t".join(map(clean, cells)) + "\n")

    def record(self, resource: HasDict, fields: Sequence[tuple[str, str]], cells: Sequence[str]) -> None:
        """Write one resource: its fields on a terminal, else the line that a listing would have for it."""
        if self.as_json:
            self.json_line(resource.as_dict())
        elif self.tables:
            width = max(len(name) for name, _ in fields)
            for name, value in fields:
                self.line(f"{name:<{width}}  {value}")
        else:
            self.row(cells)

    def findings(self, severity: str, code: str, findings: Sequence[tuple[str, str]]) -> None:
        """Write location and message of findings below their code on a terminal, below an empty line."""
        from .terminal import print_findings

        self.line()
        print_findings(severity, code, findings)

    def reporter(self, work: Work = DOWNLOAD) -> Reporter:
        """Return what shows the progress of some work on stderr."""
        kind: type[Reporter]
        if self.quiet:
            kind = Reporter
        elif not is_terminal(sys.stderr) or self._debug:
            kind = StateReporter if work is WAIT else LineReporter
        else:
            from .terminal import BarReporter, SpinnerReporter

            kind = SpinnerReporter if work is WAIT else BarReporter
        self._reporter = kind(sys.stderr, work)
        return self._reporter

    def end_progress(self) -> None:
        """Show no more progress; waits become lines."""
        if self._reporter is not None:
            self._reporter.close()
            self._reporter = None

    @contextlib.contextmanager
    def watching(self, client: Client) -> Iterator[None]:
        """Show the waits of a client on stderr: with the progress, if there is any, else as lines.

        Single calls get lines on a terminal too. A moving line would be garbled when their data is printed.
        """
        lines = self._lines = Reporter(sys.stderr) if self.quiet else LineReporter(sys.stderr)
        try:
            with Watcher(client._calls.trouble, client._calls.unanswered, lambda: self._reporter or lines):
                yield
        finally:
            if self._reporter is not None:
                self._reporter.close()


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def _terminate(*_: object) -> None:
    raise _TerminatedError


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, unless the process has another use for it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    write_line(sys.stderr, f"Warning: {message}")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name in ("cfplatform", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # Unwritten output is discarded, else the interpreter would report an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


# --- Options ----------------------------------------------------------------------------------------------------------


class Decorator(Protocol):
    """A decorator that adds options to a command."""

    def __call__(self, function: F, /) -> F:
        """Return the command with them."""
        ...


def json_object(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Read the value of an option that is a JSON object."""
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise click.BadParameter(f"{value!r} must be a JSON object such as '{{\"camera\": 7}}'.")
    return parsed


def _ids_of_file(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Read the IDs in a file: one per line, or the output of a listing."""
    if value is None or context.resilient_parsing:
        return None
    try:
        with click.open_file(value, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise click.BadParameter(f"{value!r} cannot be read: {reason}.") from None
    return [_id_of(line, number) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]


def _id_of(line: str, number: int) -> str:
    if not line.startswith("{"):
        return line.split("\t")[0].strip()
    try:
        found = json.loads(line).get("id")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise click.BadParameter(f'line {number} is not a JSON object with an "id".')
    return found


def _batch_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of batches, if the platform lists them soon."""
    found: list[str] = []

    def fetch() -> None:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = {name: context.params.get(name) for name in SETTINGS if name != "profile"}
            connection = profiles.completed(given, context.params.get("profile"), lambda text: None)
            with Client(**connection, retries=0, patience=0, timeout=COMPLETION_TIMEOUT) as client:
                found.extend(batch.name for batch in client.get_batches(limit=1000) if batch.name)

    # A server may respond slowly for longer than any timeout of a connection.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(COMPLETION_TIMEOUT)
    return values(list(found), incomplete)


def note_later(context: click.Context, text: str) -> None:
    """Have a note written as soon as the command has its output."""
    context.meta.setdefault(_NOTES, []).append(text)


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Read a time; one in this machine's zone is shown."""
    if value is None:
        return None
    try:
        sent, is_local = timestamps.from_person(value, is_end=str(parameter.name).endswith("_to"))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a time. Examples: 2026-11-30, '2026-11-30 14:00', 2026-11-30T14:00:00Z, yesterday, 3h."
        ) from None
    if is_local:
        note_later(context, f"{parameter.opts[0]} {value} means {sent} (local time).")
    return sent


_filter = functools.partial(option, section=SELECTION)
_time = functools.partial(_filter, metavar="TIME", callback=_moment)


class Seconds(click.FloatRange):
    """A time in seconds; the type of click accepts "nan" and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


#: How long a run waits for an outage to end.
with_patience = usual(
    "--patience",
    type=Seconds(0),
    metavar="SECONDS",
    default=int(http.DEFAULT_PATIENCE),
    help="Maximum time to wait for an outage to end.",
)

_DATES = {
    "created_at_from": _time(
        "--created-at-from", aliases=["--created-from"], help="Only items created at this time or later."
    ),
    "created_at_to": _time(
        "--created-at-to", aliases=["--created-to"], help="Only items created at this time or earlier."
    ),
    "updated_at_from": _time(
        "--updated-at-from", aliases=["--updated-from"], help="Only items changed at this time or later."
    ),
    "updated_at_to": _time(
        "--updated-at-to", aliases=["--updated-to"], help="Only items changed at this time or earlier."
    ),
}
_FILTERS = {
    "batch_ids": _filter(
        "--batch-id", "batch_ids", type=int, metavar="ID", multiple=True, help="Filter by batch ID (repeatable)."
    ),
    "batch_names": _filter(
        "--batch-name",
        "batch_names",
        metavar="NAME",
        multiple=True,
        shell_complete=_batch_names,
        help="Filter by batch name (repeatable).",
    ),
    "work_item_ids": _filter(
        "--work-item-id", "work_item_ids", metavar="ID", multiple=True, help="Filter by work item ID (repeatable)."
    ),
    "ids_of_file": _filter(
        "--work-item-ids",
        "ids_of_file",
        metavar="FILE",
        callback=_ids_of_file,
        shell_complete=completing("file"),
        help='File of work item IDs, one per line, or the output of "work-items list"; "-" reads stdin.',
    ),
    "status": _filter(
        "--status",
        metavar="STATUS",
        default=["COMPLETED"],
        show_default=True,
        multiple=True,
        shell_complete=lambda context, parameter, incomplete: values(_STATUSES, incomplete),
        help='Filter by status (repeatable); "any" for every status.',
    ),
    **_DATES,
    "metadata": _filter(
        "--metadata",
        metavar="JSON",
        callback=json_object,
        help="Only items whose metadata has these keys and values (filtered locally, after listing every item).",
    ),
}

#: A number of workers.
with_workers = functools.partial(
    usual,
    "--max-workers",
    aliases=["--workers"],
    type=click.IntRange(1, config.MAX_WORKERS_LIMIT),
    default=config.DEFAULT_MAX_WORKERS,
)


def _gathering(parameter: str, options: dict[str, Callable[[Any], Any]]) -> Decorator:
    """Add options to a command, which gets their values as one dict."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            gathered = {name: values.pop(name) for name in options}
            return function(**{parameter: gathered}, **values)

        for add in reversed(options.values()):
            command = add(command)
        return command  # type: ignore[return-value]

    return decorate


def with_output(function: Callable[..., int | None]) -> Callable[..., None]:
    """Add the output options; the command gets the output and returns the exit code."""

    @_gathering("options", GLOBALS)
    @functools.wraps(function)
    def command(options: dict[str, bool], **values: Any) -> None:
        output = Output(**options)
        for note in click.get_current_context().meta.pop(_NOTES, ()):
            output.note(note)
        click.get_current_context().exit(output.run(lambda: function(output=output, **values)))

    return command


def connected(*settings: str) -> Decorator:
    """Add the named options of :class:`~cfplatform.Client`, and ``--profile``, which provides the omitted ones."""

    def decorate(function: F) -> F:
        @_gathering("connection", {name: SETTINGS[name] for name in (*settings, "profile")})
        @functools.wraps(function)
        def command(connection: Options, **values: Any) -> Any:
            profile = connection.pop("profile")
            note = functools.partial(note_later, click.get_current_context())
            return function(connection=profiles.completed(connection, profile, note), **values)

        return command  # type: ignore[return-value]

    return decorate


with_connection: Decorator = connected("api_key", "base_url", "project_id", "space_id")
with_project: Decorator = connected("api_key", "base_url", "project_id")
with_space: Decorator = connected("api_key", "base_url", "space_id")
with_dates: Decorator = _gathering("dates", _DATES)


def with_filters(function: F) -> F:
    """Add the filters of work items."""

    @_gathering("filters", _FILTERS)
    @functools.wraps(function)
    def command(filters: Options, **values: Any) -> Any:
        found = filters.pop("ids_of_file")
        if found is not None:
            # An empty list, unlike an empty tuple, selects nothing.
            filters["work_item_ids"] = [*filters["work_item_ids"], *found]
        return function(filters=filters, **values)

    return command  # type: ignore[return-value]


@contextlib.contextmanager
def opened(output: Output, connection: Options, **settings: Any) -> Iterator[Client]:
    """Open a client, and show on stderr when it waits for the platform."""
    with Client(**connection, **settings) as client, output.watching(client):
        yield client


def resolved(filters: Options) -> Options:
    """Return filters as the library takes them: ``None`` for those that were not given."""
    given = {name: value or None if isinstance(value, tuple) else value for name, value in filters.items()}
    if any(status.strip().lower() == "any" for status in filters["status"]):
        given["status"] = None
    return given


def given(**options: Any) -> Options:
    """Return the options that were given; the library has a default for each of the others."""
    return {name: value for name, value in options.items() if value is not None}
