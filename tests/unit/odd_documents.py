"""Nonstandard documents: valid ones with some values replaced."""

from __future__ import annotations

import copy

from hypothesis import strategies as st

#: Numbers up to those that no float can hold.
_NUMBERS = st.integers(-3, 3) | st.integers() | st.floats() | st.sampled_from([10**16, -(10**400), 10**4000])
_LEAVES = st.none() | st.booleans() | _NUMBERS | st.text(max_size=5)
#: Any JSON value, and NaN and the infinities, which many writers put there as well.
anything = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=8,
)

#: A document with one of everything that the format has, and nothing wrong.
EVERYTHING = {
    "info": {"description": "everything", "year": 2026},
    "licenses": [{"id": 1, "name": "none"}],
    "images": [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 2.0, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
        {"id": 2, "name": "tree"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [2, 2, 10, 10],
            "area": 100.0,
            "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
            "keypoints": [4, 4, 2, 0, 0, 0],
            "num_keypoints": 1,
            "iscrowd": 0,
        },
        {
            "id": 2.0,
            "image_id": 1.0,
            "category_id": 2,
            "bbox": [0, 0, 2, 3],
            "area": 6,
            "segmentation": {"size": [30, 40], "counts": [0, 3, 27, 3, 1167]},
            "iscrowd": 1,
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 2,
            "bbox": [0, 0, 2, 3],
            "area": 6,
            "segmentation": {"size": [30, 40], "counts": "03k00dS1"},
        },
        {"id": 4, "image_id": 1, "category_id": 2, "caption": "A tree."},
        {"image_id": 2, "file_name": "b-panoptic.png", "segments_info": [{"id": 9, "category_id": 2, "area": 4}]},
        {"id": 5, "image_id": 2, "category_id": 2, "bbox": [5, 5, 2, 3], "area": 6, "segmentation": []},
    ],
}


def places(value, pointer=()):
    """Every place in a value, as the keys that lead there."""
    yield pointer
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*pointer, key))


_PLACES = [place for place in places(EVERYTHING) if place]


@st.composite
def odd_documents(draw):
    """The document above, of which a few places hold anything, or nothing any more."""
    document = copy.deepcopy(EVERYTHING)
    for place in draw(st.lists(st.sampled_from(_PLACES), min_size=1, max_size=3)):
        holder = document
        try:
            for key in place[:-1]:
                holder = holder[key]
            if draw(st.booleans()):
                holder[place[-1]] = draw(anything)
            else:
                del holder[place[-1]]
        except (LookupError, TypeError):
            # An earlier change took the place away.
            continue
    return document
