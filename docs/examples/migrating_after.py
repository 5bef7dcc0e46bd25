"""With cfplatform: the key, base URL and IDs come from the same variables."""

import os

from cfplatform import Client

with Client() as client:
    summary = client.download_project(
        destination="labels",
        batch_ids=[1001, 1002],
        updated_at_from="2025-01-01T00:00:00Z",
    )
    print(f"{summary.successful + summary.skipped} of {summary.total_items}")
    for result in summary.failures:
        print(result.item_id, result.error)

    export = client.create_export("nightly", project_ids=[os.environ["CF_PROJECT_ID"]])
    print(export.download("archives", poll_interval=0.5))
