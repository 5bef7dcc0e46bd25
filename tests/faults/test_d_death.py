"""Group D: processes that are killed, interrupted or exit."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time

import pytest

from tests.faults.tools import parts, run, start, tree, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")

DOWNLOAD = """
import sys
from cfplatform import Client
with Client(max_workers=int(sys.argv[2])) as client:
    print("ready", flush=True)
    summary = client.download_project(destination=sys.argv[1])
print(summary.total_items, summary.failed, flush=True)
"""

#: Looks at final names over and over until a file appears: each must be whole at first sight, and stay as it is.
WATCH = """
import json, os, sys, time
root, stop = sys.argv[1:]
sizes, looks = {}, 0
while not os.path.exists(stop):
    for folder in os.listdir(root):
        if folder == ".cfplatform":
            continue
        for entry in os.scandir(os.path.join(root, folder)):
            looks += 1
            if entry.path not in sizes:
                with open(entry.path, "rb") as file:
                    content = file.read()
                json.loads(content)
                sizes[entry.path] = len(content)
            elif entry.stat().st_size != sizes[entry.path]:
                sys.exit(f"{entry.path} changed its size")
    time.sleep(0.02)
print(len(sizes), looks)
"""


@pytest.mark.parametrize(
    ("kills", "items", "latency"),
    [
        (3, 300, 0.015),
        pytest.param(25, 2000, 0.015, marks=pytest.mark.stress),
        pytest.param(200, 2000, 0.02, marks=pytest.mark.stress),
    ],
)
def test_d01_a_run_that_is_killed_again_and_again_ends_as_if_undisturbed(make_sandbox, tmp_path, kills, items, latency):
    workers = 4
    sandbox = make_sandbox(items=items, batches=4)
    with sandbox.client() as client:
        client.download_project(destination=tmp_path / "undisturbed").raise_for_failures()
    sandbox.clear_requests()
    sandbox.latency = latency
    root, stop = tmp_path / "killed", tmp_path / "stop"
    root.mkdir()
    moments = random.Random(20261121)
    survived, finished_at_kill = 0, [0]

    def saved():
        return sum(1 for _ in root.glob("*/*.json"))

    began = time.monotonic()
    with start(sandbox, WATCH, root, stop) as watcher:
        for _ in range(kills):
            with start(sandbox, DOWNLOAD, root, workers) as process:
                assert process.stdout.readline() == "ready\n"
                # By what it has done, not by the clock: a busy machine gets on too. All together leave some undone.
                enough = finished_at_kill[-1] + moments.randrange(2 * items * 6 // 10 // kills)
                wait_until(lambda enough=enough: saved() >= enough, seconds=60)
                time.sleep(moments.uniform(0.0, 0.02))
                survived += process.poll() is not None
                process.kill()
            finished_at_kill.append(saved())
        sandbox.latency = 0
        code, out, err = run(sandbox, DOWNLOAD, root, workers)
        stop.touch()
        seen, complaint = watcher.communicate(timeout=30)
    requests = sandbox.counts["storage"]
    print(
        f"\n{kills} kills in {time.monotonic() - began:.1f} s, at {finished_at_kill[1]} to {finished_at_kill[-1]} of "
        f"{items} files; storage requests {requests} (bound {items + kills * workers}); the watcher saw "
        f"{'{} files in {} looks'.format(*seen.split())}, 0 torn"
    )
    assert (code, out, err) == (0, f"ready\n{items} 0\n", "")
    assert survived == 0
    assert watcher.returncode == 0, complaint
    assert int(seen.split()[0]) > items // 2
    assert tree(root) == tree(tmp_path / "undisturbed")
    assert requests <= items + kills * workers
    assert parts(root) == []
    assert len(set(finished_at_kill)) > kills / 2


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.stress), "SIGKILL"])
def test_d02_a_signal_that_ends_the_process_leaves_whole_files_only(make_sandbox, tmp_path, name):
    sandbox = make_sandbox(items=200, batches=2, latency=0.02)
    with start(sandbox, DOWNLOAD, tmp_path / "out", 4) as process:
        wait_until(lambda: len(list((tmp_path / "out").glob("*/*.json"))) > 50)
        process.send_signal(getattr(signal, name))
        process.wait(5)
    kept = tree(tmp_path / "out")
    assert 50 < len(kept) < 200
    for content in kept.values():
        json.loads(content)
    # What its workers had asked for when it ended.
    time.sleep(0.1)
    sandbox.latency = 0
    sandbox.clear_requests()
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path / "out")
    assert (summary.total_items, summary.failed) == (200, 0)
    assert sandbox.counts["storage"] <= 200 - len(kept) + 4
    assert parts(tmp_path / "out") == []


INTERRUPTED = """
import signal, sys
from cfplatform import Client
# A test run in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def progress(done, total):
    if done == 50:
        print("under way", flush=True)
