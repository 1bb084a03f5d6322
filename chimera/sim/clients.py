"""Simulated producers: the publisher of chimera.client on virtual time, and who asks for outcomes.

What frames are made, when they are sent again and what a caller is told is the client's own code
(chimera/client/publish.py); only the thread it runs on and the calls to leaders are modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from chimera.client.engine import Answered
from chimera.client.options import Kind
from chimera.client.parcels import Accepted, Parcel
from chimera.client.ports import NoOwner, Pending, Promise, Settings, Silent, failed
from chimera.client.publish import Publisher
from chimera.client.session import Block, Session
from chimera.errors import ChimeraError
from chimera.frames import command, ids, outcome
from chimera.sim.history import Acknowledged, Seen
from chimera.sim.kernel import Process
from chimera.sim.leader import LeaderProcess

if TYPE_CHECKING:
    from chimera.sim.world import World

#: between two questions for outcomes, seconds
ASK_S = 0.4


class _Engine:
    """The client's thread: here the client's process."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def do(self, work: Callable[[], None]) -> None:
        self._client.later(0.0, work)

    def now(self) -> float:
        return self._client.kernel.now

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self._client.later(delay_s, work)

    def watch(self, pending: Pending[Any], timeout_s: float, answered: Answered) -> None:
        waiting = [answered]

        def settle(value: Any, fault: BaseException | None) -> None:
            if waiting:
                waiting.pop()(value, fault)

        def read(future: Any) -> None:
            fault = future.exception()
            value = None if fault else future.result()
            self._client.later(0.0, lambda: settle(value, fault))

        pending.future().add_done_callback(read)
        self._client.later(timeout_s, lambda: settle(None, Silent("no answer in time")))


class _Link:
    """The way to leaders, by what coordinators said last: it may be old."""

    def __init__(self, client: Client, ring: int) -> None:
        self._client = client
        self.settings = Settings(ring, "", 1 << 24)
        self._owners: dict[int, str] = {}

    def owners(self) -> dict[int, str]:
        return self._owners

    def look(self) -> Pending[None]:
        self._owners = self._client.world.owners(self._client.host)
        promise: Promise[None] = Promise()
        self._client.later(0.005, lambda: promise.keep(None))
        return promise

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        name = self._owners.get(shard)
        process = self._client.kernel.names.get(name) if name else None
        if not isinstance(process, LeaderProcess):
            return failed(NoOwner("nobody has the shard"))
        promise: Promise[Any] = Promise()

        def done(answer: Any) -> None:
            if isinstance(answer, BaseException):
                promise.fail(answer)
            else:
                promise.keep(answer)

        assert verb == "append"
        kernel = self._client.kernel
        kernel.call(self._client, process, lambda r: process.append(shard, args[1:], r), done)
        if kernel.random.random() < self._client.world.duplicates:
            kernel.counters["frame_duplicated"] += 1
            kernel.call(
                self._client, process, lambda r: process.append(shard, args[1:], r),
                lambda _: None,
            )  # fmt: skip
        return promise

    def ask_any(self, verb: str, *args: Any) -> Pending[Any]:
        raise AssertionError("not used by a publisher")

    def close(self) -> None:
        """Nothing is held."""

    def result(self, task_id: str, tenant: str) -> Any:
        raise AssertionError("not used by a publisher")

    def results(self, accepted: Accepted, tenant: str) -> Any:
        raise AssertionError("not used by a publisher")


