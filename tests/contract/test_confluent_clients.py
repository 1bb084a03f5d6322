"""Confluent's own Python client and serializers, unchanged, against our registry."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    SchemaRegistryError,
    record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import (
    ConfigCompatibilityLevel,
    ServerConfig,
)
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from chimera.contracts import Codec, schemas
from chimera.contracts.registry import OWN_LEVEL
from tests.contract.samples import BY_NAME

A1 = '{"type": "record", "name": "O", "fields": [{"name": "a", "type": "int"}]}'
A2 = A1.replace("}]", '}, {"name": "b", "type": "int", "default": 0}]')
A3 = A1.replace("}]", '}, {"name": "c", "type": "string"}]')
VALUE = SerializationContext("orders", MessageField.VALUE)


@pytest.fixture
def client(served):
    with SchemaRegistryClient({"url": served.url}) as client:
        yield client


def refused(work, *arguments, **options):
    """(HTTP status, error code) of what is refused."""
    with pytest.raises(SchemaRegistryError) as told:
        work(*arguments, **options)
    return told.value.http_status_code, told.value.error_code


def test_versions_ids_and_guids(client):
    one = client.register_schema_full_response("orders-value", Schema(A1))
    two = client.register_schema("orders-value", Schema(A2))
    assert (one.version, two) == (1, one.schema_id + 1)
    assert client.register_schema("other-value", Schema(A1)) == one.schema_id
    assert client.get_subjects() == ["orders-value", "other-value"]
    assert client.get_subjects(subject_prefix="ot") == ["other-value"]
    assert client.get_versions("orders-value") == [1, 2]
    assert json.loads(client.get_schema(two).schema_str) == json.loads(A2)
    latest = client.get_latest_version("orders-value")
    assert (latest.version, latest.schema_id) == (2, two)
    assert client.get_schema_by_guid(latest.guid).schema_str == latest.schema.schema_str
    assert client.lookup_schema("orders-value", Schema(A1)).version == 1
    assert client.get_subjects_by_schema_id(one.schema_id) == ["orders-value", "other-value"]
    found = client.get_schema_versions(one.schema_id)
    assert [(v.subject, v.version) for v in found] == [("orders-value", 1), ("other-value", 1)]
    assert set(client.get_schema_types()) == {"AVRO", "JSON"}


def test_refusals_have_confluents_codes(client):
    client.register_schema("s", Schema(A1))
    assert refused(client.register_schema, "s", Schema(A3)) == (409, 409)
    assert refused(client.register_schema, "s", Schema('{"type": "x"}')) == (422, 42201)
    assert refused(client.register_schema, "t", Schema("x", "JSON")) == (422, 42201)
    assert refused(client.register_schema, "t", Schema("x", "PROTOBUF")) == (422, 42201)
    assert refused(client.get_versions, "none") == (404, 40401)
    assert refused(client.get_version, "s", 9) == (404, 40402)
    assert refused(client.get_version, "s", "x") == (422, 42202)
    assert refused(client.get_schema, 4711) == (404, 40403)
    assert refused(client.lookup_schema, "s", Schema(A2)) == (404, 40403)
    assert refused(client.lookup_schema, "none", Schema(A2)) == (404, 40401)
    assert refused(client.set_compatibility, level="LOOSE") == (422, 42203)
    assert refused(client.get_compatibility, "s") == (404, 40408)
    assert refused(client.update_mode, "s", "ASLEEP") == (422, 42204)
    assert refused(client.get_mode, "s") == (404, 40409)


def test_deleting_is_soft_first_and_then_for_good(client, served):
    first = client.register_schema("s", Schema(A1))
    client.register_schema("s", Schema(A2))
    assert refused(client.delete_subject, "s", permanent=True) == (404, 40405)
    assert refused(client.delete_version, "s", 1, permanent=True) == (404, 40407)
    assert client.delete_version("s", 1) == 1
    assert refused(client.delete_version, "s", 1) == (404, 40406)
    assert client.get_versions("s") == [2]
    assert client.get_versions("s", deleted=True) == [1, 2]
    assert client.delete_subject("s") == [2]
    assert refused(client.delete_subject, "s") == (404, 40404)
    assert client.get_subjects() == []
    assert client.get_subjects(deleted=True) == ["s"]
    assert client.delete_subject("s", permanent=True) == [1, 2]
    assert refused(client.delete_subject, "s") == (404, 40401)
    with SchemaRegistryClient({"url": served.url}) as fresh:
        assert refused(fresh.get_schema, first) == (404, 40403)
        assert fresh.register_schema("s", Schema(A1)) > first + 1, "no id is given twice"
        assert fresh.get_versions("s") == [1]


def test_levels_and_checks(client):
    client.register_schema("s", Schema(A1))
    assert client.get_compatibility() == "BACKWARD"
    assert client.test_compatibility("s", Schema(A2))
    assert not client.test_compatibility("s", Schema(A3))
    assert client.set_compatibility("s", "forward")["compatibility"] == "FORWARD"
    assert client.test_compatibility("s", Schema(A3), verbose=True)
    assert client.get_config("s").compatibility_level == "FORWARD"
    client.set_config("s", ServerConfig(compatibility=ConfigCompatibilityLevel.NONE))
    assert client.test_compatibility_all_versions("s", Schema('"int"'))
    client.delete_config("s")
    assert not client.test_compatibility_all_versions("s", Schema('"int"'))
    assert client.test_compatibility_all_versions("not-there-yet", Schema('"int"'))


def test_modes(client):
    client.register_schema("s", Schema(A1))
    assert client.get_global_mode() == "READWRITE"
    client.update_mode("s", "READONLY")
    assert refused(client.register_schema, "s", Schema(A2)) == (422, 42205)
    assert client.get_mode("s") == "READONLY"
    client.delete_mode("s")
    client.register_schema("s", Schema(A2))
    assert refused(client.update_global_mode, "IMPORT") == (422, 42205)
    assert client.update_global_mode("READONLY") == "READONLY"


def test_references_contexts_and_metadata(client, served):
    client.register_schema("money", Schema('{"type": "fixed", "name": "m.Money", "size": 8}'))
    order = Schema(
        '{"type": "record", "name": "O", "fields": [{"name": "m", "type": "m.Money"}]}',
        references=[SchemaReference("m.Money", "money", 1)],
    )
    id = client.register_schema(":.shop:orders/value", order)
    assert client.get_referenced_by("money", 1) == [id]
    assert client.get_schema(id).references[0].subject == "money"
    assert refused(client.delete_version, "money", 1) == (422, 42206)
    assert client.get_contexts() == [".", ".shop"]
    assert client.get_subjects(subject_prefix=":.shop:") == [":.shop:orders/value"]
    with SchemaRegistryClient({"url": f"{served.url}/contexts/:.shop:"}) as in_shop:
        assert in_shop.get_subjects() == [":.shop:orders/value"]
        assert in_shop.get_latest_version("orders/value").schema_id == id
    client.register_schema("contexts", Schema(A1))
    assert client.get_version("contexts", 1).subject == "contexts", "a name like any other"
    data = {"schema": A1, "metadata": {"properties": {"owner": "a b"}}}
    client.register_schema("told", Schema.from_dict(data))
    assert client.get_latest_with_metadata("told", {"owner": "a b"}).version == 1
    assert refused(client.get_latest_with_metadata, "told", {"owner": "c"}) == (404, 40403)


def test_avro_serializer_and_deserializer(client, served):
    serialize = AvroSerializer(client, A1)
    data = serialize({"a": 5}, VALUE)
    assert data[0] == 0
    assert served.registry.call("subjects") == ["orders-value"]
    assert AvroDeserializer(client)(data, VALUE) == {"a": 5}
    newer = AvroDeserializer(client, A2)
    assert newer(data, VALUE) == {"a": 5, "b": 0}


def test_json_serializer_and_deserializer(client):
    schema = json.dumps(
        {"title": "Order", "type": "object", "properties": {"a": {"type": "integer"}}}
    )
    data = JSONSerializer(schema, client)({"a": 5}, VALUE)
    assert JSONDeserializer(schema, schema_registry_client=client)(data, VALUE) == {"a": 5}
    with pytest.raises(Exception, match="not of type 'integer'"):
        JSONSerializer(schema, client)({"a": "x"}, VALUE)


def test_an_outside_producer_and_our_codec_read_each_other(client, served):
    """With nothing but the registry: the subject is the record's name, the schema its newest."""
    served.registry.publish_own()
    codec = Codec(served.registry)
    for event, sample in BY_NAME.items():
        subject = schemas.newest(event).subject
        text = client.get_latest_version(subject).schema.schema_str
        assert served.registry.call("level", subject=subject) == OWN_LEVEL
        written = codec.encode_value(sample)
        record = AvroDeserializer(client)(written, VALUE)
        options = {
            "auto.register.schemas": False, "use.latest.version": True,
            "subject.name.strategy": record_subject_name_strategy,
        }  # fmt: skip
        assert AvroSerializer(client, text, conf=options)(record, VALUE) == written
