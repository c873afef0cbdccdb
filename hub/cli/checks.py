"""The checks of `hub doctor`, each a function that says what it found."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.cli import shapes
from hub.cli.findings import Finding, State
from hub.cli.opening import chosen_by, place
from hub.cli.retention_checks import growth, retention
from hub.config import Settings, settings_file
from hub.errors import HubError, StoreError
from hub.own_prices import quoted
from hub.reader import Reader
from hub.spool.control import Accounting, Control
from hub.spool.folder import folders, is_held
from storage.health import WAL_RESET_FIXED, Health, examine
from storage.own_events import EXPIRED
from storage.query import Limits

ADD_USAGE = 'stream_options={"include_usage": True}'

_PATIENT = Limits(seconds=120.0)


def all_findings(reader: Reader, *, quick: bool = False) -> list[Finding]:
    """Every check, those of the store left out where there is none yet."""
    found = [_place(reader)]
    if not reader.is_missing():
        try:
            health = _examine(reader.settings, check=not quick)
        except StoreError as error:
            found.append(Finding("store", "fail", f"{error.url}: {error.reason}", error.remedy))
        else:
            found += _store(reader, health)
            found += retention(reader.settings)
    live = list(_spools(reader.settings, found))
    if reader.settings.sqlite_path is not None:
        found += _writers(live)
    found.append(_telemetry(reader.settings, os.environ))
    return found


def _examine(settings: Settings, *, check: bool) -> Health:
    if settings.sqlite_path is not None:
        return examine(settings.sqlite_path, check=check)
    from storage.postgres_health import examine as examine_database

    return examine_database(settings.db_url)


def _place(reader: Reader) -> Finding:
    where = f"{place(reader.settings)} (chosen by {chosen_by(reader.settings)})"
    if not reader.is_missing():
        return Finding("place", "ok", where)
    return Finding("place", "note", f"{where}: there is no store yet", "trace a call, or run hub demo")


def _store(reader: Reader, health: Health) -> Iterator[Finding]:
    if health.schema == health.newest_schema:
        yield Finding("schema", "ok", f"{health.schema}, the newest this version knows")
    elif health.schema is None or health.schema < health.newest_schema:
        yield Finding("schema", "fail", f"{health.schema}, older than {health.newest_schema}", "run hub migrate")
        return
    else:
        yield Finding("schema", "fail", f"{health.schema}, newer than {health.newest_schema}", "upgrade llm-hub")
        return
    if health.damage:
        yield Finding(
            "integrity", "fail", "; ".join(health.damage), "restore the newest backup beside the file; spools are kept"
        )
    elif reader.settings.sqlite_path is not None:
        yield Finding("integrity", "ok", "SQLite finds no damage")
    for check in (growth, _statuses, _sampling, _usage, _prices, _losses, _marks):
        try:
            yield from check(reader, health)
        except HubError as error:
            yield Finding(check.__name__.lstrip("_"), "fail", str(error))


def _statuses(reader: Reader, _health: Health) -> Iterator[Finding]:
    counted = dict(reader.sql("SELECT status, count(*) FROM llm_calls GROUP BY 1", limits=_PATIENT).rows)
    lost, running = counted.get("lost", 0), counted.get("running", 0)
    if lost:
        yield Finding(
            "lost calls",
            "warn",
            f"{shapes.many(lost, 'call')} open when the process died",
            "hub calls --where \"status = 'lost'\" lists them",
        )
    else:
        yield Finding("lost calls", "ok", "none")
    if running:
        yield Finding("running", "note", f"{shapes.many(running, 'call')} without an answer yet")


def _sampling(reader: Reader, _health: Health) -> Iterator[Finding]:
    count = sum(data.get("calls", 0) for data in _told(reader, "hub:unsampled"))
    if count:
        yield Finding(
            "sampling", "note", f"{shapes.many(count, 'call')} of ended programs left out, as HUB_SAMPLE_RATE told them"
        )


def _told(reader: Reader, event_type: str) -> list[dict[str, Any]]:
    """The payloads of the hub's own events of a type, which are few."""
    found = reader.sql("SELECT data FROM llm_events WHERE type = ?", (event_type,), limits=_PATIENT)
    return [json.loads(data) for (data,) in found.rows]


