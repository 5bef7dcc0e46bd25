"""Faulty key servers, with a short limit for each response."""

from __future__ import annotations

import time

import pytest

from cfplatform.webhooks import WebhookVerifier, keys
from tests.deliveries import NOW, Signer, published
from tests.faults.test_w_webhooks import FAULTS, PATH, refusal


@pytest.fixture(autouse=True)
def _short_limit(monkeypatch):
    monkeypatch.setattr(keys, "FETCH_SECONDS", 0.5)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_broken_key_server_takes_no_known_key_away(serve, signer, clock, fault):
    server = serve(published(signer), default=fault)
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    verifier.verify(*signer.deliver())
    clock.now += 3601
    began = time.monotonic()
    assert verifier.verify(*signer.deliver(at=clock.now)).key_id == "KEY-1"
    assert time.monotonic() - began < 3
    assert len(server.requests) == 2
    # It is not asked again with each delivery.
    verifier.verify(*signer.deliver(at=clock.now))
    assert len(server.requests) == 2
    error = refusal(verifier, *Signer("KEY-2").deliver(at=clock.now))
    assert error.reason == "keys_unavailable"
    # 24 h after they were fetched, old keys are no longer believed.
    clock.now = NOW + 86_399
    verifier.verify(*signer.deliver(at=clock.now))
    clock.now = NOW + 86_401
    assert refusal(verifier, *signer.deliver(at=clock.now)).reason == "keys_unavailable"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_without_any_key_nothing_is_accepted_and_the_message_says_why(serve, signer, clock, fault):
    server = serve(fault, default=published(signer))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    began = time.monotonic()
    error = refusal(verifier, *signer.deliver())
    assert time.monotonic() - began < 3
    assert error.reason == "keys_unavailable"
    assert "keys could not be fetched" in str(error)
    assert PATH in str(error)
    assert "503" in str(error)
    clock.now += 31
    assert verifier.verify(*signer.deliver(at=clock.now)).key_id == "KEY-1"
    assert refusal(verifier, *Signer("KEY-2").deliver(at=clock.now)).reason == "unknown_key"
