"""Settlements in the making: what one event gets recorded, shard by shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.facts import Park, Settlement, Single
from chimera.swarm.leader.effects import Effect, Record
from chimera.swarm.leader.events import Instant
from chimera.swarm.leader.state import Pending, Shard, State
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.retry import GiveUp, decide, unit

TALLY = {
    outcome.SUCCEEDED: "succeeded",
    outcome.FAILED: "failed",
    outcome.CANCELLED: "cancelled",
    outcome.EXPIRED: "expired",
}


@dataclass(slots=True)
class Draft:
    """A settlement in the making, of one shard."""

    shard: Shard
    frames: list[bytes] = field(default_factory=list)
    singles: list[Single] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    serials: list[tuple[str, int]] = field(default_factory=list)
    final: list[tuple[int, int]] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, policy: TaskPolicy | None, tasks: int = 1) -> None:
        """Count what became of tasks, by their class and type if these are known."""
        self.tally[f"{name}@{policy.of_class}/{policy.type}" if policy else name] += tasks

    def end(
        self, position: int, state: int, attempts: int, body: bytes,
        policy: TaskPolicy | None = None,
    ) -> None:  # fmt: skip
        """One task gets its outcome."""
        # until this is recorded the schedule may show it: do not load it
        self.shard.loaded.add(position)
        self.singles.append(Single(position, state, attempts, body))
        self.final.append((position, position + 1))
        self.count(TALLY[state], policy)

    def failed_attempt(
        self, position: int, policy: TaskPolicy, attempt: int, failure: Failure, now: Instant
    ) -> None:
        """An attempt failed: another one, or the end (P7: recorded before it is dispatched)."""
        body = outcome.encode_failure(failure)
        if position in self.shard.cancelling:
            self.end(position, outcome.CANCELLED, attempt, body, policy)
            return
        jitter = unit(self.shard.number, position, attempt)
        decision = decide(policy, attempt, failure, jitter)
        if isinstance(decision, GiveUp):
            self.end(position, outcome.FAILED, attempt, body, policy)
            return
        due = now.unix_ms + int(decision.after_s * 1000)
        # until this is recorded the schedule shows the attempt before, or nothing: do not load it
        self.shard.loaded.add(position)
        self.shard.keys.sleep(position)
        self.parks.append(Park(position, due, attempt + 1, True, body))
        self.count("retried", policy)

    def effects(self, state: State) -> list[Effect]:
        """Ask for it to be written."""
        if not (self.frames or self.singles or self.parks or self.serials):
            return []
        settlement = Settlement(tuple(self.frames), tuple(self.singles), tuple(self.parks))
        state.tokens += 1
        parked = [(park.position, park.due) for park in self.parks]
        state.pending[state.tokens] = Pending(
            self.shard.number, settlement, self.serials, self.final, parked, self.tally
        )
        self.shard.pending += 1
        return [Record(self.shard.number, state.tokens, settlement)]


class Drafts:
    """One draft a shard."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.by_shard: dict[int, Draft] = {}

    def of(self, number: int) -> Draft | None:
        """The draft of a shard; None if it is not ours (any more)."""
        draft = self.by_shard.get(number)
        if draft is None:
            shard = self.state.shards.get(number)
            if shard is None:
                return None
            draft = self.by_shard[number] = Draft(shard)
        return draft

    def effects(self) -> list[Effect]:
        return [e for draft in self.by_shard.values() for e in draft.effects(self.state)]
