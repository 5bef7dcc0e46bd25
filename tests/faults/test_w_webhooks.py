"""Group W: webhook deliveries that are forged, old, replayed or malformed, and faulty key servers."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfplatform import CFPlatformError, ConfigurationError, WebhookVerificationError
from cfplatform.webhooks import MAX_BODY_BYTES, RecentDeliveries, WebhookVerifier
from tests.deliveries import NOW, Signer, key_set, moment, payload, published, unpadded
from tests.faults.tools import ROOT, wait_until
from tests.http.scripted import Answer, raw, said
from tests.tools import outcome

PATH = "/api/.well-known/jwks.json"
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture
def verifier(signer, clock):
    """A verifier that knows the signer's key and fetches nothing."""
    return WebhookVerifier(keys=key_set(signer), clock=clock)


def refusal(verifier, body, headers):
    """Return why a delivery is refused; its message must tell nothing of what was delivered."""
    _, error = outcome(CFPlatformError, verifier.verify, body, headers)
    assert type(error) is WebhookVerificationError, "it was accepted"
    assert str(error).startswith("The webhook delivery was rejected: ")
    assert pickle.loads(pickle.dumps(error)).reason == error.reason  # noqa: S301
    signature = headers.get("X-Payload-Signature")
    for secret in (signature, "c2fe4a5d", "some_asset_directory"):
        assert not secret or len(secret) < 8 or str(secret) not in str(error)
    return error


# --- W1 ----------------------------------------------------------------------------------------------------


def test_w01_only_the_exact_bytes_verify(verifier, signer):
    body, headers = signer.deliver()
    assert verifier.verify(body, headers).status == "COMPLETED"
    for changed in (
        json.dumps(json.loads(body), separators=(",", ":")).encode(),
        json.dumps(json.loads(body), indent=1).encode(),
        json.dumps(json.loads(body), sort_keys=True).encode(),
        body.replace(b": ", b":  ", 1),
        body + b"\n",
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        gzip.compress(body),
        body[:-1],
        b"",
    ):
        assert refusal(verifier, changed, headers).reason == "signature"


def test_w01_what_is_no_longer_the_raw_body_is_refused_with_a_hint(verifier, signer):
    body, headers = signer.deliver()
    for parsed in (body.decode(), json.loads(body), bytearray(body), memoryview(body), None, 7):
        error = refusal(verifier, parsed, headers)
        assert error.reason == "malformed"
        assert "the raw bytes" in str(error)


# --- W2 ----------------------------------------------------------------------------------------------------


def test_w02_an_old_delivery_with_a_fresh_header_is_refused(verifier, signer, clock):
    body, headers = signer.deliver()
    clock.now += 301
    headers["X-Payload-Timestamp"] = str(int(clock.now))
    error = refusal(verifier, body, headers)
    assert error.reason == "expired"
    assert "signed deliveredAt is 301 s in the past" in str(error)


def test_w02_a_copy_is_refused_and_a_repeated_delivery_is_not(signer, clock):
    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, seen=RecentDeliveries())
    body, headers = signer.deliver()
    first = verifier.verify(body, headers)
    assert refusal(verifier, body, headers).reason == "replayed"
    # Another header changes nothing: what counts is the signed body.
    assert refusal(verifier, body, {**headers, "X-Payload-Timestamp": str(int(NOW) + 60)}).reason == "replayed"
    clock.now += 60
    again = verifier.verify(*signer.deliver(at=clock.now))
    assert (again.work_item_id, again.status, again.updated_at) == (first.work_item_id, first.status, first.updated_at)
    assert again.delivery_id != first.delivery_id


def test_w02_what_could_not_be_handled_can_be_forgotten(signer, clock):
    seen = RecentDeliveries()
    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, seen=seen)
    body, headers = signer.deliver()
    seen.forget(verifier.verify(body, headers).delivery_id)
    assert verifier.verify(body, headers).status == "COMPLETED"


class Recorder:
    """A store of the caller's own."""

    def __init__(self):
        self.calls = []

    def remember(self, delivery_id, seconds):
        self.calls.append((delivery_id, seconds))
        return len(self.calls) == 1


