"""The requests sent."""

from __future__ import annotations

import io
import platform
import time
import uuid

import pytest
import requests
import requests_mock
import urllib3

from cfplatform import (
    AuthenticationError,
    DownloadError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    WorkItem,
    __version__,
)
from tests.http.scripted import Answer, page, raw, said
from tests.tools import KEY, SIGNATURE, load

ENTRY = "default login LOGIN password PASSWORD\n"


@pytest.fixture
def load_signed(connect):
    """Load a document from where a platform says that it is, at whatever address that platform is."""

    def run(signed_url, base_url="https://api.invalid/v1"):
        platform = requests_mock.Adapter()
        annotation = {"metadata": {"coco_results_url": "s3://bucket/spaces/s/o.json"}}
        platform.register_uri("GET", requests_mock.ANY, json=annotation)
        signed = {"items": [{"path": "o.json", "signedUrl": signed_url}]}
        platform.register_uri("POST", requests_mock.ANY, json=signed)
        with requests.Session() as session:
            session.mount(base_url, platform)
            return WorkItem({"id": "a"}, connect(base_url, session=session), "p").load()

    return run


def modern(name, *version):
    found = {"requests": requests.__version__, "urllib3": urllib3.__version__}[name]
    return tuple(int(part) for part in found.split(".")[:2]) >= version


def test_an_api_request_carries_the_key_and_who_sends_it(serve, connect):
    server = serve(said({"a": 1}))
    assert connect(server).request("get", "/projects/p").json() == {"a": 1}
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/api/v1/projects/p", b"")
    assert request.values("X-API-Key") == [KEY]
    assert request.values("User-Agent") == [
        f"cfplatform/{__version__} requests/{requests.__version__} python/{platform.python_version()}"
    ]
    assert request.values("Accept") == ["application/json"]
    assert request.values("Accept-Encoding") == ["gzip, deflate"]
    assert request.values("Host") == [f"127.0.0.1:{server.port}"]
    assert not {"authorization", "cookie", "content-type"} & request.names


def test_a_tool_can_put_its_name_first(serve, connect):
    server = serve(said({}), raw(200, b"x"))
    client = connect(server, user_agent=" my-tool/1.2 ")
    client.request("GET", "/x")
    load(client, f"{server.origin}/o")
    assert [request.values("User-Agent")[0].split(" cfplatform/")[0] for request in server.requests] == [
        "my-tool/1.2",
        "my-tool/1.2",
    ]


def test_a_json_body_is_sent_as_json(serve, connect):
    server = serve(said({}, 201))
    assert connect(server).request("POST", "/x", json={"name": "é"}).status_code == 201
    (request,) = server.requests
    assert request.values("Content-Type") == ["application/json"]
    assert request.body == b'{"name": "\\u00e9"}'


@pytest.mark.parametrize("own_session", [False, True])
def test_data_and_files_are_sent_as_by_requests(serve, connect, tmp_path, own_session):
    server = serve(default=said({}))
    path = tmp_path / "a b.txt"
    path.write_bytes(b"of the file")
    with requests.Session() as session, path.open("rb") as file:
        client = connect(server, **({"session": session} if own_session else {}))
        given = [
            {"data": {"a": ["1", "é"], "b": "x y"}},
            {"data": [("a", "1"), ("a", "2")]},
            {"data": "tëxt"},
            {"data": b"\x00bytes", "headers": {"Content-Type": "application/x-own"}},
            {"data": {}},
            {"files": {"file": ("a.txt", b"content", "text/plain")}, "data": {"a": "1"}},
        ]
        for options in given:
            client.request("POST", "/x", **options)
            requests.post(f"{server.base_url}/x", **options, timeout=5)
        file.seek(3)
        client.request("PUT", "/x", data=file)
    *paired, streamed = server.requests
    for ours, theirs in zip(paired[::2], paired[1::2], strict=True):
        kinds = [each.values("Content-Type") for each in (ours, theirs)]
        bodies = [each.body for each in (ours, theirs)]
        if kinds[0] and "boundary=" in kinds[0][0]:
            # Each form has a boundary of its own.
            boundaries = [kind[0].partition("boundary=")[2] for kind in kinds]
            kinds = [[kind[0].partition("boundary=")[0]] for kind in kinds]
            bodies = [body.replace(boundary.encode(), b"|") for body, boundary in zip(bodies, boundaries, strict=True)]
        assert kinds[0] == kinds[1]
        assert bodies[0] == bodies[1]
    assert (streamed.method, streamed.body, streamed.values("Content-Length")) == ("PUT", b"of the file"[3:], ["8"])


