"""Views of contributed events, made from the hub:schema events that announce their fields."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import orjson

from hub.events import EventRecord
from storage.engine import Connection
from storage.views import DIALECTS, Dialect

SCHEMA_EVENT = "hub:schema"
log = logging.getLogger("hub")

_ENVELOPE = ("position", "event_id", "call_id", "project", "session_id", "user_id", "trace_id")
NOT_CONTRIBUTED = "('llm:request','llm:request:debug','llm:response','llm:response:debug')"
_MOST_FIELDS = 1_000
"""PostgreSQL's views have 1,600 columns at the most, SQLite's 2,000."""
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PREFIX = "llm_event_"


def announce(connection: Connection, record: EventRecord) -> str | None:
    """Take in what *record*, a hub:schema event, says. Nonsense is passed over, and so is a change that would make
    stored events mean something else.

    Returns: The event type whose view has to be made anew, if one has.
    """
    data = record["data"]
    event_type, fields, version = data.get("type"), data.get("fields"), data.get("schema_version", 1)
    if type(event_type) is not str or type(fields) is not dict or type(version) is not int:
        return None
    view = event_view_name(event_type)
    known = connection.execute(
        "SELECT type, schema_version, fields FROM hub_event_schemas WHERE view = ?", (view,)
    ).fetchall()
    if any(row[0] != event_type for row in known):
        log.warning("hub: the view %s shows %s; %s gets none, rename it", view, known[0][0], event_type)
        return None
    held: dict[str, Any] = next((orjson.loads(row[2]) for row in known if row[1] == version), {})
    if changed := incompatible(held, fields):
        log.warning(
            "hub: %s, schema_version %s, is not what it was: %s; the view stays as it is. Give the class a new"
            " schema_version and an upcaster from the old one",
            event_type,
            version,
            changed,
        )
        return None
    if held and held.keys() >= fields.keys():
        return None
    connection.execute(
        "INSERT INTO hub_event_schemas (type, schema_version, fields, view) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (type, schema_version) DO UPDATE SET fields = excluded.fields",
        (event_type, version, orjson.dumps(held | fields).decode(), view),
    )
    return event_type


def incompatible(held: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """What keeps events of a class with *fields* from being read as those with the fields *held*, in words; empty when
    nothing does. More fields are welcome."""
    gone = [f"{name} is gone" for name in held if name not in fields]
    other = [
        f"{name} was {held[name]} and is {fields[name]}" for name in held if fields.get(name, held[name]) != held[name]
    ]
    return ", ".join(gone + other)


def refill(connection: Connection, announcements: Iterable[EventRecord], *, keep: bool) -> None:
    """Make what is known of contributed events anew, and on SQLite their views.

    Args:
        keep: What is known stays: the events that told may have been pruned.
    """
    if connection.engine == "sqlite":
        for (view,) in connection.execute("SELECT DISTINCT view FROM hub_event_schemas").fetchall():
            _failure(connection, [f"DROP VIEW IF EXISTS {view}"])
    if not keep:
        connection.execute("DELETE FROM hub_event_schemas")
    for record in announcements:
        announce(connection, record)
    if connection.engine == "sqlite":
        make_all(connection)


def make_all(connection: Connection) -> None:
    """Make the views of all types that are known."""
    for (event_type,) in connection.execute("SELECT DISTINCT type FROM hub_event_schemas ORDER BY type").fetchall():
        make(connection, event_type)


def make(connection: Connection, event_type: str) -> None:
    """Make the view of *event_type* anew, within a transaction of the caller's. One that cannot be made stays as it is:
    what is announced, by whomever, keeps no store from being written or upgraded."""
    fields: dict[str, str] = {}
    for (text,) in connection.execute(
        "SELECT fields FROM hub_event_schemas WHERE type = ? ORDER BY schema_version", (event_type,)
    ).fetchall():
        for name, kind in orjson.loads(text).items():
            fields[name] = kind if fields.get(name, kind) == kind else "json"
    view, dialect = event_view_name(event_type), DIALECTS[connection.engine]
    select = event_view(dialect, event_type, fields)
    anew = [f"DROP VIEW IF EXISTS {view}", f"CREATE VIEW {view} AS {select}"]
    if _failure(connection, dialect.replace(view, select)) and (failure := _failure(connection, anew)):
        log.warning("hub: the view %s of %s cannot be made and stays as it is: %s", view, event_type, failure)


def _failure(connection: Connection, statements: Iterable[str]) -> str:
    """Run *statements*, or none of them. Returns: Why not; empty if all is well."""
    connection.execute("SAVEPOINT hub_view")
    try:
        for statement in statements:
            connection.execute(statement)
    except Exception as error:
        connection.execute("ROLLBACK TO hub_view")
        return " ".join(str(error).split()) or type(error).__name__
    connection.execute("RELEASE hub_view")
    return ""


def event_view_name(event_type: str) -> str:
    """`acme:rate_limit` -> `llm_event_acme_rate_limit`, as long as a name may be."""
    return _cut(PREFIX + re.sub(r"[^a-z0-9_]", "_", event_type.lower()), event_type)


def column_name(field: str) -> str:
    """What a view calls a field: its name, as long as a name may be."""
    return _cut(field, field)


def _cut(name: str, of: str) -> str:
    """*name*, if it is longer than PostgreSQL's 63 bytes cut and ending in a hash of what it is the name *of*."""
    return name if len(name) <= 63 else f"{name[:54]}_{hashlib.sha256(of.encode()).hexdigest()[:8]}"


def event_view(dialect: Dialect, event_type: str, fields: Mapping[str, str]) -> str:
    """The SELECT of a view: the payload's fields, behind what tells where the event belongs.

    A field whose name is no identifier is left out, and so are those that are too many for a view; one named like a
    column of the envelope takes that column's place.
    """
    own = {field: kind for field, kind in fields.items() if _FIELD.fullmatch(field)}
    own = dict(islice(own.items(), _MOST_FIELDS))
    taken = {field.lower() for field in own}
    columns = [column for column in _ENVELOPE if column not in taken]
    if "occurred_at" not in taken:
        columns.append(f"{dialect.at('occurred_ns')} AS occurred_at")
    columns += [f'{dialect.field("data", field, kind)} AS "{column_name(field)}"' for field, kind in own.items()]
    literal = event_type.replace("'", "''")
    return f"SELECT {', '.join(columns)} FROM hub_events WHERE type = '{literal}' AND type NOT IN {NOT_CONTRIBUTED}"
