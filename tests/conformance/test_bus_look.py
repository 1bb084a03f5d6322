"""What `chimera doctor` says of a broker and of an object store."""

from __future__ import annotations

import uuid
from pathlib import Path

from chimera.bus.connect import connect
from chimera.cli.backends import look_at_bus, look_at_objects
from chimera.config import make_spec
from chimera.swarm.spec import Spec
from chimera.traffic.topics import topics
from tests.servers.kafka import Kafka
from tests.servers.processes import free_ports, wait_until


def spec(url: str, **settings: object) -> Spec:
    return make_spec(
        {"name": f"d{uuid.uuid4().hex[:8]}", "handlers": ["a"], "bus": url, **settings}
    )


def seen(wanted: Spec) -> dict[str, list[str]]:
    """What was seen, by state."""
    found: dict[str, list[str]] = {}
    for state, saw, mend in look_at_bus(wanted):
        found.setdefault(state, []).append(f"{saw} -> {mend}")
    return found


def provision(wanted: Spec) -> None:
    bus = connect(wanted.bus)
    bus.provision(tuple(topics(wanted.name, wanted.shards)), 30.0)
    bus.close(5.0)


def test_topics_that_are_missing_are_told_with_the_command_that_makes_them(kafka: Kafka) -> None:
    wanted = spec(f"kafka://{kafka.bootstrap}", shards=3)
    missing = seen(wanted)["fail"]
    assert any(f"chimera.{wanted.name}.commands" in one for one in missing)
    assert all("chimera bus provision" in one for one in missing)
    provision(wanted)
    wait_until(lambda: "fail" not in seen(wanted), "the new partitions to have leaders")
    found = seen(wanted)
    assert found["ok"][0].startswith("3 partitions of commands, 0 records wait")


def test_one_node_is_fine_for_trying_and_refused_where_nothing_may_be_lost(kafka: Kafka) -> None:
    wanted = spec(f"kafka://{kafka.bootstrap}", durability="fsync")
    provision(wanted)

    def refused() -> bool:
        return any("one lost disk loses records" in one for one in seen(wanted)["fail"])

    wait_until(refused, "the topics' settings to be judged")


def test_a_broker_that_is_not_there_is_told_with_its_address() -> None:
    (port,) = free_ports(1)
    (fault,) = seen(spec(f"kafka://127.0.0.1:{port}"))["fail"]
    assert str(port) in fault
    assert "see that the broker runs" in fault


def test_an_object_store_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    wanted = spec("", objects=tmp_path.as_uri())
    assert look_at_objects(wanted)[0] == "ok"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    nowhere = spec("", objects="s3://nobody/there?")
    assert look_at_objects(nowhere)[0] == "fail"
