"""Bugs in what a journal promises: the fence, one outcome, ids, intents."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.errors import StoreFull, Unavailable
from chimera.sim import clients
from chimera.sim.disk import Disk
from chimera.sim.leader import LeaderProcess
from chimera.store.memory import MemoryJournal
from tests.planted.planting import after, before, bug


def _unfenced(patch: pytest.MonkeyPatch, verb: str) -> None:
    real = getattr(MemoryJournal, verb)

    def changed(self: Any, *args: Any, **more: Any) -> Any:
        mine, self.epoch = self.epoch, self._disk.epoch
        try:
            return real(self, *args, **more)
        finally:
            self.epoch = mine

    patch.setattr(MemoryJournal, verb, changed)


@bug("P1", "a zombie accepts tasks that the new owner, who has read the journal, never sees")
def append_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    _unfenced(patch, "append")


@bug("P1", "a zombie records outcomes beside the owner")
def settle_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    _unfenced(patch, "settle")


@bug("P1", "a zombie's memo is another value than the owner's")
def memoise_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    _unfenced(patch, "memoise")


@bug("P2", "two owners have the same epoch, and no fence tells them apart")
def epoch_reused(patch: pytest.MonkeyPatch) -> None:
    def take(self: Any, expected: int, owner: Any) -> int:
        self._disk.epoch, self._disk.owner = max(expected, 1), owner
        self.epoch = self._disk.epoch
        return int(self.epoch)

    patch.setattr(MemoryJournal, "take", take)


@bug("P8", "the last outcome wins: a task that ended well may be failed afterwards")
def outcome_overwritten(patch: pytest.MonkeyPatch) -> None:
    def record(self: Any, single: Any, _: int) -> None:
        if single.position < len(self._disk.tasks):
            self._disk.tasks[single.position].outcome = None

    before(patch, MemoryJournal, "_record", record)


@bug("P8", "a frame is refused whole because a part of it is settled: the rest never ends")
def settled_part_refuses_the_frame(patch: pytest.MonkeyPatch) -> None:
    real = MemoryJournal._record_frame

    def changed(self: Any, part: Any, now: int) -> int:
        first = part.of.position
        wanted = [first + i for i, state in enumerate(part.states) if state]
        if any(not self._disk.tasks[p].open for p in wanted if p < len(self._disk.tasks)):
            return 0
        return real(self, part, now)

    patch.setattr(MemoryJournal, "_record_frame", changed)


@bug("P9", "a cancelled task runs after all when its leader dies")
def cancel_not_durable(patch: pytest.MonkeyPatch) -> None:
    def forget(state: int, self: Any, position: int, *_: Any) -> int:
        self._disk.tasks[position].cancel = False
        return state

    after(patch, MemoryJournal, "cancel", forget)


@bug("P12", "a frame that is sent twice is accepted twice")
def resent_frame_not_recognised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryJournal, "_known", lambda self, arrival: None)


@bug("P14", "two submits with one idempotency key are two tasks")
def idempotency_key_ignored(patch: pytest.MonkeyPatch) -> None:
    real = MemoryJournal._accept
    patch.setattr(
        MemoryJournal, "_accept", lambda self, arrival, now, replay=False: real(
            self, arrival, now, replay=True
        ),
    )  # fmt: skip


@bug("P16", "the attempt of a parked task is forgotten: it is tried for ever")
def attempt_of_a_retry_forgotten(patch: pytest.MonkeyPatch) -> None:
    def first_again(found: Any, *_: Any, **__: Any) -> Any:
        from dataclasses import replace

        return [replace(one, attempt=1) for one in found]

    after(patch, MemoryJournal, "due", first_again)
    after(patch, MemoryJournal, "parked", first_again)


@bug("P18", "the last writer of a step wins: two runs of a task go on with two values")
def last_memo_wins(patch: pytest.MonkeyPatch) -> None:
    def forget(self: Any, position: int, step: str, _: bytes) -> None:
        self._disk.memos.pop((position, step), None)

    before(patch, MemoryJournal, "memoise", forget)


@bug("P22", "a commit of unknown fate is taken for none: what it accepted is never run")
def unknown_commit_taken_for_refused(patch: pytest.MonkeyPatch) -> None:
    real = Disk.may_have_failed

    def changed(self: Disk) -> None:
        try:
            real(self)
        except Unavailable as fault:
            raise StoreFull("refused", retry_after=0.2) from fault

    patch.setattr(Disk, "may_have_failed", changed)


@bug("G1", "a submit is acknowledged before it is committed")
def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    from chimera.frames import command
    from chimera.store.protocol import Receipt

    real = LeaderProcess._append

    def changed(self: Any, shard: int, hosted: Any, frames: Any, reply: Any) -> None:
        position = hosted.journal.next_position
        receipts = []
        for frame in frames:
            count = command.header(frame).count
            receipts.append(Receipt(position, count, False))
            position += count
        reply(receipts)
        self.later(0.005, lambda: real(self, shard, hosted, frames, lambda _: None))

    patch.setattr(LeaderProcess, "_append", changed)


@bug("G2", "what rests on an outcome happens before it is committed")
def told_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    from chimera.store import opened
    from chimera.swarm.leader import events

    real = LeaderProcess._commit

    def changed(self: Any, shard: int, hosted: Any, batch: Any) -> None:
        for one in batch:
            self.step(events.Recorded(shard, one.token, opened.tasks(one.settlement)))
        self.later(0.05, lambda: real(self, shard, hosted, batch))

    patch.setattr(LeaderProcess, "_commit", changed)


@bug("P1", "a zombie's intent to cancel is acknowledged, and the owner never hears of it")
def cancel_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    _unfenced(patch, "cancel")


@bug("P12", "two clients have one session, and a frame is recognised by its first id alone")
def same_id_is_success(patch: pytest.MonkeyPatch) -> None:
    def by_id(self: Any, arrival: Any) -> None:
        for frame in self._disk.frames:
            had, of = frame.arrival.of, arrival.of
            if (had.session, had.first, had.count) == (of.session, of.first, of.count):
                arrival.hash = frame.arrival.hash

    start = clients._Session.__init__
    patch.setattr(clients._Session, "__init__", lambda self, bits: start(self, 7))
    before(patch, MemoryJournal, "_known", by_id)
