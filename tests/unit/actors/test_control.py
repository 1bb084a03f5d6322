"""What travels over the region link, as bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chimera.actors.control import wire
from chimera.actors.waiters import OutcomesReply
from chimera.errors import NotOwner, Overloaded
from chimera.store.protocol import Filter, Receipt, Skipped, TaskRecord
from chimera.swarm.facts import Single
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import (
    LeaderReport,
    Owner,
    Placement,
    Reading,
    RegionReport,
    ShardInfo,
    WorkerInfo,
)
from chimera.traffic.receipts import Told

NAMES = ("leader", "gate")
PROTO = Path("chimera/actors/control/v1/control.proto")
OWNER = Owner("leader/far/0", "boot", 1, 4711, 99, "node")
LEADER = LeaderReport(
    "leader/far/0", OWNER, 3, True, (ShardInfo(1, 7, "serving", 5),),
    (WorkerInfo("worker/far/0/a", OWNER, None),), {"accepted": 9}, ("a fault",), 1.5, 42, 17,
    {"run": b"\x00\xff"},
)  # fmt: skip
REPORT = RegionReport(
    "coordinator/far", "far", 2, OWNER, 3, True, (LEADER,), {1: "leader/far/0"}, 4, (),
    (Reading("leader/far/0", 42, 17, {"accepted": 9}, {"run": b"\x00"}),),
)  # fmt: skip


# -- what travels --------------------------------------------------------------------------------

RECEIPT = Receipt(5, 2, False, (Skipped(1, "id", None), Skipped(2, None, NotOwner("no"))), (3,))
RECORD = TaskRecord(
    "id", 5, "echo", "default", 1, "queued", 0, 1, None, None, None, ("a",), False, None, None, b"x"
)
OUTCOMES = OutcomesReply((Single(1, 2, 1, b"x"),), True)
ANSWERS = [
    ("append", (2**63, b"a", b"\xff"), [RECEIPT, NotOwner("gone").to_wire()]),
    ("call", (1, 2.5, b"frame"), (RECEIPT, 1, b"body", False)),
    ("cancel", ("t", 2**64 - 1, 1, 2, "why"), "cancelling"),
    ("cancel_waiting", ("t", 2**64 - 1, 1, 2, "why"), "running"),
    ("discard", ("t", 2**64 - 1, 1, 2), None),
    ("get", ("t", [(2**64 - 1, 1, 2)], True), [RECORD, NotOwner("gone").to_wire()]),
    ("happened", (1, "t", 5, 8), (7, [(6, RECORD), (7, RECORD)])),
    ("list_tasks", (1, Filter(tenant="t"), None, 10), [RECORD]),
    (
        "outcomes",
        (1, [(0, 5)], 0.5, 1),
        (OutcomesReply((Single(1, 2, 1, b"x"),), True), b"f", None),
    ),
    ("progress_of", (1, 2), {"done": 0.5}),
    (
        "receipts",
        (1, 0.5, [("t", 2**64 - 1, 7)]),
        Told([RECEIPT, None, NotOwner("gone").to_wire()], Overloaded("full").to_wire()),
    ),
    ("replay", ("t", 1, 2, 3), "id"),
    ("types", (), [TaskPolicy(type="echo", rate_per_s=2.0)]),
]


@pytest.mark.parametrize(("verb", "args", "answer"), ANSWERS, ids=[one[0] for one in ANSWERS])
def test_what_is_asked_and_answered_arrives_as_it_was(verb: str, args: Any, answer: Any) -> None:
    assert wire.unpack_arguments(verb, wire.pack_arguments(verb, args)) == args
    found = wire.unpack_answer(verb, wire.pack_answer(verb, answer))
    assert str(found) == str(answer), "errors have no equality of their own"


def test_every_verb_of_the_table_is_tried() -> None:
    assert {one[0] for one in ANSWERS} == wire.VERBS.keys()


def test_whatever_clients_ask_of_leaders_a_gate_passes_on() -> None:
    """Leaders answer clients in these groups of threads, and nobody else."""
    asked = re.compile(r'group="(?:publish|call|receipt|wait|read)"\)\n    def (\w+)')
    leader, gate = (asked.findall(Path(f"actors/{one}.py").read_text()) for one in NAMES)
    assert set(leader) == set(gate)


def test_reports_and_placements_arrive_as_they_were() -> None:
    assert wire.unpack_report(wire.pack_json(REPORT)) == REPORT
    placement = Placement(2, {1: "leader/far/0"}, {}, 4, "s3://bucket", 77)
    assert wire.unpack_placement(wire.pack_json(placement)) == placement


def test_what_has_no_place_in_the_table_does_not_travel() -> None:
    with pytest.raises(TypeError, match="does not travel"):
        wire.pack_arguments("progress_of", (1, object()))


def test_the_stubs_are_made_from_the_proto(tmp_path: Path) -> None:
    made = [sys.executable, "-m", "grpc_tools.protoc", "-I."]
    made += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*made, str(PROTO)], check=True)
    for name in ("control_pb2.py", "control_pb2.pyi", "control_pb2_grpc.py"):
        fresh = (tmp_path / PROTO.parent / name).read_text()
        assert (PROTO.parent / name).read_text() == fresh, "make proto"
