"""Rate and concurrency limits of a task type, divided over the shards.

A limit holds in the whole swarm without a hop to anybody: each shard has a share of it, and the
share moves with the shard. A limit smaller than the number of shards has no whole shares: all
tasks of such a type live in one shard, its home, which has the limit to itself. Elsewhere there are
only those that were accepted before the limit was so narrow: they have no share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from chimera.swarm.policy import TaskPolicy


def home_shard(policy: TaskPolicy, shards: int) -> int | None:
    """The one shard that all tasks of this type live in; None if they may live in any."""
    narrow = (policy.max_running is not None and policy.max_running < shards) or (
        policy.rate_per_s is not None and policy.rate_per_s < shards
    )
    return crc32(policy.type.encode()) % shards if narrow else None


def running_share(policy: TaskPolicy, owned: Iterable[int], shards: int) -> int | None:
    """How many tasks of the type may run at once on what the owned shards give; None: any."""
    limit = policy.max_running
    if limit is None:
        return None
    home = home_shard(policy, shards)
    if home is not None:
        return limit if home in owned else 0
    return sum(limit // shards + (shard < limit % shards) for shard in owned)


def rate_share(policy: TaskPolicy, owned: Iterable[int], shards: int) -> float | None:
    """Tasks a second that the owned shards may start; None: any."""
    rate = policy.rate_per_s
    if rate is None:
        return None
    owned = list(owned)
    home = home_shard(policy, shards)
    if home is not None:
        return rate if home in owned else 0.0
    return rate * len(owned) / shards


@dataclass(slots=True)
class Bucket:
    """A token bucket that is born empty: a failover never gives a second burst."""

    rate: float  #: tokens a second
    burst: float  #: tokens it holds, at most
    tokens: float = 0.0
    at: float = 0.0  #: when `tokens` was right, seconds

    def available(self, now: float) -> int:
        """Whole tokens there are now."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        return int(self.tokens)

    def spend(self, count: int) -> None:
        self.tokens -= count

    def reshape(self, rate: float, burst: float, now: float) -> None:
        """Go on with another rate and burst."""
        self.available(now)
        self.rate, self.burst = rate, burst
        self.tokens = min(self.tokens, burst)
