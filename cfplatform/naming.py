"""Names of files and folders: valid on every system, and distinct where a file system ignores case or accents."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata

#: Maximum bytes of a name. Encrypted folders allow 143, other file systems 255; an extension and suffix must fit too.
MAX_NAME_BYTES = 120

_FORBIDDEN = str.maketrans(dict.fromkeys('\\/:*?"<>|', "_"))
_DEVICE = re.compile(r"(?i)(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])\s*(\..*)?")
_ENCODING = sys.getfilesystemencoding()
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,9}|\.[A-Za-z][A-Za-z0-9]{0,8}(?i:\.gz|\.bz2|\.xz|\.zst)")
_UNSAFE_CHARACTERS = {"\\", ":", "\0"}
_UNSAFE_PARTS = {"", ".", ".."}


def safe_name(name: str) -> str:
    """Turn any text into a file or folder name that is valid on every system.

    Like the official client, it replaces each of ``\\ / : * ? " < > |`` with ``_`` and strips surrounding whitespace.
    Names that are still invalid (empty, ``.``, ``..``, control or invisible characters, a leading dot, dash or tilde, a
    trailing dot, a Windows device, more than 120 bytes, characters that this system does not allow) are sanitized and
    get ``~`` and eight hexadecimal digits of a hash of the original name, which keeps different names different.

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
    # Characters that the locale cannot encode become "?"; no other "?" is left at this point.
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
    """Return a hash of a string: eight hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def collision_key(name: str) -> str:
    """Return a key that is equal for names that differ only in case or in the composition of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def extension(path: str, default: str = ".json") -> str:
    """Return the extension of a stored object, such as ``.json`` or, for a compressed file, ``.nii.gz``.

    An extension is a dot and at most nine letters and digits.
    """
    stem, suffix = os.path.splitext(path.rsplit("/", 1)[-1])
    if not is_extension(suffix):
        return default
    inner = os.path.splitext(stem)[1] if suffix.lower() in _COMPRESSED else ""
    return inner + suffix if is_extension(inner + suffix) else suffix


def is_extension(suffix: str) -> bool:
    """Return whether a string is a valid extension."""
    return _EXTENSION.fullmatch(suffix) is not None


def stays_inside(path: str) -> bool:
    """Return whether a relative path with ``/`` separators stays inside the folder it is relative to."""
    return _UNSAFE_CHARACTERS.isdisjoint(path) and _UNSAFE_PARTS.isdisjoint(path.split("/"))
