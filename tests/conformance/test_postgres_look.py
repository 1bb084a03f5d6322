"""What `chimera doctor` says of a database."""

from __future__ import annotations

from pathlib import Path

from chimera.cli.backends import look_at_store
from chimera.config import make_spec
from chimera.store.postgres import PostgresJournal, schema
from tests.servers.postgres import Postgres
from tests.servers.processes import free_ports


def findings(url: str, tmp_path: Path, **settings: object) -> dict[str, list[str]]:
    """What was seen, by state."""
    body = {"handlers": ["a"], "data_dir": str(tmp_path), "store": url, **settings}
    found: dict[str, list[str]] = {}
    for state, saw, mend in look_at_store(make_spec(body)):
        found.setdefault(state, []).append(f"{saw} -> {mend}")
    return found


def test_a_server_that_may_forget_or_is_too_small_is_told(postgres: Postgres, tmp_path: Path):
    found = findings(postgres.database(), tmp_path)  # the tests' server does not sync
    assert found["fail"] == ["fsync is off: a power loss destroys the database -> set fsync = on"]
    assert found["ok"][0].startswith("PostgreSQL ")
    assert "s3cret" not in str(found)
    crowded = findings(postgres.database(), tmp_path, shards=64)
    assert "64 shards need about 207" in crowded["warn"][0]


def test_who_cannot_get_in_or_make_anything_is_told_how(postgres: Postgres, tmp_path: Path):
    url = postgres.database()
    (refused,) = findings(url.replace("s3cret", "wrong"), tmp_path)["fail"]
    assert refused.endswith("see user and password in `store`, or PGPASSWORD")
    role = f"poor{url[-6:]}"
    postgres.ask(f"create role {role} login password 'p'")
    fails = findings(url.replace("postgres:s3cret-in-tests", f"{role}:p"), tmp_path)["fail"]
    assert f'grant create on database "{url.rpartition("/")[2]}" to "{role}"' in fails[-1]


def test_what_cannot_be_reached_is_told_with_what_to_do(postgres: Postgres, tmp_path: Path):
    url = postgres.database()
    (no_port,) = free_ports(1)
    for wrong, mend in (
        (f"{url}x", f"make it: createdb {url.rpartition('/')[2]}x"),
        (f"{url}?sslmode=require", "whether the server speaks TLS"),
        (
            url.replace(str(postgres.port), str(no_port)),
            "see that the server runs, and host and port",
        ),
    ):
        (fault,) = findings(wrong, tmp_path)["fail"]
        assert mend in fault


def test_tables_that_do_not_fit_are_told(postgres: Postgres, tmp_path: Path):
    url, newest = postgres.database(), len(schema.STEPS)

    def told(state: str) -> str:
        found = findings(url, tmp_path, name="here", shards=2)
        return next(one for one in found[state] if "fsync" not in one and "PostgreSQL" not in one)

    assert any("`chimera up` makes them" in one for one in findings(url, tmp_path)["ok"])
    PostgresJournal(url, 0, swarm="here").close()
    assert "1 of 2 journals are there; not chimera_here_0001 -> restore it" in told("fail")
    PostgresJournal(url, 1, swarm="here").close()
    assert any(
        f"2 journals, version {newest}" in one
        for one in findings(url, tmp_path, name="here", shards=2)["ok"]
    )
    postgres.run_script(url, f"UPDATE chimera_here_0001.shard SET version = {newest - 1}")
    assert f"`chimera up` brings them to {newest} -> make a backup" in told("warn")
    postgres.run_script(url, f"UPDATE chimera_here_0001.shard SET version = {newest + 1}")
    assert "install the newer Chimera again" in told("fail")
