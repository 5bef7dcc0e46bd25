"""The notebook in docs: it runs, and its saved output is current."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import NOTEBOOK, executed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    before = os.environ.copy()
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        return executed(str(tmp_path_factory.mktemp("notebook")))
    finally:
        os.environ.clear()
        os.environ.update(before)


def shown(notebook):
    """The visible output of each cell, without values that differ from run to run."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            html = re.sub(r"[\d.]+ s<|>[^<>]*/(?=labels)|(?<=127.0.0.1:)\d+|req-\d+", "", data.get("text/html", ""))
            yield cell.id, output.output_type, sorted(data), html, output.get("text")


def test_it_runs_and_shows_what_is_kept(run):
    kept = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(kept)
    assert [cell.source for cell in run.cells] == [cell.source for cell in kept.cells]
    assert [*shown(run)] == [*shown(kept)]
    assert [cell.execution_count for cell in kept.cells if cell.cell_type == "code"] == [*range(1, 10)]


def test_no_cell_writes_an_error_or_a_warning(run):
    outputs = [output for cell in run.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} == {"execute_result", "display_data", "stream"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}


def test_the_bar_is_a_widget_that_comes_to_its_end(run):
    (cell,) = [cell for cell in run.cells if cell.cell_type == "code" and "progress=True" in cell.source]
    assert "application/vnd.jupyter.widget-view+json" in cell.outputs[0].data
    state = json.dumps(run.metadata.widgets)
    assert "20/20" in state


def test_each_way_to_show_something_is_in_it(run):
    sources = [cell.source for cell in run.cells]
    tables = "".join(html for _, _, _, html, _ in shown(run))
    for name in ("Batch", "WorkItem", "DownloadSummary", "Failures"):
        assert f">{name}</caption>" in tables
    assert "404" in tables
    assert "sandbox" in sources[1]
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")
