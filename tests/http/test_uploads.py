"""The requests of uploads: sent, retried, and never sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cfplatform import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CFPlatformError,
    ConflictError,
    InvalidResponseError,
    NotFoundError,
    OutageError,
    PermissionDeniedError,
    ServerError,
    UploadError,
)
from tests.faults.test_x_secrets import texts_of
from tests.http.scripted import Answer, raw, said
from tests.tools import KEY, SIGNATURE, outcome

ROOT = Path(__file__).parents[2]
QUERY = f"X-Amz-Credential=x%2F20260101&X-Amz-Signature={SIGNATURE}"
EXPIRED = raw(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")

TAKEN = (None, raw(200), "keep")


@dataclass
class Put:
    """One request as a :class:`Sink` saw it."""

    target: str
    headers: dict[str, str]
    size: int = 0
    digest: str = ""
    is_over: bool = False
    names: list[str] = field(default_factory=list)


class Sink:
    """A storage that may stop reading in the middle of a body; it keeps no body, so that it takes any size.

    Args:
        plan: For each request in turn (bytes to read or ``None`` for all, answer, how the connection ends).
    """

    def __init__(self, *plan, default=TAKEN):
        self._plan = list(plan)
        self._default = default
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.puts = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(20)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, ValueError), connection:
            # Unbuffered beyond the headers, so that what was not read stays with the sender.
            while (head := self._head(connection)) is not None:
                put = self._put(head)
                amount, answer, end = self._plan.pop(0) if self._plan else self._default
                self.puts.append(put)
                length = int(put.headers["content-length"])
                self._take(connection, put, length if amount is None else amount)
                if end == "stall":
                    self._stopped.wait(20)
                connection.sendall(answer)
                if end == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if end != "keep":
                    return

    def _head(self, connection):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return None
            head += byte
        return head.decode("latin-1")

    def _put(self, head):
        first, *lines = head.rstrip("\r\n").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        method, target, _ = first.split(" ")
        assert method == "PUT"
        return Put(target, {name.lower(): value for name, value in pairs}, names=[name.lower() for name, _ in pairs])

    def _take(self, connection, put, amount):
        digest = hashlib.sha256()
        while put.size < amount and (piece := connection.recv(min(65536, amount - put.size))):
            put.size += len(piece)
            digest.update(piece)
        put.digest = digest.hexdigest()
        put.is_over = True


@pytest.fixture
def sink():
    with contextlib.ExitStack() as stack:
        yield lambda *plan, **options: stack.enter_context(Sink(*plan, **options))


@pytest.fixture
def uploading(serve, connect):
    """A client whose upload addresses lead to a storage."""

    def make(storage, **options):
        numbers = iter(range(1, 10_000))

        def sign(request):
            count = int(request.target.partition("count=")[2])
            each = [next(numbers) for _ in range(count)]
            return said(
                {"items": [{"path": f"p/{n}", "signedUrl": f"{storage.origin}/o%7E/{n}?{QUERY}"} for n in each]}
            )

        api = serve(default=Answer(sign))
        client = connect(api, **{"space_id": "s 1", "max_workers": 4, **options})
        client.api = api
        return client

    return make


def sha(data):
    return hashlib.sha256(data).hexdigest()


def counts(client):
    return [int(request.target.partition("count=")[2]) for request in client.api.requests]


def test_what_goes_over_the_wire(sink, uploading, tmp_path):
    storage = sink()
    client = uploading(storage)
    path = tmp_path / "a b.png"
    path.write_bytes(os.urandom(100_000))
    uploaded = client.upload_file(path)
    (put,) = storage.puts
    assert (uploaded.path, uploaded.size, uploaded.content_type, uploaded.name) == (
        "p/1",
        100_000,
        "image/png",
        "a b.png",
    )
    assert put.target == f"/o%7E/1?{QUERY}"
    assert (put.size, put.digest) == (100_000, sha(path.read_bytes()))
    assert sorted(put.names) == ["accept-encoding", "content-length", "content-type", "host", "user-agent"]
    assert (put.headers["content-length"], put.headers["content-type"]) == ("100000", "image/png")
    assert KEY not in str(put)
    (asked,) = client.api.requests
    assert (asked.method, asked.target, asked.body) == ("GET", "/api/v1/spaces/s%201/signedurls?count=1", b"")
    assert asked.values("X-API-Key") == [KEY]


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_536])
def test_bodies_of_every_size_arrive(sink, uploading, size):
    storage = sink()
    data = os.urandom(size)
    assert uploading(storage).upload_file(io.BytesIO(data), content_type="x/y; a=b").size == size
    assert (storage.puts[0].size, storage.puts[0].digest) == (size, sha(data))
    assert storage.puts[0].headers["content-type"] == "x/y; a=b"


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("read", [0, 1, 500_000])
def test_a_body_that_is_cut_off_is_sent_again_from_its_start(sink, uploading, end, read):
    storage = sink((read, b"", end))
    data = os.urandom(5_000_000)
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    client = uploading(storage)
    assert client.upload_file(file).size == 5_000_000
    assert (storage.puts[-1].size, storage.puts[-1].digest) == (5_000_000, sha(data))
    assert len(storage.puts) == 2
    # With the same address: nothing was wrong with it.
    assert {put.target for put in storage.puts} == {f"/o%7E/1?{QUERY}"}
    assert file.tell() == 6


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_overloaded_storage_is_tried_again_from_the_start(sink, uploading, status):
    data = os.urandom(70_000)
    storage = sink((None, raw(status), "keep"), (None, raw(status), "close"))
    uploading(storage).upload_file(io.BytesIO(data))
    assert [put.digest for put in storage.puts] == [sha(data)] * 3


def test_a_storage_that_stays_down_is_told(sink, uploading):
    storage = sink(default=(None, raw(503, b"busy"), "keep"))
    with pytest.raises(ServerError, match="busy"):
        uploading(storage, retries=2).upload_file(io.BytesIO(b"data"))
    assert len(storage.puts) == 3


def test_an_expired_address_is_replaced(sink, uploading):
    data = os.urandom(50_000)
    storage = sink((None, EXPIRED, "keep"), (None, raw(400, b"<Code>RequestTimeTooSkewed</Code>"), "keep"))
    client = uploading(storage)
    assert client.upload_file(io.BytesIO(data)).path == "p/3"
    assert [put.target.partition("?")[0] for put in storage.puts] == ["/o%7E/1", "/o%7E/2", "/o%7E/3"]
    assert storage.puts[-1].digest == sha(data)
    assert counts(client) == [1, 1, 1]


def test_an_address_that_is_always_refused_is_replaced_three_times(sink, uploading):
    storage = sink(default=(None, raw(403, b"<Error><Code>AccessDenied</Code></Error>"), "keep"))
    client = uploading(storage)
    with pytest.raises(PermissionDeniedError, match="AccessDenied"):
        client.upload_file(io.BytesIO(b"data"))
    assert len(storage.puts) == 4
    assert counts(client) == [1, 1, 1, 1]


def test_an_address_that_has_expired_tells_of_those_that_came_with_it(sink, uploading):
    storage = sink((None, EXPIRED, "keep"))
    client = uploading(storage)
    results = list(client.upload_files([io.BytesIO(b"data")] * 10, max_workers=1))
    assert [result.ok for result in results] == [True] * 10
    # One was refused; those that came with it were not tried, and all of them got new URLs.
    assert len(storage.puts) == 11
    assert sum(counts(client)) == 10 + counts(client)[0]


@pytest.mark.parametrize("status", [400, 404, 409, 412, 501])
def test_other_refusals_are_final(sink, uploading, status):
    storage = sink(default=(None, raw(status, b"no"), "keep"))
    client = uploading(storage)
    with pytest.raises(CFPlatformError) as caught:
        client.upload_file(io.BytesIO(b"data"))
    assert caught.value.status_code == status
    assert len(storage.puts) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused(sink, uploading, status):
    storage = sink((None, raw(status, b"", f"Location: https://elsewhere.example/?{QUERY}"), "keep"))
    with pytest.raises(InvalidResponseError, match="redirect") as caught:
        uploading(storage).upload_file(io.BytesIO(b"data"))
    assert SIGNATURE not in str(caught.value)
    assert len(storage.puts) == 1


def test_a_refusal_before_the_body_is_read_is_heard(sink, uploading):
    storage = sink((10_000, EXPIRED, "close"))
    data = os.urandom(20_000_000)
    assert uploading(storage).upload_file(io.BytesIO(data)).size == 20_000_000
    assert storage.puts[-1].digest == sha(data)


def test_a_success_before_the_body_is_read_is_not_believed(sink, uploading):
    storage = sink((10_000, raw(200, b"", "Connection: close"), "reset"))
    data = os.urandom(20_000_000)
    uploading(storage).upload_file(io.BytesIO(data))
    assert [put.digest for put in storage.puts[1:]] == [sha(data)]


def test_a_success_that_always_comes_too_early_is_a_failure(sink, uploading):
    storage = sink(default=(10_000, raw(200, b"", "Connection: close"), "close"))
    with pytest.raises(APIConnectionError):
        uploading(storage, retries=1).upload_file(io.BytesIO(bytes(20_000_000)))


def test_a_storage_that_does_not_read_ends_in_time(sink, uploading):
    storage = sink(default=(1000, b"", "stall"))
    began = time.monotonic()
    with pytest.raises(APITimeoutError):
        uploading(storage, timeout=(0.5, 0.5), retries=1).upload_file(io.BytesIO(bytes(50_000_000)))
    assert time.monotonic() - began < 5


def test_a_storage_that_does_not_answer_ends_in_time(sink, uploading):
    storage = sink(default=(None, b"", "stall"))
    began = time.monotonic()
    with pytest.raises(APITimeoutError):
        uploading(storage, timeout=(1, 0.3), retries=1).upload_file(io.BytesIO(b"data"))
    assert time.monotonic() - began < 5


class Changing(io.BytesIO):
    """A file that another program writes to while it is sent."""

    def __init__(self, size, change):
        super().__init__(bytes(size))
        self._change = change
        self._reads = 0

    def read(self, amount=-1):
        self._reads += bool(amount)
        if self._reads == 3:
            self._change(self)
        return super().read(amount)


def grow(file):
    at = file.tell()
    file.seek(0, os.SEEK_END)
    file.write(b"more")
    file.seek(at)


def shrink(file):
    file.truncate(60_000)


def fail(file):
    raise OSError(104, "Connection reset by the file server")


def close(file):
    file.close()


@pytest.mark.parametrize("change", [grow, shrink, fail, close])
def test_a_file_object_that_changes_never_becomes_an_object(sink, uploading, change):
    storage = sink()
    with pytest.raises(UploadError, match="Changing"):
        uploading(storage).upload_file(Changing(100_000, change))
    _until(lambda: storage.puts and storage.puts[0].is_over)
    # Not repeated: the network is not to blame.
    (put,) = storage.puts
    assert put.size < int(put.headers["content-length"]) == 100_000


def touched(path):
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.open("ab").write(b"more"),
        lambda path: os.truncate(path, 2_000_000),
        touched,
    ],
    ids=["grows", "shrinks", "rewritten"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_that_changes_never_becomes_an_object(sink, uploading, tmp_path, change):
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(20_000_000))

    class Slow(Sink):
        def _take(self, connection, put, amount):
            super()._take(connection, put, 1000)
            change(path)
            put.is_over = False
            super()._take(connection, put, amount)

    with Slow() as storage:
        with pytest.raises(UploadError, match=r"film\.mp4"):
            uploading(storage).upload_file(path)
        _until(lambda: storage.puts[0].is_over)
        (put,) = storage.puts
    assert put.size < 20_000_000


def test_a_file_object_may_give_less_than_asked_for(sink, uploading):
    class Sparing(io.BytesIO):
        def read(self, amount=-1):
            return super().read(min(amount, 1000))

    data = os.urandom(50_000)
    storage = sink()
    uploading(storage).upload_file(Sparing(data))
    assert storage.puts[0].digest == sha(data)


def test_the_same_file_object_twice_is_sent_twice(sink, uploading):
    data = os.urandom(300_000)
    storage = sink()
    file = io.BytesIO(data)
    results = list(uploading(storage).upload_files([file] * 20))
    assert len({result.uploaded.path for result in results}) == 20
    assert [put.digest for put in storage.puts] == [sha(data)] * 20


@pytest.mark.parametrize("number", [0, 1, 10, 25])
def test_at_most_ten_addresses_are_asked_for_at_once(sink, uploading, number):
    client = uploading(sink())
    files = [*(io.BytesIO(b"data") for _ in range(number)), "missing", io.BytesIO()]
    results = list(client.upload_files(iter(files)))
    assert sum(result.ok for result in results) == number
    # How many come together depends on the threads; tests of the pool say which groups it makes.
    assert sum(counts(client)) == number
    assert all(1 <= count <= 10 for count in counts(client))


def test_a_slow_listing_does_not_hold_up_what_is_there(sink, uploading):
    storage = sink()
    client = uploading(storage)

    def files():
        yield io.BytesIO(b"first")
        _until(lambda: storage.puts and storage.puts[0].is_over)
        # Until the worker has nothing to do.
        time.sleep(0.1)
        yield io.BytesIO(b"second")

    assert [result.ok for result in client.upload_files(files())] == [True, True]
    assert counts(client) == [1, 1]


def _until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def test_few_addresses_in_an_answer_are_enough(sink, serve, connect):
    storage = sink()
    numbers = iter(range(1000))

    def sign(request):
        n = next(numbers)
        odd = [None, 5, {}, {"path": "", "signedUrl": "https://x"}, {"path": "x", "signedUrl": 5}]
        return said({"items": [*odd, {"path": f"p/{n}", "signedUrl": f"{storage.origin}/{n}"}]})

    client = connect(serve(default=Answer(sign)), space_id="s")
    results = list(client.upload_files(io.BytesIO(b"data") for _ in range(12)))
    assert len({result.uploaded.path for result in results}) == 12


@pytest.mark.parametrize("odd", [None, 5, [], "x", {}, {"items": None}, {"items": {}}, {"items": []}, {"items": [5]}])
def test_an_answer_without_addresses_fails_the_files(serve, connect, odd):
    client = connect(serve(default=said(odd)), space_id="s", retries=0)
    with pytest.raises(InvalidResponseError, match=r"upload URLs|whole JSON"):
        client.upload_file(io.BytesIO(b"data"))
    results = list(client.upload_files([io.BytesIO(b"data")] * 3))
    assert [type(result.error) for result in results] == [InvalidResponseError] * 3
    assert len({id(result.error) for result in results}) == 3


@pytest.mark.parametrize(
    "bad", ["http://storage.example/o", "file:///etc/passwd", "https://u:p@h/", "/o", "https://h\n/"]
)
def test_an_address_that_is_none_is_not_opened(serve, connect, bad):
    client = connect(serve(default=said({"items": [{"path": "x", "signedUrl": f"{bad}?{QUERY}"}]})), space_id="s")
    with pytest.raises(InvalidResponseError, match="not opened") as caught:
        client.upload_file(io.BytesIO(b"data"))
    assert SIGNATURE not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, BadRequestError), (401, AuthenticationError), (403, PermissionDeniedError), (404, NotFoundError)],
)
def test_what_refuses_addresses_stops_everything(serve, connect, status, error):
    api = serve(default=said({"message": "no"}, status))
    client = connect(api, space_id="s")
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield io.BytesIO(b"data")

    with pytest.raises(error):
        list(client.upload_files(endless(), max_workers=4))
    assert len(taken) <= 2 * 4 + 10 + 2
    assert len(api.requests) <= 4
    _until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("cfplatform-upload")])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cfplatform-upload")]


def test_what_was_uploaded_is_told_before_the_error_that_ends_the_run(sink, serve, connect):
    storage = sink()
    items = [{"path": f"p/{n}", "signedUrl": f"{storage.origin}/{n}"} for n in range(11)]
    client = connect(serve(said({"items": items[:1]}), said({"items": items[1:]}), default=said({}, 401)), space_id="s")
    done = []
    with pytest.raises(AuthenticationError):
        _keep(client.upload_files([io.BytesIO(b"d")] * 30, max_workers=1), done)
    assert done == [True] * 11


def _keep(results, done):
    for result in results:
        done.append(result.ok)


def test_an_outage_of_the_api_is_sat_out(sink, serve, connect):
    storage = sink()
    items = [{"path": f"p/{n}", "signedUrl": f"{storage.origin}/{n}"} for n in range(10)]
    api = serve(*[said({}, 503)] * 4, said({"items": items}))
    client = connect(api, space_id="s", retries=0)
    assert all(result.ok for result in client.upload_files([io.BytesIO(b"d")] * 10, patience=60))
    assert len(api.requests) == 5
    # A single file is a single call.
    api.plan(said({}, 503))
    with pytest.raises(ServerError):
        client.upload_file(io.BytesIO(b"d"))


def test_an_api_that_stays_down_is_not_overloaded(serve, connect):
    api = serve(default=said({}, 503))
    client = connect(api, space_id="s", max_workers=4)
    results = list(client.upload_files((io.BytesIO(b"d") for _ in range(300)), patience=0))
    assert [type(result.error) for result in results] == [ServerError] * 300
    # Some ten files in a request, with its repeats.
    assert len(api.requests) <= 300 + 100


def test_an_api_that_stays_down_ends_a_run_when_its_patience_is_used_up(serve, connect):
    api = serve(default=said({"message": "gone"}, 503))
    client = connect(api, space_id="s", max_workers=4)
    began = time.monotonic()
    with pytest.raises(OutageError, match=r"503 Service Unavailable from http://127.*for 1 s\.") as caught:
        list(client.upload_files((io.BytesIO(b"d") for _ in range(300)), patience=1))
    assert 1 <= time.monotonic() - began < 5
    assert caught.value.status_code == 503


def test_closing_the_generator_stops_everything(sink, uploading):
    storage = sink((None, raw(200), "keep"), default=(1000, b"", "stall"))
    taken = []

    def files():
        while True:
            taken.append(1)
            yield io.BytesIO(bytes(5_000_000))

    results = uploading(storage).upload_files(files(), max_workers=3)
    assert next(results).ok
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 2
    # What was on its way when the generator was closed may still arrive; nothing follows it.
    time.sleep(0.5)
    count = len(storage.puts)
    time.sleep(0.1)
    assert len(storage.puts) == count <= 1 + 3
    assert len(taken) <= 2 * 3 + 10 + 2


def test_files_beside_one_that_fails_go_on(sink, uploading):
    storage = sink((None, raw(400, b"no"), "keep"))
    results = list(uploading(storage).upload_files([io.BytesIO(b"d") for _ in range(30)]))
    assert sorted(type(result.error).__name__ for result in results) == ["BadRequestError"] + ["NoneType"] * 29


def test_an_iterable_that_raises_lets_what_was_taken_finish(sink, uploading):
    def files():
        for _ in range(7):
            yield io.BytesIO(b"d")
        raise ConflictError("my own")

    done = []
    with pytest.raises(ConflictError, match="my own"):
        _keep(uploading(sink()).upload_files(files()), done)
    assert done == [True] * 7


FAULTS = {
    "reset": (1000, b"", "reset"),
    "closed": (None, b"", "close"),
    "no http": (None, b"SSH-2.0\r\n", "close"),
    "503": (None, raw(503, QUERY.encode()), "keep"),
    "400": (None, raw(400, f"<Error><Message>{KEY}</Message><U>/o?{QUERY}</U></Error>".encode()), "keep"),
    "expired": (None, raw(403, f"<Message>Request has expired</Message><U>/o?{QUERY}</U>".encode()), "keep"),
    "redirect": (None, raw(307, b"", f"Location: https://storage.example/o?{QUERY}"), "keep"),
    "stalled": (None, b"", "stall"),
    "early": (10, raw(200, b"", f"X-Echo: {KEY}"), "close"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_fault_shows_a_secret(sink, uploading, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    client = uploading(sink(default=fault), retries=1, timeout=(1, 0.3))
    _, error = outcome(CFPlatformError, lambda: client.upload_file(io.BytesIO(bytes(3_000_000))))
    errors = [error, *(result.error for result in client.upload_files([io.BytesIO(b"data")] * 3, patience=0))]
    texts = [text for error in errors if error is not None for text in texts_of(error)]
    texts += [caplog.text, *(str(vars(record)) for record in caplog.records), *capfd.readouterr()]
    assert error is not None
    assert "/o%7E/1" in caplog.text
    assert [text[:300] for text in texts if KEY in text or SIGNATURE in text] == []


def test_a_file_that_changes_shows_no_secret(sink, uploading, caplog):
    caplog.set_level(logging.DEBUG)
    _, error = outcome(UploadError, lambda: uploading(sink()).upload_file(Changing(100_000, grow)))
    texts = [*texts_of(error), caplog.text]
    assert [text[:300] for text in texts if KEY in text or SIGNATURE in text] == []


SIZE = 300 * 1024 * 1024
CHILD = """
import sys
from cfplatform import Client

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

with Client("{key}", base_url=sys.argv[1], space_id="s") as client:
    client.upload_file(sys.argv[2])
    before = peak()
    print(client.upload_file(sys.argv[3]).size, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_file(sink, uploading, tmp_path):
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    small.write_bytes(b"small")
    with large.open("wb") as file:
        file.truncate(SIZE)
    storage = sink()
    command = [sys.executable, "-c", CHILD.format(key=KEY), uploading(storage).api.base_url, small, large]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    size, growth = map(int, done.stdout.split())
    assert (size, storage.puts[-1].size) == (SIZE, SIZE)
    assert growth < 30 * 1024
