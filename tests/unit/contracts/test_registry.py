"""The registry's core: what it refuses, what it remembers, and that two of them never disagree."""

from __future__ import annotations

import json
import threading
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.contracts import OwnSchemas, schemas
from chimera.contracts.registry import MemoryLog, Registry
from chimera.errors import InvalidRequest, RegistryFault, Unavailable, UnknownSchema, from_wire


def record(*names, **more):
    fields = [{"name": name, "type": "int", "default": 0} for name in names]
    return json.dumps({"type": "record", "name": "R", "fields": fields, **more})


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def registry(log):
    return Registry(log)


def refused(registry, op, **arguments):
    with pytest.raises(RegistryFault) as told:
        registry.call(op, **arguments)
    return told.value.error_code


def test_a_fault_keeps_its_code_on_its_way_between_processes():
    fault = from_wire(RegistryFault("no", error_code=40401).to_wire())
    assert isinstance(fault, InvalidRequest)
    assert (fault.error_code, fault.status) == (40401, 404)


def test_layout_makes_no_other_schema_and_normalizing_none_either(registry):
    one = registry.register("s", record("a"))
    assert registry.register("s", json.dumps(json.loads(record("a")), indent=4)) == one
    assert registry.register("s", '{"name":"R","fields":[{"default":0,"type":{"type":"int"},'
                             '"name":"a"}],"type":"record"}') == one  # fmt: skip
    full = '{"type":"record","name":"x.R","fields":[]}'
    apart = '{"type":"record","namespace":"x","name":"R","fields":[]}'
    body = {"schema": apart}
    registry.call("register", subject="n", body={"schema": full})
    assert refused(registry, "lookup", subject="n", body=body) == 40403
    assert registry.call("lookup", subject="n", body=body, normalize=True)["version"] == 1


def test_a_transitive_level_looks_at_every_version(registry):
    registry.register("s", '{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}')
    registry.register("s", record("a", "b"))
    newest = '{"type":"record","name":"R","fields":[{"name":"b","type":"int"}]}'
    registry.call("set_level", subject="s", level="BACKWARD_TRANSITIVE")
    assert refused(registry, "register", subject="s", body={"schema": newest}) == 409
    registry.call("set_level", subject="s", level="BACKWARD")
    registry.register("s", newest)


def test_one_deleted_softly_is_no_predecessor_and_keeps_its_id(registry):
    registry.register("s", record("a"))
    id = registry.register("s", '{"type":"record","name":"R","fields":[]}')
    registry.call("delete_version", subject="s", version="1")
    registry.call("delete_version", subject="s", version="latest")
    assert registry.register("s", '"string"') == id + 1
    assert registry.call("versions", subject="s") == [3]
    assert registry.call("by_id", id=id)["schema"]


def test_a_subject_that_goes_takes_its_level_along(registry):
    registry.register("s", record("a"))
    registry.call("set_level", subject="s", level="NONE")
    registry.call("delete_subject", subject="s")
    assert registry.call("level", subject="s", default=True) == "BACKWARD"


def test_another_language_is_incompatible(registry):
    registry.register("s", '"string"')
    body = {"schema": '{"type": "string"}', "schemaType": "JSON"}
    assert refused(registry, "register", subject="s", body=body) == 409


def test_json_schemas_refer_to_each_other(registry):
    inner = {"schema": '{"type": "integer"}', "schemaType": "JSON"}
    registry.call("register", subject="inner", body=inner)
    outer = {
        "schema": '{"type": "object", "properties": {"n": {"$ref": "inner.json"}}}',
        "schemaType": "JSON",
    }
    assert refused(registry, "register", subject="outer", body=outer) == 42201
    outer["references"] = [{"name": "inner.json", "subject": "inner", "version": -1}]
    registry.call("register", subject="outer", body=outer)
    newer = {**inner, "schema": '{"type": "string"}'}
    registry.call("set_level", subject="inner", level="NONE")
    registry.call("register", subject="inner", body=newer)
    outer["references"] = [{"name": "inner.json", "subject": "inner", "version": 2}]
    checked = registry.call("check", subject="outer", version="", body=outer, verbose=True)
    assert not checked["is_compatible"]
    assert "/properties/n" in checked["messages"][0]


