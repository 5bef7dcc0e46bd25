"""Hooks and adapters on the client's session, and a session passed by the user."""

from __future__ import annotations

import io
import socket
import sys

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests_toolbelt.utils import dump

from cfplatform import (
    APIConnectionError,
    Client,
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
)
from cfplatform.sandbox import Sandbox

KEY = "key-SENTINEL-0123456789"
#: The requests of a call to the API, by their route in the sandbox's log.
STORAGE = ("storage", "assets", "uploads")


def of_the_api(sandbox):
    return [request for request in sandbox.requests if request.route not in STORAGE]


def of_the_storage(sandbox):
    return [request for request in sandbox.requests if request.route in STORAGE]


# --- Hooks ------------------------------------------------------------------------------------------------------------


def test_the_dump_of_requests_toolbelt_shows_every_call(sandbox, options, tmp_path):
    dumps = []
    with sandbox.client(**options) as client:
        # It reads the body of each response.
        client.session.hooks["response"].append(lambda response, **_: dumps.append(dump.dump_all(response)))
        assert len(list(client.get_work_items(page_size=6))) == 20
        assert client.download_project(destination=tmp_path).successful == 20
        with pytest.raises(NotFoundError, match="work item not found"):
            client.get_annotation("unknown")
    assert len(dumps) == len(of_the_api(sandbox)) > 20
    text = b"".join(dumps)
    assert text.count(b"> HTTP/1.1 200 OK") == len(dumps) - 1
    assert b"> HTTP/1.1 404 Not Found" in text
    assert b"< GET /api/v1/projects/" in text
    assert b'{"items":[' in text


def test_a_hook_that_reads_the_body_does_not_break_what_creates(sandbox, options):
    bodies = []
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: bodies.append(response.json()))
        batch = client.create_batch("Spring")
    assert bodies[0]["id"] == batch.id
    assert sandbox.counts["batches"] == 1


def test_a_hook_that_does_not_keep_the_body_is_reported(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: list(response.iter_content(100)) and None)
        with pytest.raises(InvalidResponseError, match=r"A hook has consumed the body.* response\.content"):
            list(client.get_batches())


def test_a_hook_that_raises_for_the_status_becomes_the_typed_error(sandbox, options):
    with sandbox.client(retries=1, **options) as client:
        client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        with pytest.raises(NotFoundError, match="work item not found"):
            client.get_annotation("unknown")
        sandbox.fail_next(503, times=None, body={"message": "Down for today."})
        with pytest.raises(ServerError, match=r"Down for today\.") as caught:
            list(client.get_batches())
    assert caught.value.status_code == 503
    assert [request.status for request in sandbox.requests] == [404, 503, 503]