def _usage(reader: Reader, _health: Health) -> Iterator[Finding]:
    count = reader.sql(
        "SELECT count(*) FROM llm_calls WHERE stream = 1 AND status = 'ok' AND input_tokens IS NULL", limits=_PATIENT
    ).rows[0][0]
    if count:
        yield Finding(
            "stream usage",
            "warn",
            f"{shapes.many(count, 'stream')} ended without token counts: cost unknown",
            f"OpenAI's wire sends them when the call says {ADD_USAGE}",
        )
    else:
        yield Finding("stream usage", "ok", "every finished stream has its token counts")


def _prices(reader: Reader, _health: Health) -> Iterator[Finding]:
    rows = reader.sql(
        "SELECT provider, coalesce(request_model, response_model), count(*), count(output_tokens), max(response_model) "
        "FROM llm_calls WHERE cost_nanos IS NULL AND input_tokens IS NOT NULL "
        "AND coalesce(request_model, response_model) IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20",
        limits=_PATIENT,
    ).rows
    if not rows:
        yield Finding("prices", "ok", "every call with token counts has a cost")
        return
    prices = reader.settings.price_list
    known = [row for row in rows if any(prices.knows(row[0], model) for model in (row[1], row[4]) if model)]
    if missing := [row for row in rows if row not in known]:
        yield Finding("prices", "warn", f"no price is known for {_counted(missing)}", _lines_to_add(reader, missing))
    if late := [row for row in known if row[3]]:
        remedy = "hub reprice --dry-run shows what they cost by now, hub reprice applies it"
        yield Finding("reprice", "note", f"calls from before their price was known: {_counted(late)}", remedy)
    if halves := [row for row in known if not row[3]]:
        yield Finding("prices", "note", f"no cost without a count of the answer's tokens: {_counted(halves)}")


def _counted(rows: Iterable[Sequence[Any]]) -> str:
    return ", ".join(f"{row[0] or '?'}/{row[1]} ({shapes.many(row[2], 'call')})" for row in rows)


def _lines_to_add(reader: Reader, rows: Iterable[Sequence[Any]]) -> str:
    file, header = settings_file(reader.settings)
    lines = [f"add to {file}, with what they cost in dollars for a million tokens, then run hub reprice:"]
    for provider, model, *_ in rows:
        name = quoted(f"{provider}/{model}" if provider else model)
        lines += [f"[{header}prices.{name}]", "input = 0.0", "output = 0.0"]
    return "\n".join(lines)


def _losses(reader: Reader, _health: Health) -> Iterator[Finding]:
    counts = Counter[tuple[str, str]]()
    for data in _told(reader, "hub:dropped"):
        counts[data.get("sink") or "all sinks", data.get("reason", "")] += data.get("count", 0)
    rows = [(sink, reason, count) for (sink, reason), count in sorted(counts.items())]
    expired = [row for row in rows if row[1] == EXPIRED]
    missing = [row for row in rows if row[0] in ("all sinks", "store") and row not in expired]
    if missing:
        remedy = "a larger HUB_SPOOL_BYTES holds longer bursts"
        yield Finding("dropped", "warn", f"events that are not in the store: {_named(missing)}", remedy)
    else:
        yield Finding("dropped", "ok", "no event was lost to the store")
    if count := sum(row[2] for row in expired):
        told = f"{shapes.many(count, 'event')} came when calls of their time had been pruned already"
        yield Finding("expired", "note", f"{told}, and were not kept")
    if other := [row for row in rows if row not in missing and row not in expired]:
        remedy = "hub export otlp sends the spans" if any(row[0] == "otlp" for row in other) else ""
        yield Finding("not exported", "note", f"events that other sinks did not get: {_named(other)}", remedy)
    conflicts = reader.sql("SELECT count(*) FROM llm_events WHERE type = 'hub:conflict'", limits=_PATIENT).rows[0][0]
    if conflicts:
        yield Finding(
            "conflicts", "warn", f"{shapes.many(conflicts, 'event')} for a place that was taken", "please report it"
        )


def _named(drops: Iterable[Sequence[object]]) -> str:
    return ", ".join(f"{sink}: {reason} {count:,}" for sink, reason, count in drops)