def test_w02_a_store_of_ones_own_hears_of_good_deliveries_only_and_long_enough(signer, clock):
    seen = Recorder()
    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, seen=seen, tolerance=100, expected={"other"})
    for body, headers in (
        (b"{}", signer.deliver()[1]),
        signer.deliver(at=NOW - 101),
        signer.deliver(b"[]"),
        signer.deliver(),
    ):
        assert refusal(verifier, body, headers).reason in ("signature", "expired", "malformed", "unexpected")
    assert seen.calls == []
    body, headers = signer.deliver(workItemID="other", at=NOW + 100)
    event = verifier.verify(body, headers)
    # It stays acceptable until 100 s after a deliveredAt that is 100 s ahead.
    assert seen.calls == [(hashlib.sha256(body).hexdigest(), 201.0)]
    assert event.delivery_id == seen.calls[0][0]
    assert refusal(verifier, body, headers).reason == "replayed"


def test_w02_of_many_copies_at_once_one_is_accepted(signer, clock):
    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, seen=RecentDeliveries())
    body, headers = signer.deliver()
    with ThreadPoolExecutor(16) as pool:
        results = list(
            pool.map(lambda _: outcome(WebhookVerificationError, verifier.verify, body, headers), range(200))
        )
    assert sum(event is not None for event, _ in results) == 1
    assert {error.reason for _, error in results if error} == {"replayed"}


# --- W3 ----------------------------------------------------------------------------------------------------


def test_w03_events_about_work_items_of_others_are_refused_when_ours_are_named(signer, clock):
    ours = set()
    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, expected=ours)
    body, headers = signer.deliver(workItemID="ours")
    assert refusal(verifier, body, headers).reason == "unexpected"
    ours.add("ours")
    assert verifier.verify(body, headers).work_item_id == "ours"


def test_w03_a_function_decides_and_sees_only_what_is_signed_and_fresh(signer, clock):
    asked = []

    def is_ours(event):
        asked.append(event.work_item_id)
        return event.work_item_id == "ours" or "no bool"

    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, expected=is_ours)
    assert refusal(verifier, payload(workItemID="x"), signer.deliver()[1]).reason == "signature"
    assert refusal(verifier, *signer.deliver(at=NOW - 1000)).reason == "expired"
    assert asked == []
    assert verifier.verify(*signer.deliver(workItemID="ours")).work_item_id == "ours"
    # Anything but True is a no, such as the coroutine of an async function.
    assert refusal(verifier, *signer.deliver(workItemID="theirs")).reason == "unexpected"
    assert asked == ["ours", "theirs"]


def test_w03_what_the_function_raises_is_not_hidden(signer, clock):
    def broken(event):
        raise LookupError("database")

    verifier = WebhookVerifier(keys=key_set(signer), clock=clock, expected=broken, seen=(seen := RecentDeliveries()))
    with pytest.raises(LookupError, match="database"):
        verifier.verify(*signer.deliver())
    assert len(seen) == 0


# --- W4 ----------------------------------------------------------------------------------------------------


def test_w04_a_thousand_unknown_keys_at_once_cause_one_fetch(serve, signer, clock):
    server = serve(default=Answer(published(signer), delay=0.2))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    deliveries = [Signer(f"made-up-{number}").deliver() for number in range(1000)]
    with ThreadPoolExecutor(100) as pool:
        reasons = set(pool.map(lambda pair: refusal(verifier, *pair).reason, deliveries))
    assert reasons == {"unknown_key"}
    assert [request.target for request in server.requests] == [PATH]
    # The key that was fetched on the way is known.
    assert verifier.verify(*signer.deliver()).key_id == "KEY-1"
    clock.now += 29
    assert refusal(verifier, *Signer("late").deliver()).reason == "unknown_key"
    assert len(server.requests) == 1
    clock.now += 2
    for number in range(20):
        assert refusal(verifier, *Signer(f"later-{number}").deliver()).reason == "unknown_key"
    assert len(server.requests) == 2


