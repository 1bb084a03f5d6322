"""The simulator: the same seed is the same run, and faults and recoveries are reached."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import pytest

from chimera.sim import faults, reach, run
from chimera.sim.broken import Broken
from chimera.swarm.coordinator import effects
from tests.planted.searching import BUGS
from tests.unit.cli.kit import chimera


@pytest.fixture(scope="module")
def results() -> list[run.Result]:
    return [run.run(seed) for seed in range(12)]


def test_every_invariant_holds(results):
    assert {result.seed: result.fault for result in results if result.fault} == {}


def test_a_seed_replays_to_the_byte_in_another_process(results):
    code = "import sys; from chimera.sim.run import run; print(run(int(sys.argv[1])).digest)"
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code, "3"], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == results[3].digest


def test_a_trace_changes_nothing(results):
    traced = run.run(5, trace=True)
    assert traced.digest == results[5].digest
    assert len(traced.trace) == traced.events


def test_what_shall_be_reached_is_reached(results):
    counters = Counter[str]()
    for result in results:
        counters.update(result.counters)
    for name in (
        "takeover", "worker_adopted", "leader_made", "coordinator_made", "task_killed_worker",
        "act_take", "act_release", "due", "cancel_intent", "once",
    ):  # fmt: skip
        assert counters[name], name


def test_each_fault_happens():
    # those that leave nobody to strike come last
    kinds = sorted(faults.KINDS, key=lambda kind: (kind == "host_crash", kind.startswith("kill_")))
    schedule = [faults.Fault(5.0 + at / 1000, kind, 5, 0.5) for at, kind in enumerate(kinds)]
    world = run.world(4, schedule)
    while world.kernel.now < 5.1:
        world.kernel.run_one()
    assert {kind: world.kernel.counters[f"fault_{kind}"] for kind in kinds} == dict.fromkeys(
        kinds, 1
    )


def test_shrinking_leaves_out_what_is_not_needed(monkeypatch):
    def broken(seed, schedule=None, **_):
        needed = any(fault.kind == "cut" for fault in schedule)
        return run.Result(seed, "no" if needed else "", "", 0, 0.0, {}, tuple(schedule))

    monkeypatch.setattr(run, "run", broken)
    schedule = [faults.Fault(float(i), kind, 0, 1.0) for i, kind in enumerate(faults.KINDS)]
    found = run.shrink(broken(1, schedule))
    assert [fault.kind for fault in found.schedule] == ["cut"]


def test_results_are_plain_data(results):
    from chimera.cli.sim import plain

    assert json.loads(json.dumps(plain(results[0])))["seed"] == 0


def test_a_replay_tells_every_step_and_is_the_same_each_time():
    first, again = (chimera("sim", "--replay", "5", "--trace", "--json") for _ in range(2))
    assert first.stdout == again.stdout
    found = json.loads(first.stdout)
    assert (first.exit_code, found["fault"], len(found["trace"])) == (0, "", found["events"])
    told = chimera("sim", "--replay", "5", "--trace").stdout
    assert found["trace"][0] in told
    assert f"trace {found['digest']}, {found['events']} events" in told


def test_a_broken_invariant_is_told_and_fails_the_command():
    with BUGS["acknowledged-before-the-commit"].planted():
        one = chimera("sim", "--replay", "0", "--json")
        many = chimera("sim", "--seeds", "2", "--processes", "1", "--json")
        as_text = chimera("sim", "--seeds", "1", "--processes", "1")
    assert (one.exit_code, many.exit_code, as_text.exit_code) == (1, 1, 1)
    assert json.loads(one.stdout)["fault"].startswith("G1 ")
    failed = json.loads(many.stdout)["failed"]
    assert failed[0] == json.loads(one.stdout)
    assert "seed 0: G1 " in as_text.stdout
    assert "1 seeds, 1 failed" in as_text.stdout


def _ran(monkeypatch, seeds, counters):
    """`chimera sim` over so many seeds that each reach what is counted."""
    one = run.Result(0, "", "", 0, 0.0, counters, ())
    monkeypatch.setattr(run, "run_many", lambda wanted, _: (one for _ in wanted))
    return chimera("sim", "--seeds", str(seeds), "--json"), chimera("sim", "--seeds", str(seeds))


def test_what_no_seed_reached_is_named_and_fails_a_long_run(monkeypatch):
    counters = dict.fromkeys((*reach.FAULTS, *reach.RECOVERIES), 1)
    for told in _ran(monkeypatch, reach.SEEDS_ENOUGH, counters):
        assert told.exit_code == 0
    for told in _ran(monkeypatch, reach.SEEDS_ENOUGH, counters | {"takeover": 0}):
        assert told.exit_code == 1
    as_json, as_text = _ran(monkeypatch, 3, counters | {"takeover": 0})
    assert json.loads(as_json.stdout)["unreached"] == ["takeover"]
    assert "takeover: never reached" in as_text.stdout
    assert (as_json.exit_code, as_text.exit_code) == (0, 0)


def test_every_counter_that_is_asked_for_is_counted_somewhere():
    source = "".join(path.read_text() for path in Path(reach.__file__).parent.glob("*.py"))
    counted = set(re.findall(r'counters\["(\w+)"\]', source))
    made = {f"fault_{kind}" for kind in faults.KINDS}
    made |= {f"act_{act.__name__.lower()}" for act in typing.get_args(effects.Act)}
    assert {*reach.FAULTS, *reach.RECOVERIES} <= counted | made
    assert counted <= {*reach.FAULTS, *reach.RECOVERIES}


def test_an_order_of_a_term_that_is_over_is_not_to_be_obeyed():
    oracle = run.world(1, []).oracle
    oracle.obeyed("leader", 2)
    oracle.obeyed("another", 1)
    with pytest.raises(Broken, match="P2"):
        oracle.obeyed("leader", 1)


def test_a_task_that_goes_on_killing_workers_is_noticed():
    oracle = run.world(1, []).oracle
    oracle.killed("t", 8)
    with pytest.raises(Broken, match="P7"):
        oracle.killed("t", 9)
