"""What tiers tell and order each other: plain data, carried by Ray between our own actors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chimera.swarm.policy import TaskPolicy
from chimera.swarm.slo import SloReport


@dataclass(frozen=True, slots=True)
class Owner:
    """One incarnation of one process: what must match before it may be killed (P3)."""

    name: str  #: the actor's name
    boot_id: str  #: of the machine's kernel
    pid_ns: int  #: inode of the pid namespace
    pid: int
    start_ticks: int  #: field 22 of /proc/PID/stat
    node_id: str  #: Ray's node
    generation: int = 0  #: of the spec that gave it the shard, where it is a journal's owner


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker, as its leader reports it."""

    name: str
    process: Owner
    handle: Any  #: Ray's actor handle: a takeover needs no look-up in the GCS (P6)
    revision: str = ""  #: of what it was born with


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard, as its owner reports it."""

    shard: int
    epoch: int
    state: str  #: `taking`, `serving`, `draining` or `lost_tail`
    open: int  #: tasks accepted and not settled


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One task of those that were measured, by which the others are to be understood."""

    trace_id: str
    seconds: float
    at: int  #: Unix ms


@dataclass(frozen=True, slots=True)
class LeaderReport:
    """What a leader answers to its coordinator's watch: heartbeat and status in one."""

    leader: str
    process: Owner
    generation: int  #: of the configuration it works by
    ready: bool  #: has at least one worker that loaded its handlers
    shards: tuple[ShardInfo, ...]
    workers: tuple[WorkerInfo, ...]
    #: counters since this incarnation began, only growing: `accepted`, `succeeded`, `failed`,
    #: `cancelled`, `expired`, `retried`, `worker_deaths`, `fenced`, `takeovers`, `lost_tails`,
    #: `started`, `duplicates`, …; outcomes, starts and retries also by task type:
    #: `succeeded/TYPE`, and these and what was accepted by class and type: `succeeded@CLASS/TYPE`
    counters: dict[str, int]
    #: faults a person should see, newest last, e.g. a module of handlers that cannot be loaded
    faults: tuple[str, ...] = ()
    lag_ms: float = 0.0  #: how late its own loop runs
    incarnation: int = 0  #: of the leader: grows from one to the next; counters begin anew with it
    number: int = 0  #: of this report in its incarnation, from 1
    #: sketches (chimera.swarm.sketch) of what tasks took, by what was measured: `run`,
    #: `queue` (to dispatch) and `total` (to the outcome), both from the acceptance here; `run`
    #: also by task type: `run/TYPE`, `queue` by priority class: `queue/CLASS`; and `takeover`, of
    #: shards: from the order until served
    latency: dict[str, bytes] = field(default_factory=dict)
    revision: str = ""  #: of what it makes workers with
    worker_target: int = 0  #: workers that it wants to have now
    #: records of commands that wait on the broker, by shard of its own, as far as it knows
    waiting: dict[int, int] = field(default_factory=dict)
    oldest_s: float = 0.0  #: how long the oldest of the tasks that could be started has waited
    #: workers by what they do: `starting`, `idle`, `busy` or `leaving`
    slots: dict[str, int] = field(default_factory=dict)
    #: the last traced task, by what was measured of it, as in `latency`
    exemplars: dict[str, Exemplar] = field(default_factory=dict)
    #: of `workers`: another number in the incarnation with each change of them; 0: not numbered
    roster: int = 0
    brief: bool = False  #: `workers` is left out: who asked has the roster (chimera.swarm.rosters)
    brand: str = ""  #: names of workers that this incarnation made begin with it and a hyphen
    store_faults: tuple[str, ...] = ()  #: those of `faults` by which a journal cannot be written


@dataclass(frozen=True, slots=True)
class Reading:
    """All that an incarnation of a leader had counted when it reported for the `number`th time."""

    leader: str
    incarnation: int
    number: int
    counters: dict[str, int]
    latency: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class TakeOrder:
    """Take this shard over (P2): a hint, to be checked against the journal."""

    term: int  #: of the coordinator that orders it
    shard: int
    epoch: int  #: what the coordinator believes the journal holds; 0: never owned
    #: workers of the former owner: ask each what it holds and runs
    former_workers: tuple[WorkerInfo, ...] = ()
    #: names of those that this leader shall keep as its own from now on (P6)
    adopt: tuple[str, ...] = ()
    generation: int = 0  #: of the spec that gives the region the shard


