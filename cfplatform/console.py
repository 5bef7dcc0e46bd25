"""What the command line shows: rows, progress, messages, and the sentence and exit code of each error.

Data goes to stdout and everything else to stderr. Whatever came from a server passes :func:`clean` and is never read
as markup. rich is imported only where a terminal shows a table or a bar.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import click

from .exceptions import (
    APIError,
    APITimeoutError,
    AuthenticationError,
    CFPlatformError,
    ConfigurationError,
    InvalidParameterError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    server_words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task
    from rich.text import Text

    from .resources import Resource

#: Exit codes: some items or the platform failed, the command was wrong, Ctrl-C, the reader of stdout went away.
FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141

#: Rows that are laid out together on a terminal, so that a long listing appears while it is read.
ROWS_AT_ONCE = 100
#: Blanks between the columns of a table.
GAP = 2
#: Seconds between two updates of the bar, and between two lines where there is no terminal.
BAR_INTERVAL = 0.05
LINE_INTERVAL = 10.0
#: Characters that the bar is long at the most; beside it there must be room for the figures.
BAR_WIDTH = 30


#: What is said of each class of errors, and the exit code; the first line that fits is used. ``{words}`` stands for the
#: words of the error, ``{answer}`` for the status and the words of the server.
EXPLANATIONS: tuple[tuple[type[Exception], str, int], ...] = (
    (ConfigurationError, "{words}", USAGE),
    (InvalidParameterError, "{words}", USAGE),
    (AuthenticationError, "The key was refused ({answer}). Check --api-key or CF_API_KEY, and --base-url.", FAILED),
    (PermissionDeniedError, "The API key may not do this ({answer}). Check --project-id and --space-id.", FAILED),
    (RateLimitError, "Too many requests ({answer}). Wait a while, or use fewer --workers.", FAILED),
    (ServerError, "The platform had a fault ({answer}). Run the same command again later.", FAILED),
    (APITimeoutError, "The platform did not answer in time. Run the same command again later.", FAILED),
    (CFPlatformError, "{words}", FAILED),
    (OSError, "{words}", FAILED),
    (Exception, "Unexpected {kind}: {words}. Run it with --debug and report what it shows.", FAILED),
)

#: What the library says of calls, said of commands.
_PHRASES = (
    (" to the call or to Client", ""),
    (", or pass allow_insecure_http=True if you are sure", ""),
    ("pass verify='path/to/ca.pem' or set", "set"),
    ("Check proxies= and the proxy variables", "Check the proxy variables"),
    ("the same call again", "the same command again"),
    ("status must be a text such as 'COMPLETED', or None", "--status must be a text such as 'COMPLETED', or 'any'"),
)
_ARGUMENT = re.compile(
    r"\b(?:[Tt]he )?(api_key|base_url|project_id|space_id|max_workers|batch_ids?|work_item_ids|created_at_from|"
    r"created_at_to|updated_at_from|updated_at_to)\b(?: argument|=\.\.\.)?"
)


def clean(text: str) -> str:
    """Return a text that cannot drive a terminal: white space becomes a blank, what is not printable becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text)


def words(error: BaseException) -> str:
    """Return what an error says, in the words of the command line."""
    if isinstance(error, OSError) and not isinstance(error, CFPlatformError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}." if error.filename else f"{error.strerror}."
    text = str(error)
    for phrase, replacement in _PHRASES:
        text = text.replace(phrase, replacement)
    if isinstance(error, (ConfigurationError, InvalidParameterError, Warning)):
        text = _ARGUMENT.sub(lambda found: _option(found.group(1)), text)
    return text


def reason(error: CFPlatformError) -> str:
    """Return what an error says, without the request that it speaks of."""
    text = words(error)
    for prefix in (f"{error.method} {error.url} failed with ", f"{error.method} {error.url}: "):
        text = text.removeprefix(prefix)
    return text


def _option(argument: str) -> str:
    """Return the option that stands for an argument, such as --created-from for created_at_from."""
    name = argument.removeprefix("max_").replace("_at_", "_").replace("_ids", "_id")
    return f"--{name.replace('_', '-')}"


def explain(error: Exception) -> tuple[str, int]:
    """Return the sentence for an error, and the exit code."""
    sentence, code = next((sentence, code) for kind, sentence, code in EXPLANATIONS if isinstance(error, kind))
    return sentence.format(words=words(error), answer=_answer(error), kind=type(error).__name__), code


def _answer(error: Exception) -> str:
    if not isinstance(error, APIError) or error.response is None:
        return ""
    said = server_words(error.response.text, error.response.headers.get("content-type", ""))
    parts = (f"status {error.status_code}", said, f"request id {error.request_id}" if error.request_id else "")
    return ", ".join(filter(None, parts))


