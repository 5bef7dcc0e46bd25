"""Finds the images of a document in the folders that labeling tools use."""

from __future__ import annotations

import contextlib
import functools
import mimetypes
import ntpath
import os
import posixpath
import re
import time
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from ..destination.local import ASSETS_FOLDER

#: Prefixes of document names, before the name of the part: ``instances_train2017.json``.
_KIND = re.compile(r"^(?:instances|captions|person_keypoints|panoptic|stuff|image_info)_")
#: Folders with images, next to the document or one level up.
_IMAGE_FOLDERS = ("images", "data", ASSETS_FOLDER)
#: Folders with the masks of a panoptic document, besides one named like the document.
_MASK_FOLDERS = ("panoptic", "masks")
#: Seconds after which a later change of a folder has a different modification time, on any file system.
_SETTLED = 5
#: Image extensions that mimetypes does not know on every system.
_MORE_SUFFIXES = (".avif", ".dng", ".exr", ".heic", ".heif", ".jfif", ".jp2", ".tga", ".webp")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(name: str) -> bool:
    """Return whether the name of an image is a URL."""
    return "://" in name and _URL.match(name) is not None


def stem_of(stem: str) -> str:
    """Return the part in the name of a document: ``val2017`` for ``instances_val2017``."""
    return _KIND.sub("", stem)


def image_folders(folder: str, stem: str, images_from: str | None) -> list[str]:
    """Return the existing folders that may contain the images of a document, the most likely first.

    Args:
        folder: The folder of the document; empty if it has no file.
        stem: The name of the document without its extension, such as ``instances_val2017``.
        images_from: The folder that the caller gave; if set, no other is searched.
    """
    part = stem_of(stem)
    roots = [folder, os.path.dirname(folder)] if images_from is None else [images_from]
    names = ("", *_IMAGE_FOLDERS, part, *(f"{each}{os.sep}{part}" for each in _IMAGE_FOLDERS))
    return _existing(roots, names)


def mask_folders(folder: str, stem: str, images_from: str | None) -> list[str]:
    """Return the existing folders that may contain the masks of a panoptic document; see :func:`image_folders`."""
    roots = [folder, os.path.dirname(folder)] if folder else []
    return _existing([*roots, images_from] if images_from else roots, (stem, *_MASK_FOLDERS, ""))


def _existing(roots: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the folders with these names that exist, in the order of the roots."""
    found: list[str] = []
    for root in roots:
        known = _folders_in(root)
        for name in names:
            if known is not None and name.partition(os.sep)[0].lower() not in known:
                continue
            path = os.path.join(root, name) if name else root
            if os.path.isdir(path):
                found.append(path)
    return [*dict.fromkeys(found)]


def _folders_in(root: str) -> frozenset[str] | None:
    """Return the names of the subfolders in lower case, and an empty name for the folder itself.

    Returns:
        The names; ``None`` if the folder may be changing.
    """
    try:
        changed = os.stat(root).st_mtime_ns
        return None if abs(time.time() - changed / 1e9) < _SETTLED else _listed(root, changed)
    except (OSError, ValueError):
        return None


# A batch has many documents, and all of them look for the same folders.
@functools.lru_cache(maxsize=16)
def _listed(root: str, changed: int) -> frozenset[str]:
    with os.scandir(root) as entries:
        return frozenset(["", *(each.name.lower() for each in entries if each.is_dir())])


@functools.lru_cache(maxsize=256)
def _relative_names(name: str) -> tuple[str, ...]:
    """Return the possible paths of an image below an image folder."""
    if is_url(name):
        with contextlib.suppress(ValueError):
            return (unquote(posixpath.basename(urlsplit(name).path)),)
        return ()
    path = name.replace("\\", "/")
    # Of a path on another machine only the file name is useful.
    absolute = ntpath.splitdrive(path)[0] or path.startswith("/")
    return (name, posixpath.basename(path)) if absolute else (name,) if path == name else (name, path)


def may_be_image(folder: str, path: str) -> bool:
    """Return whether a file may be an image of a document whose images are in ``folder``.

    Documents are untrusted: a ``file_name`` such as ``../../.ssh/id_rsa`` must not be copied into a dataset.
    """
    if path.startswith(os.path.join(folder, "")) or os.path.basename(os.path.dirname(path)) == ASSETS_FOLDER:
        return True
    kind = mimetypes.guess_type(path, strict=False)[0] or ""
    if kind.startswith(("image/", "video/")) or path.lower().endswith(_MORE_SUFFIXES):
        return True
    # Either may be relative.
    return os.path.abspath(path).startswith(os.path.join(os.path.abspath(folder), ""))


def find_image(folders: list[str], name: str) -> str | None:
    """Return the path of an image by its ``file_name``, or ``None`` if there is no such file.

    Outside the folders, only files with the extension of an image or a video are accepted.

    The folder that contains it moves to the front of ``folders``, since it probably contains the others.

    Example:
        >>> find_image(["no/such/folder"], "images\\\\a.jpg") is None
        True
    """
    for position, folder in enumerate(folders):
        for relative in _relative_names(name):
            path = os.path.normpath(os.path.join(folder, relative))
            if relative and may_be_image(folder, path) and os.path.isfile(path):
                folders.insert(0, folders.pop(position))
                return path
    return None
