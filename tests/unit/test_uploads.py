"""Invalid arguments of uploads and creations, rejected before any request."""

from __future__ import annotations

import io
import json
import os
import string
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import Client, InvalidParameterError, UploadedFile, UploadError, params
from cfplatform.http import Body
from cfplatform.transfer import uploads
from cfplatform.transfer.uploads import check_content_type, check_files
from tests.tools import outcome


@pytest.fixture(scope="module")
def unreachable():
    """A client whose requests would all fail: nothing listens there."""
    with Client("key-0123456789", base_url="http://127.0.0.1:9", project_id="p", space_id="s", retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "image/png"),
        ("A.JPG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.tar.gz", "application/octet-stream"),
        ("a.svgz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        (".png", "application/octet-stream"),
        ("", "application/octet-stream"),
        (None, "application/octet-stream"),
        ("data:text/plain,x.png", "image/png"),
        ("http://h/x.png?a=b.jpg", "image/jpeg"),
        ("x:y.png", "image/png"),
    ],
)
def test_the_type_is_told_from_the_name(name, expected):
    assert uploads.guess_content_type(name) == expected


@given(st.text())
def test_any_name_has_a_type_that_can_be_sent(name):
    guessed = uploads.guess_content_type(name)
    assert check_content_type(guessed) == guessed


@pytest.mark.parametrize(
    "value", ["image/png", "x/y", "image/svg+xml", "text/plain; charset=utf-8", 'a/b;c="d e"', "image/x-" + "a" * 247]
)
def test_content_types_are_sent_as_given(value):
    assert check_content_type(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "png",
        "image/",
        "/png",
        "image/png\r\nX-Evil: 1",
        "image/png\n",
        " image/png",
        "image/png ",
        "image/png;",
        "imagé/png",
        "image/png; a=é",
        "image/png\0",
        "a b/c",
        "image/png, x/y",
        5,
        b"image/png",
        True,
        "image/" + "a" * 255,
    ],
)
def test_what_is_no_content_type_is_refused(unreachable, value):
    for call in (unreachable.upload_file, lambda file, **options: unreachable.upload_files([file], **options)):
        with pytest.raises(InvalidParameterError, match="media type"):
            call(io.BytesIO(b"x"), content_type=value)


@given(st.one_of(st.text(), st.from_regex(r"[a-z]+/[a-z]+.*", fullmatch=True)))
def test_an_accepted_content_type_cannot_break_a_header(value):
    accepted, _ = outcome(InvalidParameterError, check_content_type, value)
    if accepted is not None:
        assert accepted == value == value.strip()
        assert set(value) <= set(string.printable) - set("\r\n\t\v\f")
        assert "/" in value


@pytest.mark.parametrize("files", ["a.png", b"a.png", io.BytesIO(b"x"), 5, None, {"a.png": 1}])
def test_one_file_is_not_many(unreachable, files):
    with pytest.raises(InvalidParameterError, match=r"upload_file\(\)"):
        check_files(files)
    with pytest.raises(InvalidParameterError, match=r"upload_file\(\)"):
        unreachable.upload_files(files)


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"max_workers": 257}, {"max_workers": True}, {"progress": 5}])
def test_arguments_are_checked_by_the_call_itself(unreachable, options):
    with pytest.raises(ValueError, match=r"max_workers|progress"):
        unreachable.upload_files([], **options)


@given(data=st.binary(min_size=1, max_size=200), start=st.integers(0, 199), steps=st.lists(st.integers(1, 60)))
def test_a_body_gives_every_byte_once(data, start, steps):
    file = io.BytesIO(data)
    start = min(start, len(data) - 1)
    file.seek(start)
    body = Body(file, len(data) - start)
    for _ in range(2):
        body.seek(0)
        assert b"".join([*map(body.read, steps), body.read(), body.read(), body.read(5)]) == data[start:]
        assert body.tell() == body.size
    with pytest.raises(io.UnsupportedOperation):
        body.seek(0, os.SEEK_END)


