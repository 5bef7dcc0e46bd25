"""Group C: concurrent threads, processes and forks."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from cfplatform import CFPlatformError
from tests.faults.tools import parts, run, start, tree

#: Downloads into one folder after the other, each on a signal.
ROUNDS = """
import sys
import cfplatform
if sys.argv[1] == "no locks":
    import fcntl
    # What it comes to on a network file system without locks.
    fcntl.flock = lambda *arguments: None
with cfplatform.Client(max_workers=4) as client:
    for line in sys.stdin:
        try:
            summary = client.download_project(destination=line.strip())
            print("ok" if (summary.total_items, summary.failed) == (40, 0) else summary, flush=True)
        except cfplatform.DestinationBusyError as error:
            print("busy", error, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks are taken out of POSIX")
@pytest.mark.parametrize("locks", ["locks", "no locks"])
@pytest.mark.parametrize("rounds", [6, pytest.param(20, marks=pytest.mark.stress)])
def test_c01_two_processes_on_one_folder_are_both_right(make_sandbox, tmp_path, locks, rounds):
    sandbox = make_sandbox(items=40, batches=2)
    with sandbox.client() as client:
        client.download_project(destination=tmp_path / "alone").raise_for_failures()
    alone = tree(tmp_path / "alone")
    outcomes = []
    with (
        start(sandbox, ROUNDS, locks, stdin=-1) as first,
        start(sandbox, ROUNDS, locks, stdin=-1) as second,
    ):
        for number in range(rounds):
            root = tmp_path / f"round-{number}"
            for process in (first, second):
                process.stdin.write(f"{root}\n")
                process.stdin.flush()
            outcomes.append([process.stdout.readline().split() for process in (first, second)])
            assert tree(root) == alone
            assert parts(root) == []
        errors = [process.communicate(timeout=10)[1] for process in (first, second)]
    assert errors == ["", ""]
    words = [sorted(outcome[0] for outcome in pair) for pair in outcomes]
    assert len(words) == rounds
    if locks == "no locks":
        assert words == [["ok", "ok"]] * rounds
    else:
        assert all(pair in (["busy", "ok"], ["ok", "ok"]) for pair in words)
        holders = {outcome[2] for pair in outcomes for outcome in pair if outcome[0] == "busy"}
        assert holders <= {str(first.pid), str(second.pid), "process"}


FORKED = """
import os, sys
import cfplatform

def listing(client):
    return [item.id for item in client.get_work_items(page_size=10)]

def in_child(work):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

client = cfplatform.Client(max_workers=8)
ids = listing(client)
documents = {item.id: document for item, document in client.iter_annotations()}

def both():
    for _ in range(5):
        assert listing(client) == ids
        for item, document in client.iter_annotations():
            assert document == documents[item.id], item.id
children = [in_child(both) for _ in range(3)]
both()
assert [ended(pid) for pid in children] == [0, 0, 0]

# A child that is forked while the state is open: busy, elsewhere free, while its parent continues.
results = client.iter_downloads(client.get_work_items(), sys.argv[1])
next(results)
def beside():
    try:
        client.download_project(destination=sys.argv[1])
    except cfplatform.DestinationBusyError as error:
        assert f"Process {os.getppid()} " in str(error), error
    else:
        raise AssertionError("the destination was not busy")
    assert client.download_project(destination=sys.argv[2]).successful == len(ids)
    # What an end of the child does to the generator that it has a copy of.
    results.close()
assert ended(in_child(beside)) == 0
assert sum(1 for _ in results) == len(ids) - 1

# A child that lives on does not keep the destination locked.
results = client.iter_downloads(client.get_work_items(), sys.argv[1], overwrite=True)
next(results)
read, write = os.pipe()
pid = in_child(lambda: os.read(read, 1))
assert sum(1 for _ in results) == len(ids) - 1
assert client.download_project(destination=sys.argv[1]).skipped == len(ids)
os.write(write, b"x")
assert ended(pid) == 0

# A child that ends like any program.
results = client.iter_downloads(client.get_work_items(), sys.argv[1], overwrite=True)
next(results)
pid = os.fork()
if pid == 0:
    sys.exit(0)
assert ended(pid) == 0
assert sum(1 for _ in results) == len(ids) - 1
print("all right", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_c02_after_a_fork_both_get_their_own_answers(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=60, batches=2)
    # Newer versions of Python warn of every fork of a process with threads; that is what is tried here.
    code, out, err = run(
        sandbox, "import warnings; warnings.simplefilter('ignore')\n" + FORKED, tmp_path / "a", tmp_path / "b"
    )
    assert (code, out, err) == (0, "all right\n", "")
    assert len(tree(tmp_path / "a")) == 60
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(
    ("workers", "items"), [(1, 150), (2, 300), (100, 600), pytest.param(100, 100_000, marks=pytest.mark.stress)]
)
def test_c03_every_body_belongs_to_its_item(make_sandbox, workers, items):
    sandbox = make_sandbox(items=items, batches=5)
    places, count = {}, 0
    with sandbox.client(max_workers=workers) as client:
        for number, (item, document) in enumerate(client.iter_annotations(ordered=False)):
            places[item.id] = None
            count += 1
            if number % 3 == 0 or items <= 1500:
                served = json.loads(sandbox.document(item.id))
                assert document["images"] == served["images"]
                assert document["annotations"] == served["annotations"]
    assert count == len(places) == items


def test_c04_cookies_are_not_kept_and_headers_stay_as_they_are(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, batches=2)
    for path in ("*/workItems", "*/signedurls", "*/annotations"):
        sandbox.fail_next(503, times=2, path=path, headers={"Set-Cookie": "a=b; Path=/"})
    with sandbox.client(max_workers=8) as client:
        client.download_project(destination=tmp_path).raise_for_failures()
    kinds = {}
    for request in sandbox.requests:
        assert "cookie" not in request.headers
        kinds.setdefault(request.route, set()).add(frozenset(request.headers))
    assert set(kinds) == {"work_items", "batches", "annotations", "signing", "storage"}
    assert all(len(headers) == 1 for headers in kinds.values())


def test_c05_the_listing_waits_for_slow_workers(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=1_000_000, batches=5)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        for _ in range(300):
            next(results)
        before = sandbox.counts
        # Nobody reads on: after a look-ahead of some pages everything stands still.
        time.sleep(0.5)
        after = sandbox.counts
        results.close()
    assert before["work_items"] <= 7
    assert after["work_items"] == before["work_items"]
    assert after["storage"] <= 300 + 2 * 100 + 4 * 4 + 100
    assert threading.active_count() < 10


def test_c05_documents_that_nobody_takes_are_not_piled_up(make_sandbox):
    sandbox = make_sandbox(items=1_000_000, batches=5)
    with sandbox.client(max_workers=4) as client:
        documents = client.iter_annotations()
        next(documents)
        time.sleep(0.5)
        assert sandbox.counts["storage"] <= 1 + 2 * 4 + 4
        assert sandbox.counts["work_items"] <= 4
        documents.close()


def test_c06_threads_may_share_a_client_and_a_folder(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, batches=2)
    ids = list(sandbox.work_item_ids())
    found = {}
    problems = []

    def do(name, work):
        try:
            found[name] = work()
        except CFPlatformError as error:
            problems.append(error)

    with sandbox.client(max_workers=8) as client:
        jobs = {
            "list": lambda: [item.id for item in client.get_work_items(page_size=7)],
            "stream": lambda: [item.id for item, _ in client.iter_annotations()],
            "one": lambda: client.download_project(destination=tmp_path).failed,
            "two": lambda: client.download_project(destination=tmp_path).failed,
            "three": lambda: client.download_project(destination=tmp_path / "other").failed,
        }
        threads = [threading.Thread(target=do, args=job) for job in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert problems == []
    assert found == {"list": ids, "stream": ids, "one": 0, "two": 0, "three": 0}
    assert len({path.name for path in tmp_path.glob("*/*.json")}) == 200
