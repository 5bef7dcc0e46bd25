"""Reach the platform through a proxy whose certificates a company signs itself.

``LABELS_PROXY`` is the address of the proxy, such as ``http://proxy.example.com:3128``, and ``LABELS_CA`` the file with
the company's certificate.
"""

import os

from cfplatform import Client

proxy = os.environ["LABELS_PROXY"]
with Client(proxies={"https": proxy, "http": proxy}, verify=os.environ["LABELS_CA"]) as client:
    print(client.get_work_items_count(status="COMPLETED"), "items are completed")
    print(len(next(client.get_work_items(status="COMPLETED")).load()["annotations"]), "labels in the first one")
