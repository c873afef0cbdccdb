"""Database URLs: what people may see of them, and which of them mean one database."""

from __future__ import annotations

import re
from urllib.parse import quote

_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_WHOLE = re.compile(r"([^:@/]*(:[^@/]*)?@)?(\[[^]]*\]|[^:@/]*)(:\d+)?(/[^:@]*)?")
_CHOOSING = ("host", "hostaddr", "port", "dbname", "user", "service", "options")
"""Keys of a query that lead to another database, or to another schema of it."""


def is_postgres(url: str) -> bool:
    return _POSTGRES.match(url) is not None


def plain(url: str) -> str:
    """A PostgreSQL URL as libpq knows it."""
    return _POSTGRES.sub("postgresql://", url, count=1)


def shown(url: str) -> str:
    """*url* fit to be read by people: without password and query."""
    return _without_secrets(url, ":***")


def identity(url: str) -> str:
    """What all URLs of a database have in common: no password, and of the query only what chooses the database."""
    bare = _without_secrets(url, "")
    if not is_postgres(url):
        return bare
    chosen = [part for part in url.partition("?")[2].split("&") if part.partition("=")[0] in _CHOOSING]
    return "?".join([bare, *filter(None, ["&".join(sorted(chosen))])])


def with_login(url: str, user: str, password: str) -> str:
    """The URL of the same PostgreSQL database for another login."""
    head, mark, query = plain(url).partition("?")
    scheme, slashes, rest = head.partition("://")
    others = [part for part in query.split("&") if part and part.partition("=")[0] not in ("user", "password")]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}{slashes}{login}@{rest.rpartition('@')[2]}" + (mark + "&".join(others) if others else "")


def _without_secrets(url: str, stand_in: str) -> str:
    scheme, mark, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if scheme.startswith("sqlite") or not at:
        return url.partition("?")[0]
    head, query, _ = credentials.partition("?")
    if query and _WHOLE.fullmatch(head):  # the last @ is of the query, or of a password in which both stand
        return f"{scheme}{mark}{'***' if ':' in head else head}"
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}{stand_in if colon else ''}@{host.partition('?')[0]}"
