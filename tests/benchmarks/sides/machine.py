"""The limits of the machine: curl, and sockets without an HTTP library."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import frame


def parallel(urls: list[str], destination: str, connections: int) -> dict[str, Any]:
    """Fetch URLs into files with ``curl --parallel``."""
    lines = [f'url = "{url}"\noutput = "{destination}/{number}"' for number, url in enumerate(urls)]
    settings = Path(destination, "settings")
    settings.write_text("\n".join(lines))
    command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(connections), "-K", str(settings)]
    subprocess.run(command, check=True, timeout=300)
    return {"items": len(urls), "peak_mb": None}


def raw(url: str, count: int, connections: int) -> dict[str, Any]:
    """Send one request over and over on several connections and throw the responses away."""
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    sockets = [socket.create_connection((parts.hostname, parts.port)) for _ in range(connections)]
    for _ in range(count // connections):
        for each in sockets:
            each.sendall(request)
        for each in sockets:
            received = each.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(body)
            while left > 0:
                left -= len(each.recv(65536))
    return {"items": count // connections * connections}


if __name__ == "__main__":
    frame.run({each.__name__: each for each in (parallel, raw)})
