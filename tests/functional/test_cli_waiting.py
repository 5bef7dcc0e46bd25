"""Output during an outage: real processes against a sandbox, with the time of each line."""

from __future__ import annotations

import itertools
import queue
import re
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.functional.shell import command, environment, json_lines, on_terminal, run, shown, started

#: Seconds until the line must appear, and a margin for a busy machine.
SOON, SLACK = 3.0, 1.5
#: Seconds that an outage lasts: longer than the line may take.
OUTAGE = 4.5
WAITS = re.compile(r"retrying( in \d+ s| now)")


class Line(NamedTuple):
    at: float
    text: str


class Output(NamedTuple):
    code: int
    stdout: str
    lines: list[Line]

    @property
    def waits(self):
        """The lines on waiting that are a change; one without a change comes only every ten seconds."""
        starts = ("Resumed", "No response")
        found = [line for line in self.lines if WAITS.search(line.text) or line.text.startswith(starts)]
        reasons = [line.text.split(": ")[0].split(",")[0] for line in found]
        changes = found[:1]
        for (before, reason), (line, following) in itertools.pairwise(zip(found, reasons, strict=True)):
            if following != reason:
                changes.append(line)
            else:
                assert line.at - before.at > 5
        return changes


def documents(folder):
    return {path.stem for path in folder.glob("*/*.json") if not path.parent.name.startswith(".")}


