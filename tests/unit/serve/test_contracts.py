"""Contracts: annotations of handlers as JSON Schemas, and the pointers of what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

import chimera
from chimera.api.registry import Registry
from chimera.api.task import ATTRIBUTE
from chimera.client.contracts import Contracts, compile_check
from chimera.errors import InvalidPayload
from chimera.swarm.policy import TaskPolicy


@dataclass
class Item:
    name: str
    count: int = 1


class Order(pydantic.BaseModel):
    items: list[Item]


def declared(handler: Any) -> str | None:
    (policy,) = Registry([getattr(handler, ATTRIBUTE)]).policies()
    return policy.contract


@chimera.task("c.item")
def of_item(payload: Item) -> None: ...


@chimera.task("c.order")
def of_order(ctx: chimera.Context, payload: Order) -> None: ...


@chimera.task("c.any")
def of_any(payload: dict[str, Any]) -> None: ...


def test_a_plain_annotation_is_no_contract():
    assert declared(of_any) is None
    assert Contracts().check(TaskPolicy(type="c.any")) is None


@pytest.mark.parametrize(
    ("handler", "good", "bad", "pointer"),
    [
        (of_item, {"name": "a"}, {"name": "a", "count": "x"}, "/payload/count"),
        (of_order, {"items": [{"name": "a"}]}, {"items": [{"name": 1}]}, "/payload/items/0/name"),
        (of_item, {"name": "a", "count": 2}, 7, "/payload"),
    ],
)
def test_what_does_not_fit_is_pointed_at(handler, good, bad, pointer):
    contract = declared(handler)
    assert contract is not None
    check = compile_check("c", contract)
    check(good)
    with pytest.raises(InvalidPayload) as refused:
        check(bad)
    assert [one["pointer"] for one in refused.value.details["errors"]] == [pointer]


def test_a_contract_is_compiled_once_and_anew_when_it_changes():
    contracts = Contracts()
    one = contracts.check(TaskPolicy(type="t", contract='{"type": "integer"}'))
    assert contracts.check(TaskPolicy(type="t", contract='{"type": "integer"}')) is one
    other = contracts.check(TaskPolicy(type="t", contract='{"type": "string"}'))
    assert other is not None
    other("now a text")


AVRO = {
    "type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "items", "type": {"type": "array", "items": {
            "type": "record", "name": "Item", "fields": [{"name": "price", "type": "double"}]}}},
        {"name": "by_day", "type": {"type": "map", "values": "int"}, "default": {}},
    ],
}  # fmt: skip


@chimera.task("c.avro", avro_schema=AVRO)
def of_avro(payload: dict[str, Any]) -> None: ...


@chimera.task("c.given", json_schema={"type": "object", "required": ["name", "extra"]})
def of_given(payload: Item) -> None: ...


def check_of(handler: Any):
    (policy,) = Registry([getattr(handler, ATTRIBUTE)]).policies()
    return Contracts().check(policy)


@pytest.mark.parametrize(
    ("payload", "faults"),
    [
        ({"id": 1, "items": []}, []),
        ({"id": 1, "items": [{"price": 2}], "note": "x", "by_day": {"a": 1}}, []),
        ([], [("/payload", "is no object (record Order)")]),
        ({"items": []}, [("/payload", "lacks 'id'")]),
        ({"id": 1 << 63, "items": []}, [("/payload/id", "is no long")]),
        ({"id": True, "items": []}, [("/payload/id", "is no long")]),
        ({"id": 1, "items": [{"price": "2"}]}, [("/payload/items/0/price", "is no double")]),
        ({"id": 1, "items": [], "note": 5}, [("/payload/note", "is none of null | string")]),
        ({"id": 1, "items": [], "by_day": {"a/b": None}}, [("/payload/by_day/a~1b", "is no int")]),
        ({"id": 1, "items": [], "x": 1}, [("/payload/x", "is no field of record Order")]),
    ],
)
def test_an_avro_contract_points_at_what_does_not_fit(payload, faults):
    check = check_of(of_avro)
    if not faults:
        check(payload)
        return
    with pytest.raises(InvalidPayload) as told:
        check(payload)
    assert [(one["pointer"], one["detail"]) for one in told.value.details["errors"]] == faults


def test_a_contract_that_is_given_comes_before_the_annotation():
    with pytest.raises(InvalidPayload, match='"extra" is a required property'):
        check_of(of_given)({"name": "n"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"json_schema": {"type": "nonsense"}}, "task 'f': json_schema: "),
        ({"json_schema": {"$ref": "http://127.0.0.1:9/x"}}, "is not among the references"),
        ({"avro_schema": {"type": "record", "name": "R"}}, "avro_schema: /: a record has a list"),
        ({"avro_schema": "no json"}, "avro_schema: no JSON"),
    ],
)
def test_a_contract_that_is_no_schema_is_refused_where_it_is_written(options, said):
    with pytest.raises(ValueError, match=said):
        chimera.task("f", **options)(lambda payload: None)


def test_a_task_has_one_contract():
    with pytest.raises(TypeError, match="one contract, not json_schema and avro_schema"):
        chimera.task("f", json_schema={}, avro_schema="int")(lambda payload: None)
