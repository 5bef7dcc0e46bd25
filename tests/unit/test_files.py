from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
import time

import pytest

from cfplatform import DestinationError, InvalidParameterError, UnsafePathError
from cfplatform.destination import local


def test_a_destination_is_made_with_its_private_state_folder(tmp_path):
    root = local.prepare_destination(tmp_path / "a" / "b")
    assert root == (tmp_path / "a" / "b").resolve()
    assert stat.S_IMODE((root / ".cfplatform").stat().st_mode) == 0o700
    assert list(local.partial_folder(root).iterdir()) == []


def test_a_destination_may_be_relative_to_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert local.prepare_destination("~/labels") == (tmp_path / "labels").resolve()


@pytest.mark.parametrize(
    "destination", ["", "  ", "a\0b", b"bytes", None, 5, [], "~no-such-user-here/x", "x" * 300, "/" + "x/" * 3000]
)
def test_what_is_no_folder_is_refused(tmp_path, monkeypatch, destination):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="destination"):
        local.prepare_destination(destination)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_destination(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InvalidParameterError, match="is a file"):
        local.prepare_destination(tmp_path / "file")
    with pytest.raises(InvalidParameterError, match="cannot be written: Not a directory"):
        local.prepare_destination(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_no_destination():
    with pytest.raises(InvalidParameterError, match="cannot be written"):
        local.prepare_destination("/proc/self")


@pytest.mark.parametrize("link", [".cfplatform", ".cfplatform/partial"])
def test_a_link_in_place_of_the_state_folder_is_not_followed(tmp_path, link):
    outside = tmp_path / "outside"
    (outside / "partial").mkdir(parents=True)
    outside.chmod(0o755)
    root = tmp_path / "root"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    with pytest.raises(InvalidParameterError, match="is a link or a file where a folder belongs"):
        local.prepare_destination(root)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert [entry.name for entry in outside.rglob("*")] == ["partial"]


@pytest.mark.parametrize("target", ["folder", "file", "missing"])
def test_a_link_in_place_of_a_batch_folder_is_not_followed(tmp_path, target):
    root = local.prepare_destination(tmp_path / "root")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (root / "batch").symlink_to(tmp_path / target)
    with pytest.raises(UnsafePathError, match="link or a file where a folder belongs"):
        local.Destination(root).ensure_folder("batch")
    assert list((tmp_path / "folder").iterdir()) == []
    assert not (tmp_path / "missing").exists()


def test_a_batch_folder_is_made_once_and_kept(tmp_path):
    root = local.prepare_destination(tmp_path / "root")
    for _ in range(2):
        local.Destination(root).ensure_folder("batch", "assets")
    assert sorted(path.relative_to(root).as_posix() for path in root.glob("b*/**")) == ["batch", "batch/assets"]


@pytest.fixture
def root(tmp_path):
    return local.prepare_destination(tmp_path / "root")


def partial(root):
    return sorted(local.partial_folder(root).iterdir())


def test_a_part_file_appears_only_when_it_is_committed(root):
    with local.Destination(root).part() as part:
        part.write(b"abc")
        part.write(b"")
        part.write(b"def")
        assert not (root / "final").exists()
        found = part.commit("final")
    assert (root / "final").read_bytes() == b"abcdef"
    assert found.size == 6
    assert found.mtime_ns == (root / "final").stat().st_mtime_ns
    assert partial(root) == []


def test_a_part_file_follows_the_umask(root):
    before = os.umask(0o027)
    try:
        with local.Destination(root).part() as part:
            part.commit("final")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "final").stat().st_mode) == 0o640


def test_a_part_file_that_is_not_committed_goes(root):
    with local.Destination(root).part() as part:
        part.write(b"abc")
        assert len(partial(root)) == 1
    part.discard()
    assert partial(root) == []


def test_a_commit_that_fails_leaves_nothing_behind(root):
    (root / "final").mkdir()
    with pytest.raises(OSError, match="directory"), local.Destination(root).part() as part:
        part.commit("final")
    assert partial(root) == []
    assert (root / "final").is_dir()


def test_a_commit_replaces_a_link_and_not_what_it_points_to(tmp_path, root):
    (tmp_path / "outside").write_bytes(b"precious")
    (root / "final").symlink_to(tmp_path / "outside")
    with local.Destination(root).part() as part:
        part.write(b"new")
        part.commit("final")
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert not (root / "final").is_symlink()
    assert (root / "final").read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="needs links of POSIX")
@pytest.mark.parametrize("replaced", [False, True], ids=["moved", "replaced by a link"])
def test_a_destination_that_went_away_in_the_middle_gets_no_file(tmp_path, root, replaced):
    destination = local.Destination(root)
    (tmp_path / "outside").mkdir()
    with destination.part() as part:
        part.commit("first")
    with pytest.raises(OSError, match="No such file|symbolic links|Not a directory"), destination.part() as part:  # noqa: PT012
        root.rename(tmp_path / "moved")
        if replaced:
            root.symlink_to(tmp_path / "outside")
        part.commit("second")
    assert list((tmp_path / "outside").iterdir()) == []
    assert sorted(os.listdir(tmp_path / "moved")) == [".cfplatform", "first"]
    assert partial(tmp_path / "moved") == []


@pytest.mark.skipif(os.name != "posix", reason="needs links of POSIX")
def test_another_machine_may_reach_a_destination_by_a_link(tmp_path, root):
    sent = pickle.dumps(local.Destination(root))
    root.rename(tmp_path / "mounted")
    root.symlink_to(tmp_path / "mounted")
    with pickle.loads(sent).part() as part:  # noqa: S301
        part.commit("first")
    assert (tmp_path / "mounted" / "first").exists()


def test_part_files_stay_out_of_each_others_way(root):
    parts = [local.Destination(root).part() for _ in range(20)]
    assert len(partial(root)) == 20
    for part in parts:
        part.discard()
    assert partial(root) == []


def test_parts_of_dead_processes_and_old_ones_are_removed(root):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    mine = local.Destination(root).part()
    host = mine.path.name.split("-")[0]
    names = {f"{host}-{process.pid}-dead", "otherhost-1-young", "otherhost-1-old", f"{host}-x-odd", "unrelated"}
    for name in names:
        (local.partial_folder(root) / name).write_bytes(b"")
    long_ago = time.time() - local.STALE_AFTER - 60
    os.utime(local.partial_folder(root) / "otherhost-1-old", (long_ago, long_ago))
    local.remove_stale(local.partial_folder(root))
    kept = {path.name for path in partial(root)}
    assert kept == {mine.path.name, "otherhost-1-young", f"{host}-x-odd", "unrelated"}
    mine.discard()


def test_removing_stale_parts_needs_no_folder(tmp_path):
    local.remove_stale(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("number", "fatal"),
    [
        (errno.ENOSPC, True),
        (errno.EROFS, True),
        (errno.EMFILE, True),
        (errno.ENOENT, False),
        (errno.ENAMETOOLONG, False),
    ],
)
def test_a_full_disk_stops_everything_and_a_bad_name_does_not(number, fatal):
    error = local.destination_error(OSError(number, os.strerror(number)))
    assert isinstance(error, DestinationError) is fatal


def test_a_failure_of_the_disk_says_what_to_do():
    error = local.destination_error(OSError(errno.ENOSPC, "No space left on device", "/long/path/name.json"))
    assert type(error) is DestinationError
    assert "'name.json': No space left on device. What is finished is kept; free space" in str(error)