def test_a_body_of_a_file_that_fails_is_a_typed_error():
    class Broken(io.BytesIO):
        def seek(self, *args):
            raise RuntimeError

        def read(self, amount=-1):
            raise PermissionError(13, "Permission\x1b denied")

    body = Body(Broken(b"x"), 1, name="a.png")
    with pytest.raises(UploadError, match="'a.png'.*Permission\ufffd denied"):
        body.read(1)
    with pytest.raises(UploadError, match="RuntimeError"):
        body.seek(0)


class Rude:
    """A file object that does nothing as it should."""

    name = 5

    def __init__(self, **methods):
        vars(self).update(methods)

    def read(self, amount=-1):
        return b""


def fail(*args):
    raise KeyError("x")


@pytest.mark.parametrize(
    ("rude", "error"),
    [
        (Rude(), InvalidParameterError),
        (Rude(read=fail), UploadError),
        (Rude(read=lambda amount: None), InvalidParameterError),
        (Rude(seekable=lambda: False), InvalidParameterError),
        (Rude(seekable=fail), UploadError),
        (Rude(seekable=lambda: True), UploadError),
        (Rude(seekable=lambda: True, tell=lambda: 0, seek=fail), UploadError),
    ],
)
def test_rude_file_objects_are_refused(unreachable, rude, error):
    with pytest.raises(error):
        unreachable.upload_file(rude)
    (result,) = unreachable.upload_files([rude])
    assert type(result.error) is error


# --- What is created -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "\n", None, 5, b"x", ["x"], "a\nb", "a\0b", "a\x1b[31m", "\ud800"])
def test_bad_names_are_refused(unreachable, name):
    for call in (
        lambda: unreachable.create_batch(name),
        lambda: unreachable.update_batch(1001, name=name),
        lambda: unreachable.create_work_item(name),
    ):
        with pytest.raises(InvalidParameterError, match=r"^(name|asset_url)"):
            call()


@pytest.mark.parametrize("batch_id", ["x", -1, 1.5, True, "", None])
def test_bad_batch_ids_are_refused(unreachable, batch_id):
    with pytest.raises(InvalidParameterError, match="batch_id"):
        unreachable.update_batch(batch_id, name="x")
    if batch_id is not None:
        with pytest.raises(InvalidParameterError, match="batch_id"):
            unreachable.create_work_item("x", batch_id=batch_id)


def test_bad_types_and_projects_are_refused(unreachable):
    with pytest.raises(InvalidParameterError, match="asset_type"):
        unreachable.create_work_item("x", asset_type=" ")
    for project in ("", ".", ".."):
        with pytest.raises(InvalidParameterError, match="project_id"):
            unreachable.create_batch("x", project)
    with pytest.raises(InvalidParameterError, match="asset_url"):
        unreachable.create_work_item(UploadedFile("", 1, "x/y", None))


def nested(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


ROUND = {}
ROUND["self"] = ROUND


@pytest.mark.parametrize(
    "metadata",
    [
        "x",
        5,
        [],
        [("a", 1)],
        {1: 2},
        {None: 1},
        {"a": {1: 2}},
        {"a": [{True: 1}]},
        {"a": {1, 2}},
        {"a": b"x"},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": object()},
        ROUND,
        nested(101),
        {"a": 10**5000},
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_metadata_is_refused(unreachable, metadata):
    with pytest.raises(InvalidParameterError, match=r"^metadata"):
        unreachable.create_work_item("x", metadata=metadata)


@pytest.mark.parametrize(
    "metadata", [{}, {"a": None}, {"a": (1, 2)}, MappingProxyType({"a": 1}), nested(100), {"": {}}]
)
def test_good_metadata_is_kept(metadata):
    assert params.metadata(metadata) == dict(metadata)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), ANY) | ANY)
def test_metadata_that_is_accepted_arrives_as_it_was(value):
    accepted, error = outcome(InvalidParameterError, params.metadata, value)
    if error is None:
        assert json.loads(json.dumps(accepted)) == _as_lists(value)


def _as_lists(value):
    if isinstance(value, dict):
        return {key: _as_lists(part) for key, part in value.items()}
    return [_as_lists(part) for part in value] if isinstance(value, (list, tuple)) else value


@given(st.text())
def test_a_name_that_is_accepted_is_one_line_without_outer_blanks(name):
    accepted, error = outcome(InvalidParameterError, params.text, "name", name)
    if error is None:
        assert accepted == name.strip() != ""
        assert accepted.encode()