def test_w04_a_new_key_is_found_after_the_pause(serve, signer, clock):
    server = serve(published(signer), default=published(signer, Signer("KEY-2")))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    verifier.verify(*signer.deliver())
    assert refusal(verifier, *Signer("KEY-2").deliver()).reason == "unknown_key"
    clock.now += 31
    assert verifier.verify(*Signer("KEY-2").deliver()).key_id == "KEY-2"
    assert len(server.requests) == 2


def test_w04_what_is_malformed_or_old_causes_no_fetch(serve, signer, clock):
    server = serve(default=published(signer))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    body, headers = signer.deliver()
    for name, value in (
        ("X-Payload-Signature", "AAAA"),
        ("X-Payload-Key-Id", "a b"),
        ("X-Payload-Timestamp", "0"),
        ("X-Payload-Timestamp", "nan"),
    ):
        refusal(verifier, body, {**headers, name: value})
    refusal(verifier, b"x" * (MAX_BODY_BYTES + 1), headers)
    assert server.requests == []


def test_w04_known_keys_do_not_wait_for_the_fetch_of_unknown_ones(serve, signer, clock):
    server = serve(published(signer), default=Answer(published(signer), delay=1.5))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    verifier.verify(*signer.deliver())
    clock.now += 31
    slow = threading.Thread(target=refusal, args=(verifier, *Signer("made-up").deliver()))
    slow.start()
    while len(server.requests) < 2:
        time.sleep(0.01)
    began = time.monotonic()
    verifier.verify(*signer.deliver())
    assert time.monotonic() - began < 1
    slow.join()


