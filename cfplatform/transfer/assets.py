"""Assets beside the labels: the pictures and videos that the documents are about.

An asset goes to ``<batch>/assets/<work item id><extension>``, so that the picture of a label file is found by name;
where it lies is also written down in the state, since the document names it as the platform does.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import re
from collections.abc import Callable

from .. import naming
from ..destination import local
from ..destination.places import Place
from ..destination.state import FinishedAsset, State
from ..exceptions import InvalidResponseError
from ..http import ObjectStream, Run, Transport
from ..resources import WorkItem
from . import resumable

#: Where neither the place of an asset nor its media type tells one. There is always one, so that no name of an asset
#: can be another one's name with its extension.
DEFAULT_EXTENSION = ".bin"

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,9}")


class Assets:
    """What is known of the assets of one destination.

    Args:
        place: The destination.
        state: Its state, open.
    """

    def __init__(self, place: Place, state: State) -> None:
        self._place = place
        self._state = state

    def here(self, project_id: str, item: WorkItem, folder: str, stem: str) -> FinishedAsset | None:
        """Return an item's asset if it is there, unchanged and where it belongs."""
        known = self._state.asset(project_id, item.id)
        if known is None or known.source != _source(item) or os.path.splitext(known.path)[0] != _stem(folder, stem):
            return None
        return known if self._place.has(known.path, known.size, known.mtime_ns) else None

    def keep(self, project_id: str, item: WorkItem, asset: FinishedAsset) -> None:
        """Write down where an item's asset is now; remove the file that it had elsewhere."""
        known = self._state.asset(project_id, item.id)
        self._state.finish_asset(project_id, item.id, asset)
        if known is not None and known.path != asset.path:
            self._remove_moved(known)

    def _remove_moved(self, known: FinishedAsset) -> None:
        """Remove the file that an asset had before, if nobody touched it since."""
        *folders, name = known.path.split("/")
        # The state file is not trusted with a path: only one that this code could have chosen is removed.
        if (
            len(folders) == 2
            and folders[1] == local.ASSETS_FOLDER
            and all(naming.safe_name(part) == part for part in (*folders, name))
        ):
            self._place.remove_unchanged(known.path, known.size, known.mtime_ns)


def fetch(
    calls: Transport,
    place: Place,
    project_id: str,
    item: WorkItem,
    folder: str,
    stem: str,
    url: str,
    renew: Callable[[], str] | None,
    run: Run,
) -> FinishedAsset:
    """Fetch an item's asset and return where it is.

    Args:
        calls: The transport.
        place: The destination.
        project_id: The project that was asked for.
        item: The work item.
        folder: The folder of its batch.
        stem: The name of its files, without extension.
        url: Where the asset is.
        renew: Returns a new signed URL; ``None`` where the URL is not one of the platform's.
        run: The run that it belongs to.
    """
    place.ensure_folder(folder, local.ASSETS_FOLDER)

    def look(stream: ObjectStream) -> None:
        media_type = stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type == "text/html" and not url.partition("?")[0].endswith((".html", ".htm")):
            raise InvalidResponseError("The storage sent a web page in place of the asset.")

    with contextlib.closing(resumable.Resumable(place.root, f"asset {project_id} {item.id}")) as part:
        resumable.fetch(calls, url, part, renew, look=look, plain=renew is None, run=run)
        path = _stem(folder, stem) + _extension(item.asset_url or "", part.media_type)
        found = place.adopt(part, path)
    return FinishedAsset(path, _source(item), found.st_size, found.st_mtime_ns)


def _stem(folder: str, stem: str) -> str:
    return f"{folder}/{local.ASSETS_FOLDER}/{stem}"


def _source(item: WorkItem) -> str:
    """Return what tells one asset of an item from another; not the address itself, which may hold a signature."""
    return hashlib.blake2b((item.asset_url or "").encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _extension(asset_url: str, media_type: str) -> str:
    """Return the extension that the asset's place has, else the one of its media type."""
    name = asset_url.partition("?")[0].partition("#")[0].rsplit("/", 1)[-1]
    suffix = os.path.splitext(name)[1]
    if _EXTENSION.fullmatch(suffix):
        return suffix
    return mimetypes.guess_extension(media_type) or DEFAULT_EXTENSION
