"""Group Z: malicious, damaged and very large zip files, and interrupted unpacking."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import random
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfplatform import CFPlatformError, DownloadError, IncompleteDownloadError, UnsafePathError, archives
from tests.faults.tools import ROOT, Child, tree, wait_until
from tests.tools import folded, outcome

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, modes and signals of POSIX")

END, RECORD, LOCAL = b"PK\5\6", b"PK\1\2", b"PK\3\4"
UTF8 = 0x0800


class Part(NamedTuple):
    """A member with whatever headers a test wants; what is ``None`` is as it should be."""

    name: bytes = b"a.json"
    packed: bytes = b'{"a": 1}'
    size: int | None = None
    crc: int | None = None
    method: int = 0
    flags: int = UTF8
    attributes: int = 0
    local_name: bytes | None = None
    local_size: int | None = None
    local_flags: int | None = None
    offset: int | None = None
    time: int = 0
    date: int = 33


def build(*parts, before=b"", after=b"", comment=b"", shift=0):
    """Write a zip byte by byte; ``shift`` is added to all offsets."""
    body, directory = bytearray(), bytearray()
    for part in parts:
        crc = zlib.crc32(part.packed) if part.crc is None else part.crc
        size = len(part.packed) if part.size is None else part.size
        local_name = part.name if part.local_name is None else part.local_name
        local_size = size if part.local_size is None else part.local_size
        local_flags = part.flags if part.local_flags is None else part.local_flags
        offset = len(body) if part.offset is None else part.offset
        when = (part.method, part.time, part.date, crc, len(part.packed))
        if part.offset is None:
            body += struct.pack("<4s5H3L2H", LOCAL, 20, local_flags, *when, local_size, len(local_name), 0)
            body += local_name + part.packed
        directory += struct.pack("<4s2B", RECORD, 20, 3) + struct.pack("<5H3L", 20, part.flags, *when, size)
        directory += struct.pack("<5H2L", len(part.name), 0, 0, 0, 0, part.attributes, offset + shift) + part.name
    count = len(parts)
    end = struct.pack("<4s4H2LH", END, 0, 0, count, count, len(directory), len(body) + shift, len(comment))
    return bytes(before + body + directory + end + comment + after)


def deflate(data):
    """Compress as a zip does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def written(contents, **options):
    """A zip as the standard library writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file.getvalue()


def refused(folder, content, expected=DownloadError, match=None, **options):
    """Prove that no way of reading accepts these bytes and that unpacking leaves nothing behind."""
    path = folder / "bad.zip"
    path.write_bytes(content)
    before = sorted(str(each) for each in folder.rglob("*"))
    for read in (
        lambda: archives.check(path, **options),
        lambda: archives.verify(path, **options),
        lambda: archives.iter_members(path, **options),
        lambda: archives.extract(path, folder / "out", **options),
    ):
        with pytest.raises(expected, match=match) as caught:
            read()
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), expected)  # noqa: S301
    assert sorted(str(each) for each in folder.rglob("*")) == before


def damaged(folder, content, match=None):
    """Prove that bytes that pass by the directory alone are refused by all that read them."""
    path = folder / "bad.zip"
    path.write_bytes(content)
    archives.check(path)
    for read in (
        lambda: archives.verify(path),
        lambda: archives.extract(path, folder / "out"),
        lambda: [member.read() for member in archives.iter_members(path)],
    ):
        with pytest.raises(IncompleteDownloadError, match=match):
            read()
    assert os.listdir(folder) == ["bad.zip"]


def unpacked(folder, content, **options):
    """Unpack bytes, prove that all ways of reading agree, and return the files."""
    path = folder / "good.zip"
    path.write_bytes(content)
    assert archives.verify(path, **options) == archives.check(path, **options)
    found = tree(archives.extract(path, folder / "out", **options))
    assert {member.name: member.read() for member in archives.iter_members(path, **options)} == found
    return found


HOSTILE = ["../e", "/abs/e", "C:\\e", "C:e", "c:/e", "..\\..\\e", "a\\b", "a/../../e", "a/..", "//h/s", "\\\\h\\s", "/"]


@pytest.mark.parametrize("name", HOSTILE)
def test_z01_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    refused(tmp_path, build(Part(), Part(name.encode(), b"evil")), UnsafePathError, "unsafe name")


def test_z01_nothing_is_unpacked_before_a_hostile_name_at_the_end(tmp_path):
    parts = [Part(b"%d.json" % number) for number in range(100)]
    refused(tmp_path, build(*parts, Part(b"../../e", b"evil")), UnsafePathError)


KINDS = [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, 0o150000]


@pytest.mark.parametrize("kind", KINDS, ids=oct)
def test_z02_a_link_or_device_is_refused(tmp_path, kind):
    evil = Part(b"link", b"/etc/passwd", attributes=(kind | 0o777) << 16)
    refused(tmp_path, build(Part(), evil), UnsafePathError, "special file")


def test_z02_a_reparse_point_and_a_folder_named_as_a_file_are_refused(tmp_path):
    refused(tmp_path, build(Part(attributes=0x0400)), UnsafePathError, "special file")
    refused(tmp_path, build(Part(b"link/", b"", attributes=(stat.S_IFLNK | 0o777) << 16)), UnsafePathError)
    refused(tmp_path, build(Part(attributes=(stat.S_IFDIR | 0o755) << 16)), UnsafePathError, "special file")


@posix
@pytest.mark.parametrize("planted", ["folder", "file", "link", "dangling"])
def test_z02_whatever_stands_in_the_place_of_the_folder_stays_as_it_is(tmp_path, planted):
    path, target, outside = tmp_path / "a.zip", tmp_path / "out", tmp_path / "outside"
    path.write_bytes(build(Part()))
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    {
        "folder": target.mkdir,
        "file": target.touch,
        "link": lambda: target.symlink_to(outside),
        "dangling": lambda: target.symlink_to(tmp_path / "nowhere"),
    }[planted]()
    with pytest.raises(DownloadError, match="already exists"):
        archives.extract(path, target)
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "out", "outside"]
    assert tree(outside) == {"precious": b"precious"}
    assert not target.is_dir() or planted == "link" or os.listdir(target) == []


@posix
def test_z02_a_link_put_in_place_of_the_unfinished_folder_is_not_followed(tmp_path):
    path, outside, away = tmp_path / "a.zip", tmp_path / "outside", tmp_path / "away"
    path.write_bytes(build(*(Part(b"%d/a.json" % number) for number in range(10))))
    outside.mkdir()
    seen = []

    def swap(count):
        seen.append(count)
        if len(seen) == 5:
            (unfinished,) = tmp_path.glob(".cfplatform-*")
            unfinished.rename(away)
            unfinished.symlink_to(outside)

    with pytest.raises(UnsafePathError):
        archives.extract(path, tmp_path / "out", progress=swap)
    assert os.listdir(outside) == []
    assert not (tmp_path / "out").exists()


@posix
@pytest.mark.parametrize("planted", ["file", "link"])
def test_z02_what_is_planted_in_the_unfinished_folder_is_not_written_to(tmp_path, planted):
    path = _write(tmp_path / "a.zip", build(Part(b"a"), Part(b"b")))
    precious = _write(tmp_path / "precious", b"precious")

    def plant(count):
        (unfinished,) = tmp_path.glob(".cfplatform-*")
        (unfinished / "b").symlink_to(precious) if planted == "link" else (unfinished / "b").hardlink_to(precious)

    with pytest.raises(DownloadError, match="File exists"):
        archives.extract(path, tmp_path / "out", progress=plant)
    assert precious.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "precious"]


def test_z03_a_bomb_is_refused_by_its_ratio(tmp_path):
    assert len(deflate(bytes(1_028_000))) < 1100
    bomb = Part(b"bomb", bytes(2 * 1024 * 1024), size=2 * 1024**3, method=8)
    refused(tmp_path, build(bomb), DownloadError, "max_ratio")
    path = tmp_path / "bad.zip"
    assert archives.check(path, max_ratio=1025).total_bytes == 2 * 1024**3


def test_z03_labels_that_repeat_themselves_are_no_bomb(tmp_path):
    zeros = b'{"mask": [' + b"0," * 5_000_000 + b"0]}"
    packed = deflate(zeros)
    assert len(zeros) > 900 * len(packed)
    assert unpacked(tmp_path, written({"mask.json": zeros}, compression=zipfile.ZIP_DEFLATED)) == {"mask.json": zeros}
    (tmp_path / "b.zip").write_bytes(build(Part(b"a", bytes(8_000_000), size=3 * 1024**3, method=8)))
    assert archives.check(tmp_path / "b.zip").members == 1


def test_z03_many_records_on_one_member_are_refused(tmp_path):
    first = Part(b"a", b"x" * 1000)
    others = [first._replace(name=b"b%d" % number, local_name=b"a", offset=0) for number in range(49)]
    refused(tmp_path, build(first, *others), IncompleteDownloadError, "does not match the directory")
    inner = struct.pack("<4s5H3L2H", LOCAL, 20, UTF8, 0, 0, 33, zlib.crc32(b"x"), 1, 1, 1, 0) + b"bx"
    quoted = Part(b"a", inner)
    refused(tmp_path, build(quoted, Part(b"b", b"x", offset=31)), DownloadError, "overlap")


def test_z03_members_in_another_order_than_the_directory_are_none_the_worse(tmp_path):
    parts = [Part(b"%d" % number, b"x" * number) for number in range(9)]
    whole = build(*parts)
    offsets = [whole.index(part.name + part.packed) - 30 for part in parts]
    start = whole.index(RECORD)
    size = (len(whole) - 22 - start) // 9
    records = [whole[start + size * number : start + size * (number + 1)] for number in range(9)]
    assert offsets == sorted(offsets)
    random.Random(5).shuffle(records)
    found = unpacked(tmp_path, whole[:start] + b"".join(records) + whole[-22:])
    assert found == {str(number): b"x" * number for number in range(9)}


def test_z03_limits_count_members_folders_and_bytes(tmp_path):
    three = build(*(Part(b"%d" % number, b"12345") for number in range(3)))
    refused(tmp_path, three, DownloadError, "max_members", max_members=2)
    refused(tmp_path, three, DownloadError, "max_total_bytes", max_total_bytes=14)
    refused(tmp_path, build(Part(b"a/b/c/d/e")), DownloadError, "max_members", max_members=4)
    assert len(unpacked(tmp_path, three, max_members=3, max_total_bytes=15)) == 3


def test_z03_the_number_of_members_is_refused_before_any_is_read(tmp_path):
    nothing = bytes(46 * 1000)
    end = struct.pack("<4s4H2LH", END, 0, 0, 1000, 1000, len(nothing), 0, 0)
    refused(tmp_path, RECORD + nothing[4:] + end, DownloadError, "1,000 members", max_members=999)


def test_z03_an_archive_in_an_archive_is_a_file(tmp_path):
    inner = build(Part(b"../evil", b"evil"))
    assert unpacked(tmp_path, build(Part(b"inner.zip", inner), Part())) == {"inner.zip": inner, "a.json": b'{"a": 1}'}


def peak(function):
    """The most memory that Python held at once during a call."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_z03_memory_does_not_grow_with_the_size_of_a_member(tmp_path):
    path = _write(tmp_path / "a.zip", written({"a": bytes(64 * 1024**2)}, compression=zipfile.ZIP_DEFLATED))
    (member,) = archives.iter_members(path)
    with member.open() as file:
        assert peak(lambda: list(iter(lambda: len(file.read(100_000)), 0))) < 4 * 1024**2
    assert peak(lambda: archives.verify(path)) < 4 * 1024**2
    assert peak(lambda: archives.extract(path, tmp_path / "out")) < 4 * 1024**2