FORK = """
import os, sys, threading, time
from cfplatform.webhooks import WebhookVerifier
from tests.deliveries import Clock, Signer
verifier = WebhookVerifier(base_url=sys.argv[1], clock=Clock())
threading.Thread(target=verifier.verify, args=Signer().deliver()).start()
time.sleep(0.3)  # The thread fetches now, and holds the lock.
pid = os.fork()
if pid == 0:
    os._exit(0 if verifier.verify(*Signer().deliver()).status == "COMPLETED" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_w04_a_child_that_is_forked_while_keys_are_fetched_does_not_hang(serve, signer):
    server = serve(default=Answer(published(signer), delay=1))
    # Newer versions of Python warn of every fork of a process with threads; that is what is tried here.
    command = [sys.executable, "-W", "ignore", "-c", FORK, server.base_url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert len(server.requests) == 2


# --- W5 ----------------------------------------------------------------------------------------------------

FAULTS = {
    "500": raw(500, b"down"),
    "404": raw(404, b"{}"),
    "204": raw(204, length=False),
    "html": raw(200, b"<html>maintenance</html>", "Content-Type: text/html"),
    "no json": raw(200, b'{"keys": ['),
    "list": said([]),
    "no keys": said({"message": "none"}),
    "keys are a text": said({"keys": "KEY-1"}),
    "deep": raw(200, b"[" * 60_000),
    "large": raw(200, b" " * 70_000),
    "announced 100 MB": raw(200, b"x", "Content-Length: 100000000"),
    "endless": Answer(raw(200, b"", "Transfer-Encoding: chunked"), endless=b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "inflating": raw(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip"),
    "cut": Answer(raw(200, b'{"keys": []', "Content-Length: 500"), end="close"),
    "reset": Answer(b"", end="reset"),
    "stall": Answer(b"", end="stall"),
    "drip in the head": Answer(b"HTTP/1.1 200 OK\r\n", endless=b"X: y\r\n", pace=0.05),
    "drip in the body": Answer(raw(200, b"", "Content-Length: 60000"), endless=b" ", pace=0.05),
    "not http": Answer(b"SSH-2.0-x\r\n", end="close"),
}


def test_w05_redirects_are_not_followed(serve, signer, clock):
    target = serve(default=published(signer))
    server = serve(default=raw(302, b"", f"Location: {target.origin}{PATH}"))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    error = refusal(verifier, *signer.deliver())
    assert error.reason == "keys_unavailable"
    assert "status 302" in str(error)
    assert target.requests == []


def test_w05_a_server_that_is_not_there_is_named(serve, signer, clock):
    for url in (serve(listen=False).origin, "https://keys.invalid"):
        error = refusal(WebhookVerifier(jwks_url=f"{url}/jwks", clock=clock), *signer.deliver())
        assert error.reason == "keys_unavailable"
        assert f"{url}/jwks" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/jwks",
        "http://10.0.0.1/jwks",
        "ftp://localhost/jwks",
        "file:///etc/passwd",
        "https://user:pw@keys.example/jwks",
        "https:///jwks",
        "https://[::1/jwks",
        "https://keys.example:99999/jwks",
        "https://keys.example/jwks?token=1",
        "https://keys.example/jwks#1",
        "https://keys.example\\@evil.example/jwks",
        "https://keys.example/a b",
        "https://keys.example/\n",
        "",
        7,
    ],
)
def test_w05_only_https_or_this_machine(url):
    with pytest.raises(ConfigurationError) as caught:
        WebhookVerifier(jwks_url=url)
    assert "jwks_url" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_w05_plain_http_to_another_host_is_refused_as_base_url_too():
    with pytest.raises(ConfigurationError, match="must start with https"):
        WebhookVerifier(base_url="http://api.example/api/v1")


def test_w05_no_credential_goes_to_the_key_server(serve, signer, clock, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login SENTINEL password SENTINEL\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("CF_API_KEY", "SENTINEL-KEY")
    monkeypatch.setenv("HTTP_PROXY", serve(listen=False).origin)
    server = serve(default=published(signer, headers=("Set-Cookie: a=b",)))
    monkeypatch.setenv("CF_PLATFORM_BASE_URL", server.base_url)
    verifier = WebhookVerifier(clock=clock)
    verifier.verify(*signer.deliver())
    clock.now += 3601
    verifier.verify(*signer.deliver(at=clock.now))
    assert len(server.requests) == 2
    for request in server.requests:
        assert (request.method, request.target, request.body) == ("GET", PATH, b"")
        assert not request.names & {"authorization", "x-api-key", "cookie", "proxy-authorization"}
        assert "SENTINEL" not in repr(request)


def test_w05_the_time_limit_is_5_s_and_holds(serve, signer, clock):
    server = serve(default=Answer(b"HTTP/1.1 200 OK\r\n", endless=b"X: y\r\n", pace=0.1))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    began = time.monotonic()
    error = refusal(verifier, *signer.deliver())
    assert 4.5 < time.monotonic() - began < 8
    assert "within 5 s" in str(error)
    # Nobody waits any more for the thread that fetched, so it ends.
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "cfplatform-public"])


# --- W6 ----------------------------------------------------------------------------------------------------


def test_w06_both_keys_verify_while_both_are_listed_and_the_old_one_ends_with_its_time(serve, signer, clock):
    new = Signer("KEY-2")
    server = serve(published(signer, new), default=published(new))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    for each in (signer, new):
        assert verifier.verify(*each.deliver()).key_id == each.key_id
    clock.now += 3599
    verifier.verify(*signer.deliver(at=clock.now))
    assert len(server.requests) == 1
    clock.now += 2
    assert refusal(verifier, *signer.deliver(at=clock.now)).reason == "unknown_key"
    assert verifier.verify(*new.deliver(at=clock.now)).key_id == "KEY-2"
    assert len(server.requests) == 2


def test_w06_a_set_without_keys_withdraws_all(serve, signer, clock):
    server = serve(published(signer), default=published())
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    verifier.verify(*signer.deliver())
    clock.now += 3601
    assert refusal(verifier, *signer.deliver(at=clock.now)).reason == "unknown_key"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("", 3600),
        ("Cache-Control: public, max-age=600", 600),
        ("Cache-Control: Max-Age = 600", 600),
        ("Cache-Control: max-age=5", 60),
        ("Cache-Control: max-age=99999999", 3600),
        ("Cache-Control: no-store, max-age=600", 60),
        ("Cache-Control: no-cache", 60),
        ("Cache-Control: s-maxage=600, max-age=x", 3600),
    ],
)
def test_w06_cache_control_is_followed_within_limits(serve, signer, clock, header, kept):
    server = serve(default=published(signer, headers=(header,) if header else ()))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    for at, fetches in ((0, 1), (kept - 1, 1), (kept + 1, 2)):
        clock.now = NOW + at
        verifier.verify(*signer.deliver(at=clock.now))
        assert len(server.requests) == fetches


def test_w06_a_clock_that_is_set_back_makes_keys_neither_eternal_nor_unusable(serve, signer, clock):
    server = serve(default=published(signer))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    for back, fetches in ((0, 1), (10, 1), (100_000, 2)):
        clock.now = NOW - back
        verifier.verify(*signer.deliver(at=clock.now))
        assert len(server.requests) == fetches


# --- W7 ----------------------------------------------------------------------------------------------------

NOT_USABLE = {
    "kty RSA": {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    "kty oct": {"kty": "oct", "k": "c2VjcmV0"},
    "kty missing": {"kty": None},
    "alg HS256": {"alg": "HS256"},
    "alg none": {"alg": "none"},
    "crv Ed448": {"crv": "Ed448"},
    "crv X25519": {"crv": "X25519"},
    "use enc": {"use": "enc"},
    "only for signing": {"key_ops": ["sign"]},
    "key_ops no list": {"key_ops": "verify"},
    "private": {"d": unpadded(bytes(32))},
    "31 bytes": {"x": unpadded(bytes(range(31)))},
    "33 bytes": {"x": unpadded(bytes(range(33)))},
    "x missing": {"x": None},
    "x no text": {"x": 7},
    "x junk": {"x": "!" * 43},
    "x newline": {"x": unpadded(Signer().public) + "\n"},
    "x padded": {"x": unpadded(Signer().public) + "="},
    "kid missing": {"kid": None},
    "kid no text": {"kid": ["KEY-1"]},
    "kid empty": {"kid": ""},
    "not on the field": {"x": unpadded((P + 5).to_bytes(32, "little"))},
}


@pytest.mark.parametrize("changes", NOT_USABLE.values(), ids=NOT_USABLE)
def test_w07_keys_not_made_for_this_are_skipped(serve, signer, clock, changes):
    other = Signer("KEY-2")
    listed = [signer.jwk(**changes), "no object", None, other.jwk()]
    server = serve(default=said({"keys": listed}))
    for verifier in (
        WebhookVerifier(base_url=server.base_url, clock=clock),
        WebhookVerifier(keys={"keys": listed}, clock=clock),
    ):
        assert refusal(verifier, *signer.deliver()).reason == "unknown_key"
        assert verifier.verify(*other.deliver()).key_id == "KEY-2"
    with pytest.raises(ConfigurationError, match="no usable key was found"):
        WebhookVerifier(keys={"keys": listed[:-1]})


@pytest.mark.parametrize("changes", [{}, {"alg": None, "use": None}, {"alg": "Ed25519"}, {"key_ops": ["verify"]}])
def test_w07_keys_made_for_this_are_used(signer, clock, changes):
    verifier = WebhookVerifier(keys={"keys": [signer.jwk(**changes)]}, clock=clock)
    assert verifier.verify(*signer.deliver()).key_id == "KEY-1"


def test_w07_two_keys_of_one_id_both_verify(signer, clock):
    verifier = WebhookVerifier(keys={"keys": [Signer("KEY-2").jwk(kid="KEY-1"), signer.jwk()]}, clock=clock)
    assert verifier.verify(*signer.deliver()).key_id == "KEY-1"
    assert refusal(verifier, *Signer("KEY-2").deliver()).reason == "unknown_key"


# --- W8 ----------------------------------------------------------------------------------------------------

D = -121665 * pow(121666, -1, P) % P


def added(a, b):
    """Add two points of the curve, by the law of RFC 8032, section 5.1."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def times(number, point):
    result = (0, 1)
    while number:
        if number & 1:
            result = added(result, point)
        point, number = added(point, point), number >> 1
    return result