class Reporter:
    """Counts what is finished, and shows nothing; the reporters that show something extend it."""

    #: Seconds between two looks at the figures.
    interval = math.inf

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total: int | None = None
        self._done = self._failed = self._bytes = 0
        self._began: float | None = None
        self._shown = 0.0

    def start(self, total: int | None) -> None:
        """Remember the total."""
        self._total = total
        self._began = self._shown = time.monotonic()

    def advance(self, outcome: str, size: int) -> None:
        """Count an item; show the figures if the last look is old enough."""
        self._done += 1
        self._failed += outcome == "failed"
        self._bytes += size if outcome == "downloaded" else 0
        now = time.monotonic()
        if now - self._shown >= self.interval:
            self._shown = now
            self._show()

    def finish(self) -> None:
        """Show the last figures, if the work ever began."""
        if self._began is not None:
            self._show()

    def _show(self) -> None:
        """Show the figures as they are now."""

    @property
    def counted(self) -> str:
        """How much is done, such as "37 of 200 items"."""
        return f"{self._done:,} items" if self._total is None else f"{self._done:,} of {self._total:,} items"


class LineReporter(Reporter):
    """Writes a plain line now and then, for logs."""

    interval = LINE_INTERVAL

    def start(self, total: int | None) -> None:
        """Say how much there is to do."""
        super().start(total)
        _write_line(self._stream, "Downloading" if total is None else f"Downloading {total:,} items")

    def _show(self) -> None:
        seconds = time.monotonic() - (self._began or 0.0)
        failed = f" ({self._failed:,} failed)" if self._failed else ""
        speed = rate(self._done, seconds)
        _write_line(
            self._stream,
            f"{self.counted}{failed}, {amount(self._bytes)}, {speed} items/s, {timedelta(seconds=round(seconds))}",
        )


class BarReporter(Reporter):
    """Shows a bar on a terminal: count, rate, bytes and the time left."""

    interval = BAR_INTERVAL
    _bar: Progress | None = None

    def start(self, total: int | None) -> None:
        """Open the bar."""
        super().start(total)
        self._bar = _bar(self._stream, self._figures)
        self._bar.add_task("", total=total)
        self._bar.start()

    def finish(self) -> None:
        """Leave the bar as it stands."""
        super().finish()
        if self._bar is not None:
            self._bar.stop()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def _figures(self, task: Task) -> Text:
        """Return what stands beside the bar."""
        from rich.text import Text

        ended = task.finished or self._total is None
        clock = task.elapsed if ended else task.time_remaining
        parts = (
            Text(f"{self._done:,}" if self._total is None else f"{self._done:,}/{self._total:,}"),
            Text(f"{self._failed:,} failed" if self._failed else "", style="red"),
            Text("" if task.finished else f"{rate(task.speed or 0.0)} items/s"),
            Text(amount(self._bytes)),
            Text("" if clock is None else f"{timedelta(seconds=round(clock))}{'' if ended else ' left'}"),
        )
        return Text(" " * GAP, no_wrap=True, overflow="ellipsis").join(filter(None, parts))


def _bar(stream: TextIO, figures: Callable[[Task], Text]) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn
    from rich.table import Column

    class Figures(ProgressColumn):
        def render(self, task: Task) -> Text:
            return figures(task)

    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=BAR_WIDTH)),
        Figures(table_column=Column(no_wrap=True)),
        console=_screen(stream),
        # rich would replace both streams of the process while the bar is shown.
        redirect_stdout=False,
        redirect_stderr=False,
        expand=False,
    )


