"""Download a project into an S3 bucket with a Dask cluster.

Run it with ``python dask_to_s3.py s3://BUCKET/FOLDER [SCHEDULER]``.
"""

import sys

from dask.distributed import Client as Cluster

from cfplatform import Client


def cluster(*scheduler):
    """Connect to a running cluster, or start one on this machine."""
    if scheduler:
        return Cluster(*scheduler)
    return Cluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")


def main(url, *scheduler):
    with (
        cluster(*scheduler) as workers,
        workers.get_executor() as executor,
        Client() as client,
    ):
        summary = client.download_project(
            destination=url, state="labels-state", executor=executor
        )
    print(f"{summary.successful} written, {summary.skipped} unchanged")
    summary.raise_for_failures()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