def points():
    """Points of the curve, one for each y that has any."""
    for y in range(2, 200):
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        for candidate in (x, x * pow(2, (P - 1) // 4, P) % P):
            if candidate * candidate % P == square:
                yield candidate, y


def small_order_encodings():
    """All 32 byte texts that stand for one of the 8 points of small order, the non-canonical ones included."""
    small = {times(L, point) for point in points()}
    assert len(small) == 8
    spelled = [y + more for _, y in small for more in (0, P) if y + more < 2**255]
    return sorted({(y | sign << 255).to_bytes(32, "little") for y in spelled for sign in (0, 1)})


def test_w08_keys_of_small_order_are_refused_in_every_spelling(signer, clock):
    encodings = small_order_encodings()
    # Five values of y, of which 0 and 1 have a second spelling, each with either sign.
    assert len(encodings) == 14
    assert {bytes(32), b"\x01" + bytes(31)} <= set(encodings)
    for raw_key in encodings:
        weak = signer.jwk(kid="weak", x=unpadded(raw_key))
        with pytest.raises(ConfigurationError, match="no usable key was found"):
            WebhookVerifier(keys={"keys": [weak]})
        verifier = WebhookVerifier(keys={"keys": [weak, signer.jwk()]}, clock=clock)
        body, headers = signer.deliver()
        for r in encodings:
            # With such a key this is a signature of any message, or of one in eight.
            headers["X-Payload-Key-Id"] = "weak"
            headers["X-Payload-Signature"] = base64.b64encode(r + bytes(32)).decode()
            assert refusal(verifier, body, headers).reason == "unknown_key"


# --- W9 ----------------------------------------------------------------------------------------------------


def forged(signer, body):
    """Signatures that must not verify, by the reason why."""
    good = signer.sign(body)
    r, s = good[:32], int.from_bytes(good[32:], "little")
    scalar = int.from_bytes(hashlib.sha512(signer.seed).digest()[:32], "little")
    scalar = scalar & ((1 << 254) - 8) | (1 << 254)

    def with_r(point):
        """Solve the equation for an R of small order, as only the owner of the key can."""
        challenge = int.from_bytes(hashlib.sha512(point + signer.public + body).digest(), "little")
        return point + (challenge * scalar % L).to_bytes(32, "little")

    return {
        "S plus the order of the group": r + (s + L).to_bytes(32, "little"),
        "S plus twice the order": r + (s + 2 * L).to_bytes(32, "little"),
        "S is the order": r + L.to_bytes(32, "little"),
        "S is zero": r + bytes(32),
        "S is all ones": r + b"\xff" * 32,
        "S with a high bit": r + (s | 1 << 255).to_bytes(32, "little"),
        "S negated": r + ((L - s) % L).to_bytes(32, "little"),
        "S plus one": r + ((s + 1) % L).to_bytes(32, "little"),
        "S in the other byte order": r + good[:31:-1],
        "R is zero": bytes(32) + good[32:],
        "R is the identity": b"\x01" + bytes(31) + good[32:],
        "R is all ones": b"\xff" * 32 + good[32:],
        "R with the other sign": (int.from_bytes(r, "little") ^ 1 << 255).to_bytes(32, "little") + good[32:],
        "R is the key": signer.public + good[32:],
        "R is a second spelling of the identity": with_r((P + 1).to_bytes(32, "little")),
        "halves exchanged": good[32:] + r,
        "all zero": bytes(64),
        "of another body": signer.sign(body + b" "),
        "of the hash of the body": signer.sign(hashlib.sha512(body).digest()),
        "of the empty body": signer.sign(b""),
        "of another key": Signer("KEY-2").sign(body),
    }


@pytest.mark.parametrize("why", list(forged(Signer(), b"")))
def test_w09_forged_signatures_are_refused(verifier, signer, why):
    body, headers = signer.deliver()
    headers["X-Payload-Signature"] = base64.b64encode(forged(signer, body)[why]).decode()
    assert refusal(verifier, body, headers).reason in ("signature", "malformed")


@pytest.mark.parametrize("number", [1, 2])
def test_w09_a_second_spelling_of_s_is_refused_before_any_key_is_looked_up(serve, signer, clock, number):
    server = serve(default=published(signer))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    body, headers = signer.deliver()
    good = signer.sign(body)
    s = int.from_bytes(good[32:], "little") + number * L
    headers["X-Payload-Signature"] = base64.b64encode(good[:32] + s.to_bytes(32, "little")).decode()
    assert refusal(verifier, body, headers).reason == "malformed"
    assert server.requests == []


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 96, 128])
def test_w09_signatures_of_another_length_are_refused(verifier, signer, length):
    body, headers = signer.deliver()
    headers["X-Payload-Signature"] = base64.b64encode((signer.sign(body) * 2)[:length]).decode()
    error = refusal(verifier, body, headers)
    assert error.reason == "malformed"
    assert "64 bytes" in str(error)


