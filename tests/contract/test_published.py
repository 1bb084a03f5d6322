"""The published schemas: never changed, compatible for ever, and written in one manner."""

from __future__ import annotations

import base64
import io
import json
import re

import avro.io
import avro.schema
import msgspec
import pytest

from chimera.contracts import Codec, OwnSchemas, languages, schemas
from chimera.contracts.events import kinds
from chimera.contracts.registry import MemoryLog, Registry
from chimera.errors import RegistryFault
from tests.contract.publish import GOLDEN, HOME, digest

ALL = [one for versions in schemas.published().values() for one in versions]
EACH = pytest.mark.parametrize("one", ALL, ids=lambda one: one.file)
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def fields(schema):
    """Every field that is written out in a schema, with where it is."""
    if isinstance(schema, list):
        for branch in schema:
            yield from fields(branch)
    elif isinstance(schema, dict):
        for key in ("type", "items", "values"):
            yield from fields(schema.get(key))
        for field in schema.get("fields", ()):
            yield f"{schema['name']}.{field['name']}", field
            yield from fields(field["type"])


def test_every_schema_is_published():
    """`python -m tests.contract.publish` publishes what is new."""
    assert {path.name for path in HOME.glob("*.avsc")} == set(schemas.manifest())


@EACH
def test_what_is_published_is_not_changed(one):
    assert digest(HOME / one.file) == schemas.manifest()[one.file]["sha256"], (
        f"{one.file} is published: write the change as version {one.version + 1}"
    )


def test_ids_are_given_once():
    ids = [one.id for one in ALL]
    assert len(set(ids)) == len(ids)
    assert all(0 < id <= schemas.ID_MAX for id in ids)


@pytest.mark.parametrize("event", schemas.published())
def test_versions_are_dense_and_compatible_both_ways_with_each_other(event):
    versions = schemas.published()[event]
    assert [one.version for one in versions] == list(range(1, len(versions) + 1))
    parsed = [languages.parse("AVRO", one.text, {}) for one in versions]
    for one in parsed:
        for other in parsed:
            assert not languages.incompatibilities(one, other)


@EACH
def test_a_schema_is_told_and_can_grow(one):
    """Lint: each field says what it means, names are lower case, and no enum stands in the way."""
    schema = one.schema()
    assert schema["doc"]
    assert schema["namespace"].startswith("io.chimera.")
    assert kinds()[one.event].name == one.event
    for where, field in fields(schema):
        assert field.get("doc", "").endswith((".", "…")), f"{where} is not told"
        assert _NAME.match(field["name"]), f"{where} is not in lower case"
        assert '"enum"' not in json.dumps(field), f"{where}: a symbol more would be incompatible"
        nullable = isinstance(field["type"], list)
        assert not nullable or field.get("default", 0) is None, f"{where} is null by default"


@EACH
def test_a_record_of_every_version_is_read_for_ever(one):
    golden = json.loads((GOLDEN / one.file.replace(".avsc", ".json")).read_text())
    event = Codec(OwnSchemas()).decode(bytes.fromhex(golden["record"]))
    found = json.loads(msgspec.json.encode(event))
    assert {name: found[name] for name in golden["event"]} == golden["event"]
    newer = found.keys() - golden["event"].keys()
    defaults = {field.name: field.default for field in msgspec.structs.fields(event)}
    assert all(getattr(event, name) == defaults[name] for name in newer)


@EACH
def test_avros_own_library_reads_the_same(one):
    golden = json.loads((GOLDEN / one.file.replace(".avsc", ".json")).read_text())
    data = bytes.fromhex(golden["record"])
    assert data[:5] == b"\0" + one.id.to_bytes(4, "big")
    # as numbers, where their library would make moments of them
    plain = avro.schema.parse(one.text.replace('"logicalType": "timestamp-millis"', '"x": 1'))
    reader = avro.io.DatumReader(plain)
    found = reader.read(avro.io.BinaryDecoder(io.BytesIO(data[5:])))

    def text(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    assert json.loads(json.dumps(found, default=text)) == golden["event"]


def test_a_change_that_is_not_compatible_is_refused_by_the_registry():
    registry = Registry(MemoryLog())
    registry.publish_own()
    newest = schemas.newest("result")
    for change in (
        lambda schema: schema["fields"].append({"name": "colour", "type": "string"}),
        lambda schema: schema["fields"].pop(0),
        lambda schema: schema.update(name="Outcome"),
    ):
        schema = newest.schema()
        change(schema)
        with pytest.raises(RegistryFault) as told:
            registry.register(newest.subject, json.dumps(schema))
        assert told.value.error_code == 409
