"""Divides labels into datasets, such as for training and validation, so that every run divides them alike."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from itertools import accumulate
from typing import Any, TypeGuard

from .. import naming
from ..destination import local
from ..exceptions import InvalidParameterError, shown
from ..progress import Progress
from .findings import Finding
from .merging import join, refuse_own
from .sources import Document, OnError, Source, open_source
from .summaries import Part, SplitSummary
from .writing import DatasetFile, prepare_folder

#: How images may be kept together.
UNITS = ("item", "batch")
#: By how much fractions may miss one.
_TOLERANCE = 1e-6


def split(
    source: Source,
    output_folder: str | os.PathLike[str],
    parts: Mapping[str, float] | Mapping[str, Sequence[str]],
    *,
    by: str = "item",
    seed: int | str = 0,
    progress: Progress = None,
    on_error: OnError | None = None,
) -> SplitSummary:
    """Divide all documents of a source into COCO datasets, ``<output_folder>/<part>.json``.

    Each is what :func:`merge` would make of its documents, with ids from 1, but all have the same categories and
    licenses. Where an item goes depends on nothing but its id, the ``seed`` and the fractions: items that are added
    later move no others, and a folder is divided like a stream. So a part has about its fraction of the items, not
    exactly. An image of a document whose work item is not known goes by its own ``work_item_id``, else ``asset_url``,
    else ``file_name``.

    The source is read once. All parts are written before the first of them gets its name.

    Args:
        source: Where the documents come from; see :func:`~cfplatform.coco.read`.
        output_folder: The folder of the datasets; made if it is not there.
        parts: The name of each part with its fraction, together 1; or with the batches that belong to it.
        by: "item", or "batch" so that items of one batch stay together. Lists of batches need neither.
        seed: Another one divides in another way.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.

    Raises:
        InvalidParameterError: If the source, the folder or the parts cannot be used, or a batch is not known that
            decides where an image goes.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> divided = coco.split("labels", "datasets", {"train": 0.8, "val": 0.2})
        >>> divided.parts["train"].images + divided.parts["val"].images == summary.successful
        True
    """
    opened = open_source(source)
    choose = _chooser(parts, by, seed)
    folder = local.folder_path(output_folder, "output_folder").resolve()
    summary = SplitSummary(parts={name: Part(folder / f"{name}.json") for name in parts})
    for part in summary.parts.values():
        refuse_own(opened, part.output)
    prepare_folder(folder)
    with ExitStack() as stack:
        datasets: dict[str, DatasetFile] = {}
        for name, part in summary.parts.items():
            datasets[name] = DatasetFile(part.output)
            stack.callback(datasets[name].close)

        def dataset(document: Document, image: dict[str, Any]) -> DatasetFile | None:
            name = choose.part(document, image)
            return None if name is None else datasets[name]

        join(opened, folder, list(datasets.values()), dataset, summary, progress, on_error, choose.missing)
    for name, part in summary.parts.items():
        part.images, part.annotations = datasets[name].images.count, datasets[name].annotations.count
        part.size = part.output.stat().st_size
    return summary


class _Shares:
    """Divides by a hash, so that where one image goes has nothing to do with any other."""

    def __init__(self, fractions: Mapping[str, float], by: str, seed: int | str) -> None:
        self._names = list(fractions)
        # The last part takes what rounding leaves of it.
        self._bounds = [*accumulate(fractions.values())][:-1]
        self._key = _item if by == "item" else _batch
        self._seed = f"{seed}\0".encode("utf-8", "surrogatepass")

    def part(self, document: Document, image: dict[str, Any]) -> str:
        """Return the part of an image."""
        key = self._key(document, image).encode("utf-8", "surrogatepass")
        position = int.from_bytes(blake2b(self._seed + key, digest_size=8).digest(), "big") / 2**64
        return self._names[sum(position >= bound for bound in self._bounds)]

    def missing(self) -> Iterator[Finding]:
        """Yield nothing: every image has a part."""
        yield from ()


class _Lists:
    """Divides by lists of batches."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self._parts = {batch: name for name, batches in lists.items() for batch in batches}
        self._seen: set[str] = set()

    def part(self, document: Document, image: dict[str, Any]) -> str | None:
        """Return the part of an image, ``None`` if its batch is in no list."""
        batch = _batch(document, image)
        self._seen.add(batch)
        return self._parts.get(batch)

    def missing(self) -> Iterator[Finding]:
        """Yield what the lists and the source do not have in common."""
        for batch in sorted(self._seen - self._parts.keys()):
            message = f"The batch {shown(batch)} is in no part, so its items were left out."
            yield Finding("batch-without-part", "error", message, batch=batch)
        for batch in sorted(self._parts.keys() - self._seen):
            message = f"The batch {shown(batch)} of the part {self._parts[batch]!r} is not in the source."
            yield Finding("unknown-batch", "error", message, batch=batch)


