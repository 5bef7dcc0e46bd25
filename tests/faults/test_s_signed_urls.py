"""Group S: signed URLs that are reordered, expire, are refused, or point elsewhere."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest

from cfplatform import (
    CFPlatformError,
    DownloadError,
    InvalidResponseError,
    OutageError,
    PermissionDeniedError,
    UnsafePathError,
)
from tests.faults.tools import fetched, run, store_at, tree, wait_until
from tests.http.scripted import raw

EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


def url(path):
    return f"https://storage.example/{path}?sig=1"


def asked(server):
    return [json.loads(request.body)["paths"] for request in server.requests]


def rewriting(sandbox, client, change, times=1):
    """Let the sandbox sign all paths as always, but change the list of its answer before it leaves."""
    paths = [f"coco_output/{item}.json" for item in sandbox.work_item_ids()]
    answer = client.request("POST", f"/spaces/{sandbox.space_id}/signedurls", json={"paths": paths}).json()
    body = json.dumps({"items": change(answer["items"])}).encode()
    sandbox.replace_next(body, times=times, path="*/signedurls")


def check_contents(sandbox, root):
    for path, content in tree(root).items():
        document = json.loads(content)
        del document["info"]["asset_url"]
        assert document == json.loads(sandbox.document(path.rsplit("/", 1)[1].removesuffix(".json")))


def test_s01_answers_in_another_order_never_mix_up_files(sandbox, tmp_path):
    foreign = {"path": "coco_output/foreign.json", "signedUrl": url("foreign")}
    # As wide as the project, so that one group has all items.
    with sandbox.client(max_workers=20) as client:
        # Reversed, one missing, one twice, one foreign.
        rewriting(sandbox, client, lambda signed: [foreign, *reversed(signed[1:]), signed[5]])
        results = list(client.iter_downloads(client.get_work_items(), tmp_path))
    assert [result.error for result in results] == [None] * 20
    check_contents(sandbox, tmp_path)
    assert fetched(sandbox) == 20


def test_s01_a_path_that_is_never_signed_fails_alone(sandbox, client, tmp_path):
    rewriting(sandbox, client, lambda signed: [*signed[:0:-1], *signed[1:3]], times=None)
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (19, 1)
    assert summary.failures[0].item_id == next(sandbox.work_item_ids())
    assert "no signed URL" in str(summary.failures[0].error)
    check_contents(sandbox, tmp_path)


def test_s03_urls_that_run_out_in_the_queue_are_renewed(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        outcomes = []
        for result in results:
            outcomes.append(result.outcome)
            if len(outcomes) in (50, 150, 250):
                sandbox.expire_urls()
    assert outcomes == ["downloaded"] * 300
    expired = fetched(sandbox) - 300
    assert expired > 0
    assert sandbox.counts["signing"] <= math.ceil(300 / 100) + 4 + expired
    check_contents(sandbox, tmp_path)


def test_s03_urls_that_live_for_two_seconds_are_enough(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, batches=2, url_lifetime=2)
    with sandbox.client(max_workers=4) as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (300, 0)


@pytest.mark.parametrize("status", [400, 403])
def test_s03_an_item_is_renewed_three_times_at_most(sandbox, client, tmp_path, status):
    first = next(sandbox.work_item_ids())
    sandbox.fail_next(status, times=None, path=f"/storage/*{first}*", body=EXPIRED)
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (19, 1)
    assert sum(first in request.path for request in sandbox.requests if request.route == "storage") == 1 + 3


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch"])
def test_s04_a_refusal_that_stays_is_tried_with_one_new_signature(sandbox, client, tmp_path, code):
    first = next(sandbox.work_item_ids())
    body = f"<Error><Code>{code}</Code><Message>No</Message></Error>"
    sandbox.fail_next(403, times=None, path=f"/storage/*{first}*", body=body)
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (19, 1)
    assert isinstance(summary.failures[0].error, PermissionDeniedError)
    assert code in str(summary.failures[0].error)
    assert sum(first in request.path for request in sandbox.requests if request.route == "storage") == 2


#: Downloads while the clock of the process is wrong.
WRONG_CLOCK = """
import sys, time
right = time.time
time.time = lambda: right() + 3600 * int(sys.argv[1])
import cfplatform
with cfplatform.Client() as client:
    print(client.download_project(destination=sys.argv[2]).successful)