def _marks(reader: Reader, _health: Health) -> Iterator[Finding]:
    shed, sanitised, redacted = reader.sql(
        "SELECT count(CASE WHEN data LIKE '%\"shed\":%' THEN 1 END), "
        "count(CASE WHEN data LIKE '%\"sanitised\":%' THEN 1 END), "
        "count(CASE WHEN data LIKE '%\"redacted\":%' THEN 1 END) FROM llm_events",
        limits=_PATIENT,
    ).rows[0]
    if sanitised or redacted:
        values = f"{shapes.many(sanitised, 'event')} had values that cannot be stored as they are"
        yield Finding("content", "note", f"{values}; {shapes.many(redacted, 'event')} had secrets blacked out")
    else:
        yield Finding("content", "ok", "nothing had to be changed or blacked out")
    if shed:
        yield Finding(
            "shed",
            "warn",
            f"{shapes.many(shed, 'event')} lost content in a burst",
            "a larger HUB_SPOOL_BYTES keeps more",
        )


def _spools(settings: Settings, found: list[Finding]) -> Iterator[str]:
    """Adds what it finds to *found*; gives the producers that are alive."""
    root = settings.spool_root
    try:
        held = {folder: is_held(folder) for folder in folders(root)}
    except OSError as error:
        found.append(Finding("spools", "warn", f"{root} cannot be read: {error.strerror}", "run this as its owner"))
        return
    if not held:
        found.append(Finding("spools", "ok", f"nothing waits in {root}"))
    for folder, alive in held.items():
        if alive:
            yield folder.name
        found.append(_spool(folder, alive=alive))


def _spool(folder: Path, *, alive: bool) -> Finding:
    name = f"spool {folder.name[:13]}"
    try:
        control = Control.open(folder)
    except (HubError, OSError) as error:
        state: State = "note" if alive else "warn"
        return Finding(name, state, f"cannot be read: {error}", f"it stays in {folder} until a version can read it")
    accounting = control.accounting()
    facts = [_sink_line(sink, accounting) for sink in accounting.sinks]
    text = f"{'running' if alive else 'ended'}, emitted {accounting.emitted:,}; " + "; ".join(facts)
    extra = _extras(accounting)
    text += f" ({extra})" if extra else ""
    if alive:  # the counters move while they are read
        return Finding(name, "ok", text)
    if not _adds_up(accounting):
        return Finding(name, "fail", f"{text}: the numbers do not add up", "please report it")
    return Finding(name, "warn", text, "it waits for a command that may write to the store")


def _sink_line(sink: str, accounting: Accounting) -> str:
    counts = accounting.sinks[sink]
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.items() if count)
    return f"{sink}: {counts.stored:,} stored + {counts.waiting:,} waiting + {dropped or 'none'} dropped"


def _adds_up(accounting: Accounting) -> bool:
    return all(
        accounting.emitted == sink.stored + sink.waiting + sum(sink.dropped.values())
        for sink in accounting.sinks.values()
    )


def _extras(accounting: Accounting) -> str:
    counted = {
        "segments made on the caller's path": accounting.made_in_append,
        "waits for the disk given up": accounting.durable_timeouts,
        "times the disk was full": accounting.memory_fallbacks,
        "calls left out by sampling": accounting.unsampled,
    }
    return ", ".join(f"{count:,} {words}" for words, count in counted.items() if count)


def _writers(live: Iterable[str]) -> Iterator[Finding]:
    import sqlite3

    count, version = len(list(live)), sqlite3.sqlite_version_info
    if count > 1 and version < WAL_RESET_FIXED:
        yield Finding(
            "sqlite",
            "warn",
            f"{count} processes write to this store with SQLite {sqlite3.sqlite_version}, whose WAL-reset bug can "
            "damage a database with several writers",
            "use a Python with SQLite 3.51.3 or newer; keep backups until then",
        )
    else:
        yield Finding("sqlite", "ok", f"version {sqlite3.sqlite_version}, {count} running processes write")


def _telemetry(settings: Settings, environ: Mapping[str, str]) -> Finding:
    endpoint = next(
        (
            environ[name]
            for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
            if environ.get(name)
        ),
        None,
    )
    if settings.otel == "off":
        return Finding("otel", "ok", "off: no spans are made (HUB_OTEL)")
    if endpoint:
        where = endpoint.partition("?")[0].rpartition("@")[2]
        return Finding("otel", "ok", f"{settings.otel}: spans go to {where}")
    if settings.otel == "auto":
        return Finding(
            "otel", "ok", "auto: no OTLP endpoint is set here, so spans are made only in programs with their own tracer"
        )
    return Finding("otel", "ok", f"{settings.otel}: no OTLP endpoint is set here")