def _item(document: Document, image: dict[str, Any]) -> str:
    if document.item_id is not None:
        return document.item_id
    info = document.data.get("info")
    url = info.get("asset_url") if isinstance(info, dict) else None
    known = (image.get("work_item_id"), image.get("asset_url"), url, image.get("original_file_name"))
    return str(next((each for each in (*known, image.get("file_name")) if each), image.get("id")))


def _batch(document: Document, image: dict[str, Any]) -> str:
    batch = document.batch if document.batch is not None else image.get("batch")
    if batch is None:
        raise InvalidParameterError(
            "The source does not say which batch an image belongs to, so it cannot be divided by batch.",
            parameter="by",
            hint="Read a folder of batches or what iter_annotations() yields, or use by='item'.",
        )
    return str(batch)


def _chooser(parts: Mapping[str, float] | Mapping[str, Sequence[str]], by: str, seed: int | str) -> _Shares | _Lists:
    """Check the parts."""
    if not isinstance(parts, Mapping) or not parts:
        raise InvalidParameterError(
            f"parts must be a dict such as {{'train': 0.8, 'val': 0.2}}, not {parts!r}.", parameter="parts"
        )
    if by not in UNITS:
        raise InvalidParameterError(f"by must be 'item' or 'batch', not {by!r}.", parameter="by")
    if isinstance(seed, bool) or not isinstance(seed, (int, str)):
        raise InvalidParameterError(f"seed must be a number or a text, not {seed!r}.", parameter="seed")
    _check_names(parts)
    fractions = {name: float(value) for name, value in parts.items() if _is_fraction(value)}
    if len(fractions) == len(parts):
        total = math.fsum(fractions.values())
        if abs(total - 1) > _TOLERANCE:
            raise InvalidParameterError(
                f"parts must be fractions that make 1 together, not {total:g}.", parameter="parts"
            )
        return _Shares(fractions, by, seed)
    lists = {name: [*value] for name, value in parts.items() if _is_list(value)}
    if len(lists) != len(parts):
        raise InvalidParameterError(
            f"parts must be all fractions between 0 and 1, or all lists of batches, not {parts!r}.", parameter="parts"
        )
    batches = [batch for each in lists.values() for batch in each]
    if twice := sorted({batch for batch in batches if batches.count(batch) > 1}):
        raise InvalidParameterError(f"parts must have each batch once, not {twice[0]!r} twice.", parameter="parts")
    return _Lists(lists)


def _is_fraction(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _is_list(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(each, str) for each in value)


def _check_names(parts: Mapping[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name in parts:
        if not isinstance(name, str) or naming.safe_name(name) != name:
            raise InvalidParameterError(f"parts must have names that files can have, not {name!r}.", parameter="parts")
        if (other := seen.setdefault(naming.collision_key(name), name)) != name:
            raise InvalidParameterError(
                f"parts must not have both {other!r} and {name!r}: they would be one file on some systems.",
                parameter="parts",
            )
