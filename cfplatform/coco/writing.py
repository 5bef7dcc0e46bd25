"""The file of a dataset: written in one pass, and there only when it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ..destination import local
from ..exceptions import CFPlatformError, DownloadError, InvalidParameterError
from .names import Names

#: Bytes that are written and copied together.
_STEP = 256 * 1024
#: What names of unfinished files begin and end with, so that no folder of labels takes them for labels.
_HIDDEN, _PART = ".", ".part"

#: Compact JSON in ASCII, which no reader can take for anything else; NaN and infinities are refused, as JSON has none.
encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Section:
    """The members of one list of the dataset, in a file without a name, so that nothing is left of it whatever ends us.

    Args:
        folder: Where there is room for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Members so far.
        self.count = 0
        self._separator = b"\n"
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=_STEP)  # noqa: SIM115 - see close()
        except OSError as error:
            raise refusal(error, folder) from None

    def add(self, text: str, count: int) -> None:
        """Append members, as JSON with commas between them."""
        if not count:
            return
        try:
            self._file.write(self._separator + text.encode("ascii"))
        except OSError as error:
            raise refusal(error, self._folder) from None
        self._separator = b",\n"
        self.count += count

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all members into a file."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _STEP)

    def close(self) -> None:
        """Let go of it."""
        # What could not be written at the end of a run that failed is of no use to anybody.
        with contextlib.suppress(OSError):
            self._file.close()


class DatasetFile:
    """A dataset in the making.

    Args:
        path: Its final place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = _temporary(path)
        with ExitStack() as stack:
            self.images = Section(path.parent)
            stack.callback(self.images.close)
            self.annotations = Section(path.parent)
            stack.callback(self.annotations.close)
            #: The ``file_name`` of each image.
            self.names = Names()
            stack.callback(self.names.close)
            stack.callback(discard, self._temporary)
            self._closing = stack.pop_all()

    def write(self, head: dict[str, Any], lists: dict[str, list[dict[str, Any]]]) -> None:
        """Write the dataset under its temporary name.

        Args:
            head: Members that come first.
            lists: Lists that come before those of images and annotations.
        """
        try:
            with open(self._temporary, "xb", buffering=_STEP) as file:
                file.write(b"{")
                for name, value in head.items():
                    file.write(f"{encode(name)}:{encode(value)},\n".encode("ascii"))
                for name, entries in lists.items():
                    members = ",".join(f"\n{encode(entry)}" for entry in entries)
                    file.write(f'"{name}":[{members}\n],\n'.encode("ascii"))
                file.write(b'"images":[')
                self.images.copy_to(file)
                file.write(b'\n],\n"annotations":[')
                self.annotations.copy_to(file)
                file.write(b"\n]}\n")
        except OSError as error:
            raise refusal(error, self.path.parent) from None

    def commit(self) -> None:
        """Give it its final name."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise refusal(error, self.path.parent) from None

    def close(self) -> None:
        """Remove whatever is not the finished file."""
        self._closing.close()


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file, which gets its own where the block ends well; else what was there stays.

    Raises:
        DownloadError: If it cannot be written.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except CFPlatformError:
        # Some of ours are OSErrors too.
        raise
    except OSError as error:
        raise refusal(error, path.parent) from None
    finally:
        discard(temporary)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_HIDDEN}{local.unique_name()}{_PART}")


def discard(temporary: Path) -> None:
    """Remove an unfinished file."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def prepare_folder(folder: Path) -> None:
    """Make the folder of an output if it is not there, and remove what killed processes of this host left in it.

    Raises:
        InvalidParameterError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(
            f"output folder {str(folder)!r} cannot be made: {error.strerror or error}.", parameter="output"
        ) from None
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(_HIDDEN) and name.endswith(_PART) and local.is_left_behind(name[1 : -len(_PART)]):
                discard(folder / name)


def refusal(error: OSError, folder: Path) -> DownloadError:
    """Turn a failure of the disk into an error that says what to do."""
    return DownloadError(
        f"The output in {str(folder)!r} cannot be written: {error.strerror or error} ({local.free_space(folder)}). "
        "What was there before is unchanged, and nothing unfinished is left; free some space, then run it again."
    )
