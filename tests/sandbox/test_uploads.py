"""Uploads through signed URLs, and files served in parts."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import socket
import tempfile
import time
import tracemalloc
from urllib.parse import urlsplit

import pytest
from PIL import Image

from .conftest import is_uuid
from .test_storage import error

CONTENT = b"\x00\xff some bytes \r\n" * 5000


def sign_uploads(wire, **query):
    return wire.api("GET", f"/spaces/{wire.sandbox.space_id}/signedurls", **query)


def upload_url(wire):
    (item,) = sign_uploads(wire).json["items"]
    url = urlsplit(item["signedUrl"])
    return item["path"], f"{url.path}?{url.query}"


def upload(wire, content=CONTENT, **headers):
    path, url = upload_url(wire)
    answer = wire.send("PUT", url, content, **({"Content_Type": "image/jpeg"} | headers))
    assert answer.status == 200, answer
    return path


@pytest.mark.parametrize(("query", "count"), [({}, 1), ({"count": 1}, 1), ({"count": 10}, 10)])
def test_upload_urls(wire, query, count):
    items = sign_uploads(wire, **query).json["items"]
    assert len(items) == len({item["path"] for item in items}) == count
    for item in items:
        assert set(item) == {"path", "signedUrl"}
        folder, _, name = item["path"].partition("/")
        assert folder == "assets"
        assert is_uuid(name)
        assert f"/storage/cf-sandbox/spaces/{wire.sandbox.space_id}/{item['path']}?" in item["signedUrl"]
    assert wire.sandbox.counts["signing"] == 1


@pytest.mark.parametrize("count", ["0", "11", "-1", "x", "", "1.0", "²"])
def test_bad_counts(wire, count):
    answer = sign_uploads(wire, count=count)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_upload_urls_ask_for_a_key_and_a_space(wire):
    assert wire.send("GET", f"{wire.prefix}/spaces/{wire.sandbox.space_id}/signedurls").status == 401
    assert wire.api("GET", f"/spaces/{wire.sandbox.project_id}/signedurls").status == 404


def test_the_seed_decides_the_paths(make_wire):
    paths = [[item["path"] for item in sign_uploads(make_wire(3, seed=7), count=3).json["items"]] for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0] != [item["path"] for item in sign_uploads(make_wire(3), count=3).json["items"]]


def test_what_was_uploaded_is_served(wire):
    path, url = upload_url(wire)
    assert wire.send("GET", wire.sign(path)[0]).status == 404
    put = wire.send("PUT", url, CONTENT, Content_Type="image/jpeg")
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'  # noqa: S324 - as S3 makes it
    assert (put.status, put.body, put.headers["etag"]) == (200, b"", etag)
    get = wire.send("GET", wire.sign(path)[0])
    assert (get.status, get.body) == (200, CONTENT)
    assert get.headers["etag"] == etag
    assert get.headers["content-type"] == "image/jpeg"
    assert get.headers["accept-ranges"] == "bytes"
    head = wire.send("HEAD", wire.sign(path)[0])
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    request = next(request for request in wire.sandbox.requests if request.method == "PUT")
    assert (request.route, request.status, request.body_size) == ("uploads", 200, len(CONTENT))
    assert request.body == CONTENT[: 64 * 1024]
    assert request.headers["content-type"] == "image/jpeg"
    assert request.as_dict()["body_size"] == len(CONTENT)
    assert wire.sandbox.counts["uploads"] == 1


def test_an_upload_replaces_the_one_before(wire):
    path, url = upload_url(wire)
    for content in (b"first", b"", b"third, longer"):
        assert wire.send("PUT", url, content, Content_Type="text/plain").status == 200
        answer = wire.send("GET", wire.sign(path)[0])
        assert (answer.body, answer.headers["content-length"]) == (content, str(len(content)))


@pytest.mark.parametrize(
    ("asked", "part"),
    [("0-0", slice(0, 1)), ("70000-70009", slice(70000, 70010)), ("100-", slice(100, None)), ("-7", slice(-7, None))],
)
def test_ranges_of_files(wire, asked, part):
    url = wire.sign(upload(wire))[0]
    etag = wire.send("HEAD", url).headers["etag"]
    answer = wire.send("GET", url, Range=f"bytes={asked}", If_Range=etag)
    start, stop, _ = part.indices(len(CONTENT))
    assert (answer.status, answer.body) == (206, CONTENT[part])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert wire.send("GET", url, Range=f"bytes={asked}", If_Range='"other"').body == CONTENT
    beyond = wire.send("GET", url, Range=f"bytes={len(CONTENT)}-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")


def test_upload_needs_a_content_type_and_a_length(wire):
    path, url = upload_url(wire)
    answer = wire.send("PUT", url, CONTENT)
    assert (answer.status, error(answer)[0]) == (400, "InvalidRequest")
    wire.connection.request("PUT", url, iter([b"a", b"b"]), {"Content-Type": "x/y"}, encode_chunked=True)
    response = wire.connection.getresponse()
    assert (response.status, b"MissingContentLength" in response.read()) == (411, True)
    assert wire.send("GET", wire.sign(path)[0]).status == 404


def test_upload_proves_a_checksum(wire):
    path, url = upload_url(wire)
    md5 = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()  # noqa: S324 - as S3 asks for it
    answer = wire.send("PUT", url, b"other", Content_Type="x/y", Content_MD5=md5)
    assert (answer.status, error(answer)[0]) == (400, "BadDigest")
    assert wire.send("GET", wire.sign(path)[0]).status == 404
    assert wire.send("PUT", url, CONTENT, Content_Type="x/y", Content_MD5=md5).status == 200


@pytest.mark.parametrize("leak", [{"X_API_Key": "anything"}, {"Authorization": "Bearer x"}])
def test_credentials_are_refused_and_counted(wire, leak):
    path, url = upload_url(wire)
    answer = wire.send("PUT", url, CONTENT, Content_Type="x/y", **leak)
    assert (answer.status, error(answer)[0], wire.sandbox.leaks) == (400, "InvalidArgument", 1)
    assert wire.send("GET", wire.sign(path)[0]).status == 404


def test_a_url_is_good_for_one_direction(wire):
    path, url = upload_url(wire)
    for method, other in (("GET", url), ("HEAD", url), ("PUT", wire.sign(path)[0])):
        answer = wire.send(method, other, b"x" if method == "PUT" else None, Content_Type="x/y")
        assert answer.status == 403
    assert error(answer)[0] == "SignatureDoesNotMatch"
    assert wire.send("DELETE", url).status == 405


def test_expired_and_tampered_urls(wire):
    path, url = upload_url(wire)
    longer = url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")
    elsewhere = url.replace(path, "assets/other")
    for other in (longer, elsewhere, url.split("?")[0]):
        assert wire.send("PUT", other, b"x", Content_Type="x/y").status == 403
    wire.sandbox.expire_urls()
    assert error(wire.send("PUT", url, b"x", Content_Type="x/y")) == ("AccessDenied", "Request has expired")
    wire.sandbox.expire_after(0)
    assert wire.send("PUT", upload_url(wire)[1], b"x", Content_Type="x/y").status == 403


def test_an_upload_that_breaks_off_leaves_nothing(wire):
    path, url = upload_url(wire)
    wire.sandbox.clear_requests()
    with socket.create_connection((wire.connection.host, wire.connection.port)) as raw:
        raw.sendall(
            f"PUT {url} HTTP/1.1\r\nHost: localhost\r\nContent-Type: x/y\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        raw.sendall(b"a" * 500)
        while wire.sandbox.in_flight == 0:
            time.sleep(0.001)
    while not wire.sandbox.requests:
        time.sleep(0.001)
    (request,) = wire.sandbox.requests
    assert (request.method, request.status, request.body_size) == ("PUT", 400, 500)
    assert wire.send("GET", wire.sign(path)[0]).status == 404
    assert wire.send("PUT", url, b"whole", Content_Type="x/y").status == 200


def test_faults_hit_uploads(wire):
    path, url = upload_url(wire)
    wire.sandbox.fail_next(503, method="PUT", path="/storage/*")
    wire.sandbox.reset_next(method="PUT")
    answer = wire.send("PUT", url, CONTENT, Content_Type="x/y")
    assert (answer.status, error(answer)[0]) == (503, "SlowDown")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        wire.send("PUT", url, CONTENT, Content_Type="x/y")
    assert [(entry.status, entry.body_size) for entry in wire.sandbox.requests if entry.method == "PUT"] == [
        (503, len(CONTENT)),
        (0, len(CONTENT)),
    ]
    assert wire.send("GET", wire.sign(path)[0]).status == 404


def test_faults_hit_files(wire):
    url = wire.sign(upload(wire))[0]
    wire.sandbox.truncate_next(method="GET", path="/storage/*")
    with pytest.raises(http.client.IncompleteRead) as caught:
        wire.send("GET", url)
    assert caught.value.partial == CONTENT[: len(CONTENT) // 2]
    wire.sandbox.truncate_next(method="GET", path="/storage/*", keep=0.1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        wire.send("GET", url, Range="bytes=100-1099")
    assert caught.value.partial == CONTENT[100:200]
    wire.sandbox.drip_next(method="GET", path="/storage/*", keep=1 - 2 / len(CONTENT))
    assert wire.send("GET", url).body == CONTENT


def test_large_files_are_not_held_in_memory(wire, tmp_path):
    size = 24 << 20
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(size)
    path, url = upload_url(wire)
    tracemalloc.start()
    try:
        with source.open("rb") as file:
            wire.connection.request("PUT", url, file, {"Content-Type": "x/y", "Content-Length": str(size)})
            response = wire.connection.getresponse()
            assert (response.status, response.read()) == (200, b"")
        wire.connection.request("GET", wire.sign(path)[0])
        response = wire.connection.getresponse()
        received = 0
        while piece := response.read(1 << 18):
            received += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == size
    assert peak < 8 << 20


def test_files_go_with_a_reset_and_with_the_sandbox(make_wire, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wire = make_wire(3)
    path = upload(wire)
    (folder,) = tmp_path.glob("cfplatform-sandbox-*")
    assert len(list(folder.iterdir())) == 1
    wire.sandbox.reset()
    assert list(folder.iterdir()) == []
    assert wire.send("GET", wire.sign(path)[0]).status == 404
    assert upload(wire) == path


def test_public_assets(make_wire):
    wire = make_wire(5, absolute_assets=True)
    item = wire.work_items().json["items"][2]
    assert item["assetUrl"].startswith(wire.sandbox.base_url.removesuffix("/api/v1") + "/public/assets/")
    target = urlsplit(item["assetUrl"]).path
    answer = wire.send("GET", target)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body == wire.sandbox.asset(2)
    assert Image.open(io.BytesIO(answer.body)).size == (320, 240)
    part = wire.send("GET", target, Range="bytes=10-19", If_Range=answer.headers["etag"])
    assert (part.status, part.body) == (206, answer.body[10:20])
    head = wire.send("HEAD", target)
    assert (head.status, head.body, head.headers["accept-ranges"]) == (200, b"", "bytes")
    assert wire.send("GET", "/public/assets/nothing").status == 404
    leak = wire.send("GET", target, X_API_Key=wire.sandbox.api_key)
    assert (leak.status, error(leak)[0], wire.sandbox.leaks) == (400, "InvalidArgument", 1)
    wire.sandbox.fail_next(503, path="/public/*")
    assert error(wire.send("GET", target))[0] == "SlowDown"
    assert wire.sandbox.counts["assets"] == 6
    # The same picture is in the storage, for those who sign.
    assert wire.send("GET", wire.sign("assets/" + target.rpartition("/")[2])[0]).body == answer.body
