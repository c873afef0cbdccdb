"""Database URLs: what people may see of them, and which of them mean one database."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_WHOLE = re.compile(r"([^:@/]*(:[^@/]*)?@)?(\[[^]]*\]|[^:@/]*)(:\d+)?(/[^:@]*)?")
_HOST = re.compile(r"(?P<name>\[[^]]*\]|[^:]*)(?::(?P<port>\d*))?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORT = "5432"


def is_postgres(url: str) -> bool:
    return _POSTGRES.match(url) is not None


def plain(url: str) -> str:
    """A PostgreSQL URL as libpq knows it."""
    return _POSTGRES.sub("postgresql://", url, count=1)


def shown(url: str) -> str:
    """*url* fit to be read by people: without password and query."""
    return _without_secrets(url, ":***")


def identity(url: str) -> str:
    """What all URLs of a database have in common, whoever logs in: of a server its hosts, each with its port and
    this machine by one name, the database, and what chooses another schema of it."""
    if not is_postgres(url):
        return _without_secrets(url, "")
    login, place, query = _parts(plain(url).partition("://")[2])
    given = {key: unquote(value) for key, _, value in (part.partition("=") for part in query.split("&")) if value}
    hosts, _, path = place.partition("/")
    database = given.get("dbname") or unquote(path) or given.get("user") or unquote(login.partition(":")[0])
    named = given.get("hostaddr") or given.get("host") or unquote(hosts)
    ports = given.get("port", _PORT).split(",")
    places = [_host(host, ports[place % len(ports)]) for place, host in enumerate(named.split(","))]
    more = "&".join(f"{key}={given[key]}" for key in ("options", "service") if key in given)
    return f"postgresql://{','.join(places)}/{database}" + (f"?{more}" if more else "")


def _host(text: str, port: str) -> str:
    match = _HOST.fullmatch(text)
    name = (match["name"] if match else text).strip("[]").lower()
    return f"{_LOOPBACK[0] if name in _LOOPBACK else name}:{(match and match['port']) or port}"


def _parts(body: str) -> tuple[str, str, str]:
    """Login, place and query of what follows the scheme of a URL of PostgreSQL."""
    credentials, _, place = body.rpartition("@")
    head, query, _ = credentials.partition("?")
    if query and _WHOLE.fullmatch(head):  # the last @ is of the query, or of a password in which both stand
        login, _, place = head.rpartition("@")
        return login, place, body.partition("?")[2]
    place, _, query = place.partition("?")
    return credentials, place, query


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
