"""Export archives: results and arguments of the functions. For malicious archives see tests/faults."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cfplatform import (
    DownloadError,
    IncompleteDownloadError,
    InvalidParameterError,
    InvalidResponseError,
    archives,
    naming,
)
from cfplatform.exceptions import UnsafePathError

DOCUMENT = {"info": {"asset_url": "assets/1"}, "annotations": [1, 2, 3]}
CONTENTS = {
    "Batch 1/item-1.json": json.dumps(DOCUMENT).encode(),
    "Batch 1/item-2.json": b"\xef\xbb\xbf{}",
    "Batch ü/item-3.json": b'{"large": "' + os.urandom(300_000).hex().encode() + b'"}',
    "annotations.csv": b"id,label\n" * 100_000,
    "empty": b"",
}
TOTAL = sum(map(len, CONTENTS.values()))


class Unseekable(io.RawIOBase):
    """Makes zipfile write sizes behind the data, as servers do that pack while they send."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, "streamed", "zip64"])
def archive(request, tmp_path):
    """The contents as the standard library packs them in its several ways."""
    path = tmp_path / "export.zip"
    method = request.param if isinstance(request.param, int) else zipfile.ZIP_DEFLATED
    with (
        path.open("wb") as file,
        zipfile.ZipFile(Unseekable(file) if request.param == "streamed" else file, "w", method) as packed,
    ):
        packed.comment = b"a comment"
        for name, data in CONTENTS.items():
            with packed.open(name, "w", force_zip64=request.param == "zip64") as member:
                member.write(data)
    return path


