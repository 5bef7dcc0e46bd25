"""Reach the platform through a proxy whose certificates a company signs itself.

``LABELS_PROXY`` is the URL of the proxy, such as ``http://proxy.example.com:3128``,
and ``LABELS_CA`` the file with the company's certificate.
"""

import os

from cfplatform import Client

proxy = os.environ["LABELS_PROXY"]
authority = os.environ["LABELS_CA"]
with Client(proxies={"https": proxy, "http": proxy}, verify=authority) as client:
    print(client.get_work_items_count(status="COMPLETED"), "items are completed")
    item = next(client.get_work_items(status="COMPLETED"))
    print(len(item.load()["annotations"]), "labels in the first one")
