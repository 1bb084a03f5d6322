"""Options of a task: checked once, and where keys send tasks."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from zlib import crc32

import msgspec
import pytest

from chimera.client.options import Route, ShardByKey, options
from chimera.errors import DeadlinePassed, InvalidRequest
from chimera.frames import command
from chimera.frames.limits import KEY_BYTES_MAX, check_key
from chimera.swarm.limits import home_shard
from chimera.swarm.policy import TASK_OPTIONS, TaskPolicy


def test_nothing_said_is_nothing_sent():
    plain = options()
    assert plain.columns(3) is None
    head = command._decode_head(plain.kind("t", "acme", TaskPolicy(type="t", priority=2)).head())
    assert (head.type, head.tenant, head.priority, head.options) == ("t", "acme", 2, None)
    assert abs(head.at - time.time() * 1000) < 60_000


def test_moments_are_unix_milliseconds():
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    said = options(not_before=later, deadline=later.timestamp() + 5)
    assert said.not_before == round(later.timestamp() * 1000)
    assert said.deadline == round((later.timestamp() + 5) * 1000)
    columns = said.columns(2)
    assert columns.not_before == [said.not_before] * 2
    assert columns.deadline == [said.deadline] * 2


def test_a_delay_counts_from_now():
    assert abs(options(delay_s=60).not_before - (time.time() + 60) * 1000) < 30_000
    assert options(delay_s=0).not_before == 0


def test_priority_by_name_or_number():
    assert options(priority="critical").priority == 0
    assert options(priority=2).priority == 2
    kind = options(priority="critical").kind("t", "default", TaskPolicy(type="t"))
    assert command._decode_head(kind.head()).priority == 0


def test_overrides_travel_in_the_head():
    said = options(max_attempts=9, attempt_timeout_s=2.5, no_retry=None)
    head = command._decode_head(said.kind("t", "default", TaskPolicy(type="t")).head())
    assert head.options == {"max_attempts": 9, "attempt_timeout_s": 2.5}


def test_every_override_is_a_field_of_the_policy():
    assert {field.name for field in msgspec.structs.fields(TaskPolicy)} >= TASK_OPTIONS


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"delay_s": 1, "not_before": 5}, "not both"),
        ({"delay_s": -1}, "not negative"),
        ({"not_before": -5}, "no moment"),
        ({"deadline": 1e12}, "no moment"),
        ({"priority": "urgent"}, "'urgent' is no priority"),
        ({"priority": 3}, "no priority"),
        ({"tags": "abc"}, "a list of texts"),
        ({"tags": ["x"] * 17}, "at most 16"),
        ({"tags": [""]}, "is no tag"),
        ({"tags": ["é" * 65]}, "is no tag"),
        ({"max_atempts": 3}, "unknown option 'max_atempts'"),
        ({"concurrency": 3}, "unknown option"),
        ({"max_attempts": "3"}, "option: Expected `int`"),
    ],
)
def test_wrong_options_are_named(given, match):
    with pytest.raises(InvalidRequest, match=match):
        options(**given)


def test_deadlines_ahead_of_the_start():
    with pytest.raises(DeadlinePassed, match="after its deadline"):
        options(delay_s=100, deadline=time.time() + 50)
    with pytest.raises(DeadlinePassed, match="passed"):
        options(deadline=datetime(2020, 1, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize("key", ["", None, 5, "x" * (KEY_BYTES_MAX + 1), "é" * KEY_BYTES_MAX])
def test_what_is_no_key(key):
    with pytest.raises(InvalidRequest, match="key"):
        check_key("key", key)


def test_keys_are_hashed_with_their_tenant_by_the_size_of_the_ring():
    shard_by_key = ShardByKey("acme", 8)
    assert shard_by_key("order-17") == crc32(b"acme\0order-17") % 8
    assert len({shard_by_key(str(i)) for i in range(100)}) == 8


def test_tasks_of_one_kind_made_at_different_times_are_alike():
    policy = TaskPolicy(type="t")
    one = options(priority="batch", max_attempts=2).kind("t", "default", policy)
    other = options(priority="batch", max_attempts=2).kind("t", "default", policy)
    assert one.token == other.token
    assert len(one.head()) <= one.size
    assert command._decode_head(one.head()).at > 0
    assert options(priority="batch").kind("t", "default", policy).token != one.token


def test_a_type_with_a_narrow_limit_has_one_shard_whatever_the_key():
    narrow = TaskPolicy(type="t", max_running=3)
    route = Route("acme", 8, narrow)
    assert route.home == home_shard(narrow, 8)
    assert {route(key) for key in (None, "a", "b", "c")} == {route.home}
    wide = Route("acme", 8, TaskPolicy(type="t", max_running=8))
    assert wide(None) is None
    assert wide("a") == ShardByKey("acme", 8)("a")