@dataclass(frozen=True, slots=True)
class LeaderConfig:
    """What a leader works by; stamped with the spec's generation."""

    swarm: str
    region: str
    generation: int
    data_dir: str  #: holds the journals and the local object store
    fsync: bool
    handlers: tuple[str, ...]
    workers: int  #: workers this leader keeps, at least
    worker_lease_s: float
    queue_bound: int  #: tasks a shard accepts and has not settled, at most
    objects_url: str
    outcome_retention_s: float
    idempotency_retention_s: float
    resend_window_s: float
    accept_lost_tail: bool  #: go on after a journal lost acknowledged commits, with fsync on
    shards: int  #: size of the swarm's ring of shards; limits are divided by it
    #: overrides of policies by task type, on top of what the handlers declare
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    tenant_weights: dict[str, int] = field(default_factory=dict)
    workers_max: int = 0  #: workers this leader keeps, at most; below `workers`: just those
    grow_wait_s: float = 1.0  #: work that would wait for longer makes the pool grow
    shrink_after_s: float = 30.0  #: a worker too many is let go after so long
    revision: str = ""  #: of what workers are born with: those of another one are replaced
    paused_types: tuple[str, ...] = ()  #: task types of which none is started
    paused_tenants: tuple[str, ...] = ()  #: likewise
    drained: tuple[str, ...] = ()  #: workers that are to finish and go, among other names
    bus: str = ""  #: URL of the broker through which tasks come in; empty: there is none
    readers: tuple[str, ...] = ()  #: groups outside that read its events
    registry: str = ""  #: URL of the schema registry; empty: the swarm's own
    payload_max_bytes: int = 16 * 1024 * 1024  #: larger payloads are refused
    store: str = ""  #: URL of the database that holds the journals; empty: files in `data_dir`

    archive: str = ""  #: URL of where settled tasks go as Parquet files; empty: nowhere

    @property
    def synced(self) -> bool:
        """Whether what is acknowledged survives power loss; it always does in a database."""
        return self.fsync or bool(self.store)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is created with."""

    name: str
    swarm: str
    region: str
    leader: str  #: name of the leader that makes it, its first own leader
    leader_handle: Any  #: Ray's actor handle of it
    handlers: tuple[str, ...]  #: modules
    data_dir: str
    board: str  #: path of the board it is to keep; empty: none
    lease_s: float  #: without a word from its own leader for so long, it exits
    objects_url: str
    #: overrides of policies by task type, on top of what the handlers declare
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    revision: str = ""  #: names all of the above that a change of the spec may touch


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a worker says of a dispatch that is over, beside the outcomes."""

    dispatch: int
    #: (shard, position, count) not run because a newer owner of the shard spoke, or the sender is
    #: not the worker's leader any more
    refused: tuple[tuple[int, int, int], ...]
    #: (shard, position, count) not run because they were taken back; without those that `collect`
    #: has named already
    returned: tuple[tuple[int, int, int], ...]
    busy_us: int  #: from the first task's start to the last one's end
    tasks: int  #: tasks that were run


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker's first word: who it is and what it can run."""

    worker: str
    process: Owner
    board: str  #: path of its board (see actors/board.py); empty if it is on another node
    policies: tuple[TaskPolicy, ...]
    revision: str = ""  #: of its configuration


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker has of a shard, told to the shard's new owner (P5, P6)."""

    replies: tuple[bytes, ...]  #: bundles of outcome frames not known to be recorded
    #: (position, count) in hand: they will be among the replies of a later answer
    running: tuple[tuple[int, int], ...]
    policies: tuple[TaskPolicy, ...] = ()  #: of the types that it runs


@dataclass(frozen=True, slots=True)
class Collected:
    """What a worker has finished of the dispatch in hand, and what it gave back."""

    replies: tuple[bytes, ...]
    #: (shard, position, count) given back unbegun; the worker will not run them
    returned: tuple[tuple[int, int, int], ...]
    #: (shard, position) of tasks in hand
    running: tuple[tuple[int, int], ...]
    #: the highest dispatch that has begun; those above it, up to the mark, will run nothing
    begun: int


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What a parent says of a child; the child's report says what it was like when it spoke."""

    state: str  #: where it is in its life, e.g. `up`, `missing` or `condemned`
    holds: bool  #: whether its last report is to be relied on
    faults: tuple[str, ...] = ()  #: why it is not as it should be
    age_s: float | None = None  #: of its last report; None: there is none, or it is not told


