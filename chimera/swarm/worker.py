"""A worker's promises: who it works for, what it may begin, what it keeps until it is recorded.

Holds its part of G3 and G6: an outcome is kept until an owner says that it is recorded (P5), and
nothing is begun for a former owner of a shard or a former leader of the worker (P6). It never
decides whether a task is tried again, and never looks at a frame's contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from chimera.errors import Fenced, StaleEpoch

#: a tick that comes later says that nobody could be heard, not that nobody spoke: a handler that
#: keeps the interpreter's lock, or a process that was stopped, must not end the lease. In seconds,
#: and as a share of the lease
HEARABLE_S = 1.0
HEARABLE_SHARE = 0.2
#: cancellations kept for tasks that are still on their way here, at most; beyond it the oldest is
#: forgotten, and its task runs
CANCELS_MAX = 10_000

#: (shard, position, count)
Range = tuple[int, int, int]


class Fate(Enum):
    """What becomes of a part of a dispatch."""

    QUEUED = auto()  #: none of its tasks has begun
    IN_HAND = auto()  #: its tasks are being run
    ENDED = auto()  #: all its tasks that began have ended
    REFUSED = auto()  #: for a former owner, or from a former leader: nothing was begun
    TAKEN = auto()  #: taken back: nothing was begun


@dataclass(slots=True, eq=False)
class Part:
    """One command frame of a dispatch."""

    shard: int
    epoch: int  #: of the shard when it was sent
    position: int  #: of its first task
    count: int
    fate: Fate = Fate.QUEUED
    stopped: bool = False  #: in hand; what of it had not begun was given up

    @property
    def range(self) -> Range:
        return self.shard, self.position, self.count

    def holds(self, shard: int, position: int) -> bool:
        return self.shard == shard and 0 <= position - self.position < self.count


@dataclass(slots=True)
class Run:
    """A dispatch in hand."""

    dispatch: int
    parts: list[Part]
    reign: int  #: of the worker when it began; -1: it came from a former leader
    refused: list[Range] = field(default_factory=list)
    returned: list[Range] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome frame that is not known to be recorded."""

    shard: int
    frame: bytes


