"""Exports with faults: never created twice, waited for through outages, downloaded in constant memory, no secrets."""

from __future__ import annotations

import json
import logging
import pickle
import sys
import time
import zipfile

import pytest

from cfplatform import (
    APIConnectionError,
    CFPlatformError,
    ExportError,
    ExportFailedError,
    ExportTimeoutError,
    InvalidResponseError,
    PermissionDeniedError,
    ServerError,
)
from tests.faults.stores import EXPIRED, EXPORT, REFUSED, SPACE, Store, noise, zipped
from tests.faults.test_x_secrets import check, texts_of
from tests.faults.tools import run
from tests.http.scripted import Answer, raw, said
from tests.tools import SIGNATURE, outcome


def listing(*exports):
    return said({"items": list(exports), "meta": {"cursorNext": None}})


def export(export_id="new", name="Nightly", status="PENDING", **fields):
    return {"exportId": export_id, "name": name, "status": status, **fields}


RESET = Answer(b"", end="reset")
OLD = export("old", status="COMPLETED")
NEW = export()
CONFLICT = said({"message": "one at a time"}, 409)


def verbs(server):
    return [request.method for request in server.requests]


# --- N2 ----------------------------------------------------------------------------------------------------------

#: How the answer to the request is lost.
LOST = {
    "reset": RESET,
    "closed": Answer(b"", end="close"),
    "half": Answer(said(NEW, 201)[:-20], end="close"),
    "no export": said({"message": "ok"}, 201),
    "web page": raw(200, b"<html>sign in</html>"),
    "503": said({"message": "busy"}, 503),
    "504": raw(504, b"gateway"),
}


@pytest.mark.parametrize("how", LOST)
def test_n02_an_export_that_was_made_though_its_answer_was_lost_is_found(serve, connect, how):
    server = serve(listing(OLD), LOST[how], listing(NEW, OLD))
    made = connect(server).create_export("Nightly", SPACE)
    assert (made.id, made.status) == ("new", "PENDING")
    assert verbs(server) == ["GET", "POST", "GET"]


@pytest.mark.parametrize("how", LOST)
def test_n02_one_that_was_not_made_is_asked_for_once_more(serve, connect, how):
    other = export("foreign", name="Another")
    server = serve(listing(OLD), LOST[how], listing(other, OLD), said(NEW, 201))
    assert connect(server).create_export("Nightly", SPACE).id == "new"
    assert verbs(server) == ["GET", "POST", "GET", "POST"]
    assert server.requests[1].body == server.requests[3].body


@pytest.mark.parametrize(("how", "error"), [("reset", APIConnectionError), ("503", ServerError)])
def test_n02_what_is_lost_twice_is_told(serve, connect, how, error):
    server = serve(listing(), LOST[how], listing(), LOST[how], listing())
    with pytest.raises(error):
        connect(server).create_export("Nightly", SPACE)
    assert verbs(server) == ["GET", "POST", "GET", "POST", "GET"]


def test_n02_the_second_loss_is_looked_into_too(serve, connect):
    server = serve(listing(), RESET, listing(), RESET, listing(NEW))
    assert connect(server).create_export("Nightly", SPACE).id == "new"
    assert verbs(server).count("POST") == 2


def test_n02_a_refusal_after_a_loss_may_be_about_the_export_itself(serve, connect):
    # The first request was still on its way when the list was read.
    server = serve(listing(), RESET, listing(), CONFLICT, listing(NEW))
    assert connect(server).create_export("Nightly", SPACE).id == "new"


