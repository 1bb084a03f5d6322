"""Placement: even within one shard, fewest moves, the same decision wherever it is made."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm import placement

names = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@st.composite
def owned(draw):
    """Leaders, and a partition of some shards among them."""
    leaders = draw(names)
    holders = draw(st.lists(st.sampled_from(leaders), max_size=40))
    return {
        leader: {shard for shard, holder in enumerate(holders) if holder == leader}
        for leader in leaders
    }


def spread(owned):
    sizes = [len(shards) for shards in owned.values()]
    return max(sizes) - min(sizes)


@given(owned(), st.sets(st.integers(100, 140)))
def test_every_orphan_is_given_to_the_leader_that_then_has_fewest(have, orphans):
    given_out = placement.assign(orphans, have)
    assert given_out.keys() == orphans
    after = {leader: shards | {s for s in orphans if given_out[s] == leader}
             for leader, shards in have.items()}  # fmt: skip
    assert spread(after) <= max(1, spread(have))
    takers = set(given_out.values())
    assert all(
        len(after[taker]) <= min(len(shards) for shards in after.values()) + 1 for taker in takers
    )


@given(owned(), st.sets(st.integers(100, 140)))
def test_the_order_of_leaders_does_not_matter(have, orphans):
    backwards = dict(reversed(have.items()))
    assert placement.assign(orphans, have) == placement.assign(orphans, backwards)
    assert placement.moves(have, list(have)) == placement.moves(backwards, list(backwards))


def test_without_a_leader_nothing_is_given():
    assert placement.assign([1, 2], {}) == {}
    assert placement.moves({"a": {1}}, []) == []


@given(owned(), st.data())
def test_moves_end_even_and_are_the_fewest(have, data):
    targets = data.draw(st.lists(st.sampled_from(list(have)), min_size=1, unique=True))
    planned = placement.moves(have, targets)
    after = {leader: set(shards) for leader, shards in have.items()}
    for shard, donor, taker in planned:
        after[donor].remove(shard)
        after[taker].add(shard)
    assert not any(after[leader] for leader in have if leader not in targets)
    assert spread({leader: after[leader] for leader in targets}) <= 1
    each, extra = divmod(sum(map(len, have.values())), len(targets))
    sizes = sorted((len(have[leader]) for leader in targets), reverse=True)
    fewest = sum(max(0, each + (rank < extra) - size) for rank, size in enumerate(sizes))
    assert len(planned) == fewest
    assert len({move.shard for move in planned}) == len(planned), "no shard moves twice"


@given(owned())
def test_an_even_spread_is_left_alone(have):
    if spread(have) <= 1:
        assert placement.moves(have, list(have)) == []


def test_a_leader_that_comes_back_is_given_about_the_shards_it_had():
    leaders = [f"leader/local/{index}" for index in range(4)]
    shards = range(64)
    best = {s: max(leaders, key=lambda name: placement.affinity(s, name)) for s in shards}
    counts = Counter(best.values())
    assert all(8 <= counts[leader] <= 24 for leader in leaders), "no leader is everyone's favourite"
    without = {leader: {s for s in shards if best[s] == leader} for leader in leaders[1:]}
    without |= {leaders[0]: set()}
    for shard, leader in placement.assign([s for s in shards if best[s] == leaders[0]], {
        leader: without[leader] for leader in leaders[1:]
    }).items():  # fmt: skip
        without[leader].add(shard)
    back = {m.shard for m in placement.moves(without, leaders) if m.taker == leaders[0]}
    had = {s for s in shards if best[s] == leaders[0]}
    assert len(back & had) > len(back) / 2


@pytest.mark.parametrize(
    ("workers", "heirs", "shares"),
    [(4, ["x", "y"], [2, 2]), (5, ["x", "y"], [3, 2]), (1, ["x", "y"], [1, 0]), (3, ["x"], [3])],
)
def test_workers_are_divided_evenly(workers, heirs, shares):
    divided = placement.divide([f"w{n}" for n in range(workers)], heirs)
    assert [sum(heir == name for heir in divided.values()) for name in heirs] == shares


def test_without_heirs_nobody_inherits():
    assert placement.divide(["w"], []) == {}


# -- by weight ---------------------------------------------------------------------------------

weights = st.dictionaries(
    st.text("abc", min_size=1, max_size=4), st.integers(1, 1000), min_size=1, max_size=6
)


@given(weights, st.integers(0, 1023))
def test_the_order_in_which_they_are_named_does_not_matter(have, shard):
    backwards = dict(reversed(have.items()))
    assert placement.favourite(shard, have) == placement.favourite(shard, backwards)


@given(names, st.integers(1, 1000), st.integers(0, 1023))
def test_equal_weights_leave_it_to_affinity(leaders, weight, shard):
    found = placement.favourite(shard, dict.fromkeys(leaders, weight))
    assert found == max(leaders, key=lambda name: (placement.affinity(shard, name), name))


@given(weights, st.data())
def test_who_goes_or_changes_weight_moves_no_shard_between_others(have, data):
    changed = data.draw(st.sampled_from(sorted(have)))
    more, less = (
        data.draw(st.integers(have[changed], 2000)),
        data.draw(st.integers(0, have[changed])),
    )
    heavier = have | {changed: more}
    lighter = {name: one for name, one in (have | {changed: less}).items() if one}
    for shard in range(64):
        had = placement.favourite(shard, have)
        assert placement.favourite(shard, heavier) in (had, changed)
        if had != changed:
            assert placement.favourite(shard, lighter) == had


@pytest.mark.parametrize("given_weights", [(1, 1), (1, 3), (2, 3, 5), (1, 1, 1, 8), (40, 4, 1)])
def test_of_many_shards_each_gets_a_share_like_its_weight(given_weights):
    have = {f"region-{index}": weight for index, weight in enumerate(given_weights)}
    shards = 8192
    got = Counter(placement.favourite(shard, have) for shard in range(shards))
    for name, weight in have.items():
        share = weight / sum(given_weights)
        deviation = (share * (1 - share) / shards) ** 0.5
        assert got[name] / shards == pytest.approx(share, abs=4 * deviation)


def test_nobody_is_nobodys_favourite():
    assert placement.favourite(1, {}) is None
