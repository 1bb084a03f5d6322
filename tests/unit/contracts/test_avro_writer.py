"""What our writer writes is, byte for byte, what a general one does."""

from __future__ import annotations

import io

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.contracts import Codec, Command, LeaderReport, OwnSchemas, Result, schemas
from chimera.contracts.avro_writer import compile_writer
from chimera.contracts.plain import parse
from tests.contract.samples import EVENTS

LONG = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def by_fastavro(event):
    out = io.BytesIO()
    record = msgspec.to_builtins(event, builtin_types=[bytes])
    parsed = parse(schemas.newest(event.name).text)
    fastavro.schemaless_writer(out, parsed, record, disable_tuple_notation=True)
    return out.getvalue()


def by_us(event):
    return Codec(OwnSchemas()).encode_value(event)[5:]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_samples_are_written_the_same(event):
    assert by_us(event) == by_fastavro(event)


@given(
    st.builds(
        Result,
        task_id=TEXT, type=TEXT, state=TEXT, recorded_at=LONG, position=LONG,
        attempts=st.integers(-(1 << 31), (1 << 31) - 1), result=st.none() | st.binary(max_size=300),
        tags=st.lists(TEXT, max_size=3).map(tuple), key=st.none() | TEXT,
        result_is_claim=st.booleans(), run_us=st.none() | LONG,
    )
)  # fmt: skip
def test_any_result_is_written_the_same(event):
    assert by_us(event) == by_fastavro(event)


@given(st.dictionaries(TEXT, LONG, max_size=3), st.floats(allow_nan=False))
def test_maps_and_numbers_are_written_the_same(counters, lag):
    event = LeaderReport(
        leader="l", region="r", incarnation=1, number=1, at=1, generation=1, ready=True,
        counters=counters, lag_ms=lag,
    )  # fmt: skip
    assert by_us(event) == by_fastavro(event)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": 5}, {"payload": "text"}, {"payload": 7}, {"tags": (1,)}, {"max_attempts": 1 << 31},
        {"deadline": 1 << 63}, {"deadline": "soon"}, {"backoff_cap_s": "x"}, {"no_retry": 5},
        {"key": "\ud800"},
    ],
)  # fmt: skip
def test_what_the_schema_does_not_allow_is_refused(wrong):
    with pytest.raises(ValueError, match="no command: "):
        by_us(Command(**{"type": "t", "payload": b"", **wrong}))


@pytest.mark.parametrize(
    "schema", ['["int", "string"]', '{"type": "fixed", "name": "F", "size": 2}', '"float"']
)
def test_what_events_have_not_is_told_at_once(schema):
    with pytest.raises(ValueError, match="events have no "):
        compile_writer(parse(schema), {})
