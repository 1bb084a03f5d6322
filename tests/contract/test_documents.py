"""docs/events.md and docs/asyncapi.yaml say what the schemas say, and the latter is valid."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

import jsonschema_rs
import pytest
import yaml

from chimera.contracts import cloudevents, documents, schemas
from chimera.contracts.events import kinds
from chimera.traffic.topics import topics
from tests.style.sources import ROOT

#: of AsyncAPI's published schemas, which the check by those is pinned to
SPECS = "@asyncapi/specs@6.11.1"
AGAIN = "python -m chimera.contracts.documents"


def document():
    return yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text())


def test_the_documents_are_those_that_the_schemas_make():
    assert (ROOT / "docs/events.md").read_text() == documents.events_page(), AGAIN
    assert (ROOT / "docs/asyncapi.yaml").read_text() == documents.asyncapi(), AGAIN


def test_channels_are_the_topics_of_a_swarm():
    names = {f"chimera.demo.{channel}" for channel in documents.CHANNELS}
    assert {topic.name for topic in topics("demo", 8)} == names


def test_every_event_is_told_with_every_field_and_extension():
    page = (ROOT / "docs/events.md").read_text()
    for event, kind in kinds().items():
        schema = schemas.newest(event).schema()
        section = page.partition(f"\n## {schema['name']}\n")[2].partition("\n## ")[0]
        assert kind.ce_type in section
        assert all(f"| `{field['name']}` |" in section for field in schema["fields"])
    assert all(f"| `{name}` |" in page for name in cloudevents.EXTENSIONS)


def references(value):
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_reference_in_the_document_leads_somewhere():
    told = document()
    found = list(references(told))
    assert found
    for reference in found:
        at = told
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    for operation in told["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(one["$ref"].startswith(f"{channel}/messages/") for one in operation["messages"])


def test_the_document_is_valid_by_asyncapis_own_schema(tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: AsyncAPI's own schema cannot be fetched")
    packed = subprocess.run(
        ["npm", "pack", SPECS, "--silent"], cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    with tarfile.open(tmp_path / packed.stdout.strip()) as archive:
        member = archive.extractfile(f"package/schemas/{documents.ASYNCAPI}.json")
        validator = jsonschema_rs.validator_for(json.load(member))
    told = document()
    assert [fault.message[:200] for fault in validator.iter_errors(told)] == []
    del told["channels"]["commands"]["address"], told["info"]["title"]
    assert not validator.is_valid(told), "the schema would let anything pass"
