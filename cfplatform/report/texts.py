"""Texts of documents as a page shows them, and values as a script block carries them."""

from __future__ import annotations

import json
from typing import Any

#: Characters of a text that are shown.
MAX_TEXT = 200
#: What a parser of HTML, or of older JavaScript, could take for something else.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def shown(text: Any, limit: int = MAX_TEXT) -> str:
    """Return a text in one line: what cannot be seen, or could turn the direction of what follows, is replaced."""
    text = str(text)
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in cut)


def script_json(value: Any) -> str:
    """Return JSON in ASCII that cannot end the script block that it stands in.

    Example:
        >>> script_json("</script>")
        '"\\\\u003c/script\\\\u003e"'
    """
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)
