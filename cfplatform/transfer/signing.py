"""Storage paths to signed URLs, up to 1000 in one request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .. import http, params
from ..exceptions import APIError, DownloadError, InvalidResponseError, UnsafePathError, blank

#: Paths in one request, at the most (published reference).
MAX_PATHS = 1000

#: New signatures for one object: when its URL expired, and when it was refused for another reason.
MAX_RENEWALS_EXPIRED = 3
MAX_RENEWALS_REFUSED = 1

_TOO_MUCH = frozenset({400, 413, 422})


def locate(url: str, space_id: str | None = None, what: str = "result") -> tuple[str, str]:
    """Split a storage path such as ``s3://bucket/spaces/<space id>/output/f.json`` into space id and relative path.

    A path without a scheme is relative to the space already.

    Args:
        url: The storage path, as an annotation names it.
        space_id: The expected space; taken from the path if ``None``.
        what: What is stored there, for messages.

    Raises:
        DownloadError: If the path is in another space, or names none and none is given.
        UnsafePathError: If it would lead out of the space.
    """
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme not in ("s3", "gs"):
            raise DownloadError(f"The {what} is stored at a {scheme}:// address; only s3:// and gs:// can be signed.")
        # The first part is the bucket, which may itself be called "spaces".
        _, _, key = rest.partition("/")
        match = re.fullmatch(r"(?:.*?/)??spaces/([^/]+)/(.+)", key)
        if match is None:
            shown = blank(url)
            raise DownloadError(f"The {what}'s path {shown!r} names no space: it has no part 'spaces/<space id>/...'.")
        found, path = match.groups()
        if space_id is not None and found != space_id:
            raise DownloadError(
                f"space_id is {space_id!r}, but the {what} lies in space {found!r}. Leave it out (and CF_SPACE_ID "
                "too): the space is detected.",
                parameter="space_id",
            )
    else:
        if space_id is None:
            raise DownloadError(
                f"The {what}'s path names no space.",
                parameter="space_id",
                hint="Pass space_id=... or set CF_SPACE_ID.",
            )
        found, path = space_id, url.lstrip("/")
    if any(part in ("", ".", "..") for part in [found, *path.split("/")]) or not path.isprintable():
        raise UnsafePathError(f"The {what}'s path {blank(url)!r} would lead out of its space; nothing was asked for.")
    return found, path


def should_renew(error: APIError, renewals: int) -> bool:
    """Tell whether a new signature may help: the URL has expired, or was refused for the first time."""
    if http.has_expired(error):
        return renewals < MAX_RENEWALS_EXPIRED
    return error.status_code == 403 and renewals < MAX_RENEWALS_REFUSED


class Signer:
    """Asks for signed URLs; the answers are matched by path, never by their order."""

    def __init__(self, calls: http.Transport, run: http.Run = http.SINGLE) -> None:
        self._calls = calls
        self._run = run

    def sign(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        """Return for each path its signed URL, or the reason why there is none.

        Raises:
            CFPlatformError: If the platform cannot be asked at all.
        """
        unique = list(dict.fromkeys(paths))
        signed: dict[str, str | DownloadError] = {}
        for group in params.chunks(unique, MAX_PATHS):
            signed.update(self._sign_group(space_id, group))
            missing = [path for path in group if path not in signed]
            if missing:
                signed.update(self._sign_group(space_id, missing))
        for path in unique:
            if path not in signed:
                signed[path] = DownloadError(f"The platform signed no URL for {path!r}. The object may be gone.")
        return signed

    def _sign_group(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        try:
            return self._ask(space_id, paths)
        except APIError as error:
            if error.status_code not in _TOO_MUCH:
                raise
            refusal = error
        if len(paths) == 1:
            return {paths[0]: DownloadError(f"The platform refused to sign {paths[0]!r}: {refusal.message}")}
        # One bad path must not take the others with it, and a limit may be lower than documented.
        middle = len(paths) // 2
        return {**self._sign_group(space_id, paths[:middle]), **self._sign_group(space_id, paths[middle:])}

    def _ask(self, space_id: str, paths: Sequence[str]) -> dict[str, str | DownloadError]:
        answer: Any = self._calls.post_json(
            http.path("spaces", space_id, "signedurls"),
            {"paths": list(paths)},
            is_repeatable=True,
            run=self._run,
        )
        entries = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise InvalidResponseError("The answer to a signing request has no list of items.")
        asked = set(paths)
        return {
            entry["path"]: entry["signedUrl"]
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("path"), str)
            and entry["path"] in asked
            and _is_url(entry.get("signedUrl"))
        }


def _is_url(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(urlsplit(value).scheme)
    except ValueError:
        return False