client = Client(max_workers=8)
try:
    client.download_project(destination=sys.argv[1], progress=progress)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    if sys.argv[2:] == ["raise"]:
        raise
"""


@pytest.mark.parametrize("where", ["workers", "listing"])
def test_d03_ctrl_c_is_prompt_while_everybody_waits_for_the_network(make_sandbox, tmp_path, where):
    sandbox = make_sandbox(items=300, batches=2, latency=0.005)
    with start(sandbox, INTERRUPTED, tmp_path / "out") as process:
        if where == "workers":
            assert process.stdout.readline() == "under way\n"
            sandbox.latency = 30
            # Not all eight of them if the listing, which waits too, had nothing more to give.
            wait_until(lambda: sandbox.in_flight >= 1)
        else:
            sandbox.latency = 30
            wait_until(lambda: sandbox.in_flight == 1)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        line = process.stdout.readline()
        back = time.monotonic() - began
        out, err = process.communicate(timeout=20)
        ended = time.monotonic() - began
    print(f"\nback after {back:.2f} s, process ended after {ended:.2f} s")
    assert (line, out, err, process.returncode) == ("interrupted\n", "", "", 0)
    assert back < 2
    assert ended < 3
    sandbox.latency = 0
    kept = len(tree(tmp_path / "out"))
    sandbox.clear_requests()
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path / "out")
    assert (summary.total_items, summary.failed) == (300, 0)
    assert sandbox.counts["storage"] <= 300 - kept + 8


def test_d04_a_second_ctrl_c_ends_at_once(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, batches=2)
    with start(sandbox, INTERRUPTED, tmp_path / "out", "raise") as process:
        assert process.stdout.readline() == "under way\n"
        sandbox.latency = 30
        wait_until(lambda: sandbox.in_flight >= 1)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        ended = time.monotonic() - began
    assert process.returncode != 0
    assert ended < 2
    sandbox.latency = 0
    for content in tree(tmp_path / "out").values():
        json.loads(content)
    with sandbox.client() as client:
        assert client.download_project(destination=tmp_path / "out").failed == 0
    assert len(tree(tmp_path / "out")) == 300
    assert parts(tmp_path / "out") == []


def _overwrite(path, content, offset=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def _forget_revision(state):
    with sqlite3.connect(state) as db:
        db.execute("UPDATE items SET size = size + 1")
    db.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.unlink(),
        lambda state: state.write_bytes(b""),
        lambda state: state.write_bytes(b"garbage" * 1000),
        lambda state: os.truncate(state, state.stat().st_size // 2),
        lambda state: os.truncate(state, state.stat().st_size - 100),
        lambda state: _overwrite(state, os.urandom(3000), 4096),
        lambda state: state.with_name("state.sqlite3-wal").write_bytes(b"garbage" * 1000),
        _forget_revision,
    ],
    ids=["gone", "empty", "garbage", "half", "torn", "pages", "log", "sizes"],
)
def test_d05_a_damaged_state_file_is_never_trusted(sandbox, client, tmp_path, damage):
    client.download_project(destination=tmp_path).raise_for_failures()
    before = tree(tmp_path)
    victim = tmp_path / next(iter(before))
    victim.write_bytes(b"{}")
    damage(tmp_path / ".cfplatform" / "state.sqlite3")
    summary = client.download_project(destination=tmp_path)
    assert (summary.total_items, summary.failed) == (20, 0)
    assert summary.successful >= 1
    assert tree(tmp_path) == before
    assert client.download_project(destination=tmp_path).skipped == 20


@pytest.mark.parametrize("workers", [2, 8])
def test_d06_a_kill_between_rename_and_state_costs_a_request_for_each_worker(make_sandbox, tmp_path, workers):
    sandbox = make_sandbox(items=200, batches=2, latency=0.02)
    root = tmp_path / "out"
    saved = []
    with start(sandbox, DOWNLOAD, root, workers) as process:
        wait_until(lambda: len(list(root.glob("*/*.json"))) > 20)
        # Whoever holds the database keeps the run from writing down what it has just renamed.
        holder = sqlite3.connect(root / ".cfplatform" / "state.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        known = holder.execute("SELECT count(*) FROM items").fetchone()[0]
        # Until nothing more gets its name.
        wait_until(lambda: saved.append(len(list(root.glob("*/*.json")))) or saved[-20:] == 20 * saved[-1:])
        process.kill()
        holder.execute("ROLLBACK")
        holder.close()
    sandbox.latency = 0
    sandbox.clear_requests()
    with sandbox.client() as client:
        summary = client.download_project(destination=root)
    assert known < saved[-1] <= known + workers
    assert (summary.total_items, summary.failed, summary.skipped) == (200, 0, known)
    assert sandbox.counts["storage"] == 200 - known
    assert len(tree(root)) == 200


WAYS = {
    "download_project": lambda client, root, progress: client.download_project(destination=root, progress=progress),
    "iter_downloads": lambda client, root, progress: list(
        client.iter_downloads(client.get_work_items(), root, progress=progress)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_d07_ctrl_c_in_a_progress_function_ends_the_run_cleanly(make_sandbox, tmp_path, way):
    sandbox = make_sandbox(items=200, batches=2)

    def progress(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with sandbox.client(max_workers=4) as client:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            WAYS[way](client, tmp_path, progress)
        assert time.monotonic() - began < 3
        assert not [
            each
            for each in threading.enumerate()
            if each.name.startswith("cfplatform-") and each.is_alive() and not each.name.endswith("sandbox")
        ]
        assert parts(tmp_path) == []
        assert sandbox.counts["annotations"] < 200
        # From another process, so that a lock that was left behind would show.
    code, out, _ = run(sandbox, DOWNLOAD, tmp_path, 4)
    assert (code, out) == (0, "ready\n200 0\n")


def test_d07_a_fault_of_a_progress_function_ends_nothing(make_sandbox, tmp_path, caplog):
    sandbox = make_sandbox(items=50, batches=2)

    def progress(done, total):
        raise OverflowError("a fault of the caller")

    with sandbox.client(max_workers=4) as client:
        assert client.download_project(destination=tmp_path, progress=progress).successful == 50
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The progress reporter failed and will not be called again (OverflowError)"
    ]


LEFT_OPEN = """
import sys
from cfplatform import Client
client = Client(max_workers=8)
items = client.get_work_items(page_size=10)
next(items)
documents = client.iter_annotations()
next(documents)
results = client.iter_downloads(client.get_work_items(), sys.argv[1])
next(results)
if sys.argv[2] == "exit":
    sys.exit(0)
if sys.argv[2] == "global":
    import builtins
    builtins.kept = (client, items, documents, results)
print("end", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "latency"),
    [
        ("fall", 0),
        *((how, 30) for how in ("fall", "exit", "global")),
        *(pytest.param(how, 0, marks=pytest.mark.stress) for how in ("exit", "global")),
    ],
)
def test_d08_an_interpreter_that_ends_with_everything_open_is_quiet_and_quick(make_sandbox, tmp_path, how, latency):
    sandbox = make_sandbox(items=2000, batches=2)
    code = LEFT_OPEN.replace(
        "if sys.argv[2] ==", "open(sys.argv[3], 'w').close(); sys.stdin.readline()\nif sys.argv[2] ==", 1
    )
    with start(sandbox, code, tmp_path / "out", how, tmp_path / "mark", stdin=-1) as process:
        wait_until((tmp_path / "mark").exists, 20)
        sandbox.latency = latency
        began = time.monotonic()
        _, err = process.communicate("\n", timeout=30)
        ended = time.monotonic() - began
    assert (process.returncode, err) == (0, "")
    assert ended < 3
