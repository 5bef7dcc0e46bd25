"""What the members of a document refer to: the one table that merging follows when it changes IDs."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

#: Members that refer to entries by their ID, or by a list of IDs, and the section of these entries.
_REFERENCES = {
    "image_id": "images",
    "image_ids": "images",
    "prev_image_id": "images",
    "next_image_id": "images",
    "category_id": "categories",
    "category_ids": "categories",
    "neg_category_ids": "categories",
    "not_exhaustive_category_ids": "categories",
    "background_ids": "scene_categories",
    "video_id": "videos",
    "video_ids": "videos",
    "track_id": "tracks",
    "track_ids": "tracks",
    "instance_id": "instances",
    "instance_ids": "instances",
}
#: An entry whose image or category does not exist is refused; of other references only the reference is left out.
_NEEDED = {"image_id", "category_id"}
#: Sections that a document may refer to without having them: the IDs only say what belongs together.
FREE = {"videos", "tracks", "instances"}
#: Members that end like references, but refer to nothing in the document.
_OUTSIDE = {"work_item_id", "frame_id"}


class References(NamedTuple):
    """The references among the members of an entry; each with the section that it refers to.

    Attributes:
        needed: ``image_id`` and ``category_id``.
        others: Others that are known.
        unknown: Members that are named like references.
        has_attributes: Whether there are ``attributes``, which may name tracks.
        has_more: Whether there is more than ``needed``.
    """

    needed: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    has_attributes: bool
    has_more: bool


@functools.lru_cache(maxsize=256)
def references(members: tuple[str, ...]) -> References:
    """Return the references among the members of an entry.

    Example:
        >>> references(("id", "image_id", "track_id", "parent_id"))[:3]
        ((('image_id', 'images'),), (('track_id', 'tracks'),), ('parent_id',))
    """
    known = [(name, _REFERENCES[name]) for name in members if name in _REFERENCES]
    others = tuple(each for each in known if each[0] not in _NEEDED)
    unknown = tuple(
        name
        for name in members
        if isinstance(name, str) and name.endswith(("_id", "_ids")) and name not in _REFERENCES and name not in _OUTSIDE
    )
    has_attributes = "attributes" in members
    needed = tuple(each for each in known if each[0] in _NEEDED)
    return References(needed, others, unknown, has_attributes, bool(others or unknown or has_attributes))


def is_list_of_entries(name: str, value: Any) -> bool:
    """Return whether a member of a document is a list of entries that refer to others, or are referred to."""
    return isinstance(value, list) and any(
        isinstance(each, dict) and (name in FREE or any(references(tuple(each))[:2])) for each in value
    )


def may_refer(value: Any) -> bool:
    """Return whether any member below a value is named like a reference."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if any(references(tuple(value))[:3]):
                return True
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return False
