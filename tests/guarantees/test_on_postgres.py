"""G1, G2 and G4 with journals and control stores in PostgreSQL: accept once, record one outcome,
whoever dies, the database included."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from chimera.cli.status import plain
from chimera.store.archive import Archive
from tests.guarantees.kit import Lines, notes, open_gate, payloads, times_run, until
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.cluster


def test_leaders_coordinators_and_the_database_die(
    own_postgres: Postgres, make_swarm, tmp_path: Path
):
    archive = (tmp_path / "archive").as_uri()
    world = make_swarm(store=own_postgres.url(), shards=4, archive=archive)
    log = world.dir / "log"
    ran = Lines(log)

    def go_on() -> None:
        mark = ran() + 500
        until(lambda: ran() >= mark)

    bulk = world.client.submit_many("work", payloads(20_000, log, ms=0.2))
    go_on()
    world.kill(world.region().leaders[0].process)
    go_on()
    own_postgres.kill()
    own_postgres.start()
    go_on()
    world.kill(world.region().process)
    world.kill(until(world.status).process)
    assert list(bulk.results(timeout_s=100)) == list(range(20_000))
    status = world.settle()
    assert "s3cret" not in str(plain(status))
    world.check_one_outcome_each(20_000)
    assert not list(world.data_dir.rglob("*.sqlite"))
    # on a machine that is busy beyond measure one that is silent for long may be ended
    living = {worker.process.pid for worker in world.workers().values()}
    assert set(times_run(one for one in notes(log) if one.pid in living).values()) == {1}
    until(lambda: len(Archive(archive).files()) >= 4)
    ids = [one for table in Archive(archive).tables() for one in table["task_id"].to_pylist()]
    assert 1000 < len(ids) == len(set(ids))


def test_a_leader_that_was_stopped_writes_nothing_more(own_postgres: Postgres, make_swarm):
    world = make_swarm(store=own_postgres.url(), shards=2)
    log, gate = world.dir / "log", world.dir / "gate"
    bulk = world.client.submit_many("work", payloads(400, log, gate=str(gate)))
    until(Lines(log))
    frozen = world.region().leaders[0]
    os.kill(frozen.process.pid, signal.SIGSTOP)
    until(lambda: frozen.leader not in set(world.region().placement.values()))
    open_gate(gate)
    world.signal(frozen.process, signal.SIGCONT)  # unless it was ended in time
    assert list(bulk.results(timeout_s=100)) == list(range(400))
    world.settle()
    world.check_one_outcome_each(400)
