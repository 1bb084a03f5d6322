"""Who submits: the same work through Chimera and through plain Ray, by one process or by many."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

import chimera
from benchmarks import handlers

#: distinct payloads of about 100 bytes that are sent over and over
PAYLOADS: list[Any] = [
    {"id": i, "kind": "audit.file", "path": f"/srv/data/part-{i:05d}/blob-{i * 7919:08d}.bin"}
    for i in range(1000)
]
TENANTS = tuple(f"tenant-{i}" for i in range(8))
CLASSES = ("critical", "normal", "batch")
KEYS = tuple(f"customer-{i}" for i in range(2000))


@dataclass(frozen=True)
class Work:
    """What is to be done, however it is done."""

    task: str
    #: sent in turn; the result must equal `expected` where that is said
    payloads: Sequence[Any] = field(default_factory=lambda: PAYLOADS)
    echoes: bool = True

    def batch(self, count: int) -> list[Any]:
        """So many payloads; a list, since a bulk of known length is dealt out more evenly."""
        return list(itertools.islice(itertools.cycle(self.payloads), count))


class Span:
    """How long something took, on the machine's monotonic clock."""

    def __init__(self, count: int, began: float, ended: float, **more: float) -> None:
        self.count = count
        self.began = began
        self.ended = ended
        self.more = more

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.count / (self.ended - self.began)


class WrongResult(Exception):
    """What came back is not what was to come back: the measurement is void."""


def check(work: Work, results: Iterator[Any], sent: Sequence[Any]) -> None:
    """Take all results; raise WrongResult unless each is the right one in its place."""
    heard = 0
    if work.echoes:
        # the results come second: zip must not take one that there is nothing to compare with
        for payload, result in zip(sent, results, strict=False):
            if result["id"] != payload["id"]:
                raise WrongResult(f"{result!r} came back for {payload!r}")
            heard += 1
    heard += sum(1 for _ in results)
    if heard != len(sent):
        raise WrongResult(f"{heard} results of {len(sent)} tasks")


def submit_and_read(swarm: Any, work: Work, count: int) -> Span:
    """From the first submit until the last result is read and checked."""
    payloads = work.batch(count)
    began = time.monotonic()
    bulk = swarm.submit_many(work.task, payloads)
    accepted = time.monotonic()
    check(work, bulk.results(timeout_s=300), payloads)
    return Span(count, began, time.monotonic(), accepted=count / (accepted - began))


def submit_and_wait(swarm: Any, work: Work, count: int) -> Span:
    """From the first submit until the last outcome is recorded; no result is decoded."""
    payloads = work.batch(count)
    began = time.monotonic()
    bulk = swarm.submit_many(work.task, payloads)
    accepted = time.monotonic()
    counts = bulk.wait(timeout_s=300)
    if counts.succeeded != count:
        raise WrongResult(f"{counts} of {count} tasks")
    return Span(count, began, time.monotonic(), accepted=count / (accepted - began))


def submit_ruled(connect: Callable[[str], Any], count: int) -> Span:
    """Every tenant submits tasks of each class over the same keys, all at once; all are read."""
    share = max(count // (len(TENANTS) * len(CLASSES)), 1)
    work = Work("bench.ruled")
    payloads = work.batch(share)
    keys = list(itertools.islice(itertools.cycle(KEYS), share))
    faults: list[BaseException] = []
    swarms = [connect(tenant) for tenant in TENANTS]

    def tenant(swarm: Any) -> None:
        try:
            bulks = [
                swarm.submit_many(work.task, payloads, key=keys, priority=priority)
                for priority in CLASSES
            ]
            for bulk in bulks:
                check(work, bulk.results(timeout_s=300), payloads)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=tenant, args=(swarm,)) for swarm in swarms]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.monotonic()
    if faults:
        raise faults[0]
    return Span(share * len(TENANTS) * len(CLASSES), began, ended)


# -- plain Ray ---------------------------------------------------------------------------------

#: what plain Ray runs for each task type
BODIES: dict[str, Callable[[Any], Any]] = {
    "bench.noop": handlers.noop,
    "bench.nap": handlers.nap,
    "bench.size": handlers.size,
}


@ray.remote
def plain_noop(payload: Any) -> Any:
    return payload


@ray.remote
def plain_nap(payload: Any) -> Any:
    return handlers.nap(payload)


@ray.remote
def plain_size(payload: Any) -> Any:
    return handlers.size(payload)


PLAIN = {"bench.noop": plain_noop, "bench.nap": plain_nap, "bench.size": plain_size}


@ray.remote(num_cpus=0)
class Plain:
    """A plain actor that does what the handlers do."""

    def run(self, task: str, payload: Any) -> Any:
        return BODIES[task](payload)


def plain_tasks(work: Work, count: int) -> Span:
    """`f.remote` for each, then one `ray.get` of all: no durability, no retries of failures."""
    function = PLAIN[work.task]
    payloads = work.batch(count)
    began = time.monotonic()
    refs = [function.remote(payload) for payload in payloads]
    check(work, iter(ray.get(refs)), payloads)
    return Span(count, began, time.monotonic())


def plain_calls(actors: Sequence[Any], work: Work, count: int) -> Span:
    """A call for each to actors in turn, then one `ray.get` of all."""
    turn = itertools.cycle(actors)
    payloads = work.batch(count)
    began = time.monotonic()
    refs = [next(turn).run.remote(work.task, payload) for payload in payloads]
    check(work, iter(ray.get(refs)), payloads)
    return Span(count, began, time.monotonic())


# -- many clients ------------------------------------------------------------------------------


@ray.remote(num_cpus=0)
class Client:
    """A client in a process of its own; its methods are those above."""

    def __init__(self, swarm: str) -> None:
        self._swarm = chimera.connect(swarm)

    def read(self, work: Work, count: int) -> Span:
        return submit_and_read(self._swarm, work, count)

    def tasks(self, work: Work, count: int) -> Span:
        return plain_tasks(work, count)

    def calls(self, actors: list[Any], work: Work, count: int) -> Span:
        return plain_calls(actors, work, count)


def together(spans: Sequence[Span]) -> Span:
    """What several clients did side by side, as one."""
    return Span(
        sum(one.count for one in spans),
        min(one.began for one in spans),
        max(one.ended for one in spans),
    )
