"""Names and files in the destination: safe names, containment, and files that appear only when complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
import time
import unicodedata
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from .exceptions import DownloadError, InvalidParameterError, UnsafePathError

#: Folder inside a destination that holds the state and files not yet complete.
STATE_FOLDER = ".cfplatform"
#: Bytes of a name, so that an extension and a suffix still fit the 255 that file systems allow.
MAX_NAME_BYTES = 200
#: Age in seconds at which an unfinished file of an unknown process counts as left behind.
STALE_AFTER = 24 * 3600

_FORBIDDEN = str.maketrans(dict.fromkeys('\\/:*?"<>|', "_"))
_DEVICE = re.compile(r"(?i)(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\..*)?")
_FATAL = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "EIO")
    if hasattr(errno, name)
}
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,9}")


def safe_name(name: str) -> str:
    """Turn any text into a file or folder name that is safe on every system.

    Where it is safe, this is the official client's naming: each of ``\\ / : * ? " < > |`` becomes ``_`` and blanks
    around the name go. What would still be unsafe (``.``, ``..``, empty, control or invisible characters, a
    leading dot, dash or tilde, a trailing dot, a Windows device, more than 200 bytes) is made readable
    and gets ``~`` and eight hexadecimal digits of its hash, so that different names stay different.

    Example:
        >>> safe_name("Batch/With:Colon")
        'Batch_With_Colon'
        >>> safe_name("..")
        'unnamed~e6fc5bb9'
    """
    cleaned = name.strip().translate(_FORBIDDEN)
    if _is_usable(cleaned):
        return cleaned
    readable = "".join(ch if ch.isprintable() else "_" for ch in cleaned).strip(" .").lstrip("-~")
    readable = readable.encode()[: MAX_NAME_BYTES - 16].decode(errors="ignore").strip(" .") or "unnamed"
    if _DEVICE.fullmatch(readable):
        readable = f"_{readable}"
    return f"{readable}~{digest(name)}"


def _is_usable(name: str) -> bool:
    return (
        bool(name)
        and name.isprintable()
        and name[0] not in ".-~"
        and name[-1] not in ". "
        and len(name.encode()) <= MAX_NAME_BYTES
        and _DEVICE.fullmatch(name) is None
    )


def digest(text: str) -> str:
    """Return eight hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def collision_key(name: str) -> str:
    """Return what two names share that some file system takes for the same: case and accents composed or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def extension(path: str) -> str:
    """Return the extension of a stored object if it is a plain one of at most 10 characters, else ``.json``."""
    suffix = os.path.splitext(path.rsplit("/", 1)[-1])[1]
    return suffix if _EXTENSION.fullmatch(suffix) else ".json"


def prepare_destination(destination: str | os.PathLike[str]) -> Path:
    """Check a destination, create it with its state folder, and return it as an absolute path.

    Raises:
        InvalidParameterError: If it is blank, a file, or cannot be created or written.
    """
    text = os.fspath(destination) if isinstance(destination, (str, os.PathLike)) else destination
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidParameterError(f"destination must be the path of a folder, not {text!r}.")
    try:
        root = Path(text).expanduser()
    except RuntimeError:
        raise InvalidParameterError(f"destination {text!r} names a home folder that does not exist.") from None
    if os.path.exists(root) and not os.path.isdir(root):
        raise InvalidParameterError(f"destination {str(root)!r} is a file; pass the path of a folder.")
    try:
        partial_folder(root).mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (root / STATE_FOLDER, partial_folder(root)):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise InvalidParameterError(f"{str(folder)!r} is a link that leads elsewhere. Remove it.")
        os.chmod(root / STATE_FOLDER, 0o700)
        probe = PartFile(root)
        probe.discard()
    except OSError as error:
        raise InvalidParameterError(
            f"destination {str(root)!r} cannot be written: {error.strerror or error}."
        ) from None
    return root.resolve()


def partial_folder(root: Path) -> Path:
    """Return the folder that holds files not yet complete; the same file system as their final place."""
    return root / STATE_FOLDER / "partial"


def ensure_folder(root: Path, name: str) -> Path:
    """Create a folder directly inside the destination and return it.

    Raises:
        UnsafePathError: If something else stands in its place, such as a link that leads elsewhere.
    """
    folder = root / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        return folder
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise UnsafePathError(
            f"{str(folder)!r} is a link or a file where a batch folder belongs; nothing was written through it. "
            "Remove it or choose another destination."
        )
    return folder


class PartFile:
    """A file that appears under its final name only when :meth:`commit` is called, and then as a whole.

    Written under a unique name in the state folder, so that any number of processes stay out of each other's
    way; leaving the ``with`` block without a commit removes it.
    """

    def __init__(self, root: Path) -> None:
        self.path = partial_folder(root) / f"{_owner()}-{secrets.token_hex(8)}"
        # 0o666 lets the umask decide, as for any file that a program creates.
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self.path, flags, 0o666), "w+b", buffering=0)
        self._done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        view = memoryview(chunk)
        while len(view):
            view = view[self._file.write(view) :]

    def fileno(self) -> int:
        """Return the descriptor, for reading back what was written."""
        return self._file.fileno()

    def commit(self, final: Path) -> os.stat_result:
        """Close the file, give it its final name in one step, and return its size and time."""
        # A full disk may show only at close, so the file is closed before it is renamed.
        self._file.close()
        found = os.stat(self.path)
        os.replace(self.path, final)
        self._done = True
        return found

    def discard(self) -> None:
        """Remove the file unless it was committed."""
        if not self._done:
            self._done = True
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def _owner() -> str:
    """Return what names this process on this host in the name of an unfinished file."""
    return f"{digest(socket.gethostname())}-{os.getpid()}"


def remove_stale_parts(root: Path) -> None:
    """Remove unfinished files of processes of this host that are gone, and any that are older than a day."""
    host = digest(socket.gethostname())
    with contextlib.suppress(OSError), os.scandir(partial_folder(root)) as entries:
        for entry in entries:
            owner, _, rest = entry.name.partition("-")
            pid = rest.partition("-")[0]
            with contextlib.suppress(OSError):
                gone = owner == host and pid.isdigit() and not _is_running(int(pid))
                if gone or time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_AFTER:
                    os.unlink(entry.path)


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        # os.kill(pid, 0) would end the process there; age alone decides.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def stops_everything(error: OSError) -> bool:
    """Tell whether a failure of the disk will meet every other item too."""
    return error.errno in _FATAL


def destination_error(error: OSError) -> DownloadError:
    """Turn a failure of the local disk into an error that says what to do."""
    name = f" {os.path.basename(str(error.filename))!r}" if error.filename else ""
    return DownloadError(
        f"The destination cannot be written{name}: {error.strerror or error}. "
        "What is finished is kept; free space or mend the folder, then run the same call again."
    )
