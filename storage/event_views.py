"""Views of contributed events, made from the hub:schema events that announce their fields."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from hub.events import EventRecord
from storage.engine import Connection, Engine
from storage.views import DIALECTS

SCHEMA_EVENT = "hub:schema"
log = logging.getLogger("hub")

_ENVELOPE = ("position", "event_id", "call_id", "project", "session_id", "user_id", "trace_id")
NOT_CONTRIBUTED = "('llm:request','llm:request:debug','llm:response','llm:response:debug')"
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
    return ", ".join(gone + other) if held else ""


def refill(connection: Connection, announcements: Iterable[EventRecord]) -> None:
    """Make what is known of contributed events anew, and on SQLite their views."""
    if connection.engine == "sqlite":
        for (view,) in connection.execute("SELECT DISTINCT view FROM hub_event_schemas").fetchall():
            connection.execute(f"DROP VIEW IF EXISTS {view}")
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
    """Make the view of *event_type* anew."""
    fields: dict[str, str] = {}
    for (text,) in connection.execute(
        "SELECT fields FROM hub_event_schemas WHERE type = ? ORDER BY schema_version", (event_type,)
    ).fetchall():
        for name, kind in orjson.loads(text).items():
            fields[name] = kind if fields.get(name, kind) == kind else "json"
    view = event_view_name(event_type)
    connection.execute(f"DROP VIEW IF EXISTS {view}")
    connection.execute(event_view(connection.engine, event_type, view, fields))


def event_view_name(event_type: str) -> str:
    """`acme:rate_limit` -> `llm_event_acme_rate_limit`; longer than 63 bytes it is cut and ends in a hash."""
    name = PREFIX + re.sub(r"[^a-z0-9_]", "_", event_type.lower())
    if len(name) <= 63:
        return name
    return name[:54] + "_" + hashlib.sha256(event_type.encode()).hexdigest()[:8]


def event_view(engine: Engine, event_type: str, name: str, fields: Mapping[str, str]) -> str:
    """The statement that makes the view *name*: the payload's fields, behind what tells where the event belongs.

    A field whose name is no identifier is left out; one named like a column of the envelope takes that column's place.
    """
    dialect = DIALECTS[engine]
    own = {field: kind for field, kind in fields.items() if _FIELD.fullmatch(field)}
    taken = {field.lower() for field in own}
    columns = [column for column in _ENVELOPE if column not in taken]
    if "occurred_at" not in taken:
        columns.append(f"{dialect.at('occurred_ns')} AS occurred_at")
    columns += [f'{dialect.field("data", field, kind)} AS "{field}"' for field, kind in own.items()]
    literal = event_type.replace("'", "''")
    return (
        f"CREATE VIEW {name} AS SELECT {', '.join(columns)} FROM hub_events"
        f" WHERE type = '{literal}' AND type NOT IN {NOT_CONTRIBUTED}"
    )
