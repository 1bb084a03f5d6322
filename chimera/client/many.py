"""The steps of submitting many tasks: encoded, cut and sent in a stream of bounded memory."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from chimera.client.bulk import BulkTasks, Segment
from chimera.client.contracts import Check
from chimera.client.core import Core
from chimera.client.encode import Cut, Cutter, encode_payloads
from chimera.client.lanes import CALLS_MAX
from chimera.client.options import Kind, Route
from chimera.client.outcomes import decode_json
from chimera.client.parcels import FRAMES_MAX, Parcel
from chimera.client.ports import Promise
from chimera.client.steps import FOREVER, Steps
from chimera.client.submit import Submission
from chimera.client.task import BLOB_TIMEOUT_S
from chimera.errors import ChimeraError, InvalidPayload, InvalidRequest, OutcomeUnknown
from chimera.frames import command
from chimera.frames.limits import check_key

#: tasks that are encoded between two looks at the rest of the world
CHUNK = command.COUNT_MAX
#: frames on their way: twice what can be in flight, so that the next calls are always ready
WINDOW = 2 * CALLS_MAX * FRAMES_MAX
#: tasks with keys that are collected before their shards' frames are cut, full or not
KEYED_MAX = 64_000
#: ids of tasks that may or may not have been accepted, named in an error
IDS_MAX = 1000

#: a key for each task: one for all, one a task, or a function of the payload
Keys = str | Sequence[str] | Callable[[Any], str]


@dataclass(slots=True)
class _Sent:
    """A parcel on its way, and which tasks are in it."""

    parcel: Parcel
    indices: Sequence[int]


_AT_ONCE: Promise[None] = Promise()
_AT_ONCE.keep(None)


@dataclass(frozen=True, slots=True)
class Shares:
    """How tasks without keys are dealt out to leaders."""

    frame_tasks: int = command.COUNT_MAX  #: tasks of a frame, at most
    call_frames: int = FRAMES_MAX  #: frames of a call


def shares(tasks: int | None, leaders: int) -> Shares:
    """Deal so many tasks out evenly: slow ones would else keep one leader busy and others idle.

    Every leader gets as many calls as the others, and every call as many tasks. A bulk of unknown
    length (None) is dealt out in full calls.
    """
    if not tasks or leaders < 2:
        return Shares()
    full = command.COUNT_MAX * FRAMES_MAX
    calls = -(-tasks // (full * leaders)) * leaders
    call_tasks = -(-tasks // calls)
    call_frames = -(-call_tasks // command.COUNT_MAX)
    return Shares(-(-call_tasks // call_frames), call_frames)


class _Stream:
    """One submit of many tasks, from its first payload to its last receipt."""

    def __init__(
        self, core: Core, what: Submission, kind: Kind, bulk: BulkTasks, dealt: Shares,
        route: Route, check: Check | None,
    ) -> None:  # fmt: skip
        self._dealt = dealt
        self._core = core
        self._what = what
        self._kind = kind
        self._bulk = bulk
        self._route = route
        self._cutters: dict[int | None, Cutter] = {}
        self._ready: list[_Sent] = []  #: cut, but not enough for a call
        self._window: deque[_Sent] = deque()
        self._collected = 0  #: tasks bound to a shard that are not cut
        self._fed = 0  #: tasks taken in
        self._check = check
        self._cut = 0  #: tasks without keys cut so far

    def feed(self, payloads: list[Any], keys: list[str], idempotency: list[str]) -> Steps[None]:
        """Encode some payloads and send what is full."""
        bodies = encode_payloads(payloads, self._fed)
        if self._check is not None:
            _hold_to(self._check, bodies, self._fed)
        claims: list[int] = []
        if max(map(len, bodies)) > command.INLINE_MAX:
            inline, first = self._core.inline, self._fed
            claims = yield self._core.aside(lambda: inline.many(bodies, first)), BLOB_TIMEOUT_S
        if keys or idempotency or self._route.home is not None:
            self._sort(bodies, claims, keys, idempotency)
            self._collected += len(bodies)
            if self._collected >= KEYED_MAX:
                yield from self._flush()
        else:
            cutter = self._cutter(None)
            cutter.claims += [len(cutter.bodies) + index for index in claims]
            cutter.bodies += bodies
            yield from self._send(None, cutter.cut(all_of_it=False))
        self._fed += len(bodies)

    def finish(self) -> Steps[None]:
        """Send the rest, and wait until all is accepted."""
        yield from self._flush()
        yield from self._settle(0)

    def abandon(self) -> Steps[ChimeraError | None]:
        """Send no more; wait for what is on its way. Returns what went wrong first, if it did."""
        first: ChimeraError | None = None
        while self._window:
            try:
                yield from self._settle(len(self._window) - 1)
            except ChimeraError as fault:
                first = first or fault
        return first

    def _cutter(self, shard: int | None) -> Cutter:
        cutter = self._cutters.get(shard)
        if cutter is None:
            count_max = command.COUNT_MAX if shard is not None else self._dealt.frame_tasks
            cutter = Cutter(self._what.options, self._kind.size, count_max)
            self._cutters[shard] = cutter
        return cutter

    def _sort(
        self, bodies: list[bytes], claims: list[int], keys: list[str], idempotency: list[str]
    ) -> None:
        """Each task to the cutter of the shard that it is bound to."""
        for shard, offsets in self._route.all(keys or idempotency, len(bodies)).items():
            cutter = self._cutter(shard)
            if claims:
                base = len(cutter.bodies)
                large = frozenset(claims)
                cutter.claims += [base + i for i, at in enumerate(offsets) if at in large]
            cutter.bodies += [bodies[at] for at in offsets]
            cutter.indices.extend([self._fed + at for at in offsets])
            if keys:
                cutter.keys += [keys[at] for at in offsets]
            if idempotency:
                cutter.idempotency += [idempotency[at] for at in offsets]

    def _flush(self) -> Steps[None]:
        self._collected = 0
        for shard, cutter in self._cutters.items():
            yield from self._send(shard, cutter.cut(all_of_it=True))
        yield from self._post(None)

    def _send(self, shard: int | None, cuts: list[Cut]) -> Steps[None]:
        what = self._what
        for cut in cuts:
            indices: Sequence[int] = cut.indices
            if shard is None:
                indices = range(self._cut, self._cut + len(cut.bodies))
                self._cut += len(cut.bodies)
            parcel = Parcel(
                self._kind, cut.bodies, cut.columns, what.blocking,
                time.monotonic() + (FOREVER if what.blocking else what.timeout_s),
                patience_s=what.timeout_s if what.blocking else None,
            )  # fmt: skip
            self._ready.append(_Sent(parcel, indices))
            if shard is None and len(self._ready) == self._dealt.call_frames:
                yield from self._post(None)
        if shard is not None:
            yield from self._post(shard)

    def _post(self, shard: int | None) -> Steps[None]:
        """Hand what is ready to the publisher; wait while too much is on its way."""
        ready, self._ready = self._ready, []
        if not ready:
            return
        parcels = [sent.parcel for sent in ready]
        publisher = self._core.publisher
        self._core.engine.do(lambda: publisher.offer(parcels, shard, True))
        self._window += ready
        yield _AT_ONCE, 1.0  # a coroutine lets the others have a turn
        yield from self._settle(WINDOW)

    def _settle(self, limit: int) -> Steps[None]:
        """Wait for receipts until no more than `limit` frames are on their way."""
        while len(self._window) > limit:
            sent = self._window.popleft()
            done = yield sent.parcel.promise, FOREVER
            self._bulk.add(Segment(sent.indices, done))


def submit_many(
    core: Core,
    what: Submission,
    payloads: Iterable[Any],
    key: Keys | None,
    idempotency_key: Sequence[str] | Callable[[Any], str] | None,
) -> Steps[BulkTasks]:
    """Submit many tasks; all are durable when this returns.

    If some are not, the error's `details` count those `accepted` and name up to 1,000 `ids` of
    those that may have been, and its attribute `bulk` has the accepted ones.
    """
    if isinstance(idempotency_key, str):
        raise InvalidRequest("one idempotency key for many tasks would make them one: give a list")
    policy = yield from core.policy(what.type, what.timeout_s)
    kind = what.options.kind(what.type, what.tenant, policy)
    bulk = BulkTasks(core, what.tenant)
    length = len(payloads) if isinstance(payloads, Sized) else None
    dealt = shares(length, len(set(core.link.owners().values())))
    route = Route(what.tenant, core.link.settings.ring, policy)
    check = None if what.checked else core.contracts.check(policy)
    stream = _Stream(core, what, kind, bulk, dealt, route, check)
    rest = iter(payloads)
    start = 0
    try:
        while chunk := list(itertools.islice(rest, CHUNK)):
            keys = _keys("key", key, chunk, start)
            idempotency = _keys("idempotency_key", idempotency_key, chunk, start)
            start += len(chunk)
            yield from stream.feed(chunk, keys, idempotency)
        _check_length("key", key, start)
        _check_length("idempotency_key", idempotency_key, start)
        yield from stream.finish()
    except ChimeraError as fault:
        yield from _explain(fault, stream, bulk)
        raise
    bulk.seal()
    return bulk


def _explain(fault: ChimeraError, stream: _Stream, bulk: BulkTasks) -> Steps[None]:
    """Say in the error what became of the rest."""
    also = yield from stream.abandon()
    named = [*fault.details.get("ids", ())]
    if isinstance(also, OutcomeUnknown):
        named += also.details.get("ids", ())
    bulk.seal()
    fault.details.update(accepted=bulk.total, ids=named[:IDS_MAX])
    vars(fault)["bulk"] = bulk


def _hold_to(check: Check, bodies: list[bytes], first: int) -> None:
    """Raise InvalidPayload, with the number of the payload, for the first that does not fit."""
    for index, body in enumerate(bodies, first):
        try:
            check(decode_json(body))
        except InvalidPayload as fault:
            raise InvalidPayload(f"payload {index}: {fault.message}", **fault.details) from None


def _keys(name: str, given: Keys | None, chunk: list[Any], start: int) -> list[str]:
    """The keys of a chunk; empty if there are none."""
    if given is None:
        return []
    if isinstance(given, str):
        return [check_key(name, given)] * len(chunk)
    if callable(given):
        return [check_key(name, given(payload)) for payload in chunk]
    keys = [check_key(name, one) for one in given[start : start + len(chunk)]]
    if len(keys) != len(chunk):
        raise InvalidRequest(f"{len(given)} texts as {name} are fewer than the payloads")
    return keys


def _check_length(name: str, given: Keys | None, count: int) -> None:
    if given is None or isinstance(given, str) or callable(given):
        return
    if len(given) != count:
        raise InvalidRequest(f"{len(given)} texts as {name} for {count} payloads")
