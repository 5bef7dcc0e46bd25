"""A company proxy: it intercepts TLS with its own certificate, and all requests go through it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit


class CompanyProxy:
    """Serves one plain server with TLS and another name; use it as a context manager."""

    shown = "https://platform.example"

    def __init__(self, origin: str, folder: Path) -> None:
        address = urlsplit(origin)
        self._target = (address.hostname, address.port)
        #: The targets of tunnels, in order.
        self.tunnels: list[str] = []
        self.certificate = folder / "company.pem"
        key = folder / "company.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-days", "2", "-subj", "/CN=company", "-addext", "subjectAltName=DNS:platform.example"]
            + ["-out", self.certificate, "-keyout", key],
            check=True,
            capture_output=True,
        )
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> CompanyProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing a socket does not wake a thread that waits for it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, socket.create_connection(self._target) as target:
            connection.settimeout(30)
            head = connection.recv(65536)
            self.tunnels.append(head.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                threading.Thread(target=_copy, args=(target, secured), daemon=True).start()
                # A server expects the name at which it listens.
                _copy(
                    secured,
                    target,
                    (b"Host: platform.example", b"Host: %s:%d" % (self._target[0].encode(), self._target[1])),
                )


def _copy(source: socket.socket, sink: socket.socket, edit: tuple[bytes, bytes] = (b"", b"")) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data.replace(*edit) if edit[0] else data)
        sink.shutdown(socket.SHUT_WR)
