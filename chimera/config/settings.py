"""Every setting with its default, unit, bounds and reason, in one table.

The values of defaults stand where they are used, in chimera.swarm.spec and chimera.swarm.policy;
the models of a spec, and docs/defaults.md, are made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import Field

from chimera.swarm import spec as specs
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.slo import SloSpec

#: no default: it must be set
REQUIRED: Any = msgspec.NODEFAULT

_YEAR_S = 365 * specs.DAY_S
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    key: str  #: as it is written in a spec, or the name of a variable
    default: Any  #: REQUIRED, or the value
    reason: str
    unit: str = ""
    low: float | None = None  #: the least it may be
    high: float | None = None  #: the most it may be
    pattern: str | None = None  #: what a text must match
    is_name: bool = False  #: must be what chimera.names.check lets pass
    shown: str = ""  #: the default in words, where the value says too little


def _of(owner: type[msgspec.Struct], prefix: str = "") -> Any:
    """Makes rows for the fields of a struct, with the defaults that stand there."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(owner)}

    def row(name: str, reason: str, unit: str = "", low: Any = None, high: Any = None,
            **more: Any) -> Setting:  # fmt: skip
        default = more.pop("default", defaults[name])
        return Setting(prefix + name, default, reason, unit, low, high, **more)

    return row


_s = _of(specs.Spec)
_r = _of(specs.RegionSpec, "regions[].")
_t = _of(specs.Retention, "retention.")
_h = _of(specs.HttpSpec, "http.")
_w = _of(specs.TenantSpec, "policy.tenants.TENANT.")
_o = _of(SloSpec, "slos[].")
_p = _of(TaskPolicy, "policy.types.TYPE.")

