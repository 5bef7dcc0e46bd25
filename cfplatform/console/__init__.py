"""What the command line shows: rows, progress, messages, and the sentence and exit code of each error.

Data goes to stdout and everything else to stderr. Whatever came from a server passes :func:`clean` and is never read
as markup. rich is imported only where a terminal shows a table or a bar.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import click

from .errors import EXPLANATIONS, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, explain, reason, words
from .reporters import (
    ARCHIVE,
    DOWNLOAD,
    READ,
    REPORT,
    UPLOAD,
    BarReporter,
    LineReporter,
    Reporter,
    SilentStateReporter,
    SpinnerReporter,
    StateReporter,
    Work,
)
from .tables import Column, print_checks, print_fields, print_findings, print_table
from .text import amount, clean, counted, is_terminal, rate, write_line
from .waiting import Look, Shows, WaitLines, Watcher

__all__ = [
    "ARCHIVE",
    "DOWNLOAD",
    "EXPLANATIONS",
    "FAILED",
    "READ",
    "REPORT",
    "UPLOAD",
    "USAGE",
    "Column",
    "Look",
    "Output",
    "amount",
    "clean",
    "counted",
    "explain",
    "rate",
    "reason",
    "words",
]


class HasDict(Protocol):
    """Something that the platform sent."""

    def as_dict(self) -> dict[str, Any]:
        """Return it under the platform's names."""
        ...


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
        self.tables = is_terminal(sys.stdout) and not (as_json or quiet)
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
        except (KeyboardInterrupt, click.Abort) as error:
            if isinstance(error, click.Abort):
                # The question that was not answered stands in this line.
                sys.stderr.write("\n")
            write_line(sys.stderr, f"Stopped. {self._reporter.stopped}" if self._reporter else "Stopped.")
            return INTERRUPTED
        except BrokenPipeError:
            return PIPE_CLOSED
        except Exception as error:
            if self._debug:
                for line in traceback.format_exc().splitlines():
                    write_line(sys.stderr, line)
            sentence, code = explain(error)
            self.error(sentence)
            return code

    def line(self, text: str = "") -> None:
        """Write a line of data."""
        write_line(sys.stdout, text)

    def json_line(self, value: Any) -> None:
        """Write a value as one line of JSON, in ASCII, so that no terminal can take it for anything else."""
        sys.stdout.write(json.dumps(value, default=str) + "\n")

    def note(self, text: str) -> None:
        """Write a line for people, which ``--quiet`` leaves out."""
        if not self.quiet:
            write_line(sys.stderr, text)

    def error(self, text: str, details: Iterable[str] = ()) -> None:
        """Write a line that says what went wrong, and lines with details."""
        write_line(sys.stderr, f"Error: {text}")
        for detail in details:
            write_line(sys.stderr, f"  {detail}")

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Write names with their figures, aligned."""
        left, right = (max(map(len, texts)) for texts in zip(*pairs, strict=True))
        for name, figure in pairs:
            self.line(f"  {name:<{left}}  {figure:>{right}}")

    def listing(
        self, columns: Sequence[Column], resources: Iterable[HasDict], row: Callable[[Any, bool], Sequence[str]]
    ) -> None:
        """Write resources as they come: a table on a terminal, else tab-separated lines or JSON.

        ``row`` returns the cells of a resource, given whether a table will show them.
        """
        if self.as_json:
            for resource in resources:
                self.json_line(resource.as_dict())
        elif self.tables:
            rows = ([clean(cell) for cell in row(resource, True)] for resource in resources)
            if not print_table(columns, rows):
                self.note("There is nothing to list.")
        else:
            for resource in resources:
                self.row(row(resource, False))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Write rows as a table on a terminal, below an empty line."""
        self.line()
        print_table(columns, ([clean(cell) for cell in row] for row in rows))

    def row(self, cells: Iterable[str]) -> None:
        """Write a tab-separated line."""
        sys.stdout.write("\t".join(map(clean, cells)) + "\n")

    def record(self, resource: HasDict, fields: Sequence[tuple[str, str]], cells: Sequence[str]) -> None:
        """Write one resource: its fields on a terminal, else the line that a listing would have for it."""
        if self.as_json:
            self.json_line(resource.as_dict())
        elif self.tables:
            print_fields(fields)
        else:
            self.row(cells)

    def checks(self, checks: Sequence[tuple[str, str, str, str | None]]) -> None:
        """Write status, name, findings and advice of checks on a terminal."""
        print_checks(checks)

    def findings(self, severity: str, code: str, findings: Sequence[tuple[str, str]]) -> None:
        """Write place and message of findings below their code on a terminal, below an empty line."""
        self.line()
        print_findings(severity, code, findings)

    def reporter(self, work: Work = DOWNLOAD) -> Reporter:
        """Return what shows the progress of some work on stderr."""
        shown = BarReporter if self._shows_motion() else LineReporter
        self._reporter = Reporter(sys.stderr, work) if self.quiet else shown(sys.stderr, work)
        return self._reporter

    def waiting(self) -> StateReporter:
        """Return what shows on stderr that an export is waited for."""
        shown = SpinnerReporter if self._shows_motion() else StateReporter
        self._reporter = SilentStateReporter(sys.stderr) if self.quiet else shown(sys.stderr)
        return self._reporter

    @contextlib.contextmanager
    def watching(self, look: Look) -> Iterator[None]:
        """Show waits on stderr: with the progress, if there is any, else as lines.

        Single calls get lines on a terminal too. A moving line would be garbled when their data is printed.
        """
        lines: Shows = Reporter(sys.stderr) if self.quiet else WaitLines(sys.stderr)

        def shown() -> Shows:
            return self._reporter or lines

        try:
            with Watcher(look, shown):
                yield
        finally:
            if self._reporter is not None:
                self._reporter.close()

    def _shows_motion(self) -> bool:
        return is_terminal(sys.stderr) and not self._debug


def _prepare_streams() -> None:
    """Make printing safe: no name is a reason to fail in a poor encoding, and a warning is a line of its own."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    write_line(sys.stderr, f"Warning: {words(message) if isinstance(message, Warning) else message}")


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
