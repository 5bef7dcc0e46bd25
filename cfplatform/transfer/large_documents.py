"""Setting ``info.asset_url`` in a document that is written while it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..scanning import Edit, Scanner, Watch, find_edit


class Rewriter:
    """Edits a document where its first part says that the edit belongs, and tells afterwards whether that was right.

    It was not where an ``info`` follows that was not to be foreseen: one that stands behind the first part, or a
    second one, which to parsers is the one that counts. Then what was written has to be written once more.

    Args:
        head: The first part, in pieces.
        asset_url: The value to set; ``None`` is written as ``""``.
    """

    def __init__(self, head: Sequence[bytes], asset_url: str | None) -> None:
        self._asset_url = asset_url
        self._judged = len(head)
        self._watch = Watch()
        last = max((number for number, piece in enumerate(head) if self._watch.may_hold(piece)), default=0)
        scanner = Scanner()
        for number, piece in enumerate(head):
            if number > last and scanner.is_idle:
                break
            scanner.feed(piece)
        # A name that a piece to come completes is seen by the watch.
        self._is_certain = scanner.is_idle
        self._edit = scanner.edit(asset_url)
        start, end, value = self._edit
        self._undo = Edit(start, start + len(value), b"".join(_between(head, start, end)))

    def rewritten(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the edited document, given all of its pieces, beginning with those of the first part."""
        return self._edit.apply(self._watched(pieces))

    def corrected(self, written: Callable[[], Iterable[bytes]]) -> Iterator[bytes] | None:
        """Return what has to be written instead; ``None`` if all is well.

        Args:
            written: Reads what was written, from its start.
        """
        if self._is_certain:
            return None
        edit = find_edit(self._undo.apply(written()), self._asset_url)
        return None if edit == self._edit else edit.apply(self._undo.apply(written()))

    def _watched(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for number, piece in enumerate(pieces):
            if number >= self._judged and self._watch.may_hold(piece):
                self._is_certain = False
            yield piece


def _between(pieces: Iterable[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        yield piece[max(0, start - at) : max(0, end - at)]
        at += len(piece)
