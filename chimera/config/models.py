"""The spec as a person writes it: which keys there are, of what type and within which bounds."""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator, model_validator

from chimera import names
from chimera.bus.settings import parse as parse_bus
from chimera.config.settings import setting
from chimera.errors import InvalidRequest
from chimera.swarm.slo import BY_TYPE

#: objectives of a swarm: each is worked out again and again
SLOS_MAX = 100
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
#: as chimera.api.task has it; neither may import the other
TASK_TYPE = re.compile(r"[\w.:/-]{1,200}\Z")


def _check_module(name: str) -> str:
    if name.endswith(".py"):
        raise ValueError(f"{name!r}: name the module, not its file: leave the .py off")
    if not _MODULE.match(name):
        raise ValueError(f"{name!r} is not the name of a module, such as `app.tasks`")
    return name


def _check_task_type(name: str) -> str:
    if not TASK_TYPE.match(name):
        raise ValueError(
            f"{name!r} is not a task type: 1 to 200 letters, digits and any of _ . : / -"
        )
    return name


def _check_type_or_none(name: str) -> str:
    return _check_task_type(name) if name else name


Name = Annotated[str, AfterValidator(names.check)]
Module = Annotated[str, AfterValidator(_check_module)]
TaskType = Annotated[str, AfterValidator(_check_task_type)]


class Model(BaseModel):
    """What all parts of a spec have in common."""

    # strict: `leaders: "2"` is more often a mistake than meant, and YAML has numbers of its own
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RegionModel(Model):
    """One of `regions`."""

    name: Name = setting("regions[].name")
    leaders: int = setting("regions[].leaders")
    workers: int = setting("regions[].workers")
    workers_max: int = setting("regions[].workers_max")
    grow_wait_s: float = setting("regions[].grow_wait_s")
    shrink_after_s: float = setting("regions[].shrink_after_s")
    labels: dict[str, str] = setting("regions[].labels")
    link: str = setting("regions[].link")

    @model_validator(mode="after")
    def _most_is_not_below_least(self) -> RegionModel:
        if self.workers_max and self.workers_max < self.workers:
            raise ValueError(
                f"workers_max ({self.workers_max}) must not be below workers ({self.workers})"
            )
        return self

    @field_validator("link")
    @classmethod
    def _link_is_on_loopback(cls, link: str) -> str:
        if link:
            names.loopback(link)
        return link


class RetentionModel(Model):
    """`retention`."""

    outcomes_s: float = setting("retention.outcomes_s")
    idempotency_s: float = setting("retention.idempotency_s")
    resend_s: float = setting("retention.resend_s")

    @model_validator(mode="after")
    def _outcomes_live_longest(self) -> RetentionModel:
        # a repeated request answers with the first task's outcome (P14)
        if self.idempotency_s > self.outcomes_s:
            raise ValueError(
                f"idempotency_s ({self.idempotency_s:g}) must not be over outcomes_s"
                f" ({self.outcomes_s:g}): a repeated request is answered with the outcome"
            )
        return self


class HttpModel(Model):
    """`http`."""

    host: str = setting("http.host")
    port: int = setting("http.port")
    replicas: int = setting("http.replicas")

    @model_validator(mode="after")
    def _is_local(self) -> HttpModel:
        try:
            names.loopback(f"{self.host}:{self.port}")
        except ValueError:
            raise ValueError(
                f"{self.host!r} is not on loopback, and the gateway has no authentication yet:"
                " use 127.0.0.1, with a proxy or tunnel that has one in front of it"
            ) from None
        return self


class SloModel(Model):
    """One of `slos`."""

    name: Name = setting("slos[].name")
    indicator: Literal["success", "queue", "run", "total"] = setting("slos[].indicator")
    objective: float = setting("slos[].objective")
    within_s: float | None = setting("slos[].within_s")
    window_s: float = setting("slos[].window_s")
    type: Annotated[str, AfterValidator(_check_type_or_none)] = setting("slos[].type")

    @model_validator(mode="after")
    def _fits_its_indicator(self) -> SloModel:
        if self.indicator == "success" and self.within_s is not None:
            raise ValueError("within_s is not for the indicator success: leave it out")
        if self.indicator != "success" and self.within_s is None:
            raise ValueError(f"within_s must be set for the indicator {self.indicator}")
        if self.type and self.indicator not in BY_TYPE:
            raise ValueError(
                f"type cannot be set for the indicator {self.indicator}: it is measured for all"
                f" types together, {' and '.join(BY_TYPE)} by type too"
            )
        return self


