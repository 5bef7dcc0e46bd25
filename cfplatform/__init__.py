"""cfplatform: the Python SDK for the CloudFactory AI Platform.

Start with :class:`Client`. The library prints nothing. It logs to loggers below ``cfplatform``: outages and failed
items, and each request at level DEBUG. No record contains the API key or the query of a URL.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from ._version import __version__
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
    OutageError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnsafePathError,
    UploadError,
    WebhookVerificationError,
)
from .resources import Annotation, Batch, Export, ExportContent, ExportFormat, ExportStatus, WorkItem, WorkItemStatus

if TYPE_CHECKING:
    from . import archives as archives
    from . import coco as coco
    from . import types as types
    from .client import Client
    from .notebook import load_ipython_extension, unload_ipython_extension
    from .params import WorkItemFilters
    from .progress import ProgressReporter
    from .resources.created import CreateResult
    from .resources.results import (
        DownloadedItem,
        DownloadOptions,
        DownloadResult,
        DownloadSummary,
        Executor,
        ExportDownloadOptions,
        UploadedFile,
        UploadResult,
        WaitOptions,
        iter_downloaded,
    )

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
    "CreateResult",
    "DestinationBusyError",
    "DestinationError",
    "DownloadError",
    "DownloadOptions",
    "DownloadResult",
    "DownloadSummary",
    "DownloadedItem",
    "Executor",
    "Export",
    "ExportContent",
    "ExportDownloadOptions",
    "ExportError",
    "ExportFailedError",
    "ExportFormat",
    "ExportStatus",
    "ExportTimeoutError",
    "IncompleteDownloadError",
    "InvalidParameterError",
    "InvalidResponseError",
    "NotFoundError",
    "OutageError",
    "PermissionDeniedError",
    "ProgressReporter",
    "RateLimitError",
    "ServerError",
    "TransportError",
    "UnsafePathError",
    "UploadError",
    "UploadResult",
    "UploadedFile",
    "WaitOptions",
    "WebhookVerificationError",
    "WorkItem",
    "WorkItemFilters",
    "WorkItemStatus",
    "__version__",
    "iter_downloaded",
    "load_ipython_extension",
    "unload_ipython_extension",
]

logging.getLogger("cfplatform").addHandler(logging.NullHandler())

#: Names imported on first use, with their modules. The pytest plugin must not load requests in every test run, and a
#: script that only lists items needs few of them.
_LAZY = {
    "Client": "client",
    "CreateResult": "resources.created",
    "DownloadOptions": "resources.results",
    "DownloadResult": "resources.results",
    "DownloadSummary": "resources.results",
    "DownloadedItem": "resources.results",
    "Executor": "resources.results",
    "ExportDownloadOptions": "resources.results",
    "ProgressReporter": "progress",
    "UploadResult": "resources.results",
    "UploadedFile": "resources.results",
    "WaitOptions": "resources.results",
    "WorkItemFilters": "params",
    "archives": "archives",
    "coco": "coco",
    "iter_downloaded": "resources.results",
    "load_ipython_extension": "notebook",
    "types": "types",
    "unload_ipython_extension": "notebook",
}

# Hidden from type checkers: with __getattr__ they would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
        value = globals()[name] = module if name == _LAZY[name] else getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
