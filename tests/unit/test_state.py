from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

from cfplatform import DestinationBusyError, DestinationError, DownloadError, naming
from cfplatform.destination import local, state
from cfplatform.destination.reading import read_results
from cfplatform.destination.state import FinishedItem, ResultRow, State
from tests.tools import outcome

ITEM = FinishedItem("batch/item.json", "2026-07-27T20:36:59Z", True, '"etag"', 12, 1_753_648_619_123_456_789)


#: The name that each batch had when it was asked for last, by project and id.
_names: dict[tuple[str, str], str] = {}


def folder(opened, project_id, batch_id, name):
    """Return the folder of a batch, where every batch has the name that was asked for last."""
    _names[project_id, batch_id] = name
    return opened.folder(project_id, batch_id, name, lambda other: _names.get((project_id, other)))


@pytest.fixture(autouse=True)
def _no_names():
    _names.clear()


@pytest.fixture
def root(tmp_path):
    return local.prepare_destination(tmp_path / "labels")


@pytest.fixture
def opened(root):
    opened = State.open(root)
    yield opened
    opened.close()


def row(number, outcome="downloaded"):
    return ResultRow(f"item-{number}", "1001", f"b/{number}.json", outcome, number, None)


def finish(opened, *values):
    opened.remember(*values)


def python(code, root):
    return subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=30)


# --- Folders


@pytest.mark.parametrize(
    "names",
    [("A", "a"), ("é", "e\u0301"), ("a/b", "a_b"), (" x", "x "), ("", "unnamed~" + naming.digest("")), ("x", "x")],
)
def test_batches_whose_names_meet_get_folders_of_their_own(opened, names):
    folders = [folder(opened, "p", str(number), name) for number, name in enumerate(names)]
    assert len({naming.collision_key(folder) for folder in folders}) == len(names)
    assert [naming.safe_name(folder) for folder in folders] == folders


def test_a_batch_keeps_its_folder_over_runs_and_whoever_asks_first(root):
    for order in ((1, 2), (2, 1), (2,), (1,)):
        opened = State.open(root)
        names = {1: "Batch", 2: "batch"}
        found = {number: folder(opened, "p", str(number), names[number]) for number in order}
        assert all(found[number] == {1: "Batch", 2: "batch~2"}[number] for number in order)
        opened.close()


def test_a_renamed_batch_moves_and_its_old_name_becomes_free(opened):
    assert folder(opened, "p", "1", "old") == "old"
    assert folder(opened, "p", "1", "new") == "new"
    assert folder(opened, "p", "2", "old") == "old"


def test_a_name_belongs_to_the_batch_that_has_it_now(opened):
    assert folder(opened, "p", "1", "Train") == "Train"
    assert folder(opened, "p", "2", "train") == "train~2"
    # Gone, and another of the same name made.
    del _names["p", "1"]
    assert folder(opened, "p", "3", "Train") == "Train"
    # Swapped.
    assert folder(opened, "p", "4", "a") == "a"
    assert folder(opened, "p", "5", "b") == "b"
    _names.update({("p", "4"): "b", ("p", "5"): "a"})
    assert folder(opened, "p", "4", "b") == "b"
    assert folder(opened, "p", "5", "a") == "a"


def test_projects_do_not_share_folders(opened):
    assert folder(opened, "p", "", "Default") == "Default"
    assert len({folder(opened, project, "", "Default") for project in "pqrstu"}) == 6
    assert len({folder(opened, project, "1002", "Night") for project in "pqrstu"}) == 6


def test_a_folder_written_into_the_state_by_somebody_else_is_not_used(root, opened):
    assert folder(opened, "p", "1", "name") == "name"
    with sqlite3.connect(state.state_path(root)) as db:
        db.execute("UPDATE folders SET folder = '../../outside'")
    db.close()
    assert folder(opened, "p", "1", "name") == "name"


