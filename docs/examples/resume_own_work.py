"""Process each document once, even if this script is killed.

Run it with ``python resume_own_work.py``.
Start it again to resume.
"""

import sqlite3
from contextlib import closing

from cfplatform import Client

COLUMNS = "item TEXT PRIMARY KEY, revision TEXT, labels INTEGER"
FIND = "SELECT 1 FROM done WHERE item = ? AND revision IS ?"

with closing(sqlite3.connect("work.db")) as db, Client() as client:
    db.execute(f"CREATE TABLE IF NOT EXISTS done ({COLUMNS})")

    def is_new(item):
        """Whether this item was not processed yet, or has changed since."""
        return db.execute(FIND, (item.id, item.revision)).fetchone() is None

    items = filter(is_new, client.get_work_items(status="COMPLETED"))
    for item, document in client.iter_annotations(items=items):
        # The result and the record are one transaction: both or neither.
        with db:
            row = (item.id, item.revision, len(document["annotations"]))
            db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", row)
    print(*db.execute("SELECT count(*), sum(labels) FROM done").fetchone())
