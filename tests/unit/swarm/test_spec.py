"""The spec as data: what follows from it, what may change, and that it survives being stored."""

from __future__ import annotations

import json

import msgspec
import pytest

from chimera.errors import SpecError
from chimera.swarm import spec as specs
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.spec import Change, PolicySpec, RegionSpec, Spec, TenantSpec


def make(**changes):
    base = Spec(handlers=("app.tasks",), data_dir="/data", objects="file:///data/objects")
    return msgspec.structs.replace(base, **changes)


EU_US = (RegionSpec(name="eu", leaders=3), RegionSpec(name="us"))


def test_a_stored_spec_is_the_same_spec():
    policy = PolicySpec(
        types={"charge": {"priority": "critical", "no_retry": ["ValueError"]}},
        tenants={"acme": TenantSpec(weight=3)},
    )
    spec = make(regions=EU_US, policy=policy, durability="fsync")
    assert specs.from_dict(json.loads(json.dumps(specs.to_dict(spec)))) == spec


def test_a_stored_spec_of_an_older_version_takes_defaults():
    body = {"handlers": ["a"], "data_dir": "/d", "objects": "file:///o", "of_a_newer_one": 1}
    assert specs.from_dict(body) == Spec(handlers=("a",), data_dir="/d", objects="file:///o")


def test_a_malformed_body_says_where():
    with pytest.raises(SpecError, match=r"shards"):
        specs.from_dict({**specs.to_dict(make()), "shards": "many"})


# -- changes -----------------------------------------------------------------------------------


def test_equal_specs_have_no_changes():
    assert specs.changes(make(), make()) == ()


def test_changes_are_told_setting_by_setting():
    new = make(
        worker_lease_s=10.0,
        handlers=("app.tasks", "app.more"),
        regions=(RegionSpec(name="local", workers=4),),
        policy=PolicySpec(types={"charge": {"max_attempts": 9}}),
    )
    assert specs.changes(make(), new) == (
        Change("handlers", ["app.tasks"], ["app.tasks", "app.more"]),
        Change("policy.types.charge.max_attempts", None, 9),
        Change("regions.local.workers", 1, 4),
        Change("worker_lease_s", 30.0, 10.0),
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"name": "other"}, "name"),
        ({"data_dir": "/elsewhere"}, "data_dir"),
        ({"shards": 16}, "shards"),
        ({"regions": EU_US}, "regions"),
    ],
)
def test_what_journals_were_born_with_cannot_change(change, key):
    with pytest.raises(SpecError, match=key) as caught:
        specs.check_change(make(), make(**change))
    assert caught.value.details["key"] == key


def test_what_nothing_was_born_with_can_change():
    new = make(durability="fsync", regions=(RegionSpec(leaders=5),), queue_bound=1)
    specs.check_change(make(), new)


# -- what follows ------------------------------------------------------------------------------


def test_the_ring_is_dealt_out_whole_to_the_regions():
    spec = make(regions=EU_US, shards=5)
    assert specs.region_shards(spec, "eu") == (0, 2, 4)
    assert specs.region_shards(spec, "us") == (1, 3)


def test_an_unknown_region_is_refused():
    with pytest.raises(SpecError, match="no region 'mars'"):
        specs.region_plan(make(), "mars", 1)


def test_a_region_is_planned_with_what_its_leaders_work_by():
    rules = {
        "charge": {"priority": "critical", "no_retry": ["ValueError"], "max_attempts": 2},
        "mail": {"concurrency": 4},
    }
    policy = PolicySpec(types=rules, tenants={"acme": TenantSpec(weight=3)})
    spec = make(regions=EU_US, policy=policy, durability="fsync")
    plan = specs.region_plan(spec, "eu", 7)
    assert (plan.region, plan.generation, plan.leaders) == ("eu", 7, 3)
    assert plan.shards == (0, 2, 4, 6)
    config = plan.template
    assert (config.generation, config.fsync, config.workers, config.shards) == (7, True, 1, 8)
    assert config.tenant_weights == {"acme": 3}
    assert config.policies["mail"] == {"concurrency": 4}
    charge = msgspec.structs.replace(TaskPolicy(type="charge"), **config.policies["charge"])
    assert charge == TaskPolicy(type="charge", priority=0, no_retry=("ValueError",), max_attempts=2)


def test_a_summary_names_what_matters():
    text = specs.summary(make(regions=EU_US))
    assert text == "local: 8 shards, os; eu 3 x 1, us 2 x 1; app.tasks"


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("postgresql://me:p%40ss@db:5432,db2/x?a=b@c", "postgresql://me:***@db:5432,db2/x?a=b@c"),
        ("kafka+ssl://me:secret@broker", "kafka+ssl://me:***@broker"),
        ("amqp://me@broker/a:b", "amqp://me@broker/a:b"),
        ("file:///a:b@c", "file:///a:b@c"),
        ("no URL: x@y", "no URL: x@y"),
        (7, 7),
    ],
)
def test_passwords_are_not_shown(written, seen):
    assert specs.shown({"store": {"url": written}}) == {"store": {"url": seen}}
