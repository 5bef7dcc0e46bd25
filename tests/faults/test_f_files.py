"""Group F: names, links, full and read-only disks, modes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import sys

import pytest

from cfplatform import DestinationError, DownloadError, InvalidParameterError, UnsafePathError
from tests.faults.tools import parts, run, tree, wait_until
from tests.tools import folded, outcome

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, modes and limits of POSIX")


def folders(root):
    return sorted(path.name for path in root.iterdir() if path.name != ".cfplatform")


def download(make_sandbox, root, names):
    """Download a project with these batch names, two items each, and return the folders that it made."""
    sandbox = make_sandbox(items=2 * len(names), batches=len(names), batch_names=names)
    with sandbox.client() as client:
        client.download_project(destination=root).raise_for_failures()
    assert len(tree(root)) == 2 * len(names)
    return folders(root)


def download_ids(sandbox, client, root, ids):
    """Download items with these ids, which all have the document of the first item of the sandbox."""
    place = f"s3://bucket/spaces/{sandbox.space_id}/coco_output/{next(sandbox.work_item_ids())}.json"
    annotation = json.dumps({"id": "a", "metadata": {"coco_results_url": place}}).encode()
    sandbox.replace_next(annotation, times=None, path="*/annotations")
    listing = json.dumps({"items": [{"id": each, "batchId": 1001} for each in ids], "meta": {}})
    sandbox.replace_next(listing.encode(), path="*/workItems")
    return client.download_project(destination=root)


HOSTILE = ["..", ".", "/etc/x", "C:\\x", "\\\\host\\s", "a/../../b", "", "   ", "....", "../..", "~", "~root"]
CONTROL = ["a\0b", "a\nb", "a\tb", "\x1b[31mred", "\u202egnp.exe", "-rf", "--help", "\u200b", "\x7f"]
DEVICES = ["CON", "nul.json", "a.", "a ", "COM1", "aux", "LPT9.txt"]


def test_f01_hostile_batch_names_stay_inside(make_sandbox, tmp_path):
    root = tmp_path / "deep" / "inside"
    found = download(make_sandbox, root, HOSTILE)
    assert len(found) == len(HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["inside"]


def test_f01_hostile_item_ids_stay_inside(sandbox, client, tmp_path):
    root = tmp_path / "deep" / "inside"
    ids = ["../../evil", "/etc/evil", "C:\\evil", "..\\evil", "evil/../../evil", "~evil", "CON"]
    summary = download_ids(sandbox, client, root, ids)
    assert (summary.successful, summary.failed) == (len(ids), 0)
    assert [path.name for path in tmp_path.rglob("*evil*") if root not in path.parents] == []
    written = {result.item_id: result.path for result in summary.results}
    assert set(written) == set(ids)
    assert len({path.parent for path in written.values()}) == 1
    assert all(path.parent.parent == root for path in written.values())
    again = download_ids(sandbox, client, root, ids)
    assert {result.item_id: result.path for result in again.results} == written


@pytest.mark.parametrize("bad", [".", "..", " ", "a\nb"])
def test_f01_an_id_that_would_change_the_request_is_refused_alone(sandbox, client, tmp_path, bad):
    summary = download_ids(sandbox, client, tmp_path, [bad, "good"])
    assert (summary.successful, summary.failed) == (1, 1)
    assert isinstance(summary.failures[0].error, InvalidParameterError)
    assert [r.path for r in sandbox.requests if r.route == "annotations"] == [
        f"/api/v1/projects/{sandbox.project_id}/workItems/good/annotations"
    ]


def test_f02_control_characters_become_names_that_a_terminal_can_show(make_sandbox, tmp_path):
    found = download(make_sandbox, tmp_path, CONTROL)
    assert len(found) == len(CONTROL)
    assert all(name.isprintable() and name[0] not in "-~." for name in found)


def test_f02_half_a_character_is_a_name_too(sandbox, client, tmp_path):
    batches = json.dumps({"items": [{"id": 1001, "name": "a\ud800"}, {"id": 1002, "name": "a\ud801"}], "meta": {}})
    sandbox.replace_next(batches.encode(), path="*/batches")
    client.download_project(destination=tmp_path).raise_for_failures()
    assert len(folders(tmp_path)) == 2
    assert all(name.isprintable() for name in folders(tmp_path))


OLD_LOCALE = """
import sys
from cfplatform import Client

