"""Classic dashboard JSON, which every Grafana from 10 on reads, and files for its provisioning of alert rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hub.dashboards import CALL_URL, TRACES_UID
from hub.dashboards.model import Alert, Dashboard, Panel
from hub.dashboards.sql import ALL, VARIABLES, Engine, for_engine

JSON = dict[str, Any]

PLUGINS: Final[Mapping[Engine, str]] = {
    "sqlite": "frser-sqlite-datasource",
    "postgresql": "grafana-postgresql-datasource",
}
_TIMES: Final = ("time", "started", "occurred")
"""Columns that are instants. SQLite has no type for them."""
_COLUMNS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where dashboards shall find things."""

    store_uid: str | None = None
    """Of the store's data source in Grafana; None for the first one of its kind."""
    traces: Literal["tempo", "jaeger"] = "tempo"
    traces_uid: str = TRACES_UID
    """Of the data source that has the traces. A link to a trace cannot take it from a variable."""
    call_url: str = CALL_URL
    """What leads to a call's page, with its id behind it."""


def dashboard(what: Dashboard, engine: Engine, place: Place) -> JSON:
    """The JSON of *what*."""
    return {
        "uid": uid(what.name, engine),
        "title": f"LLM Hub: {what.title}",
        "description": what.question,
        "tags": ["llm-hub", engine],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "timezone": "browser",
        "time": {"from": "now-24h", "to": "now"},
        "links": [_other_dashboards()],
        "annotations": {"list": []},
        "templating": {"list": list(_variables(what, engine, place))},
        "panels": list(_panels(what.panels, engine, place)),
    }


def uid(name: str, engine: Engine) -> str:
    return f"llm-hub-{name}-{engine}"


def _other_dashboards() -> JSON:
    link = {"type": "dashboards", "title": "LLM Hub", "tags": ["llm-hub"], "asDropdown": True}
    return link | {"includeVars": True, "keepTime": True, "targetBlank": False, "icon": "external link", "url": ""}


def _variables(what: Dashboard, engine: Engine, place: Place) -> Iterator[JSON]:
    store = {"name": "store", "label": "Store", "type": "datasource", "query": PLUGINS[engine], "refresh": 1}
    current = {"current": {"text": place.store_uid, "value": place.store_uid}} if place.store_uid else {"current": {}}
    yield store | current | {"hide": 0, "multi": False, "includeAll": False, "options": [], "regex": ""}
    for name in what.filters:
        query = VARIABLES[name]
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _store(engine),
            "query": query,
            "definition": query,
            "refresh": 1,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ALL,
            "current": {"text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "options": [],
            "regex": "",
        }
    url = {"text": place.call_url, "value": place.call_url}
    yield {
        "name": "call_url",
        "label": "Call's page",
        "description": "What call_id links to; the id is put behind it.",
        "type": "textbox",
        "query": place.call_url,
        "current": url,
        "options": [url | {"selected": True}],
        "hide": 0,
    }


def _store(engine: Engine) -> JSON:
    return {"type": PLUGINS[engine], "uid": "${store}"}


def _panels(panels: Sequence[Panel], engine: Engine, place: Place) -> Iterator[JSON]:
    """Row by row, as wide as they are."""
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        yield _panel(panel, engine, place) | {
            "id": number,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        }
        x, tallest = x + panel.width, max(tallest, panel.height)


def _panel(panel: Panel, engine: Engine, place: Place) -> JSON:
    made: JSON = {
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "description": f"{panel.question} {panel.notes}".strip(),
        "datasource": _store(engine),
        "targets": [_target(for_engine(panel.sql, engine), engine, _is_series(panel)) | {"datasource": _store(engine)}],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel, place))},
        "options": _OPTIONS[panel.kind],
    }
    if _is_series(panel):
        made["interval"] = "1h"  # the hourly views know no less
    if panel.most_points:
        made["maxDataPoints"] = panel.most_points
    return made


_TYPES: Final = {
    "stat": "stat",
    "lines": "timeseries",
    "bars": "timeseries",
    "table": "table",
    "heatmap": "heatmap",
}
_LEGEND: Final = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_OPTIONS: Final[Mapping[str, JSON]] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/", "values": False},
        "orientation": "vertical",
        "textMode": "value_and_name",
        "colorMode": "none",
        "graphMode": "none",
        "justifyMode": "auto",
    },
    "lines": _LEGEND,
    "bars": _LEGEND,
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}},
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "rowsFrame": {"layout": "le", "value": "calls"},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "yAxis": {"axisPlacement": "left"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
    },
}


