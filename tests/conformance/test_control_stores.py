"""The control store, in both databases: what the control plane must not forget, unchanged."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from chimera.contracts.registry import Registry
from chimera.errors import StaleTerm, WrongVersion
from chimera.store.control import Conflict, ControlStore, Identity, Term
from chimera.swarm.coordinator.effects import Audit, Seat
from tests.servers.postgres import Postgres


class SqlitePlace:
    """A file that is not there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> ControlStore:
        return ControlStore.open(self._path)

    def write(self, *statements: str, off: bool = False) -> None:
        """Write past the store, as somebody with the file in hands could; `off`: with the
        triggers gone."""
        connection = sqlite3.connect(self._path)
        with contextlib.closing(connection), connection:
            if off:
                for name in ("audit_no_update", "audit_no_delete"):
                    connection.execute(f"drop trigger {name}")
            for statement in statements:
                connection.execute(statement)


class PostgresPlace:
    """A namespace that is not there yet."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._url = server.database()

    def open(self) -> ControlStore:
        return ControlStore.of(self._url, "local", "control", "")

    def write(self, *statements: str, off: bool = False) -> None:
        """Likewise."""
        role = "set session_replication_role = replica;" if off else ""
        script = f'set search_path = "chimera_local_control"; {role} {"; ".join(statements)}'
        self._server.run_script(self._url, script)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "made" / "control.sqlite")
    return PostgresPlace(request.getfixturevalue("postgres"))


@pytest.fixture
def store(place):
    store = place.open()
    yield store
    store.close()


# -- schema ------------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_store_and_stays_one(place):
    for _ in range(2):
        store = place.open()
        assert store.identity() is None
        assert store.spec() is None
        assert store.load_placement("local") == ()
        assert store.audit_entries() == []
        assert store.verify_audit() is None
        store.close()


def test_two_who_open_an_empty_store_at_once_both_can(place):
    barrier = threading.Barrier(4)

    def open_one(_):
        barrier.wait(10)
        store = place.open()
        term = store.draw_term("orchestrator")
        store.close()
        return term

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(open_one, range(4))) == [1, 2, 3, 4]


def test_a_store_of_a_newer_version_is_refused(place):
    place.open().close()
    place.write("update alembic_version set version_num = '9999'")
    with pytest.raises(WrongVersion, match="9999"):
        place.open()


# -- identity and spec -------------------------------------------------------------------------


def test_the_first_founder_gives_the_store_its_name(store):
    assert store.found("u1", "local") == Identity("u1", "local")
    assert store.found("u2", "other") == Identity("u1", "local")
    assert store.identity() == Identity("u1", "local")


def test_specs_have_generations_that_follow_each_other(store):
    store.save_spec(1, {"name": "local", "shards": 8}, "up", 1000)
    store.save_spec(2, {"name": "local", "shards": 8, "ü": None}, "up", 2000)
    newest = store.spec()
    assert (newest.generation, newest.applied_at, newest.by) == (2, 2000, "up")
    assert newest.body == {"name": "local", "shards": 8, "ü": None}
    assert store.spec(1).body == {"name": "local", "shards": 8}
    assert store.spec(3) is None
    store.save_spec(2, {"name": "local", "shards": 8, "ü": None}, "up", 2001)  # sent again
    assert store.spec().applied_at == 2000
    for generation in (2, 4):
        with pytest.raises(Conflict) as caught:
            store.save_spec(generation, {}, "up", 3000)
        assert caught.value.details["newest"] == 2


def test_a_spec_that_is_kept_for_somebody_else_may_have_gaps_and_come_twice_or_late(store):
    for generation in (3, 7, 7, 5):
        store.keep_spec(generation, {"n": generation}, "orchestrator", 1000)
    assert (store.spec().generation, store.spec().body) == (7, {"n": 7})
    assert store.spec(5).body == {"n": 5}


def test_an_order_that_was_carried_out_is_known(store):
    store.record(1, actor="orchestrator", spec=(1, {}), by="up 17")
    assert store.has_order("up 17")
    assert not store.has_order("up 18")


# -- terms -------------------------------------------------------------------------------------


def test_terms_of_two_connections_are_never_the_same(place):
    stores = [place.open() for _ in range(2)]
    start = threading.Barrier(4)

    def draw(store):
        start.wait(10)
        return [store.draw_term("coordinator/local") for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        drawn = [term for terms in pool.map(draw, stores * 2) for term in terms]
    assert sorted(drawn) == list(range(1, 41))
    assert stores[0].draw_term("orchestrator") == 1
    for store in stores:
        store.close()


def test_terms_of_others_are_remembered_and_lower_ones_refused(store):
    for term in (4, 4, 6):
        store.heed_term("orchestrator", term)
    with pytest.raises(StaleTerm) as caught:
        store.heed_term("orchestrator", 5)
    assert caught.value.details["term"] == 6
    assert store.draw_term("orchestrator") == 7


def test_a_former_incarnation_writes_nothing(store):
    old = Term("orchestrator", store.draw_term("orchestrator"))
    store.record(1, writer=old, notes=[Audit("make", "coordinator/local")])
    new = Term("orchestrator", store.draw_term("orchestrator"))
    with pytest.raises(StaleTerm) as caught:
        store.record(
            2,
            writer=old,
            spec=(1, {}),
            region="r",
            seats=[Seat(0, "l", 1)],
            notes=[Audit("a", "b")],
        )
    assert caught.value.details["term"] == new.term
    assert store.spec() is None
    assert store.load_placement("r") == ()
    assert len(store.audit_entries()) == 1
    assert store.record(3, writer=new, notes=[Audit("make", "x")]) == 2


def test_what_is_recorded_together_is_recorded_whole_or_not_at_all(store):
    with pytest.raises(Conflict):
        store.record(
            1,
            actor="up",
            spec=(7, {}),
            region="r",
            seats=[Seat(0, "l", 1)],
            notes=[Audit("a", "b")],
        )
    assert store.load_placement("r") == ()
    assert store.audit_entries() == []


# -- placement ---------------------------------------------------------------------------------


def test_placement_is_kept_by_region_and_replaced_by_shard(store):
    store.save_placement("eu", [Seat(0, "leader/eu/0", 3), Seat(1, "", 0)], 1)
    store.save_placement("us", [Seat(0, "leader/us/0", 1)], 2)
    store.save_placement("eu", [Seat(1, "leader/eu/1", 5)], 3)
    assert store.load_placement("eu") == (Seat(0, "leader/eu/0", 3), Seat(1, "leader/eu/1", 5))
    assert store.load_placement("us") == (Seat(0, "leader/us/0", 1),)


# -- audit -------------------------------------------------------------------------------------


_COPY = (
    "insert into audit select {}, at, actor, action, subject, detail, hash, hash from audit "
    "where seq = 5"
)


def write_entries(store, count):
    for n in range(1, count + 1):
        detail = {"b": n, "a": ["\ud800 lone", "ü", None]}
        assert store.audit("up", "apply", f"spec {n}", detail, 1000 + n) == n


def test_entries_come_back_as_written_and_page_by_page(store):
    write_entries(store, 5)
    first, second = store.audit_entries(limit=2)
    assert (first.seq, first.at, first.actor, first.action) == (1, 1001, "up", "apply")
    assert (first.subject, first.details()["b"]) == ("spec 1", 1)
    assert second.prev_hash == first.hash
    assert [e.seq for e in store.audit_entries(after=2)] == [3, 4, 5]
    assert store.verify_audit() is None


@pytest.mark.parametrize(
    ("statements", "seq", "fault"),
    [
        (["update audit set detail = '{}' where seq = 3"], 3, "was changed"),
        (["update audit set at = 1 where seq = 1"], 1, "was changed"),
        (["update audit set prev_hash = '00' where seq = 4"], 4, "does not follow"),
        (["delete from audit where seq = 2"], 2, "is missing"),
        (["delete from audit where seq = 1"], 1, "is missing"),
        (["delete from audit where seq = 5"], 5, "the last entries, from 5 to 5"),
        (["delete from audit"], 1, "the last entries, from 1 to 5"),
        ([_COPY.format(6)], 6, "was changed"),
        ([_COPY.format(0)], 1, "is missing"),
        (["update audit_head set seq = 4, hash = (select hash from audit where seq = 4)"],
         5, "not recorded by Chimera"),
        (["delete from audit_head"], 1, "head of the log is missing"),
    ],
)  # fmt: skip
def test_the_first_broken_link_is_named(store, place, statements, seq, fault):
    write_entries(store, 5)
    place.write(*statements, off=True)
    broken = store.verify_audit()
    assert broken.seq == seq
    assert fault in broken.fault


@pytest.mark.parametrize("statement", ["update audit set at = 1", "delete from audit"])
def test_entries_cannot_be_changed_by_mistake(store, place, statement):
    write_entries(store, 1)
    with pytest.raises((sqlite3.IntegrityError, asyncpg.PostgresError), match="append-only"):
        place.write(statement)


def test_entries_of_many_threads_make_one_chain(place):
    stores = [place.open() for _ in range(2)]

    def write(store):
        for n in range(10):
            store.audit("x", "act", str(n), {}, n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, stores * 2))
    assert stores[0].verify_audit() is None
    assert len(stores[1].audit_entries()) == 40
    for store in stores:
        store.close()


def test_registries_on_one_store_give_no_id_twice_and_forget_nothing(place):
    stores = [place.open() for _ in range(3)]
    registries = [Registry(store.registry_log()) for store in stores]

    def register(n):
        schema = f'{{"type": "record", "name": "R{n}", "fields": []}}'
        return registries[n % 3].register(f"subject-{n}", schema)

    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(register, range(24)))
    assert sorted(ids) == list(range(1000, 1024))
    for store in stores:
        store.close()
    again = place.open()
    log = again.registry_log()
    assert Registry(log).call("by_id", id=ids[7])["schema"].count("R7")
    assert not log.append(24, "{}", 0), "an entry is never written over"
    assert [number for number, _ in log.read(20)] == [21, 22, 23, 24]
    again.close()
