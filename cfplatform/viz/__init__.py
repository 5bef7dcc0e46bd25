"""Labels drawn on their pictures, with Pillow (extra ``viz``).

:func:`draw` never fails because of what a document says: an annotation that makes no sense is left out, and everything
that a document could make large has a bound.
"""

from __future__ import annotations

import importlib.util

from ..exceptions import ConfigurationError
from ..resources.options import DrawOptions

if importlib.util.find_spec("PIL") is None:
    raise ConfigurationError("Drawing needs Pillow: pip install 'cfplatform[viz]'")

from .colours import Colour, class_colours
from .drawing import draw
from .pictures import Picture

__all__ = ["Colour", "DrawOptions", "Picture", "class_colours", "draw"]
