"""`chimera status` as a tree: what is well says little, what is not says why and since when."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from rich.console import Console

from chimera.cli.status import tree
from chimera.swarm import merge
from chimera.swarm.reports import (
    Condition,
    LeaderReport,
    Owner,
    Reading,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)
from chimera.swarm.sketch import Sketch

NOON = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))


def process(name: str, pid: int) -> Owner:
    return Owner(name, "boot", 1, pid, 1, "node")


def sketched(*seconds: float) -> bytes:
    made = Sketch()
    for one in seconds:
        made.add(one)
    return made.to_bytes()


def region(name: str, pid: int, **more: Any) -> RegionReport:
    worker = WorkerInfo(f"worker/{name}/0/a", process("w", pid + 2), None)
    leader = LeaderReport(
        f"leader/{name}/0", process("l", pid + 1), 3, True, (ShardInfo(0, 7, "serving", 0),),
        (worker,), {"succeeded": 2},
    )  # fmt: skip
    return RegionReport(
        f"coordinator/{name}", name, 1, process("c", pid), 3, True, (leader,), {}, 0, **more
    )


def status(**changes: Any) -> SwarmStatus:
    found = SwarmStatus(
        "shop", "uuid", 4, process("o", 1), 3, {}, "", {"us": region("us", 20)}, True, 0, "",
        False, observed_generation=3,
    )  # fmt: skip
    return replace(found, **changes)


def shown(found: SwarmStatus) -> list[str]:
    """The lines of the tree, each after as many dots as it is deep."""
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(tree(found))
    lines = []
    for line in capture.get().splitlines():
        text = line.lstrip("│├└─ ")
        lines.append("." * ((len(line) - len(text)) // 4) + text)
    return lines


def condition(subject: str, type: str, status: str, message: str = "") -> Condition:
    return Condition(subject, type, status, "Why", message, round(NOON * 1000))


WELL = [
    "shop ready, generation 3",
    ".orchestrator pid 1, term 4",
    "..coordinator/us ready pid 20, term 1",
    "...leader/us/0 ready pid 21: 2 succeeded",
    "....shard 0 epoch 7",
    "....worker/us/0/a pid 22",
]


def test_a_swarm_that_is_well_is_its_parts_and_nothing_else() -> None:
    quiet = [
        condition("orchestrator", "Ready", "True"), condition("orchestrator", "Paused", "False"),
        condition("orchestrator", "Degraded", "False"),
        condition("coordinator/us", "Reconciled", "True"),
        condition("leader/us/0", "Ready", "True"),
    ]  # fmt: skip
    assert shown(status(conditions=tuple(quiet))) == WELL


def test_a_condition_stands_below_its_part_with_its_time() -> None:
    conditions = (
        condition("orchestrator", "Paused", "True", "type mail"),
        condition("coordinator/us", "Reconciled", "False", "make leader/us/1"),
        condition("leader/us/0", "Draining", "True", "1 shards left"),
        condition("leader/us/9", "Ready", "False", "of a part that is not there"),
        condition("orchestrator", "Degraded", "True", "told as a fault already"),
    )
    found = shown(status(conditions=conditions))
    since = " since 12:00:00"
    assert [line for line in found if line not in WELL] == [
        "..paused: type mail" + since,
        "...not reconciled: make leader/us/1" + since,
        "....draining: 1 shards left" + since,
    ]


def test_regions_come_in_order_each_with_what_all_of_its_leaders_did() -> None:
    tally = merge.join(
        [
            Reading("leader/eu/0", 1, 9, {"succeeded": 1200, "failed": 3}, {"run": sketched(0.01)}),
            Reading("leader/eu/0", 2, 1, {"succeeded": 34, "queued": 5}, {"run": sketched(0.01)}),
        ]
    )
    found = shown(status(regions={"us": region("us", 20), "eu": region("eu", 30, tally=tally)}))
    assert [line for line in found if "coordinator" in line] == [
        "..coordinator/eu ready pid 30, term 1", "..coordinator/us ready pid 20, term 1",
    ]  # fmt: skip
    (done,) = [line for line in found if "a task takes" in line]
    assert done.startswith("...1,234 succeeded, 3 failed; a task takes ")
    assert done.endswith(" ms")


def test_what_is_not_as_it_should_be_is_seen_at_once() -> None:
    broken = region("us", 20)
    (leader,) = broken.leaders
    ill = replace(leader, ready=False, faults=("handlers: [no] module",))
    changes = {"ready": False, "failovers": 2, "leaders": (ill,), "faults": ("shard 0: full",)}
    found = shown(
        status(
            regions={"us": replace(broken, **changes)}, ready=False, waiting_for="region us: x",
            observed_generation=2, faults=("store: full",),
        )
    )  # fmt: skip
    assert found[:4] == [
        "shop waits for region us: x, generation 3 (2 observed)",
        ".orchestrator pid 1, term 4",
        "..fault: store: full",
        "..coordinator/us not ready pid 20, term 1, 2 failovers",
    ]
    assert "...fault: shard 0: full" in found
    assert "...leader/us/0 not ready pid 21: 2 succeeded" in found
    assert "....fault: handlers: [no] module" in found
