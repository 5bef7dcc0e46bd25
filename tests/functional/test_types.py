"""The types of responses, compared with the responses of the sandbox."""

from __future__ import annotations

import json
import subprocess
import sys

from cfplatform import coco, types
from cfplatform.webhooks import WebhookVerifier
from tests.deliveries import Clock, Signer, key_set


def fits(data, kind):
    """Whether a dict has all keys that its type requires, and no others."""
    assert type(data) is dict
    return data.keys() <= kind.__annotations__.keys() and kind.__required_keys__ <= data.keys()


def test_what_the_platform_sends_has_the_members_of_its_type(sandbox, client):
    sandbox.export_seconds = 0
    item = next(client.get_work_items())
    assert fits(item.as_dict(), types.WorkItemData)
    assert fits(next(client.get_batches()).as_dict(), types.BatchData)
    # Without its counts.
    assert fits(client.create_batch("Spring").as_dict(), types.BatchData)
    annotation = item.get_annotation().as_dict()
    assert fits(annotation, types.AnnotationData)
    assert fits(annotation["metadata"], types.AnnotationMetadata)
    assert fits(client.create_export("all").wait().as_dict(), types.ExportData)
    for page in client.iterate_pages(f"/projects/{sandbox.project_id}/workItems"):
        assert fits(page, types.Page)
        assert fits(page["meta"], types.PageMeta)
    signer = Signer()
    verifier = WebhookVerifier(keys=key_set(signer), clock=Clock())
    assert fits(verifier.verify(*signer.deliver()).as_dict(), types.WebhookEventData)


def test_documents_have_the_members_of_their_types(client, tmp_path):
    documents = [document for _, document in client.iter_annotations()]
    coco.merge(documents, tmp_path / "merged.json")
    documents.append(json.loads((tmp_path / "merged.json").read_bytes()))
    for document in documents:
        assert fits(document, types.CocoDocument)
        assert set(document["info"]) <= set(types.CocoInfo.__annotations__)
        for section, kind in (
            ("images", types.CocoImage),
            ("annotations", types.CocoAnnotation),
            ("categories", types.CocoCategory),
        ):
            assert all(fits(each, kind) for each in document[section])
        masks = [each["segmentation"] for each in document["annotations"] if isinstance(each["segmentation"], dict)]
        assert all(fits(each, types.CocoRLE) for each in masks)
    assert len(documents) == 21


def test_the_types_are_loaded_only_where_they_are_named():
    script = "import sys, cfplatform; cfplatform.Client('key'); print('cfplatform.types' in sys.modules, end=' ')"
    later = "print(cfplatform.types.CocoDocument.__name__, 'cfplatform.types' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{script}; {later}"], capture_output=True, text=True, check=True)
    assert done.stdout == "False CocoDocument True\n"
