from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cfplatform import Client
from tests.http.scripted import Answer, ScriptedServer

KEY = "cf-key-SENTINEL-0123456789"
SIGNATURE = "SENTINELsignature0123"


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers with planned answers; all are stopped when the test ends."""
    started: list[ScriptedServer] = []

    def make(*answers: bytes | Answer, **options: Any) -> ScriptedServer:
        server = ScriptedServer(*answers, **options)
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Build clients of a server; all are closed when the test ends."""
    opened: list[Client] = []

    def make(server: ScriptedServer | str, **options: Any) -> Client:
        base_url = server if isinstance(server, str) else server.base_url
        # A fault that lasts is to be seen at once; what a run waits for is tried in tests/functional/test_outages.py.
        client = Client(KEY, base_url=base_url, **{"project_id": "p", "timeout": 5, "patience": 0, **options})
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def fetch(connect: Callable[..., Client]) -> Callable[..., Any]:
    """Fetch an object of a server through the storage half of a client, and return its bytes."""

    def run(
        server: ScriptedServer,
        target: str = f"/o?X-Amz-Signature={SIGNATURE}",
        receive: Callable[[Any], Any] = lambda stream: b"".join(stream.chunks()),
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Any:
        url = target if "://" in target else server.origin + target
        return connect(server, **options)._calls.fetch(url, receive, headers=headers)

    return run
