"""Which failures are about one item, which about all, and which may pass."""

from __future__ import annotations

import errno
import os

from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    CFPlatformError,
    DestinationError,
    RateLimitError,
    ServerError,
)
from ..state import StateError

#: What may be over in a while.
OUTAGE = (APIConnectionError, APITimeoutError, RateLimitError, ServerError)

_OUT_OF_FILES = os.strerror(errno.EMFILE)


def concerns_all(error: CFPlatformError) -> bool:
    """Tell whether every other item would meet the same: state or store cannot be used, or no socket be opened."""
    return isinstance(error, (StateError, DestinationError)) or (
        isinstance(error, APIConnectionError) and _OUT_OF_FILES in error.message
    )
