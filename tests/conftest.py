"""Fixtures of all tests: a clean environment, no network except loopback, no waits, and a sandbox."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.faults.tools import parts, store_at, tree
from tests.http.scripted import Answer, ScriptedServer
from tests.tools import KEY, SIGNATURE, load

if TYPE_CHECKING:
    from cfplatform import Client, DownloadResult
    from cfplatform.sandbox import Sandbox
    from tests.deliveries import Clock, Signer

# A busy machine must not fail a test. ``--hypothesis-profile stress`` tries more.
_ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("cfplatform", max_examples=50, **_ANY_SPEED)
settings.register_profile("stress", max_examples=1000, **_ANY_SPEED)
settings.load_profile("cfplatform")

#: Variables that change where requests go or what they carry, in lower case.
_VARIABLES = {
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "curl_ca_bundle",
    "requests_ca_bundle",
    "ssl_cert_dir",
    "ssl_cert_file",
    "sslkeylogfile",
    "netrc",
}


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection: each full collection would take 0.2 s of a test."""
    gc.collect()
    gc.freeze()


class BlockedConnectionError(RuntimeError):
    """A test tried to leave this machine. Not an ``OSError``, so code does not treat it as a network error."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CF_") or name.lower() in _VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, method, _guarded(getattr(socket.socket, method)))
    monkeypatch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise BlockedConnectionError(f"a test connects to {address!r}")
        return connect(self, address)

    return guarded


def _guarded_lookup(lookup: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name and not _is_loopback(name):
            raise BlockedConnectionError(f"a test looks up {name!r}")
        return lookup(host, *args, **kwargs)

    return guarded


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    # Waits that a user may meet, too, since they are random. No option of a client shortens them alone: retries= with a
    # policy of one's own replaces what is repeated as well, and hundreds of tests would wait for seconds.
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) / 500)


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Start sandboxes with the given options; all are stopped when the test ends."""
    from cfplatform.sandbox import Sandbox

    started: list[Sandbox] = []

    def make(**options: Any) -> Sandbox:
        sandbox = Sandbox(**options)
        started.append(sandbox)
        sandbox.start()
        return sandbox

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A running sandbox with 20 work items in 2 batches."""
    return make_sandbox(items=20, batches=2)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    """A client of ``sandbox``, closed when the test ends."""
    with sandbox.client() as client:
        yield client


# --- A server with scripted responses


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers with scripted responses; all are stopped when the test ends."""
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
    from cfplatform import Client

    opened: list[Client] = []

    def make(server: ScriptedServer | str, **options: Any) -> Client:
        base_url = server if isinstance(server, str) else server.base_url
        # Permanent faults must fail at once; tests/functional/test_outages.py tests waiting.
        client = Client(KEY, base_url=base_url, **{"project_id": "p", "timeout": 5, "patience": 0, **options})
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def fetch(connect: Callable[..., Client]) -> Callable[..., bytes]:
    """Fetch an object of a server with a new client."""

    def run(server: ScriptedServer, target: str = f"/o?X-Amz-Signature={SIGNATURE}", **options: Any) -> bytes:
        return load(connect(server, **options), target if "://" in target else server.origin + target)

    return run


@pytest.fixture
def download_body(
    serve: Callable[..., ScriptedServer], make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> Callable[..., tuple[DownloadResult, int]]:
    """Download one item whose document a scripted server sends; return its result and the number of requests."""

    def run(*answers: bytes | Answer, retries: int = 1, **options: Any) -> tuple[DownloadResult, int]:
        sandbox = make_sandbox(items=1, batches=1)
        server = serve(*answers[:-1], default=answers[-1])
        store_at(sandbox, server.origin)
        with sandbox.client(retries=retries) as client:
            summary = client.download_project(destination=tmp_path, inject_asset_url=False, **options)
        (result,) = summary.results
        assert parts(tmp_path) == []
        assert (result.outcome == "failed") == (tree(tmp_path) == {})
        return result, len(server.requests)

    return run


# --- Fixtures of several folders


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[..., subprocess.CompletedProcess[str]]]]:
    """A separate disk of 1 MiB, and a function that remounts it with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place]
        return subprocess.run(command, capture_output=True, text=True)

    try:
        made = mount("size=1m")
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip(f"mounting is not permitted: {made.stderr.strip()}")
    yield place, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The complete log."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def signer() -> Signer:
    """A signing key of the platform."""
    from tests.deliveries import Signer

    return Signer()


@pytest.fixture
def clock() -> Clock:
    """A clock that changes only when it is set."""
    from tests.deliveries import Clock

    return Clock()
