"""What `chimera doctor` says of a database."""

from __future__ import annotations

from pathlib import Path

from chimera.cli.backends import look_at_store
from chimera.config import make_spec
from tests.servers.postgres import Postgres


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
    assert "password" in refused
    role = f"poor{url[-6:]}"
    postgres.ask(f"create role {role} login password 'p'")
    fails = findings(url.replace("postgres:s3cret-in-tests", f"{role}:p"), tmp_path)["fail"]
    assert f'grant create on database "{url.rpartition("/")[2]}" to "{role}"' in fails[-1]
