from __future__ import annotations

import errno
import os
import pickle
import stat
import sys
import time

import pytest

from cfplatform import DestinationError, DownloadError, InvalidParameterError, UnsafePathError
from cfplatform.destination import local, locks

if sys.platform != "win32":
    import fcntl


def test_a_destination_is_made_with_its_state_folder(tmp_path):
    root = local.prepare_destination(tmp_path / "a" / "b")
    assert root == (tmp_path / "a" / "b").resolve()
    assert partial(root) == []


def test_a_destination_may_be_relative_to_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert local.prepare_destination("~/labels") == (tmp_path / "labels").resolve()


@pytest.mark.parametrize("destination", ["", "  ", "a\0b", b"bytes", None, 5, [], "~no-such-user-here/x"])
def test_what_is_no_folder_is_refused(tmp_path, monkeypatch, destination):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="destination"):
        local.prepare_destination(destination)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_destination(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InvalidParameterError, match="is a file"):
        local.prepare_destination(tmp_path / "file")
    with pytest.raises(DestinationError, match="cannot be written: Not a directory"):
        local.prepare_destination(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_no_destination():
    for destination in ("/proc/self", "/" + "x/" * 3000, "x" * 300):
        with pytest.raises(DestinationError, match="cannot be written") as caught:
            local.prepare_destination(destination)
        assert (caught.value.parameter, type(caught.value.errno)) == ("destination", int)


@pytest.mark.parametrize("link", [".cfplatform", ".cfplatform/partial"])
def test_a_link_in_place_of_the_state_folder_is_not_followed(tmp_path, link):
    outside = tmp_path / "outside"
    (outside / "partial").mkdir(parents=True)
    outside.chmod(0o755)
    root = tmp_path / "root"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    with pytest.raises(InvalidParameterError, match="is a link or a file instead of a folder"):
        local.prepare_destination(root)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert [entry.name for entry in outside.rglob("*")] == ["partial"]


@pytest.mark.parametrize("target", ["folder", "file", "missing"])
def test_a_link_in_place_of_a_batch_folder_is_not_followed(tmp_path, target):
    root = local.prepare_destination(tmp_path / "root")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (root / "batch").symlink_to(tmp_path / target)
    with pytest.raises(UnsafePathError, match="link or a file instead of a folder"):
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
    return sorted((root / ".cfplatform" / "partial").iterdir())


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
    with open(root / "final", "rb") as file:
        assert found.digest == local.digest(file)
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
    with (
        pytest.raises(DownloadError, match="Could not write 'final': Is a directory"),
        local.Destination(root).part() as part,
    ):
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
    refused = pytest.raises(DestinationError, match="was replaced by another" if replaced else "No such file")
    with refused, destination.part() as part:
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


@pytest.mark.skipif(sys.platform == "win32", reason="patches flock")
@pytest.mark.parametrize("has_locks", [True, False])
def test_what_nobody_holds_is_removed(tmp_path, monkeypatch, has_locks):
    if not has_locks:

        def flock(descriptor, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
    mine, lock = locks.create(tmp_path, ".mine-", ".part")
    folder, other = locks.create(tmp_path, ".mine-", ".part", is_folder=True)
    for name in (".mine-young.part", ".mine-old.part", "yours-old.part"):
        (tmp_path / name).write_bytes(b"")
        if "old" in name:
            os.utime(tmp_path / name, (time.time() - locks.STALE_AFTER - 60,) * 2)
    locks.remove_stale(tmp_path, ".mine-", ".part")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {mine.name, folder.name, "yours-old.part"} | (set() if has_locks else {".mine-young.part"})
    for descriptor in (lock, other):
        os.close(descriptor)
    locks.remove_stale(tmp_path, ".mine-", ".part")
    assert folder.exists() != has_locks


def test_removing_what_is_stale_needs_no_folder(tmp_path):
    locks.remove_stale(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def failing(monkeypatch, number, *, times):
    """Let so many renames fail."""
    replace, left = os.replace, [number] * times

    def refuse(*paths, **options):
        if left:
            raise OSError(left.pop(), os.strerror(number))
        return replace(*paths, **options)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
def test_what_the_destination_refuses_to_every_file_ends_the_run(root, monkeypatch, number):
    destination = local.Destination(root)
    failing(monkeypatch, number, times=2)
    with pytest.raises(DestinationError) as caught, destination.part() as part:
        part.commit("final")
    assert (caught.value.errno, isinstance(caught.value, OSError)) == (number, True)
    failing(monkeypatch, number, times=1)
    with pytest.raises(DownloadError, match="Could not write 'final'") as caught, destination.part() as part:
        part.commit("final")
    assert not isinstance(caught.value, DestinationError)
    assert partial(root) == []


def test_a_full_disk_ends_the_run_though_a_small_file_still_fits(root, monkeypatch):
    failing(monkeypatch, errno.ENOSPC, times=1)
    refused = pytest.raises(DestinationError, match="No space left on device. Finished items are kept; free some space")
    with refused, local.Destination(root).part() as part:
        part.commit("final")


def test_an_error_of_the_destination_crosses_processes(root):
    error = local.destination_error(OSError(errno.ESTALE, "Stale file handle"), "The destination")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - of this test
    assert (type(again), str(again), again.errno, again.strerror) == (
        DestinationError,
        str(error),
        errno.ESTALE,
        "Stale file handle",
    )
