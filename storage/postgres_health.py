"""What `hub doctor` asks of a PostgreSQL database itself."""

from __future__ import annotations

from contextlib import closing

from storage.health import Health
from storage.postgres_migrate import revision_of
from storage.postgres_server import connect, translated

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'hub\\_%' AND relnamespace = quote_ident(current_schema())::regnamespace
"""


def examine(url: str) -> Health:
    """Raises: StoreError: It cannot be read."""
    connection = connect(url)
    with closing(connection.raw), translated(url):
        ((size,),) = connection.execute(_SIZE)
        return Health(bytes=size, schema=revision_of(connection))
