"""cfplatform: the Python SDK for the CloudFactory AI Platform.

Start with :class:`Client`. The library is silent: it logs each request to the logger ``cfplatform`` at
level DEBUG, without queries and keys, and prints nothing.
"""

from __future__ import annotations

import logging

from ._version import __version__
from .client import Client
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
    DestinationError,
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
    UploadError,
    WebhookVerificationError,
)
from .progress import ProgressReporter
from .resources import Annotation, Batch, Export, ExportContent, ExportFormat, ExportStatus, WorkItem, WorkItemStatus
from .results import DownloadedItem, DownloadResult, DownloadSummary, iter_downloaded
from .uploads import UploadedFile, UploadResult

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
    "DestinationError",
    "DownloadError",
    "DownloadResult",
    "DownloadSummary",
    "DownloadedItem",
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
    "UploadError",
    "UploadResult",
    "UploadedFile",
    "WebhookVerificationError",
    "WorkItem",
    "WorkItemStatus",
    "__version__",
    "iter_downloaded",
]

logging.getLogger("cfplatform").addHandler(logging.NullHandler())
