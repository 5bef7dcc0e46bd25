"""requests without any SDK: a straightforward loop of ``Session.get``."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from . import frame, loop


def download(destination: str, max_workers: int) -> dict[str, Any]:
    """Download a project, with one session for all threads and a connection for each."""
    session = requests.Session()
    origin = f"{loop.ADDRESS.scheme}://{loop.ADDRESS.netloc}"
    session.mount(origin, HTTPAdapter(pool_connections=1, pool_maxsize=max_workers))

    def send(method: str, path: str, headers: dict[str, str], body: str | None = None) -> bytes:
        if method == "GET":
            return session.get(origin + path, headers=headers).content
        return session.post(origin + path, headers=headers, data=body).content

    return loop.download(send, destination, max_workers)


if __name__ == "__main__":
    frame.run({"download": download})