def test_z03_memory_for_a_member_is_what_its_record_takes_and_little_more(tmp_path):
    count = 6_000
    path = _write(tmp_path / "a.zip", build(*(Part(b"folder/%060d.json" % number, b"") for number in range(count))))
    record = peak(lambda: zipfile.ZipFile(path).close()) / count
    assert record < 800
    assert peak(lambda: archives.check(path)) < (record + 200) * count
    assert peak(lambda: sum(1 for _ in archives.iter_members(path))) < (record + 200) * count


def test_z03_records_that_are_not_announced_are_counted_before_zipfile_reads_them(tmp_path, monkeypatch):
    content = bytearray(build(*(Part(b"%d" % number) for number in range(9))))
    struct.pack_into("<2H", content, len(content) - 14, 1, 1)
    refused(tmp_path, bytes(content), IncompleteDownloadError, "announces 1 members but has 9")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("it was read"))
    refused(tmp_path, bytes(content), DownloadError, "9 members.*max_members", max_members=8)


@pytest.mark.parametrize("said", [0, 10, 1_000_000])
def test_z03_no_more_is_written_than_was_announced(tmp_path, said):
    data = bytes(5_000_000)
    content = build(Part(b"a", deflate(data), size=said, crc=zlib.crc32(data), method=8))
    damaged(tmp_path, content)
    seen = []
    with pytest.raises(IncompleteDownloadError):
        archives.extract(tmp_path / "bad.zip", tmp_path / "out", progress=seen.append)
    assert sum(seen) <= said


