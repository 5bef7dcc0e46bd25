"""urllib3 without any SDK: a connection pool and nothing else."""

from __future__ import annotations

from typing import Any

import urllib3

from . import frame, loop


def download(destination: str, max_workers: int) -> dict[str, Any]:
    """Download a project."""
    return loop.download(_sender(max_workers), destination, max_workers)


def listing() -> dict[str, Any]:
    """Read a complete listing."""
    return {"items": sum(1 for _ in loop.listed(_sender(1), "workItems?status=COMPLETED&limit=100"))}


def _sender(size: int) -> loop.Send:
    pool = urllib3.HTTPConnectionPool(loop.ADDRESS.hostname or "", loop.ADDRESS.port, maxsize=size)

    def send(method: str, path: str, headers: dict[str, str], body: str | None = None) -> bytes:
        return pool.request(method, path, headers=headers, body=body).data

    return send


if __name__ == "__main__":
    frame.run({each.__name__: each for each in (download, listing)})
