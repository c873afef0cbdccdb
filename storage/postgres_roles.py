"""Logins that read a store in PostgreSQL and see its views only: what `hub migrate --read-role` makes.

A view gives its reader what its owner may read, so such a login needs no right on any table. Every right but three has
to be given, and is not. Three everybody has at first: to make temporary tables, to write large objects (even in a
transaction that only reads, before PostgreSQL 16), and to take advisory locks, with which one login could hold up all
writers. They are taken from PUBLIC where the database has nothing but the hub's in it and our login may do that.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from psycopg import errors, sql

from hub.db_urls import shown, with_login
from hub.errors import ConfigError, StoreUnavailable
from storage.event_views import PREFIX
from storage.postgres_connection import PostgresConnection
from storage.views import VIEWS

MARK = "LLM Hub: reads the views"
"""The comment on every role that we made; others are not touched."""

ROLE_TO_TAKE_ON = f"""
SELECT r.rolname::text FROM pg_catalog.pg_roles r
WHERE shobj_description(r.oid, 'pg_authid') = '{MARK}' AND r.rolname <> current_user AND NOT r.rolsuper
  AND pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
  AND has_table_privilege(r.oid, c.oid, 'SELECT')
ORDER BY 1 LIMIT 1
"""
"""The reading role whose rights a login may take on; *c* is the row of llm_calls in pg_class."""

_LIMITS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
_CONNECTIONS = 20
_FILES = "1GB"

_SHARED_WITH = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND n.oid <> ?::regnamespace
  AND NOT EXISTS (
    SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 1
"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege(?, p.oid, 'EXECUTE')
  AND (p.proname ~ '^lo_' OR p.proname ~ '^pg_.*advisory' OR p.proname IN ('loread', 'lowrite'))
ORDER BY 1
"""
_WRITERS = """
SELECT DISTINCT quote_ident(pg_get_userbyid(role)) FROM (
  SELECT relowner AS role FROM pg_class WHERE oid = 'hub_events'::regclass
  UNION ALL
  SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a
  WHERE c.oid = 'hub_events'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
) writers
"""
_READERS = """
SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
FROM pg_class c, aclexplode(c.relacl) a
WHERE c.oid = 'llm_calls'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
"""


class Login(NamedTuple):
    """A login that reads."""

    name: str
    url: str | None
    """With its password; None for one that was there before."""
    left: tuple[str, ...]
    """Statements for the owner of the database or a superuser: what this login could do still, and should not."""


def make_reader(connection: PostgresConnection, url: str, name: str) -> Login:
    """Make the login *name* in a migrated database, with a password at random, or give it again what it should have.
    Safe to run again.

    Args:
        connection: Of the owner of the hub's tables, who may make roles; outside of a transaction.
        url: The connection's.
    Raises:
        ConfigError: *name* cannot be used, or is a login that was not made here.
        StoreError: Our login lacks a right.
    """
    if not 0 < len(name.encode()) < 64 or name.startswith("pg_") or name in ("public", "none") or "\0" in name:
        raise ConfigError("--read-role", name, "choose a name such as llm_reader")
    try:
        with connection.raw.transaction():
            password = _make_role(connection, name)
            schema, database = _grant(connection, name)
        _close(connection, _open(connection, name, schema, database), schema)
    except errors.InsufficientPrivilege as error:
        raise StoreUnavailable(
            shown(url), f"our login may not make a login ({error.diag.message_primary})", "use one with CREATEROLE"
        ) from error
    left = tuple(_open(connection, name, schema, database))
    return Login(name, None if password is None else with_login(url, name, password), left)


def share_views(connection: PostgresConnection) -> None:
    """Whoever may read llm_calls may read all public views, those made since as well."""
    readers = [role for (role,) in connection.execute(_READERS)]
    if readers:
        connection.execute(f"GRANT SELECT ON {', '.join(_views(connection))} TO {', '.join(readers)}")


