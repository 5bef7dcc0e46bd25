"""The cases: what is measured, compared with what, and the target."""

from __future__ import annotations

import functools
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import labels
from .bench import ROOT, Bench, curl_is_missing
from .server import project_id
from .table import Bar, Row, Side

NO_CURL = "left out: there is no curl"
#: Seconds of latency in the cases that have one.
LATENCY = 0.05
#: The outages of B13: how requests fail, and which ones.
OUTAGES = [
    *((how, where) for how in ("500", "503", "reset") for where in ("annotations", "storage")),
    ("503", "signing"),
    ("503", "listing"),
    ("refused", "everywhere"),
]


def b1(bench: Bench) -> None:
    """A download without latency, 10 workers: what an item costs in processor time."""
    items, workers = bench.size(2000, 300), 10
    project = project_id(items)
    download = functools.partial(bench.download, project=project, max_workers=workers)
    programs = {
        "cfplatform": lambda: download("ours"),
        "official": lambda: download("official", limit=100),
        "Session.get": lambda: download("session"),
        "urllib3": lambda: download("bare"),
    }
    urls = bench.urls(project, items)
    if not curl_is_missing():
        programs["curl"] = lambda: _curl(bench, project, urls, workers)
    programs["sockets"] = lambda: bench.run(
        "machine", "raw", project=project, url=urls[1], count=10 * items, connections=workers
    )
    ours, official, session, bare, *others = bench.in_turn("B1", programs)
    what = f"download of {items:,} items, no latency, {workers} workers"
    bench.faster("B1", what, ours, official, Bar(5, aim=6))
    bench.faster("B1", "the same", ours, session, Bar(1.5, aim=1.7))
    bench.faster("B1", "the same", ours, bare, Bar(0.7, aim=0.8))
    if curl_is_missing():
        bench.row("B1", "the same", f"{ours.rate:,.0f} items/s", NO_CURL)
    for side in others:
        bench.row("B1", f"GETs by {side.name}", "", f"{side.rate:,.0f} requests/s")


def b2(bench: Bench) -> None:
    """A download at 50 ms latency, 10 workers each: how close to two round trips an item."""
    items, workers = bench.size(2000, 100), 10
    download = functools.partial(bench.download, project=project_id(items), latency=LATENCY, max_workers=workers)
    ours, official = bench.in_turn(
        "B2", {"cfplatform": lambda: download("ours"), "official": lambda: download("official", limit=100)}
    )
    bench.faster("B2", f"download of {items:,} items, 50 ms, {workers} workers", ours, official, Bar(1.5))
    _against_ideal(bench, "B2", ours, workers, Bar(0.9, aim=0.97))


def b3(bench: Bench) -> None:
    """A download at 50 ms latency with the defaults of each side."""
    items = bench.size(2000, 100)
    download = functools.partial(bench.download, project=project_id(items), latency=LATENCY)
    ours, official = bench.in_turn(
        "B3", {"cfplatform": lambda: download("ours"), "official": lambda: download("official")}
    )
    bench.faster("B3", f"download of {items:,} items, 50 ms, defaults", ours, official, Bar(5, aim=5.5))


def b4(bench: Bench) -> None:
    """Reading a long listing item by item: speed, and memory that does not grow."""
    many, few = bench.size(100_000, 5_000), 1_000
    listing = functools.partial(bench.run, action="listing")
    ours, official, bare, short = bench.in_turn(
        "B4",
        {
            "cfplatform": lambda: listing("ours", project=project_id(many)),
            "official": lambda: listing("official", project=project_id(many)),
            "urllib3": lambda: listing("bare", project=project_id(many)),
            f"cfplatform {few:,}": lambda: listing("ours", project=project_id(few)),
        },
    )
    bench.faster("B4", f"listing of {many:,} items", ours, official, Bar(3))
    bench.faster("B4", "the same", ours, bare, None)
    _memory(bench, "B4", f"peak memory, listing of {many:,} and of {few:,}", ours, short, Bar(3, at_least=False))


def b5(bench: Bench) -> None:
    """Memory of a large download against a small one."""
    many, few = bench.size(50_000, 2_000), bench.size(1_000, 200)
    ours, short = bench.in_turn(
        "B5",
        {
            "cfplatform": lambda: bench.download("ours", project=project_id(many)),
            f"cfplatform {few:,}": lambda: bench.download("ours", project=project_id(few)),
        },
    )
    bar = Bar(10, aim=5, at_least=False)
    _memory(bench, "B5", f"peak memory, download of {many:,} and of {few:,} items", ours, short, bar)


