"""What an operator may order of a living swarm, and what the spec becomes by it.

An order changes the declared state and nothing else, so that it is durable, has a generation, is
given to every incarnation of every tier, and is brought about like the rest of the spec. What a
spec's file does not say (who is drained, what is paused) is in `Spec.operations` and outlives the
next `apply`; a scale is overwritten by it, as the file does say that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from chimera import names
from chimera.errors import InvalidRequest, NotFound
from chimera.swarm.spec import (
    Change,
    Operations,
    RegionSpec,
    Spec,
    can_host,
    carried_over,
    is_apart,
)


@dataclass(frozen=True, slots=True)
class Drain:
    """Let a part of the swarm finish what it has in hand and hand over.

    A leader's shards go to the other leaders of its region, and it ends; it is made again when the
    drain is undone. A worker ends and is replaced. A region, by the name of its coordinator, hands
    its shards over to other regions, and has them back when the drain is undone.
    """

    target: str  #: name of a coordinator, leader or worker, as status shows it
    undo: bool = False  #: end the drain: what was drained serves again


@dataclass(frozen=True, slots=True)
class Pause:
    """Start no task of these types and tenants; what runs goes on, what is submitted waits."""

    types: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """Start tasks of these types and tenants again."""

    types: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Give a region another size; None leaves a number as it is."""

    region: str
    leaders: int | None = None
    workers: int | None = None  #: of each leader, at least
    workers_max: int | None = None  #: of each leader, at most; 0: as many as `workers`


Order = Drain | Pause | Resume | Scale


@dataclass(frozen=True, slots=True)
class Ordered:
    """The answer to an order: it is durable, and will be brought about."""

    generation: int  #: of the spec
    changes: tuple[Change, ...]  #: empty: it was so already


@dataclass(frozen=True, slots=True)
class Preview:
    """What another spec would change, and what would be done about it."""

    generation: int  #: that it would have; the present one if nothing changes
    changes: tuple[Change, ...]
    actions: tuple[str, ...]  #: in words, in the order in which they begin


def verb(order: Order) -> str:
    """What an order is called: its name in the audit log and on the command line."""
    return type(order).__name__.lower()


def ordered(spec: Spec, order: Order, workers: Collection[str] = ()) -> Spec:
    """The spec as an order makes it.

    `workers` are the names of those that live: only they can be drained, and those of a former
    drain that are gone are forgotten. Raises NotFound, InvalidRequest.
    """
    match order:
        case Drain():
            return _drained(spec, order, workers)
        case Pause() | Resume():
            return _paused(spec, order)
        case Scale():
            return _scaled(spec, order)


def _drained(spec: Spec, order: Drain, workers: Collection[str]) -> Spec:
    target, tier = order.target, names.tier(order.target)
    drained = {name for name in spec.operations.drained if _exists(name, spec, workers)}
    if tier not in ("coordinator", "leader", "worker"):
        raise InvalidRequest(
            f"{target!r} cannot be drained: name a coordinator, a leader or a worker as"
            f" `chimera status` does, such as {names.leader(spec.regions[0].name, 0)}"
        )
    if order.undo:
        if target not in drained:
            raise NotFound(f"{target} is not drained; drained are: {_list(drained)}")
        drained.remove(target)
    elif not _exists(target, spec, workers):
        raise NotFound(f"the swarm has no {target}")
    else:
        drained.add(target)
    if tier == "leader":
        region = spec.region(names.region(target))
        if not region_leaders(region, drained):
            raise InvalidRequest(
                f"{target} is the last leader of region {region.name} that is not drained:"
                " nobody could take its shards"
            )
    found = _operating(spec, drained=tuple(sorted(drained)))
    if tier == "coordinator":
        _check_region(found, spec.region(names.region(target)))
    return found


def _check_region(spec: Spec, region: RegionSpec) -> None:
    """Raise InvalidRequest if a region, as the spec drains it, could not hand its shards over."""
    if is_apart(spec, region):
        raise InvalidRequest(
            f"region {region.name} cannot be drained: its journals are where its labels or its"
            " link say, and no other region can open them"
        )
    if not any(can_host(spec, other) for other in spec.regions):
        raise InvalidRequest(
            f"region {region.name} is the last that is not drained and could take its shards"
        )


def region_leaders(region: RegionSpec, drained: Collection[str]) -> tuple[str, ...]:
    """The leaders that a region shall have: those that are not drained."""
    every = (names.leader(region.name, index) for index in range(region.leaders))
    return tuple(name for name in every if name not in drained)


def _exists(name: str, spec: Spec, workers: Collection[str]) -> bool:
    if names.tier(name) == "worker":
        return name in workers
    if names.tier(name) == "coordinator":
        return any(name == names.coordinator(region.name) for region in spec.regions)
    return any(name in region_leaders(region, ()) for region in spec.regions)


def _paused(spec: Spec, order: Pause | Resume) -> Spec:
    if not order.types and not order.tenants:
        raise InvalidRequest(f"name a task type or a tenant to {verb(order)}")
    types, tenants = set(spec.operations.paused_types), set(spec.operations.paused_tenants)
    if isinstance(order, Pause):
        types.update(order.types)
        tenants.update(order.tenants)
    else:
        for what, asked, paused in (
            ("task type", order.types, types), ("tenant", order.tenants, tenants),
        ):  # fmt: skip
            for name in sorted(set(asked) - paused):
                raise NotFound(f"{what} {name!r} is not paused; paused are: {_list(paused)}")
            paused.difference_update(asked)
    return _operating(
        spec, paused_types=tuple(sorted(types)), paused_tenants=tuple(sorted(tenants))
    )


def _scaled(spec: Spec, order: Scale) -> Spec:
    found = next((region for region in spec.regions if region.name == order.region), None)
    if found is None:
        known = _list({region.name for region in spec.regions})
        raise NotFound(f"the swarm has no region {order.region!r}; it has: {known}")
    asked = {"leaders": order.leaders, "workers": order.workers, "workers_max": order.workers_max}
    changes = {key: value for key, value in asked.items() if value is not None}
    if not changes:
        raise InvalidRequest("say a number of leaders, workers or workers_max to scale to")
    for key, low, high in (("leaders", 1, 100), ("workers", 1, 1000), ("workers_max", 0, 1000)):
        if not low <= changes.get(key, low) <= high:
            raise InvalidRequest(f"{key} must be from {low} to {high}, not {changes[key]}")
    scaled: RegionSpec = msgspec.structs.replace(found, **changes)
    if scaled.workers_max and scaled.workers_max < scaled.workers:
        raise InvalidRequest(
            f"workers_max ({scaled.workers_max}) must not be below workers ({scaled.workers})"
        )
    if not region_leaders(scaled, spec.operations.drained):
        raise InvalidRequest(
            f"every leader that region {scaled.name} would have left is drained: end a drain first"
        )
    regions = tuple(scaled if region is found else region for region in spec.regions)
    # a leader that is no more is not drained either, should there be one of its name again
    return carried_over(spec, msgspec.structs.replace(spec, regions=regions))


def _operating(spec: Spec, **changes: tuple[str, ...]) -> Spec:
    operations: Operations = msgspec.structs.replace(spec.operations, **changes)
    return msgspec.structs.replace(spec, operations=operations)


def _list(found: Collection[str]) -> str:
    return ", ".join(sorted(found)) or "none"
