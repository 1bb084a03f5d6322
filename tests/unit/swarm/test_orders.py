"""What operators order: the spec that follows, and which orders are refused."""

from __future__ import annotations

import msgspec
import pytest

from chimera.errors import InvalidRequest, NotFound, SpecError
from chimera.swarm import spec as specs
from chimera.swarm.orders import Drain, Pause, Resume, Scale, ordered, verb
from chimera.swarm.spec import Operations, RegionSpec, Spec

SPEC = Spec(
    handlers=("app.tasks",),
    data_dir="/data",
    objects="file:///data/objects",
    regions=(RegionSpec(name="eu", leaders=2),),
)
WORKER = "worker/eu/0/ab-1"


def operations(**changes):
    return msgspec.structs.replace(SPEC, operations=Operations(**changes))


def test_an_order_is_called_as_on_the_command_line():
    orders = (Drain("leader/eu/0"), Pause(), Resume(), Scale("eu"))
    assert [verb(order) for order in orders] == ["drain", "pause", "resume", "scale"]


def test_a_drained_leader_is_not_in_the_plan_until_the_drain_is_undone():
    drained = ordered(SPEC, Drain("leader/eu/0"))
    assert specs.region_plan(drained, "eu", 2).leader_names() == ("leader/eu/1",)
    assert ordered(drained, Drain("leader/eu/0")) == drained
    assert ordered(drained, Drain("leader/eu/0", undo=True)) == SPEC


def test_a_drained_worker_is_named_to_its_leader_and_forgotten_when_it_is_gone():
    drained = ordered(SPEC, Drain(WORKER), {WORKER, "worker/eu/0/ab-2"})
    assert specs.leader_config(drained, "eu", 2).drained == (WORKER,)
    later = ordered(drained, Drain("worker/eu/0/ab-2"), {"worker/eu/0/ab-2"})
    assert later.operations.drained == ("worker/eu/0/ab-2",)


@pytest.mark.parametrize(
    ("order", "error", "said"),
    [
        (Drain("leader/eu/7"), NotFound, "no leader/eu/7"),
        (Drain(WORKER), NotFound, f"no {WORKER}"),
        (Drain("nonsense"), InvalidRequest, "leader/eu/0"),
        (Drain("leader/eu/0", undo=True), NotFound, "is not drained; drained are: leader/eu/1"),
        (Drain("leader/eu/0"), InvalidRequest, "last leader of region eu"),
        (Pause(), InvalidRequest, "name a task type or a tenant to pause"),
        (Resume(types=("mail",)), NotFound, "'mail' is not paused; paused are: none"),
        (Scale("us", leaders=1), NotFound, "no region 'us'; it has: eu"),
        (Scale("eu"), InvalidRequest, "say a number"),
        (Scale("eu", leaders=0), InvalidRequest, "leaders must be from 1 to 100, not 0"),
        (Scale("eu", workers=3, workers_max=2), InvalidRequest, "must not be below workers"),
    ],
)
def test_an_order_that_cannot_be_is_refused_by_what_is_wrong(order, error, said):
    with pytest.raises(error, match=said):
        ordered(operations(drained=("leader/eu/1",)), order)


def test_a_scale_that_leaves_only_drained_leaders_is_refused():
    with pytest.raises(InvalidRequest, match="is drained"):
        ordered(operations(drained=("leader/eu/0",)), Scale("eu", leaders=1))


TWO = msgspec.structs.replace(SPEC, regions=(RegionSpec(name="eu"), RegionSpec(name="us")))


def test_a_region_is_drained_by_its_coordinators_name():
    drained = ordered(TWO, Drain("coordinator/us"))
    assert specs.is_drained(drained, "us")
    assert specs.carried_over(drained, TWO) == drained
    assert ordered(drained, Drain("coordinator/us", undo=True)) == TWO
    with pytest.raises(InvalidRequest, match="region eu is the last"):
        ordered(drained, Drain("coordinator/eu"))
    with pytest.raises(NotFound, match="no coordinator/asia"):
        ordered(TWO, Drain("coordinator/asia"))


def test_a_region_with_journals_of_its_own_cannot_hand_them_over():
    regions = (RegionSpec(name="eu"), RegionSpec(name="us", labels={"zone": "b"}))
    apart = msgspec.structs.replace(TWO, regions=regions)
    with pytest.raises(InvalidRequest, match="no other region can open them"):
        ordered(apart, Drain("coordinator/us"))
    with pytest.raises(InvalidRequest, match="region eu is the last"):
        ordered(apart, Drain("coordinator/eu"))


def test_types_and_tenants_are_paused_and_resumed():
    paused = ordered(SPEC, Pause(types=("mail", "bill"), tenants=("acme",)))
    config = specs.leader_config(paused, "eu", 2)
    assert (config.paused_types, config.paused_tenants) == (("bill", "mail"), ("acme",))
    resumed = ordered(paused, Resume(types=("mail",), tenants=("acme",)))
    assert resumed.operations == Operations(paused_types=("bill",))


def test_a_scale_changes_what_it_names():
    scaled = ordered(SPEC, Scale("eu", leaders=3, workers_max=4))
    assert scaled.regions == (RegionSpec(name="eu", leaders=3, workers=1, workers_max=4),)


def test_a_drained_leader_that_is_scaled_away_is_forgotten():
    before = operations(drained=("leader/eu/1",))
    assert ordered(before, Scale("eu", leaders=1)).operations.drained == ()


def test_a_new_file_leaves_drains_and_pauses_alone():
    before = operations(drained=("leader/eu/1", WORKER), paused_types=("mail",))
    assert specs.carried_over(before, SPEC) == before
    fewer = msgspec.structs.replace(SPEC, regions=(RegionSpec(name="eu", leaders=1),))
    assert specs.carried_over(before, fewer).operations.drained == (WORKER,)


def test_a_file_that_leaves_only_drained_leaders_is_refused():
    before = operations(drained=("leader/eu/0",))
    fewer = msgspec.structs.replace(SPEC, regions=(RegionSpec(name="eu", leaders=1),))
    with pytest.raises(SpecError, match="every leader that region eu would have left is drained"):
        specs.check_change(before, specs.carried_over(before, fewer))


def test_what_workers_are_born_with_has_a_revision():
    other = specs.worker_revision(msgspec.structs.replace(SPEC, revision="v2"))
    assert other != specs.worker_revision(SPEC)
    wider = msgspec.structs.replace(SPEC, queue_bound=7, operations=Operations(drained=(WORKER,)))
    assert specs.worker_revision(wider) == specs.worker_revision(SPEC)