_SPEC = (
    _s("name", "names the swarm, its Ray namespace and its data directory", is_name=True),
    _s("handlers", "modules whose tasks the workers run; there is nothing to do without one"),
    _s("revision", "of the handlers' code, e.g. a release: another one has the workers replaced, "
       "one at a time, though the modules' names are the same", shown="none"),
    _s("data_dir", "journals must outlive a reboot, so that a temporary directory will not do",
       default="", shown="`~/.chimera/NAME`, or below `CHIMERA_DATA_DIR`"),
    _s("durability", "`os`: an accepted task survives the death of every process; `fsync`: power "
       "loss too, for the price of a disk flush a commit"),
    _s("shards", "the ring is fixed when the swarm is made; enough to spread over more leaders "
       "later, few enough for one machine's disk", "shards", 1, 1024),
    _r("name", "names the region and its coordinator", is_name=True),
    _r("leaders", "with two, one takes over while the other is made again", "leaders", 1, 100),
    _r("workers", "one process a core is right for handlers that compute", "workers a leader",
       1, 1000),
    _r("workers_max", "over `workers`, a leader's pool grows with what waits and shrinks again",
       "workers a leader", 0, 1000, shown="as `workers`"),
    _r("grow_wait_s", "work that would wait for longer makes the pool grow; below the time that a "
       "worker takes to start, growing comes too late anyway", "s", 0.05, 3600),
    _r("shrink_after_s", "a worker is cheap to keep and takes a second or two to start: the pool "
       "shrinks to what was needed at most in so long", "s", 1, 86400),
    _r("labels", "Ray labels of the nodes that the region's coordinator, and with it its leaders "
       "and journals, may live on", default={}, shown="the orchestrator's node"),
    _r("link", "`HOST:PORT` of the region's coordinator, if it is in a Ray cluster of its own; on "
       "loopback, as links have no authentication yet", shown="none"),
    _s("region_timeout_s", "longer than a coordinator or a node takes to come back; no task waits "
       "for it: new work goes elsewhere at once", "s", 1, 3600),
    _s("queue_bound", "past it, submit answers Overloaded: a backlog must not fill the disk "
       "unnoticed", "open tasks a shard", 1, 100_000_000),
    _t("outcomes_s", "long enough to look into what went wrong last week", "s", 60, 10 * _YEAR_S),
    _t("idempotency_s", "clients retry for hours at most; not longer than outcomes", "s", 60,
       10 * _YEAR_S),
    _t("resend_s", "a frame sent again within half of it is recognised, an older one refused",
       "s", 60, _YEAR_S),
    _s("bus", "tasks come in through a broker when there is one, and events go out: `kafka://`, "
       "`kafka+ssl://`, `amqp://` or `amqps://`; without it clients ask the leaders", shown="none"),
    _s("readers", "groups outside that read the swarm's events: RabbitMQ keeps events for each of "
       "them", default=(), shown="`outside`"),
    _s("store", "journals and control stores are files on the machine, unless a PostgreSQL "
       "database, which all machines reach, has them: `postgresql://USER@HOST/DATABASE`; the "
       "password stands there, or in `PGPASSWORD`", shown="files in the data directory",
       pattern=r"^(postgresql://.+)?$"),
    _s("registry", "the swarm serves its own below `/registry`; a URL names another one that "
       "speaks Confluent's REST API", shown="its own", pattern=r"^(https?://.+)?$"),
    _s("objects", "payloads and results over 64 KiB stay out of the journals", default="",
       shown="`objects` in the data directory", pattern=r"^([a-z][a-z0-9+.-]*://.+)?$"),
    _s("archive", "settled tasks go there as Parquet files before they are swept: a URL as for "
       "`objects`; pandas, DuckDB and Polars read them", shown="none",
       pattern=r"^([a-z][a-z0-9+.-]*://.+)?$"),
    _s("worker_lease_s", "a worker that hears from no leader for so long exits and its unrecorded "
       "work runs again: well above any failover", "s", 5, 3600),
    _s("accept_lost_tail", "with `fsync`, a shard whose disk lost acknowledged commits waits for a "
       "person, who says here to go on without them"),
    _s("payload_max_bytes", "what is larger belongs into a file or an object store of your own",
       "bytes", 1, 1024 * _MIB),
    _h("host", "loopback only, as the gateway has no authentication yet; without `http` there "
       "is no gateway"),
    _h("port", "the port that Ray Serve has by default", "", 1, 65535),
    _h("replicas", "one serves what two cores can; two let one be replaced under load", "replicas",
       1, 100),
    _o("name", "names the objective in `chimera status` and in metrics", is_name=True),
    _o("indicator", "which tasks are good: those that ended well (`success`), or that took no "
       "longer than `within_s` to their dispatch (`queue`), in their handler (`run`), or to a "
       "result (`total`)"),
    _o("objective", "the share of tasks that shall be good; 1 would leave no error budget", "share",
       0.5, 0.999999),
    _o("within_s", "must be set, but for `success`; measured within 1 %", "s", 0.001,
       30 * specs.DAY_S, shown="none"),
    _o("window_s", "slides, in 60 steps; short enough that a fault of last week is forgiven, and "
       "an orchestrator that is made again begins it anew", "s", 60, 30 * specs.DAY_S),
    _o("type", "tasks of this type only; leaders measure `success` and `run` by type",
       shown="of every type"),
    _w("weight", "all tenants are equal until told otherwise", "share", 1, 1000),
)  # fmt: skip

_POLICY = (
    _p("max_attempts", "transient faults pass within a few attempts; more hide real ones",
       "attempts", 1, 1000),
    _p("backoff_initial_s", "most transient faults are over in a moment", "s", 0, 3600),
    _p("backoff_factor", "each wait may be twice as long, so that a sick service gets rest", "",
       1, 100),
    _p("backoff_cap_s", "a service that is back should not wait for its tasks", "s", 0, 86400),
    _p("no_retry", "names of exceptions that another attempt cannot help", shown="none"),
    _p("attempt_timeout_s", "a hung handler must not hold its worker for ever", "s", 0.001,
       30 * specs.DAY_S),
    _p("heartbeat_timeout_s", "only handlers that call `ctx.heartbeat()` can be held to it", "s",
       0.1, specs.DAY_S, shown="none"),
    _p("concurrency", "handlers that compute gain nothing; async ones get 32 from the decorator",
       "tasks a worker", 1, 10_000),
    _p("priority", "`critical`, `normal` or `batch`", shown="`normal`"),
    _p("rate_per_s", "no limit until told otherwise", "tasks/s in the swarm", 1e-6, 1e9,
       shown="none"),
    _p("rate_burst", "after a quiet time, one second's worth at once", "tasks", 1, 1e9,
       shown="one second's worth"),
    _p("max_running", "no limit until told otherwise", "tasks in the swarm", 1, 1e9,
       shown="none"),
)  # fmt: skip