def test_a_file_is_sent_from_its_start_again(serve, connect, tmp_path):
    server = serve(raw(503), said({}))
    path = tmp_path / "content.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    policy = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0, allowed_methods=None)
    with path.open("rb") as file:
        connect(server, retries=policy).request("POST", "/x", data=file)
    assert [request.body for request in server.requests] == [path.read_bytes()] * 2


@pytest.mark.parametrize("own_session", [False, True])
def test_a_body_can_be_streamed(serve, connect, own_session):
    content = bytes(range(256)) * 4000
    server = serve(raw(503), raw(200, content), said({}))
    with requests.Session() as session:
        client = connect(server, **({"session": session} if own_session else {}))
        with client.request("GET", "/x", stream=True) as response:
            assert response.raw.tell() == 0
            pieces = list(response.iter_content(10_000))
        assert len(pieces) > 50
        assert b"".join(pieces) == content
        # Its connection was given back.
        client.request("GET", "/y")
    assert server.requests[-1].connection == server.requests[-2].connection


def test_a_streamed_body_is_read_when_the_caller_reads_it(serve, connect):
    half = b"x" * 100_000
    server = serve(Answer(raw(200, half, "Content-Length: 200000"), end="stall"))
    client = connect(server, timeout=1)
    with client.request("GET", "/x", stream=True) as response:
        assert response.raw.read(50_000) == half[:50_000]
        time.sleep(1.2)
        assert response.raw.read(50_000) == half[50_000:]
        with pytest.raises(requests.ConnectionError):
            list(response.iter_content(10))


def test_a_refusal_of_a_streamed_request_is_raised_and_its_connection_kept(serve, connect):
    server = serve(said({"error": {"message": "No.", "code": "E7"}}, 404), said({}))
    client = connect(server)
    with pytest.raises(NotFoundError) as caught:
        client.request("GET", "/x", stream=True)
    assert caught.value.code == "E7"
    client.request("GET", "/y")
    assert server.connections == 1


