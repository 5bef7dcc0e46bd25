"""Download some batches for validation, and all others for training.

Run it with ``python split_by_batch.py BATCH...``, such as
``python split_by_batch.py "Street scenes"``.
"""

import sys

from cfplatform import Client

VALIDATION = set(sys.argv[1:])

with Client() as client:
    batches = list(client.get_batches())
    unknown = VALIDATION - {batch.name for batch in batches}
    if unknown:
        sys.exit(f"no such batch: {', '.join(sorted(unknown))}")
    splits = {
        "train": [batch.id for batch in batches if batch.name not in VALIDATION],
        "validation": [batch.id for batch in batches if batch.name in VALIDATION],
    }
    for name, ids in splits.items():
        summary = client.download_project(destination=f"dataset/{name}", batch_ids=ids)
        summary.raise_for_failures()
        print(f"{name}: {len(ids)} batches, {summary.total_items} items")
