"""Who has which shard: as is fair, moving as little as can be.

Leaders of a region have equal pools by declaration, and so equal shares. Ties go by rendezvous
hash, so that each part that decides alone decides the same, and a leader that comes back is given
about the shards it had. Regions differ: each that stands in for another has a share by its weight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import log
from typing import NamedTuple
from zlib import crc32


class Move(NamedTuple):
    """Hand a shard over while both leaders live."""

    shard: int
    donor: str
    taker: str


def assign(orphans: Collection[int], owned: Mapping[str, Collection[int]]) -> dict[int, str]:
    """Give each shard that nobody has to a leader: the one that has the fewest by then.

    `owned` maps each leader that may take to what it has. Returns shard → leader; empty if there
    is no leader.
    """
    loads = {leader: len(shards) for leader, shards in owned.items()}
    given: dict[int, str] = {}
    if not loads:
        return given
    for shard in sorted(orphans):
        leader = min(loads, key=lambda name: (loads[name], -affinity(shard, name), name))
        given[shard] = leader
        loads[leader] += 1
    return given


def moves(owned: Mapping[str, Collection[int]], targets: Collection[str]) -> list[Move]:
    """The fewest moves after which no two `targets` differ by more than one shard.

    Leaders of `owned` that are no target give everything away. A leader keeps the shards that it
    has the most affinity to.
    """
    if not targets:
        return []
    total = sum(len(shards) for shards in owned.values())
    each, extra = divmod(total, len(targets))
    # those that have most get the larger share: the fewest moves
    order = sorted(targets, key=lambda name: (-len(owned.get(name, ())), name))
    share = {name: each + (rank < extra) for rank, name in enumerate(order)}
    spare: list[tuple[int, str]] = []
    for name in sorted(owned):
        keep = share.get(name, 0)
        if len(owned[name]) <= keep:
            continue  # the usual case, looked at many times a second: it gives nothing away
        best_first = sorted(owned[name], key=lambda shard: (-affinity(shard, name), shard))
        spare += [(shard, name) for shard in best_first[keep:]]
    room = {name: max(share[name] - len(owned.get(name, ())), 0) for name in order}
    planned: list[Move] = []
    for shard, donor in sorted(spare):
        takers = [name for name in room if room[name] > 0]
        taker = max(takers, key=lambda name: (affinity(shard, name), name))
        room[taker] -= 1
        planned.append(Move(shard, donor, taker))
    return planned


def divide(workers: Iterable[str], heirs: Sequence[str]) -> dict[str, str]:
    """Give the workers of a dead leader to its heirs, evenly: worker → heir."""
    if not heirs:
        return {}
    return {worker: heirs[rank % len(heirs)] for rank, worker in enumerate(sorted(workers))}


def favourite(shard: int, weights: Mapping[str, int]) -> str | None:
    """Whose a shard is by weighted rendezvous hashing; None: there is nobody.

    Of many shards each gets a share like its weight, above 0. Who comes, goes or changes its weight
    makes no shard move between others; equal weights are as good as none.
    """

    def score(name: str) -> float:
        # the weight-th root of a uniform draw, by its logarithm: the largest is of `name` as often
        # as its weight is of all weights (Schindelhauer and Schomaker, SPAA 2005)
        return log((affinity(shard, name) + 0.5) / 2**32) / weights[name]

    return max(weights, key=lambda name: (score(name), name), default=None)


def affinity(shard: int, leader: str) -> int:
    """How much a shard belongs to a leader: the same everywhere, uncorrelated between leaders."""
    # crc32 is linear: two names would order all shards alike without mixing
    mixed = crc32(f"{leader}\0{shard}".encode())
    mixed = (mixed ^ mixed >> 15) * 0x2C1B3C6D & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 12) * 0x297A2D39 & 0xFFFFFFFF
    return mixed ^ mixed >> 15
