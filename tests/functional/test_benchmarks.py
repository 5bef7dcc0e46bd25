"""The benchmark command: its verdicts, and that all sides do the same work. Nothing here is timed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from ..benchmarks import __main__ as command
from ..benchmarks import faults, labels
from ..benchmarks.bench import ROOT, Bench
from ..benchmarks.cases import CASES, outage_row
from ..benchmarks.server import project_id
from ..benchmarks.sides.stacks import CALLER, START, Stacks
from ..benchmarks.table import AIM, BELOW, NO_BAR, REACHED, Bar, Row, Side
from .test_downloading import tree

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def case(*rows):
    """A case that measures nothing and has these rows."""

    def run(bench):
        """Measures nothing."""
        bench.rows += rows

    return run


def test_help_names_every_case():
    arguments = [sys.executable, "-m", "tests.benchmarks", "--help"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert {*(f"B{number}" for number in range(1, 17)), "M1"} <= CASES.keys()
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


@pytest.mark.stress
@pytest.mark.peer
def test_all_sides_do_the_same_work():
    project, trees = project_id(230, kib=2), {}
    with Bench(rounds=1, quick=True) as bench:
        for side in ("ours", "official", "session", "bare"):
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
    assert trees["ours"] == trees["session"] == trees["bare"] == trees["spread"]
    assert {path: json.loads(content) for path, content in trees["ours"].items()} == {
        path: json.loads(content) for path, content in trees["official"].items()
    }


@pytest.fixture(scope="module")
def bench():
    with Bench(rounds=1, quick=True) as bench:
        yield bench


def answer(url):
    """The status of the response, or the name of the error."""
    try:
        with DIRECT.open(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        return type(error.reason).__name__
    except ConnectionError as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("how", "where", "seen"),
    [
        ("503", "annotations", [503, 200]),
        ("500", "storage", [200, 500]),
        ("reset", "annotations", ["ConnectionResetError", 200]),
        ("reset", "storage", [200, "ConnectionResetError"]),
        ("503", "listing", [200, 200]),
        ("503", "everywhere", [503, 503]),
        ("refused", "everywhere", ["ConnectionRefusedError", "ConnectionRefusedError"]),
    ],
)
def test_an_outage_begins_in_the_middle_and_ends(bench, how, where, seen):
    urls = bench.urls(project_id(4), 1)
    bench.control(f"fault/outage/{how}/{where}/600/2")
    assert [answer(url) for url in urls] == [200, 200]
    # The outage begins with this request, which has its connection already.
    assert answer(urls[0]) == ("ConnectionResetError" if how == "refused" else seen[0])
    assert [answer(url) for url in urls] == seen
    assert (bench.control("counts")["counts"].get("faults", 0) > 0) == (where != "listing")
    bench.control("reset/0")
    assert [answer(url) for url in urls] == [200, 200]


def test_an_outage_lasts_some_seconds(monkeypatch):
    now, closed = [100.0], []
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: now[0]))
    outage = faults.parse(["outage", "503", "storage", "30", "2"], closed.append)
    kinds = ("storage", "annotations", "storage", "annotations", "storage", "signing")
    assert [outage(kind) is not None for kind in kinds] == [False, False, False, False, True, False]
    now[0] = 129.9
    assert outage("storage").startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After" not in outage("storage")
    now[0] = 130.0
    assert outage("storage") is None
    refusal = faults.parse(["outage", "refused", "everywhere", "30", "1"], closed.append)
    assert (refusal("annotations"), closed) == (faults.RESET, [30.0])


def test_some_answers_fail_in_the_same_order_each_time():
    def failures():
        some = faults.parse(["some", "503", "0.01"], print)
        return [number for number in range(20_000) if some("storage" if number % 2 else "annotations") is not None]

    assert failures() == failures()
    assert 150 < len(failures()) < 250
    always = faults.parse(["some", "503", "1"], print)
    assert (always("listing"), always("signing")) == (None, None)


@pytest.mark.parametrize(
    ("seconds", "lost", "requests", "verdict"),
    [
        (50.0, 0, {"faults": 7}, AIM),
        (60.0, 0, {"faults": 7}, REACHED),
        (70.0, 0, {"faults": 7}, BELOW),
        # A call that gives up is fast.
        (11.0, 2000, {"faults": 7}, NO_BAR),
        (12.0, 0, {"storage": 7}, NO_BAR),
    ],
)
def test_an_outage_is_judged_by_the_time_that_it_costs(seconds, lost, requests, verdict):
    calm = Side("B13", "no outage", [{"seconds": each} for each in (11.0, 12.0, 14.0)])
    side = Side("B13", "503 storage", [{"seconds": seconds, "lost": lost, "requests": requests}])
    row = outage_row(calm, side, 30, Bar(20, aim=8, at_least=False))
    assert row.verdict == verdict
    assert row.figure == (None if verdict == NO_BAR else seconds - 12.0 - 30)


@pytest.mark.stress
def test_lost_items_are_counted_in_the_destination(bench, tmp_path):
    arguments = {"project": project_id(20), "destination": str(tmp_path), "max_workers": 2}
    figures = bench.run("ours", "endure", items=23, **arguments)
    assert (figures["items"], figures["lost"], figures["ended"]) == (20, 3, None)


def test_frames_of_a_package_are_counted_where_it_reads():
    ours = Stacks(Path(__file__).parent)

    def deeper(levels, program):
        return deeper(levels - 1, program) if levels else program()

    def fetch():
        here, there = socket.socketpair()
        with here, there:
            for path in ("/storage/a.json?x=1", "/api/v1/projects/p/workItems/i/annotations?format=coco"):
                here.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
                there.sendall(b"answer")
                assert here.recv(6) == b"answer"

    def start():
        thread = threading.Thread(target=deeper, args=(4, fetch))
        thread.start()
        thread.join()

    with ours.watch():
        start()
    own = ours.deepest
    # Five frames of deeper and one of fetch; the caller's own frames are counted at the start of the thread.
    assert (own["storage"], own["annotations"], own[START]) == (6, 6, 2)
    assert CALLER not in own
    with ours.watch():
        deeper(6, fetch)
    assert (ours.deepest["storage"], ours.deepest[CALLER]) == (9, 9)
    with contextlib.closing(socket.socket()) as untouched:
        assert "recv" not in vars(type(untouched))


def test_frames_of_a_download_are_counted(bench, tmp_path):
    depths = bench.run("ours", "stacks", project=project_id(230), destination=str(tmp_path))
    assert depths["items"] == 230
    assert min(depths[name] for name in ("annotations", "storage", "listing", "start", "caller")) > 0


@pytest.mark.stress
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
