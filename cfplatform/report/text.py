"""Text of documents for a page, and values for a script block."""

from __future__ import annotations

import json
from typing import Any

#: Maximum characters of a text.
MAX_TEXT = 200
#: Characters that a parser of HTML could misread.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def shown(text: Any, limit: int = MAX_TEXT) -> str:
    """Return a text on one line, without characters that are invisible or change the direction of text."""
    text = str(text)
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in cut)


def script_json(value: Any) -> str:
    """Return JSON in ASCII that cannot end the script block around it.

    Example:
        >>> script_json("</script>")
        '"\\\\u003c/script\\\\u003e"'
    """
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)
