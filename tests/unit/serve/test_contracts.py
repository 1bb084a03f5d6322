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
    assert Contracts().check("c.any", None) is None


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
    one = contracts.check("t", '{"type": "integer"}')
    assert contracts.check("t", '{"type": "integer"}') is one
    other = contracts.check("t", '{"type": "string"}')
    assert other is not None
    other("now a text")
