"""Unusual destinations: shares, volumes, group folders, copies and backups, and folders that disappear."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from cfplatform import DestinationError, InvalidParameterError, coco, iter_downloaded
from cfplatform.report import write_report

STATE = ".cfplatform"
#: A progress reporter that calls a function once after a number of items.
ONCE = 60

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what only POSIX systems have")


def root_only(test):
    return pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become others")(
        test
    )


def counts(summary):
    return summary.successful, summary.skipped, summary.failed


def tree(folder: Path):
    """Return every visible file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and STATE not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def everything(folder: Path):
    """Return the entries of a folder with sizes, modes and times."""
    return sorted(
        (str(path), (found := path.lstat()).st_size, found.st_mode, found.st_mtime_ns) for path in folder.rglob("*")
    )


def at(count, action):
    """Return a progress function that calls another one once, after a number of items."""

    def progress(done, total):
        if done == count:
            action()

    return progress


def removed(folder):
    """Remove a folder that is being written to."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


# --- Mounts that lack something --------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_mount_without_locks_is_said_once_and_used(client, tmp_path, monkeypatch, caplog, code):
    def flock(descriptor, operation):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert counts(client.download_project(destination=tmp_path)) == (20, 0, 0)
    assert counts(client.download_project(destination=tmp_path)) == (0, 20, 0)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert str(tmp_path) in warned[0]
    assert os.strerror(getattr(errno, code)) in warned[0]


def test_a_mount_without_modes_is_used(client, tmp_path, monkeypatch):
    def chmod(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, chmod, raising=False)
    assert counts(client.download_project(destination=tmp_path)) == (20, 0, 0)


SHIM = r"""
#define _GNU_SOURCE
#include <sys/mman.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int is_shared_memory(int fd) {
    char link[64], name[4096]; ssize_t n;
    if (fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, name, sizeof name - 1);
    return n > 4 && memcmp(name + n - 4, "-shm", 4) == 0;
}
void *mmap(void *a, size_t l, int p, int f, int fd, off_t o) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "mmap");
    if ((f & MAP_SHARED) && is_shared_memory(fd)) { errno = ENODEV; return MAP_FAILED; }
    return real(a, l, p, f, fd, o);
}
void *mmap64(void *a, size_t l, int p, int f, int fd, off_t o) { return mmap(a, l, p, f, fd, o); }
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="needs Linux and gcc")
def test_a_mount_without_shared_memory_maps_is_used(sandbox, client, tmp_path):
    (tmp_path / "shim.c").write_text(SHIM)
    shim, labels = tmp_path / "shim.so", tmp_path / "labels"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    # Made where such maps work, so that the file says "write-ahead log".
    assert counts(client.download_project(destination=labels)) == (20, 0, 0)
    script = """
        import sys
        from cfplatform import Client, iter_downloaded
        with Client() as client:
            for folder in sys.argv[1:]:
                for _ in range(2):
                    summary = client.download_project(destination=folder)
                    results, found = list(summary.results), list(iter_downloaded(folder))
                    print(summary.successful, summary.skipped, len(results), len(found))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), labels, tmp_path / "new"]
    env = {**os.environ, **sandbox.environment(), "LD_PRELOAD": str(shim)}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines() == ["0 20 20 20", "0 20 20 20", "20 0 20 20", "0 20 20 20"], run.stderr


def test_no_name_is_longer_than_143_bytes(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=2, batch_names=["B" * 300, "é" * 200])
    with sandbox.client() as client:
        assert counts(client.download_project(destination=tmp_path, assets=True)) == (2, 0, 0)
    assert max(len(path.name.encode()) for path in tmp_path.rglob("*")) <= 143


# --- Whose file it is -------------------------------------------------------------------------------------------------

DOWNLOAD = """
    import os, sys, tempfile
    from cfplatform import Client, coco, iter_downloaded
    folder, user, group = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with Client() as client, tempfile.TemporaryDirectory() as other:
        # Imports everything now, because the user may not be allowed to read the files.
        client.download_project(destination=other)
        coco.stats(other)
    os.setgroups([group]); os.setgid(group); os.setuid(user); os.umask(0o002)
    with Client() as client:
        if sys.argv[4] == "download":
            summary = client.download_project(destination=folder)
            print(summary.successful, summary.skipped, summary.failed)
    print(len(list(iter_downloaded(folder))), coco.stats(folder).images)
