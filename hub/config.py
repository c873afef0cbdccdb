"""Settings: argument, then environment, then hub.toml or [tool.hub], then default; each value knows where it came from.

Plain pydantic on purpose: pydantic-settings cannot tell the origin of a value, reads os.environ itself, and costs every
start and every command 90 ms of imports.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError

from hub.db_urls import identity, is_postgres, plain, shown
from hub.errors import ConfigError
from hub.own_prices import Discount, OwnPrice, read_discounts, read_prices

if TYPE_CHECKING:
    from hub.price_list import Prices

MIB = 1 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?://(?P<host>[^/?]*)(?:/(?P<file>[^?]*))?(?P<query>\?.*)?", re.DOTALL)
_URL = re.compile(r"[A-Za-z][\w+.-]*://")


def _patterns(value: object) -> object:
    """One expression as a string, or several as a list; in the environment a list is written as JSON."""
    if isinstance(value, str):
        text = value.strip()
        value = _json_list(text) if text.startswith("[") and text.endswith(("]", '"')) else [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError("not a list of strings")
    try:
        for item in value:
            re.compile(item)
    except re.error as broken:
        raise ValueError("not a regular expression") from broken
    return tuple(value)


def _json_list(text: str) -> object:
    import json  # only when somebody writes the list form

    try:
        return json.loads(text)
    except ValueError:
        return [text]  # a character class is a pattern too: [0-9]{16}


def duration(text: str) -> timedelta:
    """`30d`, `12h` and the like. Raises: ValueError"""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("not a duration")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError as error:
        raise ValueError("too long") from error


def _retention(value: object) -> object:
    if value is None or isinstance(value, timedelta):
        return value
    text = str(value)
    return None if text.strip().lower() == "keep" else duration(text)


def _names(value: object) -> object:
    """Words with commas, or a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError("not a list of words")
    return tuple(dict.fromkeys(word.strip().lower() for word in words))


def _address(value: object) -> object:
    """Without a host the loopback interface: metrics are nobody else's business."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    host, colon, port = str(value).rpartition(":")
    if isinstance(value, bool) or not port.isdecimal() or not 0 <= int(port) < 65536 or (colon and not host):
        raise ValueError("not an address")
    return host.strip("[]") or "127.0.0.1", int(port)


def _setting(env: str, allowed: str, about: str, **limits: Any) -> Any:
    return Field(description=about, json_schema_extra={"env": env, "allowed": allowed}, **limits)


_Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
_Names = Annotated[tuple[Literal["newest", "older", "openinference"], ...], BeforeValidator(_names)]
_Address = Annotated[tuple[str, int] | None, BeforeValidator(_address)]
_Retention = Annotated[timedelta | None, BeforeValidator(_retention)]


class Settings(BaseModel):
    """What a hub runs with. Made by `load`; every value is final: paths absolute, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    db_url: str = _setting(
        "HUB_DB_URL",
        "sqlite:///FILE, the path of a SQLite file, or postgresql://USER@HOST/DATABASE",
        "Where calls are kept",
    )
    capture: Literal["none", "summary", "full"] = _setting(
        "HUB_CAPTURE", "none, summary or full", "How much of prompts and answers is kept"
    )
    durability: Literal["memory", "crash_safe", "durable"] = _setting(
        "HUB_DURABILITY", "memory, crash_safe or durable", "What a call survives before it is in the store"
    )
    durable_timeout: float = _setting(
        "HUB_DURABLE_TIMEOUT",
        "seconds above 0 and up to 60",
        "How long durable mode waits for the disk",
        gt=0,
        le=60,
        allow_inf_nan=False,
    )
    spool_dir: Path = _setting("HUB_SPOOL_DIR", "a folder on a local disk", "Where events wait for the store")
    spool_bytes: ByteSize = _setting(
        "HUB_SPOOL_BYTES", "a size of at least 1MiB, such as 512MiB", "Most that may wait, per process", ge=MIB
    )
    project: str = _setting("HUB_PROJECT", "1 to 200 characters", "Groups calls", min_length=1, max_length=200)
    environment: str = _setting(
        "HUB_ENVIRONMENT", "1 to 200 characters", "Such as production", min_length=1, max_length=200
    )
    service: str = _setting(
        "OTEL_SERVICE_NAME", "1 to 200 characters", "The program's name in traces", min_length=1, max_length=200
    )
    sample_rate: float = _setting(
        "HUB_SAMPLE_RATE", "a number from 0 to 1", "Share of calls recorded", ge=0, le=1, allow_inf_nan=False
    )
    redact_patterns: _Patterns = _setting(
        "HUB_REDACT_PATTERNS", "a regular expression, or a list of them", "What is blacked out besides known keys"
    )
    retain_bodies: _Retention = _setting(
        "HUB_RETAIN_BODIES", "keep, or a duration such as 30d, 12h", "How long prompts and answers stay"
    )
    retain_calls: _Retention = _setting(
        "HUB_RETAIN_CALLS", "keep, or a duration such as 30d, 12h", "How long calls stay at all"
    )
    max_body_bytes: ByteSize = _setting(
        "HUB_MAX_BODY_BYTES",
        "a size from 1KiB to 256MiB, such as 16MiB",
        "A longer body is cut",
        ge=1024,
        le=256 * MIB,
    )
    disabled: bool = _setting("HUB_DISABLED", "true or false", "Record nothing at all")
    otel: Literal["auto", "export", "native", "off"] = _setting(
        "HUB_OTEL", "auto, export, native or off", "Whether calls become OpenTelemetry spans"
    )
    otel_names: _Names = _setting(
        "HUB_OTEL_NAMES",
        "newest, older and openinference, one or several with commas",
        "What span attributes and metrics are called",
    )
    prometheus: _Address = _setting(
        "HUB_PROMETHEUS", "off, a port, or HOST:PORT", "Where metrics are shown to a Prometheus server"
    )
    prices: Mapping[str, tuple[OwnPrice, ...]] = _setting(
        "HUB_PRICES", 'tables of rates: [prices."provider/model"]', "What models cost, before any list"
    )
    discounts: tuple[Discount, ...] = _setting(
        "HUB_DISCOUNTS", "tables with a percent each: [[discounts]]", "Percents off the lists' prices"
    )
    origins: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """Setting name to where its value came from: argument, environment NAME, a file, or default."""

    @property
    def spool_root(self) -> Path:
        """The folder of this store's spools: processes that write to one database find each other here."""
        path = self.sqlite_path
        named = identity(self.db_url) if path is None else f"sqlite:///{os.path.realpath(path)}"
        return self.spool_dir / hashlib.sha256(named.encode()).hexdigest()[:16]

    @property
    def sqlite_path(self) -> Path | None:
        """The store's file; None when the store is no SQLite file."""
        match = _SQLITE.fullmatch(self.db_url)
        return Path(match["file"]) if match and match["file"] else None

    @property
    def price_list(self) -> Prices:
        """What models cost by the settings, and else by the lists."""
        from hub.price_list import Prices  # for the store alone

        return Prices(self.prices, self.discounts)

    @property
    def shown_db_url(self) -> str:
        """The store's URL without password and query."""
        return shown(self.db_url)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, shown(value) if name == "db_url" else value