def test_z04_damaged_bytes_leave_nothing(tmp_path):
    damaged(tmp_path, build(Part(b"ok"), Part(crc=1)), "size and CRC")
    damaged(tmp_path, build(Part(b"ok"), Part(b"b", deflate(bytes(9)), size=9, crc=1, method=8)), "size and CRC")


def test_z04_a_beginning_that_has_the_right_size_and_crc_is_not_the_member(tmp_path):
    data = bytes(range(250)) * 4
    content = build(Part(b"ok"), Part(b"b", deflate(data), size=5, crc=zlib.crc32(data[:5]), method=8))
    assert zipfile.ZipFile(io.BytesIO(content)).read("b") == data[:5]
    damaged(tmp_path, content)


def test_z04_a_second_name_in_an_extra_field_is_not_used(tmp_path):
    file = io.BytesIO()
    info = zipfile.ZipInfo("a.json")
    second = b"\1" + struct.pack("<L", zlib.crc32(b"a.json")) + b"../evil/"
    info.extra = struct.pack("<2H", 0x7075, len(second)) + second
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, b"{}")
    assert unpacked(tmp_path, file.getvalue()) == {"a.json": b"{}"}


@pytest.mark.parametrize("said", [0, 5, 999, 1001, 5000])
def test_z04_a_size_that_is_not_the_real_one_leaves_nothing(tmp_path, said):
    data = bytes(range(250)) * 4
    content = build(Part(b"ok"), Part(b"b", deflate(data), size=said, crc=zlib.crc32(data), method=8))
    damaged(tmp_path, content)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xff\xff\xff", deflate(b"x" * 99)[:-3], deflate(b"x" * 99) + b"more"],
    ids=["nothing", "garbage", "cut", "more"],
)
def test_z04_a_deflated_member_must_be_whole_and_nothing_else(tmp_path, packed):
    damaged(tmp_path, build(Part(packed=packed, size=99, crc=zlib.crc32(b"x" * 99), method=8)))