def test_a_name_that_is_taken_three_times_over_is_an_error(opened):
    last = f"x~{naming.digest('p/3')}"
    for number, name in enumerate(["x", "x~3", last], start=4):
        assert folder(opened, "p", str(number), name) == name
    with pytest.raises(DownloadError, match="No folder name is available for the batch 'X' with ID 3"):
        folder(opened, "p", "3", "X")


def test_threads_that_ask_at_once_get_different_folders(opened):
    names = [f"{'ABCDEFGH'[number % 8]}{number // 16}" for number in range(160)]
    found: dict[int, str] = {}
    barrier = threading.Barrier(8)

    def ask(first):
        barrier.wait()
        for number in range(first, 160, 8):
            # Every name is asked for twice, in upper and in lower case, by different threads.
            name = names[number // 2].lower() if number % 2 else names[number // 2]
            found[number] = folder(opened, "p", str(number), name)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert len({naming.collision_key(folder) for folder in found.values()}) == 160


# --- Items and results


def test_a_finished_item_is_remembered_over_runs(root):
    opened = State.open(root)
    assert opened.items("p", ["item"]) == {}
    finish(opened, "p", "item", "key", ITEM)
    opened.close()
    opened = State.open(root)
    assert opened.items("p", ["item"])["item"] == ITEM
    assert opened.owners(["key", "other"]) == {"key": ("p", "item")}
    assert opened.items("q", ["item"]) == {}
    finish(opened, "p", "item", "moved", ITEM._replace(path="new/item.json", etag=None))
    assert opened.items("p", ["item"])["item"].path == "new/item.json"
    assert opened.owners(["key"]) == {}
    opened.close()


def test_results_are_readable_while_it_is_open_and_after(root):
    opened = State.open(root)
    run = opened.begin_run()
    opened.add_results(run, 0, [row(number) for number in range(700)])
    opened.add_results(run, 700, [row(700, "failed")])
    opened.add_results(run, 701, [])
    assert len(list(read_results(root, run))) == 701
    opened.close()
    assert [found.size for found in read_results(root, run)] == list(range(701))
    assert list(read_results(root, run, "failed")) == [row(700, "failed")]
    assert list(read_results(root, run + 1)) == []


def test_only_the_last_runs_are_kept(root, opened):
    runs = []
    for _ in range(5):
        runs.append(opened.begin_run())
        opened.add_results(runs[-1], 0, [row(1)])
        opened.end_run(runs[-1])
    assert len(set(runs)) == 5
    assert [len(list(read_results(root, run))) for run in runs] == [0, 0, 1, 1, 1]


def test_results_may_have_texts_that_utf_8_cannot_spell(opened):
    run = opened.begin_run()
    odd = row(1)._replace(item_id="half \ud83d of a pair", path="b/\ud83d.json")
    opened.add_results(run, 0, [row(0), odd, row(2)])
    found = list(read_results(opened.root, run))
    assert [each.item_id for each in found] == ["item-0", "half \\ud83d of a pair", "item-2"]
    assert found[1].path == "b/\\ud83d.json"


def test_results_that_cannot_be_written_leave_nothing_half_done(opened):
    run = opened.begin_run()
    opened.add_results(run, 0, [row(0)])
    with pytest.raises(DownloadError, match="Could not use the state file"):
        opened.add_results(run, 5, [row(5), row(6), ResultRow("x", None, None, "failed", object(), None)])
    with pytest.raises(DownloadError, match="Could not use the state file"):
        opened.add_results(run, 0, [row(0)])
    opened.add_results(run, 1, [row(1)])
    assert [found.item_id for found in read_results(opened.root, run)] == ["item-0", "item-1"]


def test_results_of_a_destination_that_is_gone_are_an_error(tmp_path):
    with pytest.raises(DownloadError, match="Could not read the results of this run"):
        list(read_results(tmp_path.resolve() / "gone", 1))


def test_a_folder_with_odd_characters_can_be_read(tmp_path):
    root = local.prepare_destination(tmp_path / "a?b#c%20d é&mode=rw")
    opened = State.open(root)
    run = opened.begin_run()
    opened.add_results(run, 0, [row(1)])
    opened.close()
    assert list(read_results(root, run)) == [row(1)]


def test_what_a_late_worker_reports_after_the_end_is_dropped(root):
    opened = State.open(root)
    run = opened.begin_run()
    opened.close()
    finish(opened, "p", "item", "key", ITEM)
    opened.add_results(run, 0, [row(1)])
    assert opened.items("p", ["item"]) == {}


# --- Sharing and locking


def test_one_process_shares_it(root):
    first, second = State.open(root), State.open(root)
    assert first is second
    first.close()
    finish(second, "p", "item", "key", ITEM)
    assert second.items("p", ["item"])["item"] == ITEM
    second.close()
    third = State.open(root)
    assert third is not first
    third.close()


def test_a_second_process_is_told_who_is_busy(root, opened):
    code = (
        "import sys, pathlib\n"
        "from cfplatform import DestinationBusyError\n"
        "from cfplatform.destination.state import State\n"
        "try:\n    State.open(pathlib.Path(sys.argv[1]))\n"
        "except DestinationBusyError as error:\n    print(error)\n"
    )
    reported = python(code, root)
    assert f"Process {os.getpid()} is downloading to" in reported.stdout, reported.stderr
    finish(opened, "p", "item", "key", ITEM)
    assert opened.items("p", ["item"])["item"] == ITEM


def test_the_lock_of_a_killed_process_is_lifted(root):
    code = (
        "import sys, pathlib, time\n"
        "from cfplatform.destination.state import State\n"
        "State.open(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\ntime.sleep(30)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DestinationBusyError, match=f"Process {holder.pid} is downloading"):
            State.open(root)
        holder.kill()
        holder.wait()
    State.open(root).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_a_process_of_its_own(root, opened):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            State.open(root)
        except DestinationBusyError:
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert State.open(root) is opened
    opened.close()


def test_destinations_do_not_disturb_each_other(tmp_path, opened):
    other = State.open(local.prepare_destination(tmp_path / "other"))
    assert other is not opened
    other.close()


def test_a_row_is_written_down_when_it_is_remembered(root):
    opened = State.open(root)
    opened.remember("p", "item-1", "key-1", ITEM)
    other = sqlite3.connect(state.state_path(root))
    assert other.execute("SELECT count(*) FROM items").fetchone() == (1,)
    other.close()
    opened.close()


# --- Damage


def filled(root, rows=2000):
    opened = State.open(root)
    for number in range(rows):
        finish(opened, "p", f"item-{number}", f"key-{number}", ITEM)
    opened.close()
    return state.state_path(root)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 4000])
