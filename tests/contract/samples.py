"""One event of each kind, every field of it other than its default."""

from __future__ import annotations

from chimera import contracts
from chimera.contracts import Failure, Latency, Origin, Shard

NOW = 1_764_252_000_123
TASK = "0b1f2c3d-4e5f-8678-9abc-def012345678"
FAILURE = Failure("builtins.ValueError", "no such file", "Traceback …", retryable=False)
SHARDS = (Shard(3, 7, "serving", 12, "leader/a-1"), Shard(4, 1, "taking", 0, "leader/a-2"))
LATENCY = {"run": Latency(9, 1.5, 2.5, 4.0, 8.25)}
COUNTERS = {"accepted": 10, "succeeded": 9}

EVENTS: tuple[contracts.Event, ...] = (
    contracts.Command(
        id=TASK, type="audit.file", tenant="acme", payload='{"path":"ä"}'.encode(), key="k",
        payload_is_claim=True, idempotency_key="order-1", not_before=NOW, deadline=NOW + 1,
        priority="critical", tags=("a", "b"), created_at=NOW - 1, max_attempts=3,
        backoff_initial_s=0.5, backoff_factor=3.0, backoff_cap_s=60.0, no_retry=("ValueError",),
        attempt_timeout_s=5.0, heartbeat_timeout_s=1.0, replay_of=TASK,
    ),
    contracts.CommandFrame(type="audit.file", tenant="acme", count=2, frame=b"CF\x01\x00\xff"),
    contracts.Result(
        task_id=TASK, type="audit.file", tenant="acme", state="failed", attempts=2,
        result=b"[1]", result_is_claim=True, error=FAILURE, key="k", tags=("a",),
        accepted_at=NOW - 9, started_at=NOW - 5, recorded_at=NOW, run_us=4_000, shard=3,
        position=1 << 40, epoch=7, command_id="order-1", command_source="/shop",
    ),
    contracts.DeadLetter(
        task_id=TASK, type="audit.file", tenant="acme", reason="failed", error=FAILURE, attempts=5,
        payload=b"{}", payload_is_claim=True, record=b"\x00\x01", key="k", tags=("a",),
        accepted_at=NOW - 9, recorded_at=NOW, shard=3, position=4,
        origin=Origin("commands", 3, 99, 2),
    ),
    contracts.WorkerLifecycle(
        worker="worker/a-1-1", leader="leader/a-1", region="a", event="died", at=NOW,
        reason="signal 9", node="ab12", pid=4711, revision="r1", types=("audit.file",),
    ),
    contracts.LeaderReport(
        leader="leader/a-1", region="a", incarnation=2, number=5, at=NOW, generation=3, ready=True,
        shards=SHARDS, workers=2, worker_target=3, counters=COUNTERS, latency=LATENCY,
        faults=("no module",), lag_ms=0.5,
    ),
    contracts.RegionSummary(
        region="a", coordinator="coordinator/a", term=2, sequence=5, at=NOW, generation=3,
        ready=True, leaders=2, leaders_expected=3, workers=4, open=12, shards=SHARDS,
        counters=COUNTERS, latency=LATENCY, failovers=1, faults=("a leader is lost",),
    ),
    contracts.Audit(
        seq=7, at=NOW, actor="operator", action="drain", subject="leader/a-1", detail="{}",
        prev_hash="0" * 64, hash="1" * 64,
    ),
    contracts.WorkflowEvent(
        workflow_id="w1", type="order", tenant="acme", sequence=4, event="step_failed", at=NOW,
        step="charge", task_id=TASK, detail=b"{}", error=FAILURE,
    ),
)  # fmt: skip
BY_NAME = {event.name: event for event in EVENTS}