def test_z04_a_stored_member_has_one_size(tmp_path):
    refused(tmp_path, build(Part(size=7)), IncompleteDownloadError, "sizes")
    refused(tmp_path, build(Part(b"folder/", b"bytes")), IncompleteDownloadError, "has data")


@pytest.mark.parametrize("flags", [0x0001, 0x0041, 0x2000])
def test_z04_what_is_encrypted_is_refused(tmp_path, flags):
    refused(tmp_path, build(Part(), Part(b"b", flags=flags)), DownloadError, "encrypted")


@pytest.mark.parametrize("method", [1, 6, 9, 12, 14, 93, 99])
def test_z04_an_unknown_method_is_refused(tmp_path, method):
    refused(tmp_path, build(Part(method=method)), DownloadError, f"unknown compression method {method}")


LONG = [b"x" * 300, b"d/" + b"x" * 256, "é".encode() * 128, b"/".join([b"x" * 200] * 6), b"d/" * 70 + b"x"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"./a", b"a/./b", b"a//b", b"a\0b", b"a\nb", b"\x1b[31m", *LONG])
def test_z04_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    refused(tmp_path, build(Part(), Part(name)), UnsafePathError, "unsafe name")


def test_z04_a_name_that_is_not_utf8_is_refused(tmp_path):
    refused(tmp_path, build(Part(b"\xff\xfe")), UnsafePathError, "UTF-8")


@pytest.mark.parametrize("names", [("a", "a"), ("a.json", "A.JSON"), ("é", "e\u0301"), ("Straße", "STRASSE")])
@pytest.mark.parametrize("folder", ["", "d/"])
def test_z04_names_that_some_systems_take_for_the_same_are_refused(tmp_path, names, folder):
    parts = [Part((folder + name).encode(), name.encode()) for name in names]
    refused(tmp_path, build(*parts), UnsafePathError, "twice")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("A/b", "a"), ("a", "a/"), ("a/b/c", "a/b")])
def test_z04_a_name_cannot_be_a_file_and_a_folder(tmp_path, names):
    refused(tmp_path, build(*(Part(name.encode(), b"") for name in names)), UnsafePathError, "twice")


def test_z04_folders_may_be_listed_or_not(tmp_path):
    names = ["empty/", "a/b/c.json", "a/", "a/b/", "a/b/", "é/ü.json"]
    found = unpacked(tmp_path, build(*(Part(name.encode(), b"") for name in names)))
    assert found == {"a/b/c.json": b"", "é/ü.json": b""}
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "empty", "é"]


