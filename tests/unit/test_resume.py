from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from cfplatform import IncompleteDownloadError, naming
from cfplatform.destination import local
from cfplatform.transfer import resumable

if sys.platform != "win32":
    import fcntl

NUMBERS = st.integers(0, 10**18 - 1)


@contextlib.contextmanager
def collected(reporter=None):
    """A part in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = local.prepare_destination(folder)
        with contextlib.closing(resumable.Resumable(local.Destination(root), "key", reporter)) as part:
            yield root, part


class Stream:
    """A response of the storage, as its reader gets it; it ends early after ``sent`` bytes."""

    def __init__(self, body, status=200, sent=None, **headers):
        self.status_code = status
        self.headers = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items() if value})
        self.etag = self.headers.get("ETag")
        self.is_plain = self.headers.get("Content-Encoding", "identity") == "identity"
        self.length = len(body)
        self._body = body
        self._sent = len(body) if sent is None else sent

    def chunks(self, limit):
        assert limit == resumable.MAX_BYTES
        yield self._body[: self._sent // 2]
        yield self._body[self._sent // 2 : self._sent]
        if self._sent < len(self._body):
            raise IncompleteDownloadError("broke off")


# --- Content-Range -----------------------------------------------------------------------------------------------


@given(NUMBERS, NUMBERS, st.none() | NUMBERS)
@example(0, 0, 1)
@example(0, 0, 0)
@example(5, 4, None)
def test_a_range_is_read_if_it_can_be_one(first, last, total):
    span = resumable._span(f"bytes {first}-{last}/{'*' if total is None else total}")
    if first <= last and (total is None or last < total):
        assert span == (first, last, total)
    else:
        assert span is None


@given(st.text() | st.from_regex(r"[a-z]{0,6}[ =]?[0-9\-/*+ ]{0,20}"))
@example("")
@example("bytes */5")
@example("bytes=0-4/5")
@example("bytes 0-4/5, 6-7/9")
@example("bytes +0-4/5")
@example("bytes 0-4/-5")
@example("bytes \u0660-\u0664/\u0665")
@example("bytes 0-4/5\n")
@example("bytes 0-" + "9" * 5000 + "/*")
@example("Bytes 0-4/5")
def test_anything_else_is_no_range(text):
    span = resumable._span(text)
    if span is not None:
        plain = f"bytes {span.first}-{span.last}/"
        assert text.strip(" \t").startswith(("bytes 0", plain))
        assert span.first <= span.last
    assert resumable._span(None) is None


# --- Tags --------------------------------------------------------------------------------------------------------


@given(st.text())
@example('"v1"')
@example('"5d41402abc4b2a76b9719d911017c592-3"')
@example('W/"v1"')
@example('""')
@example('"a\r\nX: 1"')
@example('"a" "b"')
def test_only_a_strong_tag_that_a_header_can_hold_is_kept(etag):
    kept = resumable._strong(etag)
    assert kept in (None, etag)
    if kept is not None:
        assert etag[0] == etag[-1] == '"'
        assert etag.isascii()
        assert etag.isprintable()
        assert " " not in etag


def test_without_a_tag_nothing_is_asked_for():
    assert resumable._strong(None) is None
    with collected() as (_, part):
        assert (part.headers(), part.position(), part.total) == ({}, 0, None)


# --- Receiving ---------------------------------------------------------------------------------------------------


def test_it_asks_for_the_rest_under_the_tag_that_it_knows():
    with collected() as (_, part):
        with pytest.raises(IncompleteDownloadError):
            part.receive(Stream(b"0123456789", sent=4, ETag='"v1"'))
        assert part.headers() == {"Range": "bytes=4-", "If-Range": '"v1"'}
        assert (part.position(), part.total) == (4, 10)
        part.receive(Stream(b"456789", 206, ETag='"v1"', Content_Range="bytes 4-9/10"))
        assert part.path.read_bytes() == b"0123456789"


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_what_cannot_be_continued_is_removed_when_it_is_let_go_of(etag):
    with collected() as (root, part):
        with pytest.raises(IncompleteDownloadError):
            part.receive(Stream(b"0123456789", sent=4, ETag=etag))
        assert part.position() == 0
        part.close()
        part.close()
        assert list((root / ".cfplatform" / "resume").iterdir()) == []


def test_what_can_be_continued_is_kept():
    with collected() as (root, part):
        with pytest.raises(IncompleteDownloadError):
            part.receive(Stream(b"0123456789", sent=4, ETag='"v1"', Content_Type="image/PNG; q=1"))
        part.close()
        (kept,) = (root / ".cfplatform" / "resume").iterdir()
        assert json.loads((kept / "note.json").read_text()) == {"etag": '"v1"', "total": 10, "type": "image/png"}
        with contextlib.closing(resumable.Resumable(local.Destination(root), "another key")) as other:
            assert other.position() == 0
        with contextlib.closing(resumable.Resumable(local.Destination(root), "key")) as again:
            assert (again.position(), again.total) == (4, 10)
            # While it is held, another one begins on its own.
            with contextlib.closing(resumable.Resumable(local.Destination(root), "key")) as second:
                assert second.position() == 0


def left(root, content, *, age):
    """A part with the same key that another machine left."""
    folder = root / ".cfplatform" / "resume" / f"key~{naming.digest('key')}.another"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(content)
    (folder / "note.json").write_text('{"etag": "\\"v1\\"", "total": 10, "type": "image/png"}')
    os.utime(folder / "data", (time.time() - age,) * 2)
    return folder


@pytest.mark.parametrize("age", [0, resumable.KEPT_FOR + 60])
def test_a_part_of_another_machine_is_continued_and_older_ones_go(tmp_path, age):
    root = local.prepare_destination(tmp_path)
    folder = left(root, b"0123", age=age)
    shorter = folder.with_name(folder.name + "-too")
    shutil.copytree(folder, shorter)
    (shorter / "data").write_bytes(b"012")
    with contextlib.closing(resumable.Resumable(local.Destination(root), "key")) as part:
        assert (part.position(), part.total) == (4, 10)
        assert part.path.parent == folder
        assert not shorter.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="patches flock")
@pytest.mark.parametrize(("age", "continued"), [(5, 0), (resumable.QUIET + 5, 4)])
def test_without_locks_a_part_that_does_not_grow_is_copied(tmp_path, monkeypatch, age, continued):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    root = local.prepare_destination(tmp_path)
    folder = left(root, b"0123", age=age)
    with (
        open(folder / "data", "ab", buffering=0) as owner,
        contextlib.closing(resumable.Resumable(local.Destination(root), "key")) as part,
    ):
        assert part.position() == continued
        # The owner comes back and writes on.
        owner.write(b"never seen")
        part.receive(Stream(b"0123456789"[continued:], 206, ETag='"v1"', Content_Range=f"bytes {continued}-9/10"))
        part.commit("final")
    assert (root / "final").read_bytes() == b"0123456789"
    assert folder.exists() == (continued == 0)


VERSIONS = (bytes(range(200)), bytes(range(50, 150)), bytes(range(255)))


@settings(max_examples=300)
@given(st.data())
def test_whatever_an_honest_storage_does_the_bytes_are_those_of_one_object(data):
    """Objects change, answers break off anywhere, begin earlier, tell their total or not, and tags may be missing."""
    with collected() as (_, part):
        version = 0
        for _ in range(data.draw(st.integers(1, 8))):
            version = data.draw(st.sampled_from([version, version, version, 0, 1, 2]))
            content, tag = VERSIONS[version], f'"{version}"'
            asked = part.headers()
            start = 0
            if asked and asked["If-Range"] == tag and data.draw(st.booleans()):
                start = data.draw(st.integers(0, part.position()))
                if start >= len(content):
                    continue
            stop = data.draw(st.integers(start + 1, len(content))) if asked else len(content)
            total = data.draw(st.sampled_from([len(content), "*"]))
            ranged = f"bytes {start}-{stop - 1}/{total}" if start or stop < len(content) else None
            stream = Stream(
                content[start:stop],
                206 if ranged else 200,
                data.draw(st.integers(0, stop - start)),
                ETag=data.draw(st.sampled_from([tag, tag, f"W/{tag}", None])),
                Content_Range=ranged,
            )
            # Honest is: without a tag it is still the object that was asked for.
            with contextlib.suppress(IncompleteDownloadError):
                part.receive(stream)
                assert part.path.read_bytes() == content
            if part.position():
                found = part.path.read_bytes()
                known = int(part.headers()["If-Range"][1:-1])
                assert found == VERSIONS[known][: part.position()]
                assert part.total in (len(VERSIONS[known]), None)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "ETag": st.sampled_from(['"v1"', '"v2"', 'W/"v1"', "v1", '""', "\x7f"]),
        "Content_Range": st.builds("bytes {}-{}/{}".format, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
        | st.sampled_from(["bytes */9", "bytes 0-3/*", "bytes 4-9/*", "x", "", "bytes 0-/5"]),
        "Content_Encoding": st.sampled_from(["gzip", "identity", "br", ""]),
    },
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.binary(max_size=60), st.sampled_from([200, 206]), HEADERS, st.integers(0, 60)), max_size=6)
)
def test_whatever_a_storage_says_the_account_stays_right(answers):
    """One kind of error, a size that is that of the file, and progress that adds up to it."""

    class Reporter:
        done = 0

        def start(self, total):
            self.done = 0

        def advance(self, outcome, size):
            self.done += size

        def finish(self):
            pass

    reporter = Reporter()
    with collected(reporter) as (_, part):
        for body, status, headers, sent in answers:
            with contextlib.suppress(IncompleteDownloadError):
                part.receive(Stream(body, status, min(sent, len(body)), **headers))
            size = part.path.stat().st_size
            assert part.position() in (0, size)
            assert reporter.done in (0, size)
            if part.headers():
                assert part.headers()["Range"] == f"bytes={size}-"
