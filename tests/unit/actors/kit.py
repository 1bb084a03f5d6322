"""A worker without Ray, a fake owner, and frames made and read in a line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from chimera.actors import board
from chimera.actors.cluster import incarnation
from chimera.actors.worker import WorkerShell
from chimera.errors import Unavailable
from chimera.frames import bundle, command, outcome
from chimera.frames.bundle import Dispatch
from chimera.frames.command import Columns
from chimera.swarm.reports import RunSummary, WorkerConfig
from tests.unit.actors import sample_handlers

SESSION = 0xABCDEF


class Owner:
    """An owner in memory; `silent` makes it answer nothing."""

    def __init__(self):
        self.memos: dict[tuple, bytes] = {}
        self.states: dict[tuple, bytes] = {}
        self.asked: list[tuple] = []
        self.told: list[tuple] = []
        self.silent = False
        self.owners: dict[int, Any] = {}

    def _hear(self, *question):
        self.asked.append(question)
        if self.silent:
            raise Unavailable("nobody answers")

    def memo(self, shard, position, step, timeout_s):
        self._hear("memo", shard, position, step)
        return self.memos.get((shard, position, step))

    def memoise(self, shard, position, step, value, timeout_s):
        self._hear("memoise", shard, position, step)
        return self.memos.setdefault((shard, position, step), value)

    def snapshots(self, shard, tenant, type, keys, timeout_s):
        self._hear("snapshots", shard, tenant, type, *keys)
        return [self.states.get((tenant, type, key)) for key in keys]

    def progress(self, shard, position, value):
        self.told.append((shard, position, value))

    def set(self, shard, handle, own):
        self.owners[shard] = handle

    def dispatched(self, shards):
        for shard in shards:
            self.owners.pop(shard, None)


class Outcome(NamedTuple):
    """One task's outcome, as its leader reads it."""

    state: str
    body: Any
    claim: bool
    attempt: int
    snapshot: Any


NAMES = {**outcome.NAMES, outcome.OPEN: "open", outcome.ATTEMPT_FAILED: "attempt failed"}


def item(type, payloads, *, shard=0, epoch=1, position=0, attempt=1, tenant="t", **columns):
    """A command frame on its way to a worker; payloads are JSON values, or bytes as they are."""
    frame = command.pack(
        SESSION,
        shard,
        position + 1000,
        command.Head(type, tenant, options=columns.pop("options", None)),
        [one if isinstance(one, bytes) else json.dumps(one).encode() for one in payloads],
        Columns(**columns) if columns else None,
    )
    return Dispatch(shard, attempt, epoch, position, frame)


def frames_of(bundles: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """(serial, frame) of reply bundles."""
    return [tuple(reply) for blob in bundles for reply in bundle.replies(blob)]


def outcomes_of(frames: Iterable[bytes]) -> dict[tuple[int, int], Outcome]:
    """(shard, position) → outcome; a task that comes twice is an error."""
    found: dict[tuple[int, int], Outcome] = {}
    for frame in frames:
        of = outcome.verify(frame)
        columns = outcome.columns(frame)
        for index in range(of.count):
            state, body = outcome.body(frame, index)
            snapshot = (columns.snapshots or {}).get(index)
            slot = (of.shard, of.position + index)
            assert slot not in found, f"{slot} is delivered twice"
            found[slot] = Outcome(
                NAMES[state],
                json.loads(body) if body else None,
                index in (columns.claims or ()),
                of.attempt,
                None if snapshot is None else json.loads(snapshot),
            )
    return found


class Answer(NamedTuple):
    summary: RunSummary
    frames: list[tuple[int, bytes]]

    @property
    def outcomes(self) -> dict[tuple[int, int], Outcome]:
        return outcomes_of(frame for _, frame in self.frames)

    def bodies(self, shard=0) -> list[Any]:
        return [one.body for slot, one in sorted(self.outcomes.items()) if slot[0] == shard]

    def states(self, shard=0) -> list[str]:
        return [one.state for slot, one in sorted(self.outcomes.items()) if slot[0] == shard]


class Bench:
    """A worker and its leader `L`, in one test."""

    def __init__(self, tmp_path, handlers=(sample_handlers.__name__,), **config):
        self.owner = Owner()
        self.leader = incarnation("first")
        settings = {
            "name": "worker/local/0/1",
            "swarm": "test",
            "region": "local",
            "leader": "L",
            "leader_handle": "first",
            "handlers": tuple(handlers),
            "data_dir": str(tmp_path),
            "board": str(tmp_path / "boards" / "one.board"),
            "lease_s": 1e9,  # else it would end the process of the tests
            "objects_url": str(tmp_path / "objects"),
            **config,
        }
        self.worker = WorkerShell(WorkerConfig(**settings), self.owner)
        self.worker.prepare()
        self.dispatches = 0

    def run(self, *items, recorded=(), leader=None, slots=None) -> Answer:
        """Run items, each in its own bundle, as the next dispatch."""
        self.dispatches += 1
        bundles = [bundle.pack_dispatches([one]) for one in items]
        if slots is not None:
            bundles = [b"".join(bundles)] + [b""] * (slots - 1)
        summary, *replies = self.worker.run(
            leader or self.leader, self.dispatches, recorded, *bundles
        )
        assert len(replies) == len(bundles)
        return Answer(summary, frames_of(replies))

    def start(self, *items, **more) -> Running:
        """The same in a thread; waits until a handler is at the gate."""
        gate = sample_handlers.new_gate()
        running = Running(self, items, more)
        running.start()
        assert gate.entered.wait(sample_handlers.DEADLINE_S)
        return running

    def collect(self, through=None, take_back=True):
        through = self.dispatches if through is None else through
        return self.worker.collect(self.leader, through, take_back)

    def board(self) -> board.Board:
        found = board.read(self.worker.hello().board)
        assert found is not None
        return found


class Running(threading.Thread):
    """A dispatch in hand."""

    def __init__(self, bench, items, more):
        super().__init__(daemon=True)
        self.bench, self.items, self.more = bench, items, more
        self.gate = sample_handlers.GATE
        self.answer: Answer | None = None

    def run(self):
        self.answer = self.bench.run(*self.items, **self.more)

    def finish(self) -> Answer:
        """Let the handlers through, and wait for the reply."""
        self.gate.opened.set()
        self.join(sample_handlers.DEADLINE_S)
        assert self.answer is not None
        return self.answer
