"""PostgreSQL behind TLS, and with a standby that is promoted when the first server is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.errors import Unavailable
from chimera.store.control import ControlStore
from chimera.store.postgres import PostgresJournal
from tests.conformance.journal_kit import ME, OK, SHARD, accept, ended, frame, settle, states
from tests.servers.certificates import issue
from tests.servers.postgres import PASSWORD, Postgres, prepared
from tests.servers.processes import wait_until


def test_both_drivers_check_the_servers_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chimera.store.postgres.commit.PATIENCE_S", 0.2)
    certificates = issue(tmp_path)
    with prepared("ssl=on") as server:
        server.create()
        server.secure(certificates)
        server.start()
        good, bad = (
            f"{server.url()}?sslmode=verify-full&sslrootcert={ca}"
            for ca in (certificates.ca, certificates.foreign_ca)
        )
        journal = PostgresJournal(good, SHARD)
        journal.take(0, ME)
        store = ControlStore.of(good, "local", "control", "")
        assert store.draw_term("orchestrator") == 1
        query = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)"
        where = " where s.ssl and a.application_name like 'chimera%'"
        assert server.ask(query + where)[0][0] >= 2
        journal.close()
        store.close()
        with pytest.raises(Unavailable, match="certificate"):
            PostgresJournal(bad, SHARD)
        with pytest.raises(Unavailable, match="certificate"):
            ControlStore.of(bad, "local", "control", "")


def test_a_standby_that_is_promoted_goes_on_with_all_that_was_acknowledged():
    with prepared() as first, prepared() as second:
        first.create()
        first.start()
        second.follow(first)
        second.start()
        first.ask("alter system set synchronous_standby_names = '*'")
        first.ask("select pg_reload_conf()")
        wait_until(
            lambda: first.ask("select 1 from pg_stat_replication where sync_state = 'sync'"),
            "the standby to be synchronous",
        )
        url = both(first, second)
        journal = PostgresJournal(url, SHARD)
        journal.take(0, ME)
        store = ControlStore.of(url, "local", "control", "")
        store.draw_term("orchestrator")
        accept(journal, frame(0, 4))
        settle(journal, ended(0, [OK, OK, 0, 0]))
        first.kill()
        second.ask("select pg_promote()")
        assert settle(journal, ended(0, [OK] * 4)) == (2, 2)
        assert accept(journal, frame(0, 4))[0].duplicate
        assert states(journal, 0, 4) == [OK] * 4
        assert journal.epoch == 1
        assert store.draw_term("orchestrator") == 2
        store.close()
        journal.close()


def both(first: Postgres, second: Postgres) -> str:
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    options = "target_session_attrs=read-write"
    return f"postgresql://postgres:{PASSWORD}@{hosts}/postgres?{options}"
