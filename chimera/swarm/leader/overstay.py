"""How long a former owner's worker may take: nobody else counts the time of what it runs (P3, P7).

When its attempt began is not known here: it is given its whole time from when it was found at it. A
worker that says nothing may be at any task, and is given the longest time that one may take.
"""

from __future__ import annotations

from chimera.frames.outcome import Failure
from chimera.swarm.leader.drafts import Drafts
from chimera.swarm.leader.effects import Effect, Kill
from chimera.swarm.leader.events import Instant
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.state import Shard, State, Worker

#: past its time: a worker that ends its attempts itself needs a moment to say so, seconds
GRACE_S = 1.0
TIMED_OUT = Failure("chimera.AttemptTimeout", "the attempt ran longer than it may")


def watch(state: State, shard: Shard, name: str, now: Instant) -> list[Effect]:
    """A former worker was asked: end it if what it is at takes too long."""
    if name not in shard.abroad() and name not in shard.silent:
        forget(shard, name)
        return []
    since = shard.since.setdefault(name, now.mono)
    if now.mono - since <= _patience_s(state, shard, name) + GRACE_S:
        return []
    shard.overstayed.add(name)
    shard.since[name] = now.mono  # where it lives on it is ended again
    return [Kill(name, "attempt_timeout")]


def forget(shard: Shard, name: str) -> None:
    """Its time begins anew, if it is at anything."""
    shard.since.pop(name, None)
    shard.overstayed.discard(name)


def _patience_s(state: State, shard: Shard, name: str) -> float:
    if name not in shard.silent and name not in shard.strays:
        return max(piece.policy.attempt_timeout_s for piece in shard.away[name])
    said = (
        state.policies.resolve(frame.type, frame.priority, frame.options)
        for frame in shard.stash
        if frame.options
    )
    return max(longest_s(state), *(policy.attempt_timeout_s for policy in said), 0.0)


def longest_s(state: State) -> float:
    """The longest that an attempt of any type may take."""
    return max((p.attempt_timeout_s for p in state.policies.all()), default=float("inf"))


def is_lost(state: State, worker: Worker, now: Instant) -> bool:
    """Whether one of our workers is at another leader's task for too long, whoever owns its shard.

    That may be a leader of another region, which can ask nobody here.
    """
    since = worker.former_since
    return since is not None and now.mono - since > longest_s(state) + GRACE_S


def count(drafts: Drafts, shard: Shard, pieces: list[Piece], now: Instant) -> None:
    """Attempts of a worker that was ended for them: they failed."""
    draft = drafts.of(shard.number)
    assert draft is not None
    for piece in pieces:
        for position in range(piece.first, piece.stop):
            draft.failed_attempt(position, piece.policy, piece.attempt, TIMED_OUT, now)
