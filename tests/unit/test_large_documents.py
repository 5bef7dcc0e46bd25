"""Documents above 8 MiB: saved as they arrive, checked by framing, length, checksums and ends, in constant memory."""

from __future__ import annotations

import base64
import gzip
import hashlib
import sys

import pytest

from cfplatform import IncompleteDownloadError, InvalidResponseError, documents
from cfplatform.transfer import streaming
from tests.faults.tools import parts, run, store_at, tree
from tests.http.scripted import Answer, raw

LABEL = b'{"id":1,"image_id":1,"bbox":[104.5,87.25,61.0,44.75],"segmentation":[[104.5,87.25,165.5,87.25]]},'
#: What the limit is in these tests, but for those of the memory.
LIMIT = 1 << 20
#: Above the limit by more than one read.
LABELS = b'"annotations":[' + LABEL * (LIMIT // len(LABEL) + 4000) + b"{}]"
FIRST = b'{"info": {"year": 2026}, "images": [], ' + LABELS + b"}\n"
LAST = b'{"images": [], ' + LABELS + b', "info": {"asset_url": "old", "year": 2026}}'
NONE = b'\xef\xbb\xbf{"images": [], ' + LABELS + b"}"
TWICE = b'{"info": {"year": 1}, ' + LABELS + b', "\\u0069nfo": []}'
GZIP = "Content-Encoding: gzip"


def md5(body):
    return f"Content-MD5: {base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}"


@pytest.fixture
def download(serve, make_sandbox, tmp_path, monkeypatch):
    """Download one item whose document is what a raw server answers; return item, result and number of requests."""
    monkeypatch.setattr(documents, "PARSE_LIMIT", LIMIT)

    def run(*answers, **options):
        sandbox = make_sandbox(items=1, batches=1)
        server = serve(*answers[:-1], default=answers[-1])
        store_at(sandbox, server.origin)
        with sandbox.client(retries=1) as client:
            (item,) = client.get_work_items()
            summary = client.download_work_items([item], tmp_path, **options)
        (result,) = summary.results
        assert parts(tmp_path) == []
        assert (result.outcome == "failed") == (tree(tmp_path) == {})
        return item, result, len(server.requests)

    return run


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        (FIRST, raw(200, FIRST, md5(FIRST))),
        (LAST, raw(200, LAST)),
        (NONE, raw(200, NONE)),
        (TWICE, raw(200, TWICE)),
        (NONE, raw(200, gzip.compress(NONE, 1), GZIP)),
    ],
    ids=["first", "last", "none", "twice", "gzip"],
)
def test_the_address_is_set_wherever_info_stands(download, document, answer):
    item, result, requests = download(answer)
    assert (result.outcome, requests) == ("downloaded", 1)
    assert result.path.read_bytes() == documents.set_asset_url(document, item.asset_url)


@pytest.mark.parametrize("document", [FIRST, NONE], ids=["first", "none"])
def test_without_the_address_the_bytes_are_those_that_came(download, document):
    _, result, _ = download(raw(200, document), inject_asset_url=False)
    assert result.path.read_bytes() == document


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (Answer(raw(200, LAST[:-100], f"Content-Length: {len(LAST)}"), end="close"), IncompleteDownloadError),
        (raw(200, LAST, md5(FIRST)), IncompleteDownloadError),
        (raw(200, gzip.compress(LAST, 1)[:-4], GZIP), IncompleteDownloadError),
        (raw(200, LAST[:-2]), InvalidResponseError),
        (raw(200, b"[" + LAST[1:]), InvalidResponseError),
        (raw(200, b"<html>" + LAST), InvalidResponseError),
    ],
    ids=["cut", "checksum", "gzip", "last byte", "first byte", "web page"],
)
def test_what_is_not_proven_is_fetched_again_and_never_a_file(download, broken, error):
    _, result, requests = download(broken)
    assert type(result.error) is error
    assert requests == 2
    item, result, requests = download(broken, raw(200, LAST))
    assert (result.outcome, requests) == ("downloaded", 2)
    assert result.path.read_bytes() == documents.set_asset_url(LAST, item.asset_url)