def test_a_hook_that_raises_for_the_status_leaves_retries_as_they_are(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        sandbox.fail_next(503)
        assert len(list(client.get_batches())) == 2
    assert [request.status for request in sandbox.requests] == [503, 200]


def test_a_hook_sees_the_last_response_of_a_call_and_each_attempt_on_a_session_of_the_user(sandbox, options):
    seen = []
    sandbox.fail_next(503)
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
        assert len(list(client.get_batches())) == 2
    assert seen == ([503, 200] if "session" in options else [200])


# --- The client's session ---------------------------------------------------------------------------------------------


class CountingAdapter(HTTPAdapter):
    """A user's adapter, which records what it sends."""

    def __init__(self, **options):
        super().__init__(**options)
        self.sent = []

    def send(self, request, **options):
        self.sent.append(request)
        return super().send(request, **options)


def test_what_is_set_on_the_session_of_a_client_applies_to_every_call_from_then_on(sandbox, client, tmp_path):
    seen, adapter = [], CountingAdapter()
    assert isinstance(client.session, requests.Session)
    list(client.get_batches())
    client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    client.session.headers["X-Team"] = "vision"
    client.session.params["trace"] = "1"
    client.session.mount(sandbox.base_url, adapter)
    assert client.download_project(destination=tmp_path).successful == 20
    first, *later = of_the_api(sandbox)
    assert "x-team" not in first.headers
    assert {request.headers["x-team"] for request in later} == {"vision"}
    assert all(("trace", "1") in request.query for request in later)
    assert {request.headers["x-api-key"] for request in later} == {sandbox.api_key}
    assert len(seen) == len(adapter.sent) == len(later)
    # The storage has a separate session.
    assert not any({"x-team", "x-api-key"} & request.headers.keys() for request in of_the_storage(sandbox))
    assert sandbox.leaks == 0


def test_calls_are_retried_through_an_adapter_that_the_user_mounts(sandbox, client):
    adapter = CountingAdapter()
    client.session.mount(sandbox.base_url, adapter)
    sandbox.fail_next(503)
    sandbox.reset_next()
    assert len(list(client.get_batches())) == 2
    assert len(adapter.sent) == 3


def test_the_session_of_a_closed_client_is_refused(sandbox):
    client = sandbox.client()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.session.headers.clear()


def test_headers_of_a_client_arrive_at_api_calls_and_not_at_the_storage(sandbox, options, tmp_path):
    with sandbox.client(headers={"X-Team": "vision", "X-Run": "7"}, **options) as client:
        assert client.download_project(destination=tmp_path, assets=True).successful == 20
        client.create_batch("Spring")
    assert {(request.headers["x-team"], request.headers["x-run"]) for request in of_the_api(sandbox)} == {
        ("vision", "7")
    }
    assert of_the_storage(sandbox)
    assert not any({"x-team", "x-run"} & request.headers.keys() for request in of_the_storage(sandbox))


# --- A session of the user --------------------------------------------------------------------------------------------


def test_a_session_of_the_user_keeps_what_is_set_on_it(sandbox, tmp_path):
    seen = []
    with requests.Session() as session:
        session.auth = HTTPBasicAuth("gateway", "password")
        session.headers.update({"X-Team": "vision", "User-Agent": "their-tool/3"})
        session.params = {"tenant": "7"}
        session.cookies.set("visit", "1")
        session.hooks["response"].append(lambda response, **_: seen.append(response.request.headers["Authorization"]))
        adapter = CountingAdapter()
        session.mount("http://", adapter)
        adapters = dict(session.adapters)
        with sandbox.client(session=session) as client:
            assert client.session is session
            assert client.download_project(destination=tmp_path).successful == 20
        # The session is not changed, and it stays open.
        assert dict(session.adapters) == adapters
        assert sandbox.api_key not in str(dict(session.headers))
        calls = of_the_api(sandbox)
        assert len(seen) == len(adapter.sent) == len(calls) > 20
        assert set(seen) == {"Basic Z2F0ZXdheTpwYXNzd29yZA=="}
        session.get(sandbox.base_url.replace("/api/v1", "/public/assets/x"))
    for request in calls:
        # The sandbox masks credentials in its log.
        assert request.headers["authorization"] == "Basic [masked]"
        assert request.headers["x-team"] == "vision"
        assert request.headers["user-agent"] == "their-tool/3"
        assert ("tenant", "7") in request.query
        assert request.headers["cookie"] == "visit=1"
        assert request.headers["x-api-key"] == sandbox.api_key
    *storage, own = of_the_storage(sandbox)
    assert len(storage) == 20
    assert not any({"authorization", "x-team", "cookie", "x-api-key"} & request.headers.keys() for request in storage)
    assert "x-api-key" not in own.headers


def test_headers_of_the_client_override_those_of_the_session(sandbox):
    with requests.Session() as session:
        session.headers.update({"X-Team": "audio", "User-Agent": "their-tool/3"})
        with sandbox.client(session=session, headers={"x-team": "vision"}, user_agent="tool/1") as client:
            list(client.get_batches())
        assert session.headers["X-Team"] == "audio"
    (request,) = sandbox.requests
    assert request.headers["x-team"] == "vision"
    assert request.headers["user-agent"].startswith("tool/1 cfplatform/")


def test_a_plain_session_of_the_user_sends_who_sends_it(sandbox):
    with requests.Session() as session, sandbox.client(session=session, user_agent="tool/1") as client:
        list(client.get_batches())
    (request,) = sandbox.requests
    assert request.headers["user-agent"].startswith("tool/1 cfplatform/")
    assert request.headers["accept"] == "application/json"


def test_calls_through_a_session_of_the_user_are_retried(sandbox, tmp_path):
    with requests.Session() as session, sandbox.client(session=session) as client:
        sandbox.fail_next(503)
        assert len(list(client.get_batches())) == 2
        sandbox.reset_next()
        assert client.get_work_items_count() == 20
        sandbox.truncate_next(path="*/workItems")
        sandbox.fail_next(503, times=5, path="*/annotations")
        assert client.download_project(destination=tmp_path).successful == 20
        sandbox.fail_next(503, method="POST", times=2)
        with pytest.raises(ServerError):
            client.create_batch("Spring")
        sandbox.fail_next(503, method="POST")
        assert client.create_batch("Spring").id == 1003
    assert [request.status for request in sandbox.requests][:2] == [503, 200]


def test_retries_beside_an_adapter_with_retries_of_its_own_are_refused(sandbox):
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=3))
        with pytest.raises(ConfigurationError, match=r"retries cannot be used.*max_retries"):
            sandbox.client(session=session, retries=2)
        # Without it, the adapter follows its own policy.
        with sandbox.client(session=session) as client:
            assert client.get_work_items_count() == 20
    assert len(sandbox.requests) == 1


def test_an_adapter_that_gives_up_becomes_the_typed_error(sandbox, options):
    policy = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=True)
    sandbox.fail_next(503, times=None)
    with sandbox.client(**options) as client:
        client.session.mount(sandbox.base_url, HTTPAdapter(max_retries=policy))
        with pytest.raises(ServerError, match="503") as caught:
            list(client.get_batches())
    assert caught.value.status_code == 503
    assert len(sandbox.requests) == 3


