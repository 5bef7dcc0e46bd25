"""Keep whole batches for validation: ``python split_by_batch.py "Street scenes"``; all others are for training."""

import sys

from cfplatform import Client

VALIDATION = set(sys.argv[1:])

with Client() as client:
    batches = list(client.get_batches())
    unknown = VALIDATION - {batch.name for batch in batches}
    if unknown:
        sys.exit(f"no such batch: {', '.join(sorted(unknown))}")
    for split in ("train", "validation"):
        chosen = [batch.id for batch in batches if (batch.name in VALIDATION) == (split == "validation")]
        summary = client.download_project(destination=f"dataset/{split}", batch_ids=chosen)
        summary.raise_for_failures()
        print(f"{split}: {len(chosen)} batches, {summary.total_items} items")