def b6(bench: Bench) -> None:
    """A second run over a project that has not changed."""
    project = project_id(bench.size(10_000, 500))
    first, second = Side("B6", "first run"), Side("B6", "second run")
    for _ in range(bench.rounds):
        with bench.destination() as folder:
            for side in (first, second):
                side.rounds.append(bench.run("ours", "download", project=project, destination=folder))
    for each in second.rounds:
        each["items"] = each["skipped"]
    bench.sides += [first, second]
    figure = second.median("seconds") / first.median("seconds")
    what = f"time of a second run over {first.median('items'):,.0f} items"
    ours, other = f"{second.median('seconds'):.2f} s", f"first run {first.median('seconds'):.2f} s"
    bench.row("B6", what, ours, other, figure, Bar(1 / 20, aim=1 / 40, at_least=False))
    beyond = sum(
        count
        for each in second.rounds
        for name, count in each["requests"].items()
        if name not in ("listing", "batches")
    )
    sent = sum(second.rounds[-1]["requests"].values())
    bar = Bar(0, at_least=False, unit="")
    bench.row("B6", "requests of it that are no listing", f"{sent} in all", "", float(beyond), bar, unit="")


def b7(bench: Bench) -> None:
    """The first item of a long listing."""
    project = project_id(bench.size(100_000, 5_000))
    ours, official = bench.in_turn(
        "B7",
        {
            "cfplatform": lambda: bench.run("ours", "first", project=project),
            "official": lambda: bench.run("official", "listing", project=project),
        },
    )
    sent, others = (max(sum(each["requests"].values()) for each in side.rounds) for side in (ours, official))
    bar = Bar(1, at_least=False, unit="")
    bench.row("B7", "requests until the first item", f"{sent}", f"official {others:,}", float(sent), bar, unit="")


def b8(bench: Bench) -> None:
    """An archive of a GiB: memory, and speed against curl, although the checksum of every member is verified."""
    large = bench.size(1024, 64)
    project = project_id(1)
    programs: dict[str, Callable[[], dict[str, Any]]] = {
        "cfplatform": lambda: _export(bench, project, bench.archive(large)[0], large),
        "cfplatform 1 MiB": lambda: _export(bench, project, bench.archive(1)[0]),
    }
    if not curl_is_missing():
        programs["curl"] = lambda: _curl(bench, project, [bench.archive(large)[1]], 1, large)
    programs["cfplatform deflated"] = lambda: _export(bench, project, bench.archive(24, deflated=True)[0])
    ours, small, *others, deflated = bench.in_turn("B8", programs)
    bar = Bar(24, at_least=False)
    _memory(bench, "B8", f"peak memory, archive of {large:,} MiB and of 1 MiB", ours, small, bar)
    speed = ours.median("bytes") / ours.median("seconds") / 1e6
    what = f"archive of {large:,} MiB, stored members"
    if others:
        figure = others[0].median("seconds") / ours.median("seconds")
        rate = ours.median("bytes") / others[0].median("seconds") / 1e6
        bench.row("B8", what, f"{speed:,.0f} MB/s", f"curl {rate:,.0f}", figure, Bar(0.5, aim=0.8))
    else:
        bench.row("B8", what, f"{speed:,.0f} MB/s", NO_CURL)
    slow = deflated.median("bytes") / deflated.median("seconds") / 1e6
    bench.row("B8", "archive of 24 MiB, deflated documents", f"{slow:,.0f} MB/s", "")


def b9(bench: Bench) -> None:
    """A document of 50 MB whose ``info.asset_url`` is set, against saving it as it is."""
    project = project_id(1, kib=bench.size(50_000, 12_000))
    edited, raw = bench.in_turn(
        "B9",
        {
            "asset_url set": lambda: bench.download("ours", project=project),
            "as served": lambda: bench.download("ours", project=project, inject_asset_url=False),
        },
    )
    figure = raw.median("seconds") / edited.median("seconds")
    took = [f"{side.median('seconds'):.3f} s" for side in (edited, raw)]
    bench.row("B9", "document of 50 MB, asset_url set", took[0], f"as served {took[1]}", figure, Bar(0.7))
    _memory(bench, "B9", "peak memory of it", edited, raw, Bar(16, at_least=False))