"""


def as_user(sandbox, folder, user, group, what):
    command = [sys.executable, "-c", textwrap.dedent(DOWNLOAD), str(folder), str(user), str(group), what]
    env = {**os.environ, **sandbox.environment(), "HOME": "/"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.fixture
def open_folder():
    """A folder below one that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@posix
@root_only
def test_two_members_of_a_group_keep_one_folder(sandbox, open_folder):
    labels = open_folder / "labels"
    labels.mkdir()
    os.chown(labels, 0, 4242)
    labels.chmod(0o2775)
    assert as_user(sandbox, labels, 4001, 4242, "download") == ["20 0 0", "20 20"]
    sandbox.update_work_item(0)
    first, *_ = (path for path in labels.rglob("*.json") if STATE not in path.parts)
    first.unlink()
    assert as_user(sandbox, labels, 4002, 4242, "download") == ["2 18 0", "20 20"]
    assert as_user(sandbox, labels, 4001, 4242, "download") == ["0 20 0", "20 20"]
    assert {path.stat().st_gid for path in labels.rglob("*")} == {4242}


@posix
@root_only
def test_others_may_read_what_they_cannot_write(sandbox, client, open_folder):
    labels = open_folder / "labels"
    client.download_project(destination=labels)
    before = everything(labels)
    assert as_user(sandbox, labels, 4003, 4003, "read") == ["20 20"]
    assert everything(labels) == before


def test_reading_writes_nothing(client, tmp_path):
    labels = tmp_path / "labels"
    client.download_project(destination=labels)
    before = everything(labels)
    reading = iter_downloaded(labels)
    next(reading)
    assert everything(labels) == before
    assert len(list(reading)) == 19
    assert coco.stats(labels).images == 20
    assert not list(coco.validate(labels))
    write_report(labels, tmp_path / "report.html")
    assert everything(labels) == before


def test_a_reader_does_not_hold_up_a_run(client, tmp_path):
    client.download_project(destination=tmp_path)
    reading = iter_downloaded(tmp_path)
    first = next(reading)
    assert counts(client.download_project(destination=tmp_path, overwrite=True)) == (20, 0, 0)
    assert len({first.item_id, *(item.item_id for item in reading)}) == 20


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_the_state_follows_the_umask_as_the_labels_do(client, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        client.download_project(destination=tmp_path / "labels")
    finally:
        os.umask(before)
    found = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "labels").rglob("*")}
    assert {found[path] for path in found if path.is_dir()} == {mode}
    assert {found[path] for path in found if not path.is_dir()} == {mode & 0o666}


def test_the_state_may_lie_elsewhere(client, sandbox, tmp_path):
    labels, state = tmp_path / "labels", tmp_path / "state"
    assert counts(client.download_project(destination=labels, state=state)) == (20, 0, 0)
    assert not (labels / STATE / "state.sqlite3").exists()
    sandbox.clear_requests()
    summary = client.download_project(destination=labels, state=state)
    assert counts(summary) == (0, 20, 0)
    assert sandbox.counts["storage"] == 0
    assert len(list(summary.results)) == 20
    assert {item.path for item in iter_downloaded(labels, state)} == {labels / path for path in tree(labels)}
    # Another folder with the same state is another destination.
    assert counts(client.download_project(destination=tmp_path / "other", state=state)) == (20, 0, 0)


# --- A destination that fails, and single files that fail -------------------------------------------------------------

USUALLY_GONE = {"EIO", "ESTALE", "ENOENT", "EACCES"}
GONE = ["EIO", "ESTALE", "ENOTCONN", "EHOSTDOWN", "ENODEV", "ENXIO", "ETIMEDOUT", "ENOENT", "EROFS", "EACCES"]


@pytest.mark.parametrize(
    "code", [pytest.param(code, marks=() if code in USUALLY_GONE else pytest.mark.stress) for code in GONE]
)
def test_a_share_that_goes_away_ends_the_run_at_once(make_sandbox, tmp_path, monkeypatch, code):
    number, real, done = getattr(errno, code), os.replace, []

    def replace(*args, **options):
        done.append(args)
        if len(done) > ONCE:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    sandbox = make_sandbox(items=1000, batches=3)
    monkeypatch.setattr(os, "replace", replace)
    with sandbox.client(max_workers=8) as client, pytest.raises(DestinationError) as caught:
        client.download_project(destination=tmp_path)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == number
    assert os.strerror(number) in str(caught.value)
    assert sandbox.counts["storage"] < 500
    monkeypatch.setattr(os, "replace", real)
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.failed, summary.skipped >= ONCE - 8) == (0, True)