def test_n02_a_listing_that_fails_asks_for_nothing(serve, connect):
    server = serve(default=raw(403, b""))
    with pytest.raises(PermissionDeniedError):
        connect(server).create_export("Nightly", SPACE)
    assert verbs(server) == ["GET"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_n02_a_refusal_is_not_repeated(serve, connect, status):
    server = serve(listing(), said({"message": "no"}, status))
    with pytest.raises(CFPlatformError) as caught:
        connect(server).create_export("Nightly", SPACE)
    assert caught.value.status_code == status
    assert verbs(server) == ["GET", "POST"]


@pytest.mark.parametrize("arrived", [False, True])
def test_n02_the_same_at_the_sandbox(make_sandbox, arrived):
    sandbox = make_sandbox(items=5, export_seconds=600)
    with sandbox.client() as client:
        if arrived:
            # The sandbox acts on it, and what it says is thrown away.
            sandbox.truncate_next(1, path="*/exports", method="POST", keep=0.0)
        else:
            sandbox.reset_next(1, path="*/exports", method="POST")
        made = client.create_export("Nightly")
        assert [each.id for each in client.get_exports()] == [made.id]
    sent = [request for request in sandbox.requests if request.method == "POST"]
    assert len(sent) == (1 if arrived else 2)


def test_n02_an_export_that_is_deleted_while_it_is_waited_for_is_out_of_the_way(serve, connect):
    running = export("running", status="IN_PROGRESS")
    server = serve(listing(running), CONFLICT, listing(running), said({"message": "gone"}, 404), said(NEW, 201))
    assert connect(server).create_export("Nightly", SPACE, wait_for_running=True).id == "new"


# --- Waiting -----------------------------------------------------------------------------------------------------

PASSING = {
    "500": raw(500, b""),
    "503": raw(503, b""),
    "429": raw(429, b""),
    "reset": RESET,
    "web page": raw(200, b"<html></html>"),
    "no export": said({"status": "COMPLETED"}),
}


@pytest.mark.parametrize("fault", PASSING)
def test_waiting_outlives_faults_that_pass(serve, connect, fault):
    server = serve(said(NEW), PASSING[fault], PASSING[fault], said(NEW), said(export(status="COMPLETED")))
    assert connect(server, retries=0).wait_for_export("new", SPACE, poll_interval=0.1).status == "COMPLETED"
    assert len(server.requests) >= 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_waiting_ends_where_it_would_be_in_vain(serve, connect, status):
    server = serve(said(NEW), default=said({"message": "no"}, status))
    with pytest.raises(CFPlatformError) as caught:
        connect(server).wait_for_export("new", SPACE, poll_interval=0.1)
    assert caught.value.status_code == status
    assert len(server.requests) == 2


def test_waiting_for_a_server_that_is_down_ends_in_time_and_says_why(serve, connect):
    server = serve(said(NEW), default=raw(503, b"out of order"))
    began = time.monotonic()
    with pytest.raises(ExportTimeoutError, match=r"is PENDING after 0.5 s; the last poll .* out of order") as caught:
        connect(server, retries=1).wait_for_export("new", SPACE, timeout=0.5, poll_interval=0.1)
    assert 0.5 <= time.monotonic() - began < 3
    assert caught.value.export.id == "new"
    assert caught.value.__context__ is None


def test_waiting_for_a_server_that_says_nothing_ends_in_time(serve, connect):
    server = serve(default=Answer(b"", end="stall"))
    client = connect(server, timeout=60)
    began = time.monotonic()
    with pytest.raises(ExportTimeoutError, match="No response in time"):
        client.wait_for_export("new", SPACE, timeout=1)
    # One look may go on for two seconds, so that there is one however short the time is.
    assert 1 <= time.monotonic() - began < 5


def test_waiting_for_what_was_never_seen(serve, connect):
    server = serve(default=RESET)
    with pytest.raises(ExportTimeoutError, match="in an unknown state") as caught:
        connect(server, retries=0).wait_for_export("new", SPACE, timeout=0)
    assert caught.value.export is None


@pytest.mark.parametrize("status", ["EXPIRED", None, 5, "completed"])
def test_an_unknown_status_is_waited_for_and_told(serve, connect, status):
    server = serve(default=said(export(status=status)))
    with pytest.raises(ExportTimeoutError):
        connect(server).wait_for_export("new", SPACE, timeout=0.05)


@pytest.mark.parametrize("url", [None, "", 5])
def test_a_completed_export_without_a_link_is_an_error(serve, connect, tmp_path, url):
    server = serve(default=said(export(status="COMPLETED", downloadUrl=url)))
    with pytest.raises(ExportError, match="COMPLETED and has no archive") as caught:
        connect(server).download_export("new", tmp_path, SPACE)
    assert caught.value.export.id == "new"


@pytest.mark.parametrize("url", ["http://10.0.0.1/x", "file:///etc/passwd", "/relative", "https://u:p@127.0.0.1/", "x"])
def test_a_link_that_leads_elsewhere_is_not_opened(serve, connect, tmp_path, url):
    server = serve(default=said(export(status="COMPLETED", downloadUrl=url)))
    with pytest.raises(InvalidResponseError, match="it was not opened"):
        connect(server).download_export("new", tmp_path, SPACE)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [raw(403, REFUSED), raw(404, b""), RESET, raw(500, b"")])
def test_a_fault_of_the_storage_is_never_told_as_one_of_the_disk(serve, connect, tmp_path, fault):
    # Some errors of the network are errors of the system to Python.
    store = Store(serve, b"")
    store.server.plan(said(store.export()))
    store.server.plan(*[fault] * 3)
    error = outcome(CFPlatformError, connect(store.server, retries=0).download_export, EXPORT, tmp_path, SPACE)[1]
    assert "destination" not in str(error)


def test_ctrl_c_in_a_progress_function_ends_the_download_and_what_arrived_is_kept(serve, connect, tmp_path):
    store = Store(serve, zipped(1_000_000))

    def progress(done, total):
        if done > 400_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connect(store.server).download_export(EXPORT, tmp_path, SPACE, progress=progress)
    connect(store.server).download_export(EXPORT, tmp_path, SPACE)
    assert int(store.ranges[1][6:-1]) > 400_000


# --- X -----------------------------------------------------------------------------------------------------------

