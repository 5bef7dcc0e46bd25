"""Results lists: JSON arrays of scored detections, as evaluation tools write them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..exceptions import InvalidParameterError, InvalidResponseError
from .findings import shown
from .values import key, number, plain

#: Characters read at a time.
_STEP = 1 << 20
_SEPARATORS = " \t\r\n,"


class Results:
    """Scored detections, without images or categories.

    Args:
        source: The file, or the parsed list.
    """

    total: int | None = None
    order: Sequence[str] = ()

    def __init__(self, source: Path | list[Any]) -> None:
        self._source = source.resolve() if isinstance(source, Path) else source
        self.name = repr(str(self._source)) if isinstance(self._source, Path) else "source"

    def reads(self, path: Path) -> bool:
        """Return whether this is the file."""
        return path == self._source

    def documents(self, on_error: object, *, streamed: bool = False) -> NoReturn:
        """Raise :class:`InvalidParameterError`: detections alone are not documents."""
        raise InvalidParameterError(
            f"{self.name} is a results list: a JSON array of detections without images and categories. "
            "To compare it with the documents of its images, use coco.compare(documents, results).",
            parameter="source",
        )

    def detections(self) -> Iterator[dict[str, Any]]:
        """Yield the detections, one in memory at a time.

        Raises:
            InvalidParameterError: If an entry is not a detection, or its score is not between 0 and 1.
            InvalidResponseError: If the file is not a complete JSON array.
        """
        source = self._source
        entries: Iterable[Any] = _entries(source) if isinstance(source, Path) else source
        for position, found in enumerate(entries):
            # Convert NumPy arrays to lists.
            entry = found if isinstance(source, Path) else plain(found, {})
            where = f"{self.name}: the detection at position {position}"
            if not isinstance(entry, dict) or key(entry.get("image_id")) is None:
                raise InvalidParameterError(
                    f"{where} has no image_id; a results list has objects with image_id, category_id, bbox and score.",
                    parameter="source",
                )
            check_score(entry.get("score"), where)
            yield entry


def check_score(value: Any, where: str) -> float:
    """Return a score; raise :class:`InvalidParameterError` if it is not a number between 0 and 1."""
    score = number(value)
    if score is None or not 0 <= score <= 1:
        raise InvalidParameterError(
            f"{where} has the score {shown(value)}; scores must be numbers between 0 and 1.", parameter="source"
        )
    return score


def is_results_file(path: Path) -> bool:
    """Return whether a file begins as an array of objects, or is an empty array."""
    try:
        with open(path, "rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").split(None)
    except OSError:
        return False
    return b"".join(head).startswith((b"[{", b"[]"))


def is_results_list(source: object) -> bool:
    """Return whether a source is a parsed results list."""
    return isinstance(source, list) and bool(source) and isinstance(source[0], dict) and "image_id" in source[0]


def _entries(path: Path) -> Generator[Any]:
    """Yield the entries of an array."""
    decode = json.JSONDecoder().raw_decode
    try:
        with open(path, encoding="utf-8-sig") as file:
            text, position, step = file.read(_STEP), 0, _STEP
            position = text.find("[") + 1
            while True:
                while position < len(text) and text[position] in _SEPARATORS:
                    position += 1
                if text.startswith("]", position):
                    return
                try:
                    entry, position = decode(text, position)
                except ValueError as error:
                    more = file.read(step)
                    if not more:
                        raise InvalidResponseError(f"{str(path)!r} is not a complete JSON array: {error}") from None
                    # Read more each time, so that a long entry is not parsed again for every piece.
                    text, position, step = text[position:] + more, 0, 2 * step
                    continue
                step = _STEP
                yield entry
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidResponseError(f"{str(path)!r} is not a JSON array in UTF-8: {error}") from None
    except OSError as error:
        raise InvalidResponseError(f"{str(path)!r}: {error.strerror or error}") from None
