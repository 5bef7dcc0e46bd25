"""cfplatform: the Python SDK for the CloudFactory AI Platform.

Start with :class:`Client`. The library is silent: it logs each request to the logger ``cfplatform`` at
level DEBUG, without queries and keys, and prints nothing.
"""

from __future__ import annotations

import logging

from ._version import __version__
from .client import Client
from .downloads import DownloadResult, DownloadSummary
from .exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CFPlatformError,
    ConfigurationError,
    ConflictError,
    DestinationBusyError,
    DownloadError,
    ExportError,
    ExportFailedError,
    ExportTimeoutError,
    IncompleteDownloadError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnsafePathError,
    WebhookVerificationError,
)
from .progress import ProgressReporter
from .resources import Annotation, Batch, Export, ExportContent, ExportFormat, ExportStatus, WorkItem, WorkItemStatus

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Annotation",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "CFPlatformError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "DestinationBusyError",
    "DownloadError",
    "DownloadResult",
    "DownloadSummary",
    "Export",
    "ExportContent",
    "ExportError",
    "ExportFailedError",
    "ExportFormat",
    "ExportStatus",
    "ExportTimeoutError",
    "IncompleteDownloadError",
    "InvalidParameterError",
    "InvalidResponseError",
    "NotFoundError",
    "PermissionDeniedError",
    "ProgressReporter",
    "RateLimitError",
    "ServerError",
    "TransportError",
    "UnsafePathError",
    "WebhookVerificationError",
    "WorkItem",
    "WorkItemStatus",
    "__version__",
]

logging.getLogger("cfplatform").addHandler(logging.NullHandler())
