"""What coordinators know of their regions, as events for others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chimera.contracts import events
from chimera.store.audit import AuditEntry
from chimera.swarm import merge
from chimera.swarm.reports import LeaderReport, Reading, RegionReport, WorkerInfo

_MEASURED = ("queue", "run", "total")
_SHARES = (0.5, 0.9, 0.99, 1.0)


def region_summary(
    report: RegionReport, leaders_expected: int, sequence: int, at: int
) -> events.RegionSummary:
    """A region as its coordinator sees it at `at`, Unix ms."""
    shards = [
        events.Shard(one.shard, one.epoch, one.state, one.open, leader.leader)
        for leader in report.leaders
        for one in leader.shards
    ]
    return events.RegionSummary(
        region=report.region,
        coordinator=report.coordinator,
        term=report.term,
        sequence=sequence,
        at=at,
        generation=report.generation,
        ready=report.ready,
        leaders=len(report.leaders),
        leaders_expected=leaders_expected,
        workers=sum(len(leader.workers) for leader in report.leaders),
        open=sum(shard.open for shard in shards),
        shards=tuple(shards),
        counters=merge.totals(report.tally),
        latency=_latency(report.tally),
        failovers=report.failovers,
        faults=report.faults,
    )


def leader_report(report: LeaderReport, region: str, at: int) -> events.LeaderReport:
    """What a leader said last."""
    return events.LeaderReport(
        leader=report.leader,
        region=region,
        incarnation=report.incarnation,
        number=report.number,
        at=at,
        generation=report.generation,
        ready=report.ready,
        shards=tuple(events.Shard(s.shard, s.epoch, s.state, s.open) for s in report.shards),
        workers=len(report.workers),
        worker_target=report.worker_target,
        counters=report.counters,
        latency=_latency([merge.read(report)]),
        faults=report.faults,
        lag_ms=report.lag_ms,
    )


def _latency(tally: Sequence[Reading]) -> dict[str, events.Latency]:
    """In milliseconds; how many there were is what the counters say of outcomes."""
    counters = merge.totals(tally)
    count = sum(counters.get(name, 0) for name in ("succeeded", "failed"))
    found = {}
    for what in _MEASURED:
        quantiles = merge.latency(tally, what, _SHARES)
        if quantiles is not None:
            found[what] = events.Latency(count, *(1000 * seconds for seconds in quantiles))
    return found


def workers(report: RegionReport) -> dict[str, tuple[WorkerInfo, str]]:
    """Every worker with its leader, by name."""
    return {w.name: (w, leader.leader) for leader in report.leaders for w in leader.workers}


def lifecycle(
    before: dict[str, tuple[WorkerInfo, str]], report: RegionReport, at: int
) -> Iterator[events.WorkerLifecycle]:
    """Which workers came, changed hands and went since another report."""
    now = workers(report)
    for name, (info, leader) in now.items():
        if name not in before:
            yield _event(info, leader, report.region, "started", at)
        elif before[name][1] != leader:
            yield _event(info, leader, report.region, "adopted", at, f"of {before[name][1]}")
    for name, (info, leader) in before.items():
        if name not in now:
            yield _event(info, leader, report.region, "stopped", at, "no leader reports it")


def _event(
    info: WorkerInfo, leader: str, region: str, event: str, at: int, reason: str = ""
) -> events.WorkerLifecycle:
    return events.WorkerLifecycle(
        worker=info.name, leader=leader, region=region, event=event, at=at, reason=reason,
        node=info.process.node_id, pid=info.process.pid, revision=info.revision,
    )  # fmt: skip


def audits(entries: Iterable[AuditEntry]) -> Iterator[events.Audit]:
    """Entries of the audit log."""
    for one in entries:
        yield events.Audit(
            seq=one.seq, at=one.at, actor=one.actor, action=one.action, subject=one.subject,
            detail=one.detail, prev_hash=one.prev_hash, hash=one.hash,
        )  # fmt: skip