with Client() as client:
    client.download_project(destination=sys.argv[1]).raise_for_failures()
print(sys.getfilesystemencoding())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only here the locale decides on names of files")
def test_f02_what_the_locale_cannot_spell_is_escaped(sandbox, tmp_path, monkeypatch):
    batches = json.dumps({"items": [{"id": 1001, "name": "Größe"}, {"id": 1002, "name": "Grüße"}], "meta": {}})
    sandbox.replace_next(batches.encode(), path="*/batches")
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert run(sandbox, OLD_LOCALE, tmp_path) == (0, "ascii\n", "")
    assert sorted(name.rpartition("~")[0] for name in folders(tmp_path)) == ["Gr__e", "Gr__e"]


def test_f03_names_of_devices_are_escaped_on_every_system(make_sandbox, tmp_path):
    found = download(make_sandbox, tmp_path, DEVICES)
    assert len({name.casefold() for name in found}) == len(DEVICES)
    assert not {name.split(".")[0].rstrip().upper() for name in found} & {"CON", "NUL", "AUX", "COM1", "LPT9"}
    assert not any(name.endswith((".", " ")) for name in found)


def test_f04_long_names_are_cut_at_a_character_and_stay_apart(make_sandbox, tmp_path):
    found = download(make_sandbox, tmp_path, ["x" * 255, "x" * 256, "é" * 128, "é" * 127 + "e", "\U0001f600" * 70])
    assert len(found) == 5
    assert all(len(os.fsencode(name)) <= 255 and "\ufffd" not in name for name in found)


def test_f04_long_ids_fit_with_their_extension(sandbox, client, tmp_path):
    ids = ["i" * 250, "i" * 255, "i" * 400, "é" * 128, "é" * 129]
    assert download_ids(sandbox, client, tmp_path, ids).successful == 5
    names = [path.rsplit("/", 1)[1] for path in tree(tmp_path)]
    assert len(set(names)) == 5
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".json") for name in names)


def test_f05_names_that_meet_are_kept_apart_by_id(make_sandbox, tmp_path):
    names = ["A", "a", "Café", "Cafe\u0301", "a/b", "a_b", "A:B", "STRASSE", "Straße"]
    found = download(make_sandbox, tmp_path, names)
    assert len({folded(name) for name in found}) == len(names)


def test_f05_ids_that_meet_are_kept_apart_also_in_later_runs(sandbox, client, tmp_path):
    ids = ["Item", "item", "a/b", "a_b", "é", "e\u0301"]
    for order in (ids, ids[::-1]):
        summary = download_ids(sandbox, client, tmp_path, order)
        assert summary.failed == 0
        assert len({folded(str(result.path)) for result in summary.results}) == len(ids)
    assert len(tree(tmp_path)) == len(ids)


@posix
def test_f06_a_symlink_in_place_of_a_batch_folder_is_not_followed(sandbox, client, tmp_path):
    root, outside = tmp_path / "inside", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / client.get_batch(1001).name).symlink_to("../outside")
    summary = client.download_project(destination=root)
    assert (summary.successful, summary.failed) == (10, 10)
    assert all(isinstance(result.error, UnsafePathError) for result in summary.failures)
    assert list(outside.iterdir()) == []
    assert parts(root) == []


