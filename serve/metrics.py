"""`/metrics`: what the tiers counted, joined from their reports, in Prometheus's formats.

Leaders count per frame and send counters and sketches upwards with their heartbeats; nothing is
counted here. A traced task is the exemplar of what was measured of it. Labels are regions, leaders,
shards, priority classes and task types that have a handler: their number does not grow with tasks.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from chimera.serve.checks import swarm_checks
from chimera.serve.gateway import GatewayDep
from chimera.serve.replies import PROBLEMS
from chimera.serve.versions import own_version
from chimera.swarm import merge, sketch
from chimera.swarm.policy import CLASSES
from chimera.swarm.reports import RegionReport, SwarmStatus
from chimera.swarm.slo import SloReport

router = APIRouter(tags=["health"], responses=PROBLEMS)

#: bounds of the histograms, seconds
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

#: counter of leaders → name and help
_COUNTERS = {
    "worker_deaths": ("chimera_worker_deaths", "Workers that died or were ended for a hang."),
    "takeovers": ("chimera_takeovers", "Shards taken over by a leader."),
    "fenced": ("chimera_fenced_writes", "Writes refused because somebody newer owns the shard."),
    "duplicates": ("chimera_tasks_duplicate_rejected", "Submits with a key that was used before."),
    "outcomes_refused": ("chimera_duplicate_outcomes", "Outcomes of tasks that had one already."),
    "lost_tails": ("chimera_lost_tails", "Journals that lost acknowledged commits."),
    "records_taken": ("chimera_bus_records_taken", "Records of commands that were decided."),
    "records_refused": ("chimera_bus_records_refused", "Records that were told as dead letters."),
    "records_lost": ("chimera_bus_positions_lost", "Times the broker had lost what was next."),
    "events_published": ("chimera_bus_events_published", "Results and dead letters published."),
}
#: those that leaders count by type, too
_BY_TYPE = {
    "accepted": ("chimera_tasks_submitted", "Tasks accepted durably."),
    "started": ("chimera_tasks_started", "Attempts handed to workers."),
    "succeeded": ("chimera_tasks_succeeded", "Tasks that ended well."),
    "failed": ("chimera_tasks_failed", "Tasks that failed for good, and are dead letters."),
    "cancelled": ("chimera_tasks_cancelled", "Tasks that were cancelled."),
    "expired": ("chimera_tasks_expired", "Tasks whose deadline passed before they ran."),
    "retried": ("chimera_tasks_retried", "Attempts that failed and were parked for another one."),
}
#: every task that fails for good is a dead letter: the same count by the name that alerts look for
_DEAD_LETTERS = ("failed", "chimera_tasks_deadlettered", "Tasks that became dead letters.")
_HISTOGRAMS = {
    "total": ("chimera_task_total_seconds", "From acceptance to the outcome."),
    "takeover": ("chimera_takeover_seconds", "From the order to take a shard until it is served."),
}


def families(status: SwarmStatus) -> Iterator[Metric]:
    """Everything that is told of a swarm."""
    yield InfoMetricFamily("chimera_build", "What runs here.", value={"version": own_version()})
    generation = {"generation": str(status.generation)}
    yield InfoMetricFamily("chimera_config_version", "The spec that holds.", value=generation)
    config = GaugeMetricFamily("chimera_config_generation", "Generation of the spec.")
    config.add_metric([], status.generation)
    yield config
    yield _health(status)
    ready = GaugeMetricFamily("chimera_ready", "1 while every shard is served as declared.")
    ready.add_metric([], float(status.ready))
    yield ready
    regions = sorted(status.regions.items())
    yield from _counters(regions)
    yield from _by_type(regions)
    yield from _durations(regions)
    yield from _histograms(regions)
    yield from _leaders(regions)
    yield from _waiting(regions)
    yield from _objectives(status.slos)


def _objectives(reports: Iterable[SloReport]) -> Iterator[Metric]:
    """Of an objective without data only what is asked for is told."""
    told: dict[tuple[str, str], Callable[[SloReport], float | None]] = {
        ("objective_ratio", "Share of tasks that shall be good."): lambda one: one.slo.objective,
        ("current_ratio", "Share that was good within the window."): lambda one: one.current,
        ("budget_remaining_ratio", "Share of the error budget that is left; below 0: overspent."):
            lambda one: one.budget_left,
        ("burn_rate", "How fast the error budget is spent of late; at 1 just all of it is."):
            lambda one: one.burn_rate,
    }  # fmt: skip
    for (name, text), value in told.items():
        family = GaugeMetricFamily(f"chimera_slo_{name}", text, labels=["slo"])
        for report in reports:
            if (found := value(report)) is not None:
                family.add_metric([report.slo.name], found)
        yield family


def _counters(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    totals = {region: merge.totals(report.tally) for region, report in regions}
    for key, (name, text) in _COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=["region"])
        for region, counted in totals.items():
            family.add_metric([region], counted.get(key, 0))
        yield family
    failovers = CounterMetricFamily("chimera_failovers", "Leaders given up.", labels=["region"])
    for region, report in regions:
        failovers.add_metric([region], report.failovers)
    yield failovers


def _health(status: SwarmStatus) -> Metric:
    """A tier is well if all of its checks are."""
    family = GaugeMetricFamily(
        "chimera_tier_up", "1 while a tier's checks are well.", labels=["tier"]
    )
    well: dict[str, bool] = {}
    for check in swarm_checks(status):
        well[check.tier] = well.get(check.tier, True) and check.ok
    for tier, is_well in sorted(well.items()):
        family.add_metric([tier], float(is_well))
    return family


def _by_type(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    """What became of tasks; those whose type is not known any more have none, and no class."""
    totals = [
        (report.region, leader, merge.totals(one for one in report.tally if one.leader == leader))
        for _, report in regions
        for leader in sorted({one.leader for one in report.tally})
    ]
    counted_as = [(key, *told) for key, told in _BY_TYPE.items()]
    for key, name, text in (*counted_as, _DEAD_LETTERS):
        family = CounterMetricFamily(name, text, labels=["region", "leader", "class", "type"])
        for region, leader, counted in totals:
            known = {
                tuple(other[len(key) + 1 :].split("/", 1)): count
                for other, count in counted.items()
                if other.startswith(f"{key}@")
            }
            rest = counted.get(key, 0) - sum(known.values())
            for (of_class, type), count in sorted({("", ""): rest, **known}.items()):
                family.add_metric([region, leader, of_class, type], count)
        yield family


def _durations(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "chimera_task_duration_seconds", "In the handler, a task.", labels=["region", "type"]
    )
    for region, report in regions:
        names = {name for one in report.tally for name in one.latency if name.startswith("run/")}
        for name in sorted(names):
            _add(family, [region, name.partition("/")[2]], report, name)
    yield family


def _add(family: HistogramMetricFamily, labels: list[str], report: RegionReport, key: str) -> None:
    parts = [one.latency[key] for one in report.tally if key in one.latency]
    counts, total = sketch.cumulated(parts, BUCKETS)
    named = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")
    shown = [one.exemplars[key] for one in report.leaders if key in one.exemplars]
    by_bucket = {
        bisect_left(BUCKETS, one.seconds): Exemplar(
            {"trace_id": one.trace_id}, one.seconds, one.at / 1000
        )
        for one in sorted(shown, key=lambda one: one.at)
    }
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
        (le, count, by_bucket[at]) if at in by_bucket else (le, count)
        for at, (le, count) in enumerate(zip(named, counts, strict=True))
    ]
    family.add_metric(labels, buckets, sum_value=total)


def _histograms(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    queue = HistogramMetricFamily(
        "chimera_queue_to_start_seconds", "From acceptance to dispatch.", labels=["region", "class"]
    )
    for region, report in regions:
        for of_class in CLASSES:
            _add(queue, [region, of_class], report, f"queue/{of_class}")
    yield queue
    for key, (name, text) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["region"])
        for region, report in regions:
            _add(family, [region], report, key)
        yield family


def _leaders(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    named = ["region", "leader"]
    up = GaugeMetricFamily("chimera_leader_up", "1 while it can run tasks.", labels=named)
    lag = GaugeMetricFamily(
        "chimera_event_loop_lag_seconds", "How late a leader's loop runs.", labels=named
    )
    workers = GaugeMetricFamily("chimera_workers", "Workers of a leader.", labels=named)
    depth = GaugeMetricFamily(
        "chimera_queue_depth", "Tasks accepted and not ended, by topic.",
        labels=["region", "topic"],
    )  # fmt: skip
    epoch = GaugeMetricFamily(
        "chimera_leader_epoch", "Epoch of a shard, and who serves it.",
        labels=["region", "leader", "shard"],
    )  # fmt: skip
    waiting = GaugeMetricFamily(
        "chimera_bus_waiting_records", "Records of commands that wait on the broker.",
        labels=["region", "shard"],
    )  # fmt: skip
    for region, report in regions:
        for leader in report.leaders:
            for shard, count in leader.waiting.items():
                waiting.add_metric([region, str(shard)], count)
            up.add_metric([region, leader.leader], float(leader.ready))
            lag.add_metric([region, leader.leader], leader.lag_ms / 1000)
            workers.add_metric([region, leader.leader], len(leader.workers))
            for info in leader.shards:
                depth.add_metric([region, f"commands-{info.shard}"], info.open)
                epoch.add_metric([region, leader.leader, str(info.shard)], info.epoch)
    yield from (up, lag, workers, depth, epoch, waiting)


def _waiting(regions: Iterable[tuple[str, RegionReport]]) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "chimera_queue_oldest_age_seconds",
        "How long the oldest of the tasks that could be started has waited.",
        labels=["region", "leader"],
    )
    slots = GaugeMetricFamily(
        "chimera_worker_slots", "Workers of a leader, by what they do.",
        labels=["region", "leader", "state"],
    )  # fmt: skip
    for region, report in regions:
        for leader in report.leaders:
            age.add_metric([region, leader.leader], leader.oldest_s)
            for state, count in sorted(leader.slots.items()):
                slots.add_metric([region, leader.leader, state], count)
    yield from (age, slots)


class _Once(Collector):
    def __init__(self, status: SwarmStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        return families(self._status)


def rendered(status: SwarmStatus, accept: str) -> tuple[bytes, str]:
    """The metrics as text, and its media type: OpenMetrics for those who accept it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(status))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


@router.get(
    "/metrics",
    summary="Metrics of the whole swarm, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, gateway: GatewayDep) -> Response:
    """Text, or OpenMetrics if `Accept` says so. Any replica answers the same."""
    status = await gateway.status()
    accept = request.headers.get("accept", "")
    body, media_type = await asyncio.to_thread(rendered, status, accept)
    return Response(body, media_type=None, headers={"Content-Type": media_type})
