"""Runs one action of a side, and prints its cost as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def run(actions: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Run the action that the command line names; its imports are done, so the clock does not count them."""
    name, arguments = sys.argv[1], json.load(sys.stdin)
    busy, began = _cpu(), time.perf_counter()
    result = actions[name](**arguments)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu": _cpu() - busy, "peak_mb": _peak_mb(), **result}))


def _cpu() -> float:
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mb() -> float:
    # Linux hands a parent's ru_maxrss down to its children; this figure begins with the program itself.
    if _STATUS.exists():
        (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
