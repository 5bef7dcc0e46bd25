"""A local CloudFactory AI Platform: a real HTTP server for development, tests and demos, without credentials.

Example:
    >>> from cfplatform.sandbox import Sandbox
    >>> with Sandbox(items=20) as sandbox, sandbox.client() as client:
    ...     sum(1 for item in client.get_work_items())
    20
"""

from __future__ import annotations

from .catalogue import CLIENT_REVIEW, COMPLETED
from .recorder import RecordedRequest
from .sandbox import Sandbox
from .webhooks import Attempt, Delivery

__all__ = ["CLIENT_REVIEW", "COMPLETED", "Attempt", "Delivery", "RecordedRequest", "Sandbox"]