def timed(*arguments, sandbox, begun=None, **changes):
    """Run a command with its streams in pipes, and note when each line of stderr comes.

    ``begun`` is called after the start, and once there is something to disturb.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command(*arguments), env=environment(sandbox, **changes), **streams) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        read: queue.SimpleQueue[Line | None] = queue.SimpleQueue()

        def note():
            for line in process.stderr:
                read.put(Line(time.monotonic(), line.rstrip("\n")))
            read.put(None)

        reader = threading.Thread(target=note)
        reader.start()
        if begun is not None:
            begun()
        stdout = process.stdout.read()
        reader.join()
        guard.cancel()
    return Output(process.returncode, stdout, list(iter(read.get, None)))


def when_there_are(count, folder, then):
    """Return a function that waits for some documents and then calls another one, and the time of that call."""
    at = []

    def wait():
        deadline = time.monotonic() + 30
        while len(documents(folder)) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        at.append(time.monotonic())
        then()

    return wait, at


@pytest.fixture
def world(make_sandbox):
    """200 work items, which take a while."""
    return make_sandbox(items=200, latency=0.05)


# --- Downloads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, pytest.param("reset", marks=pytest.mark.stress), "refused"])
def test_a_piped_download_says_that_it_waits_and_that_it_is_over(world, tmp_path, status):
    begun, at = when_there_are(40, tmp_path, lambda: world.outage(OUTAGE, status))
    done = timed("download", tmp_path, sandbox=world, begun=begun)
    assert done.code == 0
    assert documents(tmp_path) == set(world.work_item_ids())
    first, *_, last = done.waits
    reason = {503: "503 Service Unavailable from", "reset": "Connection reset", "refused": "Connection refused"}[status]
    assert reason in first.text
    assert re.search(rf"{re.escape(world.base_url[:-7])}\)?: retrying.*, \d+ of 200 items done$", first.text)
    assert first.at - at[0] < SOON + SLACK
    assert re.fullmatch(r"Resumed, \d+ of 200 items done", last.text)
    assert last.at - at[0] > OUTAGE - 1
    # Items that failed last wait for their own next attempt, and for a while there may be no others.
    assert len(done.waits) in (2, 4)
    assert done.lines[-2].text.startswith("200 of 200 items, ")
    assert done.lines[-1].text.startswith(f"Downloaded 200 work items to {tmp_path}, ")


def test_another_reason_is_another_line(world, tmp_path):
    def break_it():
        world.outage(4, 503)
        # They overlap, so that no request succeeds in between on a busy machine.
        world.outage(6, 502, after=3)

    begun, _ = when_there_are(40, tmp_path, break_it)
    done = timed("download", tmp_path, sandbox=world, begun=begun)
    assert done.code == 0
    assert [line.text.split(",")[0].split(" from")[0] for line in done.waits][:3] == [
        "503 Service Unavailable",
        "502 Bad Gateway",
        "Resumed",
    ]
    assert documents(tmp_path) == set(world.work_item_ids())


def test_an_outage_from_the_start_is_said_before_anything_is_known(world, tmp_path):
    world.outage(OUTAGE, 503)
    began = time.monotonic()
    done = timed("download", tmp_path, sandbox=world)
    assert done.code == 0
    assert [line.text.split(":")[0] for line in done.waits] == ["503 Service Unavailable from http", "Resumed"]
    # Without figures: nothing is listed yet.
    assert WAITS.fullmatch(done.waits[0].text.rpartition(": ")[2])
    assert done.waits[0].at - began < SOON + 2 * SLACK
    assert documents(tmp_path) == set(world.work_item_ids())


def test_a_server_that_asks_for_a_pause_is_named(world, tmp_path):
    # Other calls succeed, so this is not an outage; then all of them wait.
    world.fail_next(429, times=12, path="*/annotations", headers={"Retry-After": "5"})
    done = timed("download", tmp_path, sandbox=world)
    assert done.code == 0
    assert [line.text.split(" from")[0].split(",")[0] for line in done.waits][:2] == [
        "429 Too Many Requests",
        "Resumed",
    ]
    assert documents(tmp_path) == set(world.work_item_ids())


def test_quiet_says_nothing(world, tmp_path):
    begun, _ = when_there_are(40, tmp_path, lambda: world.outage(4, 503))
    done = timed("download", tmp_path, "--quiet", sandbox=world, begun=begun)
    assert (done.code, done.stdout, done.lines) == (0, "", [])
    assert documents(tmp_path) == set(world.work_item_ids())


def test_json_has_stdout_for_itself(world, tmp_path):
    begun, _ = when_there_are(40, tmp_path, lambda: world.outage(4, 503))
    done = timed("download", tmp_path, "--json", sandbox=world, begun=begun)
    assert done.code == 0
    assert len(done.waits) in (2, 4)
    *_, last = json_lines(done.stdout)
    assert (last["summary"]["successful"], last["summary"]["failed"]) == (200, 0)


def test_a_terminal_shows_it_below_the_bar_as_long_as_it_lasts(world, tmp_path):
    begun, _ = when_there_are(40, tmp_path, lambda: world.outage(7, 503))
    threading.Thread(target=begun).start()
    code, screen = on_terminal("download", tmp_path, sandbox=world, columns=120)
    assert code == 0
    text = shown(screen)
    # The time counts down: probes are sent after 1, 2 and 4 seconds.
    assert {"1", "2", "3", "4"} <= set(re.findall(r"503 Service Unavailable from \S+: retrying in (\d+) s", text))
    # The last output is the bar alone, without a line for the log.
    assert "retrying" not in text[text.rindex("200/200") - 200 :]
    assert "Resumed" not in text
    assert documents(tmp_path) == set(world.work_item_ids())


def test_a_terminal_shows_it_in_the_place_of_a_bar_that_is_yet_to_come(sandbox, tmp_path):
    sandbox.outage(4, 503)
    code, screen = on_terminal("download", tmp_path, sandbox=sandbox, columns=120)
    assert code == 0
    assert re.search(r"503 Service Unavailable from \S+: retrying", shown(screen))
    assert "20/20" in shown(screen)
    assert "retrying" not in shown(screen)[shown(screen).rindex("20/20") :]


# --- The end of patience -----------------------------------------------------------------------------------


def test_a_download_whose_patience_ends_says_how_to_go_on(world, tmp_path):
    begun, at = when_there_are(40, tmp_path, lambda: world.outage(60, 503))
    done = timed("download", tmp_path, "--patience", 1, sandbox=world, begun=begun)
    assert (done.code, done.stdout) == (1, "")
    assert done.lines[-1].at - at[0] < 8
    found = re.fullmatch(
        r"Error: 503 Service Unavailable from .*o request has succeeded for 1 s\. (\d+) work items are finished and "
        r"kept\. Run the same command again later, or raise --patience\.",
        done.lines[-1].text,
    )
    assert not any(line.text.startswith("Resumed") for line in done.lines)
    assert int(found.group(1)) == len(documents(tmp_path)) >= 40
    world.clear_faults()
    while world.in_flight:
        # The process was waiting for this when it ended.
        time.sleep(0.01)
    world.clear_requests()
    assert run("download", tmp_path, "-q", sandbox=world).returncode == 0
    assert world.counts["storage"] == 200 - int(found.group(1))


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["plain", "json"])
def test_an_upload_whose_patience_ends_names_the_files_that_are_missing(sandbox, tmp_path, form):
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for file in files:
        file.write_bytes(b"content")
    sandbox.outage(60, 503, at="storage")
    began = time.monotonic()
    done = run("upload", *files, "--patience", 1, *form, sandbox=sandbox)
    assert time.monotonic() - began < 15
    assert done.returncode == 1
    assert re.search(
        r"^Error: 8 of 8 files could not be uploaded\. 503 Service Unavailable from .*"
        r"o request has succeeded for 1 s\. Run the command again with only these files, or raise --patience\.$",
        done.stderr,
        re.MULTILINE,
    )
    # Running the same command again would upload the others a second time.
    assert "same command" not in done.stderr
    if form:
        lines = json_lines(done.stdout)
        assert {line["file"] for line in lines} == set(map(str, files))
        assert all("503" in line["error"] for line in lines)
        assert any("o request has succeeded for 1 s" in line["error"] for line in lines)
    else:
        assert done.stdout == ""
        # Those that failed before it was known to be an outage have their own reason.
        named = {line.strip().partition(": ")[0] for line in done.stderr.splitlines()[-8:]}
        assert named == set(map(str, files))


def test_patience_must_be_seconds(sandbox, tmp_path):
    for value in ("-1", "nan", "inf", "long"):
        done = run("download", tmp_path / "labels", "--patience", value, sandbox=sandbox)
        assert done.returncode == 2
        assert "'--patience'" in done.stderr
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "arguments", [["download", "labels"], ["count"], ["batches"], ["upload", __file__]], ids=lambda each: each[0]
)
def test_a_server_that_refuses_from_the_start_is_given_up_soon(sandbox, tmp_path, arguments):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    began = time.monotonic()
    done = run(*arguments, sandbox=sandbox, cwd=tmp_path, CF_PLATFORM_BASE_URL=f"http://127.0.0.1:{port}/api/v1")
    assert time.monotonic() - began < SOON + 2 * SLACK
    assert (done.returncode, done.stdout) == (1, "")
    assert "Connection refused. Check the base URL and the network." in done.stderr


# --- Uploads and exports -----------------------------------------------------------------------------------


def test_an_upload_waits_with_a_word(sandbox, tmp_path):
    file = tmp_path / "street.png"
    file.write_bytes(b"content")
    sandbox.outage(OUTAGE, 503)
    began = time.monotonic()
    done = timed("upload", file, sandbox=sandbox)
    assert done.code == 0
    assert done.stdout.split("\t")[1:] == [str(file), "7\n"]
    first, last = done.waits
    assert re.search(r"503 Service Unavailable from .*, 0 of 1 file done$", first.text)
    assert first.at - began < SOON + 2 * SLACK
    assert last.text == "Resumed, 1 of 1 file done"


@pytest.mark.parametrize("action", ["wait", "download"])
def test_exports_wait_with_a_word(make_sandbox, tmp_path, action):
    sandbox = make_sandbox(items=20, export_seconds=0)
    with sandbox.client() as client:
        export = client.create_export("nightly")
    sandbox.outage(OUTAGE, 503, at="exports" if action == "wait" else "storage")
    began = time.monotonic()
    done = timed("exports", action, export.id, *([tmp_path] if action == "download" else []), sandbox=sandbox)
    assert done.code == 0
    first, last = done.waits
    assert re.match(r"503 Service Unavailable from \S+: retrying", first.text)
    assert first.at - began < SOON + 2 * SLACK
    assert last.text == "Resumed"
    assert action == "wait" or (tmp_path / f"nightly {export.id}.zip").exists()


def test_an_export_that_is_waited_for_on_a_terminal(make_sandbox):
    sandbox = make_sandbox(items=20, export_seconds=0)
    with sandbox.client() as client:
        export = client.create_export("nightly")
    sandbox.outage(OUTAGE, 503, at="exports")
    code, screen = on_terminal("exports", "wait", export.id, sandbox=sandbox, columns=120)
    assert code == 0
    text = shown(screen)
    assert re.search(r"503 Service Unavailable from \S+: retrying in \d s", text)
    assert "Resumed" not in text
    assert re.search(r"^Status +COMPLETED$", text, re.MULTILINE)


def test_an_export_whose_patience_ends(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20, export_seconds=0)
    with sandbox.client() as client:
        export = client.create_export("nightly")
    sandbox.outage(60, 503, at="storage")
    done = run("exports", "download", export.id, tmp_path, "--patience", 1, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(
        r"^Error: 503 Service Unavailable from .*o request has succeeded for 1 s\. Run the same command again "
        r"later, or raise --patience\.$",
        done.stderr,
        re.MULTILINE,
    )


# --- Single calls ------------------------------------------------------------------------------------------


def test_single_calls_do_not_wait_without_a_word(sandbox):
    commands = [
        ["count"],
        ["work-items", "--limit", "3"],
        ["exports"],
        ["request", "GET", f"/projects/{sandbox.project_id}/batches"],
    ]
    usual = [run(*arguments, sandbox=sandbox) for arguments in commands]
    assert [(each.returncode, each.stderr.count("retrying")) for each in usual] == [(0, 0)] * 4
    # Asked to wait, they do so for the same time in every run.
    sandbox.outage(4, 503, headers={"Retry-After": "2"})
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        all_done = list(pool.map(lambda arguments: timed(*arguments, sandbox=sandbox), commands))
    for done, expected in zip(all_done, usual, strict=True):
        assert (done.code, done.stdout) == (0, expected.stdout)
        line = done.waits[0]
        assert re.fullmatch(r"503 Service Unavailable from http://[\d.]+:\d+: retrying in \d s", line.text)
        assert line.at - began < SOON + 2 * SLACK
        assert [each.text for each in done.waits[1:]] in ([], ["Resumed"])


def test_a_single_call_can_be_quiet(sandbox):
    sandbox.outage(4, 503, headers={"Retry-After": "2"})
    done = timed("count", "-q", sandbox=sandbox)
    assert (done.code, done.stdout, done.lines) == (0, "20\n", [])


def test_a_terminal_gets_a_line_above_the_data(sandbox):
    sandbox.outage(4, 503, headers={"Retry-After": "2"})
    code, screen = on_terminal("batches", sandbox=sandbox, columns=120)
    assert code == 0
    lines = shown(screen).splitlines()
    assert re.match(r"503 Service Unavailable from \S+: retrying in \d s$", lines[0])
    assert any(line.split()[0] == "1001" for line in lines[1:])


@pytest.mark.parametrize("name", ["count", "doctor", "download"])
def test_a_server_that_does_not_answer_is_named(sandbox, tmp_path, name):
    sandbox.latency = 6
    began = time.monotonic()
    with started(name, *([] if name == "count" else [tmp_path]), sandbox=sandbox) as process:
        line = process.stderr.readline()
        assert time.monotonic() - began < SOON + 2 * SLACK
        assert re.fullmatch(r"No response yet from http://[\d.]+:\d+: waiting for [2-6] s\n", line)
        # With the first answer there is nothing more to wait for; only a download needs others.
        if name != "download":
            stdout, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            assert "20\n" in stdout or "\tok\t" in stdout