# --- W10 ---------------------------------------------------------------------------------------------------


def with_both_special_characters(signer):
    """Return a delivery whose signature has ``+`` and ``/`` in base64, which the other alphabet spells otherwise."""
    for number in range(1000):
        body, headers = signer.deliver(number=number)
        if {"+", "/"} <= set(headers["X-Payload-Signature"]):
            return body, headers
    raise AssertionError


def test_w10_both_alphabets_with_or_without_padding(verifier, signer):
    body, headers = with_both_special_characters(signer)
    standard = headers["X-Payload-Signature"]
    other = standard.replace("+", "-").replace("/", "_")
    for spelled in (standard, standard.rstrip("="), other, other.rstrip("="), standard.encode()):
        assert verifier.verify(body, {**headers, "X-Payload-Signature": spelled}).status == "COMPLETED"


def test_w10_junk_is_refused(verifier, signer):
    body, headers = with_both_special_characters(signer)
    good = headers["X-Payload-Signature"]
    last = good[-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for spelled in (
        good + "\n",
        good[:76] + "\n" + good[76:],
        good[:76] + "\r\n" + good[76:],
        " " + good,
        good + " ",
        good[:10] + "!" + good[10:],
        good[:10] + "*" + good[11:],
        good[:-1],
        good + "=",
        good + "====",
        "=" + good,
        good[:44] + "==" + good[44:],
        good.replace("+", "-", 1),
        good.replace("+", " "),
        good.rstrip("=") + "%3D%3D",
        # The last character has four bits that stand for nothing.
        good[:-3] + alphabet[alphabet.index(last) + 1] + "==",
        signer.sign(body).hex(),
        f"ed25519={good}",
        f"{good},{good}",
        "",
        "ä" * 86,
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}" * 86,
        "\ud800" * 86,
        good.encode() + b"\xff",
    ):
        assert refusal(verifier, body, {**headers, "X-Payload-Signature": spelled}).reason == "malformed", spelled


