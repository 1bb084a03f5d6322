"""Our verdicts on the table of schema changes are those of Apicurio, asked in the same words."""

from __future__ import annotations

import httpx2
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from chimera.actors.schemas import SchemaHome
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.contracts import Codec, schemas
from chimera.contracts.registry import OWN_LEVEL, MemoryLog
from chimera.contracts.remote import RemoteRegistry
from chimera.errors import RegistryFault
from chimera.traffic.herald import Herald
from chimera.traffic.intake import Broker
from chimera.traffic.records import Writer
from chimera.traffic.topics import topics
from tests.contract.cases import CASES, LEVELS
from tests.contract.samples import EVENTS
from tests.servers.apicurio import apicurio
from tests.servers.processes import wait_until


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    yield from apicurio(tmp_path_factory.mktemp("apicurio"))


def verdicts(url, case):
    """Whether a change is compatible: (by a check, by a registration), by level."""
    found = {}
    with httpx2.Client(base_url=url, timeout=30) as client:
        old, new = ({"schema": text, "schemaType": case.language} for text in (case.old, case.new))
        for level in LEVELS:
            subject = f"{level}-{CASES.index(case)}"
            client.post(f"/subjects/{subject}/versions", json=old).raise_for_status()
            client.put(f"/config/{subject}", json={"compatibility": level}).raise_for_status()
            check = client.post(f"/compatibility/subjects/{subject}/versions/latest", json=new)
            added = client.post(f"/subjects/{subject}/versions", json=new)
            assert added.status_code in (200, 409), added.text
            found[level] = check.json()["is_compatible"], added.status_code == 200
    return found


@pytest.mark.parametrize("language", ["AVRO", "JSON"])
def test_over_http_our_verdicts_are_the_tables(served, language):
    for case in CASES:
        if case.language == language:
            wanted = {level: (case.verdict(level),) * 2 for level in LEVELS}
            assert verdicts(served.url, case) == wanted, str(case)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["AVRO", "JSON"])
def test_apicurios_verdicts_are_the_tables(theirs, language):
    differ = {}
    for case in CASES:
        if case.language == language:
            known = dict(case.apicurio)
            wanted = {level: (known.get(level, case.verdict(level)),) * 2 for level in LEVELS}
            found = verdicts(theirs, case)
            if found != wanted:
                differ[str(case)] = found
    assert not differ


@pytest.mark.slow
def test_our_events_are_registered_with_apicurio_and_read_by_what_it_says(theirs):
    remote = RemoteRegistry(theirs)
    SchemaHome(MemoryLog(), theirs)  # registers in a thread, as an orchestrator does

    def level(subject: str) -> str:
        try:
            return str(remote.call("GET", f"config/{subject}")["compatibilityLevel"])
        except RegistryFault:
            return ""

    newest = [versions[-1] for versions in schemas.published().values()]
    wait_until(lambda: {level(one.subject) for one in newest} == {OWN_LEVEL}, "our subjects")
    bus, those = MemoryBus(MemoryBroker()), topics("t", 1)
    bus.provision([those.results], 1.0)
    codec = Codec(remote)
    herald = Herald(Broker(bus, those, codec, Writer(codec), "/chimera/t/leader"))
    for event in EVENTS:
        herald.tell(those.results, event, event.name)
    herald.close(30.0)
    records = bus.subscribe(those.results, "outside").fetch(100, 1 << 20, 1.0)
    with SchemaRegistryClient({"url": theirs}) as client:
        read = AvroDeserializer(client)
        for record, event, one in zip(records, EVENTS, names_of(EVENTS), strict=True):
            told = client.get_latest_version(one.subject)
            assert int.from_bytes(record.value[1:5], "big") == told.schema_id
            found = read(record.value, SerializationContext("results", MessageField.VALUE))
            assert found.keys() == {field["name"] for field in one.schema()["fields"]}
            # by somebody who has never seen it, and knows only the registry
            assert Codec(RemoteRegistry(theirs)).decode(record.value) == event


def names_of(events):
    """The schema of each."""
    return [schemas.newest(event.name) for event in events]


@pytest.mark.slow
def test_apicurio_holds_our_subjects_to_full_compatibility(theirs):
    remote = RemoteRegistry(theirs)
    remote.publish_own()
    newest = schemas.newest("result")
    changed = newest.text.replace('"name": "task_id"', '"name": "task"', 1)
    with pytest.raises(RegistryFault) as told:
        remote.register(newest.subject, changed)
    assert told.value.error_code == 409
