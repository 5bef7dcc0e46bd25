from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cfplatform import DownloadError, InvalidParameterError, UnsafePathError, files

#: Pieces that names are broken with.
PIECES = st.sampled_from(
    [*'./\\:*?"<>|-~ \t\n\0\x1b\x7f', "..", "CON", "nul", "com1", "LPT9", "é", "e\u0301", "\u202e", "\u200b", "\ud800"]
)
NAMES = st.one_of(st.text(max_size=300), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=12).map("".join))
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "...",
    "../../evil",
    "..\\..\\evil",
    "/etc/passwd",
    "C:\\x",
    "C:",
    "\\\\host\\share",
    "//host/share",
    "a/../../b",
    "~",
    "~root",
    "-rf",
    "--help",
    "-.",
    "- .x",
    "-.-",
    "~.~.",
    ". -x",
    ".hidden",
    ".cfplatform",
    "a.",
    "a ",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\u202egnp.exe",
    "\u200b",
    "\ufeff",
    "\ud800",
    "CON",
    "con",
    "Con.txt",
    "nul.json",
    "NUL .x",
    "aux.",
    "COM1",
    "com\N{SUPERSCRIPT TWO}.tar.gz",
    "LPT9:",
    "CONIN$",
    "x" * 201,
    "x" * 5000,
    "é" * 128,
    "\N{GRINNING FACE}" * 60,
    " " * 300 + "x",
    "x" * 199 + ".é",
]


def official_name(name):
    """The official client's naming."""
    return re.sub(r'[\\/:*?"<>|]', "_", name.strip())


def is_safe(name):
    """Tell whether every file system takes a name, written down independently of the code."""
    stem = name.split(".")[0].rstrip().upper()
    devices = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    devices |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
    return (
        name not in ("", ".", "..")
        and not set('\\/:*?"<>|') & set(name)
        and all(unicodedata.category(ch)[0] != "C" for ch in name)
        and name.strip(" .") == name.rstrip(" .").lstrip(" ") == name
        and name[0] not in "-~."
        and len(name.encode()) <= 200
        and stem not in devices
    )


@given(NAMES)
def test_any_text_gives_a_safe_name(name):
    assert is_safe(files.safe_name(name))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_inside_and_is_readable(tmp_path, name):
    safe = files.safe_name(name)
    assert is_safe(safe)
    assert (tmp_path / f"{safe}.json").resolve().parent == tmp_path.resolve()
    (tmp_path / f"{safe}.json").write_bytes(b"{}")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{safe}.json"]


@given(NAMES)
def test_a_safe_name_is_the_official_one_and_is_kept(name):
    official = official_name(name)
    if is_safe(official) and official.isprintable():
        assert files.safe_name(name) == official
    assert files.safe_name(files.safe_name(name)) == files.safe_name(name)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Batch/With\\Special:Chars*?", "Batch_With_Special_Chars__"),
        ("  Default ", "Default"),
        ("Läuse 2026 (Nord)", "Läuse 2026 (Nord)"),
        ("a.b.c", "a.b.c"),
        ("CONSOLE", "CONSOLE"),
        ("COM10", "COM10"),
        ("c2fe4a5d-ae6e-4005-8845-d10c59218302", "c2fe4a5d-ae6e-4005-8845-d10c59218302"),
        ("x" * 200, "x" * 200),
        ("..", "unnamed~e6fc5bb9"),
    ],
)
def test_names_are_those_that_were_promised(name, safe):
    assert files.safe_name(name) == safe


@given(NAMES, NAMES)
def test_different_unsafe_names_stay_different(first, second):
    assume(first != second)
    assume(not is_safe(official_name(first)) or not is_safe(official_name(second)))
    assert files.safe_name(first) != files.safe_name(second)


def test_all_hostile_names_get_names_of_their_own():
    # All that is safe once it is cleaned may meet others, as with the official client.
    names = [name for name in HOSTILE if not is_safe(official_name(name))]
    assert len(names) > 30
    assert len({files.safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("first", "second"),
    [("A", "a"), ("é", "e\u0301"), ("Straße", "STRASSE"), ("Ω", "\N{OHM SIGN}"), ("ÉCOLE", "e\u0301cole"), ("ﬀ", "FF")],
)
def test_names_that_some_file_system_takes_for_the_same_share_a_key(first, second):
    assert files.collision_key(first) == files.collision_key(second)


@given(st.text())
def test_the_key_does_not_depend_on_how_accents_are_composed(name):
    key = files.collision_key(name)
    assert files.collision_key(unicodedata.normalize("NFD", name)) == key
    assert files.collision_key(unicodedata.normalize("NFC", name)) == key


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a b", "a_b"), ("a", "á"), ("1", "\N{SUPERSCRIPT ONE}")])
def test_names_that_differ_everywhere_have_different_keys(first, second):
    assert files.collision_key(first) != files.collision_key(second)


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("coco_output/f.json", ".json"),
        ("coco_output/f.JSON", ".JSON"),
        ("f.tar.gz", ".gz"),
        ("f", ".json"),
        ("f.", ".json"),
        ("dir.x/f", ".json"),
        ("f.abcdefghi", ".abcdefghi"),
        ("f.abcdefghij", ".json"),
        ("f.a/b", ".json"),
        ("f.a:b", ".json"),
        ("f.a\\b", ".json"),
        ("f.a b", ".json"),
        ("f.\n", ".json"),
        ("f.json\n", ".json"),
        ("f.é", ".json"),
        (".json", ".json"),
        ("..", ".json"),
        ("", ".json"),
    ],
)
def test_only_a_plain_extension_is_kept(path, extension):
    assert files.extension(path) == extension


