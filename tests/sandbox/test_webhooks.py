"""Webhooks: deliveries, and the keys to verify them."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .conftest import is_uuid


class Receiver(ThreadingHTTPServer):
    """Answers POSTs with the next planned status, else with 200, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook?a=1"
        self.statuses: list[int] = []
        self.received: list[tuple[str, dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def make_receiver() -> Iterator[Callable[[], Receiver]]:
    receivers = []

    def make() -> Receiver:
        receiver = Receiver()
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        receivers.append((receiver, thread))
        return receiver

    yield make
    for receiver, thread in receivers:
        receiver.shutdown()
        thread.join()
        receiver.server_close()


@pytest.fixture
def receiver(make_receiver) -> Receiver:
    return make_receiver()


def keys(wire):
    answer = wire.send("GET", "/api/.well-known/jwks.json")
    assert answer.status == 200
    return {key["kid"]: key for key in answer.json["keys"]}


def verify(key, signature, body):
    raw = base64.urlsafe_b64decode(key["x"] + "=")
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature, validate=True), body)


def test_key_set(wire):
    answer = wire.send("GET", "/api/.well-known/jwks.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert "max-age=3600" in answer.headers["cache-control"]
    (key,) = answer.json["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    assert len(key) == 6
    assert len(key["x"]) == 43
    assert "=" not in key["x"]
    assert is_uuid(key["kid"].lower())
    assert key["kid"] == key["kid"].upper() == wire.sandbox.webhook_key_id
    assert wire.sandbox.jwks_url.endswith("/api/.well-known/jwks.json")
    assert wire.sandbox.counts["jwks"] == 1
    wire.sandbox.fail_next(503, path="*/jwks.json")
    assert wire.send("GET", "/api/.well-known/jwks.json").status == 503
    assert wire.send("GET", "/api/.well-known/other").status == 404
    assert wire.send("POST", "/api/.well-known/jwks.json").status == 405


def test_the_seed_decides_the_keys(make_wire):
    first, same, other = (keys(make_wire(1, seed=seed)) for seed in (1, 1, 2))
    assert first == same
    assert not first.keys() & other.keys()


def test_rotation(wire):
    (first,) = keys(wire)
    second = wire.sandbox.rotate_webhook_key()
    assert list(keys(wire)) == [second, first]
    third = wire.sandbox.rotate_webhook_key(keep_old=False)
    assert list(keys(wire)) == [third]
    assert wire.sandbox.sign_webhook(b"x")["X-Payload-Key-Id"] == third
    fourth = wire.control("POST", "/webhook-key", {}).json["key_id"]
    assert list(keys(wire)) == [fourth, third]
    assert wire.control("POST", "/webhook-key", {"keep_old": 1}).status == 400
    wire.sandbox.reset()
    assert list(keys(wire)) == [first]
    assert len({first, second, third, fourth}) == 4


def test_a_change_of_status_is_announced(wire, receiver):
    wire.sandbox.webhook_url = receiver.url
    before = wire.sandbox.work_item(3)
    begin = time.time()
    wire.sandbox.set_status(3, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    item = wire.sandbox.work_item(3)
    assert (item["status"], item["updatedAt"] > before["updatedAt"]) == ("CLIENT_REVIEW", True)
    ((path, headers, body),) = receiver.received
    assert path == "/hook?a=1"
    assert headers["content-type"] == "application/json"
    assert int(begin) <= int(headers["x-payload-timestamp"]) <= time.time()
    signature = headers["x-payload-signature"]
    assert len(base64.b64decode(signature, validate=True)) == 64
    key = keys(wire)[headers["x-payload-key-id"]]
    verify(key, signature, body)
    with pytest.raises(InvalidSignature):
        verify(key, signature, body + b" ")
    message = json.loads(body)
    assert list(message) == [
        "workItemID",
        "assetType",
        "assetUrl",
        "createdAt",
        "status",
        "updatedAt",
        "deliveredAt",
    ]
    assert (message["workItemID"], message["status"]) == (item["id"], "CLIENT_REVIEW")
    for name in ("assetType", "assetUrl", "createdAt", "updatedAt"):
        assert message[name] == item[name]
    assert message["deliveredAt"].endswith("Z")
    (delivery,) = wire.sandbox.deliveries
    assert (delivery.outcome, delivery.work_item_id, delivery.status) == ("delivered", item["id"], "CLIENT_REVIEW")
    (attempt,) = delivery.attempts
    assert (attempt.status, attempt.body, attempt.error) == (200, body, None)
    assert attempt.headers["X-Payload-Signature"] == signature
    assert wire.control("GET", "/deliveries").json["items"] == [delivery.as_dict()]


def test_the_item_decides_where_to(wire, make_receiver):
    own, default = make_receiver(), make_receiver()
    body = {"assetUrl": "assets/x", "metadata": {"callbackUrl": own.url}}
    item_id = wire.api("POST", f"/projects/{wire.sandbox.project_id}/workItems", body).json["id"]
    wire.sandbox.webhook_url = default.url
    wire.sandbox.set_status(item_id, "COMPLETED")
    wire.sandbox.patch_work_item_json(1, {"metadata": {"callbackUrl": own.url}})
    wire.sandbox.set_status(1, "CLIENT_REVIEW")
    wire.sandbox.set_status(2, "COMPLETED")
    wire.sandbox.webhook_url = None
    wire.sandbox.set_status(2, "COMPLETED")
    assert wire.sandbox.wait_for_deliveries()
    assert [json.loads(body)["workItemID"] for _, _, body in own.received] == [
        item_id,
        wire.sandbox.work_item(1)["id"],
    ]
    assert len(default.received) == 1
    first, second, third = (delivery.number for delivery in wire.sandbox.deliveries)
    assert (second, third) == (first + 1, first + 2)


def test_updates_announce_only_another_status(make_wire, receiver):
    wire = make_wire(5, webhook_url=receiver.url)
    wire.sandbox.update_work_item(0)
    wire.sandbox.update_work_item(0, status="COMPLETED")
    wire.sandbox.update_work_item(0, status="CLIENT_REVIEW", touch=False)
    wire.control("POST", "/work-items/0", {"status": "COMPLETED"})
    assert wire.sandbox.wait_for_deliveries()
    assert [json.loads(body)["status"] for _, _, body in receiver.received] == ["CLIENT_REVIEW", "COMPLETED"]


def test_control(wire, receiver):
    item_id = wire.ids()[4]
    wire.control("POST", "/settings", {"webhook_url": receiver.url})
    answer = wire.control("POST", f"/work-items/{item_id}/status", {"status": "CLIENT_REVIEW"})
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, item_id, "CLIENT_REVIEW")
    assert wire.control("POST", "/work-items/4/status", {"status": "COMPLETED"}).json["status"] == "COMPLETED"
    assert wire.sandbox.wait_for_deliveries()
    assert len(receiver.received) == 2
    for body in ({}, {"status": ""}, {"status": 5}, []):
        assert wire.control("POST", "/work-items/4/status", body).status == 400
    assert wire.control("POST", "/work-items/50/status", {"status": "x"}).status == 404


def test_retries(wire, receiver):
    wire.sandbox.webhook_url = receiver.url
    receiver.statuses = [500, 302]
    wire.sandbox.set_status(0, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    receiver.statuses = [503, 404, 500, 500]
    wire.sandbox.set_status(0, "COMPLETED")
    assert wire.sandbox.wait_for_deliveries()
    first, second = wire.sandbox.deliveries
    assert (first.outcome, [attempt.status for attempt in first.attempts]) == ("delivered", [500, 302, 200])
    assert (second.outcome, [attempt.status for attempt in second.attempts]) == ("failed", [503, 404, 500])
    assert len(receiver.received) == 6
    known = keys(wire)
    for _, headers, body in receiver.received:
        verify(known[headers["x-payload-key-id"]], headers["x-payload-signature"], body)


def test_nobody_there(wire):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wire.sandbox.webhook_url = f"http://localhost:{closed.getsockname()[1]}"
    wire.sandbox.set_status(0, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    (delivery,) = wire.sandbox.deliveries
    assert delivery.outcome == "failed"
    assert [attempt.status for attempt in delivery.attempts] == [None] * 3
    assert all("ConnectionRefusedError" in attempt.error for attempt in delivery.attempts)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/hook",
        "http://example.com/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "nonsense",
        "http://127.0.0.1.example.com/",
    ],
)
def test_other_machines_are_refused(wire, url):
    wire.sandbox.webhook_url = url
    wire.sandbox.set_status(0, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    (delivery,) = wire.sandbox.deliveries
    assert (delivery.outcome, delivery.attempts, delivery.url) == ("refused", (), url)


def test_a_slow_receiver_blocks_nobody(wire):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        wire.sandbox.webhook_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.perf_counter()
        wire.sandbox.set_status(0, "CLIENT_REVIEW")
        assert wire.batches().status == 200
        assert time.perf_counter() - begin < 0.3
        assert wire.sandbox.deliveries[0].outcome == "pending"
    # It is gone now, so the delivery need not run into its timeout.
    assert wire.sandbox.wait_for_deliveries()


def test_a_rotated_key_signs_the_next_message(wire, receiver):
    wire.sandbox.webhook_url = receiver.url
    old = wire.sandbox.webhook_key_id
    wire.sandbox.set_status(0, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    new = wire.sandbox.rotate_webhook_key(keep_old=False)
    wire.sandbox.set_status(0, "COMPLETED")
    assert wire.sandbox.wait_for_deliveries()
    assert [headers["x-payload-key-id"] for _, headers, _ in receiver.received] == [old, new]
    assert list(keys(wire)) == [new]


def test_stop_ends_the_thread(make_wire, receiver):
    before = threading.active_count()
    wire = make_wire(3, webhook_url=receiver.url)
    for _ in range(2):
        wire.sandbox.set_status(0, "COMPLETED")
        assert wire.sandbox.wait_for_deliveries()
        wire.sandbox.stop()
        # The receiver answers each connection in a thread of its own.
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert threading.active_count() == before
        wire.sandbox.start()
    assert len(receiver.received) == 2


def test_reset_forgets(wire, receiver):
    wire.sandbox.webhook_url = receiver.url
    wire.sandbox.set_status(0, "CLIENT_REVIEW")
    assert wire.sandbox.wait_for_deliveries()
    wire.sandbox.reset()
    assert (wire.sandbox.deliveries, wire.sandbox.webhook_url) == ([], None)
