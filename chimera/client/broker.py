"""A link whose frames go through a broker: published there, and then their receipts asked for.

A frame that the broker has is as durable as the broker; it counts as accepted when the shard's
owner has taken it in, for only then is it known what became of each task. Everything else is asked
of the leaders as ever.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chimera.bus.protocol import Bus, Record
from chimera.client.parcels import Accepted
from chimera.client.ports import (
    Gone,
    LeaderLink,
    NoOwner,
    Pending,
    Promise,
    Settings,
    Silent,
    failed,
)
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import CommandFrame
from chimera.errors import (
    BusUnavailable,
    ChimeraError,
    NotOwner,
    Overloaded,
    StoreFull,
    Unavailable,
    from_wire,
)
from chimera.frames import command
from chimera.traffic.receipts import Sender, Told
from chimera.traffic.records import Writer
from chimera.traffic.topics import Topics

#: for the broker to take frames, seconds; the publisher asks again after two
PUBLISH_S = 1.5
#: a leader holds a question for receipts for so long, seconds
HOLD_S = 1.0
#: a frame of which its owner has not heard after so long is published again, seconds
AGAIN_S = 15.0
#: frames that are remembered as published
REMEMBERED_MAX = 20_000
#: threads that publish: each waits for the broker's answer
THREADS = 16


@dataclass(slots=True)
class _Sent:
    """A frame that the broker has."""

    owner: str  #: of the shard, when it was published
    at: float  #: when that was, or when its owner said last that it takes nothing in just now
    is_unsure: bool = False  #: its publisher was told that it may have been accepted


class BrokerLink:
    """A LeaderLink around another one. Safe for threads."""

    def __init__(self, link: LeaderLink, bus: Bus, topics: Topics, writer: Writer) -> None:
        self._link = link
        self._bus = bus
        self._topic = topics.commands
        self._writer = writer
        self._threads = ThreadPoolExecutor(THREADS, "chimera-publish")
        self._lock = threading.Lock()
        self._sent: OrderedDict[tuple[int, Sender], _Sent] = OrderedDict()
        self._stalled: dict[int, tuple[float, ChimeraError]] = {}

    @property
    def settings(self) -> Settings:
        return self._link.settings

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        if verb == "append":
            return self._append(shard, args[1:])
        if verb == "call":
            return _then(
                self._append(shard, args[2:]), lambda answers: (*answers, None, None, False)
            )
        return self._link.ask(shard, verb, *args)

    def ask_any(self, verb: str, *args: Any) -> Pending[Any]:
        return self._link.ask_any(verb, *args)

    def owners(self) -> dict[int, str]:
        return self._link.owners()

    def look(self) -> Pending[None]:
        return self._link.look()

    def result(self, task_id: str, tenant: str) -> Any:
        return self._link.result(task_id, tenant)

    def results(self, accepted: Accepted, tenant: str) -> Any:
        return self._link.results(accepted, tenant)

    def close(self) -> None:
        """Leave the broker; frames under way may or may not get there."""
        self._threads.shutdown(wait=False)
        self._bus.close(PUBLISH_S)

    def _append(self, shard: int, frames: Sequence[bytes]) -> Promise[Any]:
        owner = self.owners().get(shard)
        if owner is None:
            return failed(NoOwner(f"no leader has shard {shard} just now", shard=shard))
        senders = [_sender(frame) for frame in frames]
        new = [
            index
            for index, sender in enumerate(senders)
            if not self._is_there(shard, sender, owner)
        ]
        full = self._full(shard)
        if full is not None and len(new) == len(frames):
            promise: Promise[Any] = Promise()
            promise.keep([full.to_wire()] * len(frames))
            return promise
        promise = Promise()

        def run() -> None:
            try:
                self._publish(shard, [(senders[index], frames[index]) for index in new], owner)
                asked = self._link.ask(shard, "receipts", shard, HOLD_S, senders)
            except Exception as fault:
                promise.fail(fault)
            else:
                asked.future().add_done_callback(
                    lambda _: self._told(shard, senders, asked, promise)
                )

        try:
            self._threads.submit(run)
        except RuntimeError:
            return failed(ChimeraError("the client is closed: connect again"))
        return promise

    def _publish(self, shard: int, frames: Sequence[tuple[Sender, bytes]], owner: str) -> None:
        """Have the broker keep frames. Raises Silent if it may have them, or what it refuses."""
        if not frames:
            return
        records = [self._record(shard, frame) for _, frame in frames]
        answers = self._bus.publish(records, PUBLISH_S)
        fault: ChimeraError | None = None
        with self._lock:
            for (sender, _), answer in zip(frames, answers, strict=True):
                if answer is None:
                    self._sent[shard, sender] = _Sent(owner, time.monotonic())
                fault = fault or answer
            while len(self._sent) > REMEMBERED_MAX:
                self._sent.popitem(last=False)
        if isinstance(fault, BusUnavailable):
            raise Silent(fault.message)
        if fault is not None:
            raise fault

    def _record(self, shard: int, frame: bytes) -> Record:
        of = command.header(frame)
        head = command.head(frame, of)
        event = CommandFrame(type=head.type, tenant=head.tenant, count=of.count, frame=frame)
        named = Envelope(f"{of.session:016x}.{of.first}", "/chimera/client", time=head.at)
        return self._writer.record(self._topic, shard, event, named, head.type)

    def _told(
        self, shard: int, senders: Sequence[Sender], asked: Pending[Any], promise: Promise[Any]
    ) -> None:
        """The owner answered, or did not."""
        try:
            told: Told = asked.get(HOLD_S)
        except Exception as fault:
            if isinstance(fault, (Gone, NotOwner)):  # its successor knows nothing of them
                self._forget(shard, senders)
            # the broker has them: whoever owns the shard will take them in
            promise.fail(Silent(str(fault)) if isinstance(fault, Unavailable) else fault)
            return
        waiting = [s for s, answer in zip(senders, told.answers, strict=True) if answer is None]
        if not waiting:
            self._forget(shard, senders)
            promise.keep(told.answers)
        elif told.stalled is not None and self._stall(shard, told.stalled, waiting):
            promise.keep([answer or told.stalled for answer in told.answers])
        else:
            promise.fail(Silent("the broker has the frame, its shard has not taken it in yet"))

    def _stall(self, shard: int, told: dict[str, Any], waiting: Sequence[Sender]) -> bool:
        """A full shard has left frames on the broker, where they may wait for long.

        Returns whether their publisher may be told that it is full: it must know before that they
        may be accepted, or it would give those up that nobody is to wait for.
        """
        refusal = from_wire(told)
        if not isinstance(refusal, (Overloaded, StoreFull)):
            return False
        now = time.monotonic()
        with self._lock:
            self._stalled[shard] = (now + refusal.retry_after, refusal)
            sent = [self._sent[shard, one] for one in waiting if (shard, one) in self._sent]
            known = all(one.is_unsure for one in sent)
            for one in sent:
                one.at, one.is_unsure = now, True
        return known

    def _is_there(self, shard: int, sender: Sender, owner: str) -> bool:
        with self._lock:
            sent = self._sent.get((shard, sender))
        return sent is not None and sent.owner == owner and time.monotonic() - sent.at < AGAIN_S

    def _forget(self, shard: int, senders: Sequence[Sender]) -> None:
        with self._lock:
            for sender in senders:
                self._sent.pop((shard, sender), None)

    def _full(self, shard: int) -> ChimeraError | None:
        """Why nothing more should be published for a shard just now."""
        with self._lock:
            until, refusal = self._stalled.get(shard, (0.0, None))
        return refusal if time.monotonic() < until else None


def _sender(frame: bytes) -> Sender:
    of = command.header(frame)
    return command.head(frame, of).tenant, of.session, of.first


def _then(promise: Promise[Any], make: Callable[[Any], Any]) -> Promise[Any]:
    """A promise of what is made of another one's answer."""
    made: Promise[Any] = Promise()

    def done(future: Future[Any]) -> None:
        fault = future.exception()
        if fault is not None:
            made.fail(fault)
        else:
            made.keep(make(future.result()))

    promise.future().add_done_callback(done)
    return made
