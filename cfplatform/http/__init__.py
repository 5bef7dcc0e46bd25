"""HTTP requests and connections. Nothing outside this package imports requests or urllib3."""

from __future__ import annotations

from .arguments import checked_retries, path, public_url
from .body import Body, ObjectStream
from .call import Resumed
from .errors import has_expired
from .retry import DEFAULT_PATIENCE, DEFAULT_RETRIES, SINGLE, Run, stopped_by
from .timeouts import Interrupted
from .transport import Settings, Transport, get_public

__all__ = [
    "DEFAULT_PATIENCE",
    "DEFAULT_RETRIES",
    "SINGLE",
    "Body",
    "Interrupted",
    "ObjectStream",
    "Resumed",
    "Run",
    "Settings",
    "Transport",
    "checked_retries",
    "get_public",
    "has_expired",
    "path",
    "public_url",
    "stopped_by",
]
