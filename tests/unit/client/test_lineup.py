"""Whatever order results come in, they leave in submit order, each once and as soon as it can."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from chimera.client.lineup import Lineup


@st.composite
def segments(draw):
    """Tasks dealt out to shards, some of them not accepted, cut into segments by first index."""
    shards = draw(st.lists(st.integers(-1, 3), max_size=40))
    size = draw(st.integers(1, 5))
    found = []
    for shard in range(4):
        mine = [index for index, one in enumerate(shards) if one == shard]
        found += [mine[at : at + size] for at in range(0, len(mine), size)]
    found.sort()
    return [one if draw(st.booleans()) else array("I", one) for one in found]


@given(segments(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_results_leave_in_order_and_none_is_held_back(found, dice, window):
    lineup, upcoming, heard, taken = Lineup(), list(found), [], []
    while upcoming or heard or lineup:
        while upcoming and (len(heard) < window or upcoming[0][0] <= lineup.start):
            heard.append(upcoming.pop(0))
            lineup.expect(heard[-1])
        if heard:
            segment = heard.pop(dice.randrange(len(heard)))
            half = dice.randrange(len(segment) + 1)
            for part in (segment[half:], segment[:half]):
                lineup.put(part, [str(index) for index in part])
        limit = upcoming[0][0] if upcoming else None
        taken += lineup.take(limit)
        open_tasks = sorted(index for segment in (*heard, *upcoming) for index in segment)
        ready = [i for segment in found for i in segment if not open_tasks or i < open_tasks[0]]
        assert taken == [str(index) for index in sorted(ready)]


def test_consecutive_tasks_are_put_in_one_piece():
    lineup = Lineup()
    lineup.expect(range(4))
    lineup.put(range(2, 4), ["c", "d"])
    assert lineup.take(None) == []
    lineup.put(range(2), ["a", "b"])
    assert lineup.take(None) == ["a", "b", "c", "d"]
    assert not lineup
