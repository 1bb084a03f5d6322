"""Publishing: frames are sent, as the same bytes, until somebody has them (P11–P13).

Runs on the engine; only the door is for all threads. Tasks bound to a shard by a key go out in
order, one call in flight a shard; the others go to the leaders in turn. Single tasks that come
while a call is in flight wait for it and share the next frame. In a crowd that frame waits a while
more, for those who were answered together to ask again together; a task that is alone waits for
nobody. Who can only wait does not wake the engine.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

from chimera.client.doorbell import Doorbell
from chimera.client.engine import Engine
from chimera.client.lanes import CALLS_MAX, PATIENCE_S, QUEUE_MAX, Flight, Lane
from chimera.client.parcels import Frame, Parcel, draw
from chimera.client.ports import Gone, LeaderLink, NoOwner, Silent
from chimera.client.session import Session
from chimera.errors import (
    ChimeraError,
    Fenced,
    NotOwner,
    NotReady,
    Overloaded,
    StoreFull,
    Unavailable,
    from_wire,
)
from chimera.store.protocol import Receipt

#: seconds until a call that nobody answers is sent again; a shard moves in less
CALL_TIMEOUT_S = 2.0
#: seconds between two searches for the owners of shards that nobody seems to have
MISSING_S = 1.0
#: seconds between looks at what waits while nothing can be sent
TICK_S = 0.25
BACKOFF_FIRST_S = 0.01
BACKOFF_CAP_S = 0.5


class Publisher:
    """Sends what callers hand in, from whatever thread; all else is done on the engine."""

    def __init__(
        self,
        engine: Engine,
        link: LeaderLink,
        session: Session,
        dice: random.Random | None = None,
    ) -> None:
        self._dice = dice or random.Random()
        self._engine = engine
        self._link = link
        self._session = session
        self._singles = Lane(None, CALLS_MAX, PATIENCE_S)
        self._bulk = Lane(None, CALLS_MAX, 0.0)
        self._keyed: dict[int, Lane] = {}
        self._resent = Lane(None, QUEUE_MAX, 0.0)
        #: shards whose calls are being sent again
        self._troubled: Counter[int] = Counter()
        self._turn = self._dice.randrange(1 << 16)
        self._ring: tuple[dict[int, str], list[int]] = ({}, [])
        self._missed_at = -inf
        self._end: ChimeraError | None = None
        #: single tasks without a key, which come in when there is something to do about them
        self._door: Doorbell[Parcel] = Doorbell(engine.do, self._let_in)
        self._keyed_door: Doorbell[tuple[Parcel, int]] = Doorbell(engine.do, self._let_keyed_in)

    def hand_in(self, parcel: Parcel, shard: int | None) -> None:
        """Take a single task, from any thread. Raises ChimeraError if the engine has ended."""
        try:
            if shard is None:
                self._door.hand_in(parcel)
            else:
                self._keyed_door.hand_in((parcel, shard))
        except ChimeraError as fault:  # it concerns also those who saw that the bell was rung
            self._turn_away(fault)
            raise
        if self._end is not None:  # it was left at the door first: `end` saw it, or this does
            self._turn_away(self._end)

    def _let_in(self, parcels: list[Parcel]) -> None:
        self.offer(parcels, None, False)

    def _let_keyed_in(self, found: list[tuple[Parcel, int]]) -> None:
        by_shard: dict[int, list[Parcel]] = {}
        for parcel, shard in found:
            by_shard.setdefault(shard, []).append(parcel)
        for shard, parcels in by_shard.items():
            self.offer(parcels, shard, False)

    def _turn_away(self, fault: ChimeraError) -> None:
        for parcel in self._door.left():
            parcel.promise.fail(fault)
        for parcel, _ in self._keyed_door.left():
            parcel.promise.fail(fault)

    def offer(self, parcels: Sequence[Parcel], shard: int | None, bulk: bool) -> None:
        """Take parcels in; their promises tell the rest.

        `shard` is where their key sends them, `bulk` says that they are many.
        """
        if shard is not None:
            lane = self._keyed.get(shard)
            if lane is None:
                lane = self._keyed[shard] = Lane(shard, 1, inf)
        else:
            lane = self._bulk if bulk else self._singles
        self._admit(lane, parcels, bulk)
        self._start(lane)

    def _admit(self, lane: Lane, parcels: Sequence[Parcel], bulk: bool = False) -> None:
        if self._end is None:
            lane.put(parcels, bulk)
        else:
            for parcel in parcels:
                parcel.promise.fail(self._end)

    def resend(self, shard: int, frame: Frame) -> None:
        """Go on with a frame that was sent already, and perhaps accepted."""
        if self._end is not None:
            frame.give_up()
            return
        flight = Flight(self._resent, shard, [frame], self._engine.now())
        self._resent.flights.append(flight)
        self._again(flight, 0.0, look=True)

    def next_shard(self) -> int:
        """Whose turn it is: the next leader's, and no shard in trouble if that can be helped.

        Also called by threads that send single frames themselves: a turn taken twice harms nobody.
        """
        ring = self._by_turn()
        for _ in range(len(ring)):
            self._turn += 1
            shard = ring[self._turn % len(ring)]
            if not self._troubled[shard]:
                break
        return shard

    def end(self, fault: ChimeraError) -> None:
        """The engine has ended: nothing will be sent any more."""
        self._end = fault
        self._door.quorum = 1  # whoever comes now rings, and learns of it
        self._turn_away(fault)
        for lane in (self._singles, self._bulk, self._resent, *self._keyed.values()):
            for parcel in lane.queue:
                parcel.promise.fail(fault)
            for flight in lane.flights:
                for frame in flight.frames:
                    frame.unsure = True
                    frame.give_up()

    def _by_turn(self) -> list[int]:
        """The owned shards so ordered that neighbours belong to different leaders."""
        owners = self._link.owners()
        now = self._engine.now()
        if len(owners) < self._link.settings.ring and now - self._missed_at >= MISSING_S:
            self._missed_at = now  # a region that is back gets its share again
            self._link.look()
        if owners is not self._ring[0]:
            groups: dict[str, list[int]] = {}
            for shard in sorted(owners):
                groups.setdefault(owners[shard], []).append(shard)
            rounds = itertools.zip_longest(*groups.values())
            order = [shard for one in rounds for shard in one if shard is not None]
            if not order:  # nobody has a shard just now: wait for any
                order = list(range(self._link.settings.ring))
            self._ring = (owners, order)
        return self._ring[1]

    def _start(self, lane: Lane) -> None:
        """Send what may be sent now."""
        if self._end is not None:
            return  # everybody was told so
        if lane is self._singles:
            self._admit(lane, self._door.left())
        while lane.queue and lane.may_start(self._engine.now()):
            lane.expire(self._engine.now())
            shard = self.next_shard() if lane.shard is None else lane.shard
            frames = draw(lane.queue, self._session, shard, ordered=lane.shard is not None)
            if frames:
                flight = Flight(lane, shard, frames, self._engine.now())
                lane.tasks -= flight.tasks
                for frame in frames:
                    frame.renew(flight.began)
                lane.flights.append(flight)
                self._send(flight)
        waits = bool(lane.queue)
        if lane is self._singles:
            self._door.quorum = lane.wanted(self._engine.now())
            if len(self._door) >= self._door.quorum:  # they came meanwhile
                self._start(lane)
                return
            waits = waits or bool(lane.flights)  # there may be some at the door
        if waits:
            self._look_again(lane)

    def _look_again(self, lane: Lane) -> None:
        """See to it that the lane is looked at when that may be of use."""
        now = self._engine.now()
        due = now + min(lane.pause_s(now), TICK_S)
        if due < lane.next_look:
            lane.next_look = due
            self._engine.later(due - now, lambda: self._look(lane))

    def _look(self, lane: Lane) -> None:
        """The queue waits: look whether it may go on, and whose time is over."""
        lane.next_look = inf
        lane.expire(self._engine.now())
        self._start(lane)

    def _send(self, flight: Flight) -> None:
        data = [frame.data for frame in flight.frames]
        self._engine.watch(
            self._link.ask(flight.shard, "append", flight.shard, *data),
            CALL_TIMEOUT_S,
            lambda answers, fault: self._answered(flight, answers, fault),
        )

    def _answered(self, flight: Flight, answers: Any, fault: BaseException | None) -> None:
        if fault is not None:
            self._failed(flight, fault)
            return
        left = []
        delay = 0.0
        moved = False
        for frame, answer in zip(flight.frames, answers, strict=True):
            if isinstance(answer, Receipt):
                frame.accept(answer)
                continue
            refusal = from_wire(answer)
            full = isinstance(refusal, (Overloaded, StoreFull))
            again = isinstance(refusal, (Unavailable, Fenced))
            if again and (not full or frame.blocking or frame.unsure):
                frame.refuse(refusal)
                left.append(frame)
                if isinstance(refusal, (Overloaded, StoreFull)):
                    delay = max(delay, refusal.retry_after)
                moved = moved or not full
            else:
                frame.fail(refusal)
        self._gather(flight, flight.tasks - sum(frame.count for frame in left))
        flight.frames = left
        if delay:  # full: those behind the refused frame wait for it, and for its reason
            for frame in left:
                frame.renew(self._engine.now())
        self._again(flight, delay, look=moved)

    def _gather(self, flight: Flight, answered: int) -> None:
        """So many callers were answered: who waits may do so for them."""
        if flight.lane is not self._singles or not answered:
            return
        self._admit(self._singles, self._door.left())
        wait_s = self._singles.gather(answered, flight.began, self._engine.now())
        if wait_s:
            self._engine.later(wait_s, lambda: self._start(self._singles))

    def _failed(self, flight: Flight, fault: BaseException) -> None:
        """The call as a whole was not answered, or answered with an error."""
        if isinstance(fault, (Gone, Silent)):
            for frame in flight.frames:
                frame.unsure, frame.silence = True, str(fault)
        elif isinstance(fault, (Unavailable, Fenced)):
            for frame in flight.frames:
                frame.refusal = fault if isinstance(fault, NoOwner) else NotReady(str(fault))
        else:
            error = fault if isinstance(fault, ChimeraError) else ChimeraError(repr(fault))
            for frame in flight.frames:
                frame.fail(error)
            flight.frames = []
        self._again(flight, 0.0, look=True)

    def _again(self, flight: Flight, delay_s: float, look: bool) -> None:
        """Send what is left once more, later; or be done."""
        now = self._engine.now()
        over = [frame for frame in flight.frames if frame.until <= now]
        for frame in over:
            frame.give_up()
        flight.frames = [frame for frame in flight.frames if frame not in over]
        lane = flight.lane
        if not flight.frames:
            if flight.tries:
                self._troubled[flight.shard] -= 1
            lane.flights.remove(flight)
            self._start(lane)
            return
        if not flight.tries:
            self._troubled[flight.shard] += 1
        flight.tries += 1
        cap = min(BACKOFF_FIRST_S * 2 ** min(flight.tries, 10), BACKOFF_CAP_S)
        wait_s = max(delay_s, cap * self._dice.uniform(0.5, 1.0))
        if not look:
            self._engine.later(wait_s, lambda: self._resume(flight))
        else:
            self._engine.watch(
                self._link.look(),
                CALL_TIMEOUT_S,
                lambda *_: self._engine.later(wait_s, lambda: self._resume(flight)),
            )
        self._start(lane)

    def _resume(self, flight: Flight) -> None:
        """Send it again; or to another shard, if nobody who has this one ever heard it (P13)."""
        lane = flight.lane
        away = (NoOwner, NotOwner)
        unsent = all(not f.unsure and isinstance(f.refusal, away) for f in flight.frames)
        if not unsent or lane.shard is not None or lane is self._resent:
            self._send(flight)
            return
        lane.flights.remove(flight)
        lane.put_back([parcel for frame in flight.frames for parcel in frame.parcels])
        self._start(lane)
        self._troubled[flight.shard] -= 1