# --- W11 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["nan", "inf", "-inf", "1e9", "0x6A", "-1785186000", "+1785186000", "1785186000.5", "1785186000000", " 1785186000"]
    + ["1785186000\n", "", "1_785_186_000", "١٧٨٥١٨٦٠٠٠", "2026-07-27T21:00:00Z", "9" * 5000],
)
def test_w11_header_times_that_are_no_seconds_are_refused(verifier, signer, value):
    body, headers = signer.deliver()
    error = refusal(verifier, body, {**headers, "X-Payload-Timestamp": value})
    assert error.reason == "malformed"
    assert "seconds since 1970" in str(error)


@pytest.mark.parametrize("away", [-600, -301, 301, 600, -NOW, 1e10])
def test_w11_header_times_that_are_far_off_are_refused(verifier, signer, away):
    body, headers = signer.deliver()
    headers["X-Payload-Timestamp"] = str(int(NOW + away))
    error = refusal(verifier, body, headers)
    assert error.reason == "expired"
    assert "X-Payload-Timestamp" in str(error)


@pytest.mark.parametrize("away", [-600, -301, 301, 600])
def test_w11_signed_times_that_are_far_off_are_refused(verifier, signer, away):
    body, headers = signer.deliver(payload(NOW + away))
    error = refusal(verifier, body, headers)
    assert error.reason == "expired"
    assert "the signed deliveredAt" in str(error)
    assert ("future" if away > 0 else "past") in str(error)


