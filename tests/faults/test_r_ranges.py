"""Group R: archives that are interrupted and resumed, and all responses to a range."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import threading
import time

import pytest

from cfplatform import CFPlatformError, DownloadError, IncompleteDownloadError, PermissionDeniedError, ServerError
from tests.faults.stores import EXPIRED, EXPORT, NAME, REFUSED, SPACE, Store, noise, part, zipped
from tests.faults.tools import run, start, tree, wait_until
from tests.http.scripted import raw
from tests.tools import outcome

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, signals and pipes of POSIX")

#: Bytes after which an attempt counts as one that got on.
CHUNK = 65_536
SIZE = 1_200_000
CONTENT = zipped(SIZE)
SIZE = len(CONTENT)
HALF = 600_000
OTHER = zipped(900_000, seed=9)


@pytest.fixture
def store(serve):
    return Store(serve, CONTENT)


@pytest.fixture
def download(connect):
    """Download the archive of a store and return its path."""

    def call(store, root, retries=5, **options):
        return connect(store.server, retries=retries).download_export(EXPORT, root, SPACE, **options)

    return call


def left(root):
    """What is kept of archives that are not complete: the bytes in each of the files."""
    return [path.stat().st_size for path in root.glob(".cfplatform/resume/*/data")]


def check(root, content=CONTENT):
    """Exactly the archive is there, and nothing is left beside it."""
    assert tree(root) == {NAME: content}
    assert list((root / ".cfplatform" / "resume").iterdir()) == []


def identity(store):
    return all(request.values("Accept-Encoding") == ["identity"] for request in store.gets)


def cut(store, root, connect, count=HALF):
    """Leave a part behind, as a run does that meets an outage in the middle."""
    store.planned += [store.broken(count), lambda request: raw(503, b"", "Connection: close")]
    with pytest.raises((ServerError, IncompleteDownloadError)):
        connect(store.server, retries=0).download_export(EXPORT, root, SPACE)
    assert left(root) == ([count] if store.etag and store.etag[0] == '"' else [])
    assert tree(root) == {}
    store.planned.clear()
    store.server.requests.clear()
    store.sent = store.links = 0


# --- R1 ----------------------------------------------------------------------------------------------------------


def test_r01_a_body_that_broke_off_is_continued_where_it_stopped(store, download, tmp_path):
    store.planned.append(store.broken(HALF))
    assert download(store, tmp_path) == tmp_path / NAME
    check(tmp_path)
    assert store.ranges == [None, f"bytes={HALF}-"]
    assert store.gets[0].values("If-Range") == []
    assert store.gets[1].values("If-Range") == ['"v1"']
    assert identity(store)
    assert store.sent == SIZE - HALF


def test_r01_a_later_run_goes_on_with_what_is_there(store, connect, download, tmp_path):
    cut(store, tmp_path, connect)
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [f"bytes={HALF}-"]
    assert store.gets[0].values("If-Range") == ['"v1"']
    assert identity(store)
    assert store.sent == SIZE - HALF


def test_r01_the_storage_of_the_sandbox_continues_too(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=5)
    (tmp_path / "served.zip").write_bytes(CONTENT)
    export_id = sandbox.add_export(tmp_path / "served.zip", name="Big")
    sandbox.truncate_next(3, path="/storage/*")
    with sandbox.client() as client:
        path = client.download_export(export_id, tmp_path / "out")
    assert path.read_bytes() == CONTENT
    asked = [request.headers.get("range") for request in sandbox.requests if request.route == "storage"]
    assert asked == [None, f"bytes={SIZE // 2}-", f"bytes={SIZE // 2 + SIZE // 4}-", asked[3]]
    assert int(asked[3][6:-1]) > SIZE * 0.87


# --- R2 ----------------------------------------------------------------------------------------------------------

SINCE = HALF - 100_000
WRONG = noise(SIZE, seed=5)
BOUNDARY = b"--b\r\nContent-Range: bytes 600000-1199999/1200000\r\n\r\n" + CONTENT[HALF:] + b"\r\n--b--\r\n"

#: What is answered to the range, and whether the next request asks for a range again.
ANSWERS = {
    "earlier start": (lambda s: part(CONTENT, SINCE, SIZE - 1, SIZE, *s.headers()), None),
    "earlier start, in part": (lambda s: part(CONTENT, SINCE, HALF - 2, SIZE, *s.headers()), HALF - 1),
    "from the beginning": (lambda s: part(CONTENT, 0, SIZE - 1, SIZE, *s.headers()), None),
    "200, whole": (lambda s: raw(200, CONTENT, *s.headers()), None),
    "200, slice": (lambda s: part(CONTENT, HALF, SIZE - 1, SIZE, *s.headers(), status=200), None),
    "200, first slice": (lambda s: part(CONTENT, 0, 99_999, SIZE, *s.headers(), status=200), 100_000),
    "no tag": (lambda s: part(CONTENT, HALF, SIZE - 1, SIZE, "Connection: close"), None),
    "in part": (lambda s: part(CONTENT, HALF, HALF + 9, SIZE, *s.headers()), HALF + 10),
    "other total": (lambda s: part(WRONG, HALF, SIZE - 1, SIZE + 1, *s.headers()), "again"),
    "other tag": (lambda s: part(WRONG, HALF, SIZE - 1, SIZE, "Connection: close", 'ETag: "v2"'), "again"),
    "weak tag": (lambda s: part(WRONG, HALF, SIZE - 1, SIZE, "Connection: close", 'ETag: W/"v1"'), "again"),
    "200, other slice": (lambda s: part(WRONG, HALF + 1, SIZE - 1, SIZE, *s.headers(), status=200), "again"),
    "gap": (lambda s: part(CONTENT, HALF + 1, SIZE - 1, SIZE, *s.headers()), "again"),
    "no range said": (lambda s: raw(206, CONTENT[HALF:], *s.headers()), "again"),
    "several ranges": (
        lambda s: raw(206, BOUNDARY, "Content-Type: multipart/byteranges; boundary=b", *s.headers()),
        "again",
    ),
    "other unit": (lambda s: raw(206, CONTENT[HALF:], "Content-Range: lines 1-2/3", *s.headers()), "again"),
    "nonsense": (lambda s: raw(206, CONTENT[HALF:], "Content-Range: bytes 9-3/3", *s.headers()), "again"),
    "200, nonsense": (lambda s: raw(200, WRONG, "Content-Range: bytes x-y/z", *s.headers()), "again"),
    "too few bytes": (
        lambda s: raw(206, CONTENT[HALF:-9], f"Content-Range: bytes {HALF}-{SIZE - 1}/{SIZE}", *s.headers()),
        "again",
    ),
    "too many bytes": (
        lambda s: raw(206, CONTENT[HALF:] + b"more", f"Content-Range: bytes {HALF}-{SIZE - 1}/{SIZE}", *s.headers()),
        "again",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_r02_every_answer_to_a_range_is_judged_by_what_it_says(store, download, tmp_path, name):
    answer, following = ANSWERS[name]
    store.planned += [store.broken(HALF), lambda request: answer(store)]
    download(store, tmp_path)
    check(tmp_path)
    expected = [None, f"bytes={HALF}-"]
    if following is not None:
        expected.append(None if following == "again" else f"bytes={following}-")
    assert store.ranges == expected
    assert identity(store)


@pytest.mark.parametrize("name", [name for name, (_, following) in ANSWERS.items() if following == "again"])
def test_r02_a_storage_that_never_answers_a_range_rightly_is_given_up(store, download, tmp_path, name):
    answer, _ = ANSWERS[name]

    def stubborn(request):
        return answer(store) if request.values("Range") else store.broken(HALF)(request)

    store.whole = stubborn
    with pytest.raises(IncompleteDownloadError):
        download(store, tmp_path, retries=3)
    # The first piece was a success; the repeats are counted from there.
    assert 4 <= len(store.gets) <= 6
    assert tree(tmp_path) == {}


def test_r02_a_part_that_was_not_asked_for_is_refused(store, download, tmp_path):
    store.planned += [lambda request: part(CONTENT, 0, SIZE - 1, SIZE, *store.headers())]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, None]


# --- R3 ----------------------------------------------------------------------------------------------------------


def refused(total, *headers):
    return lambda request: raw(416, b"", f"Content-Range: bytes */{total}", "Connection: close", *headers)


def untold(store, last=SIZE - 1):
    """The rest without a word about the size of the whole."""
    return lambda request: part(CONTENT, HALF, last, "*", *store.headers())


def chunked(store, count):
    """The first bytes of a body of unknown length."""
    body = b"%x\r\n%s\r\n" % (count, CONTENT[:count])
    return lambda request: raw(200, body, "Transfer-Encoding: chunked", *store.headers())


def test_r03_416_ends_it_if_all_bytes_are_there(store, download, tmp_path):
    store.planned += [chunked(store, HALF), untold(store), refused(SIZE)]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, f"bytes={HALF}-", f"bytes={SIZE}-"]


@pytest.mark.parametrize("total", [SIZE + 1, SIZE - 1, "*", "", "abc", -SIZE])
def test_r03_416_about_another_size_begins_anew(store, download, tmp_path, total):
    store.planned += [chunked(store, HALF), untold(store), refused(total)]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, f"bytes={HALF}-", f"bytes={SIZE}-", None]


def test_r03_an_object_that_shrank_is_fetched_anew(store, download, tmp_path):
    store.planned.append(store.broken(HALF))
    store.planned.append(refused(HALF - 1))
    small = zipped(HALF - 1000, seed=3)

    def change(request):
        store.content, store.etag = small, '"v2"'
        return store.whole(request)

    store.planned.append(change)
    download(store, tmp_path)
    check(tmp_path, small)
    assert store.ranges == [None, f"bytes={HALF}-", None]


def test_r03_the_bytes_are_proven_whatever_416_says(store, download, tmp_path):
    # The size is right and the bytes are not: found by the checksums of the archive.
    store.planned += [
        chunked(store, HALF),
        lambda request: part(WRONG, HALF, SIZE - 1, "*", *store.headers()),
        refused(SIZE),
    ]
    with pytest.raises(IncompleteDownloadError, match="damaged"):
        download(store, tmp_path)
    assert tree(tmp_path) == {}
    assert left(tmp_path) == []


def test_r03_416_for_ever_is_given_up(store, download, tmp_path):
    whole = store.broken(HALF)
    store.whole = lambda request: refused(SIZE)(request) if request.values("Range") else whole(request)
    error = outcome(CFPlatformError, download, store, tmp_path)[1]
    assert error.status_code == 416
    assert store.ranges == [None, f"bytes={HALF}-", None, f"bytes={HALF}-"]


# --- R4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["in a run", "between runs"])
def test_r04_another_tag_begins_anew(store, connect, download, tmp_path, when):
    if when == "between runs":
        cut(store, tmp_path, connect)
        store.content, store.etag = OTHER, '"v2"'
    else:

        def change(request):
            store.content, store.etag = OTHER, '"v2"'
            return store.whole(request)

        store.planned += [store.broken(HALF), change]
    download(store, tmp_path)
    check(tmp_path, OTHER)
    assert store.ranges[-1] == f"bytes={HALF}-"
    assert store.gets[-1].values("If-Range") == ['"v1"']


def test_r04_progress_begins_anew_with_another_object(store, download, tmp_path):
    large = zipped(2_000_000, seed=9)

    def change(request):
        store.content, store.etag = large, '"v2"'
        return store.whole(request)

    class Reporter:
        def __init__(self):
            self.runs = []

        def start(self, total):
            self.runs.append([total])

        def advance(self, outcome, size):
            assert outcome == "downloaded"
            self.runs[-1].append(size)

        def finish(self):
            self.runs[-1].append("finish")

    reporter = Reporter()
    store.planned += [store.broken(HALF), change]
    download(store, tmp_path, progress=reporter)
    (total, *sizes, end), (other_total, *other_sizes, other_end) = reporter.runs
    assert (total, other_total, end, other_end) == (SIZE, len(large), "finish", "finish")
    assert sum(other_sizes) == len(large)
    # What was given up is taken back.
    assert max(sizes) > 0 > min(sizes)
    assert sum(sizes) == 0


@pytest.mark.parametrize("etag", ['W/"v1"', None, "v1", '""', '"a b"', '"caf\xe9"', '"a"b"'])
def test_r04_without_a_strong_tag_nothing_is_continued(serve, download, tmp_path, etag):
    store = Store(serve, CONTENT, etag=etag)
    store.planned += [store.broken(HALF), store.broken(HALF + 9)]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, None, None]
    assert all(request.values("If-Range") == [] for request in store.gets)
    (tmp_path / NAME).unlink()
    # What nothing can go on with is not kept either.
    store.planned += [store.broken(HALF), lambda request: raw(503, b"", "Connection: close")]
    with pytest.raises(ServerError):
        download(store, tmp_path, retries=1)
    assert left(tmp_path) == []


def test_r04_a_time_alone_is_no_proof(serve, download, tmp_path):
    store = Store(serve, CONTENT, etag=None)
    store.headers = lambda: ["Connection: close", "Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT"]
    store.planned.append(store.broken(HALF))
    download(store, tmp_path)
    assert store.ranges == [None, None]


def test_r04_progress_does_not_count_without_a_tag(serve, download, tmp_path):
    store = Store(serve, CONTENT, etag=None, cut=HALF)
    with pytest.raises(IncompleteDownloadError):
        download(store, tmp_path, retries=3)
    assert len(store.gets) == 4


# --- R5 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [206, 200])
def test_r05_a_compressed_answer_to_a_range_is_never_appended(store, download, tmp_path, status):
    packed = gzip.compress(CONTENT[HALF:] if status == 206 else CONTENT, 1)
    headers = [*store.headers(), "Content-Encoding: gzip"]
    if status == 206:
        headers.append(f"Content-Range: bytes {HALF}-{SIZE - 1}/{SIZE}")
    store.planned += [store.broken(HALF), lambda request: raw(status, packed, *headers)]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, f"bytes={HALF}-", *([None] if status == 206 else [])]
    assert identity(store)


def test_r05_an_object_that_is_stored_compressed_is_not_continued(store, download, tmp_path):
    packed = gzip.compress(CONTENT, 1)
    whole = raw(200, packed, *store.headers(), "Content-Encoding: gzip")
    store.planned += [lambda request: whole[: len(whole) // 2], lambda request: whole]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, None]


# --- R6 ----------------------------------------------------------------------------------------------------------


def flip(path, position, bit=0):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


@pytest.mark.parametrize("seed", range(6))
def test_r06_a_bit_that_changed_on_the_disk_costs_one_fresh_download(store, connect, download, tmp_path, seed):
    dice = random.Random(seed)
    cut(store, tmp_path, connect)
    (path,) = tmp_path.glob(".cfplatform/resume/*/data")
    flip(path, dice.randrange(50, HALF) if seed else 20, dice.randrange(8))
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("field", range(46))
def test_r06_so_does_any_byte_of_the_directory_of_a_part_that_is_whole(serve, connect, download, tmp_path, field):
    # Such as one that makes an honest name a hostile one, or an honest member an encrypted one.
    content = zipped(3000, members=1)
    store = Store(serve, content)
    # Complete, but the process ended before it was verified.
    store.planned.append(lambda request: part(content, 0, len(content) - 1, "*", *store.headers(), status=200))
    store.planned.append(lambda request: raw(503, b"", "Connection: close"))
    assert outcome(CFPlatformError, download, store, tmp_path, 0)[1] is not None
    (path,) = tmp_path.glob(".cfplatform/resume/*/data")
    assert path.read_bytes() == content
    flip(path, content.index(b"PK\1\2") + field, 0)
    download(store, tmp_path, retries=1)
    # Some bytes, such as the times, mean nothing here.
    found = (tmp_path / NAME).read_bytes()
    assert found[: content.index(b"PK\1\2")] == content[: content.index(b"PK\1\2")]
    assert len(store.gets) <= 4


def _note(path, **changes):
    note = path.with_name("note.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), **changes}))


DAMAGE = {
    "no note": lambda path: path.with_name("note.json").unlink(),
    "empty note": lambda path: path.with_name("note.json").write_bytes(b""),
    "half a note": lambda path: path.with_name("note.json").write_bytes(b'{"etag": "\\"v1'),
    "deep note": lambda path: path.with_name("note.json").write_bytes(b"[" * 4000),
    "other note": lambda path: path.with_name("note.json").write_bytes(b"[1]"),
    "no text": lambda path: _note(path, etag=5),
    "header in it": lambda path: _note(path, etag='"v1"\r\nX-Evil: 1'),
    "weak": lambda path: _note(path, etag='W/"v1"'),
    "other tag": lambda path: _note(path, etag='"v0"'),
    "other total": lambda path: _note(path, total=SIZE + 5),
    "small total": lambda path: _note(path, total=HALF),
    "negative total": lambda path: _note(path, total=-1),
    "total of another kind": lambda path: _note(path, total="x"),
    "no bytes": lambda path: path.write_bytes(b""),
    "no file": lambda path: path.unlink(),
    "fewer bytes": lambda path: os.truncate(path, 1000),
    "zeros": lambda path: os.truncate(path, SIZE - 5),
    "more bytes than it has": lambda path: os.truncate(path, SIZE + 5),
    "other bytes": lambda path: path.write_bytes(noise(HALF, seed=77)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_r06_a_part_that_was_tampered_with_is_never_trusted(store, connect, download, tmp_path, name):
    cut(store, tmp_path, connect)
    (path,) = tmp_path.glob(".cfplatform/resume/*/data")
    DAMAGE[name](path)
    download(store, tmp_path)
    check(tmp_path)
    assert len(store.gets) <= 3
    assert not any("x-evil" in request.names for request in store.gets)


# --- R7 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60_000_000, pytest.param(200_000_000, marks=pytest.mark.stress)])
def test_r07_cut_every_megabyte(serve, download, tmp_path, size):
    content = zipped(size)
    store = Store(serve, content, cut=1_000_000)
    began = time.monotonic()
    path = download(store, tmp_path)
    assert path.read_bytes() == content
    cuts = -(-len(content) // 1_000_000) - 1
    again = store.sent - len(content)
    print(
        f"\n{len(content) / 1e6:.0f} MB in {cuts + 1} pieces, {time.monotonic() - began:.1f} s, "
        f"{again} bytes twice ({again / cuts:.0f} a cut)"
    )
    assert len(store.gets) == cuts + 1
    assert 0 <= again <= cuts * (1 << 20)
    assert left(tmp_path) == []


def test_r07_an_attempt_counts_only_without_progress(serve, download, tmp_path):
    store = Store(serve, CONTENT, cut=CHUNK)
    download(store, tmp_path, retries=0)
    check(tmp_path)
    assert len(store.gets) == -(-SIZE // CHUNK)


@pytest.mark.parametrize("count", [0, 1, CHUNK // 5])
def test_r07_crumbs_are_no_progress(serve, download, tmp_path, count):
    store = Store(serve, CONTENT, cut=count)
    with pytest.raises(IncompleteDownloadError):
        download(store, tmp_path, retries=3)
    assert len(store.gets) == 4


def test_r07_going_round_is_no_progress(store, download, tmp_path):
    # A new object each time, which breaks off where the last one did.
    numbers = iter(range(1000))

    def changing(request):
        store.etag = f'"{next(numbers)}"'
        return store.broken(HALF)(request)

    store.whole = changing
    with pytest.raises(IncompleteDownloadError):
        download(store, tmp_path, retries=3)
    assert len(store.gets) == 5


# --- R8 ----------------------------------------------------------------------------------------------------------


def test_r08_a_size_that_is_never_told_ends_with_the_archive(store, download, tmp_path):
    def untelling(request):
        asked = request.values("Range")
        if not asked:
            return chunked(store, 300_000)(request)
        first = int(asked[0][6:-1])
        if first >= SIZE:
            return refused(SIZE)(request)
        return part(CONTENT, first, min(first + 299_999, SIZE - 1), "*", *store.headers())

    store.whole = untelling
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, *(f"bytes={first}-" for first in (*range(300_000, SIZE, 300_000), SIZE))]


def test_r08_without_the_end_of_the_archive_it_is_not_accepted(store, download, tmp_path):
    store.planned += [chunked(store, HALF), untold(store, SIZE - 30), refused(SIZE - 29)]
    with pytest.raises(IncompleteDownloadError, match="damaged or incomplete"):
        download(store, tmp_path)
    assert tree(tmp_path) == {}


# --- S3 ----------------------------------------------------------------------------------------------------------


def expired(request):
    return raw(403, EXPIRED, "Connection: close", "Content-Type: application/xml")


def test_s03_a_link_that_expires_in_the_middle_is_renewed_and_the_archive_continued(store, download, tmp_path):
    store.planned += [store.broken(HALF), expired]
    download(store, tmp_path)
    check(tmp_path)
    assert store.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-"]
    # By reading the export again.
    assert [request.target.partition("&n=")[2] for request in store.gets] == ["1", "1", "2"]
    assert store.links == 2


def test_s03_the_same_at_the_sandbox(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=5)
    (tmp_path / "served.zip").write_bytes(CONTENT)
    export_id = sandbox.add_export(tmp_path / "served.zip", name="Big")
    sandbox.truncate_next(1, path="/storage/*")

    def progress(done, total):
        if done == SIZE // 2:
            sandbox.expire_urls()

    with sandbox.client() as client:
        path = client.download_export(export_id, tmp_path / "out", progress=progress)
    assert path.read_bytes() == CONTENT
    asked = [(r.headers.get("range"), r.status) for r in sandbox.requests if r.route == "storage"]
    assert asked == [(None, 200), (f"bytes={SIZE // 2}-", 403), (f"bytes={SIZE // 2}-", 206)]
    assert sandbox.counts["exports"] == 2


@pytest.mark.parametrize(("body", "renewals"), [(EXPIRED, 3), (REFUSED, 1)])
def test_s03_a_link_that_is_refused_for_ever_is_given_up(store, connect, download, tmp_path, body, renewals):
    cut(store, tmp_path, connect)
    store.whole = lambda request: raw(403, body, "Connection: close")
    with pytest.raises(PermissionDeniedError, match="403"):
        download(store, tmp_path)
    assert len(store.gets) == 1 + renewals
    assert store.links == 1 + renewals
    # What arrived is kept.
    assert left(tmp_path) == [HALF]


def test_s03_links_that_expire_after_each_piece_do_not_end_it(serve, download, tmp_path):
    store = Store(serve, CONTENT, cut=150_000)
    used = set()

    def once(request):
        if request.target in used:
            return expired(request)
        used.add(request.target)
        return Store.whole(store, request)

    store.whole = once
    download(store, tmp_path)
    check(tmp_path)
    assert store.links == 9


def test_s03_an_export_that_is_gone_when_the_link_expires_is_a_typed_error(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=5)
    (tmp_path / "served.zip").write_bytes(CONTENT)
    export_id = sandbox.add_export(tmp_path / "served.zip", name="Big")
    sandbox.truncate_next(1, path="/storage/*")
    with sandbox.client() as client, sandbox.client() as other:

        def progress(done, total):
            if done == SIZE // 2:
                other.delete_export(export_id)

        error = outcome(CFPlatformError, lambda: client.download_export(export_id, tmp_path / "out", progress=progress))
    assert error[1].status_code == 404
    assert tree(tmp_path / "out") == {}


# --- Processes, threads, links and disks -------------------------------------------------------------------------

DOWNLOAD = """
import sys
from cfplatform import Client
with Client() as client:
    print("ready", flush=True)
    print(client.download_export(sys.argv[1], sys.argv[2], extract=sys.argv[3:] == ["extract"]), flush=True)
