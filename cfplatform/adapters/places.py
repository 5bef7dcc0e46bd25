"""Where the documents of a folder lie, in a form that costs the workers of a loader next to nothing."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..coco.sources import Entry
from ..destination.local import ASSETS_FOLDER


class Places:
    """A sequence of entries, kept as two blocks of bytes.

    A million texts would be copied page by page into each forked worker, as their reference counts change, and sent to
    each spawned one.

    Args:
        root: The folder.
        entries: What lies in it, each with its picture.
    """

    def __init__(self, root: Path, entries: Iterable[Entry]) -> None:
        self._root = str(root)
        self._names = bytearray()
        self._ends = array("Q", [0])
        for path, asset in ((each.path, each.asset) for each in entries):
            folder = "" if path.parent == root else path.parent.name
            self._names += os.fsencode("\0".join((folder, path.name, asset.name if asset else "")))
            self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Entry:
        """Return an entry.

        Raises:
            IndexError: If there is none of this number.
        """
        number = range(len(self))[index]
        names = bytes(self._names[self._ends[number] : self._ends[number + 1]])
        folder, name, asset = os.fsdecode(names).split("\0")
        parent = Path(self._root, folder)
        return Entry(
            os.path.splitext(name)[0], parent.name, parent / name, parent / ASSETS_FOLDER / asset if asset else None
        )