@pytest.fixture
def simple(tmp_path):
    """A small archive, packed in the usual way."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in CONTENTS.items():
            packed.writestr(name, data)
    return path


def test_check_and_verify_say_what_is_in_it(archive):
    assert archives.check(archive) == archives.ArchiveInfo(members=5, total_bytes=TOTAL)
    seen = []
    assert archives.verify(str(archive), progress=seen.append) == (5, TOTAL)
    assert sum(seen) == TOTAL
    assert max(seen) <= archives.STEP


def test_extract_writes_what_the_standard_library_reads(archive, tmp_path):
    seen = []
    target = archives.extract(archive, tmp_path / "new" / "labels", progress=seen.append)
    assert target == (tmp_path / "new" / "labels").resolve()
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            assert (target / name).read_bytes() == packed.read(name) == CONTENTS[name]
    assert sum(len(names) for _, _, names in os.walk(target)) == 5
    assert os.listdir(tmp_path / "new") == ["labels"]
    assert sum(seen) == TOTAL


def test_extract_takes_a_relative_path_and_a_home_folder(simple, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert archives.extract("export.zip", "labels") == tmp_path.resolve() / "labels"
    assert archives.extract("export.zip", "~/other/") == tmp_path.resolve() / "other"


def test_extract_never_merges(simple, tmp_path):
    target = archives.extract(simple, tmp_path / "labels")
    (target / "empty").write_bytes(b"edited")
    for destination in (target, tmp_path, ".", "/"):
        with pytest.raises(DownloadError, match="already exists"):
            archives.extract(simple, destination)
    assert (target / "empty").read_bytes() == b"edited"


@pytest.mark.parametrize("destination", ["", "  ", "a\0b", 5, None, b"bytes"])
def test_a_destination_must_be_a_path(simple, destination):
    with pytest.raises(InvalidParameterError, match="destination"):
        archives.extract(simple, destination)


@pytest.mark.skipif(os.name != "posix", reason="needs names and users of POSIX")
@pytest.mark.parametrize("destination", ["x" * 256, "export.zip/labels", "~no-such-user/labels"])
def test_a_destination_that_cannot_be_made_is_refused_before_the_work(simple, tmp_path, monkeypatch, destination):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="destination"):
        archives.extract(simple, destination, progress=lambda count: pytest.fail("it began"))
    assert os.listdir(tmp_path) == ["export.zip"]


def test_a_file_in_place_of_a_parent_that_comes_late_is_a_typed_error(simple, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((DownloadError, InvalidParameterError)):
        archives.extract(simple, tmp_path / "file" / "deeper" / "labels")


@pytest.mark.parametrize("path", ["", "a\0b", 5, None, b"bytes"])
def test_an_archive_must_be_a_path(path, tmp_path):
    extract = functools.partial(archives.extract, destination=tmp_path / "out")
    for call in (archives.check, archives.verify, archives.iter_members, extract):
        with pytest.raises(InvalidParameterError, match="path must be"):
            call(path)


@pytest.mark.parametrize("option", ["max_members", "max_total_bytes", "max_ratio"])
@pytest.mark.parametrize("value", [0, -1, True, "5", None, float("nan")])
def test_limits_must_be_numbers(simple, option, value):
    with pytest.raises(InvalidParameterError, match=option):
        archives.check(simple, **{option: value})


def test_iter_members_yields_what_matches_in_the_order_of_the_archive(archive):
    assert [member.name for member in archives.iter_members(archive)] == list(CONTENTS)
    assert [member.name for member in archives.iter_members(archive, "*.json")] == list(CONTENTS)[:3]
    assert [member.name for member in archives.iter_members(archive, "Batch 1/*")] == list(CONTENTS)[:2]
    assert list(archives.iter_members(archive, "*.JSON")) == []
    with pytest.raises(InvalidParameterError, match="pattern"):
        archives.iter_members(archive, b"*")


def test_a_member_can_be_read_in_every_way(archive):
    for member in list(archives.iter_members(archive)):
        expected = CONTENTS[member.name]
        assert member.size == len(expected)
        assert member.read() == expected
        with member.open() as file:
            assert b"".join(iter(lambda file=file: file.read(777), b"")) == expected
            assert file.read() == b""
        with member.open() as file:
            assert list(file) == expected.splitlines(keepends=True)
        with member.open() as file:
            # Asking for exactly the bytes that there are must prove them too.
            assert file.read(len(expected)) == expected


def test_a_member_is_a_light_object_that_travels(simple, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = next(archives.iter_members("export.zip"))
    assert repr(first) == f"<ArchiveMember 'Batch 1/item-1.json' {first.size} bytes>"
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(first)).json() == DOCUMENT  # noqa: S301
    assert not hasattr(first, "__dict__")


def test_members_can_be_read_at_once_and_in_threads(simple):
    members = list(archives.iter_members(simple)) * 20
    started = threading.Barrier(4)

    def read(part):
        started.wait(10)
        return [member.read() == CONTENTS[member.name] for member in members[part::4]]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(result) for result in pool.map(read, range(4)))
    left, right = members[2].open(), members[3].open()
    with left, right:
        assert left.read(1000) + right.read(1000) == CONTENTS[members[2].name][:1000] + CONTENTS[members[3].name][:1000]


def test_json_is_strict_and_names_the_member(tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number, data in enumerate([b'{"a": 1', b"[]", b"\xff{}", b"<html>", b""]):
            packed.writestr(f"{number}.json", data)
    for member in archives.iter_members(path):
        with pytest.raises(InvalidResponseError, match=member.name):
            member.json()


def test_read_has_a_limit(simple):
    first = next(archives.iter_members(simple))
    assert len(first.read(limit=first.size)) == first.size
    with pytest.raises(DownloadError, match=r"the limit is 10. Use open\(\)"):
        first.read(limit=10)


def test_an_archive_that_changed_since_it_was_checked_is_refused(simple):
    members = archives.iter_members(simple)
    first = next(members)
    rest = archives.iter_members(simple)
    content = simple.read_bytes()
    simple.write_bytes(content + b"more")
    for use in (first.open, first.read, lambda: next(rest)):
        with pytest.raises(DownloadError, match="has changed"):
            use()


def test_a_damaged_member_never_looks_like_one_that_ended(simple):
    content = bytearray(simple.read_bytes())
    place = content.index(b"item-3.json") + 100_000
    content[place] ^= 1
    simple.write_bytes(content)
    third = list(archives.iter_members(simple))[2]
    with third.open() as file:
        for _ in range(3):
            with pytest.raises(IncompleteDownloadError):
                file.read()
    with third.open() as file, pytest.raises(IncompleteDownloadError):
        list(iter(lambda: file.read(10_000), b""))


def test_names_of_old_programs_are_read_as_the_format_says(tmp_path):
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("abc.json", b"{}")
    path.write_bytes(path.read_bytes().replace(b"abc", b"\x81\x84c"))
    assert zipfile.ZipFile(path).namelist() == ["üäc.json"]
    assert [member.name for member in archives.iter_members(path)] == ["üäc.json"]


NOT_ON_WINDOWS = [
    "aa:b",
    "a?",
    "x/a*",
    'a"',
    "a|b",
    "<a>",
    "a.",
    "a ",
    "a./b",
    "CON",
    "nul.json",
    "x/COM1/y",
    "aux .txt",
]
UNUSUAL = [
    "a.b.json",
    "CONSOLE.json",
    "x y/z",
    ".hidden",
    "日本\u3000語",
    "👩\u200d👩\u200d👧.json",
    "a..b",
    "..a",
    "a.../",
]


@pytest.mark.parametrize("name", NOT_ON_WINDOWS)
def test_names_that_windows_cannot_have_are_refused_there_and_kept_elsewhere(name):
    with pytest.raises(UnsafePathError, match="Windows"):
        archives._check_name(name, windows=True)
    archives._check_name(name, windows=False)


@pytest.mark.parametrize("name", UNUSUAL)
def test_names_that_are_only_unusual_are_kept(name):
    archives._check_name(name, windows=False)


@pytest.mark.skipif(os.name != "posix", reason="opens a pipe that is never written to")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DownloadError, match="not a regular file"):
        archives.check(tmp_path / "pipe")


def test_paths_are_used_where_folders_cannot_be_held_open(simple, tmp_path, monkeypatch):
    # As on Windows, which knows no open folders; no file system of this machine is like that.
    monkeypatch.setattr("cfplatform.destination.local._RELATIVE", False)
    stale = tmp_path / f".cfplatform-{naming.digest('labels')}-0123"
    stale.mkdir()
    archives.extract(simple, tmp_path / "labels")
    assert {str(path.relative_to(tmp_path / "labels")) for path in (tmp_path / "labels").rglob("*.*")} == {
        str(Path(name)) for name in CONTENTS if "." in name
    }
    # Nobody holds a lock on it.
    assert not stale.exists()