@posix
def test_a_destination_that_is_removed_ends_the_run_at_once(make_sandbox, tmp_path):
    labels = tmp_path / "labels"
    sandbox = make_sandbox(items=1000, batches=10, latency=0.003)
    with sandbox.client(max_workers=8) as client, pytest.raises(DestinationError) as caught:
        client.download_project(destination=labels, progress=at(ONCE, lambda: removed(labels)))
    assert isinstance(caught.value, OSError)
    assert sandbox.counts["storage"] < 500


@posix
@pytest.mark.parametrize("link", [False, True])
def test_a_destination_that_is_moved_away_is_noticed(make_sandbox, tmp_path, link):
    labels, other = tmp_path / "labels", tmp_path / "other"

    def replace():
        labels.rename(tmp_path / "moved")
        other.mkdir()
        if link:
            labels.symlink_to(other)
        else:
            labels.mkdir()

    sandbox = make_sandbox(items=1000, batches=2, latency=0.003)
    with sandbox.client(max_workers=8) as client, pytest.raises(DestinationError, match="replaced|No such file"):
        client.download_project(destination=labels, progress=at(ONCE, replace))
    assert sandbox.counts["storage"] < 500
    assert not tree(other)


@posix
def test_deleting_the_state_in_mid_run_costs_nothing_but_work(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=400, batches=2, latency=0.003)
    with sandbox.client(max_workers=8) as client:
        summary = client.download_project(destination=tmp_path, progress=at(ONCE, lambda: removed(tmp_path / STATE)))
        assert (summary.total_items, summary.failed) == (400, 0)
        assert len(tree(tmp_path)) == 400
        assert len(list(summary.results)) == 400
        assert counts(client.download_project(destination=tmp_path)) == (0, 400, 0)


@posix
def test_deleting_a_state_elsewhere_in_mid_run_costs_nothing_but_work(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=400, batches=2, latency=0.003)
    labels, state = tmp_path / "labels", tmp_path / "state"
    with sandbox.client(max_workers=8) as client:
        summary = client.download_project(
            destination=labels, state=state, assets=True, progress=at(ONCE, lambda: removed(state))
        )
        assert (summary.total_items, summary.failed) == (400, 0)
        assert len(list(summary.results)) == 400
        assert counts(client.download_project(destination=labels, state=state, assets=True)) == (0, 400, 0)


@posix
def test_a_destination_that_is_replaced_before_anything_is_written_is_noticed(make_sandbox, tmp_path):
    labels = tmp_path / "labels"

    def replace():
        # Like an unmounted share: the empty folder below it appears.
        labels.rename(tmp_path / "moved")
        labels.mkdir()

    sandbox = make_sandbox(items=1500, batches=2)
    with sandbox.client(max_workers=2) as client:
        client.download_project(destination=labels)
        with pytest.raises(DestinationError, match="replaced") as caught:
            client.download_project(destination=labels, progress=at(1, replace))
    assert caught.value.errno == errno.ESTALE
    assert not tree(labels)


@posix
@pytest.mark.parametrize("extract", [False, True])
def test_deleting_the_state_under_an_export_costs_nothing_but_work(client, tmp_path, large_export, extract):
    export_id, content = large_export
    done = []

    def progress(count, total):
        if count > 5_000_000 and not done:
            done.append(count)
            removed(tmp_path / "labels" / STATE)

    path = client.download_export(export_id, tmp_path / "labels", extract=extract, progress=progress)
    assert done
    if extract:
        assert (path / "labels.json").stat().st_size == 20_000_000
    else:
        assert path.read_bytes() == content
    assert not parts(tmp_path / "labels")


@posix
def test_a_batch_folder_that_is_removed_in_mid_run_is_made_again(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, batch_names=["only"], latency=0.003)
    with sandbox.client(max_workers=8) as client:
        client.download_project(destination=tmp_path, progress=at(ONCE, lambda: removed(tmp_path / "only")))
        client.download_project(destination=tmp_path).raise_for_failures()
    assert len(tree(tmp_path)) == 300


# --- Batches that change, and deleted items ---------------------------------------------------------------------------


def batches(client):
    return {batch.name: batch.id for batch in client.get_batches()}


def names(folder):
    found = {}
    for path in tree(folder):
        batch, name = path.split("/")
        found.setdefault(batch, set()).add(name.removesuffix(".json"))
    return found


def listed(client):
    by_id = {number: name for name, number in batches(client).items()}
    found = {}
    for item in client.get_work_items(status="COMPLETED"):
        found.setdefault(by_id[item.batch_id], set()).add(item.id)
    return found


