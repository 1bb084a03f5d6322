"""The workers of a simulated leader: what actors/pool.py does, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from chimera.client.ports import Gone
from chimera.frames.bundle import Dispatch
from chimera.sim.kernel import Process
from chimera.sim.worker import Call, WorkerProcess
from chimera.swarm.leader import effects, events
from chimera.swarm.lobby import Listed, Lobby
from chimera.swarm.reports import Collected, Held, LeaderConfig, WorkerInfo

if TYPE_CHECKING:
    from chimera.sim.leader import LeaderProcess
    from chimera.sim.world import World

NOTHING_S = 0.001  #: until a leader notices that nothing is left of what it was to send
ANSWER_S = 0.3
LOOK_S = 0.5
#: a worker's start, its handlers' import included, seconds, at most
SPAWN_S = 0.5


@dataclass(eq=False, slots=True)
class Link:
    """One worker, as this leader sees it."""

    process: WorkerProcess
    own: bool = True
    watched: bool = False
    lost: bool = False


class Pool(Process):
    """The half of a leader that talks to workers."""

    lobby: Lobby

    def __init__(self, world: World, name: str, host: str, config: LeaderConfig) -> None:
        super().__init__(world.kernel, name, host)
        self.world = world
        self.config = config
        self.links: dict[str, Link] = {}
        self.asked: dict[tuple[str, int | None], float] = {}
        self.stopped: set[str] = set()
        self.looked = 0.0
        self.ready = False

    def step(self, event: events.Event | Listed) -> None:
        for told in self.lobby.pass_on(event, self.kernel.now):
            self.run_step(told)

    def run_step(self, event: events.Event) -> None:
        raise NotImplementedError

    def announce(self) -> None:
        raise NotImplementedError

    def cut(self, item: effects.Item) -> bytes | None:
        raise NotImplementedError

    @property
    def sender(self) -> str:
        """What workers know this incarnation by."""
        return str(self.pid)

    @property
    def me(self) -> LeaderProcess:
        return cast("LeaderProcess", self)

    def spawn_soon(self, name: str) -> None:
        self.later(self.kernel.dice(SPAWN_S), lambda: self.spawn(name))

    def spawn(self, name: str) -> None:
        if self.world.spawn_fails:
            self.kernel.counters["spawn_failed"] += 1
            self.step(events.WorkerFailed(name, "planned"))
            return
        process = WorkerProcess(self.world, name, self.me, self.config.revision)
        self.kernel.born(process)
        link = self.links[name] = Link(process)
        self._welcome(link)

    def _welcome(self, link: Link) -> None:
        link.watched = True
        self._watch(link)
        name = link.process.name
        told, self.ready = not self.ready or self.world.plan.checked, True
        self.step(events.WorkerReady(name, link.process.policies(), link.process.revision))
        if told:
            self.announce()

    def _watch(self, link: Link) -> None:
        process = link.process
        hold_s = self.config.worker_lease_s / 6

        def done(answer: Any) -> None:
            if isinstance(answer, Gone):
                self.lose(process.name)
            elif self.links.get(process.name) is link and not link.lost:
                self._watch(link)

        self.kernel.call(
            self, process, lambda reply: process.watch(self.sender, hold_s, reply), done
        )

    def lose(self, name: str) -> None:
        link = self.links.get(name)
        if link is None or link.lost:
            return
        link.lost = True
        self.kernel.kill(link.process, f"ended by {self.name}")
        board = link.process.board if link.own else None

        def bury() -> None:
            self.links.pop(name, None)
            self.step(events.WorkerLost(name, board))

        self.later(0.005, bury)

    def end_worker(self, name: str) -> None:
        """Another machine's only by way of Ray, which must reach it."""
        link = self.links.get(name)
        if link is not None and (self.host, link.process.host) not in self.kernel.cut:
            self.kernel.counters["worker_killed"] += 1
            self.lose(name)

    def tell(self, name: str, do: Callable[[WorkerProcess], object]) -> None:
        link = self.links.get(name)
        if link is not None:
            process = link.process
            self.kernel.call(self, process, lambda reply: reply(do(process)), lambda _: None)

    def send(self, effect: effects.Send) -> None:
        link = self.links.get(effect.worker)
        if link is None:
            return
        items: list[Dispatch] = []
        for item in effect.items:
            frame = self.cut(item)
            if frame is not None:
                items.append(Dispatch(item.shard, item.attempt, item.epoch, item.first, frame))
        if not items:
            gone = events.Replied(effect.worker, effect.flight, (), ())
            # not at once: a leader that sends again would stop the clock for ever
            self.later(NOTHING_S, lambda: self.step(gone))
            return
        process, sent_at = link.process, self.kernel.now

        def done(answer: Any) -> None:
            if isinstance(answer, BaseException):
                self.lose(effect.worker)
                return
            summary, replies = answer
            self.step(
                events.Replied(
                    effect.worker, effect.flight, tuple(replies),
                    summary.refused + summary.returned,
                )
            )  # fmt: skip

        self.kernel.call(
            self, process,
            lambda reply: process.run(
                Call(self.me, effect.flight, effect.recorded, items, reply, sent_at)
            ),
            done,
        )  # fmt: skip

    def collect(self, name: str, through: int) -> None:
        link = self.links.get(name)
        if link is None:
            return
        key = (name, None)
        self.asked[key] = self.kernel.now + ANSWER_S
        process = link.process

        def done(answer: Any) -> None:
            self.asked.pop(key, None)
            if isinstance(answer, Collected):
                self.step(
                    events.Replied(
                        name, None, told(answer.replies), answer.returned, answer.running,
                        answer.begun, through,
                    )
                )  # fmt: skip
            else:
                self.step(events.CollectFailed(name))

        self.kernel.call(
            self, process, lambda reply: reply(process.collect(self.sender, through)), done
        )

    def adopt(self, info: WorkerInfo, own: bool) -> None:
        process = self.kernel.alive(info.process)
        known = self.links.get(info.name)
        if known is None:
            if isinstance(process, WorkerProcess):
                self.links[info.name] = Link(process, own)
        elif own and not known.own:
            known.own = True

    def poll_held(self, name: str, shard: int, epoch: int) -> None:
        link = self.links.get(name)
        if link is None:
            self.later(0.0, lambda: self.step(events.WorkerLost(name, None)))
            return
        key = (name, shard)
        self.asked[key] = self.kernel.now + ANSWER_S
        process = link.process

        def done(answer: Any) -> None:
            self.asked.pop(key, None)
            if isinstance(answer, Held):
                self.step(
                    events.Held(
                        name, shard, told(answer.replies), answer.running, policies=answer.policies
                    )
                )  # fmt: skip
                if link.own and not link.watched:
                    self._welcome(link)
            elif isinstance(answer, Gone):
                self.lose(name)
            else:
                self.step(events.Held(name, shard, silent=True))

        self.kernel.call(
            self, process,
            lambda reply: reply(process.adopt(self.me, shard, epoch, link.own)), done,
        )  # fmt: skip

    def overdue(self) -> None:
        now = self.kernel.now
        if now - self.looked >= LOOK_S:
            self.looked = now
            stopped = {n for n, one in self.links.items() if one.own and one.process.paused}
            for name in sorted(stopped & self.stopped):
                self.kernel.counters["stopped_worker_ended"] += 1
                self.lose(name)
            self.stopped = stopped
        for (name, shard), until in list(self.asked.items()):
            if now < until or self.asked.pop((name, shard), None) is None:
                continue
            if shard is None:
                self.step(events.CollectFailed(name))
            elif (link := self.links.get(name)) and not link.process.alive:
                self.lose(name)
            else:
                self.kernel.counters["former_worker_silent"] += 1
                self.step(events.Held(name, shard, silent=True))


def told(replies: Any) -> tuple[events.Arrived, ...]:
    """What stands for the bundles of an answer: here outcome frames are never packed."""
    return cast("tuple[events.Arrived, ...]", replies)
