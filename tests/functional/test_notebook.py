"""The example notebook runs and has the stored outputs; the extension that shows lists as tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter

import cfplatform
from cfplatform.report import write_report
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
    assert [cell.execution_count for cell in kept.cells if cell.cell_type == "code"] == [*range(1, 13)]


def test_no_cell_writes_an_error_or_a_warning(run):
    outputs = [output for cell in run.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} == {"execute_result", "display_data", "stream"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}


def test_the_bar_is_text_that_shows_the_end(run):
    (cell,) = [cell for cell in run.cells if cell.cell_type == "code" and "progress=True" in cell.source]
    bar, summary = cell.outputs
    assert (bar.output_type, [*bar.data]) == ("display_data", ["text/plain"])
    assert re.fullmatch(r"100%\|█{10}\| 20/20 \[00:0\d<00:00, +[\d.]+item/s]", bar.data["text/plain"])
    assert "DownloadSummary" in summary.data["text/html"]
    assert "widgets" not in run.metadata


def test_each_way_to_show_something_is_in_it(run):
    sources = [cell.source for cell in run.cells]
    tables = "".join(html for _, _, _, html, _ in shown(run))
    for name in ("2 × Batch", "Generator", "20 × WorkItem", "DownloadSummary", "Failures", "Labels", "Classes"):
        assert f">{name}</caption>" in tables
    assert "404" in tables
    assert len([kinds for _, _, kinds, _, _ in shown(run) if "image/png" in kinds]) == 5
    assert "sandbox" in sources[1]
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.fixture
def ipython():
    """What the extension uses of IPython."""
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    cfplatform.load_ipython_extension(shell)
    return shell


@pytest.fixture
def table(ipython):
    """The HTML of a value; ``None`` if it has only text."""
    return lambda value: ipython.display_formatter.format(value)[0].get("text/html")


def test_lists_of_objects_are_tables(sandbox, client, table, tmp_path):
    items = [*client.get_work_items()]
    assert table(items).count("<tr>") == 1 + 10 + 1
    assert "20 × WorkItem" in table(items)
    assert "and 10 more" in table(items)
    assert all(item.id in table(items) for item in items[:10])
    assert "Street scenes" in table(tuple(client.get_batches()))
    sandbox.fail_next(404, path="*/annotations")
    (failure,) = client.download_project(destination=tmp_path / "labels").failures
    assert "404" in table([failure])
    assert "2 × DownloadedItem" in table([*cfplatform.iter_downloaded(tmp_path / "labels")][:2])


def test_the_summary_of_a_report_is_a_table(client, table, tmp_path):
    client.download_project(destination=tmp_path / "<b>")
    summary = write_report(tmp_path / "<b>")
    html = table(summary)
    assert ">ReportSummary</caption>" in html
    for name, shown in (("path", "&lt;b&gt;/report.html"), ("documents", ">20<"), ("size", f">{summary.size:,}<")):
        assert re.search(f">{name}</th><td[^>]*>?[^<]*{shown}", html), name


def test_a_name_in_a_list_is_never_markup(make_sandbox, table):
    with make_sandbox(items=1, batch_names=["<script>alert(1)</script>"]).client() as client:
        html = table([*client.get_batches()])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html


def test_a_generator_is_shown_without_a_request_or_the_loss_of_an_item(sandbox, client, table):
    items = client.get_work_items()
    assert "not started" in table(items)
    assert sandbox.requests == []
    first = next(items)
    asked = len(sandbox.requests)
    assert ">started<" in table(items)
    assert len(sandbox.requests) == asked
    assert len({first, *items}) == 20
    assert "finished" in table(items)
    assert "not started" in table(client.get_exports(sandbox.space_id))


def test_a_tuple_with_names_is_shown_as_itself(client, table, tmp_path):
    client.download_project(destination=tmp_path)
    assert "<caption" in table(next(cfplatform.iter_downloaded(tmp_path)))
    assert "× " not in table(next(cfplatform.iter_downloaded(tmp_path)))


def test_other_lists_are_shown_as_before(ipython, client, table):
    item, batch = next(client.get_work_items()), next(client.get_batches())
    for value in ([], (), [1, 2], ["a"], [item, batch], [item, None], (each for each in "abc")):
        assert table(value) is None
    assert table([item]) is not None
    cfplatform.unload_ipython_extension(ipython)
    assert table([item]) is None
    assert table(client.get_work_items()) is None