def test_import_mode_takes_ids_and_versions_as_they_are_given(registry):
    body = {"schema": record("a"), "id": 5000, "version": 7}
    assert refused(registry, "register", subject="s", body=body) == 42205
    registry.call("set_mode", mode="IMPORT")
    assert registry.call("register", subject="s", body=body)["id"] == 5000
    assert registry.call("versions", subject="s") == [7]
    clash = {"schema": record("b"), "id": 5000, "version": 8}
    assert refused(registry, "register", subject="s", body=clash) == 42205
    lower = {"schema": record("b"), "id": 4000, "version": 6}
    assert registry.call("register", subject="s", body=lower)["id"] == 4000
    registry.call("set_mode", mode="READWRITE")
    assert registry.register("s", record("a", "b")) == 5001, "above every id that was given"


@pytest.mark.parametrize(
    "more",
    [{"references": 5}, {"references": ["x"]}, {"metadata": 5}, {"metadata": {"properties": [1]}},
     {"ruleSet": "x"}, {"schemaType": ["AVRO"]}],
)  # fmt: skip
def test_a_body_of_the_wrong_shape_is_an_invalid_schema(registry, more):
    body = {"schema": '"int"', **more}
    assert refused(registry, "register", subject="s", body=body) == 42201


@pytest.mark.parametrize("op", ["told", "_parse", "checked", "no_such", "__class__"])
def test_only_operations_can_be_asked_for(registry, op):
    assert refused(registry, op) == 404


@pytest.mark.parametrize(
    "schema",
    [
        "[" * 100_000,
        '{"type":"array","items":' * 900 + '"int"' + "}" * 900,
        "\ud800",
        "",
        '{"doc": "\\ud800", "type": "string"}',
        '{"x": 1e999, "type": "string"}',
    ],
)
def test_what_would_end_a_parser_is_refused(registry, schema):
    for language in ("AVRO", "JSON"):
        body = {"schema": schema, "schemaType": language}
        assert refused(registry, "register", subject="s", body=body) == 42201


def test_our_own_schemas_have_the_ids_and_guids_that_actors_know(registry):
    ids = registry.publish_own()
    assert registry.publish_own() == ids
    for event, id in ids.items():
        text = schemas.newest(event).text
        guid = UUID(registry.call("by_id", id=id)["guid"])
        assert OwnSchemas().register(event, text) == id
        assert OwnSchemas().schema(guid) == OwnSchemas().schema(id) == text


def test_unknown_ids_are_unknown_schemas(registry):
    with pytest.raises(UnknownSchema):
        registry.schema(77)


# -- the log -------------------------------------------------------------------------------------

SUBJECT = st.sampled_from(["a", "b"])
STEP = st.one_of(
    st.tuples(st.just("register"), SUBJECT, st.sampled_from(["", "a", "ab", "b"])),
    st.tuples(st.just("delete_subject"), SUBJECT, st.booleans()),
    st.tuples(st.just("delete_version"), SUBJECT, st.booleans()),
    st.tuples(st.just("set_level"), SUBJECT, st.sampled_from(["NONE", "FULL", "FORWARD"])),
)


@given(st.lists(STEP, max_size=30))
def test_whoever_reads_the_log_knows_the_same(steps):
    log = MemoryLog()
    pair = Registry(log), Registry(log)
    for index, (op, subject, what) in enumerate(steps):
        arguments = {
            "register": lambda what: {"body": {"schema": record(*what)}},
            "delete_subject": lambda what: {"permanent": what},
            "delete_version": lambda what: {"version": "1", "permanent": what},
            "set_level": lambda what: {"level": what},
        }[op](what)
        try:
            pair[index % 2].call(op, subject=subject, **arguments)
        except RegistryFault:
            continue
    known = [
        (one.call("every", deleted=True), one.call("subjects")) for one in (*pair, Registry(log))
    ]
    assert known[0] == known[1] == known[2]


def test_one_that_never_gets_its_turn_says_so(registry, log):
    log.append = lambda *_: False
    with pytest.raises(Unavailable, match="too many at once"):
        registry.register("s", record("a"))


def test_a_store_that_fails_changes_nothing_that_is_known(registry, log):
    good = log.append

    def bad(*_):
        raise Unavailable("the disk is gone")

    log.append = bad
    with pytest.raises(Unavailable):
        registry.register("s", record("a"))
    log.append = good
    assert registry.call("subjects") == []
    assert registry.register("s", record("a")) == 1000


def test_questions_are_answered_beside_changes(registry):
    """Each question sees a whole state; none fails because of a change beside it."""
    stop = threading.Event()

    def change():
        for n in range(60):
            registry.register(f"s{n}", record(f"f{n}"))
            registry.call("delete_subject", subject=f"s{n}")
        stop.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not stop.is_set():
        assert all(one["version"] == 1 for one in registry.call("every", deleted=True))
    thread.join()
