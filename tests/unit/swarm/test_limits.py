"""Limits: shares of shards add up to the limit, wherever the shards are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm.limits import Bucket, home_shard, rate_share, running_share
from chimera.swarm.policy import TaskPolicy

RINGS = st.sampled_from([1, 2, 8, 64])


@given(st.integers(1, 500), RINGS, st.integers(0, 2**64 - 1))
def test_running_shares_add_up_to_the_limit(limit: int, ring: int, split: int) -> None:
    policy = TaskPolicy(type="t", max_running=limit)
    one = [shard for shard in range(ring) if split >> shard & 1]
    other = [shard for shard in range(ring) if not split >> shard & 1]
    shares = [running_share(policy, owned, ring) for owned in (one, other)]
    assert sum(share or 0 for share in shares) == limit


@given(st.floats(0.1, 500), RINGS, st.integers(0, 2**64 - 1))
def test_rate_shares_add_up_to_the_limit(rate: float, ring: int, split: int) -> None:
    policy = TaskPolicy(type="t", rate_per_s=rate)
    one = [shard for shard in range(ring) if split >> shard & 1]
    other = [shard for shard in range(ring) if not split >> shard & 1]
    shares = [rate_share(policy, owned, ring) or 0.0 for owned in (one, other)]
    assert abs(sum(shares) - rate) < 1e-6


def test_a_limit_below_the_number_of_shards_has_a_home() -> None:
    narrow = TaskPolicy(type="t", max_running=3)
    home = home_shard(narrow, 8)
    assert home is not None
    assert running_share(narrow, [home], 8) == 3
    assert running_share(narrow, [s for s in range(8) if s != home], 8) == 0
    assert home_shard(TaskPolicy(type="t", max_running=8), 8) is None
    assert home_shard(TaskPolicy(type="t", rate_per_s=0.5), 8) is not None
    assert home_shard(TaskPolicy(type="t"), 8) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=40))
def test_a_bucket_never_gives_more_than_rate_and_burst(steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(rate=10.0, burst=5.0)
    now, spent = 0.0, 0
    for pause, wish in steps:
        now += pause
        take = min(wish, bucket.available(now))
        bucket.spend(take)
        spent += take
        assert spent <= 10.0 * now + 5.0


def test_a_new_bucket_is_empty() -> None:
    assert Bucket(rate=100.0, burst=50.0, at=7.0).available(7.0) == 0