def test_names_that_are_swapped_settle_in_one_run(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=30, batch_names=["a", "b", "c"])
    with sandbox.client() as client:
        client.download_project(destination=tmp_path)
        before = batches(client)
        for old, new in (("a", "x"), ("b", "a"), ("c", "b"), ("a", "c")):
            sandbox.rename_batch(before[old], new)
        summary = client.download_project(destination=tmp_path)
        assert summary.failed == 0
        assert names(tmp_path) == listed(client)
        assert counts(client.download_project(destination=tmp_path)) == (0, 30, 0)


def test_a_batch_made_anew_under_its_name_has_its_folder(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20, batch_names=["Train", "Val"])
    with sandbox.client() as client:
        client.download_project(destination=tmp_path)
        old = client.get_batch(name="Train")
        gone = {item.id for item in client.get_work_items(batch_ids=[old.id])}
        for item_id in gone:
            sandbox.delete_work_item(item_id)
        sandbox.rename_batch(old.id, "gone")
        new = client.create_batch("Train")
        for number in range(3):
            made = client.create_work_item(f"assets/{number}.png", asset_type="image", batch_id=new.id)
            sandbox.set_status(made.id, "COMPLETED")
        summary = client.download_project(destination=tmp_path)
        assert (summary.successful, summary.unlisted, summary.pruned) == (3, len(gone), 0)
        assert names(tmp_path)["Train"] == listed(client)["Train"] | gone
        summary = client.download_project(destination=tmp_path, prune=True)
        assert (summary.skipped, summary.unlisted, summary.pruned) == (13, len(gone), len(gone))
        assert names(tmp_path) == listed(client)
        assert client.download_project(destination=tmp_path, prune=True).unlisted == 0


def test_pruning_removes_nothing_that_somebody_changed_or_made(client, sandbox, tmp_path):
    client.download_project(destination=tmp_path, assets=True)
    paths = sorted(path for path in tmp_path.rglob("*.json") if STATE not in path.parts)
    changed, gone = paths[0], paths[1]
    for path in (changed, gone):
        sandbox.delete_work_item(path.stem)
    changed.write_text("{}")
    mine = gone.with_name("notes.json")
    mine.write_text("mine")
    before = tree(tmp_path)

    rehearsal = client.download_project(destination=tmp_path, assets=True, prune=True, dry_run=True)
    assert (rehearsal.unlisted, rehearsal.pruned) == (2, 1)
    assert tree(tmp_path) == before

    summary = client.download_project(destination=tmp_path, assets=True, prune=True)
    assert (summary.unlisted, summary.pruned) == (2, 1)
    left = tree(tmp_path)
    assert changed.read_text() == "{}"
    assert mine.read_text() == "mine"
    assert not gone.exists()
    assert {Path(path).stem for path in before if path not in left} == {gone.stem}
    assert len(before) - len(left) == 2


def test_a_dry_run_fetches_nothing(client, sandbox, tmp_path):
    summary = client.download_project(destination=tmp_path / "labels", dry_run=True)
    assert counts(summary) == (20, 0, 0)
    assert sandbox.counts["storage"] == sandbox.counts["signing"] == 0
    assert not tree(tmp_path)
    client.download_project(destination=tmp_path / "labels")
    assert counts(client.download_project(destination=tmp_path / "labels", dry_run=True)) == (0, 20, 0)


def test_a_selection_is_not_all_that_is_listed(client, tmp_path):
    client.download_project(destination=tmp_path)
    one, *_ = batches(client).values()
    assert client.download_project(destination=tmp_path, batch_ids=[one]).unlisted == 0
    with pytest.raises(InvalidParameterError, match="prune"):
        client.download_project(destination=tmp_path, batch_ids=[one], prune=True)
    assert len(tree(tmp_path)) == 20


# --- What lies there is recognised ------------------------------------------------------------------------------------


def copy_keeping_all(old, new):
    shutil.copytree(old, new)


def copy_without_times(old, new):
    shutil.copytree(old, new, copy_function=shutil.copyfile)


def through_a_tar(old, new):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(old, ".")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        archive.extractall(new)  # noqa: S202 - of this test


def through_a_zip(old, new):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in old.rglob("*"):
            archive.write(path, path.relative_to(old))
    with zipfile.ZipFile(buffer) as archive:
        archive.extractall(new)  # noqa: S202 - of this test


