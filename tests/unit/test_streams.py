"""Receiving a stored object: chunks, headers, and the connection."""

from __future__ import annotations

import gzip
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.scripted import raw
from tests.tools import load

BODY = b'{"info": {"year": 2026}}' * 100
GZIP = "Content-Encoding: gzip"


@pytest.fixture
def receive(connect):
    """Fetch an object of a server, and return what a function makes of its stream."""

    def run(server, function, headers=None, **options):
        return connect(server, **options)._calls.fetch(f"{server.origin}/o", function, headers=headers)

    return run


def test_an_error_of_the_receiver_is_passed_on_at_once(serve, receive):
    server = serve(default=raw(200, BODY))
    with pytest.raises(OSError, match="disk"):
        receive(server, lambda stream: (_ for _ in ()).throw(OSError("disk")).__next__())
    assert len(server.requests) == 1


def test_a_compressed_bomb_is_inflated_in_small_steps(serve, receive):
    server = serve(raw(200, gzip.compress(b"\0" * 50_000_000), GZIP))
    largest = receive(server, lambda stream: max(len(chunk) for chunk in stream.chunks()))
    assert 0 < largest <= 1024 * 1024


def test_pieces_of_a_large_object_are_small_and_in_order(serve, receive):
    body = random.Random(1).randbytes(1_000_000)
    server = serve(raw(200, body))
    pieces = receive(server, lambda stream: list(stream.chunks()))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 64 * 1024


def test_the_stream_describes_the_object(serve, receive):
    server = serve(raw(200, BODY, 'ETag: "abc"', "X-Other: 1"))
    found = receive(server, lambda stream: (stream.status_code, stream.etag, stream.length, stream.headers["x-other"]))
    assert found == (200, '"abc"', len(BODY), "1")


def test_an_unchanged_object_is_not_sent_again(serve, receive):
    server = serve(raw(304, b"", 'ETag: "abc"', length=False))
    found = receive(server, lambda stream: (stream.status_code, stream.etag), headers={"If-None-Match": '"abc"'})
    assert found == (304, '"abc"')
    assert server.requests[0].values("If-None-Match") == ['"abc"']


def test_an_object_that_was_not_read_to_its_end_does_not_disturb_the_next(serve, connect):
    server = serve(raw(200, b"a" * 500_000), raw(200, b"b" * 500_000))
    client = connect(server)
    first = client._calls.fetch(f"{server.origin}/o", lambda stream: next(stream.chunks()))
    second = load(client, f"{server.origin}/o")
    assert set(first) == set(b"a")
    assert second == b"b" * 500_000
    assert server.connections == 2


def test_a_reader_who_takes_their_time_is_not_taken_for_a_slow_server(serve, receive):
    body = b"z" * 200_000

    def read(stream):
        pieces = []
        for piece in stream.chunks():
            pieces.append(piece)
            time.sleep(0.4)
        return b"".join(pieces)

    assert receive(serve(raw(200, body)), read, timeout=(5, 0.5), retries=0) == body


def test_objects_that_are_left_unread_by_many_threads_block_nobody(serve, connect):
    server = serve(default=raw(200, b"x" * 300_000))
    client = connect(server, max_workers=2)
    url = f"{server.origin}/o"

    def leave(number):
        return client._calls.fetch(url, lambda stream: next(stream.chunks()) if number % 2 else b"")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(leave, range(40))) == {b"", b"x" * 65_536}
    assert len(load(client, f"{server.origin}/o")) == 300_000
    assert len(server.requests) == 41