def test_lists_are_sent_as_repeated_keys_and_everything_is_quoted(serve, connect):
    server = serve(page("a", following="C=/+x é"), page("b"))
    items = connect(server).get_work_items(
        batch_ids=[1, 2], work_item_ids=["x y"], status="A&B", created_at_from="2026-07-11T11:52:37+05:45", page_size=7
    )
    assert [item.id for item in items] == ["a", "b"]
    first = (
        "/api/v1/projects/p/workItems?batchIds=1&batchIds=2&workItemIDs=x+y&createdAtFrom=2026-07-11T11%3A52%3A37%2B05%3A45"
        "&status=A%26B&limit=7"
    )
    assert [request.target for request in server.requests] == [first, f"{first}&cursor=C%3D%2F%2Bx+%C3%A9&page=NEXT"]


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ([("a", "1"), ("a", "2")], "?a=1&a=2"),
        ({"a": ["1", "2"], "b": "3"}, "?a=1&a=2&b=3"),
        ({"a": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_parameters_of_a_raw_request_may_be_pairs_or_a_mapping(serve, connect, given, target):
    server = serve(said({}))
    connect(server).request("GET", "/x", params=given)
    assert server.requests[0].target == f"/api/v1/x{target}"


@pytest.mark.parametrize(
    ("work_item", "sent"),
    [
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("a?x=1", "a%3Fx%3D1"),
        ("a#f", "a%23f"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        ("é", "%C3%A9"),
        ("a;b:c@d&e=f+g,h$i!", "a%3Bb%3Ac%40d%26e%3Df%2Bg%2Ch%24i%21"),
        ("a\\b", "a%5Cb"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_no_id_changes_which_route_is_called(serve, connect, work_item, sent):
    server = serve(said({"id": "a-1"}))
    connect(server).get_annotation(work_item)
    assert server.requests[0].target == f"/api/v1/projects/p/workItems/{sent}/annotations?format=coco"


@pytest.mark.parametrize("path", ["x", "/x", "/x?a=1"])
def test_a_raw_path_is_below_the_base_url(serve, connect, path):
    server = serve(said({}))
    connect(server).request("GET", path)
    assert server.requests[0].target == "/api/v1/" + path.lstrip("/")


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/@evil.example", "@evil.example/x", ":80/x", "\\\\evil.example\\x"]
)
def test_no_path_leads_to_another_host(serve, connect, path):
    server = serve(said({}))
    connect(server).request("GET", path)
    assert server.requests[0].target.startswith("/api/v1/")


def test_a_netrc_entry_adds_nothing(serve, connect, fetch, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text(ENTRY)
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(ENTRY)
    server = serve(said({}), raw(200, b"x"), said({}))
    connect(server).request("GET", "/x")
    fetch(server)
    with requests.Session() as session:
        connect(server, session=session).request("GET", "/x")
    assert len(server.requests) == 3
    assert all("authorization" not in request.names for request in server.requests)


def test_an_environment_proxy_is_not_used_for_this_machine(serve, connect, fetch, monkeypatch):
    proxy = serve()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.origin)
    server = serve(said({}), raw(200, b"x"))
    connect(server).request("GET", "/x")
    fetch(server)
    assert len(server.requests) == 2
    assert proxy.requests == []


def test_a_proxy_that_the_caller_gives_is_used(serve, connect):
    proxy = serve(said({"via": "proxy"}))
    client = connect("http://127.0.0.1:9/api/v1", proxies={"http": proxy.origin})
    assert client.request("GET", "/x").json() == {"via": "proxy"}
    assert proxy.requests[0].target == "http://127.0.0.1:9/api/v1/x"


def test_a_storage_request_carries_no_credential_at_all(serve, connect):
    server = serve(said({}, 200, "Set-Cookie: session=1; Path=/"), raw(200, b"x", "Set-Cookie: s=2"), raw(200, b"y"))
    client = connect(server)
    client.request("GET", "/x")
    for _ in range(2):
        load(client, f"{server.origin}/api/v1/o?X-Amz-Signature=1")
    for request in server.requests[1:]:
        assert request.values("Accept-Encoding") == ["identity"]
        assert request.names == {"host", "user-agent", "accept-encoding"}


def test_cookies_are_not_kept(serve, connect):
    server = serve(*[said({}, 200, "Set-Cookie: a=1; Path=/")] * 3)
    client = connect(server)
    for _ in range(3):
        client.request("GET", "/x")
    assert all("cookie" not in request.names for request in server.requests)


@pytest.mark.parametrize(
    "target",
    [
        f"/bucket/key?X-Amz-Credential=A%2FB&X-Amz-Signature={SIGNATURE}",
        "/a%7Eb/~c",
        "/a%2Fb/c%2fd".replace("%2f", "%2F"),
        "/a/../b/./c",
        "/a//b///c",
        "/a+b%20c",
        "/a%2Bb?x=1+2&y=%2B",
        "/p?a=b=c==&d",
        "/p?a=%25&b=%E2%82%AC",
        "/p;v=1,2:3@4!$'()*",
        "/p?x='()*!;:@/?",
        "/p?response-content-disposition=attachment%3B%20filename%3D%22a%22",
        "/p?Policy=abc~_&Key-Pair-Id=K-1",
        pytest.param(
            "//a//b",
            marks=pytest.mark.skipif(
                not (modern("requests", 2, 34) and modern("urllib3", 2, 7)), reason="older releases fold the slashes"
            ),
        ),
    ],
)
def test_a_signed_url_is_sent_byte_for_byte(serve, fetch, target):
    server = serve(raw(200, b"x"))
    assert fetch(server, target) == b"x"
    assert server.requests[0].target == target


def test_a_signed_url_without_a_path_asks_for_the_root(serve, fetch):
    server = serve(raw(200, b"x"))
    fetch(server, "?a=b#fragment")
    assert server.requests[0].target == "/?a=b"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/relative",
        "http://storage.example/o",
        "http://10.0.0.1/o",
        "ftp://127.0.0.1/o",
        "file:///etc/passwd",
        "https://user:SENTINELpw@127.0.0.1/o",
        "https://user@127.0.0.1/o",
        "https://[::1/o",
        "https:///o",
        "https://127.0.0.1:99999/o",
        "https://127.0.0.1:port/o",
        "https://127.0.0.1\\.storage.example/o",
        "https://127.0.0.1/o\nX-Evil: 1",
        "https://127.0.0.1/o\x7f",
        "https://*.example/o",
        "https://.example/o",
    ],
)
def test_a_signed_url_that_is_not_valid_is_not_opened(serve, load_signed, url):
    server = serve()
    refused = "is not an https URL of a public host|no signed URL"
    with pytest.raises((InvalidResponseError, DownloadError), match=refused) as caught:
        load_signed(url, server.base_url)
    assert "SENTINELpw" not in str(caught.value) + repr(vars(caught.value))
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/o",
        "https://127.0.0.1:1/o",
        "https://169.254.169.254/latest/meta-data",
        "https://169.254.169.254./o",
        "https://10.0.0.1/o",
        "https://[::1]/o",
        "https://2852039166/o",
        "https://127.1/o",
        "https://0x7f000001/o",
        "https://[::ffff:169.254.169.254]/o",
        "https://localhost/o",
        "https://LOCALHOST./o",
    ],
)
def test_a_public_api_cannot_send_the_client_to_a_private_address(load_signed, url):
    with pytest.raises(InvalidResponseError, match="is not an https URL of a public host"):
        load_signed(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_is_never_followed(serve, connect, status, elsewhere, method):
    other = serve(default=said({}))
    server = serve(default=said({}))
    target = (other if elsewhere else server).origin + f"/x?sig={SIGNATURE}"
    server.plan(raw(status, b"moved", f"Location: {target}"))
    with pytest.raises(InvalidResponseError, match=rf"redirect \({status}\) to .*Check the base URL") as caught:
        connect(server).request(method, "/x", json={"a": 1} if method == "POST" else None)
    assert caught.value.status_code == status
    assert SIGNATURE not in str(caught.value)
    assert other.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://[::1",
        "\xff\xfe",
        "//evil.example",
        "http://",
        "x" * 5000,
        "javascript:1",
        "\x1b[2J",
        "http://h:port/",
    ],
)
@pytest.mark.parametrize("own_session", [False, True])
def test_a_redirect_to_garbage_is_a_typed_error(serve, connect, location, own_session):
    server = serve(default=raw(302, b"", f"Location: {location}"))
    with requests.Session() as session, pytest.raises(InvalidResponseError) as caught:
        connect(server, retries=0, session=session if own_session else None).request("GET", "/x")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_redirect_without_a_location_is_a_typed_error(serve, connect):
    server = serve(raw(302))
    with pytest.raises(InvalidResponseError, match="redirect"):
        connect(server).request("GET", "/x")


