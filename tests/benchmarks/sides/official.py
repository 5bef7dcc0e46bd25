"""The official client."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cf_ai_platform_client import CFUserClient, SyncCFUserClient

from . import frame

KEY, BASE_URL, PROJECT, SPACE = (
    os.environ[name] for name in ("CF_API_KEY", "CF_PLATFORM_BASE_URL", "CF_PROJECT_ID", "CF_SPACE_ID")
)


def download(destination: str, **options: Any) -> dict[str, Any]:
    """Download a project; options are those of its ``download_project``."""
    client = SyncCFUserClient(KEY, base_url=BASE_URL)
    summary = client.download_project(PROJECT, SPACE, destination, **options)
    assert summary.failed == 0, summary.failed
    return {"items": summary.successful}


def listing() -> dict[str, Any]:
    """Read the manifest, which is what its downloads begin with; it has no public call for that."""
    return {"items": len(asyncio.run(CFUserClient(KEY, base_url=BASE_URL)._fetch_manifest(PROJECT, limit=100)))}


if __name__ == "__main__":
    frame.run({each.__name__: each for each in (download, listing)})
