"""A leader's part in what travels through a broker: its shards' commands in, their results out."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chimera.actors.broker import open_broker
from chimera.actors.shards import Shards
from chimera.actors.waiters import Waiters
from chimera.errors import ChimeraError, Fenced, InvalidRequest, NotOwner, Unavailable
from chimera.store.blobs import Blobs
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import LeaderConfig
from chimera.traffic.receipts import Receipts, Sender, Told
from chimera.traffic.topics import GROUP

if TYPE_CHECKING:
    from chimera.client.contracts import Contracts

_log = logging.getLogger(__name__)

#: a fetch waits for so long, and so does whoever waits for an intake to end, seconds
FETCH_S = 0.25
#: between two looks for results when nothing was settled, seconds
POLL_S = 0.5
#: after a fault, until the next try, seconds, at most
AGAIN_S = 1.0
#: for a broker to be told goodbye, seconds
CLOSE_S = 2.0
#: between two times that the broker is told what it need not keep, seconds
TRIM_S = 30.0
#: between two times that it is asked how much waits, and for its answer, seconds
LAG_S = 10.0
LAG_ANSWER_S = 5.0


class Traffic:
    """Threads that take in and publish, two for each shard that is served here.

    Without a broker it has nothing to do, and imports nothing of what it would do it with.
    """

    def __init__(
        self, config: LeaderConfig, name: str, shards: Shards, waiters: Waiters,
        report: Callable[[str, str], None], mend: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._config = config
        self._shards = shards
        self._waiters = waiters
        self._report = report
        self._mend = mend
        self._receipts = Receipts()
        self._stopping = threading.Event()
        self._contracts: Contracts | None = None
        self._blobs: Blobs | None = None
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._broker = (
            open_broker(
                config.bus,
                config.swarm,
                config.shards,
                config.readers,
                name,
                registry=config.registry,
            )
            if config.bus
            else None
        )
        self._lag: dict[int, int] = {}
        if self._broker is not None:
            threading.Thread(target=self._measure, name="lag", daemon=True).start()

    def serve(self, shard: int, epoch: int) -> None:
        """Take in and publish for a shard, as long as it is ours at this epoch."""
        if self._broker is None:
            return
        for work, name in ((self._take_in, "intake"), (self._publish, "outbox")):
            threading.Thread(
                target=self._keep, args=(work, shard, epoch, f"{name}-{shard}"),
                name=f"{name}-{shard}", daemon=True,
            ).start()  # fmt: skip

    def receipts(self, shard: int, wait_s: float, senders: Sequence[Sender]) -> Told:
        """What became of frames that came through the broker. Raises NotOwner, InvalidRequest."""
        if self._broker is None:
            raise InvalidRequest("this swarm has no broker")
        self._shards.journal(shard)
        return self._receipts.wait(shard, [(t, s, f) for t, s, f in senders], wait_s)

    def counters(self) -> dict[str, int]:
        """What went through the broker since this process began; empty without one."""
        with self._lock:
            return dict(self._counters)

    def waiting(self) -> dict[int, int]:
        """Records of commands that wait on the broker, by shard that is served here."""
        owned, lag = self._shards.owned(), self._lag
        return {shard: count for shard, count in lag.items() if shard in owned}

    def _measure(self) -> None:
        assert self._broker is not None
        while not self._stopping.is_set():
            try:
                found = self._broker.bus.lag(self._broker.topics.commands, GROUP, LAG_ANSWER_S)
            except ChimeraError as fault:
                _log.info("the broker does not say how much waits: %s", fault.message)
                found = {}  # nothing is better than what was true once
            self._lag = found
            self._stopping.wait(LAG_S)

    def _count(self, name: str, more: int) -> None:
        with self._lock:
            self._counters[name] += more

    def stop(self) -> None:
        """Leave the broker."""
        self._stopping.set()
        if self._broker is not None:
            self._broker.bus.close(CLOSE_S)

    def _is_ours(self, shard: int, epoch: int) -> bool:
        return not self._stopping.is_set() and self._shards.owned().get(shard) == epoch

    def _keep(
        self, work: Callable[[int, Callable[[], bool], str], None], shard: int, epoch: int, key: str
    ) -> None:
        """Have some work done until the shard is another's: no fault ends it."""

        def goes_on() -> bool:
            return self._is_ours(shard, epoch)

        while goes_on():
            try:
                work(shard, goes_on, key)
            except (NotOwner, Fenced):
                break
            except ChimeraError as fault:
                self._fault(fault, key)
            except Exception as fault:
                _log.exception("%s begins anew", key)
                self._fault(ChimeraError(repr(fault)), key)
        self._mend(key)

    def _fault(self, fault: ChimeraError, key: str) -> None:
        """Say what is wrong, and wait a while."""
        self._report(f"{key}: {fault.message}", key)
        wait_s = fault.retry_after if isinstance(fault, Unavailable) else AGAIN_S
        self._stopping.wait(min(wait_s, AGAIN_S))

    def _take_in(self, shard: int, goes_on: Callable[[], bool], key: str) -> None:
        from chimera.traffic.intake import Intake

        assert self._broker is not None
        intake = Intake(
            shard, self._broker, self._shards, self._receipts, self._inline, self._check
        )
        trimmed = time.monotonic()
        try:
            while goes_on():
                try:
                    turned = intake.turn(FETCH_S)
                except (NotOwner, Fenced):
                    return
                except ChimeraError as fault:
                    self._fault(fault, key)
                    continue
                self._mend(key)
                self._count("records_taken", turned.taken)
                self._count("records_refused", turned.refused)
                self._count("records_lost", turned.lost)
                if time.monotonic() - trimmed >= TRIM_S:
                    trimmed = time.monotonic()
                    intake.trim(CLOSE_S)
        finally:
            intake.close(CLOSE_S)

    def _publish(self, shard: int, goes_on: Callable[[], bool], key: str) -> None:
        from chimera.traffic.outbox import Outbox

        assert self._broker is not None
        outbox = Outbox(self._shards.journal(shard), self._broker)
        while goes_on():
            turn = self._waiters.turn(shard)
            published = outbox.turn()
            self._count("events_published", published)
            if not published:
                self._mend(key)
                self._waiters.wait_for_turn(shard, turn, POLL_S)

    def _inline(self, body: bytes) -> tuple[bytes, bool]:
        from chimera.client.encode import Inline

        return Inline(self._put, self._config.payload_max_bytes).one(body)

    def _put(self, data: bytes) -> bytes:
        with self._lock:
            if self._blobs is None:
                self._blobs = Blobs(self._config.objects_url)
        return self._blobs.put(data)

    def _check(self, policy: TaskPolicy, value: object) -> None:
        from chimera.client.contracts import Contracts

        with self._lock:
            if self._contracts is None:
                self._contracts = Contracts()
        check = self._contracts.check(policy)
        if check is not None:
            check(value)
