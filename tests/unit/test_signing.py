from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import DownloadError, UnsafePathError
from cfplatform.transfer.steps import locate
from tests.tools import outcome


@pytest.mark.parametrize(
    ("place", "space", "path"),
    [
        ("s3://bucket/spaces/s-1/coco_output/f.json", "s-1", "coco_output/f.json"),
        ("gs://bucket/spaces/s-1/f.json", "s-1", "f.json"),
        ("s3://spaces/spaces/s-1/f.json", "s-1", "f.json"),
        ("s3://spaces/x/spaces/s-1/f.json", "s-1", "f.json"),
        ("s3://bucket/eu/prod/spaces/s-1/f.json", "s-1", "f.json"),
        ("s3://bucket/spaces/s-1/spaces/s-2/f.json", "s-1", "spaces/s-2/f.json"),
        ("s3://bucket/spaces/s-1/a b/é?#&%2e.json", "s-1", "a b/é?#&%2e.json"),
        ("s3://bucket/spaces/s-1/..f/f..json", "s-1", "..f/f..json"),
    ],
)
@pytest.mark.parametrize("expected", [None, "s-1"])
def test_a_place_is_split_into_space_and_path(place, space, path, expected):
    assert locate(place, expected) == (space, path)


@pytest.mark.parametrize("place", ["coco_output/f.json", "/coco_output/f.json"])
def test_a_path_without_a_scheme_is_in_the_given_space(place):
    assert locate(place, "s-1") == ("s-1", "coco_output/f.json")
    with pytest.raises(DownloadError, match="Pass space_id"):
        locate(place)


def test_another_space_is_refused_and_named():
    with pytest.raises(DownloadError, match="space_id is 's-2', but the .* is in space 's-1'. Omit it and CF_SPACE_ID"):
        locate("s3://bucket/spaces/s-1/f.json", "s-2")


@pytest.mark.parametrize(
    "place",
    [
        "s3://bucket/spaces/s-1/../s-2/f.json",
        "s3://bucket/spaces/s-1/..",
        "s3://bucket/spaces/s-1/a/./f.json",
        "s3://bucket/spaces/s-1/a//f.json",
        "s3://bucket/spaces/s-1//f.json",
        "s3://bucket/spaces/s-1/a/",
        "s3://bucket/spaces/../x/f.json",
        "s3://bucket/spaces/./f.json",
        "s3://bucket/spaces/s-1/a\0b",
        "s3://bucket/spaces/s-1/a\x1bb",
    ],
)
def test_a_place_that_leads_out_of_its_space_is_refused(place):
    with pytest.raises(UnsafePathError, match="points outside its space"):
        locate(place)


@pytest.mark.parametrize("path", ["../f.json", "/../f.json", "a/../../f.json", "", "/", ".", "a//b"])
def test_a_relative_path_that_leads_out_of_its_space_is_refused(path):
    with pytest.raises(UnsafePathError, match="points outside its space"):
        locate(path, "s-1")


@pytest.mark.parametrize(
    "place", ["s3://bucket", "s3://bucket/", "s3://bucket/f.json", "s3://spaces/s-1/f.json", "s3://bucket/spaces/s-1"]
)
def test_a_place_without_a_space_is_refused(place):
    with pytest.raises(DownloadError, match="has no space ID"):
        locate(place)


@pytest.mark.parametrize("scheme", ["https", "http", "file", "ftp", ""])
def test_only_object_storage_can_be_signed(scheme):
    with pytest.raises(DownloadError, match="only s3:// and gs:// can be signed") as caught:
        locate(f"{scheme}://user:SECRET@host/spaces/s-1/f.json?X-Amz-Signature=SECRET")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("place", ["s3://bucket/f.json?sig=SECRET", "s3://bucket/spaces/s/../f?X-Amz-Signature=SECRET"])
def test_no_message_shows_a_query(place):
    with pytest.raises(DownloadError) as caught:
        locate(place)
    assert "SECRET" not in str(caught.value)


@given(st.text(), st.sampled_from([None, "s-1"]))
def test_any_text_is_located_or_refused(text, space):
    for place in (text, f"s3://bucket/spaces/s-1/{text}", f"s3://bucket/spaces/{text}/f.json"):
        located, error = outcome(DownloadError, locate, place, space)
        if located is None:
            assert str(error)
        else:
            assert not {"", ".", ".."} & {located[0], *located[1].split("/")}
