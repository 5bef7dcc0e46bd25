"""Receive webhooks with Flask.

Run it with ``python receive_webhooks_flask.py [PORT [DATABASE]]``, or with any WSGI
server.

Put a reverse proxy with TLS in front of it. Another process reads the table.
"""

import sqlite3
import sys
from contextlib import closing

from flask import Flask, request

from cfplatform import WebhookVerificationError
from cfplatform.webhooks import MAX_BODY_BYTES, WebhookVerifier

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
DATABASE = sys.argv[2] if len(sys.argv) > 2 else "events.db"
COLUMNS = "key TEXT PRIMARY KEY, work_item_id TEXT, status TEXT"
# 503 asks for another delivery; the other codes are final.
STATUSES = {"too_large": 413, "keys_unavailable": 503}

app = Flask(__name__)
# Flask itself responds with 413 to a larger body.
app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
verifier = WebhookVerifier()


def store(event):
    """Store an event; a repeated delivery of it is ignored."""
    key = f"{event.work_item_id} {event.status} {event.updated_at}"
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute(f"CREATE TABLE IF NOT EXISTS events ({COLUMNS})")
        row = (key, event.work_item_id, event.status)
        db.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", row)


@app.post("/webhooks")
def receive():
    try:
        # The signature covers the raw bytes, so do not pass parsed JSON.
        event = verifier.verify(request.get_data(), request.headers)
    except WebhookVerificationError as error:
        app.logger.warning("%s", error)
        return "", STATUSES.get(error.reason, 400)
    # Store before responding, so no event is lost. Process it later, so the response
    # is quick.
    store(event)
    return "", 204


if __name__ == "__main__":
    app.run(port=PORT)
