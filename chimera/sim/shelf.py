"""The journals that a simulated leader has open: what actors/shards.py does, in the same order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from chimera.errors import ChimeraError, NotOwner, Unavailable
from chimera.frames import command, outcome
from chimera.sim.disk import SimJournal
from chimera.sim.kernel import Reply
from chimera.sim.pool import Pool
from chimera.store import opened
from chimera.swarm.leader import LeaderMachine, adoption, effects, events, intake

#: for the end of a task that waited to be recorded, seconds
CANCEL_S = 1.0


@dataclass(eq=False, slots=True)
class Hosted:
    """One open journal."""

    journal: SimJournal
    state: str  #: `taking`, `serving` or `draining`
    records: list[effects.Record] = field(default_factory=list)
    writing: bool = False


class Shelf(Pool):
    """The half of a leader that reads journals."""

    machine: LeaderMachine
    hosted: dict[int, Hosted]

    def recording(self, shard: int) -> Hosted | None:
        hosted = self.hosted.get(shard)
        return hosted if hosted and hosted.state in ("serving", "draining") else None

    def drop(self, shard: int) -> None:
        hosted = self.hosted.pop(shard, None)
        if hosted is not None:
            hosted.journal.close()

    def cut(self, item: effects.Item) -> bytes | None:
        try:
            journal = self.journal(item.shard)
            frame = journal.read(item.frame, parked=item.from_schedule)[1]
        except ChimeraError:
            return None
        return command.cut(frame, item.first - item.frame, item.stop - item.frame)

    def cancel(self, shard: int, position: int, reply: Reply) -> None:
        """Write the intent (P9). Raises NotOwner, NotFound, StaleEpoch."""
        state = self.journal(shard).cancel(position, "asked", self.kernel.unix_ms())
        if state != outcome.OPEN:
            reply(outcome.NAMES[state])
            return
        self.kernel.counters["cancel_intent"] += 1
        self.step(events.CancelAsked(shard, position))
        reply("cancelling")

    def cancel_waiting(self, shard: int, position: int, reply: Reply) -> None:
        """End a task that is in nobody's hands; answers whether it has ended, or Unavailable while
        that cannot be told. Raises NotOwner."""
        if self._has_ended(shard, position):
            reply(True)
            return
        self.step(events.CancelAsked(shard, position, only_waiting=True))
        is_running = intake.is_running(self.machine.state, shard, position)

        def answer() -> None:
            try:
                reply(self._has_ended(shard, position) or Unavailable("ask again"))
            except NotOwner as fault:
                reply(fault)

        if is_running:
            self.kernel.counters["cancel_waiting_let_be"] += 1
            reply(False)
        elif is_running is None:
            self.kernel.counters["cancel_waiting_undecided"] += 1
            reply(Unavailable("ask again"))
        else:
            self.kernel.counters["cancel_waiting_ended"] += 1
            self.later(CANCEL_S, answer)

    def _has_ended(self, shard: int, position: int) -> bool:
        found = self.journal(shard).outcomes([(position, position + 1)], 1 << 40)
        at = [frame for frame in found.frames if _state(frame, position) != outcome.OPEN]
        return bool(at or found.singles)

    def read_due(self, effect: effects.ReadDue) -> None:
        hosted = self.recording(effect.shard)
        if hosted is None:
            return
        epoch, _ = hosted.journal.owner()
        if epoch != hosted.journal.epoch:
            self.kernel.counters["due_fenced"] += 1
            self.drop(effect.shard)
            self.later(0.0, lambda: self.step(events.ShardLost(effect.shard)))
            return
        state = self.machine.state.shards.get(effect.shard)
        loaded = state.loaded if state is not None else set()
        journal = hosted.journal
        due = journal.due(0, effect.until, effect.limit + len(loaded))
        tasks = tuple(
            opened.parked(each, journal.read(each.position, parked=True)[1])
            for each in due
            if each.position not in loaded
        )
        later = journal.due(effect.until + 1, 1 << 62, 1)
        next_due = later[0].due if later else None
        self.kernel.counters["due"] += len(tasks)
        self.later(0.0, lambda: self.step(events.Due(effect.shard, tasks, next_due)))

    def with_parked(self, held: events.Held) -> events.Held:
        hosted = self.recording(held.shard)
        if hosted is None:
            return held
        headers = (outcome.header(item.frame) for item in held.arrived)
        positions = [header.position for header in headers if header.count == 1]
        for first, count in held.running:
            positions += range(first, first + count)
        journal = hosted.journal
        parked = tuple(
            opened.parked(each, journal.read(each.position, parked=True)[1])
            for each in journal.parked(positions)
        )
        told = adoption.first_told(self.machine.state.shards.get(held.shard), held)
        return replace(held, parked=parked, keys=opened.keys_of_ended(journal, told))

    def journal(self, shard: int) -> SimJournal:
        hosted = self.hosted.get(shard)
        if hosted is None or hosted.state != "serving":
            raise NotOwner("not served here")
        return hosted.journal


def _state(frame: bytes, position: int) -> int:
    """What an outcome frame says of a task in it."""
    return outcome.body(frame, position - outcome.header(frame).position)[0]
