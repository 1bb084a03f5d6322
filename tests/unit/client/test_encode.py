"""Payloads: what is no JSON is named, what is large travels apart, what is much is cut."""

from __future__ import annotations

from array import array
from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.client.encode import Cutter, Inline, encode_payload, encode_payloads
from chimera.client.options import Kind, Options
from chimera.client.parcels import FRAME_BYTES, Parcel
from chimera.errors import InvalidPayload, PayloadTooLarge
from chimera.frames import command


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (object(), r"\$: object"),
        ({"a": {"b": [0, {1: 2j}]}}, r"\$\.a\.b\[1\]\.1: complex"),
        ({(1, 2): 3}, r"\$\[\(1, 2\)\]: tuple"),
        ({"t": "\ud800"}, r"\$\.t: str"),
    ],
)
def test_what_is_no_json_is_named(payload, path):
    with pytest.raises(InvalidPayload, match=path):
        encode_payload(payload)


def test_a_payload_that_contains_itself():
    loop: list = []
    loop.append(loop)
    with pytest.raises(InvalidPayload):
        encode_payload(loop)


def test_what_json_can_say_is_said():
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert encode_payload({"t": moment, "n": None}) == b'{"t":"2026-01-01T00:00:00Z","n":null}'
    assert encode_payload(msgspec.Raw(b'{"as":"it is"}')) == b'{"as":"it is"}'
    assert encode_payloads([1, "a"], 0) == [b"1", b'"a"']


def test_the_index_of_a_bad_payload_counts_from_the_first_chunk():
    with pytest.raises(InvalidPayload, match="payload 1002 "):
        encode_payloads([1, 2, object()], 1000)


def test_large_bodies_are_put_aside():
    kept: list[bytes] = []

    def put(body: bytes) -> bytes:
        kept.append(body)
        return b"claim"

    inline = Inline(put, 100_000)
    large = b"x" * (command.INLINE_MAX + 1)
    assert inline.one(b"small") == (b"small", False)
    assert inline.one(b"x" * command.INLINE_MAX)[1] is False
    assert inline.one(large) == (b"claim", True)
    bodies = [b"a", large, b"b"]
    assert inline.many(bodies, 0) == [1]
    assert bodies == [b"a", b"claim", b"b"]
    assert inline.many([b"a"], 0) == []
    with pytest.raises(PayloadTooLarge) as caught:
        inline.many([b"a", b"x" * 100_001], 5)
    assert "payload 6" in str(caught.value)
    assert caught.value.details == {"bytes": 100_001, "bytes_max": 100_000}


@given(
    sizes=st.lists(st.integers(1, 60_000), max_size=60)
    | st.lists(st.integers(1, 90), max_size=3000),
    keyed=st.booleans(),
    tagged=st.booleans(),
    chunk=st.integers(1, 1500),
)
def test_cuts_fit_a_frame_and_lose_nothing(sizes, keyed, tagged, chunk):
    options = Options(tags=("some", "tags") if tagged else ())
    kind = Kind(command.Head(type="t"))
    cutter = Cutter(options, kind.size)
    cuts = []
    for start in range(0, len(sizes), chunk):
        part = sizes[start : start + chunk]
        cutter.bodies += [b"x" * size for size in part]
        cutter.indices.extend(range(start, start + len(part)))
        if keyed:
            cutter.keys += ["é" * 20] * len(part)
        cuts += cutter.cut(all_of_it=False)
        assert len(cutter.bodies) < command.COUNT_MAX
    cuts += cutter.cut(all_of_it=True)
    assert [len(body) for cut in cuts for body in cut.bodies] == sizes
    assert sum((cut.indices for cut in cuts), array("I")).tolist() == list(range(len(sizes)))
    for cut in cuts:
        frame = command.pack(1, 0, 0, kind.head(), cut.bodies, cut.columns)
        assert len(frame) <= command.BYTES_MAX
        parcel = Parcel(kind, cut.bodies, cut.columns, False, 0.0)
        assert len(frame) <= parcel.size + kind.size + FRAME_BYTES
    if not keyed and not tagged and sizes and max(sizes) < 60:
        assert all(len(cut.bodies) == command.COUNT_MAX for cut in cuts[:-1])


def test_claims_keep_their_tasks_when_cut():
    cutter = Cutter(Options(), 10)
    cutter.bodies += [b"%d" % i for i in range(2500)]
    cutter.claims += [5, 999, 1000, 2400]
    cuts = cutter.cut(all_of_it=False)
    assert [cut.columns.claims for cut in cuts] == [[5, 999], [0]]
    assert cutter.claims == [400]