@posix
def test_f06_a_symlink_put_there_between_check_and_write_is_not_followed(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=100, batches=1)
    root, outside = tmp_path / "inside", tmp_path / "outside"
    outside.mkdir()
    with sandbox.client(max_workers=2) as client:
        results = client.iter_downloads(client.get_work_items(), root)
        folder = next(results).path.parent
        folder.rename(root / "moved")
        folder.symlink_to(outside)
        found = list(results)
    assert sum(isinstance(result.error, UnsafePathError) for result in found) >= 90
    assert list(outside.iterdir()) == []
    assert parts(root) == []


@posix
def test_f06_a_symlink_under_the_final_name_is_replaced(sandbox, client, tmp_path):
    root, precious = tmp_path / "inside", tmp_path / "precious"
    precious.write_bytes(b"precious")
    paths = [result.path for result in client.iter_downloads(client.get_work_items(), root)]
    before = tree(root)
    for path in paths[:3]:
        path.unlink()
        path.symlink_to(precious)
    paths[3].unlink()
    paths[3].symlink_to(tmp_path / "nowhere")
    assert client.download_project(destination=root).successful == 4
    assert precious.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "precious"]
    assert not any(path.is_symlink() for path in paths)
    assert tree(root) == before


@posix
@pytest.mark.parametrize("link", [".cfplatform", ".cfplatform/partial"])
def test_f06_a_symlink_in_place_of_the_state_folder_is_refused(sandbox, client, tmp_path, link):
    root, outside = tmp_path / "inside", tmp_path / "outside"
    (root / link).parent.mkdir(parents=True)
    outside.mkdir(mode=0o755)
    (root / link).symlink_to(outside)
    with pytest.raises(InvalidParameterError, match="link"):
        client.download_project(destination=root)
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert sandbox.requests == []


@posix
def test_f06_the_state_folder_swapped_for_a_link_in_the_middle_is_not_followed(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=100, batches=1)
    root, outside = tmp_path / "inside", tmp_path / "outside"
    (outside / "partial").mkdir(parents=True)
    with sandbox.client(max_workers=2) as client:
        results = client.iter_downloads(client.get_work_items(), root)
        next(results)
        (root / ".cfplatform").rename(tmp_path / "moved")
        (root / ".cfplatform").symlink_to(outside)
        found = [result.outcome for result in results]
    # The folder that the run began with is held open, so it is that one that is gone on with.
    assert found == ["downloaded"] * 99
    assert len(list(root.glob("*/*.json"))) == 100
    assert os.listdir(tmp_path / "moved" / "partial") == []
    assert os.listdir(outside / "partial") == []
    assert os.listdir(outside) == ["partial"]


@posix
@pytest.mark.parametrize(
    "name", ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm", "state.sqlite3-journal", "lock"]
)
def test_f06_a_symlink_in_place_of_a_state_file_is_not_written_through(sandbox, client, tmp_path, name):
    root, precious = tmp_path / "inside", tmp_path / "precious"
    precious.write_bytes(b"precious")
    (root / ".cfplatform").mkdir(parents=True)
    (root / ".cfplatform" / name).symlink_to(precious)
    _, error = outcome(DownloadError, lambda: client.download_project(destination=root).raise_for_failures())
    # The link is removed or refused; which of both is up to SQLite.
    assert error is not None or not (root / ".cfplatform" / name).is_symlink()
    assert precious.read_bytes() == b"precious"


@posix
def test_f06_a_file_that_moved_behind_a_link_is_not_removed(sandbox, client, tmp_path):
    root, outside = tmp_path / "inside", tmp_path / "outside"
    client.download_project(destination=root).raise_for_failures()
    old = root / client.get_batch(1001).name
    old.rename(outside)
    old.symlink_to(outside)
    before = tree(outside)
    sandbox.rename_batch(1001, "New name")
    assert client.download_project(destination=root).successful == 10
    assert tree(outside) == before