def test_garbage_is_put_aside_and_the_state_built_anew(root, content):
    path = filled(root, 5)
    path.write_bytes(content)
    opened = State.open(root)
    assert opened.items("p", ["item-1"]) == {}
    finish(opened, "p", "item-1", "key", ITEM)
    assert opened.items("p", ["item-1"])["item-1"] == ITEM
    opened.close()
    assert path.with_name("state.sqlite3.damaged").read_bytes() == content


@pytest.mark.parametrize("keep", [1, 50, 99, 100, 512, 4096, 4097, 8192, 0.5, 0.99, -1])
def test_a_cut_state_is_put_aside_and_built_anew(root, keep):
    path = filled(root)
    size = path.stat().st_size
    os.truncate(path, size + keep if keep < 0 else int(keep * size) if isinstance(keep, float) else keep)
    opened = State.open(root)
    assert opened.items("p", ["item-1999"]) == {}
    finish(opened, "p", "item-1999", "key", ITEM)
    assert opened.items("p", ["item-1999"])["item-1999"] == ITEM
    opened.close()


@pytest.mark.parametrize("content", [b"", b"x"])
def test_an_empty_file_is_a_new_state(root, content):
    path = filled(root, 1)
    path.write_bytes(content)
    opened = State.open(root)
    assert opened.items("p", ["item-0"]) == {}
    opened.close()