def test_a_destination_is_made_with_its_private_state_folder(tmp_path):
    root = files.prepare_destination(tmp_path / "a" / "b")
    assert root == (tmp_path / "a" / "b").resolve()
    assert stat.S_IMODE((root / ".cfplatform").stat().st_mode) == 0o700
    assert list(files.partial_folder(root).iterdir()) == []


def test_a_destination_may_be_relative_to_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert files.prepare_destination("~/labels") == (tmp_path / "labels").resolve()


@pytest.mark.parametrize(
    "destination", ["", "  ", "a\0b", b"bytes", None, 5, [], "~no-such-user-here/x", "x" * 300, "/" + "x/" * 3000]
)
def test_what_is_no_folder_is_refused(tmp_path, monkeypatch, destination):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="destination"):
        files.prepare_destination(destination)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_destination(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InvalidParameterError, match="is a file"):
        files.prepare_destination(tmp_path / "file")
    with pytest.raises(InvalidParameterError, match="cannot be written: Not a directory"):
        files.prepare_destination(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_no_destination():
    with pytest.raises(InvalidParameterError, match="cannot be written"):
        files.prepare_destination("/proc/self")


@pytest.mark.parametrize("link", [".cfplatform", ".cfplatform/partial"])
def test_a_link_in_place_of_the_state_folder_is_not_followed(tmp_path, link):
    outside = tmp_path / "outside"
    (outside / "partial").mkdir(parents=True)
    outside.chmod(0o755)
    root = tmp_path / "root"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    with pytest.raises(InvalidParameterError, match="is a link that leads elsewhere"):
        files.prepare_destination(root)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert [entry.name for entry in outside.rglob("*")] == ["partial"]


@pytest.mark.parametrize("target", ["folder", "file", "missing"])
def test_a_link_in_place_of_a_batch_folder_is_not_followed(tmp_path, target):
    root = files.prepare_destination(tmp_path / "root")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (root / "batch").symlink_to(tmp_path / target)
    with pytest.raises(UnsafePathError, match="link or a file where a batch folder belongs"):
        files.ensure_folder(root, "batch")
    assert list((tmp_path / "folder").iterdir()) == []
    assert not (tmp_path / "missing").exists()


def test_a_batch_folder_is_made_once_and_kept(tmp_path):
    for _ in range(2):
        assert files.ensure_folder(tmp_path, "batch") == tmp_path / "batch"
    assert [entry.name for entry in tmp_path.iterdir()] == ["batch"]


@pytest.fixture
def root(tmp_path):
    return files.prepare_destination(tmp_path / "root")


def partial(root):
    return sorted(files.partial_folder(root).iterdir())


def test_a_part_file_appears_only_when_it_is_committed(root):
    with files.PartFile(root) as part:
        part.write(b"abc")
        part.write(b"")
        part.write(b"def")
        assert not (root / "final").exists()
        found = part.commit("final")
    assert (root / "final").read_bytes() == b"abcdef"
    assert found.st_size == 6
    assert found.st_mtime_ns == (root / "final").stat().st_mtime_ns
    assert partial(root) == []


def test_a_part_file_follows_the_umask(root):
    before = os.umask(0o027)
    try:
        with files.PartFile(root) as part:
            part.commit("final")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "final").stat().st_mode) == 0o640


def test_a_part_file_that_is_not_committed_goes(root):
    with files.PartFile(root) as part:
        part.write(b"abc")
        assert len(partial(root)) == 1
    part.discard()
    assert partial(root) == []


def test_a_commit_that_fails_leaves_nothing_behind(root):
    (root / "final").mkdir()
    with pytest.raises(OSError, match="directory"), files.PartFile(root) as part:
        part.commit("final")
    assert partial(root) == []
    assert (root / "final").is_dir()


def test_a_commit_replaces_a_link_and_not_what_it_points_to(tmp_path, root):
    (tmp_path / "outside").write_bytes(b"precious")
    (root / "final").symlink_to(tmp_path / "outside")
    with files.PartFile(root) as part:
        part.write(b"new")
        part.commit("final")
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert not (root / "final").is_symlink()
    assert (root / "final").read_bytes() == b"new"


def test_part_files_stay_out_of_each_others_way(root):
    parts = [files.PartFile(root) for _ in range(20)]
    assert len(partial(root)) == 20
    for part in parts:
        part.discard()
    assert partial(root) == []


def test_parts_of_dead_processes_and_old_ones_are_removed(root):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    mine = files.PartFile(root)
    host = mine.path.name.split("-")[0]
    names = {f"{host}-{process.pid}-dead", "otherhost-1-young", "otherhost-1-old", f"{host}-x-odd", "unrelated"}
    for name in names:
        (files.partial_folder(root) / name).write_bytes(b"")
    long_ago = time.time() - files.STALE_AFTER - 60
    os.utime(files.partial_folder(root) / "otherhost-1-old", (long_ago, long_ago))
    files.remove_stale_parts(root)
    kept = {path.name for path in partial(root)}
    assert kept == {mine.path.name, "otherhost-1-young", f"{host}-x-odd", "unrelated"}
    mine.discard()


def test_removing_stale_parts_needs_no_folder(tmp_path):
    files.remove_stale_parts(tmp_path / "missing")
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
    assert files.stops_everything(OSError(number, os.strerror(number))) is fatal


def test_a_failure_of_the_disk_says_what_to_do():
    error = files.destination_error(OSError(errno.ENOSPC, "No space left on device", "/long/path/name.json"))
    assert type(error) is DownloadError
    assert "'name.json': No space left on device. What is finished is kept; free space" in str(error)
