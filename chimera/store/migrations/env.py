"""Alembic's entrance: steps run within the transaction of whoever opens the store."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