@dataclass(frozen=True, slots=True)
class RegionReport:
    """What a coordinator tells the orchestrator and anyone who asks for status."""

    coordinator: str
    region: str
    term: int
    process: Owner
    generation: int
    ready: bool  #: every shard is being served
    leaders: tuple[LeaderReport, ...]
    placement: dict[int, str]  #: shard → leader
    failovers: int
    faults: tuple[str, ...] = ()  #: of the coordinator, and what it has to say of its leaders
    #: what its leaders counted, dead ones too: read it through chimera.swarm.merge
    tally: tuple[Reading, ...] = ()
    own_faults: tuple[str, ...] = ()  #: those of `faults` that are the coordinator's own
    children: dict[str, ChildInfo] = field(default_factory=dict)  #: its leaders, by name


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """What a coordinator is created with; `configure` later changes spec and generation."""

    swarm: str
    region: str
    data_dir: str  #: holds its own store, and the journals of its leaders
    spec: dict[str, Any]  #: of the whole swarm
    generation: int  #: of the spec
    orchestrator: str  #: name of the actor that may order it about
    #: HOST:PORT at which it listens for an orchestrator in another Ray cluster; empty: it has one
    #: in its own
    listen: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Who has which shard: a hint (P2), for clients."""

    term: int  #: of the coordinator that says so; of several, the sum
    shards: dict[int, str]  #: shard → name of its leader; a shard nobody has is missing
    handles: dict[str, Any]  #: leader → Ray's actor handle
    #: size of the ring: keys are hashed by it, whoever has which shard just now; 0: not known
    ring: int = 0
    #: where payloads and results over the inline limit are kept (chimera/store/blobs.py)
    objects_url: str = ""
    payload_max_bytes: int = 16 * 1024 * 1024  #: larger payloads are refused
    bus: str = ""  #: URL of the broker through which tasks come in; empty: there is none
    registry: str = ""  #: URL of the schema registry; empty: the swarm's own
    #: shard → epoch, as its owner said: of two that claim a shard the higher one has it
    epochs: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrchestratorPulse:
    """What the orchestrator answers to a coordinator's watch (P19)."""

    term: int
    process: Owner  #: to end it by, if it falls silent


@dataclass(frozen=True, slots=True)
class OrchestratorConfig:
    """What an orchestrator is created with; what it stored since comes before it."""

    swarm: str
    data_dir: str  #: holds the control store
    spec: dict[str, Any]  #: to be applied, unless `order` was carried out before
    order: str  #: names this wish to have the spec; drawn anew each time


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds of a part of the swarm, or does not."""

    #: the actor's name; `orchestrator` for the swarm as a whole; `slo/NAME` for an objective
    subject: str
    type: str  #: `Ready`, `Reconciled`, `Degraded`, `Paused`, `Draining` or `SloMet`
    status: str  #: `True`, `False` or `Unknown`
    reason: str  #: one word, for programs
    message: str = ""  #: for people
    since: int = 0  #: when `status` changed last, Unix ms; of this incarnation at most


@dataclass(frozen=True, slots=True)
class SwarmStatus:
    """What is observed of a swarm, beside what is declared."""

    swarm: str
    uuid: str  #: of the store, and so of everything the swarm remembers
    term: int  #: of the orchestrator
    process: Owner  #: of the orchestrator
    generation: int  #: of the spec
    spec: dict[str, Any]
    summary: str  #: of the spec, one line
    regions: dict[str, RegionReport]  #: those that were heard
    ready: bool  #: every shard is being served, by the newest spec
    since: int  #: since when `ready` is what it is, Unix ms; of this incarnation at most
    waiting_for: str  #: what is missing for `ready`; empty: nothing
    stopping: bool
    faults: tuple[str, ...] = ()  #: what a person should see
    #: the newest generation that every coordinator and leader works by; 0: not all were heard
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    #: what is yet to be done for it to be as declared, in words; empty: it is
    pending: tuple[str, ...] = ()
    slos: tuple[SloReport, ...] = ()  #: in the order of the spec
    own_faults: tuple[str, ...] = ()  #: those of `faults` that are the orchestrator's own
    children: dict[str, ChildInfo] = field(default_factory=dict)  #: coordinators, by name

    def processes(self) -> tuple[Owner, ...]:
        """Every process that was heard of: coordinators first, workers last."""
        reports = self.regions.values()
        leaders = [leader for report in reports for leader in report.leaders]
        return (
            *(report.process for report in reports),
            *(leader.process for leader in leaders),
            *(worker.process for leader in leaders for worker in leader.workers),
        )
