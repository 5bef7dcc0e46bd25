"""``cfplatform webhook verify`` as a real process, on deliveries saved in files."""

from __future__ import annotations

import json
import time

import pytest

from tests.deliveries import NOW, Signer, key_set, published
from tests.functional.shell import ESCAPE, HOSTILE, json_lines, on_terminal, run
from tests.http.scripted import ScriptedServer

ITEM = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


@pytest.fixture
def key_server():
    server = ScriptedServer(default=published(Signer()))
    yield server
    server.stop()


@pytest.fixture
def keep(tmp_path):
    """Save a delivery and return the options with its files."""

    def write(body=None, headers=None, lines=None, **fields):
        signed, sent = Signer().deliver(**{"at": time.time(), **fields})
        (tmp_path / "body").write_bytes(signed if body is None else body)
        text = "".join(f"{name}: {value}\r\n" for name, value in (headers or sent).items()) if lines is None else lines
        (tmp_path / "headers").write_text(text, encoding="utf-8")
        (tmp_path / "keys").write_text(json.dumps(key_set(Signer())), encoding="utf-8")
        return ["--body", tmp_path / "body", "--headers", tmp_path / "headers"]

    return write


def verify(*options, **changes):
    return run("webhook", "verify", *options, CF_API_KEY=None, **changes)


def test_keys_are_fetched_and_the_event_is_printed(keep, key_server):
    done = verify(*keep(status="CLIENT_REVIEW"), CF_PLATFORM_BASE_URL=key_server.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    item, status, delivered = done.stdout.rstrip("\n").split("\t")
    assert (item, status) == (ITEM, "CLIENT_REVIEW")
    assert delivered.endswith("Z")
    (request,) = key_server.requests
    assert not request.names & {"x-api-key", "authorization"}


def test_where_keys_come_from(keep, key_server, tmp_path):
    options = keep()
    url = f"{key_server.base_url.rsplit('/', 2)[0]}/keys"
    assert verify(*options, "--jwks-url", url).returncode == 0
    assert verify(*options, "--base-url", key_server.base_url).returncode == 0
    asked = len(key_server.requests)
    assert verify(*options, "--jwks", tmp_path / "keys").returncode == 0
    assert len(key_server.requests) == asked == 2


def test_json_is_the_body_and_stdin_can_be_it(keep, tmp_path):
    body, headers = Signer().deliver(at=time.time(), more={"a": [1]})
    keep(headers=headers)
    options = ["--body", "-", "--headers", tmp_path / "headers", "--jwks", tmp_path / "keys", "--json"]
    done = verify(*options, stdin=body.decode())
    assert (done.returncode, json_lines(done.stdout)) == (0, [json.loads(body)])


@pytest.mark.parametrize(
    "form",
    [
        lambda headers: json.dumps(headers),
        lambda headers: "POST /hook?a=b HTTP/1.1\n" + "".join(f"{name.upper()}:{headers[name]}\n" for name in headers),
        lambda headers: "\ufeff\n" + "\n".join(f"{name}:  {headers[name]} " for name in headers),
    ],
    ids=["json", "with request line", "with mark and blanks"],
)
def test_forms_of_headers(keep, tmp_path, form):
    body, headers = Signer().deliver(at=time.time())
    done = verify(*keep(body=body, lines=form(headers)), "--jwks", tmp_path / "keys")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changes", "word", "sentence"),
    [
        ({"body": b"{}"}, "signature", "the signature does not match the body"),
        ({"at": NOW}, "expired", "Raise the limit with --tolerance."),
        ({"headers": {"X": "y"}}, "malformed", "is missing"),
        ({"lines": "X-Payload-Key-Id: a\nX-Payload-Key-Id: b\n"}, "malformed", "occurs twice"),
        ({"lines": '{"X-Payload-Key-Id": "a", "x-payload-key-id": "b"}'}, "malformed", "occurs twice"),
        ({"lines": '{"X-Payload-Key-Id": ["a"]}'}, "malformed", "must be a string"),
        ({"body": b"x" * 2_000_000}, "too_large", "has more than"),
    ],
)
def test_refusals(keep, tmp_path, changes, word, sentence):
    done = verify(*keep(**changes), "--jwks", tmp_path / "keys")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: The webhook delivery was rejected: ")
    assert sentence in line
    assert line.endswith(f" [{word}]")