@dataclass(slots=True)
class Worker:
    """One worker. The shell calls it under one lock, with what the world says."""

    leader: str  #: whose lease it lives by, and whose dispatches it runs
    #: of that leader, and the sender of all that it says: another one of the same name, made anew,
    #: numbers dispatches anew
    incarnation: str
    lease_s: float
    #: the highest epoch heard of each shard
    epochs: dict[int, int] = field(default_factory=dict)
    run: Run | None = None
    #: highest dispatch of this leader that has begun
    begun: int = 0
    #: dispatches of this leader up to this one run nothing if they have not begun
    void: int = 0
    #: by serial, in order: each is here from its making until it is recorded
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    #: (shard, position) to be cancelled that are not in hand, oldest first
    cancels: dict[tuple[int, int], None] = field(default_factory=dict)
    retiring: bool = False
    reign: int = 0  #: how often it changed its leader
    _serials: int = 0
    _unheard_s: float = 0.0
    _ticked: float | None = None

    # the lease

    def renew(self, sender: str) -> bool:
        """A leader spoke; whether it is our own, and so the lease starts anew."""
        if sender != self.incarnation:
            return False
        self._unheard_s = 0.0
        return True

    def lapsed(self, now: float) -> bool:
        """Whether nobody renewed for `lease_s` in which somebody could be heard. A tick."""
        if self._ticked is not None:
            hearable_s = min(HEARABLE_S, self.lease_s * HEARABLE_SHARE)
            self._unheard_s += min(now - self._ticked, hearable_s)
        self._ticked = now
        return self._unheard_s >= self.lease_s

    # dispatches

    def begin(self, sender: str, dispatch: int, parts: Sequence[Part]) -> Run:
        """A dispatch comes to hand; the fate of each part that is not to run is decided here."""
        own = sender == self.incarnation
        run = Run(dispatch, list(parts), self.reign if own else -1)
        if own:
            self.begun = max(self.begun, dispatch)
            for part in parts:
                self._hear(part.shard, part.epoch)
        for part in parts:
            if not own or part.epoch < self.epochs[part.shard]:
                self._refuse(run, part)
            elif self.retiring or dispatch <= self.void:
                part.fate = Fate.TAKEN
                run.returned.append(part.range)
        self.run = run
        return run

    def start(self, part: Part) -> bool:
        """Whether a part may begin now; it is in hand then."""
        if part.fate is not Fate.QUEUED:
            return False
        part.fate = Fate.IN_HAND
        return True

    def finish(self, part: Part) -> None:
        """All tasks of a part that began have ended."""
        part.fate = Fate.ENDED

    def end(self) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
        """The dispatch is over: what of it was refused, and what returned unsaid so far."""
        assert self.run is not None
        run, self.run = self.run, None
        return tuple(run.refused), tuple(run.returned)

    def take_back(self, sender: str, dispatch: int) -> list[Range]:
        """Give up what has not begun, of the run in hand and of every dispatch up to this one.

        Returns the parts of the run in hand that nothing was begun of; the shell stops those that
        are in hand. Raises Fenced for a leader that is not our own.
        """
        self.check_leader(sender)
        self.void = max(self.void, dispatch)
        if self.run is None or not self.covers(dispatch):
            return []
        for part in self.in_hand():
            part.stopped = True
        taken = [part for part in self.run.parts if part.fate is Fate.QUEUED]
        for part in taken:
            part.fate = Fate.TAKEN
        return [part.range for part in taken]

    def covers(self, dispatch: int) -> bool:
        """Whether the run in hand is our own leader's, and none after this dispatch."""
        return self.run is not None and not self.is_former() and self.run.dispatch <= dispatch

    def in_hand(self) -> list[Part]:
        """Parts whose tasks are being run."""
        parts = self.run.parts if self.run else ()
        return [part for part in parts if part.fate is Fate.IN_HAND]

    def check_leader(self, sender: str) -> None:
        """Raise Fenced unless this is our own leader."""
        if sender != self.incarnation:
            raise Fenced(
                f"this worker belongs to {self.leader} ({self.incarnation}), not to {sender}"
            )

    # outcomes

    def hold(self, shard: int, frame: bytes) -> int:
        """Keep an outcome frame until it is recorded; its serial, never used twice."""
        self._serials += 1
        self.outcomes[self._serials] = Outcome(shard, frame)
        return self._serials

    def recorded(self, serials: Iterable[int]) -> None:
        """An owner recorded these: they may be forgotten. Repeating it does no harm."""
        for serial in serials:
            self.outcomes.pop(serial, None)

    def held(self, shard: int) -> list[tuple[int, bytes]]:
        """Serials and frames of a shard that are not known to be recorded."""
        return [
            (serial, outcome.frame)
            for serial, outcome in self.outcomes.items()
            if outcome.shard == shard
        ]

    # owners and leaders

    def adopt(self, leader: str, incarnation: str, shard: int, epoch: int, own: bool) -> list[Part]:
        """A shard's owner asks what we have of it; with `own` we work for it from now on.

        Unstarted parts of former owners are refused; those in hand are returned, to be stopped
        after the task in hand. Repeating it changes nothing. Raises StaleEpoch for a former owner.
        """
        highest = self.epochs.get(shard, 0)
        if epoch < highest:
            raise StaleEpoch(
                f"shard {shard} has epoch {highest}, not {epoch}", shard=shard, epoch=highest
            )
        self._hear(shard, epoch)
        overtaken = [
            part
            for part in (self.run.parts if self.run else ())
            if part.shard == shard and part.epoch < epoch
        ]
        for part in overtaken:
            part.stopped = part.fate is Fate.IN_HAND
            if part.fate is Fate.QUEUED and self.run is not None:
                self._refuse(self.run, part)
        if own:
            if (leader, incarnation) != (self.leader, self.incarnation):
                self.leader, self.incarnation = leader, incarnation
                self.reign += 1
                self.begun = self.void = 0
            self.renew(incarnation)
        return [part for part in overtaken if part.fate is Fate.IN_HAND]

    def refuse(self, ranges: Iterable[Range]) -> None:
        """Tasks of a part in hand that were not begun for a newer owner's sake."""
        assert self.run is not None
        self.run.refused += ranges

    def is_former(self) -> bool:
        """Whether the dispatch in hand was numbered by another leader than our own."""
        return self.run is not None and self.run.reign != self.reign

    # cancelling

    def cancel(self, shard: int, position: int) -> Part | None:
        """Cancel a task: the part of the run in hand that has it; else it is kept in mind.

        Both where that part was stopped: the task may have been given up, and be on its way again.
        """
        found = None
        for part in self.run.parts if self.run else ():
            if part.holds(shard, position) and part.fate in (Fate.QUEUED, Fate.IN_HAND):
                found = part
        if found is None or found.stopped:
            self.cancels[shard, position] = None
            while len(self.cancels) > CANCELS_MAX:
                del self.cancels[next(iter(self.cancels))]
        return found

    def cancelled(self, part: Part) -> list[int]:
        """Positions of a part that were cancelled before it came; forgets them."""
        if not self.cancels:
            return []
        found = [position for shard, position in self.cancels if part.holds(shard, position)]
        for position in found:
            del self.cancels[part.shard, position]
        return found

    # the end

    def retire(self) -> None:
        """Begin nothing more."""
        self.retiring = True

    def idle(self) -> bool:
        """Whether nothing is in hand and nothing is kept."""
        return self.run is None and not self.outcomes

    def check(self) -> None:
        """Raise AssertionError unless what is remembered fits together."""
        assert self.begun >= 0
        assert self.void >= 0
        assert all(0 < serial <= self._serials for serial in self.outcomes)
        assert len(self.cancels) <= CANCELS_MAX
        for part in self.run.parts if self.run else ():
            if part.fate is Fate.QUEUED:
                assert part.epoch >= self.epochs[part.shard], "unstarted work of a former owner"
            if part.fate is Fate.REFUSED:
                assert self.run is not None
                assert part.range in self.run.refused

    def _hear(self, shard: int, epoch: int) -> None:
        self.epochs[shard] = max(epoch, self.epochs.get(shard, 0))

    def _refuse(self, run: Run, part: Part) -> None:
        part.fate = Fate.REFUSED
        run.refused.append(part.range)
