"""``cfplatform request`` as a real process."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.functional.shell import ESCAPE, HOSTILE, command, environment, json_lines, on_terminal, run
from tests.http.scripted import ScriptedServer, raw

KEY = "sandbox-key\"with'quotes"


@pytest.fixture
def serve():
    """Start a server that sends the same bytes for every request."""
    servers = []

    def start(answer=None):
        servers.append(ScriptedServer(default=answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def ask(server, *arguments, **changes):
    return run("request", *arguments, CF_API_KEY=KEY, CF_PLATFORM_BASE_URL=server.base_url, **changes)


def test_a_listing_as_served_and_as_one_line(sandbox):
    path = f"/projects/{sandbox.project_id}/batches"
    done = run("request", "get", path, "--param", "limit=1", "--param", "page=NEXT", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["meta"]["limit"] == 1
    assert sandbox.requests[-1].query == [("limit", "1"), ("page", "NEXT")]
    assert json_lines(run("request", "GET", path, "--param", "limit=1", "--json", sandbox=sandbox).stdout) == [
        json.loads(done.stdout)
    ]


def test_repeated_parameters_and_a_value_with_signs(sandbox):
    params = [
        "--param",
        "batchIds=1001",
        "--param",
        "batchIds=1002",
        "--param",
        "createdAtFrom=2020-01-01T00:00:00+05:45",
    ]
    done = run("request", "GET", f"projects/{sandbox.project_id}/workItems", *params, sandbox=sandbox)
    assert done.returncode == 0
    assert sandbox.requests[-1].query == [tuple(each.split("=", 1)) for each in params[1::2]]


@pytest.mark.parametrize("form", ["text", "file", "stdin"])
def test_a_body_and_headers(sandbox, tmp_path, form):
    (tmp_path / "body.json").write_text('{"name": "Caf\u00e9"}', encoding="utf-8")
    given = {"text": '{"name": "Caf\u00e9"}', "file": "@body.json", "stdin": "@-"}[form]
    options = ["--json-body", given, "--header", "X-Trace:  a:b "]
    path = f"/projects/{sandbox.project_id}/batches"
    stdin = '{"name": "Caf\u00e9"}' if form == "stdin" else ""
    done = run("request", "POST", path, *options, sandbox=sandbox, cwd=tmp_path, stdin=stdin)
    assert (done.returncode, json.loads(done.stdout)["name"]) == (0, "Caf\u00e9")
    assert json.loads(sandbox.requests[-1].body) == {"name": "Caf\u00e9"}
    assert sandbox.requests[-1].headers["x-trace"] == "a:b"


def test_an_error_status_prints_the_body_and_fails(sandbox):
    done = run("request", "GET", "/nothing", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (1, "Error: The platform responded with status 404.\n")
    assert json.loads(done.stdout)["code"] == "not_found"
    done = run("request", "GET", "/nothing", "--json", "--include", sandbox=sandbox)
    (line,) = json_lines(done.stdout)
    assert (done.returncode, line["status"], line["body"]["code"]) == (1, 404, "not_found")
    assert {name.lower() for name in line["headers"]} >= {"content-type", "x-request-id"}


def test_the_answer_to_a_redirect_is_shown_and_not_followed(serve):
    server = serve(raw(302, b"", "Location: https://example.invalid/"))
    done = ask(server, "GET", "/a", "--include")
    assert (done.returncode, done.stderr) == (1, "Error: The platform responded with status 302.\n")
    assert "Status: 302\n" in done.stdout
    assert "Location: https://example.invalid/\n" in done.stdout


@pytest.mark.parametrize("form", [[], ["--json"], ["--include"], ["--include", "--json"], ["--debug"]])
def test_the_key_is_never_printed(serve, form):
    body = json.dumps({"your key": KEY, "again": f"<{KEY}>"}).encode()
    server = serve(raw(400, body, "Content-Type: application/json", f"X-Key: {KEY}"))
    done = ask(server, "GET", "/a", *form)
    assert server.requests[0].values("x-api-key") == [KEY]
    for spelling in (KEY, json.dumps(KEY)[1:-1]):
        assert spelling not in done.stdout + done.stderr
    assert "***" in done.stdout
    code, screen = on_terminal(
        "request", "GET", "/a", *form, CF_API_KEY=KEY, CF_PLATFORM_BASE_URL=server.base_url, columns=200
    )
    assert code == 1
    assert KEY not in screen
    assert json.dumps(KEY)[1:-1] not in screen


def test_a_pipe_gets_the_bytes_and_a_terminal_printable_text(serve):
    body = f"plain {HOSTILE}\n\n".encode() + b"\xff\xfe"
    server = serve(raw(200, body, "Content-Type: text/plain", "X-Evil: a[red]b"))
    variables = {"CF_API_KEY": KEY, "CF_PLATFORM_BASE_URL": server.base_url}
    done = subprocess.run(command("request", "GET", "/a"), capture_output=True, env=environment(None, **variables))
    assert (done.returncode, done.stdout, done.stderr) == (0, body, b"")
    as_json = ask(server, "GET", "/a", "--json").stdout
    assert json.loads(as_json) == body.decode("utf-8", "replace")
    assert as_json.isascii()
    _, screen = on_terminal("request", "GET", "/a", "--include", **variables)
    assert "X-Evil: a[red]b\n" in screen
    assert "plain Ev\ufffd[31mil\ufffd" in screen
    assert ESCAPE not in screen


def test_json_is_indented_on_a_terminal(serve):
    server = serve(raw(200, json.dumps({"name": HOSTILE, "caf\u00e9": 1}, ensure_ascii=False).encode()))
    _, screen = on_terminal("request", "GET", "/a", CF_API_KEY=KEY, CF_PLATFORM_BASE_URL=server.base_url, columns=200)
    assert screen.startswith('{\n  "name": "Ev\\u001b[31mil')
    assert '\n  "caf\u00e9": 1\n}\n' in screen
    assert "\u202e" not in screen


def test_bytes_are_not_printed_on_a_terminal(serve):
    server = serve(raw(200, b"PK\0\1" * 100, "Content-Type: application/zip"))
    _, screen = on_terminal("request", "GET", "/a", CF_API_KEY=KEY, CF_PLATFORM_BASE_URL=server.base_url)
    assert screen == "The response is 400 bytes (application/zip); redirect stdout to a file to keep them.\n"


def test_an_answer_without_a_body(serve):
    server = serve(raw(204, b""))
    for form in ([], ["--json"], ["--quiet"]):
        done = ask(server, "DELETE", "/a", *form)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["G T", "/a"], 2, "Error: METHOD must be an HTTP method such as 'GET'"),
        (["GET", "https://example.invalid/"], 2, "Error: PATH must be relative to the base URL"),
        (["GET", "/a/../b"], 2, "Error: PATH must not contain '.' or '..'"),
        (["GET", "/a", "--param", "limit"], 2, "'limit' must have the form NAME=VALUE."),
        (["GET", "/a", "--header", "X"], 2, "'X' must have the form NAME:VALUE."),
        (["GET", "/a", "--header", "X Y: z"], 2, "is not a valid header name."),
        (["POST", "/a", "--json-body", "{"], 2, "not valid JSON"),
        (["POST", "/a", "--json-body", "null"], 2, "null is not a body"),
        (["POST", "/a", "--json-body", "@missing"], 2, "'missing' cannot be read: No such file or directory."),
        (["GET"], 2, "Missing argument 'PATH'."),
    ],
)
def test_wrong_usage(serve, arguments, code, sentence):
    server = serve()
    done = ask(server, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []


def test_no_connection_is_one_sentence(serve):
    server = serve()
    server.stop()
    done = ask(server, "POST", "/a", "--json-body", "{}")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert KEY not in done.stderr
