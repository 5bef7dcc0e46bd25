"""Names of files and folders: safe on every system, and kept apart where some system takes two for the same."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata

#: Bytes of a name, so that an extension and a suffix still fit the 143 that encrypted folders allow; others have 255.
MAX_NAME_BYTES = 120

_FORBIDDEN = str.maketrans(dict.fromkeys('\\/:*?"<>|', "_"))
_DEVICE = re.compile(r"(?i)(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\..*)?")
_ENCODING = sys.getfilesystemencoding()
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,9}|\.[A-Za-z][A-Za-z0-9]{0,8}(?i:\.gz|\.bz2|\.xz|\.zst)")
_LEADING_OUT = {"\\", ":", "\0"}
_NO_NAMES = {"", ".", ".."}


def safe_name(name: str) -> str:
    """Turn any text into a file or folder name that is safe on every system.

    Where it is safe, this is the official client's naming: each of ``\\ / : * ? " < > |`` becomes ``_`` and blanks
    around the name go. What would still be unsafe (``.``, ``..``, empty, control or invisible characters, a
    leading dot, dash or tilde, a trailing dot, a Windows device, more than 120 bytes, characters that this system
    cannot have in names) is made readable and gets ``~`` and eight hexadecimal digits of its hash, so that
    different names stay different.

    Example:
        >>> safe_name("Batch/With:Colon")
        'Batch_With_Colon'
        >>> safe_name("..")
        'unnamed~e6fc5bb9'
    """
    cleaned = name.strip().translate(_FORBIDDEN)
    if _is_usable(cleaned):
        return cleaned
    readable = "".join(ch if ch.isprintable() else "_" for ch in cleaned).lstrip(" .-~")
    # What an old locale cannot spell becomes "?", of which there is none at this point.
    readable = readable.encode(_ENCODING, "replace").decode(_ENCODING).replace("?", "_")
    readable = readable.encode()[: MAX_NAME_BYTES - 16].decode(errors="ignore").rstrip(" .") or "unnamed"
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
        and (name.isascii() or name == name.encode(_ENCODING, "replace").decode(_ENCODING))
    )


def digest(text: str) -> str:
    """Return eight hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def collision_key(name: str) -> str:
    """Return what two names share that some file system takes for the same: case and accents composed or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def extension(path: str, default: str = ".json") -> str:
    """Return the extension of a stored object, with the one before it if it says how that is compressed.

    An extension is a dot and at most nine letters and digits, as in ``.json`` and ``.nii.gz``.
    """
    stem, suffix = os.path.splitext(path.rsplit("/", 1)[-1])
    if not is_extension(suffix):
        return default
    inner = os.path.splitext(stem)[1] if suffix.lower() in _COMPRESSED else ""
    return inner + suffix if is_extension(inner + suffix) else suffix


def is_extension(suffix: str) -> bool:
    """Tell whether that is an extension that files may have."""
    return _EXTENSION.fullmatch(suffix) is not None


def stays_inside(path: str) -> bool:
    """Tell whether a relative path, with ``/`` between its parts, leads nowhere outside of where it begins."""
    return _LEADING_OUT.isdisjoint(path) and _NO_NAMES.isdisjoint(path.split("/"))
