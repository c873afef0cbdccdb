"""Grafana dashboards over the public views, for SQLite and PostgreSQL from one list of panels.

What they show stands in `catalog`; `python -m hub.dashboards` writes the JSON that the repository has in
dashboards/grafana, and `hub export dashboards` writes it anywhere.
"""

from typing import Final

TRACES_UID: Final = "hub-traces"
"""Of the data source with the traces, where nothing else is said. So dashboards/grafana/provisioning names it."""

CALL_URL: Final = "http://localhost:8321/calls/"
"""What shows a call, its id behind it, where nothing else is said."""
