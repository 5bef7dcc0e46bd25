"""Draws annotations on images with Pillow (extra ``viz``).

:func:`draw` never fails because of a malformed document: malformed annotations are skipped, and the work for a document
is limited.
"""

from __future__ import annotations

import importlib.util

from ..exceptions import ConfigurationError
from ..resources.results import DrawOptions

if importlib.util.find_spec("PIL") is None:
    raise ConfigurationError("Drawing needs Pillow: pip install 'cfplatform[viz]'")

from .colours import Colour, class_colours
from .drawing import Picture, draw

__all__ = ["Colour", "DrawOptions", "Picture", "class_colours", "draw"]