class TenantModel(Model):
    """One of `policy.tenants`."""

    weight: int = setting("policy.tenants.TENANT.weight")


class TypeModel(Model):
    """One of `policy.types`: only what is written there overrides what the handler declares."""

    max_attempts: int = setting("policy.types.TYPE.max_attempts")
    backoff_initial_s: float = setting("policy.types.TYPE.backoff_initial_s")
    backoff_factor: float = setting("policy.types.TYPE.backoff_factor")
    backoff_cap_s: float = setting("policy.types.TYPE.backoff_cap_s")
    no_retry: list[Module] = setting("policy.types.TYPE.no_retry")
    attempt_timeout_s: float = setting("policy.types.TYPE.attempt_timeout_s")
    heartbeat_timeout_s: float | None = setting("policy.types.TYPE.heartbeat_timeout_s")
    concurrency: int = setting("policy.types.TYPE.concurrency")
    priority: Literal["critical", "normal", "batch"] = setting("policy.types.TYPE.priority")
    rate_per_s: float | None = setting("policy.types.TYPE.rate_per_s")
    rate_burst: int | None = setting("policy.types.TYPE.rate_burst")
    max_running: int | None = setting("policy.types.TYPE.max_running")


class PolicyModel(Model):
    """`policy`."""

    types: dict[TaskType, TypeModel] = {}
    tenants: dict[Name, TenantModel] = {}


def _check_bus(url: str) -> str:
    if url:
        try:
            parse_bus(url)
        except InvalidRequest as fault:
            raise ValueError(fault.message) from fault
    return url


def _check_store(url: str) -> str:
    if url and not all(importlib.util.find_spec(driver) for driver in ("asyncpg", "pg8000")):
        raise ValueError("drivers for PostgreSQL are missing: pip install 'chimera[postgres]'")
    return url


def _check_archive(url: str) -> str:
    if url and not importlib.util.find_spec("pyarrow"):
        raise ValueError("pyarrow is missing: pip install 'chimera[archive]'")
    return url


class SpecModel(Model):
    """The whole spec."""

    name: Name = setting("name")
    handlers: list[Module] = setting("handlers")
    revision: str = setting("revision")
    data_dir: str = setting("data_dir")
    durability: Literal["os", "fsync"] = setting("durability")
    shards: int = setting("shards")
    regions: list[RegionModel] = [RegionModel()]
    policy: PolicyModel = PolicyModel()
    queue_bound: int = setting("queue_bound")
    retention: RetentionModel = RetentionModel()
    bus: Annotated[str, AfterValidator(_check_bus)] = setting("bus")
    readers: list[Name] = setting("readers")
    store: Annotated[str, AfterValidator(_check_store)] = setting("store")
    registry: str = setting("registry")
    objects: str = setting("objects")
    archive: Annotated[str, AfterValidator(_check_archive)] = setting("archive")
    worker_lease_s: float = setting("worker_lease_s")
    accept_lost_tail: bool = setting("accept_lost_tail")
    payload_max_bytes: int = setting("payload_max_bytes")
    region_timeout_s: float = setting("region_timeout_s")
    slos: list[SloModel] = []
    http: HttpModel | None = None

    @model_validator(mode="after")
    def _whole(self) -> SpecModel:
        if not self.handlers:
            raise ValueError("handlers: name at least one module, or the swarm has nothing to run")
        if not self.regions:
            raise ValueError("regions: there must be at least one")
        if twice := _repeated([region.name for region in self.regions]):
            raise ValueError(f"regions: {twice!r} is there twice")
        if twice := _repeated([slo.name for slo in self.slos]):
            raise ValueError(f"slos: {twice!r} is there twice")
        if len(self.slos) > SLOS_MAX:
            raise ValueError(f"slos: {SLOS_MAX} at most, not {len(self.slos)}")
        if len(self.regions) > self.shards:
            raise ValueError(f"shards: {len(self.regions)} regions need at least one each")
        return self

    def written(self) -> dict[str, Any]:
        """As data; of types only what was written."""
        found = self.model_dump()
        types = {
            name: one.model_dump(exclude_unset=True) for name, one in self.policy.types.items()
        }
        return {**found, "policy": {**found["policy"], "types": types}}


def _repeated(words: list[str]) -> str | None:
    return next((word for word in words if words.count(word) > 1), None)