@pytest.mark.parametrize(
    "changes",
    [
        {"local_name": b"b.json"},
        {"local_name": b"a.json5"},
        {"local_size": 9},
        {"local_flags": 0},
        {"local_flags": UTF8 | 1},
        {"offset": 1},
        {"offset": 100_000},
        {"offset": 0xFFFFFFFF},
    ],
    ids=str,
)
def test_z04_a_member_whose_own_header_says_otherwise_is_refused(tmp_path, changes):
    refused(tmp_path, build(Part(b"ok.json"), Part(**changes)), IncompleteDownloadError)


CONTENTS = {"a.json": b'{"a": 1}', "b/ü.json": b'{"b": [' + b"1, " * 400 + b"2]}", "b/empty": b""}
WHOLE = written(CONTENTS, compression=zipfile.ZIP_DEFLATED)


def test_z05_a_file_that_was_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "bad.zip"
    for length in range(len(WHOLE)):
        path.write_bytes(WHOLE[:length])
        with pytest.raises(IncompleteDownloadError):
            archives.check(path)
    refused(tmp_path, WHOLE[:-1], IncompleteDownloadError, "no complete directory")
    refused(tmp_path, build(Part(), comment=b"a comment")[:-1], IncompleteDownloadError, "no complete directory")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>", "'Sign in'"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Expired</Message></Error>", "AccessDenied"),
        (b'{"message": "no such export ?X-Amz-Signature=0123"}', "no such export"),
        (b"", "not a zip archive"),
        (b"\x1f\x8b" + bytes(5000), "not a zip archive"),
    ],
)
def test_z05_what_is_no_archive_is_refused_with_its_own_words(tmp_path, content, words):
    refused(tmp_path, content, IncompleteDownloadError, words)
    with pytest.raises(IncompleteDownloadError) as caught:
        archives.check(tmp_path / "bad.zip")
    assert "0123" not in str(caught.value)


def test_z05_a_folder_a_device_and_nothing_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", *([Path("/dev/zero")] if os.name == "posix" else [])):
        with pytest.raises(DownloadError):
            archives.check(path)


