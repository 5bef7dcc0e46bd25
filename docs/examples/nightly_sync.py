"""Sync a folder with all finished annotations and images; for cron.

Run it with ``python nightly_sync.py [FOLDER]``.
"""

import sys
from datetime import datetime

from cfplatform import CFPlatformError, Client, DestinationBusyError

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "labels"


def sync():
    """Return the exit code: 0 if the folder is up to date, else 1."""
    try:
        with Client() as client:
            summary = client.download_project(destination=FOLDER, assets=True)
    except DestinationBusyError:
        print("the previous run is still in progress")
        return 0
    except CFPlatformError as error:
        print(f"sync failed: {error}", file=sys.stderr)
        return 1
    counts = f"{summary.successful} fetched, {summary.skipped} unchanged"
    print(f"{datetime.now():%Y-%m-%d}: {counts}, {summary.failed} failed")
    for result in summary.failures:
        print(f"{result.item_id}: {result.error}", file=sys.stderr)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(sync())