"""


@pytest.fixture
def big(make_sandbox, tmp_path):
    """A sandbox with an archive of some 8 MB, and its id."""
    sandbox = make_sandbox(items=5)
    content = zipped(8_000_000, seed=4)
    (tmp_path / "served.zip").write_bytes(content)
    return sandbox, sandbox.add_export(tmp_path / "served.zip", name="Big"), content


def ranges(sandbox):
    return [request.headers.get("range") for request in sandbox.requests if request.route == "storage"]


@posix
def test_r01_a_process_that_is_killed_again_and_again_leaves_what_the_next_one_goes_on_with(big, tmp_path):
    sandbox, export_id, content = big
    out = tmp_path / "out"
    reached = 0
    for _ in range(4):
        sandbox.drip_next(path="/storage/*", keep=0.5)
        with start(sandbox, DOWNLOAD, export_id, out) as process:
            assert process.stdout.readline() == "ready\n"
            # The last step may wait for its end.
            expected = reached + (len(content) - reached) // 2 - CHUNK
            wait_until(lambda expected=expected: out.exists() and max(left(out), default=0) >= expected)
            process.kill()
        assert tree(out) == {}
        (reached,) = left(out)
    sandbox.clear_faults()
    code, text, err = run(sandbox, DOWNLOAD, export_id, out)
    path = out / f"Big {export_id}.zip"
    assert (code, text, err) == (0, f"ready\n{path}\n", "")
    assert tree(out) == {path.name: content}
    assert list((out / ".cfplatform" / "resume").iterdir()) == []
    asked = [0 if each is None else int(each[6:-1]) for each in ranges(sandbox)]
    assert len(asked) == 5
    assert asked == sorted(set(asked))
    assert asked[-1] == reached > len(content) * 0.93


@pytest.mark.parametrize("way", ["", "extract"])
@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.stress)])
def test_r01_two_processes_may_fetch_the_same_archive(big, tmp_path, way, rounds):
    sandbox, export_id, content = big
    out = tmp_path / "out"
    for _ in range(rounds):
        arguments = (sandbox, DOWNLOAD, export_id, out, *way.split())
        with start(*arguments) as one, start(*arguments) as two:
            ends = [process.communicate(timeout=60) for process in (one, two)]
        path = out / (f"Big {export_id}" if way else f"Big {export_id}.zip")
        assert ends == [(f"ready\n{path}\n", "")] * 2
        if way:
            assert {name.rpartition("/")[2]: len(data) for name, data in tree(path).items()} == {
                f"{number}.bin": 2_000_000 for number in range(4)
            }
            assert sorted(os.listdir(out)) == [".cfplatform", path.name]
            path.rename(tmp_path / f"unpacked-{random.random()}")
        else:
            assert tree(out) == {path.name: content}
            path.unlink()
    assert list((out / ".cfplatform" / "resume").iterdir()) == []


@pytest.mark.parametrize("extract", [False, True])
def test_r01_two_threads_may_fetch_the_same_archive(big, tmp_path, extract):
    sandbox, export_id, content = big
    sandbox.truncate_next(2, path="/storage/*")
    paths, errors = [], []
    with sandbox.client() as client:

        def work():
            try:
                paths.append(client.download_export(export_id, tmp_path / "out", extract=extract))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert errors == []
    assert len(set(paths)) == 1
    if not extract:
        assert tree(tmp_path / "out") == {paths[0].name: content}
    assert len(os.listdir(tmp_path / "out")) == 2
    assert list((tmp_path / "out" / ".cfplatform" / "resume").iterdir()) == []


@posix
@pytest.mark.parametrize("planted", ["resume", "part", "data", "note", "pipe", "target"])
def test_f06_a_link_in_the_way_leads_nowhere(store, connect, download, tmp_path, planted):
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_bytes(b"untouched")
    (outside / "data").write_bytes(b"untouched")
    (outside / "note.json").write_text('{"etag": "\\"v1\\"", "total": 9}')
    before = tree(outside)
    cut(store, root, connect)
    resume = root / ".cfplatform" / "resume"
    (free,) = resume.iterdir()
    if planted == "resume":
        resume.rename(tmp_path / "aside")
        resume.symlink_to(outside, target_is_directory=True)
        with pytest.raises(CFPlatformError, match="is a link or a file"):
            download(store, root)
        assert store.gets == []
        assert tree(outside) == before
        return
    if planted == "part":
        free.rename(tmp_path / "aside")
        free.symlink_to(outside, target_is_directory=True)
    elif planted == "target":
        (root / NAME).symlink_to(victim)
    elif planted == "pipe":
        (free / "note.json").unlink()
        os.mkfifo(free / "note.json")
    else:
        name = {"data": "data", "note": "note.json"}[planted]
        (free / name).unlink()
        (free / name).symlink_to(outside / name)
    download(store, root)
    assert (root / NAME).read_bytes() == CONTENT
    assert not (root / NAME).is_symlink()
    assert tree(outside) == before


def test_a_part_of_another_machine_is_resumed(store, connect, download, tmp_path):
    cut(store, tmp_path, connect)
    (part,) = (tmp_path / ".cfplatform" / "resume").iterdir()
    part.rename(part.with_suffix(".of-another-machine"))
    # Beside what another process left before it had written anything.
    part.with_suffix(".empty").mkdir()
    download(store, tmp_path)
    check(tmp_path)
    assert len(store.gets) == 1


def test_f07_a_disk_that_fills_up_is_one_error_and_a_later_run_goes_on(store, download, tmp_path, disk):
    place, resize = disk
    with pytest.raises(DownloadError, match=r"No space left.*free some space"):
        download(store, place)
    assert len(store.gets) == 1
    assert tree(place) == {}
    (kept,) = left(place)
    assert 0 < kept < SIZE
    store.server.requests.clear()
    with pytest.raises(DownloadError, match="No space left"):
        download(store, place)
    assert resize("size=4m").returncode == 0
    download(store, place)
    check(place)
    assert store.ranges[-1] == f"bytes={kept}-"


def test_f07_an_archive_that_cannot_be_unpacked_for_want_of_space_is_kept(store, download, disk):
    place, resize = disk
    assert resize("size=2m").returncode == 0
    with pytest.raises(DownloadError, match="bytes are free"):
        download(store, place, extract=True)
    assert left(place) == [SIZE]
    assert len(store.gets) == 1
    assert resize("size=8m").returncode == 0
    folder = download(store, place, extract=True)
    assert sum(map(len, tree(folder).values())) == 1_200_000
    # Nothing was fetched again.
    assert len(store.gets) == 1
    assert left(place) == []


def test_f08_a_disk_that_cannot_be_written_is_one_error(store, download, disk):
    place, _ = disk
    remount = ["mount", "-t", "tmpfs", "-o", "remount,ro", "tmpfs", place]
    assert subprocess.run(remount, capture_output=True).returncode == 0
    with pytest.raises(CFPlatformError, match="Read-only file system"):
        download(store, place)
    assert store.gets == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_r01_no_descriptor_is_left_open(store, connect, download, tmp_path):
    cut(store, tmp_path, connect)
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "in the way").touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        client = connect(store.server)
        with pytest.raises(DownloadError, match="Could not write"):
            client.download_export(EXPORT, tmp_path, SPACE)
        client.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    # All of it is there for a run that finds the way free.
    assert left(tmp_path) == [SIZE]
    assert len(store.gets) == 1
    (tmp_path / NAME / "in the way").unlink()
    (tmp_path / NAME).rmdir()
    download(store, tmp_path)
    check(tmp_path)
    assert len(store.gets) == 1


TRACED = """
import sys
import os
calls = []
for name in ("fsync", "replace"):
    def traced(*args, _real=getattr(os, name), _name=name, **kwargs):
        calls.append(_name)
        return _real(*args, **kwargs)
    setattr(os, name, traced)
from cfplatform import Client
with Client() as client:
    client.download_export(sys.argv[1], sys.argv[2])
print(*calls)
"""


@posix
def test_f11_an_archive_is_on_the_disk_before_it_gets_its_name(big, tmp_path):
    sandbox, export_id, _ = big
    assert run(sandbox, TRACED, export_id, tmp_path / "out") == (0, "fsync replace fsync\n", "")
