"""Write a project to S3 with a Dask cluster: ``python dask_to_s3.py s3://BUCKET/FOLDER [SCHEDULER]``."""

import sys

from dask.distributed import Client as Cluster

from cfplatform import Client


def main(url, *scheduler):
    # Without the address of a cluster that runs already, one is started on this machine.
    options = {"address": scheduler[0]} if scheduler else {"n_workers": 2, "threads_per_worker": 1}
    with Cluster(**options, dashboard_address=None) as cluster, Client() as client, cluster.get_executor() as executor:
        summary = client.download_project(destination=url, state="labels-state", executor=executor)
    print(f"{summary.successful} written to {summary.destination}, {summary.skipped} unchanged")
    summary.raise_for_failures()


if __name__ == "__main__":
    main(*sys.argv[1:])
