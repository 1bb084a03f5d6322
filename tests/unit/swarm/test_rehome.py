"""Shards of a lost region on shared storage: given away in one step, taken back in two."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from chimera.swarm import merge
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import events
from chimera.swarm.orchestrator.effects import Configure
from chimera.swarm.orchestrator.plan import Seen
from chimera.swarm.orchestrator.rehome import rehomed
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.reports import Placement
from chimera.swarm.spec import RegionSpec, Spec
from tests.unit.swarm.orchestrator_world import Coordinator
from tests.unit.swarm.test_orchestrator import World, changed, only

REGIONS = (RegionSpec(name="near"), RegionSpec(name="far", link="127.0.0.1:7443"))
SHARED = changed(regions=REGIONS, shards=4, store="postgresql://db/chimera", region_timeout_s=2.0)


def seen(spec: Spec, generation: int, **changes: Seen) -> dict[str, Seen]:
    """Both regions as they are when they have brought a spec about."""
    up = {
        region.name: Seen(ChildState.UP, Coordinator(region.name, spec, generation).report())
        for region in spec.regions
    }
    return {**up, **changes}


LOST = Seen(ChildState.AWAY, None, lost=True)


def test_a_lost_regions_shards_go_to_another_in_one_step() -> None:
    moved = rehomed(SHARED, 1, seen(SHARED, 1, far=LOST))
    assert moved is not None
    assert specs.region_shards(moved, "near") == (0, 1, 2, 3)
    assert rehomed(moved, 2, seen(moved, 2, far=LOST)) is None, "it is done once"


def test_embedded_journals_wait_for_their_machine() -> None:
    embedded = changed(regions=REGIONS, shards=4)
    assert rehomed(embedded, 1, seen(embedded, 1, far=LOST)) is None


def test_nothing_is_given_to_a_region_that_is_lost_itself() -> None:
    both = {"near": replace(LOST), "far": LOST}
    assert rehomed(SHARED, 1, both) is None


def test_a_region_that_is_back_takes_its_shards_after_the_other_has_let_go() -> None:
    away = rehomed(SHARED, 1, seen(SHARED, 1, far=LOST))
    assert away is not None
    assert rehomed(away, 2, seen(away, 2, far=Seen(ChildState.AWAY))) is None, "nobody to take them"
    let_go = rehomed(away, 2, seen(away, 2))
    assert let_go is not None
    assert specs.region_shards(let_go, "near") == (0, 2)
    assert specs.region_shards(let_go, "far") == ()
    stale = {"near": seen(away, 3)["near"], "far": seen(let_go, 3)["far"]}
    assert rehomed(let_go, 3, stale) is None, "near still has them"
    home = rehomed(let_go, 3, seen(let_go, 3))
    assert home is not None
    assert home.operations.homes == {}


def test_a_region_that_is_lost_with_anothers_shards_gives_them_up_too() -> None:
    away = rehomed(SHARED, 1, seen(SHARED, 1, far=LOST))
    assert away is not None
    swapped = rehomed(away, 2, {"near": LOST, "far": seen(away, 2)["far"]})
    assert swapped is not None
    assert specs.region_shards(swapped, "far") == (0, 1, 2, 3)


def test_the_regions_that_stand_in_have_shares_by_capacity() -> None:
    regions = (
        RegionSpec(name="lost", link="127.0.0.1:7443"),
        RegionSpec(name="small", leaders=1, workers=2),
        RegionSpec(name="large", leaders=3, workers=1, workers_max=6),
    )
    spec = changed(regions=regions, shards=999, store="postgresql://db/chimera")
    moved = rehomed(spec, 1, seen(spec, 1, lost=LOST))
    assert moved is not None
    got = Counter(moved.operations.homes.values())
    assert got.total() == 333
    assert got["large"] / got["small"] == pytest.approx(9, rel=0.35)
    grown = replace_region(moved, "large", workers_max=12)
    again = rehomed(grown, 2, seen(grown, 2, lost=LOST))
    assert again is not None, "more was declared"
    homes = moved.operations.homes
    for shard in homes.keys() - again.operations.homes.keys():
        pytest.fail(f"shard {shard} went home")
    assert {homes[s] for s, home in again.operations.homes.items() if home != homes[s]} == {"small"}


def replace_region(spec: Spec, name: str, **changes: int) -> Spec:
    regions = tuple(
        msgspec.structs.replace(one, **changes) if one.name == name else one for one in spec.regions
    )
    return msgspec.structs.replace(spec, regions=regions)


def test_the_machine_gives_a_silent_linked_regions_shards_away_within_its_timeout() -> None:
    world = World(SHARED)
    world.tell(events.Surveyed(()))
    children = world.machine.children
    now = world.now

    def pulse(region: str) -> None:
        found = Coordinator(region, world.machine.spec, world.machine.generation)
        world.tell(events.Pulse(region, children[region].serial, found.report()))

    pulse("near"), pulse("far")
    while not world.machine.spec.operations.homes:
        told = only(world.tick(after=0.1), Configure)
        pulse("near")
        assert world.now - now < 3.0
    assert set(world.machine.spec.operations.homes.values()) == {"near"}
    assert any("its shards go to them" in fault for fault in world.machine.faults())
    assert [(one.region, one.spec) for one in told] == [("near", world.machine.spec)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_that_claim_a_shard_the_higher_epoch_has_it(order: tuple[int, int]) -> None:
    claims = (
        Placement(1, {1: "leader/near/0"}, {}, epochs={1: 7}),
        Placement(1, {1: "leader/far/0", 3: "leader/far/0"}, {}, epochs={1: 6, 3: 2}),
    )
    found = merge.owners(claims[index] for index in order)
    assert found == {1: "leader/near/0", 3: "leader/far/0"}