@pytest.mark.parametrize("away", [-300, -1, 0, 1, 300])
def test_w11_times_within_the_tolerance_are_accepted(verifier, signer, away):
    assert verifier.verify(*signer.deliver(at=NOW + away)).delivered_at.timestamp() == NOW + away


def test_w11_both_times_must_agree_with_each_other(verifier, signer):
    body, headers = signer.deliver(at=NOW - 200)
    headers["X-Payload-Timestamp"] = str(int(NOW + 200))
    error = refusal(verifier, body, headers)
    assert error.reason == "expired"
    assert "contradict" in str(error)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        NOW,
        "",
        "now",
        "2026-07-27",
        "2026-07-27T21:00:00",
        "2026-13-27T21:00:00Z",
        "nan",
        ["x"],
        moment(NOW)[:-1],
    ],
)
def test_w11_a_signed_time_that_is_none_is_refused(verifier, signer, value):
    assert refusal(verifier, *signer.deliver(payload(deliveredAt=value))).reason == "malformed"


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z"])
def test_w11_signed_times_at_the_end_of_the_calendar_are_refused(verifier, signer, value):
    assert refusal(verifier, *signer.deliver(payload(deliveredAt=value))).reason == "expired"


# --- W12 ---------------------------------------------------------------------------------------------------


def test_w12_a_large_body_is_refused_before_anything_else(serve, signer, clock):
    server = serve(default=published(signer))
    verifier = WebhookVerifier(base_url=server.base_url, clock=clock)
    began = time.monotonic()
    for headers in (signer.deliver()[1], {}):
        error = refusal(verifier, bytes(50 * 1024 * 1024), headers)
        assert error.reason == "too_large"
        assert "413" in str(error)
    assert time.monotonic() - began < 3
    assert server.requests == []


def test_w12_the_limit_is_1_mib(verifier, signer):
    assert MAX_BODY_BYTES == 1024 * 1024
    filler = MAX_BODY_BYTES - len(payload(more=""))
    body, headers = signer.deliver(more="x" * filler)
    assert len(body) == MAX_BODY_BYTES
    assert verifier.verify(body, headers).status == "COMPLETED"
    assert refusal(verifier, *signer.deliver(more="x" * (filler + 1))).reason == "too_large"


# --- W13 ---------------------------------------------------------------------------------------------------

BODIES = {
    "empty": b"",
    "no json": b"status=COMPLETED",
    "cut": payload()[:-1],
    "two": payload() + payload(),
    "list": b"[" + payload() + b"]",
    "text": b'"COMPLETED"',
    "null": b"null",
    "nan": payload()[:-1] + b', "more": NaN}',
    "infinity": payload()[:-1] + b', "more": -Infinity}',
    "huge number": payload()[:-1] + b', "more": ' + b"9" * 10_000 + b"}",
    "deep": payload()[:-1] + b', "more": ' + b"[" * 65 + b"]" * 65 + b"}",
    "very deep": payload()[:-1] + b', "more": ' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "deep and cut": b'{"a":' * 150_000,
    "utf-16": payload().decode().encode("utf-16"),
    "bom": b"\xef\xbb\xbf" + payload(),
    "latin-1": '{"workItemID": "ä"}'.encode("latin-1"),
    "no work item": payload(workItemID=None),
    "empty work item": payload(workItemID=""),
    "number as work item": payload(workItemID=7),
    "no status": payload(status=None),
    "object as status": payload(status={}),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_w13_the_body_is_parsed_only_once_it_is_proven_and_then_with_care(verifier, signer, body):
    signed, headers = signer.deliver(body)
    error = refusal(verifier, signed, headers)
    assert error.reason == "malformed"
    assert "its signature is valid" in str(error)
    # Without a signature of its own it never comes to the parser.
    assert refusal(verifier, body, signer.deliver()[1]).reason == "signature"


def test_w13_nesting_up_to_the_limit_is_accepted_and_can_be_copied(verifier, signer):
    body = payload()[:-1] + b', "more": ' + b"[" * 62 + b"]" * 62 + b"}"
    event = verifier.verify(*signer.deliver(body))
    assert event.as_dict()["more"] == json.loads(b"[" * 62 + b"]" * 62)
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301
