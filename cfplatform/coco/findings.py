"""What is wrong with a document, and where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or odd, in one document.

    Attributes:
        code: What is wrong, as a short name in kebab-case that programs can compare.
        severity: "error" where tools fail or learn from something false, "warning" where it is only odd.
        message: What is wrong, as a sentence.
        item_id: The work item, where it is known.
        batch: The folder of the batch, or its id where the document came from a stream.
        path: The file, as text, where there is one.
        pointer: The place in the document as a JSON pointer (RFC 6901), such as ``/annotations/3/bbox``; empty for the
            document as a whole.
        annotation_id: The ``id`` of the annotation, as it stands in the document, where it is about one.
    """

    code: str
    severity: str
    message: str
    item_id: str | None = None
    batch: str | None = None
    path: str | None = None
    pointer: str = ""
    annotation_id: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain values, ready for JSON."""
        return asdict(self)
