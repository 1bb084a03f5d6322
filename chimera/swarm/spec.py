"""The declared state of a swarm as plain data: what follows from it, and how two of them differ.

Parsing and checking what a person wrote is chimera.config's; here everything is well-formed. A spec
that an older version stored lacks settings that came later: they take their defaults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from chimera import names
from chimera.errors import SpecError
from chimera.swarm.coordinator.plan import RegionPlan
from chimera.swarm.policy import CLASSES
from chimera.swarm.reports import LeaderConfig
from chimera.swarm.slo import SloSpec

DAY_S = 24 * 3600.0


class RegionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A coordinator with its leaders."""

    name: str = "local"
    leaders: int = 2
    workers: int = 1  #: of each leader, at least
    workers_max: int = 0  #: of each leader, at most; 0: as many as `workers`
    grow_wait_s: float = 1.0  #: work that would wait for longer makes a leader's pool grow
    shrink_after_s: float = 30.0  #: a worker too many is let go after so long
    #: what its node in the orchestrator's Ray cluster must be labelled with; empty: that node
    labels: dict[str, str] = {}
    #: HOST:PORT of its coordinator's link, if it is in a Ray cluster of its own
    link: str = ""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long what is known of ended tasks is kept."""

    outcomes_s: float = 7 * DAY_S
    idempotency_s: float = DAY_S
    resend_s: float = DAY_S


class TenantSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant is given."""

    weight: int = 1


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Rules by task type and tenant, over what the handlers declare."""

    #: task type → fields of TaskPolicy, `priority` by its name
    types: dict[str, dict[str, Any]] = {}
    tenants: dict[str, TenantSpec] = {}


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """What operators ordered of the living swarm, beside what its spec's file declares."""

    drained: tuple[str, ...] = ()  #: leaders, workers, and regions by their coordinators' names
    paused_types: tuple[str, ...] = ()
    paused_tenants: tuple[str, ...] = ()
    #: shard → region that has it, where that is not the one of its birth; empty: none just now
    homes: dict[str, str] = {}


class HttpSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the HTTP gateway listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """The declared state. What each setting means: docs/defaults.md."""

    name: str = "local"
    handlers: tuple[str, ...]
    revision: str = ""  #: of the handlers' code: another one has the workers replaced
    data_dir: str  #: absolute
    durability: Literal["os", "fsync"] = "os"
    shards: int = 8
    regions: tuple[RegionSpec, ...] = (RegionSpec(),)
    policy: PolicySpec = PolicySpec()
    queue_bound: int = 500_000
    retention: Retention = Retention()
    bus: str = ""  #: URL of the broker through which tasks come in; empty: there is none
    readers: tuple[str, ...] = ()  #: groups outside that read the events on the broker
    #: URL of the PostgreSQL database that holds journals and control stores; empty: files in
    #: `data_dir`
    store: str = ""
    registry: str = ""  #: URL of the schema registry; empty: the swarm's own
    objects: str  #: URL of where large payloads and results are kept
    archive: str = ""  #: URL of where settled tasks are kept as Parquet files; empty: nowhere
    worker_lease_s: float = 30.0
    accept_lost_tail: bool = False
    payload_max_bytes: int = 16 * 1024 * 1024
    operations: Operations = Operations()  #: no setting: see chimera.swarm.orders
    http: HttpSpec | None = None  #: None: there is no gateway
    slos: tuple[SloSpec, ...] = ()
    region_timeout_s: float = 5.0  #: a region of which nothing is heard for so long is lost

    def region(self, name: str) -> RegionSpec:
        """The region of that name. Raises SpecError."""
        for region in self.regions:
            if region.name == name:
                return region
        raise SpecError(f"the spec has no region {name!r}", key="regions")


#: what journals and actors were born with: a change would strand what they hold
FIXED = ("name", "data_dir", "shards", "bus", "store")


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs between two specs."""

    key: str  #: with dots, e.g. `regions.local.workers`
    old: Any  #: None: there was none
    new: Any  #: None: there is none


def to_dict(spec: Spec) -> dict[str, Any]:
    """The spec as JSON-like data."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    return found


def from_dict(body: Mapping[str, Any]) -> Spec:
    """The spec that `to_dict` described. Raises SpecError."""
    try:
        return msgspec.convert(dict(body), Spec)
    except msgspec.ValidationError as fault:
        raise SpecError(f"malformed spec: {fault}") from fault


def shown(value: Any) -> Any:
    """A setting, or many, as a person may see it: passwords of URLs are left out."""
    if isinstance(value, str):
        scheme, mark, rest = value.partition("://")
        place, slash, path = rest.partition("/")
        login, at, hosts = place.rpartition("@")
        user, colon, _ = login.partition(":")
        return f"{scheme}{mark}{user}:***{at}{hosts}{slash}{path}" if colon and at else value
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    return value