def b10(bench: Bench) -> None:
    """The processor time of an import: of the package, which the bar is for, and of the client that it loads later."""
    statements = (
        "import cfplatform",
        "from cfplatform import Client",
        "import requests",
        "import cf_ai_platform_client",
    )
    took: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(5 * bench.rounds + 1):
        for statement in statements:
            took[statement].append(_import(bench, statement))
    # Without the first ones, which compile.
    package, client, requests, official = (statistics.median(each[1:]) for each in took.values())
    other = f"requests {requests * 1000:.0f} ms"
    bar = Bar(1.15, aim=1.05, at_least=False)
    bench.row("B10", "import cfplatform", f"{package * 1000:.0f} ms", other, package / requests, bar)
    shown = f"{client * 1000:.0f} ms"
    bench.row("B10", "import of the client", shown, other, client / requests)
    bench.row("B10", "the same", shown, f"official {official * 1000:.0f} ms", client / official)


def b11(bench: Bench) -> None:
    """Streaming documents at 50 ms latency to a reader that does nothing."""
    workers, project = 32, project_id(bench.size(2000, 300))
    (ours,) = bench.in_turn(
        "B11",
        {"cfplatform": lambda: bench.run("ours", "annotations", project=project, latency=LATENCY, max_workers=workers)},
    )
    _against_ideal(bench, "B11", ours, workers, Bar(0.85))
    first = ours.median("first")
    bar = Bar(6, at_least=False, unit="trips")
    bench.row("B11", "round trips until the first document", f"{first:.2f} s", "", first / LATENCY, bar, unit="trips")


def b12(bench: Bench) -> None:
    """A download by two worker processes against one; both processors are needed, so nothing else may run."""
    items, workers = bench.size(4000, 400), 10
    project = project_id(items)
    one, two, threads = bench.in_turn(
        "B12",
        {
            "1 process": lambda: _spread(bench, project, workers, 1),
            "2 processes": lambda: _spread(bench, project, workers, 2),
            "threads alone": lambda: bench.download("ours", project=project, max_workers=workers),
        },
    )
    what = f"download of {items:,} items, no latency, 2 worker processes"
    bench.faster("B12", what, two, one, Bar(1.5, aim=1.8))
    bench.faster("B12", "the same", two, threads, None)
    spent = {
        side.name: [side.median(f"{who}_cpu") / side.median("items") * 1000 for who in ("caller", "workers", "server")]
        for side in (one, two)
    }
    for name, (caller, others, server) in spent.items():
        shown = f"caller {caller:.2f} ms, workers {others:.2f} ms"
        bench.row("B12", f"processor time of an item, {name}", shown, f"server {server:.2f} ms")
    # One process is busy without a pause while another processor does the rest; two share two processors with it.
    allowed = spent[one.name][1] / (sum(spent[two.name]) / 2)
    bench.row("B12", "what these times allow on two cores", "", "", allowed)


def b13(bench: Bench) -> None:
    """An outage of 30 s in the middle of a download: no item may be lost, and the run resumes soon after it."""
    items, seconds = bench.size(3000, 600), bench.size(30, 5)
    run = functools.partial(_endure, bench, project=project_id(items), items=items, latency=0.02, max_workers=10)
    (calm,) = bench.in_turn("B13", {"no outage": run})
    # Once each, whatever the number of rounds: each takes longer than its outage.
    sides = bench.in_turn(
        "B13",
        {
            f"{how} {where}": functools.partial(run, fault=f"outage/{how}/{where}/{seconds}/{items // 4}")
            for how, where in OUTAGES
        },
        rounds=1,
    )
    bar = Bar(20, aim=8, at_least=False, unit="s more")
    for side in sides:
        bench.rows.append(outage_row(calm, side, seconds, bar))
    _lost(bench, "B13", f"items lost in {len(sides)} runs of {items:,}", sides)


def outage_row(calm: Side, side: Side, seconds: float, bar: Bar) -> Row:
    """Compare a run that had an outage with a calm one; there is no figure if items were lost."""
    (run,) = side.rounds
    what = f"outage of {seconds} s: {side.name}"
    ours, other = f"{run['seconds']:.1f} s", f"calm {calm.median('seconds'):.1f} s"
    if run["lost"]:
        return Row(side.case, what, ours, f"{run['lost']:,} items lost")
    if not run["requests"].get("faults"):
        return Row(side.case, what, ours, "no request met the outage")
    figure = run["seconds"] - calm.median("seconds") - seconds
    return Row(side.case, what, ours, other, figure, bar, unit="s more")


def b14(bench: Bench) -> None:
    """One response in a hundred is a 503 without Retry-After, at 50 ms latency: time against a calm run."""
    items = bench.size(2000, 300)
    run = functools.partial(_endure, bench, project=project_id(items), items=items, latency=LATENCY)
    calm, troubled = bench.in_turn(
        "B14", {"no fault": run, "1 % of 503": functools.partial(run, fault="some/503/0.01")}
    )
    took, other = troubled.median("seconds"), calm.median("seconds")
    what = f"download of {items:,} items, 50 ms, 1 % of 503"
    bar = Bar(1.3, aim=1.1, at_least=False)
    bench.row("B14", what, f"{took:.2f} s", f"calm {other:.2f} s", took / other, bar)
    _lost(bench, "B14", "items lost in all rounds", [calm, troubled])


