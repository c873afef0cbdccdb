"""Run by Alembic on the connection, within the transaction, that storage.migrate hands over."""

from __future__ import annotations

from alembic import context

from storage.schema import in_history, metadata_of

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata_of(connection.dialect.name),
    version_table="hub_schema",
    include_name=in_history,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
