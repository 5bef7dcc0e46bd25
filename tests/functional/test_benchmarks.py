"""The command that measures: its judgement, and that all sides do the same work. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..benchmarks import __main__ as command
from ..benchmarks import labels
from ..benchmarks.bench import ROOT, Bench
from ..benchmarks.cases import CASES
from ..benchmarks.server import project_id
from ..benchmarks.table import AIM, BELOW, NO_BAR, REACHED, Bar, Row
from .test_downloading import tree


def case(*rows):
    """A case that measures nothing and has these rows."""

    def run(bench):
        """Measures nothing."""
        bench.rows += rows

    return run


def test_help_names_every_case():
    arguments = [sys.executable, "-m", "tests.benchmarks", "--help"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert {*(f"B{number}" for number in range(1, 13)), "M1"} <= CASES.keys()
    for name, function in CASES.items():
        assert f"  {name:7} {function.__doc__.splitlines()[0]}" in done.stdout


@pytest.mark.parametrize(
    ("bar", "figure", "verdict"),
    [
        (Bar(6, aim=8), 5.99, BELOW),
        (Bar(6, aim=8), 6.0, REACHED),
        (Bar(6, aim=8), 8.0, AIM),
        (Bar(6), 100.0, REACHED),
        (Bar(10, aim=5, at_least=False), 10.1, BELOW),
        (Bar(10, aim=5, at_least=False), 10.0, REACHED),
        (Bar(10, aim=5, at_least=False), -1.0, AIM),
        (Bar(0, at_least=False), 1.0, BELOW),
        (None, 0.0, NO_BAR),
        (Bar(6), None, NO_BAR),
    ],
)
def test_a_figure_is_judged_by_its_bar(bar, figure, verdict):
    assert Row("B0", "nothing", "", "", figure, bar).verdict == verdict


def test_one_figure_below_its_bar_fails_the_command(tmp_path, capsys):
    good = Row("X1", "good", "7 items/s", "1", 7.0, Bar(6))
    bad = Row("X2", "bad", "5 items/s", "1", 5.0, Bar(6))
    absent = Row("X3", "absent", "5 items/s", "left out: there is no curl")
    cases = {"X1": case(good), "X2": case(bad), "X3": case(absent)}
    assert command.main(["X1", "X3"], cases) == 0
    assert "BELOW" not in capsys.readouterr().out
    assert command.main(["--quick", "--json", str(tmp_path / "figures")], cases) == 1
    shown = capsys.readouterr().out
    assert "QUICK" in shown
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("X")] == ["reached", "BELOW", "-"]
    written = json.loads((tmp_path / "figures").read_text(encoding="utf-8"))
    assert written["quick"] is True
    assert [row["verdict"] for row in written["rows"]] == [REACHED, BELOW, NO_BAR]


@pytest.mark.parametrize("arguments", [["B99"], ["--rounds", "0"]])
def test_what_cannot_be_measured_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert "B99" in capsys.readouterr().err or arguments[0] != "B99"


@pytest.mark.peer
def test_all_sides_do_the_same_work():
    project, trees = project_id(230, kib=2), {}
    with Bench(rounds=1, quick=True) as bench:
        for side in ("ours", "official", "bare"):
            with bench.destination() as folder:
                figures = bench.run(side, "download", project=project, max_workers=4, destination=folder)
                trees[side] = tree(Path(folder))
            assert figures["items"] == figures["requests"]["annotations"] == figures["requests"]["storage"] == 230
            assert figures["server_cpu"] >= 0
            assert figures["peak_mb"] > 5
        with bench.destination() as folder:
            arguments = {"max_workers": 4, "destination": folder, "processes": 2}
            spread = bench.run("ours", "spread", project=project, **arguments)
            trees["spread"] = tree(Path(folder))
        first = bench.run("ours", "first", project=project)
    assert first["requests"] == {"listing": 1}
    assert spread["items"] == spread["requests"]["storage"] == 230
    assert min(spread["caller_cpu"], spread["workers_cpu"]) > 0
    assert trees["ours"] == trees["bare"] == trees["spread"]
    assert {path: json.loads(content) for path, content in trees["ours"].items()} == {
        path: json.loads(content) for path, content in trees["official"].items()
    }


def test_both_merges_do_the_same_work(tmp_path):
    source, merged = labels.write(tmp_path / "labels", 501), {}
    with Bench(rounds=1, quick=True) as bench:
        for side in ("ours", "plain"):
            output = tmp_path / f"{side}.json"
            figures = bench.local(side, "merge", source=source, output=str(output))
            assert (figures["items"], figures["requests"]) == (501, {})
            merged[side] = json.loads(output.read_text(encoding="utf-8"))
    ours, plain = merged["ours"], merged["plain"]
    assert (ours["annotations"], ours["categories"]) == (plain["annotations"], plain["categories"])
    items = {(path.stem, path.parent.name) for path in Path(source).glob("*/*.json")}
    for image in ours["images"]:
        assert (image.pop("work_item_id"), image.pop("batch")) in items
        assert image.pop("original_file_name") == image["file_name"]
    assert ours["images"] == plain["images"]
