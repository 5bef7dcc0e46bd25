"""With the official client: download two batches and create an export."""

import os

from cf_ai_platform_client import ExportFormat, SyncCFUserClient

api_key, base_url = os.environ["CF_API_KEY"], os.environ["CF_PLATFORM_BASE_URL"]
project_id, space_id = os.environ["CF_PROJECT_ID"], os.environ["CF_SPACE_ID"]

with SyncCFUserClient.create_with_api_key(api_key, base_url) as client:
    summary = client.download_project(
        project_id=project_id,
        space_id=space_id,
        destination="labels",
        batch_ids=[1001, 1002],
        updated_at_from="2025-01-01T00:00:00Z",
        max_workers=20,
        limit=100,
    )
    print(f"{summary.successful} of {summary.total_items}")
    for result in summary.results:
        if not result.success:
            print(result.item_id, result.error)

    export = client.create_export(
        space_id,
        "nightly",
        ExportFormat.COCO_JSON,
        project_ids=[project_id],
    )
    export_id = str(export.export_id)
    print(
        client.download_export_file(space_id, export_id, "archives", poll_interval=0.5)
    )
