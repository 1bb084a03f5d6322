"""Version 1: swarm, specs, terms, placement and the audit chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: SQLite has no privileges, so triggers say that entries of the audit log stay as they are; in
#: PostgreSQL too, for who owns the tables has every privilege
_APPEND_ONLY = {
    "sqlite": """
create trigger audit_no_{verb} before {verb} on audit
begin select raise(abort, 'the audit log is append-only'); end
""",
    "postgresql": """
create function audit_no_{verb}() returns trigger language plpgsql as
$$ begin raise exception 'the audit log is append-only'; end $$;
create trigger audit_no_{verb} before {verb} on audit execute function audit_no_{verb}()
""",
}


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "swarm",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
    )
    op.create_table(
        "specs",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("applied_at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.create_table(
        "terms",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("term", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "placement",
        sa.Column("region", sa.String(32), primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("leader", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"one": 1, "seq": 0, "hash": "0" * 64}])
    script = _APPEND_ONLY[op.get_bind().dialect.name]
    for verb in ("update", "delete"):
        op.execute(script.format(verb=verb))