def test_f07_a_disk_that_fills_up_stops_the_run_with_one_error(make_sandbox, disk):
    place, remount = disk
    sandbox = make_sandbox(items=600, batches=2)
    root = place / "labels"
    with sandbox.client(max_workers=4) as client:
        with pytest.raises(DownloadError, match=r"(?i)[\d,]+ bytes are free") as caught:
            client.download_project(destination=root)
        assert "run it again" in str(caught.value)
        assert sandbox.counts["annotations"] < 600
        kept = tree(root)
        assert 0 < len(kept) < 600
        for content in kept.values():
            assert json.loads(content)["info"]["asset_url"]
        assert parts(root) == []
        assert remount("size=16m").returncode == 0
        sandbox.clear_requests()
        summary = client.download_project(destination=root)
    assert (summary.total_items, summary.failed) == (600, 0)
    assert sandbox.counts["storage"] <= 600 - len(kept) + 4
    assert len(tree(root)) == 600


def test_f07_a_disk_that_is_full_from_the_start_is_one_error(sandbox, client, disk):
    place, _ = disk
    with open(place / "ballast", "wb", buffering=0) as ballast:
        assert os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(place).free) is None
    with pytest.raises((DownloadError, InvalidParameterError), match="space|full"):
        client.download_project(destination=place / "labels")
    assert sandbox.counts["storage"] == 0


def test_f08_a_read_only_disk_is_one_error_before_any_request(sandbox, client, disk):
    place, remount = disk
    client.download_project(destination=place / "old").raise_for_failures()
    assert remount("ro").returncode == 0
    sandbox.clear_requests()
    for name in ("old", "new"):
        with pytest.raises(DestinationError, match="cannot be written: Read-only file system") as caught:
            client.download_project(destination=place / name)
        assert caught.value.errno == errno.EROFS
    assert sandbox.requests == []
    assert len(tree(place / "old")) == 20


OUT_OF_FILES = """
import resource, sys
import cfplatform
limit = int(sys.argv[2])
with cfplatform.Client(max_workers=32, retries=0) as client:
    items = list(client.get_work_items())
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        print("summary", client.download_work_items(items, sys.argv[1]).failed)
    except cfplatform.CFPlatformError as error:
        print(type(error).__name__, error)
"""


@posix
@pytest.mark.parametrize("limit", [20, 40])
def test_f08_running_out_of_files_is_one_error_and_not_one_for_each_item(make_sandbox, tmp_path, limit):
    # With latency, so that all workers are used.
    sandbox = make_sandbox(items=300, batches=2, latency=0.15)
    code, out, err = run(sandbox, OUT_OF_FILES, tmp_path / "out", limit)
    sandbox.latency = 0
    assert (code, err) == (0, "")
    assert "Too many open files" in out
    assert not out.startswith("summary")
    for content in tree(tmp_path / "out").values():
        json.loads(content)
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path / "out")
    assert (summary.total_items, summary.failed) == (300, 0)
    assert parts(tmp_path / "out") == []


def test_f09_a_file_that_was_cut_edited_or_removed_is_fetched_again(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path).raise_for_failures()
    before = tree(tmp_path)
    cut, edited, same_size, gone = (tmp_path / name for name in list(before)[:4])
    cut.write_bytes(cut.read_bytes()[:100])
    edited.write_bytes(edited.read_bytes() + b" ")
    same_size.write_bytes(b"x" * same_size.stat().st_size)
    gone.unlink()
    sandbox.clear_requests()
    assert client.download_project(destination=tmp_path).successful == 4
    assert sandbox.counts["storage"] == 4
    assert tree(tmp_path) == before


@posix
def open_files():
    """Descriptors of this process that are no sockets: those belong to connections kept for later, here and in the
    sandbox.
    """
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if not name.startswith("socket:")]


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_f08_no_descriptor_is_left_open(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path / "first")
    before = open_files()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / client.get_batch(1001).name).symlink_to(tmp_path)
    for name in ("a", "b", "c"):
        client.download_project(destination=tmp_path / name)
    # Threads of this process that belong to nobody here may have one open for a moment.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: len(open_files()) <= len(before), 5)
    now = open_files()
    assert len(now) == len(before), set(now) - set(before)
