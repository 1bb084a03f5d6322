"""`/admin/v1`: the swarm's tree, and orders to it: pause, resume, drain, scale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from chimera.errors import NotFound
from chimera.serve.gateway import Gateway, GatewayDep
from chimera.serve.replies import CONDITIONAL, NOT_MODIFIED, PROBLEMS, IfNoneMatch, etagged
from chimera.swarm.orders import Drain, Order, Ordered, Pause, Resume, Scale, verb
from chimera.swarm.reports import LeaderReport, RegionReport, SwarmStatus
from chimera.swarm.slo import SloReport

router = APIRouter(prefix="/admin/v1", tags=["administration"], responses=PROBLEMS)

#: for an order to be durable, seconds
ORDER_S = 40.0
#: a strong entity tag that is a generation
_GENERATION = re.compile(r'(?<!W/)"(\d{1,15})"')
#: who ordered it, in the audit log
BY = "http"


class Process(BaseModel):
    """Where a part runs."""

    pid: int
    node: str


class Worker(BaseModel):
    """A worker."""

    name: str
    process: Process


class Shard(BaseModel):
    """A shard, and who serves it."""

    shard: int
    leader: str
    epoch: int
    state: str
    open: int = Field(description="Tasks accepted and not ended.")


class Leader(BaseModel):
    """A leader."""

    name: str
    region: str
    ready: bool
    process: Process
    generation: int
    lag_ms: float
    shards: list[Shard]
    workers: list[Worker]
    counters: dict[str, int]
    faults: list[str]


class Region(BaseModel):
    """A region, with its coordinator."""

    name: str
    ready: bool
    coordinator: str
    process: Process
    term: int
    failovers: int
    leaders: list[Leader]
    faults: list[str]


class Objective(BaseModel):
    """An objective of service, and how well it was met of late; null where there is no data."""

    name: str
    indicator: str
    type: str = Field(description="Of tasks; empty: of every type.")
    within_s: float | None
    objective: float = Field(description="The share of tasks that shall be good.")
    window_s: float
    seen_s: float = Field(description="How much of the window was observed.")
    tasks: int = Field(description="All that the indicator is about.")
    current: float | None = Field(description="The share that was good.")
    budget_left: float | None = Field(description="Share of the error budget; may be below 0.")
    burn_rate: float | None = Field(description="In the last twelfth of the window.")
    met: bool | None


class Swarm(BaseModel):
    """The whole swarm."""

    name: str
    ready: bool
    waiting_for: str
    stopping: bool
    generation: int
    term: int
    process: Process
    regions: list[Region]
    slos: list[Objective]
    faults: list[str]


class PauseOrder(BaseModel):
    """Task types and tenants."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"types": ["mail.send"]}]}
    )

    types: list[str] = Field(default=[], max_length=100)
    tenants: list[str] = Field(default=[], max_length=100)


