"""Setting ``info.asset_url`` in documents that arrive in pieces: the same bytes as for a complete one."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfplatform import InvalidResponseError, documents
from cfplatform.documents import Edit
from cfplatform.transfer import large_documents
from cfplatform.transfer.large_documents import LONGEST_NAME, Rewriter, Scanner, applied
from tests.unit.test_documents import URLS, spelled

#: Mostly short pieces, since what matters is what they cut; some longer than any name, and empty ones.
SIZES = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 3 * LONGEST_NAME)), min_size=1, max_size=30)
FILLER = b'{"images": [' + b'{"id": 1, "file_name": "a.png"},' * 40 + b'{"id": 2}], '


def pieces(document, sizes):
    """Cut a document; what is left after the given sizes is cut by them again."""
    found, at = [], 0
    while at < len(document):
        for size in [*sizes, 1]:
            found.append(document[at : at + size])
            at += size
    return found


def find_edit(pieces, asset_url):
    """Return the edit that sets the URL in a document, given all of its pieces."""
    scanner = Scanner()
    for piece in pieces:
        scanner.feed(piece)
    scanner.feed(b"", last=True)
    return scanner.edit(asset_url)


def rewritten(found, head, asset_url):
    """Return what is written first and what is in the end, and the number of times that was read back."""
    rewriter = Rewriter(found[:head], asset_url)
    first = b"".join(rewriter.rewritten(found[:head], found[head:]))
    reads = []

    def read_back():
        reads.append(1)
        return (first[at : at + 7] for at in range(0, len(first), 7))

    corrected = rewriter.corrected(read_back)
    return first, first if corrected is None else b"".join(corrected), len(reads)


@given(spelled(), URLS, SIZES)
@example((b'{"\\u0069nfo":{"asset_\\u0075rl":1}}', None), "u", [1])
@example((b'{"a":"\\\\\\"","info":{}}', None), "u", [1])
def test_the_edit_does_not_depend_on_the_pieces(case, url, sizes):
    document, _ = case
    found = pieces(document, sizes)
    assert find_edit(found, url) == find_edit([document], url)
    assert b"".join(applied(find_edit(found, url), found)) == documents.set_asset_url(document, url)


@given(spelled(), URLS, SIZES, st.integers(1, 40))
@example((b'{"info":{},"x":[{"info":1}]}', None), "u", [1], 11)
@example((b'{"x":1,"\\u0069nfo":{}}', None), "u", [1], 15)
@example((b'{"info":{},"info":{}}', None), "u", [1], 17)
@example((b'{"info":{},"info":{}}', None), "u", [50], 1)
@example((b'{"info":[],"a":1}', None), "u", [1], 9)
def test_what_is_written_while_it_arrives_is_what_a_whole_document_becomes(case, url, sizes, head):
    document, _ = case
    _, final, _ = rewritten(pieces(document, sizes), head, url)
    assert final == documents.set_asset_url(document, url)


@pytest.mark.parametrize(
    ("document", "reads"),
    [
        (b'{"info": {"year": 2026}, ' + FILLER[1:] + b'"x": 1}', 0),
        (b'{"licenses": [{"info": 1}], "info": {"asset_url": "old"}, ' + FILLER[1:] + b'"x": 1}', 0),
        (FILLER + b'"x": 1}', 0),
        (FILLER + b'"x": "\\u00e9 infor"}', 0),
        (b'{"info": {}, ' + FILLER[1:] + b'"x": {"info": 1}}', 0),
        (b'{"info": {}, ' + FILLER[1:] + b'"x": "\\u0061"}', 0),
        (FILLER + b'"x": "info"}', 0),
        (FILLER + b'"info": {"year": 2026}}', 1),
        (b'{"info": {}, ' + FILLER[1:] + b'"info": {}}', 1),
        # It is longer than the first part.
        (b'{"info": ' + FILLER + b'"x": 1}}', 1),
        (b'{"info": ' + FILLER + b'"asset_url": 1}}', 1),
    ],
)
@pytest.mark.parametrize("size", [1, 64, 100])
def test_it_is_written_again_only_where_that_could_not_be_foreseen(document, reads, size):
    first, final, found = rewritten(pieces(document, [size]), 200 // size + 1, "u")
    assert final == documents.set_asset_url(document, "u")
    assert found == reads
    assert (first == final) == (reads == 0)


@given(st.binary(max_size=60), SIZES, st.data())
def test_an_edit_replaces_what_it_names(document, sizes, data):
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, len(document)))
    edited = b"".join(applied(Edit(start, end, b"value"), pieces(document, sizes)))
    assert edited == document[:start] + b"value" + document[end:]


@given(st.binary(max_size=60), SIZES)
def test_any_bytes_are_gone_through(document, sizes):
    start, end, _ = find_edit(pieces(b'{"info"' + document, sizes), "u")
    assert 0 <= start <= end <= len(document) + 7


@pytest.mark.parametrize("document", [b"", b"{", b'{"info', b'{"info": {"a', b'{"a": "\\', b"}", b"[", b'{"info":'])
def test_the_edit_of_a_document_that_was_not_proven_ends(document):
    start, end, value = find_edit([document], "u")
    assert 0 <= start <= end <= len(document)
    assert b'"asset_url": "u"' in value


@pytest.mark.parametrize("start", [b'{"info": {"a": "', b'{"info": [' + b"[" * 2000, b" " * 50, b'{"x": 1, "info" '])
def test_memory_is_bounded_where_an_info_does_not_end(start, monkeypatch):
    monkeypatch.setattr(large_documents, "PARSE_LIMIT", 10_000)
    with pytest.raises(InvalidResponseError, match="larger than 8 MiB"):
        find_edit([start, *[b" " * 100] * 101], "u")


@pytest.mark.parametrize(
    "filler", [b"a" * 20_000_000, b'\\"' * 500_000, b"\\\\" * 500_000], ids=["plain", "quotes", "backslashes"]
)
def test_a_huge_string_costs_neither_memory_nor_time(filler):
    document = b'{"x": "' + filler + b'", "info": {}}'
    began = time.perf_counter()
    start, end, _ = find_edit([document], "u")
    assert time.perf_counter() - began < 3
    assert start == end == len(document) - 2


@pytest.mark.parametrize("part", [b'{"info": 1}, ', b'"info", ', b'[[{"info"', b'"\\u006a", ', b'"\\\\\\"info", '])
def test_many_names_cost_time_in_step_with_their_number(part):
    took = []
    for count in (10_000, 40_000):
        document = b'{"x": [' + part * count
        began = time.process_time()
        find_edit([document], "u")
        took.append(time.process_time() - began)
    assert took[1] < 10 * took[0] + 0.1


def test_many_equal_members_cost_time_in_step_with_their_number():
    took = []
    for count in (5_000, 20_000):
        document = b"{" + b'"info":{},"\\u0069nfo":{"asset_url":1},' * count + b'"x":1}'
        began = time.process_time()
        start, end, _ = find_edit([document], "u")
        took.append(time.process_time() - began)
        assert document[start - 12 : end + 1] == b'"asset_url":1}'
        assert start > len(document) - 20
    assert took[1] < 10 * took[0] + 0.1
