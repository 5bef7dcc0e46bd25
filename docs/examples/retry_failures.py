"""Download a project, then retry failed items after growing pauses.

Run it with ``python retry_failures.py [SECONDS...]``.
"""

import sys
import time

from cfplatform import Client

PAUSES = [float(text) for text in sys.argv[1:]] or [60, 600]

with Client() as client:
    summary = client.download_project(destination="labels")
    print(f"{summary.successful} fetched, {summary.failed} failed")
    for pause in PAUSES:
        failed = [result.item_id for result in summary.failures]
        if not failed:
            break
        time.sleep(pause)
        items = client.get_work_items(work_item_ids=failed)
        summary = client.download_work_items(items, "labels")
        print(f"retry: {summary.successful} fetched, {summary.failed} failed")
    summary.raise_for_failures()