@pytest.mark.parametrize(("before", "after"), [(b"junk" * 9, b""), (b"", b"junk" * 9), (b"\0" * 999, b"\n" * 60_000)])
def test_z05_junk_around_a_whole_archive_is_no_harm_if_every_crc_is_right(tmp_path, before, after):
    assert unpacked(tmp_path, before + WHOLE + after) == CONTENTS
    wrong = build(Part(crc=1), before=before, after=after)
    with pytest.raises(IncompleteDownloadError, match="CRC"):
        archives.verify(_write(tmp_path / "wrong.zip", wrong))
    with pytest.raises(IncompleteDownloadError, match="CRC"):
        archives.extract(tmp_path / "wrong.zip", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def _write(path, content):
    path.write_bytes(content)
    return path


def test_z05_offsets_may_count_what_stands_in_front(tmp_path):
    assert unpacked(tmp_path, build(Part(), before=b"#!/bin/sh\n", shift=10)) == {"a.json": b'{"a": 1}'}


@pytest.mark.parametrize("after", [b"", b"more"])
def test_z05_the_archive_inside_one_that_was_cut_is_not_taken_for_it(tmp_path, after):
    inner = build(Part(b"inner.json"))
    outer = build(Part(b"first.json"), Part(b"inner.zip", inner))
    cut = outer[: outer.index(inner) + len(inner)] + after
    assert zipfile.is_zipfile(io.BytesIO(cut))
    refused(tmp_path, cut, IncompleteDownloadError, "does not list the first members")
    refused(tmp_path, b"junk" + cut, IncompleteDownloadError, "does not list the first members")
    refused(tmp_path, build(Part(), comment=inner), IncompleteDownloadError, "does not list the first members")


def test_z05_an_end_record_of_nothing_proves_nothing(tmp_path):
    nothing = build()
    refused(tmp_path, b"junk" + nothing, IncompleteDownloadError)
    assert unpacked(tmp_path, nothing) == {}
    assert os.listdir(tmp_path / "out") == []


def test_z05_volumes_and_wrong_numbers_are_refused(tmp_path):
    end = struct.Struct("<4s4H2LH")
    for index, value in itertools.product(range(1, 7), (1, 3, 4, 0x7FFF, 0x7FFFFFFF)):
        fields = list(end.unpack(WHOLE[-22:]))
        if fields[index] != value:
            fields[index] = min(value, 0x7FFF) if index < 5 else value
            refused(tmp_path, WHOLE[:-22] + end.pack(*fields), IncompleteDownloadError)


@pytest.mark.parametrize("said", [0, 2, 4, 65535])
def test_z05_members_that_were_announced_and_are_missing_are_refused(tmp_path, said):
    end = WHOLE[-22:-14] + struct.pack("<2H", said, said) + WHOLE[-10:]
    refused(tmp_path, WHOLE[:-22] + end, IncompleteDownloadError, "complete directory|announces")


@pytest.mark.parametrize("field", [28, 30, 32], ids=["name", "extra", "comment"])
@pytest.mark.parametrize("length", [200, 0xFFFF])
def test_z05_a_record_that_reaches_out_of_the_directory_changes_no_file(tmp_path, field, length):
    content = bytearray(build(Part()))
    struct.pack_into("<H", content, content.index(RECORD) + field, length)
    found, error = outcome(IncompleteDownloadError, unpacked, tmp_path, bytes(content))
    assert error is not None or found == {"a.json": b'{"a": 1}'}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """An archive of 65,537 members."""
    path = tmp_path_factory.mktemp("many") / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(65_537):
            archive.writestr(f"{number // 10_000}/{number}.json", b"%d" % number)
    return path


def test_z06_more_than_65535_members_work(many):
    assert archives.verify(many) == (65_537, sum(len(str(number)) for number in range(65_537)))
    members = list(archives.iter_members(many))
    assert len({member.name for member in members}) == 65_537
    assert (members[-1].name, members[-1].read()) == ("6/65536.json", b"65536")


@pytest.mark.stress
def test_z06_more_than_65535_members_can_be_unpacked(many, tmp_path):
    target = archives.extract(many, tmp_path / "out")
    found = tree(target)
    assert len(found) == 65_537
    assert all(name.endswith(f"/{content.decode()}.json") for name, content in found.items())


def test_z06_a_number_of_members_that_was_cut_to_16_bits_is_the_same_number(tmp_path):
    count = 65_540
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(str(number), b"")
    whole = path.read_bytes()
    record = whole.rindex(b"PK\6\6")
    size, offset = struct.unpack_from("<2Q", whole, record + 40)
    path.write_bytes(whole[:record] + struct.pack("<4s4H2LH", END, 0, 0, 4, 4, size, offset, 0))
    assert archives.check(path).members == count


def sparse(path, large, crc):
    """Write an archive with a member of so many zeros, which take no room on disk, and a small one behind it."""
    full, small = 0xFFFFFFFF, b'{"small": 1}'
    first = struct.pack("<5H3L2H", 45, 0, 0, 0, 33, crc, full, full, 5, 20)
    second = struct.pack("<5H3L2H", 45, 0, 0, 0, 33, zlib.crc32(small), len(small), len(small), 5, 0)
    sizes = struct.pack("<2H2Q", 1, 16, large, large)
    with path.open("wb") as file:
        file.write(LOCAL + first + b"large" + sizes)
        file.seek(large, os.SEEK_CUR)
        behind = file.tell()
        file.write(LOCAL + second + b"small" + small)
        start = file.tell()
        file.write(RECORD + b"\x2d\3" + first + struct.pack("<3H2L", 0, 0, 0, 0, 0) + b"large" + sizes)
        second = second[:-2] + struct.pack("<H", 12)
        file.write(RECORD + b"\x2d\3" + second + struct.pack("<3H2L", 0, 0, 0, 0, full) + b"small")
        file.write(struct.pack("<2HQ", 1, 8, behind))
        end = file.tell()
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - start, start))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2LH", END, 0, 0, 2, 2, end - start, full, 0))


@pytest.fixture
def huge(tmp_path):
    """An archive of more than 4 GiB that takes no room on disk, and the size of its first member."""
    if os.name != "posix":
        pytest.skip("needs files with holes")
    path, large = tmp_path / "large.zip", 4 * 1024**3 + 5
    # The CRC of so many zeros, which takes seconds to compute.
    sparse(path, large, 0xB1C2A1A3)
    assert path.stat().st_blocks * 512 < 1024**2
    return path, large


def test_z06_more_than_4_gib_work(huge):
    path, large = huge
    assert [info.file_size for info in zipfile.ZipFile(path).infolist()] == [large, 12]
    assert archives.check(path) == (2, large + 12)
    first, second = archives.iter_members(path)
    assert (first.size, second.json()) == (large, {"small": 1})
    with first.open() as file:
        assert file.read(1_000_000) == bytes(1_000_000)
    with pytest.raises(DownloadError, match="the limit is"):
        first.read()


@pytest.mark.stress
def test_z06_more_than_4_gib_are_read_to_their_end(huge):
    path, large = huge
    assert archives.verify(path) == (2, large + 12)


