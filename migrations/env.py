"""Run by Alembic on the connection, within the transaction, that storage.migrate hands over."""

from __future__ import annotations

from alembic import context

from storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="hub_schema",
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
