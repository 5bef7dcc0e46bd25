"""Reach the platform through a proxy with certificates from its own CA.

Run it with ``python behind_a_proxy.py PROXY_URL CA_FILE``, such as
``python behind_a_proxy.py http://proxy.example.com:3128 company-ca.pem``.
"""

import sys

from cfplatform import Client

if len(sys.argv) != 3:
    sys.exit(__doc__)
proxy, ca_file = sys.argv[1:]

with Client(proxies={"https": proxy, "http": proxy}, verify=ca_file) as client:
    print(client.get_work_items_count(status="COMPLETED"), "items are completed")
    item = next(client.get_work_items(status="COMPLETED"))
    # The document comes from the storage, which is on a different host from the API.
    print(len(item.load()["annotations"]), "annotations in the first one")
