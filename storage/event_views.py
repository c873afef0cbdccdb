"""Views of contributed events, made from the hub:schema events that announce their fields."""

from __future__ import annotations

import logging

import orjson

from hub.events import EventRecord
from storage.engine import Connection
from storage.views import event_view, event_view_name

SCHEMA_EVENT = "hub:schema"
log = logging.getLogger("hub")


def announce(connection: Connection, record: EventRecord) -> None:
    """Make or widen the view of the type that *record*, a hub:schema event, is about. Nonsense is passed over."""
    data = record["data"]
    event_type, fields, version = data.get("type"), data.get("fields"), data.get("schema_version", 1)
    if type(event_type) is not str or type(fields) is not dict or type(version) is not int:
        return
    kept = orjson.dumps(fields).decode()
    view = event_view_name(event_type)
    known = connection.execute(
        "SELECT type, schema_version, fields FROM hub_event_schemas WHERE view = ? ORDER BY schema_version", (view,)
    ).fetchall()
    if any(row[0] != event_type for row in known):
        log.warning("hub: the view %s shows %s; %s gets none, rename it", view, known[0][0], event_type)
        return
    if (event_type, version, kept) in known:
        return
    connection.execute(
        "INSERT INTO hub_event_schemas (type, schema_version, fields, view) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (type, schema_version) DO UPDATE SET fields = excluded.fields",
        (event_type, version, kept, view),
    )
    names = [name for row in known for name in orjson.loads(row[2])] + list(fields)
    connection.execute(f"DROP VIEW IF EXISTS {view}")
    connection.execute(event_view(event_type, view, names))


def refill(connection: Connection, announcements: list[EventRecord]) -> None:
    """Make all views of contributed events anew."""
    for (view,) in connection.execute("SELECT DISTINCT view FROM hub_event_schemas").fetchall():
        connection.execute(f"DROP VIEW IF EXISTS {view}")
    connection.execute("DELETE FROM hub_event_schemas")
    for record in announcements:
        announce(connection, record)
