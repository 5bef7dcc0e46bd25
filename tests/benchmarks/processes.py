"""Download one project with threads alone, with one worker process and with two, in turn, from one sandbox.

Run it with ``python -m tests.benchmarks.processes``; ``--help`` shows the options. It says how much of a processor the
sandbox used: where that is nearly one, the server was the limit and the ratio says nothing of the client. The processor
time of the caller and of the workers is told apart, since it stays true where others use the machine too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from cfplatform import Client

from .download import control, sandbox

SIDES = {"threads": 0, "1 process": 1, "2 processes": 2}


def children_cpu() -> dict[int, float]:
    """Return the processor seconds of each child of this process so far."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found[int(name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def measure(processes: int, workers: int, server: int) -> tuple[float, float, float, float]:
    """Download once; return the seconds, and those of a processor that server, caller and workers used."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        client = stack.enter_context(Client(max_workers=workers))
        pool = None
        if processes:
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
            # Started and imported before the clock runs.
            few = client.get_work_items(max_items=1)
            client.download_work_items(few, os.path.join(folder, "warm"), executor=pool)
            list(pool.map(time.sleep, [0.5] * processes))
        before, own, began = children_cpu(), time.process_time(), time.perf_counter()
        summary = client.download_project(destination=os.path.join(folder, "labels"), executor=pool)
        seconds = time.perf_counter() - began
        assert summary.successful == summary.total_items
        used = {child: cpu - before[child] for child, cpu in children_cpu().items()}
        return seconds, used.pop(server), time.process_time() - own, sum(used.values())


def main() -> None:
    """Parse the options, run all sides in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000, help="work items in the project (3000)")
    parser.add_argument("--workers", type=int, default=10, help="max_workers of the client (10)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to every answer (0)")
    parser.add_argument("--rounds", type=int, default=3, help="downloads of each side (3)")
    options = parser.parse_args()
    figures: dict[str, list[tuple[float, float, float, float]]] = {side: [] for side in SIDES}
    with sandbox(options.items, options.latency) as settings:
        os.environ.update(settings)
        control(settings, "GET", "")
        (server,) = children_cpu()
        for _ in range(options.rounds):
            for side, processes in SIDES.items():
                figures[side].append(measure(processes, options.workers, server))
                control(settings, "DELETE", "/requests")
    rates = {}
    for side, rows in figures.items():
        seconds, server_cpu, caller, others = (statistics.median(column) for column in zip(*rows, strict=True))
        rates[side] = options.items / seconds
        print(
            f"{side:12} {rates[side]:8.1f} items/s  server {server_cpu / seconds:.2f} of a processor  ms CPU an item: "
            f"caller {caller / options.items * 1000:.2f}, workers {others / options.items * 1000:.2f}"
        )
    print(f"ratio        {rates['2 processes'] / rates['1 process']:8.2f}")


if __name__ == "__main__":
    main()
