"""A server on this machine that receives webhooks; imported only by the command that runs it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from ..webhooks import MAX_BODY_BYTES

#: Seconds without a byte after which a connection is closed.
SILENCE = 10.0

#: Handles the body and the headers of a delivery, and returns the status of the response.
Receive = Callable[[bytes, Message], int]


class Listener(ThreadingHTTPServer):
    """Receives deliveries at any path, each in a thread of its own.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        receive: Called for each body; may run in several threads. If it raises, the server stops.
    """

    # Closing waits for deliveries under way.
    daemon_threads = False

    def __init__(self, host: str, port: int, receive: Receive) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.receive = receive
        self.failure: BaseException | None = None
        super().__init__((host, port), _Delivery)

    def server_bind(self) -> None:
        """Bind without looking up the host name, which can be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore broken connections: the sender sees the error."""

    @property
    def url(self) -> str:
        """The URL on this machine."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    def run(self) -> None:
        """Serve until Ctrl-C.

        Raises:
            Exception: The error that ``receive`` raised.
        """
        with self:
            self.serve_forever()
        if self.failure is not None:
            raise self.failure

    def fail(self, error: BaseException) -> None:
        """Stop because of an error."""
        self.failure = error
        # From another thread: it waits for the end of the loop.
        threading.Thread(target=self.shutdown, daemon=True).start()


class _Delivery(BaseHTTPRequestHandler):
    timeout = SILENCE

    def do_POST(self) -> None:  # noqa: N802 - the name is that of the base class
        self.send_response(self._received())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _received(self) -> int:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            return 411
        if int(length) > MAX_BODY_BYTES:
            return 413
        server = cast(Listener, self.server)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return 400
        try:
            return server.receive(body, self.headers)
        except Exception as error:
            server.fail(error)
            return 500

    def version_string(self) -> str:
        return "cfplatform"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the command prints what matters."""