"""


@pytest.mark.parametrize("hours", [-1, 1])
def test_s05_a_wrong_local_clock_does_not_matter(make_sandbox, tmp_path, hours):
    sandbox = make_sandbox(items=20, batches=2, url_lifetime=60)
    sandbox.fail_next(429, path="*/annotations", headers={"Retry-After": "0"})
    assert run(sandbox, WRONG_CLOCK, hours, tmp_path) == (0, "20\n", "")
    check_contents(sandbox, tmp_path)


def test_s05_a_refused_time_is_told_as_the_server_says_it(sandbox, client, tmp_path):
    body = (
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current "
        "time is too large.</Message></Error>"
    )
    sandbox.fail_next(403, times=None, path="/storage/*", body=body)
    (result, *_) = client.iter_downloads(client.get_work_items(limit=1), tmp_path)
    assert "RequestTimeTooSkewed: The difference between the request time and the current time" in str(result.error)
    sandbox.clear_faults()
    sandbox.fail_next(403, times=1, path="/storage/*", body=body)
    assert client.download_project(destination=tmp_path).successful == 20


@pytest.mark.parametrize(
    "bad",
    [
        "http://storage.example/o?sig=1",
        "file:///etc/passwd",
        "ftp://storage.example/o",
        "https://user:pw@storage.example/o",
        "relative/o?sig=1",
        "//storage.example/o",
        "https://storage.example/o\n?sig=1",
        "https://storage.example\\@127.0.0.1/o",
        "https:///o",
    ],
)
def test_s06_an_address_that_is_no_storage_is_never_opened(sandbox, client, tmp_path, bad):
    items = [{"path": f"coco_output/{item}.json", "signedUrl": bad} for item in sandbox.work_item_ids()]
    sandbox.replace_next(json.dumps({"items": items}).encode(), times=None, path="*/signedurls")
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (0, 20)
    assert all(isinstance(failure.error, (InvalidResponseError, DownloadError)) for failure in summary.failures)
    assert "pw" not in str(summary.failures[0].error)
    assert fetched(sandbox) == 0
    assert tree(tmp_path) == {}


def test_s07_the_storage_gets_no_credential(serve, make_sandbox, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login sentinel password sentinel\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sandbox = make_sandbox(items=5, batches=1)
    answer = raw(200, b'{"info": {}}', "Set-Cookie: a=b; Path=/")
    server = serve(default=answer)
    store_at(sandbox, server.origin)
    with sandbox.client(max_workers=1) as client:
        client.download_project(destination=tmp_path / "labels").raise_for_failures()
    assert len(server.requests) == 5
    for request in server.requests:
        assert not request.names & {"x-api-key", "cookie", "authorization", "proxy-authorization"}
        assert not [name for name in request.names if name.startswith("x-amz-")]
        assert request.values("Accept-Encoding") == ["identity"]
    assert sandbox.leaks == 0


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("s3://bucket/spaces/another-space/coco_output/f.json", DownloadError),
        ("s3://bucket/spaces/{space}/../another/f.json", UnsafePathError),
        ("https://bucket.example/spaces/{space}/f.json", DownloadError),
        ("", DownloadError),
        (None, DownloadError),
        (5, DownloadError),
    ],
)
def test_s08_a_place_outside_of_the_space_fails_alone_and_is_not_signed(sandbox, client, tmp_path, place, error):
    place = place.format(space=sandbox.space_id) if isinstance(place, str) else place
    sandbox.set_annotation(0, {"coco_results_url": place})
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (19, 1)
    assert type(summary.failures[0].error) is error
    for request in sandbox.requests:
        if request.route == "signing":
            assert request.path.endswith(f"/spaces/{sandbox.space_id}/signedurls")
            assert not any("another" in path or "f.json" in path for path in json.loads(request.body)["paths"])


def test_s09_workers_park_while_signing_is_down(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=1000, batches=2)
    sandbox.fail_next(503, times=None, path="*/signedurls")
    with sandbox.client(max_workers=4, retries=1) as client:
        outcomes = []
        thread = threading.Thread(
            target=lambda: outcomes.append(client.download_project(destination=tmp_path)), daemon=True
        )
        thread.start()
        window = 2 * 100 + 4 * 4
        wait_until(lambda: sandbox.counts["annotations"] >= window)
        wait_until(lambda: sandbox.counts["signing"] >= 4)
        signed = sandbox.counts["signing"]
        time.sleep(1.2)
        # The window is full: nothing runs ahead, and the endpoint is asked once a second, and then less often.
        assert sandbox.counts["annotations"] == window
        assert sandbox.counts["signing"] - signed <= 4
        sandbox.clear_faults()
        thread.join(30)
    (summary,) = outcomes
    assert (summary.successful, summary.failed) == (1000, 0)


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_s09_signing_that_stays_down_ends_the_run_within_bounds(make_sandbox, tmp_path, fault):
    sandbox = make_sandbox(items=500, batches=2)
    if fault == "503":
        sandbox.fail_next(503, times=None, path="*/signedurls")
    else:
        sandbox.reset_next(None, path="*/signedurls")
    with (
        sandbox.client(max_workers=4) as client,
        pytest.raises(OutageError, match="503 Service" if fault == "503" else "connection was lost") as caught,
    ):
        client.download_project(destination=tmp_path, patience=2)
    assert caught.value.status_code == (503 if fault == "503" else None)
    # What each of three groups may send before it waits, and a probe after 0 and 1 seconds.
    assert sandbox.counts["signing"] <= 3 * 6 + 3
    assert tree(tmp_path) == {}


def test_s09_a_wait_ends_with_the_run(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=50, batches=2)
    sandbox.set_annotation(0, None)
    sandbox.fail_next(503, times=None, path="*/signedurls")
    with sandbox.client(max_workers=4, retries=0) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        assert isinstance(next(results).error, CFPlatformError)
        wait_until(lambda: sandbox.counts["signing"] >= 1)
        before = time.monotonic()
        results.close()
        assert time.monotonic() - before < 2
