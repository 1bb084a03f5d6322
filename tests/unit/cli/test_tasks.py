"""Which tasks `chimera tasks`, `chimera dlq` and `chimera purge` find, and what they do to them."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from chimera.cli.select import Chosen
from chimera.frames import ids as task_ids
from chimera.frames import outcome
from chimera.swarm.facts import Settlement, Single
from tests.unit.cli.kit import chimera, printed

NOW_MS = int(time.time() * 1000)


def submitted(leaders, ago_s: int, payload: str = "1", *options: str) -> str:
    """A task that was accepted so long ago, by its owner's clock; all go to the same shard."""
    leaders.now_ms = lambda: NOW_MS - ago_s * 1000
    run = chimera("submit", "echo", payload, "--key", "k", *options)
    assert run.exit_code == 0, run.stderr
    return run.stdout.strip()


def listed(*command: str) -> list[str]:
    run = chimera(*command, "-o", "name")
    assert run.exit_code == 0, run.stderr
    return run.stdout.split()


def test_a_slower_clock_hides_nothing_from_a_list(leaders):
    ids = [submitted(leaders, ago_s) for ago_s in (3000, 60, 900)]
    assert listed("tasks", "list", "--since", "5m") == [ids[1]]
    assert listed("tasks", "list", "--until", "5m") == [ids[2], ids[0]]
    assert listed("tasks", "list", "--since", "20m", "--limit", "1") == [ids[2]]


def test_a_server_that_knows_no_times_has_nothing_ended_outside_of_them():
    at = datetime.fromtimestamp(1_800_000_000.25, timezone.utc)
    later = at + timedelta(seconds=1)
    moments = (at, at - timedelta(milliseconds=1), later, later - timedelta(milliseconds=1))

    class Client:
        def list(self, **_):
            return (SimpleNamespace(accepted_at=round(one.timestamp() * 1000)) for one in moments)

    def found(since, until, limit=9):
        chosen = Chosen(None, None, None, since, until, limit, dead_letters=True)
        told = [one.accepted_at for one in chosen.tasks(Client())]
        return [one for one in moments if round(one.timestamp() * 1000) in told]

    assert found(at, later) == [moments[0], moments[3]]
    assert found(at, later, limit=1) == [moments[0]]
    assert found(later, None) == [moments[2]]
    assert found(None, at) == [moments[1]]
    assert found(None, None) == list(moments)


def test_dead_letters_that_were_given_up_are_not_given_up_again(leaders):
    ids = [submitted(leaders, ago_s, '"bad"', "--tag", "t") for ago_s in (500, 60, 400)]
    first = chimera("dlq", "discard", "--tag", "t", "--limit", "1", "--yes", "--json")
    assert [one["id"] for one in printed(first)] == [ids[2]]
    assert listed("dlq", "list", "--tag", "t") == listed("dlq", "list") == [ids[1], ids[0]]
    assert listed("dlq", "list", "--since", "5m") == [ids[1]]
    assert chimera("dlq", "show", ids[2]).exit_code != 0
    assert "bad" in printed(chimera("dlq", "list", "--json"))[0]["error"]
    assert chimera("dlq", "show", ids[0]).exit_code == 0
    assert listed("tasks", "list", "--state", "failed") == ids[::-1]


@pytest.mark.parametrize(
    "command", [("purge", "--tag", "t"), ("tasks", "cancel", "--tag", "t", "--state", "queued")]
)
def test_what_is_started_before_it_can_be_cancelled_goes_on(leaders, command):
    leaders.handler = None
    ids = [submitted(leaders, 0, "1", "--tag", "t") for _ in range(3)]
    shard = task_ids.parse_id(ids[0]).shard

    def start_one(verb, _):
        if verb == "cancel_waiting":
            leaders.running = {(shard, 1)}

    leaders.fault = start_one
    run = chimera(*command, "--yes", "--json")
    assert run.exit_code == 0, run.stderr
    done = {one["id"]: one["done"] for one in printed(run)}
    assert done == {ids[0]: "cancelled", ids[1]: "running", ids[2]: "cancelled"}
    assert listed("tasks", "list", "--state", "queued") == [ids[1]]


