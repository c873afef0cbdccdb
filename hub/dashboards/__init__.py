"""Grafana dashboards over the public views, for SQLite and PostgreSQL from one list of panels.

What they show stands in `catalog`; `python -m hub.dashboards` writes the JSON that the repository has in
dashboards/grafana, and `hub export dashboards` writes it anywhere.
"""