STORAGE_FAULTS = {
    "expired": raw(403, EXPIRED),
    "refused": raw(403, REFUSED),
    "echo": raw(400, f"<Error><Code>X</Code><Message>/o?X-Amz-Signature={SIGNATURE}</Message></Error>".encode()),
    "redirect": raw(302, b"", f"Location: http://127.0.0.1:9/?X-Amz-Signature={SIGNATURE}"),
    "500": raw(500, f"?X-Amz-Signature={SIGNATURE}".encode()),
    "reset": RESET,
    "not a zip": raw(200, f"X-Amz-Signature={SIGNATURE}".encode()),
    "web page": raw(200, b"<html>sign in</html>"),
    "json": raw(200, json.dumps({"message": f"bad X-Amz-Signature={SIGNATURE}"}).encode()),
}


@pytest.mark.parametrize("fault", STORAGE_FAULTS)
def test_x01_no_fault_of_an_archive_shows_its_link(serve, connect, tmp_path, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    answer = STORAGE_FAULTS[fault]
    data = answer.data if isinstance(answer, Answer) else answer
    store = Store(serve, b"")
    store.whole = lambda request: data
    client = connect(store.server, retries=1)
    calls = (
        lambda: client.download_export(EXPORT, tmp_path / "out", SPACE),
        lambda: client.download_export(EXPORT, tmp_path / "out", SPACE, extract=True),
        lambda: list(client.get_export(EXPORT, SPACE).iter_members()),
    )
    errors = [outcome(CFPlatformError, call)[1] for call in calls]
    assert None not in errors
    check(errors, caplog, capfd, tmp_path)


def test_x01_errors_that_carry_an_export_do_not_show_its_link(serve, connect, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    link = f"https://storage.example/o?X-Amz-Signature={SIGNATURE}"
    # An error that carries the export holds its link, as the export itself does; nothing shows it.
    server = serve(default=said(export(status="FAILED", error="no ink", downloadUrl=link)))
    failed = outcome(CFPlatformError, connect(server).wait_for_export, "new", SPACE)[1]
    assert isinstance(failed, ExportFailedError)
    server = serve(default=said(export(status="ODD", downloadUrl=link)))
    odd = outcome(CFPlatformError, lambda: connect(server).wait_for_export("new", SPACE, timeout=0))[1]
    assert isinstance(odd, ExportTimeoutError)
    for error in (failed, odd):
        assert error.export.download_url == link
        for text in (str(error), repr(error), repr(error.export), repr(vars(error)), f"{error.export}"):
            assert SIGNATURE not in text
    assert SIGNATURE not in caplog.text
    assert SIGNATURE not in "".join(capfd.readouterr())


def test_errors_that_carry_an_export_travel(serve, connect):
    server = serve(default=said(export(status="FAILED", error="no ink")))
    error = outcome(CFPlatformError, connect(server).wait_for_export, "new", SPACE)[1]
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - just made here
    assert (type(copy), str(copy)) == (ExportFailedError, str(error))
    assert copy.export == error.export
    assert copy.export.error == "no ink"
    assert copy.export.space_id == SPACE
    with pytest.raises(CFPlatformError, match="has no client"):
        copy.export.refresh()


def test_x05_nothing_of_a_link_is_kept_on_the_disk(serve, connect, tmp_path, caplog, capfd):
    store = Store(serve, zipped(500_000))
    store.planned += [store.broken(200_000), lambda request: raw(503, b"", "Connection: close")]
    error = outcome(CFPlatformError, connect(store.server, retries=0).download_export, EXPORT, tmp_path, SPACE)[1]
    check([error], caplog, capfd, tmp_path)
    assert texts_of(error)
    folder = tmp_path / ".cfplatform" / "resume"
    (note,) = folder.glob("*/note.json")
    assert json.loads(note.read_text()) == {"etag": '"v1"', "total": len(store.content), "type": ""}


# --- G7: memory --------------------------------------------------------------------------------------------------

MEASURE = r"""
import re, sys, time
from cfplatform import Client
with Client(timeout=600) as client:
    began = time.monotonic()
    client.download_export(sys.argv[1], sys.argv[2])
    seconds = time.monotonic() - began
with open("/proc/self/status") as file:
    # Not ru_maxrss, which begins with that of the process that started this one.
    print(seconds, int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) // 1024)
"""


def _archive(path, size):
    """A zip of stored random bytes, written in steps."""
    step = noise(1 << 20)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(max(1, size >> 26)):
            with archive.open(f"batch/{number}.bin", "w", force_zip64=True) as file:
                for _ in range(min(size, 1 << 26) >> 20):
                    file.write(step)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize("size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.stress)])
def test_g07_memory_does_not_grow_with_the_archive(make_sandbox, tmp_path, size):
    sandbox = make_sandbox(items=5)
    figures = {}
    for each in (1 << 20, size):
        path = tmp_path / f"{each}.zip"
        _archive(path, each)
        export_id = sandbox.add_export(path, name="Big")
        code, out, err = run(sandbox, MEASURE, export_id, tmp_path / "out")
        assert (code, err) == (0, "")
        seconds, peak = out.split()
        figures[each] = int(peak)
        print(f"\n{each >> 20} MiB: peak {peak} MiB, {float(seconds):.2f} s", end="")
        assert (tmp_path / "out" / f"Big {export_id}.zip").stat().st_size == path.stat().st_size
    assert figures[size] - figures[1 << 20] <= 8
