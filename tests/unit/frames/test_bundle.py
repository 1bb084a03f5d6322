"""Bundles: frames go in and come out in order; a cut one is noticed, not read short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import CorruptFrame
from chimera.frames.bundle import (
    Dispatch,
    Reply,
    dispatches,
    pack_dispatches,
    pack_replies,
    replies,
)

FRAME = st.binary(max_size=50)
DISPATCHES = st.lists(
    st.builds(
        Dispatch,
        shard=st.integers(0, 2**16 - 1),
        attempt=st.integers(1, 2**16 - 1),
        epoch=st.integers(0, 2**32 - 1),
        position=st.integers(0, 2**64 - 1),
        frame=FRAME,
    ),
    max_size=6,
)
REPLIES = st.lists(st.builds(Reply, serial=st.integers(0, 2**64 - 1), frame=FRAME), max_size=6)


@given(DISPATCHES)
def test_dispatches_come_back_in_order(items):
    assert list(dispatches(pack_dispatches(items))) == items


@given(REPLIES)
def test_replies_come_back_in_order(items):
    assert list(replies(pack_replies(items))) == items


def test_bundles_join_by_concatenation():
    # the last return slot of a run holds whatever did not fit, joined
    first, second = [Reply(1, b"a"), Reply(2, b"bb")], [Reply(3, b"")]
    assert list(replies(pack_replies(first) + pack_replies(second))) == first + second


@pytest.mark.parametrize(
    ("bundle", "read"),
    [
        (pack_dispatches([Dispatch(1, 1, 1, 1, b"frame")]), dispatches),
        (pack_replies([Reply(1, b"frame")]), replies),
    ],
    ids=["dispatch", "reply"],
)
def test_a_bundle_cut_anywhere_is_corrupt(bundle, read):
    for length in range(1, len(bundle)):
        with pytest.raises(CorruptFrame, match="cut short"):
            list(read(bundle[:length]))