@pytest.mark.parametrize("copy", [copy_keeping_all, copy_without_times, through_a_tar, through_a_zip])
def test_a_copy_costs_reading_and_no_downloading(client, sandbox, tmp_path, copy):
    client.download_project(destination=tmp_path / "old", assets=True)
    copy(tmp_path / "old", tmp_path / "new")
    for _ in range(2):
        sandbox.clear_requests()
        assert counts(client.download_project(destination=tmp_path / "new", assets=True)) == (0, 20, 0)
        assert sandbox.counts["storage"] == sandbox.counts["signing"] == sandbox.counts["annotations"] == 0


def test_a_file_of_equal_size_and_other_content_is_fetched_again(client, tmp_path):
    client.download_project(destination=tmp_path)
    path, *_ = sorted(path for path in tmp_path.rglob("*.json") if STATE not in path.parts)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"1", b"2"))
    assert counts(client.download_project(destination=tmp_path)) == (1, 19, 0)
    assert path.read_bytes() == good


# --- A state that is damaged ------------------------------------------------------------------------------------------


DAMAGE = {
    "a byte that is no UTF-8": "UPDATE items SET path = CAST(x'42617463ff2031' AS TEXT)",
    "no path": "UPDATE items SET path = NULL",
    "a path of bytes": "UPDATE items SET path = x'ff'",
    "a size that is a text": "UPDATE items SET size = 'much'",
    "a time that is none": "UPDATE items SET mtime_ns = NULL, digest = NULL",
    "a revision of bytes": "UPDATE items SET revision = x'00'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_row_costs_that_item(client, tmp_path, damage):
    client.download_project(destination=tmp_path)
    with sqlite3.connect(tmp_path / STATE / "state.sqlite3") as db:
        one = db.execute("SELECT item_id FROM items ORDER BY item_id").fetchone()[0]
        db.execute(f"{damage} WHERE item_id = ?", (one,))
    db.close()
    assert len(list(iter_downloaded(tmp_path))) >= 19
    summary = client.download_project(destination=tmp_path)
    assert counts(summary) == (1, 19, 0)
    assert counts(client.download_project(destination=tmp_path)) == (0, 20, 0)
    assert len(list(iter_downloaded(tmp_path))) == 20


@pytest.mark.parametrize(
    "path", ["../secret.json", "/etc/passwd", "a/../../secret.json", "C:\\x.json", "a\\..\\b.json", ""]
)
def test_a_state_leads_nowhere_outside(client, tmp_path, path):
    labels = tmp_path / "labels"
    client.download_project(destination=labels)
    (tmp_path / "secret.json").write_text("{}")
    found = (tmp_path / "secret.json").stat()
    with sqlite3.connect(labels / STATE / "state.sqlite3") as db:
        one = db.execute("SELECT item_id FROM items ORDER BY item_id").fetchone()[0]
        db.execute(
            "UPDATE items SET path = ?, size = ?, mtime_ns = ? WHERE item_id = ?",
            (path, found.st_size, found.st_mtime_ns, one),
        )
    db.close()
    assert {item.path.is_relative_to(labels) for item in iter_downloaded(labels)} == {True}
    assert len(list(iter_downloaded(labels))) == 19
    client.download_project(destination=labels, prune=True).raise_for_failures()
    assert (tmp_path / "secret.json").read_text() == "{}"


# --- Names and bytes as they are stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.nii.gz", "data.tar.gz", "points.pcd.bz2", "picture.png", "v1.2.png"])
def test_assets_keep_their_extensions_and_their_bytes(sandbox, client, tmp_path, name):
    item, *_ = sandbox.work_item_ids(0, 1)
    url = sandbox.work_item(item)["assetUrl"]
    sandbox.patch_work_item_json(item, {"assetUrl": f"{url.rpartition('/')[0]}/{name}"})
    content = b"\x1f\x8b" + os.urandom(50)
    sandbox.replace_next(content, times=None, path=f"*/{name}", headers={"Content-Encoding": "gzip"})
    one = list(client.get_work_items(work_item_ids=[item]))
    summary = client.download_work_items(one, destination=tmp_path, assets=True)
    result, *_ = summary.results
    assert result.error is None
    assert result.asset_path.read_bytes() == content
    suffixes = {"v1.2.png": ".png"}.get(name, name[name.index(".") :])
    assert result.asset_path.name == f"{item}{suffixes}"
    assert counts(client.download_work_items(one, destination=tmp_path, assets=True)) == (0, 1, 0)


# --- Paths of other libraries -----------------------------------------------------------------------------------------


class CloudPath(os.PathLike):
    """As a path object of a cloud library: its file system path is that of a cache."""

    def __init__(self, url, cache):
        self._url, self._cache = url, cache

    def __fspath__(self):
        return str(self._cache / self._url.partition("://")[2])

    def __str__(self):
        return self._url


def test_a_path_object_of_a_cloud_library_is_its_url(client, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    path = CloudPath("memory://of-a-path-object", tmp_path / "cache")
    summary = client.download_project(destination=path, state=tmp_path / "state")
    assert summary.destination == "memory://of-a-path-object"
    assert counts(summary) == (20, 0, 0)
    assert len(fsspec.filesystem("memory").glob("/of-a-path-object/*/*.json")) == 20
    assert not (tmp_path / "cache").exists()
    assert len(list(iter_downloaded(path, tmp_path / "state"))) == 20


def test_a_universal_path_is_its_url(client, tmp_path):
    upath = pytest.importorskip("upath")
    path = upath.UPath("memory://of-a-universal-path")
    assert client.download_project(destination=path, state=tmp_path / "state").successful == 20
    assert client.download_project(destination=upath.UPath(tmp_path / "labels")).successful == 20


# --- Pods that come and go --------------------------------------------------------------------------------------------

EXPORT = """
    import socket, sys
    socket.gethostname = lambda: sys.argv[3]
    from cfplatform import Client
    with Client() as client:
        client.download_export(sys.argv[1], sys.argv[2])
"""


def parts(folder):
    return [path.stat().st_size for path in folder.glob(f"{STATE}/resume/*/data")]


@pytest.fixture
def large_export(sandbox, tmp_path):
    """The id of an export of 20 MB, and its bytes."""
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("labels.json", os.urandom(20_000_000))
    return sandbox.add_export(tmp_path / "big.zip"), (tmp_path / "big.zip").read_bytes()


def ranges(requests):
    found = [
        {name.lower(): value for name, value in dict(each.headers).items()}
        for each in requests
        if "/storage" in each.path
    ]
    return [headers.get("range") for headers in found]


@posix
def test_the_next_pod_continues_what_a_killed_one_left(sandbox, tmp_path, large_export):
    export_id, content = large_export
    volume = tmp_path / "volume"

    def pod(number):
        command = [sys.executable, "-c", textwrap.dedent(EXPORT), export_id, volume, f"pod-{number}"]
        return subprocess.Popen(command, env={**os.environ, **sandbox.environment()})

    for number in range(2):
        before, process, end = sum(parts(volume)), pod(number), time.monotonic() + 20
        while process.poll() is None and sum(parts(volume)) < before + 2_000_000 and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert len(parts(volume)) == 1
    left = sum(parts(volume))
    assert left >= 2_000_000
    sandbox.clear_requests()
    assert pod(9).wait(60) == 0
    assert ranges(sandbox.requests) == [f"bytes={left}-"]
    assert not parts(volume)
    assert [path.read_bytes() for path in volume.glob("*.zip")] == [content]


def test_what_nothing_continues_is_removed_by_age(client, sandbox, tmp_path, large_export):
    folder = tmp_path / STATE
    old, young = folder / "resume" / "gone.1", folder / "resume" / "gone.2"
    for part in (old, young):
        part.mkdir(parents=True)
        (part / "data").write_bytes(b"x")
    (folder / "partial").mkdir()
    (folder / "partial" / "old").write_bytes(b"x")
    week = time.time() - 8 * 86400
    for path in (old, old / "data", folder / "partial" / "old"):
        os.utime(path, (week, week))
    client.download_export(large_export[0], tmp_path)
    client.download_project(destination=tmp_path)
    assert not old.exists()
    assert young.exists()
    assert not list((folder / "partial").iterdir())


def can_unshare():
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


BOTH = """
    import sys
    from cfplatform import Client
    with Client() as client:
        print(client.download_export(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a pid namespace")
def test_two_containers_with_one_hostname_leave_each_others_part_alone(sandbox, tmp_path):
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("labels.json", os.urandom(2_000_000))
    content = (tmp_path / "big.zip").read_bytes()
    export_id = sandbox.add_export(tmp_path / "big.zip")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", textwrap.dedent(BOTH), export_id]
    env = {**os.environ, **sandbox.environment()}
    for number in range(20):
        volume = tmp_path / f"volume-{number}"
        both = [subprocess.Popen([*command, volume], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate(timeout=60)[0].strip() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert all(Path(path).read_bytes() == content for path in said)
        assert not parts(volume)