def test_a_purge_takes_what_is_delayed_and_not_what_has_ended(leaders):
    done = submitted(leaders, 0)
    leaders.handler = None
    waits = [submitted(leaders, 0), submitted(leaders, 0, "1", "--delay", "1h")]
    run = chimera("purge", "--all", "--yes", "--json")
    assert {one["id"]: one["done"] for one in printed(run)} == dict.fromkeys(waits, "cancelled")
    assert listed("tasks", "list", "--state", "succeeded") == [done]


def test_a_task_that_runs_shows_how_far_it_is(leaders):
    leaders.handler = None
    one = submitted(leaders, 0)
    place = (task_ids.parse_id(one).shard, 0)
    leaders.progress = {place: {"done": 0.5}}
    assert "progress" not in chimera("tasks", "show", one).stdout
    leaders.running = {place}
    assert 'progress: {"done":0.5}' in chimera("tasks", "show", one).stdout
    assert printed(chimera("tasks", "show", one, "--json"))["progress"] == {"done": 0.5}


@pytest.mark.parametrize("command", [("tasks", "list"), ("dlq", "list"), ("events",)])
def test_where_nothing_is_found_a_type_without_a_handler_is_named(leaders, command):
    run = chimera(*command, "--type", "nope")
    assert (run.exit_code, run.stderr) == (0, "no handler is registered for 'nope'\n")
    assert chimera(*command, "--type", "echo").stderr == ""


@pytest.mark.parametrize(
    ("command", "way"),
    [
        (("tasks", "cancel"), task_ids.format_id(1, 0, 1)),
        (("dlq", "replay"), task_ids.format_id(1, 0, 1)),
        (("purge",), "--all"),
    ],
)
def test_one_way_to_say_which_is_needed_and_no_more(leaders, command, way):
    assert "say which: " in chimera(*command).stderr
    both = chimera(*command, way, "--type", "echo")
    assert both.exit_code == 2
    assert "or a filter, not both" in both.stderr


def test_events_come_in_the_order_in_which_the_tasks_ended(leaders):
    leaders.handler = None
    ids = [submitted(leaders, 60 - at) for at in range(3)]
    shard = task_ids.parse_id(ids[0]).shard
    for place, ago_s in ((2, 30), (0, 20), (1, 10)):
        end = Settlement(singles=(Single(place, outcome.SUCCEEDED, 1, b"1"),))
        leaders.journals[shard].settle(end, NOW_MS - ago_s * 1000)
    assert listed("events") == [ids[2], ids[0], ids[1]]
    assert listed("events", "--limit", "2") == [ids[2], ids[1]]


#: clears the screen, renames the window, and goes back to the line's beginning
NASTY = "a\x1b[2J\x1b]0;b\x07\rc\x9b31m\x7f\td"


def test_what_a_handler_says_has_no_power_over_the_terminal(leaders):
    def fail(_):
        raise ValueError(NASTY)

    leaders.handler = fail
    runs = [chimera("submit", "echo", "1", "--wait", "--tag", NASTY, *style)
            for style in ([], ["--json"], ["-o", "yaml"], ["--debug"])]  # fmt: skip
    (one, *_) = listed("tasks", "list")
    leaders.handler = lambda payload: NASTY
    runs += [chimera("submit", "echo", "1", "--wait")]
    runs += [chimera("submit", "echo", "--wait", "--ndjson", "-", stdin=b"1")]
    runs += [chimera("tasks", "show", one), chimera("dlq", "show", one, "-o", "yaml"),
             chimera("tasks", "list", "-o", "wide"), chimera("dlq", "list", "--json")]  # fmt: skip
    for run in runs:
        powerful = [char for char in run.output if not char.isprintable() and char not in "\t\n"]
        assert not powerful, run.output
    assert "\\u001b[2J" in runs[0].stderr
    assert json.loads(runs[4].stdout) == NASTY
