"""Runs the example notebook; ``python -m tests.notebooks`` stores the outputs in docs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "notebook.ipynb"


def executed(folder: str) -> nbformat.NotebookNode:
    """Run a copy of the notebook in a folder, in a new kernel; a failing cell raises."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    context = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=60, resources=context, record_timing=False).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            # The same image, but blurred.
            output.get("data", {}).pop("image/jpeg", None)
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        text = nbformat.writes(executed(scratch))
    # The name of the folder is random.
    NOTEBOOK.write_text(text.replace(scratch, "/data") + "\n", encoding="utf-8")