def changes(old: Spec, new: Spec) -> tuple[Change, ...]:
    """Every setting that differs, by key; without passwords."""
    before, after = _flat(to_dict(old)), _flat(to_dict(new))
    return tuple(
        Change(key, shown(before.get(key)), shown(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def carried_over(old: Spec, new: Spec) -> Spec:
    """The new spec with what operators ordered of the old one, as far as it still has that."""
    leaders = {(region.name, region.leaders) for region in new.regions}
    found = tuple(
        name
        for name in old.operations.drained
        if names.tier(name) != "leader"
        or any(name == names.leader(region, i) for region, n in leaders for i in range(n))
    )
    return msgspec.structs.replace(
        new, operations=msgspec.structs.replace(old.operations, drained=found)
    )


def check_change(old: Spec, new: Spec) -> None:
    """Raise SpecError if a living swarm cannot go from one to the other."""
    for key in FIXED:
        was, is_ = shown(getattr(old, key)), shown(getattr(new, key))
        if was != is_:
            raise SpecError(
                f"{key} is fixed when a swarm is made: it is {was!r} and cannot become {is_!r}",
                key=key,
            )
    was, is_ = ([region.name for region in spec.regions] for spec in (old, new))
    if was != is_:
        raise SpecError(
            f"regions are fixed when a swarm is made, as each holds journals: they are"
            f" {', '.join(was)} and cannot become {', '.join(is_)}",
            key="regions",
        )
    for region in new.regions:
        if all(
            names.leader(region.name, i) in new.operations.drained for i in range(region.leaders)
        ):
            raise SpecError(
                f"every leader that region {region.name} would have left is drained:"
                " end a drain first, or declare more leaders",
                key=f"regions.{region.name}.leaders",
            )


def region_shards(spec: Spec, region: str) -> tuple[int, ...]:
    """Those shards of the ring that the region serves."""
    spec.region(region)
    return tuple(shard for shard in range(spec.shards) if home(spec, shard) == region)


def birthplace(spec: Spec, shard: int) -> str:
    """The region that a shard was made in: dealt out in the order of regions."""
    return spec.regions[shard % len(spec.regions)].name


def home(spec: Spec, shard: int) -> str:
    """The region that has a shard now; empty: none, it is on its way."""
    return spec.operations.homes.get(str(shard), birthplace(spec, shard))


def is_drained(spec: Spec, region: str) -> bool:
    """Whether a region is to hand its shards over."""
    return names.coordinator(region) in spec.operations.drained


def is_shared(spec: Spec) -> bool:
    """Whether every region can open every journal: only the epochs say whose a shard is."""
    return spec.store.startswith("postgresql")


def is_apart(spec: Spec, region: RegionSpec) -> bool:
    """Whether a region's journals may be on another machine: then no other region can open them."""
    return not is_shared(spec) and bool(region.link or region.labels)


def can_host(spec: Spec, region: RegionSpec) -> bool:
    """Whether a region can be given the shards of another one."""
    return not is_apart(spec, region) and not is_drained(spec, region.name)


def capacity(region: RegionSpec) -> int:
    """Workers that a region may grow to: declared, so that load does not change it."""
    return region.leaders * max(region.workers, region.workers_max)


def type_policies(spec: Spec) -> dict[str, dict[str, Any]]:
    """Overrides by task type, as fields of TaskPolicy."""
    found = {}
    for task_type, rules in spec.policy.types.items():
        fields = dict(rules)
        if "priority" in fields:
            fields["priority"] = CLASSES.index(fields["priority"])
        if "no_retry" in fields:
            fields["no_retry"] = tuple(fields["no_retry"])
        found[task_type] = fields
    return found


def leader_config(spec: Spec, region: str, generation: int) -> LeaderConfig:
    """What every leader of a region works by."""
    found = spec.region(region)
    return LeaderConfig(
        swarm=spec.name,
        region=region,
        generation=generation,
        data_dir=spec.data_dir,
        fsync=spec.durability == "fsync",
        handlers=spec.handlers,
        workers=found.workers,
        workers_max=max(found.workers, found.workers_max),
        grow_wait_s=found.grow_wait_s,
        shrink_after_s=found.shrink_after_s,
        revision=worker_revision(spec),
        worker_lease_s=spec.worker_lease_s,
        queue_bound=spec.queue_bound,
        objects_url=spec.objects,
        outcome_retention_s=spec.retention.outcomes_s,
        idempotency_retention_s=spec.retention.idempotency_s,
        resend_window_s=spec.retention.resend_s,
        accept_lost_tail=spec.accept_lost_tail,
        shards=spec.shards,
        policies=type_policies(spec),
        tenant_weights={name: tenant.weight for name, tenant in spec.policy.tenants.items()},
        paused_types=spec.operations.paused_types,
        paused_tenants=spec.operations.paused_tenants,
        drained=spec.operations.drained,
        bus=spec.bus,
        store=spec.store,
        archive=spec.archive,
        readers=spec.readers,
        registry=spec.registry,
        payload_max_bytes=spec.payload_max_bytes,
    )


def worker_revision(spec: Spec) -> str:
    """Names all that a worker is born with: one of another revision is to be replaced."""
    born_with = (
        spec.handlers, spec.revision, spec.objects, spec.worker_lease_s, type_policies(spec),
    )  # fmt: skip
    text = msgspec.json.encode(born_with, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:12]


def region_plan(spec: Spec, region: str, generation: int) -> RegionPlan:
    """What the region's coordinator is to bring about."""
    return RegionPlan(
        region=region,
        generation=generation,
        shards=region_shards(spec, region),
        leaders=spec.region(region).leaders,
        template=leader_config(spec, region, generation),
        drained=spec.operations.drained,
    )


def summary(spec: Spec) -> str:
    """The spec in one line."""
    regions = ", ".join(f"{r.name} {r.leaders} x {r.workers}" for r in spec.regions)
    handlers = ", ".join(spec.handlers)
    return f"{spec.name}: {spec.shards} shards, {spec.durability}; {regions}; {handlers}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        items = {one["name"]: one for one in value}.items()
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, one in items:
        found |= _flat(one, f"{prefix}.{key}" if prefix else key)
    return found
