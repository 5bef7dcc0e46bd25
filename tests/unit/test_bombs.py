"""Decompression bombs, with a low limit."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cfplatform import DownloadError, documents
from cfplatform.http import body
from tests.faults.test_b_bodies import BODY, CHUNKED, GZIP, accepted, chunked
from tests.faults.tools import parts, run, store_at, tree
from tests.http.scripted import Answer, raw

#: Downloads a bomb, and tells how far the memory of the process rose above what it was before.
BOMB = """
import sys
from cfplatform import Client, CFPlatformError
from cfplatform.http import body
from cfplatform import documents

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

body.MAX_OBJECT_BYTES = documents.LOAD_LIMIT = int(sys.argv[2])
with Client(max_workers=1, retries=2) as client:
    (item,) = client.get_work_items()
    before = peak()
    try:
        if sys.argv[1] == "load":
            item.load()
        else:
            item.download(sys.argv[3])
    except CFPlatformError as error:
        print(type(error).__name__, peak() - before, error)
"""


@pytest.fixture(scope="module")
def bomb():
    return gzip.compress(b'{"note": "' + b"x" * 120_000_000, 9)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("entry", "cap", "rise"), [("download", 100_000_000, 50_000_000), ("load", 20_000_000, 50_000_000)]
)
def test_a_bomb_stops_at_the_cap_in_flat_memory(serve, make_sandbox, tmp_path, bomb, entry, cap, rise):
    assert len(bomb) < 120_000
    sandbox = make_sandbox(items=1, batches=1)
    server = serve(default=raw(200, bomb, GZIP))
    store_at(sandbox, server.origin)
    code, out, err = run(sandbox, BOMB, entry, cap, tmp_path)
    assert (code, err) == (0, "")
    kind, peak, message = out.split(" ", 2)
    assert kind == "DownloadError"
    assert f"larger than the limit of {cap:,} bytes" in message
    assert int(peak) < rise
    assert len(server.requests) == 1
    assert entry == "load" or (tree(tmp_path), parts(tmp_path)) == ({}, [])


def test_endless_empty_members_count_too(download_body, monkeypatch):
    monkeypatch.setattr(body, "MAX_OBJECT_BYTES", 1_000_000)
    endless = chunked(gzip.compress(b"") * 1000, end=b"")
    result, requests = download_body(Answer(raw(200, b"", CHUNKED, GZIP), endless=endless), retries=0)
    assert type(result.error) is DownloadError
    assert "larger than the limit of 1,000,000 bytes" in str(result.error)
    assert requests == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(raw(200, b"", "Content-Length: 1001"), end="stall"),
        Answer(raw(200, b"", CHUNKED), endless=chunked(b"{" * 100, end=b"")),
        raw(200, b" " * 1001),
    ],
    ids=["announced", "endless", "sent"],
)
def test_an_object_above_the_cap_is_refused_once_and_leaves_nothing(download_body, monkeypatch, answer):
    monkeypatch.setattr(body, "MAX_OBJECT_BYTES", 1000)
    result, requests = download_body(answer, retries=3)
    assert type(result.error) is DownloadError
    assert "larger than the limit of 1,000 bytes" in str(result.error)
    assert requests == 1


def test_an_object_of_just_the_cap_is_fine(download_body, monkeypatch):
    monkeypatch.setattr(body, "MAX_OBJECT_BYTES", len(BODY))
    accepted(download_body, raw(200, BODY), BODY)
    accepted(download_body, raw(200, gzip.compress(BODY), GZIP), BODY)


def test_parsed_documents_have_a_cap_of_their_own(sandbox, client, monkeypatch):
    monkeypatch.setattr(documents, "LOAD_LIMIT", 100)
    failed = []
    assert list(client.iter_annotations(on_error=lambda item, error: failed.append(error))) == []
    assert len(failed) == 20
    assert all(type(error) is DownloadError for error in failed)
    assert sandbox.counts["storage"] == 20