def amount(size: float) -> str:
    """Return a number of bytes for people, such as "1.2 MB"."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:.0f} {units[-1]}" if units[-1] == "B" or size >= 99.95 else f"{size:.1f} {units[-1]}"


def rate(count: float, seconds: float = 1.0) -> str:
    """Return a count for each second, with a decimal only where it matters."""
    value = count / seconds if seconds > 0 else 0.0
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


class Column(NamedTuple):
    """A column of a listing; a flexible one is cut where the terminal is too narrow."""

    title: str
    right: bool = False
    flexible: bool = False


class Output:
    """Everything that one command prints.

    Args:
        as_json: stdout carries JSON lines only.
        quiet: Nothing but data and errors.
        debug: Tracebacks, and the log of the library and of urllib3 on stderr.
    """

    def __init__(self, *, as_json: bool, quiet: bool, debug: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._debug = debug
        self._reporter: Reporter | None = None
        #: Whether stdout is a terminal that shows tables.
        self.tables = _is_terminal(sys.stdout) and not (as_json or quiet)
        _prepare_streams()
        if debug:
            _log_to_stderr()

    def run(self, command: Callable[[], int | None]) -> int:
        """Run a command and return its exit code; whatever it raises becomes a sentence."""
        try:
            try:
                return command() or 0
            finally:
                _flush_stdout()
        except click.ClickException:
            raise
        except KeyboardInterrupt:
            kept = " What is finished is kept; run the same command again to go on." if self._reporter else ""
            done = f" Finished so far: {self._reporter.counted}." if self._reporter else ""
            _write_line(sys.stderr, f"Stopped.{kept}{done}")
            return INTERRUPTED
        except BrokenPipeError:
            return PIPE_CLOSED
        except Exception as error:
            if self._debug:
                for line in traceback.format_exc().splitlines():
                    _write_line(sys.stderr, line)
            sentence, code = explain(error)
            self.error(sentence)
            return code

    def line(self, text: str = "") -> None:
        """Write a line of data."""
        _write_line(sys.stdout, text)

    def json_line(self, value: Any) -> None:
        """Write a value as one line of JSON, in ASCII, so that no terminal can take it for anything else."""
        sys.stdout.write(json.dumps(value, default=str) + "\n")

    def note(self, text: str) -> None:
        """Write a line for people, which ``--quiet`` leaves out."""
        if not self.quiet:
            _write_line(sys.stderr, text)

    def error(self, text: str, details: Iterable[str] = ()) -> None:
        """Write a line that says what went wrong, and lines with details."""
        _write_line(sys.stderr, f"Error: {text}")
        for detail in details:
            _write_line(sys.stderr, f"  {detail}")

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Write names with their figures, aligned."""
        left, right = (max(map(len, texts)) for texts in zip(*pairs, strict=True))
        for name, figure in pairs:
            self.line(f"  {name:<{left}}  {figure:>{right}}")

    def listing(
        self, columns: Sequence[Column], resources: Iterable[Resource], row: Callable[[Any, bool], Sequence[str]]
    ) -> None:
        """Write resources as they come: a table on a terminal, else tab-separated lines or JSON.

        ``row`` returns the cells of a resource, given whether a table will show them.
        """
        if self.as_json:
            for resource in resources:
                self.json_line(resource.as_dict())
        elif self.tables:
            _print_table(columns, ([clean(cell) for cell in row(resource, True)] for resource in resources))
        else:
            for resource in resources:
                sys.stdout.write("\t".join(clean(cell) for cell in row(resource, False)) + "\n")

    def reporter(self) -> Reporter:
        """Return what shows the progress of a download on stderr."""
        shown = BarReporter if _is_terminal(sys.stderr) and not self._debug else LineReporter
        self._reporter = Reporter(sys.stderr) if self.quiet else shown(sys.stderr)
        return self._reporter


def _print_table(columns: Sequence[Column], rows: Iterator[list[str]]) -> None:
    """Print rows page by page, with the widths that the pages so far have needed."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    screen = _screen(sys.stdout)
    widths = [len(column.title) for column in columns]
    has_header = True
    while page := list(itertools.islice(rows, ROWS_AT_ONCE)):
        widths = [max(width, *(cell_len(row[i]) for row in page)) for i, width in enumerate(widths)]
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=has_header, header_style="bold")
        for column, width in zip(columns, _fitted(columns, widths, screen.width), strict=True):
            justify: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(column.title, width=width, justify=justify, no_wrap=True, overflow="ellipsis")
        for cells in page:
            table.add_row(*map(Text, cells))
        screen.print(table)
        has_header = False


def _fitted(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Take from the flexible columns what is too much for the terminal."""
    excess = sum(widths) + GAP * (len(widths) - 1) - available
    fitted = []
    for column, width in zip(columns, widths, strict=True):
        cut = max(0, min(excess, width - len(column.title))) if column.flexible else 0
        excess -= cut
        fitted.append(width - cut)
    return fitted


def _screen(stream: TextIO) -> Console:
    """Return a rich console for a terminal, with everything off that would read a text as more than a text."""
    from rich.console import Console

    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _write_line(stream: TextIO, text: str) -> None:
    stream.write(clean(text) + "\n")


def _prepare_streams() -> None:
    """Make printing safe: no name is a reason to fail in a poor encoding, and a warning is a line of its own."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _write_line(sys.stderr, f"Warning: {words(message) if isinstance(message, Warning) else message}")


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
        # What could not be written goes nowhere, else the interpreter would complain about it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
