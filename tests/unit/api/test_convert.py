"""Payloads become what the annotation says, or say what does not fit and where."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple, Optional, TypedDict, Union

import msgspec
import pydantic
import pytest

from chimera.api import convert


@dataclass
class Point:
    x: int
    y: int = 0


class Record(msgspec.Struct):
    points: list[Point]


class Pair(NamedTuple):
    a: int
    b: str


class Options(TypedDict):
    deep: bool


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    day: date


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Any, b'{"x": 1}', {"x": 1}),
        (dict, b"[1]", [1]),
        (int, b'"1"', "1"),
        (list[str], b"[1]", [1]),
        (Point, b'{"x": 1}', Point(1)),
        (list[Point], b'[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (Optional[Point], b"null", None),  # noqa: UP045 # as users of 3.9 write it
        (Union[Point, None], b'{"x": 3}', Point(3)),  # noqa: UP007
        (Point | None, b'{"x": 3}', Point(3)),
        (dict[str, Point], b'{"a": {"x": 1}}', {"a": Point(1)}),
        (Record, b'{"points": [{"x": 1}]}', Record([Point(1)])),
        (Pair, b'[1, "b"]', Pair(1, "b")),
        (Options, b'{"deep": true}', {"deep": True}),
        (Colour, b'"red"', Colour.RED),
        (Model, b'{"day": "2026-11-23"}', Model(day=date(2026, 11, 23))),
        (list[Model], b'[{"day": "2026-11-23"}]', [Model(day=date(2026, 11, 23))]),
        (Literal["a", 1], b'"b"', "b"),
    ],
)
def test_a_payload_becomes_what_the_annotation_says(annotation, text, value):
    assert convert.decoder(annotation)(text) == value


@pytest.mark.parametrize(
    ("annotation", "text", "path"),
    [
        (Record, b'{"points": [{"x": 1}, {"x": "2"}]}', "$.points[1].x"),
        (Options, b"{}", "deep"),
        (list[Model], b'[{"day": "soon"}]', "0.day"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(annotation, text, path):
    with pytest.raises((msgspec.ValidationError, pydantic.ValidationError)) as caught:
        convert.decoder(annotation)(text)
    assert path in str(caught.value)


class Odd:
    pass


def test_what_nothing_can_be_made_into_is_refused_at_once():
    with pytest.raises(TypeError, match="more than one"):
        convert.decoder(Union[Point, Record])  # noqa: UP007


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        (Point(1, 2), b'{"x":1,"y":2}'),
        (Model(day=date(2026, 1, 2)), b'{"day":"2026-01-02"}'),
        ([Model(day=date(2026, 1, 2))], b'[{"day":"2026-01-02"}]'),
        ((1, {"a": Colour.RED}), b'[1,{"a":"red"}]'),
    ],
)
def test_results_are_encoded(value, text):
    assert convert.encode(value) == text


def test_what_is_no_json_is_named():
    with pytest.raises(TypeError, match="a value of type Odd is no JSON"):
        convert.encode([Odd()])