class Setting(NamedTuple):
    """One row of the table in docs/configuration.md."""

    name: str
    env: str
    allowed: str
    about: str


def known() -> tuple[Setting, ...]:
    """Every setting there is, in the order of the documentation."""
    rows = []
    for name, field in Settings.model_fields.items():
        if isinstance(extra := field.json_schema_extra, dict):
            rows.append(Setting(name, str(extra["env"]), str(extra["allowed"]), field.description or ""))
    return tuple(rows)


def load(
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Put the settings together.

    Args:
        overrides: Arguments by setting name; None means not given.
        environ: The process's environment unless given.
        cwd: Where the search for hub.toml begins, and what relative paths in arguments and environment start from; the
            working folder unless given.
    Raises: ConfigError: A value that cannot be used, or a setting that does not exist.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd.absolute()
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for layer in (_from_arguments(overrides or {}), _from_environment(environ), _from_file(cwd)):
        for name, value, origin, base in layer:
            if name not in values:
                values[name] = _final(name, value, origin, base or cwd)
                origins[name] = origin
    _fill_defaults(values, origins, environ, cwd)
    try:
        return Settings.model_validate({**values, "origins": origins})
    except ValidationError as failed:
        name = str(failed.errors()[0]["loc"][0])
        raise _refusal(name, values[name], origins[name]) from None


def settings_file(settings: Settings) -> tuple[str, str]:
    """The file that *settings* came from, or could come from, and what stands before the names of its tables."""
    files = {origin for origin in settings.origins.values() if origin.endswith(".toml")}
    file = files.pop() if files else "hub.toml"
    return file, "tool.hub." if Path(file).name == "pyproject.toml" else ""


_Layer = Iterator[tuple[str, object, str, Path | None]]


def _from_arguments(overrides: Mapping[str, object]) -> _Layer:
    for name, value in overrides.items():
        _check_name(name, "argument")
        if value is not None:
            yield name, value, "argument", None


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    for row in known():
        if value := environ.get(row.env):
            yield row.name, value, f"environment {row.env}", None
    for name, keys in (
        ("service", ("service.name",)),
        ("environment", ("deployment.environment.name", "deployment.environment")),
    ):
        attributes = _resource_attributes(environ)
        if value := next((attributes[key] for key in keys if attributes.get(key)), None):
            yield name, value, "environment OTEL_RESOURCE_ATTRIBUTES", None


def _resource_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    pairs = (item.partition("=") for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}


def _from_file(cwd: Path) -> _Layer:
    for folder in (cwd, *cwd.parents):
        for path, header in ((folder / "hub.toml", ()), (folder / "pyproject.toml", ("tool", "hub"))):
            if (table := _table(path, header)) is not None:
                for name, value in table.items():
                    _check_name(name, str(path))
                    yield name, value, str(path), folder
                return


def _table(path: Path, header: tuple[str, ...]) -> dict[str, object] | None:
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        if header:
            return None  # somebody else's file: its own tools complain about it
        raise ConfigError("settings file", str(path), f"it is not valid TOML ({broken}); mend or remove it") from None
    except OSError as failed:
        if header:
            return None
        raise ConfigError("settings file", str(path), f"it cannot be read ({failed.strerror})") from None
    for key in header:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _check_name(name: str, origin: str) -> None:
    names = [row.name for row in known()]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"setting ({origin})",
            name,
            f"did you mean {near[0]}?" if near else f"there is no such setting; there are {', '.join(names)}",
        )


