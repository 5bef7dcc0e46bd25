"""Helpers of the fault tests: trees of files, and downloads in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The root of the checkout, so that child processes import the same package.
ROOT = Path(__file__).parents[2]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, except for the hidden state, with its bytes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".cfplatform" not in path.parts
    }


def parts(root: Path) -> list[str]:
    """Files that a run left unfinished."""
    return sorted(os.listdir(root / ".cfplatform" / "partial"))


def fetched(sandbox: Any) -> int:
    """How many requests went to the storage."""
    return sandbox.counts["storage"]


class Child(subprocess.Popen[str]):
    """A process that a failing test ends, rather than waiting for it."""

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def start(sandbox: Any, code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, pointed at a sandbox."""
    return Child(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(sandbox: Any, code: str, *arguments: object, seconds: float = 60, **options: Any) -> tuple[int, str, str]:
    """Run Python code in a process of its own; return its exit code and what it wrote."""
    with start(sandbox, code, *arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return process.returncode, out, err


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def page(ids: list[str], following: Any = None, **fields: Any) -> bytes:
    """Return a page of work items as the platform sends it."""
    items = [{"id": each, "batchId": None, "status": "COMPLETED", **fields} for each in ids]
    return json.dumps({"items": items, "meta": {"cursorNext": following}}).encode()


def store_at(sandbox: Any, origin: str, query: str = "X-Amz-Signature=0123") -> None:
    """Let every signed URL of a sandbox lead to another server."""
    items = [
        {"path": f"coco_output/{each}.json", "signedUrl": f"{origin}/{each}?{query}"}
        for each in sandbox.work_item_ids()
    ]
    sandbox.replace_next(json.dumps({"items": items}).encode(), times=None, path="*/signedurls")