@posix
@pytest.mark.parametrize("mode", [0o104777, 0o102755, 0o101666, 0o100000])
def test_z07_bits_and_times_of_the_archive_are_dropped(tmp_path, mode):
    folder = Part(b"d/", b"", attributes=(stat.S_IFDIR | 0o7777) << 16)
    parts = [Part(b"d/a", attributes=mode << 16, date=date, time=0xFFFF) for date in (0, 0xFFFF)]
    before, began = os.umask(0o027), time.time()
    try:
        unpacked(tmp_path, build(folder, parts[0], parts[1]._replace(name=b"d/b")))
    finally:
        os.umask(before)
    for path, bits in (("d", 0o750), ("d/a", 0o640), ("d/b", 0o640), (".", 0o750)):
        found = (tmp_path / "out" / path).stat()
        assert stat.S_IMODE(found.st_mode) == bits
        assert abs(found.st_mtime - began) < 60


EXTRACT = """
import sys
from cfplatform import archives
path, target = sys.argv[1:]
print("begin", flush=True)
archives.extract(path, target, progress=lambda count: None)
"""


@posix
def test_z08_a_killed_process_leaves_no_folder_and_the_next_call_cleans_up(tmp_path):
    path, target = tmp_path / "a.zip", tmp_path / "out"
    contents = {f"{number % 20}/{number}.json": b"%d" % number * 50 for number in range(2000)}
    path.write_bytes(written(contents))
    rng, interrupted = random.Random(8), 0
    for _ in range(5):
        with Child(
            [sys.executable, "-c", EXTRACT, str(path), str(target)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout.readline() == "begin\n"
            wait_until(lambda: target.exists() or any(tmp_path.glob(".cfplatform-*/*")))
            time.sleep(rng.random() * 0.15)
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = [name for name in os.listdir(tmp_path) if name.startswith(".cfplatform-")]
        assert len(left) <= 1
        interrupted += len(left)
        if target.exists():
            assert left == []
            assert tree(target) == contents
            target.rename(tmp_path / f"done-{interrupted}-{rng.random()}")
    assert interrupted
    (tmp_path / ".cfplatform-00000000-of-another-folder").mkdir()
    assert tree(archives.extract(path, target)) == contents
    assert list(tmp_path.glob(".cfplatform-*")) == [tmp_path / ".cfplatform-00000000-of-another-folder"]


@posix
def test_z08_the_unfinished_folder_of_a_living_process_is_left_alone(tmp_path):
    path, target = tmp_path / "a.zip", tmp_path / "out"
    path.write_bytes(WHOLE)
    finished = []

    def other(count):
        if not finished:
            finished.append(None)
            finished[0] = tree(archives.extract(path, target))

    with pytest.raises(DownloadError, match="already exists"):
        archives.extract(path, target, progress=other)
    assert finished == [CONTENTS]
    assert tree(target) == CONTENTS
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_z08_an_interrupt_leaves_nothing(tmp_path, error):
    path = _write(tmp_path / "a.zip", WHOLE)

    def stop(count):
        raise error

    with pytest.raises(error):
        archives.extract(path, tmp_path / "out", progress=stop)
    with pytest.raises(error):
        archives.verify(path, progress=stop)
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip(f"mounting is not permitted: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_z08_a_disk_that_fills_up_leaves_nothing(tmp_path, disk):
    small = _write(tmp_path / "small.zip", build(*(Part(b"%d" % number) for number in range(500))))
    seen = []
    with pytest.raises(DownloadError, match=r"No space left.*bytes are free.*Partial files were removed"):
        archives.extract(small, disk / "out", progress=seen.append)
    assert len(seen) > 100
    assert os.listdir(disk) == []
    with pytest.raises(DownloadError, match="500,000,000 bytes, but only"):
        archives.extract(_write(tmp_path / "b.zip", build(_zeros(500_000_000))), disk / "out")
    assert os.listdir(disk) == []
    assert archives.extract(_write(tmp_path / "c.zip", WHOLE), disk / "out") == disk / "out"


def _zeros(size):
    """A member that announces so many bytes; only its headers are looked at."""
    return Part(b"zeros", bytes(size // 900), size=size, method=8)


def test_z08_a_read_only_disk_is_one_typed_error(tmp_path, disk):
    path = _write(tmp_path / "a.zip", WHOLE)
    remount = ["mount", "-t", "tmpfs", "-o", "remount,ro", "tmpfs", disk]
    assert subprocess.run(remount, capture_output=True).returncode == 0
    with pytest.raises(DownloadError, match="Read-only file system"):
        archives.extract(path, disk / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_z08_no_descriptor_is_left_open(tmp_path):
    path = _write(tmp_path / "a.zip", WHOLE)
    bad = _write(tmp_path / "b.zip", build(Part(b"d/a"), Part(crc=1)))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        archives.extract(path, tmp_path / str(number))
        with pytest.raises(DownloadError):
            archives.extract(bad, tmp_path / "out")
        next(archives.iter_members(path)).read()
        with contextlib.suppress(DownloadError):
            archives.check(tmp_path / "nothing")
    assert len(os.listdir("/proc/self/fd")) == before


# --- Properties ----------------------------------------------------------------------------------------------------

text = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters='\\/:*?"<>|'), max_size=20)
safe = st.builds(
    lambda folders, name: "/".join([f"d{each}x" for each in folders] + [f"f{name}x"]), st.lists(text, max_size=3), text
)
contents = st.lists(
    st.tuples(safe, st.binary(max_size=3000), st.sampled_from([0, 8])),
    max_size=8,
    unique_by=lambda member: folded(member[0]),
)


@given(contents, st.binary(max_size=30))
def test_any_archive_of_safe_names_comes_out_byte_for_byte(members, comment):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.comment = comment.replace(b"PK", b"pk")
            for name, data, method in members:
                archive.writestr(name, data, method)
        expected = {name: data for name, data, _ in members}
        assert archives.verify(path) == (len(members), sum(map(len, expected.values())))
        assert {member.name: member.read() for member in archives.iter_members(path)} == expected
        assert tree(archives.extract(path, Path(place) / "out")) == expected


change = st.one_of(
    st.tuples(st.just("set"), st.integers(0, len(WHOLE) - 1), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.integers(0, len(WHOLE) - 1), st.integers(1, 200)),
    st.tuples(st.just("add"), st.integers(0, len(WHOLE)), st.binary(min_size=1, max_size=30)),
    st.tuples(st.just("flip"), st.integers(0, len(WHOLE) - 1), st.integers(0, 7)),
)


def changed(content, changes):
    data = bytearray(content)
    for kind, place, value in changes:
        if kind == "cut":
            del data[place : place + value]
        elif kind == "add":
            data[place:place] = value
        elif place < len(data):
            data[place] = value if kind == "set" else data[place] ^ (1 << value)
    return bytes(data)


@settings(max_examples=400)
@given(st.lists(change, min_size=1, max_size=3))
@example([("flip", WHOLE.index(RECORD) + 9, 3)])
def test_changed_bytes_give_the_same_files_or_a_typed_error(changes):
    with tempfile.TemporaryDirectory() as place:
        path = _write(Path(place) / "a.zip", changed(WHOLE, changes))
        target, error = outcome(CFPlatformError, archives.extract, path, Path(place) / "out")
        assert error is None or os.listdir(place) == ["a.zip"]
        assert error is not None or tree(target) == CONTENTS
        members, second = outcome(
            CFPlatformError, lambda: {member.name: member.read() for member in archives.iter_members(path)}
        )
        assert (second is None, members) == (error is None, CONTENTS if error is None else None)


def test_every_single_changed_bit_gives_the_same_files_or_a_typed_error(tmp_path):
    path = tmp_path / "a.zip"
    for place, bit in itertools.product(range(len(WHOLE)), range(8)):
        path.write_bytes(changed(WHOLE, [("flip", place, bit)]))
        members, error = outcome(
            CFPlatformError, lambda: {member.name: member.read() for member in archives.iter_members(path)}
        )
        assert error is not None or members == CONTENTS, (place, bit)


hostile = st.lists(st.sampled_from(["..", ".", "", "a", "b", "C:", "~", "\\", "é", "\0", "con", " "]), max_size=5)


@settings(max_examples=300)
@given(st.lists(st.tuples(hostile, st.sampled_from(["/", "\\", "//"])), min_size=1, max_size=3), st.booleans())
def test_hostile_names_never_escape(names, utf8):
    parts = [Part(joint.join(each).encode(), b"evil", flags=UTF8 if utf8 else 0) for each, joint in names]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "deep" / "inside"
        root.mkdir(parents=True)
        path = _write(Path(place) / "a.zip", build(*parts))
        _, error = outcome(CFPlatformError, archives.extract, path, root / "out")
        assert sorted(os.listdir(place)) == ["a.zip", "deep"]
        assert os.listdir(Path(place) / "deep") == ["inside"]
        assert os.listdir(root) == ([] if error else ["out"])
        assert error is not None or len(tree(root)) == len(parts)