def _refusal(name: str, value: object, origin: str) -> ConfigError:
    allowed = next(row.allowed for row in known() if row.name == name)
    readable = shown(value) if name == "db_url" and isinstance(value, str) else value
    return ConfigError(f"{name} ({origin})", readable, f"it takes {allowed}")


def _final(name: str, value: object, origin: str, start: Path) -> object:
    """Paths must not change their meaning when the program changes its folder; those in a file start at the file."""
    if name == "prices":
        return read_prices(value, origin)
    if name == "discounts":
        return read_discounts(value, origin)
    if name not in ("db_url", "spool_dir"):
        return value
    if not isinstance(value, (str, Path)) or not str(value):
        raise _refusal(name, value, origin)
    if name == "spool_dir":
        return start / Path(value).expanduser()
    return _database(str(value), origin, start)


def _database(text: str, origin: str, start: Path) -> str:
    if not _URL.match(text):
        if "?" in text:
            raise ConfigError(f"db_url ({origin})", text, "what follows a ? would be options, not the file's name")
        return f"sqlite:///{_normal(start, text)}"
    if is_postgres(text):
        return plain(text)
    match = _SQLITE.fullmatch(text)
    if match is None:
        raise _refusal("db_url", text, origin)
    if match["host"]:
        raise ConfigError(f"db_url ({origin})", text, "a SQLite URL has three slashes before the path: sqlite:///FILE")
    if match["file"] in (None, "", ":memory:"):
        raise ConfigError(f"db_url ({origin})", text, "calls are kept in a file: sqlite:///FILE")
    return f"sqlite:///{_normal(start, match['file'])}{match['query'] or ''}"


def _normal(start: Path, file: str) -> str:
    return os.path.normpath(start / Path(file).expanduser())


def _fill_defaults(values: dict[str, object], origins: dict[str, str], environ: Mapping[str, str], cwd: Path) -> None:
    folder_name = cwd.name or "default"
    defaults: dict[str, Callable[[], object]] = {
        "db_url": lambda: f"sqlite:///{_data_folder(environ) / 'calls.db'}",
        "capture": lambda: "full",
        "durability": lambda: "crash_safe",
        "durable_timeout": lambda: 1.0,
        "spool_dir": lambda: _data_folder(environ) / "spool",
        "spool_bytes": lambda: 32 * MIB if values["durability"] == "memory" else 1024 * MIB,
        "project": lambda: values.get("service", folder_name),
        "environment": lambda: "default",
        "service": lambda: values["project"],
        "sample_rate": lambda: 1.0,
        "redact_patterns": lambda: (),
        "retain_bodies": lambda: None,
        "retain_calls": lambda: None,
        "max_body_bytes": lambda: 16 * MIB,
        "disabled": lambda: False,
        "otel": lambda: "auto",
        "otel_names": lambda: ("newest",),
        "prometheus": lambda: None,
        "prices": dict,
        "discounts": tuple,
    }
    for name, default in defaults.items():
        if name not in values:
            values[name] = default()
            origins[name] = "default"


def _data_folder(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("XDG_DATA_HOME") or ".")
    if home.is_absolute():
        return home / "llm-hub"
    import platformdirs  # 11 ms, and only who names no database needs it

    return platformdirs.user_data_path("llm-hub", appauthor=False)
