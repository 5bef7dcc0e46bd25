"""``cfplatform webhook listen`` as a real process that receives deliveries."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import sys
import time

import pytest

from tests.deliveries import NOW, Signer, key_set
from tests.functional.shell import run, started

ITEM = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


class Listening:
    """A running listener."""

    def __init__(self, process):
        self.process = process
        self.greeting = process.stderr.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", self.greeting)[1])

    def post(self, body, headers, method="POST"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, "/any/path", body, headers)
            return connection.getresponse().status

    def deliver(self, **fields):
        return self.post(*Signer().deliver(**{"at": time.time(), **fields}))

    def end(self, number=signal.SIGINT):
        """End it, and return its later output on stdout and stderr."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=20)


@pytest.fixture
def listen(tmp_path):
    (tmp_path / "keys").write_text(json.dumps(key_set(Signer())), encoding="utf-8")

    @contextlib.contextmanager
    def start(*options):
        with started("webhook", "listen", "--port", 0, "--jwks", tmp_path / "keys", *options) as process:
            yield Listening(process)

    return start


def test_verified_events_are_lines_of_json_and_refused_ones_a_line_on_stderr(listen):
    body, headers = Signer().deliver(at=time.time(), status="CLIENT_REVIEW")
    with listen() as listener:
        assert "Register a public URL that forwards to it." in listener.greeting
        assert listener.post(body, headers) == 204
        assert json.loads(listener.process.stdout.readline()) == json.loads(body)
        assert listener.post(body, headers) == 204
        assert listener.post(b"{}", headers) == 400
        assert listener.deliver(at=NOW) == 400
        printed, said = listener.end()
    assert (listener.process.returncode, printed) == (0, "")
    *refused, last = said.splitlines()
    assert [line.rpartition(" ")[2] for line in refused] == ["[replayed]", "[signature]", "[expired]"]
    assert all(line.startswith("Error: The webhook delivery was rejected: ") for line in refused)
    assert last == "Stopped."


def test_bodies_are_bounded_and_other_methods_are_refused(listen):
    body, headers = Signer().deliver(at=time.time())
    with listen() as listener:
        assert listener.post(b"", {**headers, "Content-Length": str(2**20 + 1)}) == 413
        assert listener.post(iter([body]), headers) == 411
        assert listener.post(body, {**headers, "Content-Length": "-5"}) == 411
        assert listener.post(None, {}, method="GET") == 501
        # A sender that disconnects early or sends nothing does not block the others.
        with socket.create_connection(("127.0.0.1", listener.port)) as half:
            half.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        with socket.create_connection(("127.0.0.1", listener.port)):
            assert listener.post(body, headers) == 204
        assert json.loads(listener.process.stdout.readline())["workItemID"] == ITEM
        printed, said = listener.end(signal.SIGTERM)
    assert (listener.process.returncode, printed, said) == (0, "", "Stopped.\n")


def test_a_command_gets_each_event_on_its_stdin(listen, tmp_path):
    script = tmp_path / "handle it.py"
    script.write_text(
        "import json, sys\n"
        "event = json.load(sys.stdin)\n"
        f"with open({str(tmp_path / 'seen')!r}, 'a') as file: file.write(event['status'] + ' ' + sys.argv[1] + '\\n')\n"
        "print('handled')\n"
        "sys.exit(3 if event['status'] == 'FAIL' else 0)\n",
        encoding="utf-8",
    )
    body, headers = Signer().deliver(at=time.time(), status="FAIL")
    with listen("--exec", f"{sys.executable} '{script}' '$HOME;'") as listener:
        assert listener.deliver(status="COMPLETED") == 204
        # It may be delivered again: it counts as new.
        assert [listener.post(body, headers) for _ in range(2)] == [500, 500]
        printed, said = listener.end()
    assert [json.loads(line)["status"] for line in printed.splitlines()] == ["COMPLETED", "FAIL", "FAIL"]
    assert (tmp_path / "seen").read_text().splitlines() == ["COMPLETED $HOME;", "FAIL $HOME;", "FAIL $HOME;"]
    assert said.count("handled\n") == 3
    assert said.count(f"Error: --exec failed with exit code 3 for work item {ITEM}.\n") == 2


def test_a_delivery_under_way_is_finished(listen, tmp_path):
    code = f"import time; time.sleep(1); open({str(tmp_path / 'seen')!r}, 'w')"
    with listen("--exec", f'{sys.executable} -c "{code}"') as listener:
        body, headers = Signer().deliver(at=time.time())
        connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/", body, headers)
            listener.process.stdout.readline()
            listener.process.send_signal(signal.SIGINT)
            assert connection.getresponse().status == 204
        assert listener.process.wait(20) == 0
    assert (tmp_path / "seen").exists()


def test_a_reader_that_goes_away_ends_it(listen):
    with listen() as listener:
        listener.process.stdout.close()
        assert listener.deliver() == 500
        assert listener.process.wait(20) == 141


def test_what_cannot_be_listened_to(tmp_path):
    (tmp_path / "keys").write_text(json.dumps(key_set(Signer())), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, sentence in (
            (["--port", port], f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Pass another --port."),
            (["--exec", "not-there-x y"], "Invalid value for '--exec': Command not found: 'not-there-x'."),
            (["--exec", "'"], '"\'" is not a command: No closing quotation.'),
            (["--jwks-url", "http://x/"], "--jwks and --jwks-url exclude each other."),
        ):
            done = run("webhook", "listen", "--jwks", "keys", *options, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (2, "")
            assert sentence in done.stderr.splitlines()[-1]
