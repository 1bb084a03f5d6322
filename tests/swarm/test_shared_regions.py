"""Two real Ray clusters on one Kafka and one PostgreSQL: the shards of the one that is cut off are
served by the other, and given back when it is there again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import shared, two_clusters
from benchmarks.ledger import outcomes_in_database
from benchmarks.regions import begun
from benchmarks.two_clusters import TwoRegions
from chimera import names
from tests.guarantees.kit import until
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(500)]

#: tells the server's log of every attempt to write a shard's row, also of those that are undone
TELL = """
set search_path = "{schema}";
create function tell() returns trigger language plpgsql as $$ begin
  raise log 'shard {shard}: % rows by %', (select count(*) from written), current_query();
  return null;
end $$;
create trigger tell after update on shard referencing new table as written
  for each statement execute function tell();
"""
TOLD = re.compile(r"shard (\d+): (\d) rows by .*?\bepoch = (\d+)")


@pytest.fixture
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three nodes; one of them may die."""
    server = Kafka(tmp_path_factory.mktemp("kafka3"), nodes=3)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def swarm(
    ray_cluster: Any, brokers: Kafka, postgres: Postgres, tmp_path: Path
) -> Iterator[TwoRegions]:
    if missing := two_clusters.needed():
        pytest.skip(missing)
    with shared.two_regions(tmp_path, brokers, postgres) as made:
        yield made


def watch_writes(swarm: TwoRegions, postgres: Postgres) -> None:
    """From now on attempts to write to the far region's shards show in the server's log."""
    for shard in swarm.far_shards():
        schema = names.database_namespace(swarm.spec.name, f"{shard:04d}")
        postgres.run_script(swarm.spec.store, TELL.format(schema=schema, shard=shard))


def refused(postgres: Postgres) -> set[int]:
    """Shards of which a former owner tried to write the row after a newer one had, in vain."""
    found: set[int] = set()
    newest: dict[int, int] = {}
    for shard, rows, epoch in TOLD.findall(postgres.server.log(100_000)):
        if rows == "0" and int(epoch) < newest.get(int(shard), 0):
            found.add(int(shard))
        elif rows == "1":
            assert int(epoch) >= newest.get(int(shard), 0), "a former owner wrote"
            newest[int(shard)] = int(epoch)
    return found


def test_a_region_that_is_cut_off_is_replaced_and_nothing_is_lost_or_done_twice(
    swarm: TwoRegions, brokers: Kafka, postgres: Postgres
) -> None:
    load, far = shared.Load(swarm), set(swarm.far_shards())
    watch_writes(swarm, postgres)

    def while_cut() -> None:
        homes = swarm.status().spec["operations"]["homes"]
        assert homes == {str(shard): "near" for shard in far}
        assert not refused(postgres), "nobody was there to be refused"

    with load.going_on():
        until(lambda: len(load.bulks) >= 4)
        done = [number for bulk in list(load.bulks) for number in bulk.results(timeout_s=60)]
        loss = shared.lose(swarm, load, shared.Log(swarm), brokers.nodes[0], while_cut)
        # a shard that had nothing to write when it was cut off may be told first that it is gone
        until(lambda: refused(postgres) and refused(postgres) <= far)
    assert loss.fenced >= 1, "the leaders know why they write no more"
    for bulk in load.bulks:
        assert len(list(bulk.results(timeout_s=100))) == shared.BULK
    assert set(swarm.status().regions["far"].placement) == far, "drained back"
    found = outcomes_in_database(swarm.spec.store, swarm.spec.name, swarm.spec.shards)
    assert set(found) == {1}, f"tasks by outcomes: {dict(found)}"
    times = begun(swarm)
    assert {times[number] for number in done} == {1}, "what was recorded before was run again"
    print(f"a shard of the region that was cut off was served after {loss.served:.2f} s: {loss}")
