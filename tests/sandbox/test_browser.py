"""Requests from web pages of other sites are rejected."""

from __future__ import annotations

import json

import pytest

EVIL = "https://evil.example"
REAL_KEY = "REAL-PRODUCTION-KEY-0123456789"
PATHS = ["/_sandbox", "/_sandbox/requests", "/api/.well-known/jwks.json", "/public/assets/x", "/storage/x", "/nothing"]
#: Not loopback names, or not names at all.
FOREIGN = ["rebound.example", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.1.1", "10.0.0.1", "x@", "[::1", ""]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_hosts_are_refused(wire, path, host):
    for name in (host, f"{host}:{wire.connection.port}"):
        answer = wire.send("GET", path, Host=name, X_API_Key=wire.sandbox.api_key)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
    assert wire.sandbox.requests == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.8.9.1:80", "[::1]:5", "[::1]"])
def test_loopback_names_are_answered(wire, host):
    for origin in ({}, {"Origin": f"http://{host}"}):
        assert wire.send("GET", "/_sandbox", Host=host, X_API_Key=wire.sandbox.api_key, **origin).status == 200


def test_foreign_origins_are_refused(wire):
    own = f"127.0.0.1:{wire.connection.port}"
    for origin in (EVIL, "null", "", f"https://{own}", "http://127.0.0.1", f"http://localhost:{wire.connection.port}"):
        for method, path in (("GET", "/_sandbox"), ("OPTIONS", "/_sandbox/reset"), ("GET", "/public/assets/x")):
            answer = wire.send(method, path, Origin=origin, X_API_Key=wire.sandbox.api_key)
            assert answer.status == 403, (origin, path)
    assert wire.send("GET", "/_sandbox", Origin=f"http://{own}", X_API_Key=wire.sandbox.api_key).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_control_needs_the_key(wire, method):
    for path in ("", "/requests", "/reset", "/faults", "/nothing"):
        for key in ({}, {"X_API_Key": "wrong"}, {"Authorization": f"Bearer {wire.sandbox.api_key}"}):
            answer = wire.send(method, f"/_sandbox{path}", b"{}", Content_Type="application/json", **key)
            assert (answer.status, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_control_needs_json(wire, content_type):
    plan = {"kind": "fail", "times": None}
    assert wire.control("POST", "/faults", plan, Content_Type=content_type).status == 415
    assert wire.batches().status == 200
    assert wire.control("POST", "/faults", plan, Content_Type="application/json; charset=utf-8").status == 204
    assert wire.batches().status == 503


def test_secrets_are_masked_in_the_log(wire):
    assert wire.send("GET", f"{wire.prefix}/projects/x/workItems", X_API_Key=REAL_KEY).status == 401
    wire.batches()
    wire.send("GET", wire.sign_document())
    wire.send("GET", "/nothing?a=1", Authorization=f"Bearer {REAL_KEY}", Proxy_Authorization=REAL_KEY)
    refused, allowed, _, storage, other = wire.sandbox.requests
    assert refused.headers["x-api-key"] == "[masked]"
    # That of the sandbox itself shows that the right one was sent.
    assert allowed.headers["x-api-key"] == wire.sandbox.api_key
    query = dict(storage.query)
    masked = {name for name, value in query.items() if value == "[masked]"}
    assert masked == {"X-Amz-Credential", "X-Amz-Security-Token", "X-Amz-Signature"}
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert (other.headers["authorization"], other.headers["proxy-authorization"]) == ("Bearer [masked]", "[masked]")
    assert other.query == [("a", "1")]
    shown = wire.control("GET", "/requests").body.decode() + repr(wire.sandbox.requests)
    assert REAL_KEY not in shown
    assert json.loads(wire.control("GET", "/requests").body)["items"][0]["headers"]["x-api-key"] == "[masked]"
