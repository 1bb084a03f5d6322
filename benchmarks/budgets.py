"""What Chimera promises to reach on two cores, as data: each run is judged by it."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from benchmarks.common import Document, Finding, number


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise."""

    what: str
    limit: float
    unit: str
    #: whether less than the limit is good
    at_most: bool
    #: which benchmark measures it
    by: str

    def is_met(self, measured: float) -> bool:
        return (operator.le if self.at_most else operator.ge)(measured, self.limit)

    def text(self) -> str:
        """The limit in words."""
        return f"{'≤' if self.at_most else '≥'} {number(self.limit)} {self.unit}".strip()


BUDGETS = {
    "noop": Budget(
        "durable no-op tasks, submitted to outcomes recorded and read: of 200 × the plain"
        " `f.remote` tasks of the same run, or of 200 k/s where that is less",
        1.0, "×", False, "throughput",
    ),
    "short": Budget(
        "1 ms tasks on 2 workers: of what two workers could do at best",
        85.0, "%", False, "throughput",
    ),
    "ruled": Budget(
        "keyed, prioritised, limited traffic (2,000 keys, 8 tenants, 3 classes): of the no-op rate",
        50.0, "%", False, "throughput",
    ),
    "single": Budget(
        "one durable task after the other, p50: of one Ray actor call",
        4.0, "×", True, "latency",
    ),
    "single_fsync": Budget(
        "the same with fsync", 6.0, "×", True, "latency",
    ),
    "single_tail": Budget(
        "one durable task after the other, p99: of its p50", 3.0, "×", True, "latency",
    ),
    "leader": Budget(
        "a leader is killed or paused: all its shards served again, p99", 1.0, "s", True,
        "failover",
    ),
    "outcome": Budget(
        "a leader is killed or paused: first outcome by a new owner, p99", 1.0, "s", True,
        "failover",
    ),
    "lost": Budget(
        "a leader is killed or paused: accepted tasks without an outcome", 0.0, "", True,
        "failover",
    ),
    "doubled": Budget(
        "a leader is killed or paused: tasks with two outcomes", 0.0, "", True, "failover",
    ),
    "rerun": Budget(
        "a leader is killed or paused: finished tasks that were run again", 0.0, "", True,
        "failover",
    ),
    "worker": Budget(
        "a worker is killed: its frame running elsewhere, p99", 0.5, "s", True, "failover",
    ),
    "control": Budget(
        "coordinator or orchestrator killed: change of throughput", 5.0, "%", True, "failover",
    ),
    "region": Budget(
        "a region is cut off: new work served elsewhere, p99", 5.0, "s", True, "regions",
    ),
    "region_lost": Budget(
        "a region is cut off and healed: accepted tasks without an outcome", 0.0, "", True,
        "regions",
    ),
    "region_doubled": Budget(
        "a region is cut off and healed: tasks with two outcomes", 0.0, "", True, "regions",
    ),
    "region_rerun": Budget(
        "a region is cut off and healed: tasks that were run twice", 0.0, "", True, "regions",
    ),
    "shared": Budget(
        "a region on shared storage is cut off: its shards served elsewhere, p99", 5.0, "s", True,
        "shared",
    ),
    "http_single": Budget(
        "one task a request over HTTP, CPU of the edge: of a Serve route that only reads its body",
        1.3, "×", True, "http",
    ),
    "http_bulk": Budget(
        "tasks in bulks over HTTP, from the first line to the last outcome", 50_000.0, "/s", False,
        "http",
    ),
    "http_metrics": Budget(
        "`/metrics` looked at by Prometheus: of the machine's throughput", 2.0, "%", True, "http",
    ),
    "memory": Budget(
        "memory of a leader with 1 M queued commands", 300.0, "MiB", True, "memory",
    ),
    "startup": Budget(
        "from nothing to a swarm that serves, warm disk", 15.0, "s", True, "startup",
    ),
}  # fmt: skip


def judge(document: Document, budget: str, case: str, measured: float, detail: str) -> Finding:
    """Compare a measurement with its budget, keep that, and print it."""
    promise = BUDGETS[budget]
    finding = Finding(
        budget=budget,
        case=case,
        measured=measured,
        met=promise.is_met(measured),
        detail=detail,
    )
    document.findings.append(finding)
    verdict = "met" if finding.met else "NOT met"
    print(
        f"  → {promise.what} [{case}]: {number(measured)} {promise.unit}, {promise.text()}: "
        f"{verdict} ({detail})",
        flush=True,
    )
    return finding
