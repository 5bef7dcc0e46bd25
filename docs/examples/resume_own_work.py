"""Process each document once, even if this script is killed.

Run it with ``python resume_own_work.py``; run it again to resume.
"""

import sqlite3
from contextlib import closing

from cfplatform import Client

COLUMNS = "item TEXT PRIMARY KEY, revision TEXT, annotations INTEGER"
FIND = "SELECT 1 FROM done WHERE item = ? AND revision IS ?"

with closing(sqlite3.connect("work.db")) as db, Client() as client:
    db.execute(f"CREATE TABLE IF NOT EXISTS done ({COLUMNS})")

    def is_new(item):
        """Return whether this item is new, or has changed since it was processed."""
        return db.execute(FIND, (item.id, item.revision)).fetchone() is None

    items = filter(is_new, client.get_work_items(status="COMPLETED"))
    for item, document in client.iter_annotations(items=items):
        # Save your result, and that it is done, in one transaction.
        with db:
            row = (item.id, item.revision, len(document["annotations"]))
            db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", row)
    print(*db.execute("SELECT count(*), sum(annotations) FROM done").fetchone())