def _make_role(connection: PostgresConnection, name: str) -> str | None:
    """Returns: The password, if it is new."""
    found = connection.execute(
        "SELECT coalesce(shobj_description(oid, 'pg_authid'), ''), rolsuper OR rolcreaterole OR rolcreatedb OR"
        " rolbypassrls OR rolreplication FROM pg_roles WHERE rolname = ?",
        (name,),
    ).fetchone()
    if found is not None and found[0] != MARK:
        raise ConfigError("--read-role", name, "this login was not made by hub migrate; choose another name")
    if found is not None and found[1]:
        raise ConfigError("--read-role", name, "somebody gave this login more than reading; choose another name")
    role = sql.Identifier(name)
    if found is not None:
        return None
    password = secrets.token_urlsafe(18)
    hashed = connection.raw.pgconn.encrypt_password(password.encode(), name.encode())  # the server may log statements
    _run(
        connection,
        f"CREATE ROLE {{}} LOGIN CONNECTION LIMIT {_CONNECTIONS} PASSWORD {{}}",
        role,
        sql.Literal(hashed.decode()),
    )
    _run(connection, "COMMENT ON ROLE {} IS {}", role, sql.Literal(MARK))
    return password


def _grant(connection: PostgresConnection, name: str) -> tuple[str, str]:
    """What a reader needs. Returns: The hub's schema and the database, as identifiers."""
    ((schema, database, superuser),) = connection.execute(
        "SELECT quote_ident(n.nspname), quote_ident(current_database()), current_setting('is_superuser') = 'on'"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'llm_calls'::regclass"
    )
    role = sql.Identifier(name)
    _run(connection, f"GRANT CONNECT ON DATABASE {database} TO {{}}", role)
    _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {{}}", role)
    _run(connection, f"GRANT SELECT ON {', '.join(_views(connection))} TO {{}}", role)
    limits = {**_LIMITS, **({"temp_file_limit": _FILES} if superuser else {})}
    for setting, value in limits.items():
        _run(connection, f"ALTER ROLE {{}} IN DATABASE {database} SET {setting} = {{}}", role, sql.Literal(value))
    _run(connection, f"ALTER ROLE {{}} IN DATABASE {database} SET search_path = {schema}", role)
    if not superuser:  # then SQL given to our own login runs with the reader's rights too
        newer = connection.raw.info.server_version >= 160_000
        _run(connection, "GRANT {} TO CURRENT_USER" + (" WITH SET TRUE, INHERIT FALSE" if newer else ""), role)
    return schema, database


def _close(connection: PostgresConnection, statements: list[str], schema: str) -> None:
    """Take from PUBLIC what *statements* say; in a database shared with other programs only what concerns our schema.
    What our login may not do stays."""
    if connection.execute(_SHARED_WITH, (schema,)).fetchone() is not None:
        statements = [statement for statement in statements if statement.startswith("REVOKE CREATE ON SCHEMA")]
    for statement in statements:
        try:
            with connection.raw.transaction():
                connection.execute(statement)
        except errors.InsufficientPrivilege:
            pass


def _open(connection: PostgresConnection, name: str, schema: str, database: str) -> list[str]:
    """What PUBLIC, and so the reader, may do beyond reading, as the statements that end it."""
    ((creates, temporary),) = connection.execute(
        "SELECT has_schema_privilege(?, ?::regnamespace, 'CREATE'),"
        " has_database_privilege(?, current_database(), 'TEMPORARY')",
        (name, schema, name),
    )
    functions = [function for (function,) in connection.execute(_FUNCTIONS, (name,))]
    locks = [function for function in functions if "advisory" in function]
    writers = [writer for (writer,) in connection.execute(_WRITERS)]
    statements = {
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC": creates,
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC": temporary,
        f"GRANT EXECUTE ON FUNCTION {', '.join(locks)} TO {', '.join(writers)}": locks,
        f"REVOKE EXECUTE ON FUNCTION {', '.join(functions)} FROM PUBLIC": functions,
    }
    return [statement for statement, needed in statements.items() if needed]


def _views(connection: PostgresConnection) -> list[str]:
    """The public views, as identifiers."""
    rows = connection.execute(
        "SELECT quote_ident(relname) FROM pg_class"
        " WHERE relkind = 'v' AND (relname = ANY(?) OR starts_with(relname, ?))"
        " AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'llm_calls'::regclass) ORDER BY 1",
        (list(VIEWS), PREFIX),
    )
    return [view for (view,) in rows]


def _run(connection: PostgresConnection, text: Any, *parts: sql.Composable) -> None:
    connection.raw.execute(sql.SQL(text).format(*parts))
