"""``cfplatform validate``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from .. import coco
from ..console import FAILED, READ, Column, Output, counted
from .common import text, usual, with_output
from .groups import completing


@click.command()
@click.argument("source", shell_complete=completing("dir"))
@click.option("--errors-only", is_flag=True, help="Leave out warnings.")
@click.option("--strict", is_flag=True, help="Exit with 1 if there are warnings, too.")
@usual("--limit", type=click.IntRange(0), default=3, help="Findings of each code that a terminal shows; all count.")
@with_output
def validate(output: Output, source: str, errors_only: bool, strict: bool, limit: int) -> int:
    """Find what is wrong with labels, and where.

    SOURCE is a folder that labels were downloaded into, the folder of one batch, an unpacked export, or a file that
    holds one COCO document. Each finding has a code, such as "box-outside" or "dangling-category-id", and the place in
    the document as a JSON pointer; the documentation has a table of all codes. An error is what makes tools fail or
    learn something false, a warning what is only odd. It needs no key and no network, and changes nothing.

    On a terminal these are tables; into a pipe tab-separated lines of severity, code, file, place and message; with
    --json one object a line. The exit code is 1 if there are errors.

    \b
    Examples:
      cfplatform validate labels
      cfplatform validate labels --errors-only --limit 20
      cfplatform validate labels | cut -f 2 | sort | uniq -c
      cfplatform validate labels --json | jq -r 'select(.code == "bad-mask").path'
    """
    # Lines on a terminal would run into the bar.
    moves = output.tables or not sys.stdout.isatty()
    findings = coco.validate(source, progress=output.reporter(READ) if moves else None)
    account = _Account(limit if output.tables else 0)
    for finding in findings:
        if errors_only and finding.severity != coco.ERROR:
            continue
        account.add(finding)
        if output.as_json:
            output.json_line(finding.as_dict())
        elif not output.tables:
            output.row((finding.severity, finding.code, text(finding.path), finding.pointer, finding.message))
    if output.tables:
        account.show(output)
    return account.close(output, strict)


class _OfCode:
    """What was found under one code.

    Attributes:
        severity: Its severity.
        findings: How many there are.
        documents: How many documents have any.
        first: The first ones.
    """

    def __init__(self, severity: str) -> None:
        self.severity = severity
        self.findings = self.documents = 0
        self.first: list[coco.Finding] = []
        self._path: str | None = ""

    def add(self, finding: coco.Finding, limit: int) -> None:
        """Count a finding; those of a document come together."""
        self.findings += 1
        self.documents += finding.path != self._path
        self._path = finding.path
        if len(self.first) < limit:
            self.first.append(finding)


class _Account:
    """What was found, by codes.

    Args:
        limit: Findings of each code to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._codes: dict[str, _OfCode] = {}

    def add(self, finding: coco.Finding) -> None:
        """Count a finding."""
        self._codes.setdefault(finding.code, _OfCode(finding.severity)).add(finding, self._limit)

    def show(self, output: Output) -> None:
        """Print what was found, errors and the most frequent codes first."""
        codes = sorted(self._codes.items(), key=lambda entry: (entry[1].severity, -entry[1].findings))
        for code, found in codes:
            if found.first:
                output.findings(found.severity, code, [(_place(each), each.message) for each in found.first])
        if codes:
            counts = [(each.severity, code, f"{each.findings:,}", f"{each.documents:,}") for code, each in codes]
            right = [Column("Findings", right=True), Column("Documents", right=True)]
            output.table([Column("Severity"), Column("Code", flexible=True), *right], counts)

    def close(self, output: Output, strict: bool) -> int:
        """Say how many findings there are, and return the exit code."""
        counts: dict[str, int] = dict.fromkeys((coco.ERROR, coco.WARNING), 0)
        for each in self._codes.values():
            counts[each.severity] += each.findings
        said = " and ".join(counted(count, f"{severity}s") for severity, count in counts.items() if count)
        if counts[coco.ERROR] or (strict and said):
            output.error(f"{said}.")
            return FAILED
        output.note(f"{said}." if said else "Nothing is wrong.")
        return 0


def _place(finding: coco.Finding) -> str:
    """Return where something is: the file, as somebody in this folder would name it, and the place in it."""
    path = Path(finding.path or "")
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path} {finding.pointer}".strip()
