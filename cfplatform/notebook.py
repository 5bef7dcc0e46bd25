"""The IPython extension: ``%load_ext cfplatform`` shows lists and generators of objects as tables."""

from __future__ import annotations

import inspect
import os
from types import GeneratorType
from typing import Any

from .resources.base import table, table_of

_PACKAGE = os.path.dirname(__file__) + os.sep
_STATES = {inspect.GEN_CREATED: "not started", inspect.GEN_CLOSED: "finished: call the method again to start over"}


def load_ipython_extension(ipython: Any) -> None:
    """Show lists, tuples and generators of objects of this package as tables; called by ``%load_ext cfplatform``.

    Other lists are shown as before. No request is sent, and no item is taken from a generator.
    """
    html = ipython.display_formatter.formatters["text/html"]
    for kind, function in _FORMATTERS.items():
        html.for_type(kind, function)


def unload_ipython_extension(ipython: Any) -> None:
    """Show lists, tuples and generators as before; called by ``%unload_ext cfplatform``."""
    html = ipython.display_formatter.formatters["text/html"]
    for kind in _FORMATTERS:
        html.pop(kind, None)


def _sequence(objects: Any) -> str | None:
    """Return a table, or ``None`` if it is not a list of objects of one class."""
    own: str | None = getattr(objects, "_repr_html_", lambda: None)()
    if own is not None or not objects:
        return own
    kind = type(objects[0])
    if not hasattr(kind, "_cells") or not all(type(each) is kind for each in objects):
        return None
    return table_of(f"{len(objects):,} × {kind.__name__}", objects, len(objects))


def _generator(generator: Any) -> str | None:
    """Return a table that describes a generator of this package, without running it."""
    if not generator.gi_code.co_filename.startswith(_PACKAGE):
        return None
    state = _STATES.get(inspect.getgeneratorstate(generator), "started")
    rows = [("state", state), ("next ten", "list(itertools.islice(..., 10))"), ("all items", "list(...)")]
    return table("Generator", rows)


_FORMATTERS = {list: _sequence, tuple: _sequence, GeneratorType: _generator}
