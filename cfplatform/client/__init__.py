"""The client: short methods, each a call into the module that does the work."""

from __future__ import annotations

from .base import Id, PathLike
from .creating import Creating
from .downloading import Downloading
from .exporting import Exporting
from .uploading import Uploading

__all__ = ["Client", "Id", "PathLike"]


class Client(Downloading, Exporting, Uploading, Creating):
    """Access to the CloudFactory AI Platform.

    One client serves a whole program: it may be used from many threads, keeps its connections open and is closed by
    ``with`` or :meth:`close`. Nothing is sent before the first call. It cannot be pickled, because it holds the key.

    Args:
        api_key: The key that CloudFactory issued; else ``CF_API_KEY``.
        base_url: The API's address; else ``CF_PLATFORM_BASE_URL``, else the production API.
        project_id: The project of calls that name none; else ``CF_PROJECT_ID``.
        space_id: The space of calls that name none; else ``CF_SPACE_ID``. Downloads find it by themselves.
        timeout: Seconds to wait for a connection and for the next bytes of an answer: one number, or the pair
            (connect, read).
        retries: Repeats of a request after a transient error (429, 5xx, a broken connection), or a ``urllib3.Retry``;
            5 if omitted, 0 turns them off.
        patience: Seconds that a run (a download, a stream, an upload of many files) waits for an outage to end, 600 if
            omitted; 0 waits for none. Each run may have a number of its own. A single call fails after its retries.
        max_workers: Threads of a run, at the most, 1 to 256; also the size of the connection pools.
        session: A ``requests.Session`` of your own for API calls. It keeps its auth, headers, params, cookies, hooks
            and adapters; the key comes beside them, to the base URL only. Nothing is mounted on it. Storage never sees
            it.
        headers: Further headers of API calls, such as ``{"X-Team": "vision"}``.
        proxies: Proxies by scheme, as in requests; else the usual environment variables.
        verify: ``False``, or the path of a file with certificate authorities; else ``REQUESTS_CA_BUNDLE``.
        cert: A client certificate, as in requests.
        user_agent: Text put in front of the ``User-Agent`` header, such as ``"my-tool/1.2"``.
        allow_insecure_http: Accept an ``http://`` base URL on another machine, which sends the key in clear text.
        allow_private_storage: Fetch assets and signed URLs also from addresses of private networks, for a storage of
            your own; else ``CF_ALLOW_PRIVATE_STORAGE``. A base URL that is a private address allows it too.

    Raises:
        ConfigurationError: If a setting is missing or cannot be used. No message shows the key.

    Example:
        >>> with Client(max_workers=8) as client:
        ...     client.get_work_items_count(status="COMPLETED")
        20
    """
