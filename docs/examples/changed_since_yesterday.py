"""Fetch what has changed in the last day into a folder named after today.

Run it with ``python changed_since_yesterday.py``.
"""

from datetime import datetime, timedelta, timezone

from cfplatform import Client

now = datetime.now(timezone.utc)
yesterday = now - timedelta(days=1)
folder = f"changed-{now:%Y-%m-%d}"

with Client() as client:
    summary = client.download_project(destination=folder, updated_at_from=yesterday)
    summary.raise_for_failures()
    for result in summary.results:
        print(result.path.relative_to(summary.destination))
