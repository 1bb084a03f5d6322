"""The topics of a swarm on a broker, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chimera.bus.protocol import Kind, Topic

#: the swarm's own group: it reads commands
GROUP = "chimera"


@dataclass(frozen=True, slots=True)
class Topics:
    """Each has the swarm's name in its own; a shard is a partition of commands."""

    commands: Topic
    results: Topic
    dead_letters: Topic
    workers: Topic  #: their lifecycle
    leaders: Topic  #: their reports
    regions: Topic  #: their summaries
    audit: Topic

    def __iter__(self) -> Iterator[Topic]:
        yield from (self.commands, self.results, self.dead_letters, self.workers, self.leaders,
                    self.regions, self.audit)  # fmt: skip


def topics(swarm: str, shards: int, readers: tuple[str, ...] = (), replicas: int = 0) -> Topics:
    """The topics of a swarm; `readers` are the groups of those outside who read its events.

    A broker with queues keeps events for each of them from when it is provisioned. `replicas`: of
    each record; 0: three, or as many as there are nodes.
    """

    def events(name: str, partitions: int) -> Topic:
        return Topic(
            f"chimera.{swarm}.{name}", partitions, Kind.EVENTS, readers or ("outside",),
            replicas=replicas,
        )  # fmt: skip

    return Topics(
        commands=Topic(
            f"chimera.{swarm}.commands", shards, Kind.COMMANDS, (GROUP,),
            replicas=replicas,
        ),
        results=events("results", shards),
        dead_letters=events("dead-letters", shards),
        workers=events("workers", 1),
        leaders=events("leaders", 1),
        regions=events("regions", 1),
        audit=events("audit", 1),
    )  # fmt: skip
