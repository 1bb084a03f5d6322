"""Everything that an orchestrator's machine asks for.

What a person asked for, and what makes or ends a process, comes only inside a `Persist`: the shell
cannot do it before it is durable and audited (G9).
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.errors import ChimeraError
from chimera.swarm.coordinator.effects import Audit
from chimera.swarm.orders import Ordered
from chimera.swarm.reports import Owner
from chimera.swarm.spec import Spec


@dataclass(frozen=True, slots=True)
class Make:
    """Make a coordinator and watch it. `Pulse`, `MakeFailed` or `Lost` follows."""

    region: str
    serial: int
    spec: Spec
    generation: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Watch a coordinator that lives already. `Pulse` or `Lost` follows."""

    region: str
    serial: int
    link: str = ""  #: HOST:PORT of its link, if it is in another Ray cluster


@dataclass(frozen=True, slots=True)
class Knock:
    """Ask the leaders of a silent coordinator whether they live. `Knocked` follows."""

    region: str
    leaders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configure:
    """Tell a coordinator the spec; its reports show whether it heard."""

    region: str
    serial: int
    spec: Spec
    generation: int


@dataclass(frozen=True, slots=True)
class End:
    """End a coordinator's process. `Ended` follows."""

    region: str
    serial: int
    process: Owner | None  #: None: never heard of; end it by its handle


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a coordinator end its region, then end it. `Ended` follows."""

    region: str
    serial: int
    process: Owner


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of `Apply`, `Operate` or `Stop`."""

    cause: int
    value: Ordered | None = None  #: of a `Stop` there is none
    error: ChimeraError | None = None


Act = Make | Configure | End | Retire | Answer


@dataclass(frozen=True, slots=True)
class Persist:
    """Make this durable in one transaction, and do `then` after it, in order."""

    audit: tuple[Audit, ...]
    then: tuple[Act, ...]
    spec: tuple[int, Spec] | None = None  #: a new generation
    by: str = ""  #: whose


@dataclass(frozen=True, slots=True)
class Survey:
    """Find out who lives. `Surveyed` follows."""


Effect = Persist | Survey | Attach | Knock | Answer