@pytest.mark.parametrize("damage", ["PRAGMA user_version = 999", "DROP TABLE items; PRAGMA user_version = 0"])
def test_a_state_of_another_version_is_put_aside(root, damage):
    path = filled(root, 1)
    with sqlite3.connect(path) as db:
        db.executescript(damage)
    db.close()
    opened = State.open(root)
    assert opened.items("p", ["item-0"]) == {}
    opened.close()
    assert path.with_name("state.sqlite3.damaged").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit that the system enforces")
def test_a_full_disk_does_not_cost_the_state(root):
    path = filled(root, 5)
    before = path.read_bytes()
    code = (
        "import sys, pathlib, resource\n"
        "from cfplatform import DownloadError\n"
        "from cfplatform.destination.state import State\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    State.open(pathlib.Path(sys.argv[1]))\n"
        "except DownloadError as error:\n    print(error)\n"
    )
    reported = python(code, root)
    assert "Could not open the state file" in reported.stdout, reported.stderr
    assert path.read_bytes() == before
    opened = State.open(root)
    assert opened.items("p", ["item-4"])["item-4"] == ITEM
    opened.close()


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_never_raise_anything_but_our_own_error(root, seed):
    path = filled(root, 200)
    content = bytearray(path.read_bytes())
    dice = random.Random(seed)
    for _ in range(200):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    opened, error = outcome(DownloadError, State.open, root)
    if opened is None:
        assert "state" in str(error)
        return
    calls = [(opened.items, "p", [f"item-{number}"]) for number in range(200)]
    calls += [(folder, opened, "p", "1", "name"), (finish, opened, "p", "new", "key", ITEM), (opened.begin_run,)]
    for call in calls:
        _, error = outcome(DownloadError, *call)
        assert error is None or "Remove it and run it again" in str(error)
    opened.close()


@pytest.mark.parametrize("name", ["lock", "state.sqlite3"])
def test_a_link_in_place_of_a_state_file_is_not_written_through(tmp_path, root, name):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (root / ".cfplatform" / name).symlink_to(precious)
    with pytest.raises(DownloadError, match="cannot be written"):
        State.open(root)
    assert precious.read_bytes() == b"precious"


def test_a_state_that_cannot_be_made_is_our_own_error(root):
    (root / ".cfplatform" / "state.sqlite3").mkdir()
    with pytest.raises(DownloadError):
        State.open(root)
    # The lock was given back.
    (root / ".cfplatform" / "state.sqlite3").rmdir()
    State.open(root).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_child_keeps_what_it_has_open(opened):
    child = os.fork()
    if not child:
        # Gets the number that the lock had.
        mine = os.open(os.devnull, os.O_RDONLY)
        grandchild = os.fork()
        if not grandchild:
            try:
                os.fstat(mine)
            except OSError:
                os._exit(7)
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_state_that_cannot_be_written_again_is_closed_all_the_same(root, monkeypatch):
    opened = State.open(root)
    for number in range(2000):
        name = f"a/item-{number}"
        opened.remember("project", name, name, FinishedItem(f"{name}.json", "r", True, None, 1, 1))
    shutil.rmtree(root / ".cfplatform")
    connect = state._connect

    def small(path):
        db = connect(path)
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(state, "_connect", small)
    opened.close()
    monkeypatch.undo()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened._lock_file)


def test_a_state_for_which_the_disk_is_full_says_so_as_the_system_does(opened):
    opened._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(DestinationError, match="full") as caught:
        opened.remember("project", "item", "a/item", FinishedItem("a/item.json", "r" * 500_000, True, None, 1, 1))
    assert caught.value.errno == errno.ENOSPC
