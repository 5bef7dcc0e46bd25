"""An S3 server on loopback: moto, behind a proxy that logs requests and can reject them."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

SECRET = "store-secret-sentinel"  # noqa: S105 - made up


class Request(NamedTuple):
    """One request as it arrived."""

    method: str
    path: str
    query: str


class _Quiet(WSGIRequestHandler):
    # Connections are kept alive, as by a real store.
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Write nothing."""


class S3Server:
    """Starts when it is created; bound in the caller's thread, so it responds at once."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        #: Called with a request; returns status and code of a response in place of the store's, or ``None``.
        self.door: Callable[[Request], tuple[str, str] | None] = lambda request: None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settings(self) -> dict[str, Any]:
        """The fsspec configuration to reach it."""
        return {"endpoint_url": self.url, "key": "testing", "secret": SECRET, "client_kwargs": {"region_name": "eu"}}

    def counts(self) -> Counter[str]:
        """Requests by method."""
        return Counter(request.method for request in self.requests)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        self.requests.append(request)
        refusal = self.door(request)
        if refusal is None:
            return self._app(environ, start_response)
        status, code = refusal
        # Read, because the connection is kept alive.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>The store says {code}</Message></Error>".encode()
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return io.BytesIO(body)
