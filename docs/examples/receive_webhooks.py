"""Receive webhooks with the standard library.

Run it with ``python receive_webhooks.py [PORT [DATABASE]]``.

Put a reverse proxy with TLS in front of it. Another process reads the table.
"""

import sqlite3
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cfplatform import WebhookVerificationError
from cfplatform.webhooks import MAX_BODY_BYTES, WebhookVerifier

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
DATABASE = sys.argv[2] if len(sys.argv) > 2 else "events.db"
COLUMNS = "key TEXT PRIMARY KEY, work_item_id TEXT, status TEXT"
# 503 asks for another delivery; the other codes are final.
STATUSES = {"too_large": 413, "keys_unavailable": 503}

verifier = WebhookVerifier()


def store(event):
    """Store an event; a repeated delivery of it is ignored."""
    key = f"{event.work_item_id} {event.status} {event.updated_at}"
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute(f"CREATE TABLE IF NOT EXISTS events ({COLUMNS})")
        row = (key, event.work_item_id, event.status)
        db.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", row)


class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        self.send_response(self.receive())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def receive(self):
        """Verify and store one delivery; return the response status."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            return 411
        if int(length) > MAX_BODY_BYTES:
            return 413
        body = self.rfile.read(int(length))
        try:
            event = verifier.verify(body, self.headers)
        except WebhookVerificationError as error:
            self.log_error("%s", error)
            return STATUSES.get(error.reason, 400)
        # Store before responding, so no event is lost. Process it later, so the
        # response is quick.
        store(event)
        return 204


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
