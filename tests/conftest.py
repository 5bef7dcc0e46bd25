"""What every test gets: a clean environment, no network but loopback, no waiting, and a platform of its own."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from cfplatform import Client
    from cfplatform.sandbox import Sandbox

# A busy machine must not turn a test red.
settings.register_profile("cfplatform", deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


class BlockedConnectionError(RuntimeError):
    """A test wanted to leave this machine. No ``OSError``, so that no code takes it for a broken network."""


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
    # The waits between attempts are random, so that these are among the ones that a user may meet.
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
