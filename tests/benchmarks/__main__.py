"""Measure cfplatform against the official client, bare urllib3 and curl, on this machine, in one run.

Every figure is a ratio inside the run: the sides take turns, and medians are compared. The server and each side are
separate processes. The exit code is 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import table
from .bench import Bench
from .cases import CASES

#: Server time beside which a figure says nothing about the client.
BUSY = 0.8
PACKAGES = ("requests", "urllib3", "cf-ai-platform-client", "httpx", "uvloop")


def main(arguments: Sequence[str] | None = None, cases: Mapping[str, Callable[[Bench], None]] = CASES) -> int:
    """Run the cases that the command line names; return the exit code."""
    options = _options(arguments, cases)
    machine = _machine()
    print("; ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"rounds: {options.rounds}", "QUICK: smaller sizes, so the figures decide nothing" if options.quick else "")
    with Bench(options.rounds, options.quick) as bench:
        for name in options.cases or cases:
            cases[name](bench)
    print("", table.sides(bench.sides), "", sep="\n")
    for side in bench.sides:
        if side.server_share > BUSY and side.name != "sockets":
            print(f"{side.case}, {side.name}: the server was busy for {side.server_share:.0%} of the time.")
    print(table.comparisons(bench.rows))
    print("load at the end:", _load())
    if options.json is not None:
        _write(options.json, {"machine": machine, "rounds": options.rounds, "quick": options.quick}, bench)
    return int(any(row.verdict == table.BELOW for row in bench.rows))


def _options(arguments: Sequence[str] | None, cases: Mapping[str, Any]) -> argparse.Namespace:
    described = "\n".join(f"  {name:7} {case.__doc__.splitlines()[0]}" for name, case in cases.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=f"cases:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to run, such as B1 B4; everything if omitted")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for trying")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round to this file")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.cases) - set(cases))
    if unknown or options.rounds < 1:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "--rounds must be at least 1")
    return options


def _machine() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    curl = shutil.which("curl")
    if curl is not None:
        versions["curl"] = subprocess.run([curl, "--version"], capture_output=True, text=True).stdout.split()[1]
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "cores": str(os.cpu_count()),
        "RAM": f"{ram:.0f} GiB",
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **versions,
        "load at the start": _load(),
    }


def _load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def _write(path: Path, about: dict[str, Any], bench: Bench) -> None:
    figures = {
        **about,
        "rows": [row.as_dict() for row in bench.rows],
        "sides": [{"case": side.case, "name": side.name, "rounds": side.rounds} for side in bench.sides],
    }
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
