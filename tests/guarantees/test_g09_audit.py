"""G9: every control action is in the append-only, hash-chained audit log before it is
acknowledged."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from chimera.actors import boot
from chimera.store.control import ControlStore

pytestmark = pytest.mark.cluster


def test_boot_apply_failover_and_end_are_on_record_and_a_forger_is_found(make_swarm):
    world = make_swarm(leaders=2)
    victim = world.region().leaders[0]
    moved = {shard.shard for shard in victim.shards}
    world.kill(victim.process)
    world.settle()
    world.spec = msgspec.structs.replace(world.spec, queue_bound=1234)
    boot.up(world.spec, timeout_s=100)
    world.down()

    control = ControlStore.open(world.data_dir / "control.sqlite")
    region_path = world.data_dir / "coordinator-local.sqlite"
    region = ControlStore.open(region_path)
    try:
        assert control.verify_audit() is None
        assert region.verify_audit() is None
        done = [entry.action for entry in control.audit_entries(limit=1000)]
        assert done[0] == "boot"
        assert done.index("make") < done.index("apply") < done.index("stop")
        entries = region.audit_entries(limit=1000)
        (lost,) = [
            e.seq for e in entries if (e.action, e.subject) == ("leader_lost", victim.leader)
        ]
        taken = {e.subject for e in entries if e.action == "take" and e.seq > lost}
        assert {f"shard {shard}" for shard in moved} <= taken

        forge = f"UPDATE audit SET subject = 'somebody else' WHERE seq = {lost}"
        with closing(sqlite3.connect(region_path)) as db, db:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(forge)
            triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in triggers.fetchall():
                db.execute(f"DROP TRIGGER {name}")
            db.execute(forge)
        broken = region.verify_audit()
        assert broken is not None
        assert broken.seq == lost
    finally:
        control.close()
        region.close()