class FileAdapter(HTTPAdapter):
    """An adapter that responds from a file, like adapters for other schemes."""

    def send(self, request, **_):
        response = requests.Response()
        response.status_code = 200 if "/batches" in request.url else 404
        response.raw = io.BytesIO(b'{"items": [{"id": 7, "name": "From a file"}], "meta": {}, "message": "not in it"}')
        response.request, response.url = request, request.url
        return response


def test_an_adapter_may_answer_with_any_file(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.mount(sandbox.base_url, FileAdapter())
        assert [batch.name for batch in client.get_batches()] == ["From a file"]
        with pytest.raises(NotFoundError, match="not in it"):
            client.get_work_items_count()
    assert sandbox.requests == []


# --- Settings that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"headers": {"X-Team": "a\nX-Evil: 1"}}, "headers: the value of 'X-Team' must be"),
        ({"headers": {"X-Team": "a\r\n"}}, "headers: the value of 'X-Team' must be"),
        ({"headers": {"X-Team\r\nX-Evil": "1"}}, "headers: .* is not a valid header name"),
        ({"headers": {"X-Team": "vision é"}}, "headers: the value of 'X-Team' must be"),
        ({"headers": {"X-Team": 7}}, "headers: the value of 'X-Team' must be"),
        ({"headers": {7: "x"}}, "headers: 7 is not a valid header name"),
        ({"headers": ["X-Team"]}, "headers must be a mapping"),
        ({"headers": "X-Team: vision"}, "headers must be a mapping"),
        ({"headers": {"X-API-Key": "another"}}, "headers must not contain the API key. Pass api_key="),
        ({"headers": {"x-api-KEY": KEY}}, "headers must not contain the API key. Pass api_key="),
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, "headers must not contain the API key. Pass api_key="),
        ({"session": "a session"}, r"session must be a requests\.Session, not str"),
        ({"session": requests}, r"session must be a requests\.Session, not module"),
        ({"session": requests.Session}, r"session must be a requests\.Session, not type"),
        ({"session": urllib3.PoolManager()}, r"session must be a requests\.Session, not PoolManager"),
        ({"patience": -1}, "patience must be 0 or more seconds, not -1"),
        ({"patience": "600"}, "patience must be 0 or more seconds, not '600'"),
        ({"patience": None}, "patience must be 0 or more seconds, not None"),
        ({"patience": True}, "patience must be 0 or more seconds, not True"),
        ({"patience": float("nan")}, "patience must be 0 or more seconds, not nan"),
        ({"patience": float("inf")}, "patience must be 0 or more seconds, not inf"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_before_any_request(sandbox, wrong, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        Client(KEY, base_url=sandbox.base_url, **wrong)
    assert KEY not in str(caught.value)
    assert "X-Evil: 1" not in str(caught.value)
    assert sandbox.connections == 0


@pytest.mark.parametrize("patience", [-1, "600", True, float("nan")])
def test_a_run_with_a_wrong_patience_is_refused_before_any_request(sandbox, client, tmp_path, patience):
    with pytest.raises(ConfigurationError, match="patience must be 0 or more seconds"):
        client.download_project(destination=tmp_path, patience=patience)
    assert sandbox.connections == 0


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
@pytest.mark.parametrize("source", ["argument", "environment", "session"])
def test_a_socks_proxy_without_pysocks_is_refused_before_any_request(monkeypatch, scheme, source):
    monkeypatch.setitem(sys.modules, "socks", None)
    proxy = f"{scheme}://127.0.0.1:9"
    options = {}
    session = requests.Session()
    if source == "argument":
        options = {"proxies": {"https": proxy}}
    elif source == "session":
        session.proxies["https"] = proxy
        options = {"session": session}
    else:
        monkeypatch.setenv("ALL_PROXY", proxy)
    with session, pytest.raises(ConfigurationError, match=r"needs PySocks: pip install 'requests\[socks\]'"):
        Client(KEY, base_url="https://api.invalid/v1", **options)


@pytest.mark.parametrize("scheme", ["socks", "htp", "ftp"])
def test_a_proxy_with_an_unknown_scheme_is_refused_before_any_request(monkeypatch, scheme):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:pa55@127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="an unknown scheme. Valid schemes: http, .*socks5h") as caught:
        Client(KEY, base_url="https://api.invalid/v1")
    assert "pa55" not in str(caught.value)


def test_a_socks_proxy_that_refuses_connections_is_named(monkeypatch):
    pytest.importorskip("socks")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{unused.getsockname()[1]}")
        with (
            Client(KEY, base_url="https://api.invalid/v1", project_id="p", retries=0) as client,
            pytest.raises(APIConnectionError, match=r"The proxy failed: Connection refused\. Check proxies="),
        ):
            client.get_work_items_count()


def test_a_socks_proxy_in_the_environment_does_not_concern_this_machine(sandbox, monkeypatch):
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with Sandbox(items=1) as other, other.client() as client:
        assert client.get_work_items_count() == 1