class _Session(Session):
    """A session whose bits follow from the seed."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits

    def take(self, shard: int, count: int) -> Block:
        first = self._next.get(shard, 0)
        self._next[shard] = first + count
        return Block(self._bits, first)


class _Kind(Kind):
    """A kind whose frames are made at virtual times."""

    __slots__ = ("_clock", "_shared")

    def __init__(self, head: command.Head, clock: Callable[[], int]) -> None:
        super().__init__(head)
        self._shared, self._clock = head, clock

    def head(self) -> bytes:
        return command.encode_head(msgspec.structs.replace(self._shared, at=self._clock()))


@dataclass(eq=False)
class Mine:
    """Tasks that this client was told are durable."""

    accepted: Accepted
    missing: set[int]  #: positions without an outcome seen


class Client(Process):
    """One program that submits, cancels, and asks for outcomes."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world.kernel, name, host, unordered=world.plan.reorder)
        self.world = world
        self.kernel.born(self)
        self.session = _Session(self.kernel.random.getrandbits(63))
        self.link = _Link(self, world.plan.shards)
        self.publisher = Publisher(_Engine(self), self.link, self.session, self.kernel.random)
        self.kinds = [
            _Kind(command.Head(p.type), lambda: self.kernel.unix_ms(self.host))
            for p in world.plan.policies
        ]
        self.mine: list[Mine] = []
        self.later(ASK_S, self._ask)

    def submit(self, payloads: list[bytes], columns: command.Columns | None, shard: int | None,
               patience_s: float) -> Parcel:  # fmt: skip
        """Offer tasks."""
        parcel = Parcel(
            self.kernel.random.choice(self.kinds), payloads, columns, True,
            self.kernel.now + patience_s,
        )  # fmt: skip
        # not in the callback itself: what it raises there nobody hears
        parcel.promise.future().add_done_callback(
            lambda future: self.later(0.0, lambda: self._told(parcel, future))
        )
        self.publisher.offer([parcel], shard, bulk=shard is None)
        return parcel

    def _told(self, parcel: Parcel, future: Any) -> None:
        fault = future.exception()
        now = self.kernel.now
        if fault is not None:
            self.kernel.counters[f"submit_{getattr(fault, 'code', 'error')}"] += 1
            return
        accepted: Accepted = future.result()
        self.world.oracle.acknowledged(accepted, parcel.payloads)
        skipped = {one.index for one in accepted.skipped}
        left = {accepted.position + i for i in range(accepted.count) if i not in skipped}
        for index, task in enumerate(parcel.ids()):
            if index not in skipped:
                self.world.oracle.history.append(Acknowledged(task, now))
        self.mine.append(Mine(accepted, left))

    def forget(self, shard: int, lost: set[str]) -> None:
        """A tail was lost: some tasks are not there any more."""
        for one in self.mine:
            accepted = one.accepted
            if accepted.shard == shard:
                one.missing = {
                    p
                    for p in one.missing
                    if ids.format_id(
                        accepted.session, shard, accepted.first + p - accepted.position
                    )
                    not in lost
                }

    def cancel_one(self, only_waiting: bool = False) -> None:
        """Cancel some task that is not known to have ended, or only if nobody is at it."""
        open_ones = [one for one in self.mine if one.missing]
        if not open_ones:
            return
        one = self.kernel.random.choice(open_ones)
        position = self.kernel.random.choice(sorted(one.missing))
        # whom it knew last: nothing tells a client of a new owner before an old one refuses it
        process = self._leader(self.link.owners().get(one.accepted.shard))
        if only_waiting:
            self._cancel_waiting(process, one, position)
        elif process is not None:
            shard = one.accepted.shard

            def told(answer: Any) -> None:
                if answer == "cancelling":
                    self.world.oracle.cancelling(shard, position)

            self.kernel.call(
                self, process, lambda reply: process.cancel(shard, position, reply), told
            )

    def _cancel_waiting(self, process: LeaderProcess | None, one: Mine, position: int) -> None:
        """Ask until it is told whether the task has ended."""
        shard = one.accepted.shard

        def again() -> None:
            if position in one.missing:
                self._cancel_waiting(self._owner(shard), one, position)

        def told(answer: Any) -> None:
            if not isinstance(answer, bool):
                self.later(ASK_S, again)

        if process is None:
            self.later(ASK_S, again)
            return
        self.kernel.call(
            self, process, lambda reply: process.cancel_waiting(shard, position, reply), told
        )

    def _owner(self, shard: int) -> LeaderProcess | None:
        return self._leader(self.world.owners(self.host).get(shard))

    def _leader(self, name: str | None) -> LeaderProcess | None:
        process = self.kernel.names.get(name) if name else None
        return process if isinstance(process, LeaderProcess) else None

    def _ask(self) -> None:
        self.later(ASK_S, self._ask)
        by_shard: dict[int, list[Mine]] = {}
        for one in self.mine:
            if one.missing:
                by_shard.setdefault(one.accepted.shard, []).append(one)
        for shard, waiting in by_shard.items():
            process = self._owner(shard)
            if process is not None:
                ranges = [(min(one.missing), max(one.missing) + 1) for one in waiting]
                self._ask_for(process, shard, ranges, waiting)

    def _ask_for(
        self,
        process: LeaderProcess,
        shard: int,
        ranges: list[tuple[int, int]],
        waiting: list[Mine],
    ) -> None:
        self.kernel.call(
            self,
            process,
            lambda reply: reply(process.outcomes(shard, ranges)),
            lambda answer: self._seen(waiting, answer),
        )

    def _seen(self, waiting: list[Mine], answer: Any) -> None:
        if isinstance(answer, ChimeraError):
            return
        states: dict[int, int] = {}
        for frame in answer.frames:
            header = outcome.header(frame)
            found = enumerate(outcome.states(frame, header), header.position)
            states.update((position, state) for position, state in found if state)
        states.update((one.position, one.state) for one in answer.singles)
        for one in waiting:
            for position in sorted(one.missing & states.keys()):
                one.missing.discard(position)
                accepted = one.accepted
                counter = accepted.first + position - accepted.position
                task = ids.format_id(accepted.session, accepted.shard, counter)
                seen = Seen(task, outcome.NAMES[states[position]], self.kernel.now)
                self.world.oracle.history.append(seen)