def b15(bench: Bench) -> None:
    """A download at 50 ms latency: 64 workers against 32."""
    items = bench.size(4000, 400)
    download = functools.partial(bench.download, "ours", project=project_id(items), latency=LATENCY)
    wide, narrow = bench.in_turn(
        "B15", {f"{count} workers": functools.partial(download, max_workers=count) for count in (64, 32)}
    )
    bench.faster("B15", f"download of {items:,} items, 50 ms, 64 workers", wide, narrow, Bar(1.5, aim=1.7))


def b16(bench: Bench) -> None:
    """The depth of the stack: frames of the package where a thread reads a response."""
    with bench.destination() as folder:
        # Some latency, so that the thread that fetches pages ahead runs too.
        depths = bench.run("ours", "stacks", project=project_id(300), latency=0.02, destination=folder)
    reads = {kind: depths[kind] for kind in ("annotations", "storage")}
    ours = ", ".join(f"{kind} {depth}" for kind, depth in reads.items())
    other, deepest = f"caller: starts {depths['start']}, reads {depths['caller']}", float(max(reads.values()))
    bar = Bar(12, aim=10, at_least=False, unit="")
    bench.row("B16", "frames of ours in a download", ours, other, deepest, bar, unit="")
    bar = Bar(10, aim=8, at_least=False, unit="")
    what, depth = "frames of ours in get_work_items", depths["listing"]
    bench.row("B16", what, f"listing {depth}", "", float(depth), bar, unit="")


def b18(bench: Bench) -> None:
    """A comparison of two folders: seconds and memory for many images, and for a million boxes."""
    images = bench.size(10_000, 300)
    for boxes, most in ((10, 5.0), (100, 30.0)):
        with bench.destination() as folder:
            sides = [
                labels.write_boxes(Path(folder, f"{boxes} {name}"), images, boxes, shift)
                for name, shift in (("a", 0.0), ("b", 2.0))
            ]
            compare = functools.partial(bench.local, "ours", "compare", source=sides[0], other=sides[1])
            (ours,) = bench.in_turn("B18", {"cfplatform": compare})
        what = f"comparison of {images:,} images x {boxes} boxes"
        seconds, peak = ours.median("seconds"), ours.median("peak_mb")
        bar = Bar(most, at_least=False, unit="s")
        bench.row("B18", what, f"{seconds:.2f} s", "", seconds, bar, unit="s")
        bar = Bar(150, at_least=False, unit="MB")
        bench.row("B18", "peak memory of it", f"{peak:.0f} MB", "", peak, bar, unit="MB")


