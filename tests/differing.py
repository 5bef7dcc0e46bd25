"""A proxy that changes a sandbox's behaviour: each difference rewrites a request, its response, or both."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit


@dataclass
class Exchange:
    """A request on its way to the sandbox, and the response on its way back."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    @property
    def json(self) -> Any:
        """The body of the response, or ``None``."""
        is_json = self.answer_headers.get("content-type") == "application/json"
        return json.loads(self.answer) if is_json and self.answer else None

    def respond(self, data: Any, status: int | None = None) -> None:
        """Replace the response; if there is none yet, the sandbox gets no request."""
        self.status = status or self.status
        self.answer_headers.setdefault("content-type", "application/json")
        self.answer = json.dumps(data).encode()


#: Changes a request up to its ``yield``, and the response after it.
Difference = Callable[[Exchange], Iterator[None]]


class DifferingServer:
    """Serves a sandbox with some differences at a separate address; use it as a context manager."""

    def __init__(self, sandbox: Any, *differences: Difference) -> None:
        target = urlsplit(sandbox.base_url)
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet: two would be delayed.
            wbufsize = 65_536

            def log_message(self, *_: object) -> None:
                pass

            def serve(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                query = parse_qsl(parts.query, keep_blank_values=True)
                exchange = Exchange(self.command, parts.path, query, headers, body)
                steps = [difference(exchange) for difference in differences]
                with lock:
                    for step in steps:
                        next(step)
                    if not exchange.status:
                        forward(exchange)
                    for step in steps:
                        next(step, None)
                self.send_response_only(exchange.status)
                exchange.answer_headers["content-length"] = str(len(exchange.answer))
                for name, value in exchange.answer_headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(exchange.answer)

            do_GET = do_HEAD = do_POST = serve

        def forward(exchange: Exchange) -> None:
            connection = http.client.HTTPConnection(target.hostname or "", target.port)
            sent = {**exchange.headers, "host": target.netloc, "content-length": str(len(exchange.body))}
            query = f"?{urlencode(exchange.query)}" if exchange.query else ""
            connection.request(exchange.method, exchange.path + query, exchange.body, sent)
            response = connection.getresponse()
            exchange.status = response.status
            exchange.answer_headers = {name.lower(): value for name, value in response.getheaders()}
            # Signed URLs point here, so the storage differs too.
            exchange.answer = response.read().replace(target.netloc.encode(), self.netloc.encode())
            connection.close()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.base_url = f"http://{self.netloc}{target.path}"

    def __enter__(self) -> DifferingServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
