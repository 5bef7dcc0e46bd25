"""Download the work items whose webhooks the receiver has stored.

Run it with ``python webhook_worker.py [DATABASE]``, for example from cron.
"""

import sqlite3
import sys
from contextlib import closing

from cfplatform import Client

DATABASE = sys.argv[1] if len(sys.argv) > 1 else "events.db"

with closing(sqlite3.connect(DATABASE)) as db, Client() as client:
    finished = "SELECT key, work_item_id FROM events WHERE status = 'COMPLETED'"
    keys = {}
    for key, item_id in db.execute(finished):
        keys.setdefault(item_id, []).append((key,))
    items = client.get_work_items(work_item_ids=list(keys))
    for result in client.iter_downloads(items, "labels", assets=True):
        if result.error is not None:
            print("failed:", result.item_id, result.error, file=sys.stderr)
            continue
        # The files are saved. If the script dies before it deletes the events, the next
        # run processes them again.
        with db:
            db.executemany("DELETE FROM events WHERE key = ?", keys[result.item_id])
        print(result.path)
