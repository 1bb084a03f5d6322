"""Everything that a coordinator's machine asks for.

What changes the world is an `Act`, and comes only inside a `Persist`: the shell cannot do it before
placement and audit are durable (P19).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chimera.swarm.reports import LeaderConfig, Owner, TakeOrder, WorkerInfo


@dataclass(frozen=True, slots=True)
class Make:
    """Make a leader and watch it. `Pulse`, `MakeFailed` or `Lost` follows."""

    leader: str
    serial: int
    config: LeaderConfig


@dataclass(frozen=True, slots=True)
class Take:
    """Order a leader to take a shard. `TakeAnswered` follows."""

    leader: str
    serial: int
    order: TakeOrder


@dataclass(frozen=True, slots=True)
class Release:
    """Order a leader to drain and close a shard."""

    leader: str
    serial: int
    term: int
    shard: int
    #: let what runs of it finish first: its next owner will not know whom to ask for that
    finish: bool = False


@dataclass(frozen=True, slots=True)
class Configure:
    """Give a leader its configuration."""

    leader: str
    serial: int
    config: LeaderConfig


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a leader go: it has no shards. `Lost` follows."""

    leader: str
    serial: int


@dataclass(frozen=True, slots=True)
class End:
    """End a leader's process that does not answer. `Lost` follows, if it lived."""

    leader: str
    serial: int
    process: Owner | None  #: None: never heard of; end it by its handle


@dataclass(frozen=True, slots=True)
class Reap:
    """End a worker that nobody owns. `Reaped` follows."""

    worker: WorkerInfo


Act = Make | Take | Release | Configure | Retire | End | Reap


@dataclass(frozen=True, slots=True)
class Audit:
    """One control action, for the audit log."""

    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seat:
    """Who is believed to have a shard, at which epoch: what a new incarnation starts from."""

    shard: int
    leader: str  #: empty: nobody
    epoch: int


@dataclass(frozen=True, slots=True)
class Persist:
    """Make this durable in one transaction, and do `then` after it, in order."""

    placement: tuple[Seat, ...]  #: all shards, or empty if unchanged
    audit: tuple[Audit, ...]
    then: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """Find out who lives. `Surveyed` follows, unless nobody can be asked."""

    #: leaders whose workers are asked for even if a leader of that name lives
    makers: tuple[str, ...] = ()
    #: brands of workers that are not asked for: their leaders live (`LeaderReport.brand`)
    living: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attach:
    """Watch a leader that lives already. `Pulse` or `Lost` follows."""

    leader: str
    serial: int


@dataclass(frozen=True, slots=True)
class Look:
    """Look at a suspect's process. `Looked` follows."""

    leader: str
    serial: int
    process: Owner


@dataclass(frozen=True, slots=True)
class StepDown:
    """End this coordinator's process: a newer one is at work."""

    reason: str


Effect = Persist | Survey | Attach | Look | StepDown
