"""Task ids: arithmetic both ways, valid UUIDs, and nothing foreign is taken for one."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.frames.ids import COUNTER_BITS, SESSION_BITS, SHARD_BITS, format_id, parse_id

SESSION = st.integers(0, 2**SESSION_BITS - 1)
SHARD = st.integers(0, 2**SHARD_BITS - 1)
COUNTER = st.integers(0, 2**COUNTER_BITS - 1)


@given(SESSION, SHARD, COUNTER)
def test_an_id_says_what_it_was_made_of(session, shard, counter):
    assert parse_id(format_id(session, shard, counter)) == (session, shard, counter)


@given(SESSION, SHARD, COUNTER)
def test_an_id_is_a_uuid_of_version_8(session, shard, counter):
    uuid = UUID(format_id(session, shard, counter))
    assert uuid.version == 8
    assert uuid.variant == "specified in RFC 4122"


@given(SESSION, SHARD, COUNTER, COUNTER)
def test_ids_of_one_shard_sort_as_they_were_made(session, shard, one, other):
    made = sorted([one, other])
    ids = [format_id(session, shard, counter) for counter in made]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "parts", [(2**SESSION_BITS, 0, 0), (0, 2**SHARD_BITS, 0), (0, 0, 2**COUNTER_BITS), (-1, 0, 0)]
)
def test_a_part_out_of_range_is_refused(parts):
    with pytest.raises(ValueError, match="out of range"):
        format_id(*parts)


@pytest.mark.parametrize(
    "text", ["db6794c3-b21b-4060-bf77-39d52e7dae49", "", "no id", str(UUID(int=0))]
)
def test_what_is_no_id_of_ours_is_refused(text):
    with pytest.raises(ValueError, match="UUID"):
        parse_id(text)
