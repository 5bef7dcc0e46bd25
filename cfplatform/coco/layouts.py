"""Where the images of a document are: the folders that labelling tools use, and the names that they write."""

from __future__ import annotations

import contextlib
import functools
import ntpath
import os
import posixpath
import re
from urllib.parse import unquote, urlsplit

from ..destination.local import ASSETS_FOLDER

#: What names of documents begin with, before the name of the part: ``instances_train2017.json``.
_KIND = re.compile(r"^(?:instances|captions|person_keypoints|panoptic|stuff|image_info)_")
#: Folders with images: beside the document or beside its folder.
_IMAGE_FOLDERS = ("images", "data", ASSETS_FOLDER)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(name: str) -> bool:
    """Return whether the name of an image is a URL."""
    return _URL.match(name) is not None


def image_folders(folder: str, stem: str, images_from: str | None) -> list[str]:
    """Return the existing folders in which the images of a document can be, the most likely one first.

    Args:
        folder: The folder of the document.
        stem: The name of the document without its extension, such as ``instances_val2017``.
        images_from: The folder that the caller names; then no other is searched.
    """
    part = _KIND.sub("", stem)
    roots = (folder, os.path.dirname(folder)) if images_from is None else (images_from,)
    names = ("", *_IMAGE_FOLDERS, part, *(os.path.join(each, part) for each in _IMAGE_FOLDERS))
    # The folder of the document and below it before the folder around it.
    found = [os.path.join(root, name) if name else root for root in roots for name in names]
    return [each for each in dict.fromkeys(found) if os.path.isdir(each)]


@functools.lru_cache(maxsize=256)
def _relative_names(name: str) -> tuple[str, ...]:
    """Return the paths below a folder of images that the name of an image can mean."""
    if is_url(name):
        with contextlib.suppress(ValueError):
            return (unquote(posixpath.basename(urlsplit(name).path)),)
        return ()
    path = name.replace("\\", "/")
    # A path of the machine on which the document was written says only how the file is called.
    absolute = ntpath.splitdrive(path)[0] or path.startswith("/")
    return (name, posixpath.basename(path)) if absolute else (name,) if path == name else (name, path)


def find_image(folders: list[str], name: str) -> str | None:
    """Return the path of an image by the ``file_name`` of a document, or ``None`` if there is no such file.

    The folder in which it is found moves to the front of ``folders``, since others are there too.

    Example:
        >>> find_image(["no/such/folder"], "images\\\\a.jpg") is None
        True
    """
    for position, folder in enumerate(folders):
        for relative in _relative_names(name):
            path = os.path.normpath(os.path.join(folder, relative))
            if relative and os.path.isfile(path):
                folders.insert(0, folders.pop(position))
                return path
    return None
