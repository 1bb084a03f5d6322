"""Brokers and databases that refuse, are away or full, under a whole swarm: it says so, loses
nothing that was accepted, and goes on by itself when that is mended."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chimera.actors import boot
from chimera.bus.connect import connect
from chimera.cli.backends import look_at_bus, look_at_store
from chimera.client import Handle
from chimera.errors import (
    BusUnauthorized,
    ChimeraError,
    StoreFull,
    StoreRefused,
    Unavailable,
)
from chimera.traffic.topics import topics
from tests.guarantees.kit import PATIENCE_S, Lines, World, open_gate, payloads, until
from tests.servers import kafka as kafka_server
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres, SmallSpace
from tests.servers.processes import Server
from tests.servers.rabbitmq import RabbitMQ

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WRONG = "no-such-password"
WAITING, SHARDS = 60, 2

MakeSwarm = Callable[..., World]


def is_told(world: World, words: str) -> None:
    """Whoever asks for its status hears of it: as a fault, or why there is none."""
    said: dict[str, None] = {}

    def found() -> bool:
        try:
            said.update(dict.fromkeys(boot.status(world.name, timeout_s=5.0).faults))
        except ChimeraError as fault:
            said[fault.message] = None
        return any(words in text for text in said)

    until(found, tell=lambda: "\n".join(said))


def is_refused(world: World, *kinds: type[ChimeraError]) -> None:
    """A submit is refused, with words that tell no password, in less than its own time."""

    def refused() -> ChimeraError | None:
        try:
            world.client.submit("echo", "x" * 60_000, key="k", timeout_s=10)
        except ChimeraError as fault:
            # else it was under way then, or was refused for what is mended by now
            return fault if isinstance(fault, kinds) else None
        return None

    assert "secret" not in until(refused).message


def cannot_come_up(world: World, kind: type[ChimeraError], said: str) -> None:
    """`up` says why at once, doctor says it too, and nothing was made."""
    with pytest.raises(kind, match=said) as refused:
        boot.up(world.spec, timeout_s=PATIENCE_S)
    assert WRONG not in str(refused.value)
    look = look_at_store if kind is StoreRefused else look_at_bus
    (state, saw, mend) = next(iter(look(world.spec)))
    assert state == "fail"
    assert said in saw
    assert "password" in mend.lower()
    assert not world.cluster.names()


def comes_up_with(node: Server, world: World) -> None:
    """`up` waits for a broker that is down, and says so: it is started then."""
    told: list[str] = []

    def progress(text: str) -> None:
        told.append(text)
        if text.startswith("waiting for the broker"):
            node.start()

    boot.up(world.spec, timeout_s=PATIENCE_S, on_progress=progress)
    assert node.is_running, told


def database_of(role: str, postgres: Postgres) -> str:
    """The URL of a new database, for a new role."""
    postgres.ask(f"create role {role} login password 'db-secret'")
    url = postgres.database().replace("postgres:s3cret-in-tests", f"{role}:db-secret")
    postgres.ask(f"grant all on database {url.rpartition('/')[2]} to {role}")
    return url


class Work:
    """Tasks that are accepted, and run only when `end` lets them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._gate = world.dir / f"gate-{uuid.uuid4().hex[:6]}"
        log = world.dir / "log"
        ran = Lines(log)
        before = ran()
        tasks = payloads(WAITING, log, gate=str(self._gate))
        self._bulk = world.client.submit_many("work", tasks, key="k")
        until(lambda: ran() > before)
        self._bulk.ids()

    def go_on(self) -> None:
        open_gate(self._gate)

    def end(self) -> None:
        assert list(self._bulk.results(timeout_s=PATIENCE_S)) == list(range(WAITING))
        assert until(self._accepted).result(timeout_s=PATIENCE_S) == "again"
        self._world.settle()
        self._world.check_one_outcome_each()

    def _accepted(self) -> Handle | None:
        """Another task; None while it is refused for what is mended by now."""
        with contextlib.suppress(Unavailable, BusUnauthorized):
            return self._world.client.submit("echo", "again", key="k", timeout_s=PATIENCE_S)
        return None


def provision(url: str, name: str) -> None:
    bus = connect(url)
    bus.provision(tuple(topics(name, SHARDS)), 60.0)
    bus.close(5.0)


def test_kafka_and_postgresql_refuse_or_are_away_at_the_start_and_later(
    kafka: Kafka, postgres: Postgres, make_swarm: MakeSwarm, tmp_path: Path
) -> None:
    name, node = f"b{uuid.uuid4().hex[:8]}", kafka.nodes[0]
    store = database_of(name, postgres)
    bus = f"kafka+ssl://swarm:{{}}@{kafka.secure}?ca={kafka.certificates.ca}"
    good = bus.format(kafka_server.USERS["swarm"])
    common: dict[str, Any] = {"leaders": 1, "shards": SHARDS}
    provision(f"kafka://{kafka.bootstrap}", name)

    wrong = store.replace("db-secret", WRONG)
    cannot_come_up(World(name, tmp_path, bus=good, store=wrong, **common), StoreRefused, "refuses")
    wrong = bus.format(WRONG)
    cannot_come_up(World(name, tmp_path, bus=wrong, store=store, **common), BusUnauthorized, "SASL")

    node.kill()
    comes_up_with(node, World(name, tmp_path, bus=good, store=store, **common))
    world = make_swarm(name=name, bus=good, store=store, **common)

    work = Work(world)
    kafka.set_password("swarm", WRONG)
    node.kill()
    node.start()
    is_told(world, "SASL")
    is_refused(world, BusUnauthorized)
    kafka.set_password("swarm", kafka_server.USERS["swarm"])

    postgres.ask(f"alter role {name} password '{WRONG}'")
    postgres.ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", name)
    work.go_on()
    is_told(world, "refuses user or password")
    is_refused(world, Unavailable)
    postgres.ask(f"alter role {name} password 'db-secret'")
    work.end()


def test_rabbitmq_refuses_at_the_start_and_later_and_postgresqls_disk_is_full(
    rabbitmq: RabbitMQ, small_space: SmallSpace, make_swarm: MakeSwarm, tmp_path: Path
) -> None:
    name = f"b{uuid.uuid4().hex[:8]}"
    word = rabbitmq_server.USERS["swarm"][0]
    bus = f"amqp://swarm:{{}}@127.0.0.1:{rabbitmq.plain}"
    common: dict[str, Any] = {"store": small_space.url, "leaders": 1, "shards": SHARDS}
    provision(rabbitmq.url, name)
    wrong = World(name, tmp_path, bus=bus.format(WRONG), **common)
    cannot_come_up(wrong, BusUnauthorized, "refused")
    world = make_swarm(name=name, bus=bus.format(word), **common)

    before = world.client.submit("echo", "before", key="k")
    assert before.result(timeout_s=PATIENCE_S) == "before"
    work = Work(world)
    small_space.fill()
    is_refused(world, StoreFull)
    work.go_on()
    assert world.client.handle(before.id).result(timeout_s=PATIENCE_S) == "before"
    is_refused(world, StoreFull)
    small_space.free()
    work.end()

    work = Work(world)
    rabbitmq.control("change_password", "swarm", WRONG)
    rabbitmq.control("close_all_user_connections", "swarm", "its password has changed")
    work.go_on()
    is_told(world, "refused")
    is_refused(world, BusUnauthorized, Unavailable)
    rabbitmq.control("change_password", "swarm", word)
    work.end()
