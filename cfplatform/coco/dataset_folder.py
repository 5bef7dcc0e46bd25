"""The output folder of a conversion. A second run removes all files of the first that it does not replace."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from .. import naming
from ..destination import local, locks
from ..exceptions import DownloadError, InvalidParameterError
from .image_files import COPY, LINK, put
from .output import Names, prepare_folder, written_atomically

#: Marks a folder as written by convert: a line of text, then the path of each file, added before it is written.
MARKER = ".cfplatform-convert"
_HEAD = b"Files of a dataset by cfplatform. A new conversion replaces them all.\n"

#: Signatures of image files and their extensions; the first extension is used if the file has another one.
_FORMATS = (
    (b"\xff\xd8\xff", (".jpg", ".jpeg", ".mpo")),
    (b"\x89PNG\r\n\x1a\n", (".png",)),
    (b"BM", (".bmp",)),
    (b"II*\0", (".tif", ".tiff", ".dng")),
    (b"MM\0*", (".tif", ".tiff", ".dng")),
    (b"\0\0\0\x0cjP  ", (".jp2",)),
    (b"GIF8", (".gif",)),
)
#: Bytes to read from the beginning of a file: cameras write EXIF first.
_HEADER = 2048
_BRANDS = {b"avif": ".avif", b"heic": ".heic", b"heix": ".heic", b"mif1": ".heif"}


class Content(NamedTuple):
    """The type of an image file, by its first bytes.

    Attributes:
        extension: Its extension.
        is_known: Whether its format is known.
        has_exif: Whether it may have an EXIF orientation.
    """

    extension: str
    is_known: bool
    has_exif: bool


def content_of(path: Path) -> Content:
    """Return the type of an image file by its first bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEADER)
    has_exif = b"Exif\0\0" in head
    own = path.suffix.lower()
    for start, extensions in _FORMATS:
        if head.startswith(start):
            return Content(own if own in extensions else extensions[0], True, has_exif)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Content(".webp", True, has_exif)
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return Content(_BRANDS[head[8:12]], True, has_exif)
    return Content(own if naming.is_extension(own) else ".img", False, has_exif)


class DatasetFolder:
    """A folder that is being written; it is completed when the ``with`` block ends without an error.

    Args:
        folder: A new or empty folder, or one that an earlier conversion wrote.
        images: "link" for hard links (copies where the file system has none), "copy", or ``None``.

    Raises:
        InvalidParameterError: If the folder contains other files or cannot be used.
        DownloadError: Later, if it cannot be written.
    """

    def __init__(self, folder: Path, images: str | None) -> None:
        if images not in (None, LINK, COPY):
            raise InvalidParameterError(f"images must be {LINK!r} or {COPY!r}, not {images!r}.", parameter="images")
        self.root = folder
        self.images = images
        self._marker = folder / MARKER
        if folder.is_dir() and not self._marker.is_file() and os.listdir(folder):
            raise InvalidParameterError(
                f"output {str(folder)!r} contains files from other programs. Choose a new or empty folder.",
                parameter="output",
            )
        prepare_folder(folder)
        self._folders: set[str] = set()
        #: The folder of the last image, and its path with links resolved.
        self._last = "", ""
        self._names = Names()
        try:
            self._list: IO[bytes] = open(self._marker, "ab+", buffering=0)  # noqa: SIM115 - see __exit__
            if locks.try_lock(self._list.fileno()) is False:
                self._list.close()
                raise InvalidParameterError(
                    f"output {str(folder)!r} is being written by another conversion.", parameter="output"
                )
            self._start = self._list.seek(0, os.SEEK_END)
            if not self._start:
                self._start = self._list.write(_HEAD)
        except OSError as error:
            raise self.refusal(error) from None

    def __enter__(self) -> DatasetFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._complete()
        except OSError as own:
            raise self.refusal(own) from None
        finally:
            self._list.close()
            self._names.close()
        if isinstance(error, OSError) and not isinstance(error, DownloadError):
            raise self.refusal(error) from None

    def refusal(self, error: OSError) -> DownloadError:
        """Return the error for a folder that cannot be written."""
        return DownloadError(
            f"Could not write the output in {str(self.root)!r}: {error.strerror or error} "
            f"({local.free_space(self.root)}). The dataset is incomplete. Run the conversion again to replace it."
        )

    def stem(self, kind: str, name: str, origin: str) -> str:
        """Return a new name without extension, unique within its kind, ignoring case and accents."""
        own = stem = naming.safe_name(os.path.splitext(name)[0])
        attempts = 0
        while not self._names.take(f"{kind}\0{naming.collision_key(stem)}"):
            attempts += 1
            stem = f"{own}~{naming.digest(f'{origin} {attempts}')}"
        return stem

    def add(self, path: str) -> Path:
        """Record a file by its path with ``/``; return where to write it. An existing file there may be replaced."""
        folder = path.rpartition("/")[0]
        self.make(folder)
        self._names.take(f"\0{path}")
        self._list.write(f"{path}\n".encode())
        return self.root / path

    def make(self, folder: str) -> None:
        """Make a folder in it."""
        if folder not in self._folders:
            self._folders.add(folder)
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, text: str) -> None:
        """Write a text file. An earlier one is replaced, not overwritten, because it may be a hard link."""
        target = os.fspath(self.add(path))
        try:
            descriptor = os.open(target, _NEW, 0o666)
        except FileExistsError:
            os.unlink(target)
            descriptor = os.open(target, _NEW, 0o666)
        try:
            data = text.encode("utf-8", "surrogatepass")
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)

    def place(self, source: Path, path: str) -> None:
        """Add an image as a link or a copy."""
        target, original = self.add(path), self._real(source)
        is_link = self.images == LINK
        if not put(original, target, is_link=is_link):
            target.unlink()
            put(original, target, is_link=is_link)

    def _real(self, source: Path) -> str:
        """Return the path with links resolved; most images are in the folder of the previous one."""
        folder, name = os.path.split(source)
        if folder != self._last[0]:
            self._last = folder, os.path.realpath(folder)
        found = os.path.join(self._last[1], name)
        return os.path.realpath(found) if os.path.islink(found) else found

    def remove(self, path: str) -> None:
        """Remove a file if it exists, so that a failed run does not leave a dataset that looks complete."""
        with contextlib.suppress(FileNotFoundError):
            (self.root / path).unlink()

    def _complete(self) -> None:
        """Remove the files of earlier runs, and the caches made from them."""
        for cache in (self.root / "labels").glob("*.cache"):
            cache.unlink()
        emptied = set()
        self._list.seek(0)
        for line in self._list.read(self._start).splitlines()[1:]:
            path = line.decode(errors="replace")
            if naming.stays_inside(path) and self._names.take(f"\0{path}"):
                gone = self.root / path
                self.remove(path)
                gone.with_suffix(".npy").unlink(missing_ok=True)
                emptied.add(gone.parent)
        for folder in emptied:
            # The folder may contain other files.
            with contextlib.suppress(OSError):
                folder.rmdir()
        with written_atomically(self._marker) as temporary, open(temporary, "wb") as file:
            file.write(_HEAD)
            self._list.seek(self._start)
            while data := self._list.read(1 << 20):
                file.write(data)
            # Windows cannot replace an open file.
            self._list.close()


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
