"""globox, a tool for COCO files that reads only boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from globox import AnnotationSet

from . import frame


def merge(source: str, output: str) -> dict[str, Any]:
    """Join the documents of a folder into one dataset."""
    joined = AnnotationSet()
    for path in sorted(Path(source).glob("*/*.json")):
        joined |= AnnotationSet.from_coco(path)
    joined.save_coco(output, auto_ids=True)
    return {"items": len(joined)}


if __name__ == "__main__":
    frame.run({"merge": merge})