def test_a_redirect_of_the_storage_is_not_followed(serve, fetch):
    other = serve(default=raw(200, b"x"))
    server = serve(raw(307, b"", f"Location: {other.origin}/o?sig={SIGNATURE}"))
    with pytest.raises(InvalidResponseError, match="a signed URL is valid for one location only") as caught:
        fetch(server)
    assert other.requests == []
    assert SIGNATURE not in str(caught.value)


@pytest.mark.parametrize("status", [302, 404, 503])
def test_unchecked_answers_are_returned_as_they_are(serve, connect, status):
    server = serve(default=raw(status, b"words", "Location: http://127.0.0.1:9/", "Retry-After: 86400"))
    response = connect(server, retries=0).request("GET", "/x", check=False)
    assert (response.status_code, response.content, response.text) == (status, b"words", "words")
    assert len(server.requests) == 1


def test_a_key_that_is_refused_is_asked_about_once(serve, connect):
    server = serve(said({"message": f"bad key {KEY}"}, 401))
    with pytest.raises(AuthenticationError, match=r"bad key \*\*\*. Check the API key"):
        connect(server).request("GET", "/x")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "GE T"}, "method"),
        ({"method": ""}, "method"),
        ({"method": "GET /x HTTP/1.1\r\nX: 1"}, "method"),
        ({"method": None}, "method"),
        ({"path": "https://evil.example/x"}, "path"),
        ({"path": "/a/../b"}, "path"),
        ({"path": "/a/%2e%2E/b"}, "path"),
        ({"path": "/a/..?x=1"}, "path"),
        ({"path": "/a/.#x"}, "path"),
        ({"path": "/a\\..\\b"}, "path"),
        ({"path": "/a\r\nX: 1"}, "path"),
        ({"path": None}, "path"),
        ({"headers": {"X-A": "SENTINEL\r\nX-B: 1"}}, "value of 'X-A'"),
        ({"headers": {"X-A": "SENTINEL\N{RIGHT SINGLE QUOTATION MARK}"}}, "value of 'X-A'"),
        ({"headers": {"X-A": " SENTINEL"}}, "value of 'X-A'"),
        ({"headers": {"X-A": 5}}, "value of 'X-A'"),
        ({"headers": {"X A": "SENTINEL"}}, "not a valid header name"),
        ({"headers": {"X-A:": "SENTINEL"}}, "not a valid header name"),
        ({"headers": {"": "SENTINEL"}}, "not a valid header name"),
        ({"headers": {5: "SENTINEL"}}, "not a valid header name"),
        ({"json": {"a": float("nan")}}, "json cannot be sent"),
        ({"json": {"a": object()}}, "json cannot be sent"),
        ({"json": {}, "data": b"x"}, "json cannot be used with"),
        ({"json": [], "files": {"a": b"x"}}, "json cannot be used with"),
        ({"data": iter([b"x"])}, "data must be form fields, .* not list_iterator"),
        ({"data": io.StringIO("text")}, "seekable binary file"),
        ({"data": 5}, "data must be form fields"),
        ({"data": "text", "files": {"a": b"x"}}, "data and files cannot be sent"),
        ({"files": 5}, "data and files cannot be sent"),
        ({"params": 5}, "params must be"),
        ({"params": [("a",)]}, "params must be"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(serve, connect, options, says):
    server = serve()
    with pytest.raises(InvalidParameterError, match=says) as caught:
        connect(server).request(**{"method": "POST", "path": "/x", **options})
    assert "SENTINEL" not in str(caught.value)
    assert server.connections == 0


def test_further_headers_are_sent_but_never_another_key(serve, connect):
    server = serve(said({}))
    connect(server).request("GET", "/x", headers={"X-Trace": "1", "X-API-Key": "other", "Accept": "text/csv"})
    (request,) = server.requests
    assert request.values("X-Trace") == ["1"]
    assert request.values("X-API-Key") == [KEY]
    assert request.values("Accept") == ["text/csv"]


def test_more_hosts_than_are_kept_open_can_be_fetched_from(serve, connect):
    api = serve()
    stores = [serve(default=raw(200, b"%d" % number)) for number in range(20)]
    client = connect(api)

    for _ in range(2):
        assert [load(client, f"{store.origin}/o?sig=1") for store in stores] == [b"%d" % number for number in range(20)]
    # Connections that were abandoned in between are opened again; nothing is requested twice.
    assert [len(store.requests) for store in stores] == [2] * 20
