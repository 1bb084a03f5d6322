"""Summaries of a region: each number is that of the reports it came from, and is told in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chimera.actors import newsroom
from chimera.actors.newsroom import Newsroom
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.contracts.codec import Codec
from chimera.contracts.events import RegionSummary
from chimera.contracts.own import OwnSchemas
from chimera.store.control import ControlStore
from chimera.swarm import merge
from chimera.swarm.reports import (
    LeaderReport,
    Owner,
    RegionReport,
    ShardInfo,
    WorkerInfo,
)
from chimera.swarm.sketch import Sketch
from chimera.traffic import reports
from chimera.traffic.intake import Broker
from chimera.traffic.records import Writer, envelope
from chimera.traffic.topics import topics
from tests.servers.processes import wait_until

PROCESS = Owner("p", "boot", 1, 7, 7, "node")
TOPICS = topics("t", 2)


def leader(index: int, incarnation: int, number: int, done: int, took_s: float) -> LeaderReport:
    """One that has done so much, each in the same time, and has one shard and one worker."""
    name, run = f"leader/eu/{index}", Sketch()
    run.add(took_s, done)
    worker = WorkerInfo(f"worker/eu/{index}/a", PROCESS, None)
    return LeaderReport(
        name, PROCESS, 3, True, (ShardInfo(index, 5, "serving", 4),), (worker,),
        {"succeeded": done, "accepted": done + 4}, incarnation=incarnation, number=number,
        latency={"run": run.to_bytes()},
    )  # fmt: skip


DEAD = leader(0, 1, 80, done=100, took_s=0.5)
LIVING = (leader(0, 2, 3, done=10, took_s=0.01), leader(1, 1, 90, done=890, took_s=0.01))


def region(*heard: LeaderReport) -> RegionReport:
    """As its coordinator sees it after these reports, in that order."""
    tally: merge.Tally = ()
    for report in heard:
        tally = merge.renewed(tally, merge.read(report))
    return RegionReport(
        "coordinator/eu", "eu", 2, PROCESS, 3, True, LIVING, {}, 1, ("disk full",), tally
    )


def test_a_summary_counts_what_every_incarnation_of_every_leader_counted_once() -> None:
    heard = [DEAD, *LIVING, leader(1, 1, 70, done=600, took_s=0.01)] * 2
    random.Random(7).shuffle(heard)
    told = reports.region_summary(region(*heard), 3, 12, 99)
    assert told.counters == {"succeeded": 1000, "accepted": 1012}
    assert (told.leaders, told.leaders_expected, told.workers, told.open) == (2, 3, 2, 8)
    assert [(one.shard, one.leader, one.epoch) for one in told.shards] == [
        (0, "leader/eu/0", 5), (1, "leader/eu/1", 5),
    ]  # fmt: skip
    assert (told.term, told.generation, told.sequence, told.at) == (2, 3, 12, 99)
    assert (told.failovers, told.faults, told.ready) == (1, ("disk full",), True)


def test_its_times_are_those_of_all_tasks_in_milliseconds() -> None:
    told = reports.region_summary(region(DEAD, *LIVING), 2, 1, 1).latency
    assert told.keys() == {"run"}, "what nobody measured is left out"
    run = told["run"]
    assert run.count == 1000
    assert run.p50_ms == pytest.approx(10, 0.02)
    assert run.p99_ms == pytest.approx(500, 0.02)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    """A broker to which a newsroom tells of a region that does more each time it looks."""
    monkeypatch.setattr(newsroom, "SUMMARY_S", 0.01)
    broker, codec = MemoryBroker(), Codec(OwnSchemas())
    MemoryBus(broker).provision(tuple(TOPICS), 1.0)
    store = ControlStore.open(tmp_path / "control.sqlite")
    looks = iter(range(1, 1_000_000))

    def look() -> RegionReport:
        return region(replace(DEAD, number=(seen := next(looks)), counters={"succeeded": seen}))

    teller = Newsroom(
        Broker(MemoryBus(broker), TOPICS, codec, Writer(codec), "/chimera/t/coordinator/eu"),
        "coordinator/eu", store, look, lambda: 2,
    )  # fmt: skip
    try:
        yield broker
    finally:
        teller.stop()
        store.close()


def test_summaries_are_told_one_after_the_other_and_name_their_region(told: MemoryBroker) -> None:
    reader, codec = MemoryBus(told).subscribe(TOPICS.regions, "outside"), Codec(OwnSchemas())
    found: list[RegionSummary] = []

    def more() -> bool:
        for record in reader.fetch(999, 1 << 30, 0.1):
            one, named = codec.decode(record.value), envelope(record)
            assert isinstance(one, RegionSummary)
            assert named is not None
            assert named.subject == "coordinator/eu"
            assert named.source == "/chimera/t/coordinator/eu"
            found.append(one)
        return len(found) >= 5

    wait_until(more, "five summaries")
    assert [one.sequence for one in found] == list(range(1, len(found) + 1))
    assert [one.counters["succeeded"] for one in found] == [one.sequence for one in found]
    assert {one.leaders_expected for one in found} == {2}
