"""Download what has changed in the last 24 hours into a folder named after today.

Run it with ``python changed_since_yesterday.py``, or with a time to start from:
``python changed_since_yesterday.py 2025-03-01T00:00:00Z``.
"""

import sys
from datetime import datetime, timedelta, timezone

from cfplatform import Client

now = datetime.now(timezone.utc)
yesterday = f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
since = sys.argv[1] if len(sys.argv) > 1 else yesterday
folder = f"changed-{now:%Y-%m-%d}"

with Client() as client:
    summary = client.download_project(destination=folder, updated_at_from=since)
    for result in summary.results:
        if result.path:
            print(result.path.relative_to(summary.destination))
    print(f"{summary.total_items} changed since {since}")
    summary.raise_for_failures()
