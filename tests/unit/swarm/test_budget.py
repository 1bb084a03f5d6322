"""Error budgets: what was counted within the window, and nothing is good by default."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm import budget, merge, slo
from chimera.swarm.budget import Budgets, Counts
from chimera.swarm.reports import Owner, Reading, RegionReport
from chimera.swarm.sketch import Sketch
from chimera.swarm.slo import SloSpec

ENDS_WELL = SloSpec(name="ends-well", indicator="success", objective=0.9, window_s=60.0)
PROMPT = SloSpec(name="prompt", indicator="queue", objective=0.9, within_s=1.0, window_s=60.0)


def reading(number, good=0, bad=0, *, leader=0, incarnation=1, **latency):
    counters = {"succeeded": good, "failed": bad}
    return Reading(f"leader/eu/{leader}", incarnation, number, counters, latency)


def region(*readings):
    process = Owner("p", "boot", 1, 2, 3, "node")
    tally = merge.join(readings)
    return RegionReport("coordinator/eu", "eu", 1, process, 1, True, (), {}, 0, tally=tally)


def sketched(*seconds):
    made = Sketch()
    for one in seconds:
        made.add(one)
    return made.to_bytes()


class Watched:
    """Budgets of one objective, told what a region reports."""

    def __init__(self, declared=ENDS_WELL):
        self.declared, self.budgets = declared, Budgets()

    def look(self, at, *readings):
        self.budgets.look([self.declared], [region(*readings), None], at)
        (told,) = self.budgets.told(at)
        return told


# -- what is good ------------------------------------------------------------------------------


def test_a_success_is_good_and_a_cancelled_task_neither():
    found = {"succeeded": 6, "failed": 1, "expired": 2, "cancelled": 40, "succeeded/mail": 4}
    said = Reading("l", 1, 1, found, {})
    assert budget.counted(ENDS_WELL, said) == Counts(6, 9)
    mail = SloSpec(name="mail", indicator="success", objective=0.9, type="mail")
    assert budget.counted(mail, said) == Counts(4, 4)


def test_a_task_that_took_no_longer_is_good():
    said = reading(1, queue=sketched(0.2, 0.5, 0.98, 1.5, 7.0), **{"run/mail": sketched(3.0)})
    assert budget.counted(PROMPT, said) == Counts(3, 5)
    run = SloSpec(name="r", indicator="run", objective=0.9, within_s=1.0, type="mail")
    assert budget.counted(run, said) == Counts(0, 1)
    assert budget.counted(msgspec.structs.replace(run, type="post"), said) == Counts(0, 0)


@pytest.mark.parametrize(
    ("objective", "window", "met", "left"),
    [
        (0.9, Counts(90, 100), True, 0.0),
        (0.9, Counts(95, 100), True, 0.5),
        (0.9, Counts(80, 100), False, -1.0),
        (0.999, Counts(6993, 7000), True, 0.0),
        (0.999, Counts(6992, 7000), False, -1 / 7),
        (0.5, Counts(0, 0), None, None),
    ],
)
def test_an_objective_is_met_while_its_budget_is_not_overspent(objective, window, met, left):
    declared = SloSpec(name="x", indicator="success", objective=objective)
    told = budget.evaluated(declared, window, Counts(0, 0), 10.0)
    assert told.met is met
    assert told.budget_left == (None if left is None else pytest.approx(left, abs=1e-9))
    assert told.burn_rate is None, "nothing happened in its last part"


# -- windows -----------------------------------------------------------------------------------


def test_what_was_counted_before_it_was_watched_is_not_known():
    watched = Watched()
    assert watched.look(100.0, reading(5, good=1000, bad=1000)).met is None
    told = watched.look(110.0, reading(6, good=1009, bad=1001))
    assert (told.good, told.tasks, told.met, told.seen_s) == (9, 10, True, 10.0)


def test_a_bad_hour_is_forgiven_when_the_window_has_passed():
    watched = Watched()
    watched.look(0.0, reading(1))
    assert watched.look(10.0, reading(2, bad=5)).met is False
    assert watched.look(40.0, reading(3, good=45, bad=5)).tasks == 50
    late = watched.look(71.0, reading(3, good=45, bad=5))
    assert (late.good, late.tasks, late.met) == (45, 45, True)
    (later,) = watched.budgets.told(120.0)
    assert later.met is None, "no data, not met"


def test_the_burn_rate_is_that_of_the_last_twelfth():
    watched = Watched()
    watched.look(0.0, reading(1))
    watched.look(10.0, reading(2, good=98))
    told = watched.look(30.0, reading(3, good=98, bad=2))
    assert (told.met, told.budget_left) == (True, pytest.approx(0.8))
    assert told.burn_rate == pytest.approx(10.0), "everything of late was bad"


def test_a_leader_that_is_made_again_counts_from_nothing():
    watched = Watched()
    watched.look(0.0, reading(7, good=100))
    told = watched.look(5.0, reading(7, good=100), reading(1, good=1, bad=2, incarnation=2))
    assert (told.good, told.tasks) == (1, 3)


def test_a_leader_that_was_not_heard_before_may_be_old():
    watched = Watched()
    watched.look(0.0, reading(1))
    told = watched.look(5.0, reading(1), reading(9, good=500, leader=1))
    assert told.met is None
    told = watched.look(8.0, reading(1), reading(10, good=501, leader=1))
    assert told.tasks == 1


def test_a_coordinator_that_forgot_the_dead_takes_nothing_away():
    watched = Watched()
    dead, living = reading(3, good=50), reading(1, good=2, incarnation=2)
    watched.look(0.0, reading(1))
    watched.look(3.0, dead, living)
    told = watched.look(6.0, replace(living, number=2, counters={"succeeded": 3}))
    assert told.tasks == 53
    assert watched.look(9.0, dead, living).tasks == 53, "an old report adds nothing"


def test_an_objective_that_is_changed_begins_anew_and_others_go_on():
    budgets = Budgets()
    budgets.look([ENDS_WELL, PROMPT], [region(reading(1))], 0.0)
    budgets.look([ENDS_WELL, PROMPT], [region(reading(2, good=4))], 5.0)
    tighter = SloSpec(name="prompt", indicator="queue", objective=0.99, within_s=1.0)
    budgets.look([tighter, ENDS_WELL], [region(reading(2, good=4))], 5.1)
    assert [(one.slo, one.seen_s) for one in budgets.told(6.0)] == [
        (tighter, pytest.approx(0.9)), (ENDS_WELL, 6.0)
    ]  # fmt: skip
    budgets.look([], [], 7.0)
    assert budgets.told(7.0) == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60), st.data())
def test_whatever_way_reports_take_a_window_holds_what_was_counted(steps, data):
    watched = Watched(SloSpec(name="x", indicator="success", objective=0.5, window_s=1000.0))
    watched.look(0.0, reading(1))
    said, good, bad = [reading(1)], 0, 0
    for number, (more, worse) in enumerate(steps, start=2):
        good, bad = good + more, bad + worse
        said.append(reading(number, good, bad))
        old = data.draw(st.sampled_from(said))
        watched.look(2.0 * number, *data.draw(st.sampled_from([[said[-1], old], [old], []])))
    watched.look(2.0 * len(said) + 2.0, said[-1])
    (told,) = watched.budgets.told(2.0 * len(said) + 2.0)
    assert (told.good, told.tasks) == (good, good + bad)


def test_slots_are_bounded():
    watched = Watched()
    for number in range(1, 1000):
        watched.look(3.0 * number, reading(number, good=number))
    (ledger,) = watched.budgets._ledgers.values()
    assert len(ledger.slots) <= budget.SLOTS


# -- words -------------------------------------------------------------------------------------


def test_words_tell_what_was_seen_and_what_is_asked_for():
    told = budget.evaluated(PROMPT, Counts(1170, 1200), Counts(0, 0), 34.0)
    assert slo.words(told) == (
        "97.5 % of 1,200 tasks were dispatched within 1 s in the last 34 s; 90 % are asked for,"
        " 75 % of the error budget is left"
    )
    strict = SloSpec(name="x", indicator="success", objective=0.999)
    just = budget.evaluated(strict, Counts(6993, 7000), Counts(0, 0), 34.0)
    assert slo.words(just).endswith(", 0 % of the error budget is left")
    unknown = budget.evaluated(PROMPT, Counts(0, 0), Counts(0, 0), 7200.0)
    assert slo.words(unknown) == "no tasks in the last 2 h; 90 % are asked for"