class ScaleOrder(BaseModel):
    """Numbers that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"workers": 2}]})

    leaders: int | None = Field(default=None, strict=True, ge=1, le=100)
    workers: int | None = Field(default=None, strict=True, ge=1, le=1000)
    workers_max: int | None = Field(default=None, strict=True, ge=0, le=1000)


class Answer(BaseModel):
    """An order that is durable, and will be brought about."""

    generation: int = Field(description="Of the spec.")
    changes: list[str] = Field(description="Settings that became others; none: it was so already.")


def _process(owner: Any) -> Process:
    return Process(pid=owner.pid, node=owner.node_id)


def shown(status: SwarmStatus) -> Swarm:
    """The tree."""
    return Swarm(
        name=status.swarm, ready=status.ready, waiting_for=status.waiting_for,
        stopping=status.stopping, generation=status.generation, term=status.term,
        process=_process(status.process), faults=list(status.faults),
        regions=[_region(one) for _, one in sorted(status.regions.items())],
        slos=[_objective(one) for one in status.slos],
    )  # fmt: skip


def _objective(report: SloReport) -> Objective:
    slo = report.slo
    return Objective(
        name=slo.name, indicator=slo.indicator, type=slo.type, within_s=slo.within_s,
        objective=slo.objective, window_s=slo.window_s, seen_s=report.seen_s, tasks=report.tasks,
        current=report.current, budget_left=report.budget_left, burn_rate=report.burn_rate,
        met=report.met,
    )  # fmt: skip


def _region(report: RegionReport) -> Region:
    return Region(
        name=report.region, ready=report.ready, coordinator=report.coordinator,
        process=_process(report.process), term=report.term, failovers=report.failovers,
        leaders=[_leader(report.region, one) for one in report.leaders],
        faults=list(report.faults),
    )  # fmt: skip


def _leader(region: str, report: LeaderReport) -> Leader:
    return Leader(
        name=report.leader, region=region, ready=report.ready, process=_process(report.process),
        generation=report.generation, lag_ms=report.lag_ms, counters=report.counters,
        shards=[
            Shard(shard=one.shard, leader=report.leader, epoch=one.epoch, state=one.state,
                  open=one.open)
            for one in sorted(report.shards, key=lambda one: one.shard)
        ],
        workers=[Worker(name=one.name, process=_process(one.process)) for one in report.workers],
        faults=list(report.faults),
    )  # fmt: skip


async def _leaders(gateway: Gateway) -> Iterator[Leader]:
    tree = shown(await gateway.status())
    return (leader for region in tree.regions for leader in region.leaders)


@router.get("/swarm", summary="The whole tree")
async def swarm(gateway: GatewayDep) -> Swarm:
    """What is observed, from the orchestrator down to the workers."""
    return shown(await gateway.status())


@router.get("/regions", summary="The regions")
async def regions(gateway: GatewayDep) -> list[Region]:
    """Those that were heard."""
    return shown(await gateway.status()).regions


@router.get("/leaders", summary="The leaders")
async def leaders(gateway: GatewayDep) -> list[Leader]:
    """With their shards, workers and counters."""
    return list(await _leaders(gateway))


@router.get("/workers", summary="The workers")
async def workers(gateway: GatewayDep) -> list[Worker]:
    """Of all leaders."""
    return [worker for leader in await _leaders(gateway) for worker in leader.workers]


@router.get("/shards", summary="The shards, with their epochs")
async def shards(gateway: GatewayDep) -> list[Shard]:
    """Those that have an owner."""
    found = [shard for leader in await _leaders(gateway) for shard in leader.shards]
    return sorted(found, key=lambda shard: shard.shard)


@router.get("/policy", summary="The rules, and what is paused and drained", responses=NOT_MODIFIED)
async def policy(gateway: GatewayDep, if_none_match: IfNoneMatch = None) -> Response:
    """As the newest spec has them; the entity tag is its generation, for `If-Match`."""
    status = await gateway.status()
    found = {"policy": status.spec["policy"], "operations": status.spec["operations"]}
    return etagged(if_none_match, msgspec.json.encode(found), tag=_tag(status.generation))


def _tag(generation: int) -> str:
    return f'"{generation}"'


IfMatch = Annotated[
    str | None,
    Header(
        description="Only if the spec's generation is still this one, as `ETag` tells it.",
        examples=['"7"'],
    ),
]


def _expected(if_match: str | None) -> tuple[int, ...]:
    """The generations that a header names; none: any will do. What is no tag of ours fits none."""
    if if_match is None or if_match.strip() == "*":
        return ()
    found = _GENERATION.findall(if_match)
    return tuple(int(one) for one in found) or (-1,)


@router.post(
    "/pause", summary="Start no more tasks of some types or tenants", responses=CONDITIONAL
)
async def pause(
    order: PauseOrder, gateway: GatewayDep, response: Response, if_match: IfMatch = None
) -> Answer:
    """What runs goes on, what is submitted waits."""
    made = Pause(tuple(order.types), tuple(order.tenants))
    return await _order(gateway, made, response, if_match)


@router.post("/resume", summary="Start tasks of some types or tenants again", responses=CONDITIONAL)
async def resume(
    order: PauseOrder, gateway: GatewayDep, response: Response, if_match: IfMatch = None
) -> Answer:
    """404 for what is not paused."""
    made = Resume(tuple(order.types), tuple(order.tenants))
    return await _order(gateway, made, response, if_match)


Name = Annotated[str, Path(max_length=200, examples=["leader/local/0"])]


@router.post(
    "/leaders/{name:path}/drain", summary="Let a leader hand over and end", responses=CONDITIONAL
)
async def drain_leader(
    name: Name, gateway: GatewayDep, response: Response, if_match: IfMatch = None
) -> Answer:
    """Its shards go to the other leaders of its region."""
    return await _order(gateway, _drain("leader", name), response, if_match)


@router.delete(
    "/leaders/{name:path}/drain", summary="Let a drained leader serve again", responses=CONDITIONAL
)
async def undrain_leader(
    name: Name, gateway: GatewayDep, response: Response, if_match: IfMatch = None
) -> Answer:
    """404 if it is not drained."""
    return await _order(gateway, _drain("leader", name, undo=True), response, if_match)


@router.post(
    "/workers/{name:path}/drain",
    summary="Let a worker finish and be replaced",
    responses=CONDITIONAL,
)
async def drain_worker(
    name: Name, gateway: GatewayDep, response: Response, if_match: IfMatch = None
) -> Answer:
    """It ends what it has in hand."""
    return await _order(gateway, _drain("worker", name), response, if_match)


@router.post("/regions/{name}/scale", summary="Give a region another size", responses=CONDITIONAL)
async def scale(
    name: Annotated[str, Path(max_length=32, examples=["local"])],
    order: ScaleOrder,
    gateway: GatewayDep,
    response: Response,
    if_match: IfMatch = None,
) -> Answer:
    """More or fewer leaders, or workers a leader."""
    made = Scale(name, order.leaders, order.workers, order.workers_max)
    return await _order(gateway, made, response, if_match)


def _drain(tier: str, name: str, undo: bool = False) -> Drain:
    if not name.startswith(f"{tier}/"):
        raise NotFound(f"{name!r} is no {tier}: names are such as {tier}/local/0")
    return Drain(name, undo)


async def _order(
    gateway: Gateway, order: Order, response: Response, if_match: str | None
) -> Answer:
    expected = _expected(if_match)
    done: Ordered = await gateway.orchestrator(
        lambda handle: getattr(handle, verb(order)).remote(order, BY, expected), ORDER_S
    )
    response.headers["ETag"] = _tag(done.generation)
    return Answer(generation=done.generation, changes=[one.key for one in done.changes])