def test_keys_that_are_not_known_or_not_there(keep, key_server, tmp_path):
    (tmp_path / "other").write_text(json.dumps(key_set(Signer("KEY-2"))), encoding="utf-8")
    done = verify(*keep(), "--jwks", tmp_path / "other")
    assert (done.returncode, "[unknown_key]" in done.stderr, "check that the base URL is" in done.stderr) == (
        1,
        True,
        True,
    )
    key_server.stop()
    done = verify(*keep(), "--base-url", key_server.base_url)
    assert (done.returncode, "[keys_unavailable]" in done.stderr, "Pass --jwks" in done.stderr) == (1, True, True)


def test_a_delivery_that_was_kept(keep, tmp_path):
    options = [*keep(at=NOW), "--jwks", tmp_path / "keys"]
    assert verify(*options).returncode == 1
    done = verify(*options, "--any-age")
    assert (done.returncode, done.stderr) == (0, "Age not checked.\n")
    age = int(time.time() - NOW)
    if abs(age) < 6 * 86_400:
        assert verify(*options, "--tolerance", abs(age) + 600).returncode == 0
    # Contradictory values are rejected at any age.
    body, headers = Signer().deliver(at=NOW)
    headers["X-Payload-Timestamp"] = str(int(NOW) - 3600)
    done = verify(*keep(body=body, headers=headers), "--jwks", tmp_path / "keys", "--any-age")
    assert (done.returncode, "[expired]" in done.stderr) == (1, True)


def test_a_hostile_event_cannot_drive_the_terminal(keep, tmp_path):
    options = keep(status=f"st {HOSTILE}", assetUrl=HOSTILE)
    code, screen = on_terminal("webhook", "verify", *options, "--jwks", tmp_path / "keys", columns=120)
    assert code == 0
    assert "Status         st Ev\ufffd[31mil\ufffd" in screen
    assert "[red]markup[/red]" in screen
    assert ESCAPE not in screen
    done = verify(*options, "--jwks", tmp_path / "keys")
    assert len(done.stdout.splitlines()) == 1
    assert ESCAPE not in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--jwks", "keys", "--jwks-url", "http://x/"], "--jwks and --jwks-url exclude each other."),
        (["--any-age", "--tolerance", "1"], "--any-age and --tolerance exclude each other."),
        (["--jwks", "body"], "Error: --jwks must be a key set like"),
        (["--jwks", "headers"], "The --jwks file is not valid JSON."),
        (["--jwks", "missing"], "No such file or directory"),
        (["--jwks", "keys", "--tolerance", "0"], "Error: --tolerance must be a number of seconds from 1 to"),
        (["--jwks-url", "ftp://x/"], "Error: --jwks-url: the keys cannot be fetched from there. The URL must start"),
        (["--headers", "notes", "--jwks", "keys"], "Line 2 of the --headers file is not 'Name: value'."),
        (["--headers", "broken", "--jwks", "keys"], "starts like a JSON object, but is not valid JSON."),
        (["--headers", "body"], "--body and --headers must be different files."),
    ],
)
def test_wrong_usage(keep, tmp_path, options, sentence):
    keep(body=b"{}")
    (tmp_path / "notes").write_text("A: b\nnothing\n", encoding="utf-8")
    (tmp_path / "broken").write_text("{", encoding="utf-8")
    done = verify("--body", "body", "--headers", "headers", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_both_files_are_needed():
    done = verify("--body", "-")
    assert (done.returncode, "Missing option '--headers'" in done.stderr) == (2, True)
