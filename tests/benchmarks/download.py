"""Download one project with cfplatform and with the official client, in turn, from one sandbox.

Run it with ``python -m tests.benchmarks.download``; ``--help`` shows the options. The sandbox and each download are
processes of their own, so that processor time and peak memory belong to one side only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: What each side runs: it downloads into argv[1] with argv[2] workers.
SIDES = {
    "cfplatform": """
from cfplatform import Client
with Client(max_workers=int(sys.argv[2])) as client:
    successful = client.download_project(destination=sys.argv[1]).successful
""",
    "official": """
from cf_ai_platform_client import SyncCFUserClient
client = SyncCFUserClient(os.environ["CF_API_KEY"], base_url=os.environ["CF_PLATFORM_BASE_URL"])
successful = client.download_project(
    os.environ["CF_PROJECT_ID"], os.environ["CF_SPACE_ID"], sys.argv[1], max_workers=int(sys.argv[2])
).successful
""",
}
FRAME = """
import json, os, resource, sys, time
began = time.perf_counter()
{body}
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{
    "successful": successful,
    "seconds": time.perf_counter() - began,
    "cpu": usage.ru_utime + usage.ru_stime,
    "peak_mb": usage.ru_maxrss / 1024,
}}))
"""


@contextmanager
def sandbox(items: int, latency: float) -> Iterator[dict[str, str]]:
    """Run ``cfplatform sandbox`` in a process of its own and yield the variables that point to it."""
    command = [sys.executable, "-m", "cfplatform", "sandbox", "--json", "--quiet", "--items", str(items)]
    command += ["--latency", str(latency * 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            settings = json.loads(process.stdout.readline())
            names = {"api_key": "CF_API_KEY", "base_url": "CF_PLATFORM_BASE_URL"}
            yield {names.get(name, f"CF_{name.upper()}"): value for name, value in settings.items()}
        finally:
            process.terminate()


def control(settings: dict[str, str], method: str, path: str) -> Any:
    """Call the sandbox's control API."""
    root = settings["CF_PLATFORM_BASE_URL"].split("/api/")[0]
    request = urllib.request.Request(f"{root}/_sandbox{path}", method=method)  # noqa: S310 - a loopback address
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        return json.loads(response.read() or b"null")


def measure(side: str, settings: dict[str, str], workers: int) -> dict[str, Any]:
    """Download once; return the figures with the requests that the sandbox counted."""
    control(settings, "DELETE", "/requests")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FRAME.format(body=SIDES[side]), folder, str(workers)]
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=True, timeout=3600
        )
    return {**json.loads(done.stdout), "requests": control(settings, "GET", "")["counts"]}


def main() -> None:
    """Parse the options, run both sides in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000, help="work items in the project (1000)")
    parser.add_argument("--workers", type=int, default=10, help="workers of each side (10)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to every answer (0)")
    parser.add_argument("--rounds", type=int, default=3, help="downloads of each side (3)")
    parser.add_argument("--side", choices=[*SIDES], action="append", help="measure only this side")
    options = parser.parse_args()
    sides = options.side or [*SIDES]
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with sandbox(options.items, options.latency) as settings:
        for _ in range(options.rounds):
            for side in sides:
                rounds[side].append(measure(side, settings, options.workers))
    rates = {}
    for side, figures in rounds.items():
        assert all(figure["successful"] == options.items for figure in figures), figures
        median = {name: statistics.median(figure[name] for figure in figures) for name in ("seconds", "cpu", "peak_mb")}
        rates[side] = options.items / median["seconds"]
        print(
            f"{side:11} {rates[side]:8.1f} items/s  {median['cpu'] / options.items * 1000:6.2f} ms CPU an item  "
            f"{median['peak_mb']:6.1f} MB peak  requests {figures[-1]['requests']}"
        )
    if len(rates) == len(SIDES):
        print(f"ratio       {rates['cfplatform'] / rates['official']:8.2f}")
    if options.latency:
        print(f"ideal       {options.workers / (2 * options.latency):8.1f} items/s for two round trips an item")


if __name__ == "__main__":
    main()
