"""`chimera top`: what its screen shows of a status, and what is left of it in a narrow window."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from textual.widgets import DataTable, Static

from chimera.cli.joining import Target
from chimera.cli.output import Output
from chimera.cli.screen import Top
from chimera.cli.top import COLUMNS, fitting
from chimera.errors import Unavailable
from chimera.swarm.reports import LeaderReport, ShardInfo
from tests.unit.cli.kit import chimera
from tests.unit.cli.test_lifecycle import owner, status

WIDE, NARROW = (110, 24), (60, 24)


class FakeTarget:
    """Answers what it was given, one after the other, and the last one from then on."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def status(self, timeout_s=0.0):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def swarm(*leaders, failovers=0):
    """A swarm's status with these leaders."""
    region = status().regions["local"]
    changed = dataclasses.replace(region, leaders=leaders, failovers=failovers)
    return status(regions={"local": changed})


def leader(name, accepted=0, waiting=0, ready=True):
    shard = ShardInfo(0, 1, "serving", waiting)
    counters = {"accepted": accepted, "succeeded": accepted}
    return LeaderReport(name, owner(name, 13), 1, ready, (shard,), (), counters)


def seen(app):
    """The first lines, and the table's rows as text."""
    table = app.query_one(DataTable)
    rows = [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]
    columns = [str(column.label) for column in table.ordered_columns]
    return str(app.query_one("#head", Static).content), [
        dict(zip(columns, row, strict=True)) for row in rows
    ]


async def looked(app, pilot):
    """What the screen shows once the look that is under way is over."""
    await app.workers.wait_for_complete()
    await pilot.pause()
    return seen(app)


def screens(target, size, looks, then=None):
    """What is on the screen after each of so many looks, and at last after `then(app)`."""

    async def run():
        app, found = Top(target, every_s=3600), []
        async with app.run_test(size=size) as pilot:
            found.append(await looked(app, pilot))
            for _ in range(looks - 1):
                app.ask()
                found.append(await looked(app, pilot))
            if then is not None:
                await then(app, pilot)
                found.append(seen(app))
        return found

    return asyncio.run(run())


def test_a_status_is_shown_whole():
    target = FakeTarget(swarm(leader("leader/local/0", waiting=1200), failovers=1))
    [(head, [row])] = screens(target, WIDE, looks=1)
    assert head.replace("\N{NO-BREAK SPACE}", " ").split("  ")[0] == "local: ready"
    assert "1,200\N{NO-BREAK SPACE}open  1\N{NO-BREAK SPACE}leader" in head.replace("\n", "  ")
    assert "1\N{NO-BREAK SPACE}failover" in head
    assert tuple(row) == COLUMNS
    assert (row["leader"], row["state"], row["open"]) == ("leader/local/0", "ready", "1,200")


def test_rates_are_of_what_came_between_two_looks():
    first, second = (swarm(leader("leader/local/0", accepted=n)) for n in (0, 10_000_000))
    (_, [at_first]), (_, [later]) = screens(FakeTarget(first, second), WIDE, looks=2)
    assert at_first["in/s"] == "0"
    assert int(later["in/s"].replace(",", "")) > 0
    assert later["done/s"] == later["in/s"]


def test_a_leader_that_is_gone_leaves_the_table_and_comes_back():
    both = [leader("leader/local/0"), leader("leader/local/1")]
    back = [leader("leader/local/0", ready=False), leader("leader/local/1")]
    target = FakeTarget(swarm(*both), swarm(both[1], failovers=1), swarm(*back))
    found = [rows for _, rows in screens(target, WIDE, looks=3)]
    assert [[row["leader"][-1] for row in rows] for rows in found] == [
        ["0", "1"],
        ["1"],
        ["0", "1"],
    ]
    assert found[-1][0]["state"] == "not ready"


def test_a_swarm_that_does_not_answer_is_said_above_what_it_answered_last():
    here = swarm(leader("leader/local/0"))
    target = FakeTarget(here, Unavailable("no answer in 2 s"))
    _, (head, rows) = screens(target, WIDE, looks=2)
    assert head == "no answer in 2 s"
    assert len(rows) == 1


def test_a_narrow_window_goes_without_some_columns_and_gets_them_back():
    async def widen(app, pilot):
        await pilot.resize_terminal(*WIDE)
        await pilot.pause()

    target = FakeTarget(swarm(leader("leader/local/0")))
    (head, [narrow]), (_, [wide]) = screens(target, NARROW, looks=1, then=widen)
    assert list(narrow) == ["leader", "state", "open", "in/s", "done/s", "failed/s"]
    assert tuple(wide) == COLUMNS
    assert max(map(len, head.splitlines())) <= NARROW[0]


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_the_leader_and_its_rates_are_never_left_out(width):
    found = fitting([dict.fromkeys(COLUMNS, "leader/local/0")], width)
    assert {"leader", "open", "in/s", "done/s"} <= set(found)


def test_the_place_that_somebody_scrolled_to_stays():
    many = swarm(*(leader(f"leader/local/{number}") for number in range(60)))

    async def scroll(app, pilot):
        table = app.query_one(DataTable)
        table.scroll_to(y=20, animate=False)
        await pilot.pause()
        app.ask()
        await looked(app, pilot)
        assert table.scroll_y == 20

    screens(FakeTarget(many), WIDE, looks=1, then=scroll)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_a_key_ends_it(key):
    async def run():
        app = Top(FakeTarget(swarm()), every_s=3600)
        async with app.run_test() as pilot:
            await pilot.press(key)
            await pilot.pause()
            return app.return_code

    assert asyncio.run(run()) == 0


def test_without_a_screen_it_is_printed_once(monkeypatch):
    here = swarm(leader("leader/local/0", waiting=3))
    monkeypatch.setattr(Target, "status", lambda *_: here)
    monkeypatch.setenv("FORCE_COLOR", "1")
    run = chimera("top", "--every", "1ms")
    assert run.exit_code == 0, run.output
    assert "3 open  1 leader  0 workers" in run.stderr


def test_with_a_screen_it_is_taken(monkeypatch):
    shown = []
    monkeypatch.setattr(Target, "status", lambda *_: swarm())
    monkeypatch.setattr(Output, "has_screen", property(lambda _: True))
    monkeypatch.setattr(Top, "run", lambda self: shown.append(self))
    assert chimera("top").exit_code == 0
    assert chimera("top", "--once", "--every", "1ms").exit_code == 0
    assert len(shown) == 1