#: Downloads a project and tells the peak of its memory in MiB.
SAVE = """
import re, sys
from cfplatform import Client

with Client(max_workers=1) as client:
    summary = client.download_project(destination=sys.argv[1], inject_asset_url=sys.argv[2] == "edited")
    assert summary.successful == summary.total_items, summary.failures
with open("/proc/self/status") as file:
    print(int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
def test_memory_does_not_grow_with_the_document_nor_with_the_edit(serve, make_sandbox, tmp_path):
    labels = b'"annotations":[' + LABEL * (40_000_000 // len(LABEL)) + b"{}]"
    least = b'"annotations":[' + LABEL * (documents.PARSE_LIMIT // len(LABEL) + 4000) + b"{}]"
    cases = [
        (b'{"info":{},' + least + b"}", "as it came"),
        (b'{"info":{},' + labels + b"}", "edited"),
        (b"{" + labels + b"}", "edited"),
        (b"{" + labels + b',"info":{}}', "edited"),
    ]
    peaks = []
    for number, (document, how) in enumerate(cases):
        sandbox = make_sandbox(items=1, batches=1)
        store_at(sandbox, serve(default=raw(200, document)).origin)
        code, out, err = run(sandbox, SAVE, tmp_path / str(number), how)
        assert (code, err) == (0, "")
        peaks.append(int(out))
    assert max(peaks) <= peaks[0] + 4, peaks


#: Reads all documents of a project, keeping the one in hand for a moment; tells the rise of the peak of memory in MiB.
READ = """
import re, sys, time
from cfplatform import Client
from cfplatform.transfer import streaming

def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1]) // 1024

items, prefetch_bytes = int(sys.argv[1]), int(sys.argv[2])
with Client(max_workers=32, timeout=60) as client:
    listed = list(client.get_work_items())
    before = peak()
    options = dict(space_id=None, workers=32, patience=600, ordered=sys.argv[3] == "ordered", on_error=None)
    for item, document in streaming.parsed_documents(client._calls, listed, prefetch_bytes=prefetch_bytes, **options):
        items -= len(document["annotations"]) > 1
        time.sleep(0.02)
assert items == 0, items
print(peak() - before)
"""


def rise(serve, make_sandbox, kib, items, prefetch_bytes, order, *headers):
    """Read a project of equal documents; return how far the peak of memory rose, in MiB."""
    document = b'{"info":{},"annotations":[' + LABEL * ((kib << 10) // len(LABEL)) + b"{}]}"
    sandbox = make_sandbox(items=items, batches=1)
    body = gzip.compress(document, 1) if headers else document
    store_at(sandbox, serve(default=raw(200, body, *headers)).origin)
    code, out, err = run(sandbox, READ, items, prefetch_bytes, order, seconds=240)
    assert (code, err) == (0, "")
    return int(out)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize(("order", "headers"), [("ordered", []), ("unordered", [GZIP])])
def test_documents_ahead_of_the_reader_have_a_bound(serve, make_sandbox, order, headers):
    # 30 documents could wait for the reader; parsed, each takes about 4 MiB.
    peak = rise(serve, make_sandbox, 512, 30, 1 << 20, order, *headers)
    # Two ahead, one that the others wait for, and the one in hand; besides that connections and threads.
    assert peak <= 4 * (2 + 1 + 1) + 16, peak


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_documents_of_50_mb_have_the_bound_that_is_stated(serve, make_sandbox, order):
    peak = rise(serve, make_sandbox, 48 << 10, 8, streaming.PREFETCH_BYTES, order)
    print(f"\npeak {peak} MiB", end="")
    assert peak <= 8 * (64 + 48 + 48)
