"""Unfinished files: created, found and removed concurrently."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest

from cfplatform import UnsafePathError
from cfplatform.destination import local, locks
from cfplatform.transfer.resumable import FOLDER, Resumable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and flock")

TAG = '"tag"'


def note(part, total):
    return part._write_note(TAG, total)


@pytest.fixture
def destination(tmp_path):
    return local.Destination(local.prepare_destination(tmp_path / "labels"))


@pytest.fixture
def no_locks(monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def work(root, seed, results):
    random.seed(seed)
    problems = []
    destination = local.Destination(root)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        try:
            part = Resumable(destination, "export")
            if random.random() < 0.3:
                note(part, 100)
                part._write(b"x" * 10)
            (part.close if random.random() < 0.5 else part.discard)()
            path, lock = locks.create(root, "some-", ".part", is_folder=random.random() < 0.5)
            if not path.exists():
                problems.append(f"{path} was removed while it was locked")
            locks.remove_stale(root, "some-", ".part")
            if not path.exists():
                problems.append(f"{path} was removed though it was locked")
            os.close(lock)
        except Exception as error:
            problems.append(repr(error))
    results.put(problems)


def test_many_processes_make_and_remove_at_once(destination):
    forked = multiprocessing.get_context("fork")
    results = forked.Queue()
    processes = [forked.Process(target=work, args=(destination.root, seed, results)) for seed in range(8)]
    for process in processes:
        process.start()
    problems = [problem for _ in processes for problem in results.get(timeout=60)]
    for process in processes:
        process.join(60)
    assert problems == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch, is_folder):
    real, removed = os.open, []

    def opened(path, flags, *args, **options):
        if not removed and not flags & os.O_CREAT:
            removed.append(path)
            os.rmdir(path) if is_folder else os.unlink(path)
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", opened)
    path, lock = locks.create(tmp_path, "some-", is_folder=is_folder)
    monkeypatch.undo()
    assert path not in removed
    assert locks.is_at(lock, path)
    os.close(lock)


@pytest.mark.parametrize("what", ["part", "state"])
def test_a_part_is_begun_again_if_somebody_removes_its_folder(destination, monkeypatch, what):
    real, done = os.mkdir, []

    def made(path, *args, **options):
        real(path, *args, **options)
        if "export" in os.fspath(path) and not done:
            done.append(path)
            os.rmdir(path, **options)
            if what == "state":
                os.rmdir(destination.root / ".cfplatform" / FOLDER)

    monkeypatch.setattr(os, "mkdir", made)
    part = Resumable(destination, "export")
    assert done
    assert part.path.is_file()
    part.discard()


def left_behind(destination, size=1000):
    part = Resumable(destination, "export")
    note(part, 2 * size)
    part._write(b"a" * size)
    part.close()
    (path,) = (destination.root / ".cfplatform" / FOLDER).glob("*/data")
    old = time.time() - 3600
    os.utime(path, (old, old))
    return path


def test_a_part_without_locks_is_continued_with_its_note(destination, no_locks):
    left_behind(destination)
    part = Resumable(destination, "export")
    assert (part.position(), part.total) == (1000, 2000)
    part.discard()
    assert list((destination.root / ".cfplatform" / FOLDER).iterdir()) == []


def test_a_part_whose_owner_comes_back_while_it_is_copied_is_fetched_again(destination, no_locks, monkeypatch):
    path = left_behind(destination)
    real = Resumable._begin

    def begun(self):
        # Meanwhile its owner begins with another version of the object.
        path.with_name("note.json").write_text('{"etag": "\\"other\\"", "total": 2000, "type": ""}')
        return real(self)

    monkeypatch.setattr(Resumable, "_begin", begun)
    part = Resumable(destination, "export")
    assert part.position() == 0
    part.discard()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors as Linux does")
def test_a_part_that_cannot_be_copied_leaves_nothing_open(destination, no_locks, monkeypatch):
    left_behind(destination)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = descriptors()
    monkeypatch.setattr("shutil.copyfileobj", full)
    for _ in range(5):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            Resumable(destination, "export")
    assert descriptors() == before
    # What could not be used is still there, and nothing beside it.
    assert len(list((destination.root / ".cfplatform" / FOLDER).iterdir())) == 1


def test_parts_of_others_that_are_old_are_removed_without_a_copy(destination, no_locks, monkeypatch):
    path = left_behind(destination)
    old = time.time() - 8 * 86400
    os.utime(path, (old, old))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    Resumable(destination, "something else").discard()
    assert not path.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors as Linux does")
def test_errors_that_somebody_keeps_hold_no_folder_open(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    errors = []
    before = descriptors()
    for name in ("link", "missing"):
        try:
            local.Folder(Path(tmp_path), name)
        except (UnsafePathError, FileNotFoundError) as error:
            errors.append(error)
    assert len(errors) == 2
    assert descriptors() == before