_ENVIRONMENT = (
    Setting("CHIMERA_ADDRESS", "", "Ray's address, as `ray.init` takes it",
            shown="the Ray of this machine"),
    Setting("CHIMERA_SWARM", "local", "the swarm that clients and commands mean", is_name=True),
    Setting("CHIMERA_TENANT", "default", "the tenant that clients submit for", is_name=True),
    Setting("CHIMERA_DATA_DIR", "", "holds one directory a swarm, for specs that name none",
            shown="`~/.chimera`"),
)  # fmt: skip

#: of the command line, which reads them itself
_COMMANDS = (
    Setting("CHIMERA_URL", "", "a gateway that commands ask, in place of Ray", shown="none"),
    Setting("CHIMERA_REGISTRY", "", "the schema registry that `chimera registry` asks",
            shown="the gateway's own, `http://127.0.0.1:8000/registry`"),
    Setting("CHIMERA_CONFIG", "", "the file that keeps contexts",
            shown="`chimera/config.json` where the user's settings are"),
)  # fmt: skip

SETTINGS = {row.key: row for row in (*_SPEC, *_POLICY, *_ENVIRONMENT)}


def setting(key: str) -> Any:
    """The row as a field of a pydantic model."""
    row = SETTINGS[key]
    limits: dict[str, Any] = {"ge": row.low, "le": row.high, "pattern": row.pattern}
    described = {"description": row.reason, **{k: v for k, v in limits.items() if v is not None}}
    if row.default is REQUIRED:
        return Field(**described)
    if isinstance(row.default, tuple):
        return Field(default_factory=lambda: list(row.default), **described)
    return Field(default=row.default, **described)


def defaults_table() -> str:
    """docs/defaults.md."""
    return "\n".join(
        (
            "# Settings and their defaults",
            "",
            "Made by `chimera.config.defaults_table`; a test holds it equal to the code.",
            "",
            "## The spec",
            "",
            *_rows(_SPEC),
            "",
            "## Rules of a task type",
            "",
            "A handler's decorator may say otherwise; `policy.types` of the spec overrides both.",
            "",
            *_rows(_POLICY),
            "",
            "## The environment",
            "",
            "Read once, when a program first needs one of them.",
            "",
            *_rows((*_ENVIRONMENT, *_COMMANDS)),
            "",
            "## The gateway",
            "",
            "What a request over HTTP may be, and how long it may take: [http.md](http.md#limits).",
            "",
        )
    )


def _rows(settings: Iterable[Setting]) -> Iterable[str]:
    yield "| setting | default | unit | bounds | why |"
    yield "| --- | --- | --- | --- | --- |"
    for row in settings:
        yield f"| `{row.key}` | {_shown(row)} | {row.unit} | {_bounds(row)} | {row.reason} |"


def _shown(row: Setting) -> str:
    if row.shown:
        return row.shown
    if row.default is REQUIRED:
        return "must be set"
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    if isinstance(row.default, (int, float)):
        return f"{row.default:,.10g}".replace(",", " ")
    return f"`{row.default}`"


def _bounds(row: Setting) -> str:
    if row.is_name:
        return "a name"
    if row.low is None or row.high is None:
        return ""
    return f"{row.low:,.10g} – {row.high:,.10g}".replace(",", " ")
