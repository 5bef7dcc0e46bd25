"""Runs sides in turn against one server, each in a separate process."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from . import server
from .table import Bar, Row, Side

ROOT = Path(__file__).parents[2]
#: A file system in memory, as Linux has it.
MEMORY = Path("/dev/shm")  # noqa: S108 - only folders with names of their own are made there
#: Bytes that must be free there.
NEEDED = 4 * 1024**3
#: Seconds that one run may take, whatever it is.
LIMIT = 1800


class Bench:
    """What the cases need: the server, the number of rounds, and what has been measured so far.

    Args:
        rounds: Runs of each side; their medians are compared.
        quick: Smaller sizes, for trying.
    """

    def __init__(self, rounds: int, quick: bool) -> None:
        self.rounds = rounds
        self.quick = quick
        self.rows: list[Row] = []
        self.sides: list[Side] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
            self._archives = self._folder / "archives"
            self._archives.mkdir()
            command = [sys.executable, "-m", "tests.benchmarks.server", str(self._archives)]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, **streams))
            stack.callback(process.terminate)
            assert process.stdout is not None
            self._origin, self._control_origin = process.stdout.readline().split()
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def size(self, full: int, quick: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full

    # --- Running -------------------------------------------------------------------------------------------

    def local(self, side: str, action: str, **arguments: Any) -> dict[str, Any]:
        """Run one action of one side that needs no server; return its figures."""
        return {**self._figures(side, action, self.environment(), arguments), "requests": {}, "server_cpu": 0.0}

    def run(
        self,
        side: str,
        action: str,
        *,
        project: str,
        latency: float = 0.0,
        fault: str | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Run one action of one side; return its figures and the server's counts.

        Args:
            side: A module of ``sides``.
            action: One of its actions.
            project: The project that it works on.
            latency: Seconds that the server waits before each response.
            fault: The fault that the server has during the run, as a path: see :func:`.faults.parse`.
            arguments: Those of the action.
        """
        variables = {
            **self.environment(),
            "CF_API_KEY": "benchmark",
            "CF_PLATFORM_BASE_URL": f"{self._origin}/api/v1",
            "CF_PROJECT_ID": project,
            "CF_SPACE_ID": server.SPACE,
            "NO_PROXY": "127.0.0.1",
        }
        # Ends a fault that is left over.
        self.control("reset/0")
        # Builds what the server keeps of a project, so that no side waits for it.
        self._get(f"/api/v1/projects/{project}/workItems?limit=1")
        before = self.control(f"reset/{latency}")
        if fault is not None:
            self.control(f"fault/{fault}")
        figures = self._figures(side, action, variables, arguments)
        after = self.control("counts")
        counts, busy = after["counts"], after["cpu"] - before["cpu"]
        return {**figures, "requests": counts, "wire_bytes": after["bytes"], "server_cpu": busy}

    def _figures(self, side: str, action: str, variables: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
        command = [sys.executable, "-m", f"tests.benchmarks.sides.{side}", action]
        streams = {"input": json.dumps(arguments), "capture_output": True, "text": True}
        done = subprocess.run(command, cwd=ROOT, env=variables, timeout=LIMIT, **streams)
        if done.returncode:
            raise RuntimeError(f"{side} {action} failed:\n{done.stderr[-4000:]}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def environment(self) -> dict[str, str]:
        """Return the variables of a side's process: with compiled modules, as they are where packages are installed."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PYTHONPYCACHEPREFIX": str(self._folder / "compiled")}

    def download(self, side: str, *, project: str, **arguments: Any) -> dict[str, Any]:
        """Run the action ``download`` into a folder that is removed afterwards."""
        with self.destination() as folder:
            return self.run(side, "download", project=project, destination=folder, **arguments)

    @contextmanager
    def destination(self, *, on_disk: bool = False, warm_mib: int = 0) -> Iterator[str]:
        """Make a folder that is removed afterwards.

        Args:
            on_disk: Not in memory.
            warm_mib: Size of a file that is written and removed first. In a virtual machine memory that was free for
                some time is the host's, so the first side to write a large file would pay for getting it back.

        It is in memory where that is possible: on ext4 a new file takes half a millisecond more for some minutes after
        many were deleted, since it does not use their inodes again at once. So each run would suffer from the one
        before.
        """
        in_memory = not on_disk and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED
        where = MEMORY if in_memory else self._folder
        with tempfile.TemporaryDirectory(dir=where, prefix="benchmarks-") as folder:
            if warm_mib:
                warm = Path(folder, "warm")
                with warm.open("wb") as file:
                    for _ in range(warm_mib):
                        file.write(bytes(1024 * 1024))
                warm.unlink()
            yield folder

    def in_turn(
        self, case: str, programs: dict[str, Callable[[], dict[str, Any]]], rounds: int | None = None
    ) -> list[Side]:
        """Run programs in turn, A B A B; return their figures."""
        rounds = self.rounds if rounds is None else rounds
        measured = [Side(case, name) for name in programs]
        for number in range(rounds):
            for side, program in zip(measured, programs.values(), strict=True):
                side.rounds.append(program())
                took = side.rounds[-1]["seconds"]
                print(f"{case}  round {number + 1} of {rounds}  {side.name}: {took:.2f} s", file=sys.stderr)
        self.sides += measured
        return measured

    def row(self, *cells: Any, **options: Any) -> None:
        """Add a comparison."""
        self.rows.append(Row(*cells, **options))

    def faster(self, case: str, what: str, ours: Side, other: Side, bar: Bar | None) -> None:
        """Add a comparison of two rates."""
        figure = ours.rate / other.rate
        self.row(case, what, f"{ours.rate:,.0f} items/s", f"{other.name} {other.rate:,.0f}", figure, bar)

    # --- The server ----------------------------------------------------------------------------------------

    def control(self, what: str) -> dict[str, Any]:
        """Send a control request, such as ``reset/0.05``; return the counts, the bytes and the processor time."""
        response: dict[str, Any] = self._get(f"/control/{what}")
        return response

    def urls(self, project: str, count: int) -> list[str]:
        """Return the addresses of the annotations and documents of the first items of a project."""
        items = self._get(f"/api/v1/projects/{project}/workItems?limit={count}")["items"]
        kib = int(project[:8])
        return [
            url
            for item in items
            for url in (
                f"{self._origin}/api/v1/projects/{project}/workItems/{item['id']}/annotations?format=coco",
                f"{self._origin}/storage/spaces/{server.SPACE}/coco_output/{kib}/{item['id']}.json?{server.SIGNATURE}",
            )
        ]

    def archive(self, mib: int, *, deflated: bool = False) -> tuple[str, str]:
        """Make an archive of about so many MiB as sent; return the id of its export and its address.

        Args:
            mib: Its size; one size is of one kind.
            deflated: Documents that shrink, rather than stored bytes that cannot.
        """
        path = self._archives / f"{mib}.zip"
        if not path.exists():
            contents = [_labels(seed) if deflated else os.urandom(min(mib, 4) * 1024 * 1024) for seed in range(4)]
            sent = 0
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
                for number in itertools.count():
                    name = f"Batch 1/{number:08d}.json"
                    archive.writestr(name, contents[number % len(contents)])
                    sent += archive.getinfo(name).compress_size
                    if sent >= mib * 1024 * 1024:
                        break
        return server.export_id(mib), f"{self._origin}/storage/exports/{path.name}?{server.SIGNATURE}"

    def _get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        # Both ports give the same responses, but this one is always open.
        with opener.open(self._control_origin + path, timeout=60) as response:
            return json.loads(response.read())


def _labels(seed: int) -> bytes:
    """Return a document of about a MiB whose numbers differ, so that it shrinks as real ones do."""
    chance = random.Random(seed)
    boxes = [[round(chance.uniform(0, 1900), 2) for _ in range(4)] for _ in range(9000)]
    labels = [
        {"id": n, "image_id": 1, "category_id": n % 7, "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0}
        for n, box in enumerate(boxes)
    ]
    return json.dumps({"info": {}, "images": [], "categories": [], "annotations": labels}).encode()


def curl_is_missing() -> bool:
    """Tell whether there is no curl to compare with."""
    return shutil.which("curl") is None