def m1(bench: Bench) -> None:
    """A merge of small documents into one dataset, and the memory that it needs."""
    count = bench.size(100_000, 1000)
    with bench.destination() as folder:
        few, many = (labels.write(Path(folder, str(size)), size) for size in (count // 10, count))
        merge = functools.partial(bench.local, action="merge", output=f"{folder}/dataset.json")
        programs = {"cfplatform": lambda: merge("ours", source=many), "plain": lambda: merge("plain", source=many)}
        if importlib.util.find_spec("globox"):
            programs["globox"] = lambda: merge("known", source=many)
        # The first run of a side compiles its modules, which takes more memory than a merge.
        merge("ours", source=few)
        ours, *others = bench.in_turn("M1", programs)
        (small,) = bench.in_turn("M1", {"a tenth": lambda: merge("ours", source=few)})
    what = f"merge of {count:,} documents of 4 KiB"
    for other in others:
        # One thread that never waits: its processor time says more than the clock, which other work moves.
        figure = other.median("cpu") / ours.median("cpu")
        shown = f"{ours.median('cpu'):.1f} s", f"{other.name} {other.median('cpu'):.1f} s"
        bench.row("M1", f"{what}, processor time", *shown, figure, Bar(1, aim=1.3) if other is others[0] else None)
        bench.faster("M1", "the same, by the clock", ours, other, None)
        peaks = ours.median("peak_mb"), other.median("peak_mb")
        shown = f"{peaks[0]:.1f} MB", f"{other.name} {peaks[1]:,.1f} MB"
        bench.row("M1", "its peak memory", *shown, peaks[1] / peaks[0])
    if len(others) == 1:
        bench.row("M1", what, f"{ours.rate:,.0f} items/s", "left out: there is no globox")
    _memory(bench, "M1", f"peak memory, {count:,} documents and a tenth", ours, small, Bar(8, aim=4, at_least=False))


def growth(bench: Bench) -> None:
    """How the cost of a download grows with items, workers, latency and document size; there is no bar."""
    items = bench.size(1000, 200)
    points = [
        *({"items": count} for count in (items // 4, items, items * 4)),
        *({"workers": count} for count in (1, 4, 10, 64)),
        *({"kib": 1}, {"kib": 64}, {"kib": 1024, "items": items // 4}),
        *({"ms": ms} for ms in (10, 50, 200)),
        *({"ms": 50, "workers": count} for count in (10, 64, 128)),
    ]
    sizes = [{"items": items, "workers": 32, "kib": 4, "ms": 0, **point} for point in points]
    programs = {
        "{items:,} items of {kib} KiB, {workers} workers, {ms} ms".format(**size): functools.partial(
            bench.download,
            "ours",
            project=project_id(size["items"], size["kib"]),
            latency=size["ms"] / 1000,
            max_workers=size["workers"],
        )
        for size in sizes
    }
    for side in bench.in_turn("growth", programs):
        count = side.median("items")
        spent, wire = side.median("cpu") / count * 1000, side.median("wire_bytes") / count / 1024
        other = f"{spent:.2f} ms CPU, {wire:.2f} KiB sent an item"
        bench.row("growth", side.name, f"{side.rate:,.0f} items/s", other)


def _against_ideal(bench: Bench, case: str, ours: Side, workers: int, bar: Bar) -> None:
    ideal = workers / (2 * LATENCY)
    what = f"two round trips an item, {workers} workers"
    bench.rows.append(Row(case, what, f"{ours.rate:,.0f} items/s", f"ideal {ideal:,.0f}", ours.rate / ideal, bar))


def _endure(bench: Bench, **arguments: Any) -> dict[str, Any]:
    with bench.destination() as folder:
        return bench.run("ours", "endure", destination=folder, **arguments)


def _lost(bench: Bench, case: str, what: str, sides: list[Side]) -> None:
    lost = {side.name: sum(each["lost"] for each in side.rounds) for side in sides}
    total, errors = sum(lost.values()), [each["ended"] for side in sides for each in side.rounds if each["ended"]]
    other = f"{len(errors)} ended by an error" if errors else ""
    bench.row(case, what, f"{total:,}", other, float(total), Bar(0, at_least=False, unit=""), unit="")


def _memory(bench: Bench, case: str, what: str, large: Side, small: Side, bar: Bar) -> None:
    peaks = large.median("peak_mb"), small.median("peak_mb")
    bar = Bar(bar.value, bar.aim, at_least=False, unit="MB more")
    bench.row(case, what, f"{peaks[0]:.1f} MB", f"{peaks[1]:.1f} MB", peaks[0] - peaks[1], bar, unit="MB more")


def _curl(bench: Bench, project: str, urls: list[str], connections: int, warm_mib: int = 0) -> dict[str, Any]:
    with bench.destination(on_disk=True, warm_mib=warm_mib) as folder:
        return bench.run("machine", "parallel", project=project, urls=urls, destination=folder, connections=connections)


def _export(bench: Bench, project: str, export_id: str, warm_mib: int = 0) -> dict[str, Any]:
    with bench.destination(on_disk=True, warm_mib=warm_mib) as folder:
        return bench.run("ours", "export", project=project, export_id=export_id, destination=folder)


def _spread(bench: Bench, project: str, workers: int, processes: int) -> dict[str, Any]:
    with bench.destination(on_disk=True) as folder:
        arguments = {"destination": folder, "max_workers": workers, "processes": processes}
        return bench.run("ours", "spread", project=project, **arguments)


def _import(bench: Bench, statement: str) -> float:
    program = f"import time; began = time.process_time(); {statement}; print(time.process_time() - began)"
    command = [sys.executable, "-c", program]
    streams = {"capture_output": True, "text": True}
    done = subprocess.run(command, cwd=ROOT, env=bench.environment(), check=True, timeout=60, **streams)
    return float(done.stdout)


#: The cases by name, in the order in which they run.
CASES: dict[str, Callable[[Bench], None]] = {
    "B1": b1, "B2": b2, "B3": b3, "B4": b4, "B5": b5, "B6": b6, "B7": b7, "B8": b8, "B9": b9, "B10": b10, "B11": b11,
    "B12": b12, "B13": b13, "B14": b14, "B15": b15, "B16": b16, "B18": b18, "M1": m1,
    "growth": growth,
}  # fmt: skip