def _is_series(panel: Panel) -> bool:
    return panel.kind in ("lines", "bars", "heatmap")


def _defaults(panel: Panel) -> JSON:
    found: JSON = {"unit": panel.unit}
    if panel.kind == "bars":
        found["custom"] = {"drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0, "stacking": {"mode": "normal"}}
    elif panel.kind == "lines":
        found["custom"] = {"drawStyle": "line", "fillOpacity": 5, "lineWidth": 1, "showPoints": "auto"}
    elif panel.kind == "table":
        found["custom"] = {"align": "auto", "filterable": True}
    if " AS series" in panel.sql:
        found["displayName"] = "${__field.labels.series}"
    return found


def _overrides(panel: Panel, place: Place) -> Iterator[JSON]:
    for column, unit in panel.units.items():
        yield _override(column, "unit", unit)
    if panel.kind == "table":
        if " AS trace_id" in panel.sql or " trace_id" in panel.sql:
            yield _override("trace_id", "links", [_to_trace(place)])
        if " call_id," in panel.sql:
            yield _override("call_id", "links", [_TO_CALL])


def _override(column: str, name: str, value: object) -> JSON:
    return {"matcher": {"id": "byName", "options": column}, "properties": [{"id": name, "value": value}]}


_TO_CALL: Final = {
    "title": "hub show ${__value.raw}",
    "url": "${call_url}${__value.raw}",
    "targetBlank": True,
}


def _to_trace(place: Place) -> JSON:
    query = {"refId": "A", "query": "${__value.raw}"}
    if place.traces == "tempo":
        query["queryType"] = "traceql"  # Jaeger's looks a trace up by having no type
    internal = {"datasourceUid": place.traces_uid, "datasourceName": place.traces.capitalize(), "query": query}
    return {"title": "Trace", "url": "", "internal": internal}


def _target(sql: str, engine: Engine, series: bool) -> JSON:
    if engine == "sqlite":
        kind = "time series" if series else "table"
        return {"refId": "A", "queryText": sql, "rawQueryText": sql, "queryType": kind, "timeColumns": list(_TIMES)}
    kind = "time_series" if series else "table"
    return {"refId": "A", "rawSql": sql, "rawQuery": True, "format": kind, "editorMode": "code"}


def alert_rules(alerts: Sequence[Alert], engine: Engine, place: Place) -> JSON:
    """A file for provisioning/alerting."""
    rules = [_rule(alert, engine, place.store_uid or store_uid(engine)) for alert in alerts]
    group = {"orgId": 1, "name": "llm-hub", "folder": "LLM Hub", "interval": "1m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def store_uid(engine: Engine) -> str:
    """Of the data source that dashboards/grafana/provisioning makes."""
    return f"hub-{engine}"


def _rule(alert: Alert, engine: Engine, store: str) -> JSON:
    find = _target(for_engine(alert.sql, engine), engine, series=False)
    compare = {
        "refId": "B",
        "type": "threshold",
        "expression": "A",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "conditions": [{"evaluator": {"type": "gt", "params": [alert.limit]}}],
    }
    return {
        "uid": uid(f"alert-{alert.name}", engine),
        "title": alert.title,
        "condition": "B",
        "for": alert.lasting,
        "noDataState": "OK",
        "execErrState": "Error",
        "annotations": {"summary": alert.summary},
        "labels": {"source": "llm-hub"},
        "data": [
            _alert_query("A", store, alert.hours, find | {"datasource": {"type": PLUGINS[engine], "uid": store}}),
            _alert_query("B", "__expr__", 0, compare),
        ],
    }


def _alert_query(ref: str, store: str, hours: int, model: JSON) -> JSON:
    seconds = {"from": hours * 3_600, "to": 0}
    return {"refId": ref, "datasourceUid": store, "relativeTimeRange": seconds, "model": model}


def jaeger_ui(place: Place) -> JSON:
    """Jaeger's configuration of its pages: from a call's span to the call."""
    pattern = {"type": "tags", "key": "hub.call.id", "text": "hub show #{hub.call.id}"}
    return {"linkPatterns": [pattern | {"url": f"{place.call_url}#{{hub.call.id}}"}]}
