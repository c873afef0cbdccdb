"""Settings: where values come from, what is refused, and that each is documented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from hub import db_urls
from hub.config import MIB, Settings, known, load
from hub.errors import ConfigError

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


def test_without_any_setting_everything_has_a_default(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    settings = load({}, {"XDG_DATA_HOME": "/data"}, folder)
    assert settings.db_url == "sqlite:////data/llm-hub/calls.db"
    assert settings.spool_dir == Path("/data/llm-hub/spool")
    assert (settings.project, settings.service, settings.environment) == ("shop", "shop", "default")
    assert (settings.capture, settings.durability, settings.otel) == ("full", "crash_safe", "auto")
    assert (settings.retain_bodies, settings.retain_calls, settings.redact_patterns) == (None, None, ())
    assert set(settings.origins.values()) == {"default"}


def test_argument_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text('project = "file"\ncapture = "summary"\nenvironment = "file"\n')
    environ = {"HUB_PROJECT": "environ", "HUB_CAPTURE": "none"}
    settings = load({"project": "argument", "capture": None}, environ, tmp_path)
    assert (settings.project, settings.capture, settings.environment) == ("argument", "none", "file")
    assert settings.origins["project"] == "argument"
    assert settings.origins["capture"] == "environment HUB_CAPTURE"
    assert settings.origins["environment"] == str(tmp_path / "hub.toml")
    assert settings.origins["otel"] == "default"


def test_the_nearest_file_is_found_upwards_and_its_paths_start_at_its_folder(tmp_path: Path) -> None:
    below = tmp_path / "project" / "src" / "deep"
    below.mkdir(parents=True)
    (tmp_path / "hub.toml").write_text('project = "far"')
    (tmp_path / "project" / "pyproject.toml").write_text(
        '[tool.hub]\ndb_url = "sqlite:///data/calls.db"\nspool_dir = "spool"\n'
    )
    (tmp_path / "project" / "src" / "pyproject.toml").write_text('[project]\nname = "without a table of ours"\n')
    settings = load({}, {}, below)
    assert settings.sqlite_path == tmp_path / "project" / "data" / "calls.db"
    assert settings.spool_dir == tmp_path / "project" / "spool"
    assert settings.project == "deep"


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("sqlite:///calls.db", "calls.db"),
        ("sqlite+pysqlite:///./calls.db", "calls.db"),
        ("calls.db", "calls.db"),
        ("sub/../calls.db", "calls.db"),
        ("a b.db", "a b.db"),
    ],
)
def test_relative_databases_start_at_the_working_folder(tmp_path: Path, given: str, file: str) -> None:
    settings = load({}, {"HUB_DB_URL": given}, tmp_path)
    assert settings.db_url == f"sqlite:///{tmp_path / file}"
    assert settings.sqlite_path == tmp_path / file


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HUB_SPOOL_BYTES", "512MiB", 512 * MIB),
        ("HUB_MAX_BODY_BYTES", "65536", 65536),
        ("HUB_DISABLED", "1", True),
        ("HUB_DISABLED", "false", False),
        ("HUB_SAMPLE_RATE", "0.25", 0.25),
        ("HUB_DURABLE_TIMEOUT", "2.5", 2.5),
        ("HUB_RETAIN_BODIES", "30d", timedelta(days=30)),
        ("HUB_RETAIN_CALLS", "1.5h", timedelta(minutes=90)),
        ("HUB_RETAIN_CALLS", "keep", None),
        ("HUB_REDACT_PATTERNS", "[0-9]{16}", ("[0-9]{16}",)),
        ("HUB_REDACT_PATTERNS", "[ab]", ("[ab]",)),
        ("HUB_REDACT_PATTERNS", r'["customer-\\d+", "x"]', (r"customer-\d+", "x")),
        ("OTEL_SERVICE_NAME", "api", "api"),
    ],
)
def test_text_from_the_environment_gets_its_type(tmp_path: Path, name: str, value: str, expected: object) -> None:
    setting = next(row.name for row in known() if row.env == name)
    assert getattr(load({}, {name: value}, tmp_path), setting) == expected


def test_names_come_from_the_resource_attributes_when_nothing_nearer_says_them(tmp_path: Path) -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=api%20x,deployment.environment.name=prod,other"}
    settings = load({}, environ, tmp_path)
    assert (settings.service, settings.project, settings.environment) == ("api x", "api x", "prod")
    assert load({}, {**environ, "OTEL_SERVICE_NAME": "named"}, tmp_path).service == "named"


def test_memory_mode_has_a_small_spool_by_default(tmp_path: Path) -> None:
    assert load({"durability": "memory"}, {}, tmp_path).spool_bytes == 32 * MIB
    assert load({"durability": "memory", "spool_bytes": "64MiB"}, {}, tmp_path).spool_bytes == 64 * MIB


BAD: list[tuple[Mapping[str, object], Mapping[str, str], list[str]]] = [
    ({"capture": "everything"}, {}, ["capture", "argument", "everything", "none, summary or full"]),
    ({"captur": "full"}, {}, ["captur", "did you mean capture"]),
    ({"nonsense": 1}, {}, ["nonsense", "db_url"]),
    ({"db_url": ""}, {}, ["db_url", "sqlite:///FILE"]),
    ({"db_url": 7}, {}, ["db_url", "sqlite:///FILE"]),
    ({}, {"HUB_DB_URL": "mysql://u:secret@host/db"}, ["db_url", "environment HUB_DB_URL", "sqlite:///FILE"]),
    ({}, {"HUB_DB_URL": "sqlite://calls.db"}, ["three slashes"]),
    ({"db_url": "what?.db"}, {}, ["what?.db", "options"]),
    ({}, {"HUB_DB_URL": "sqlite://"}, ["kept in a file"]),
    ({}, {"HUB_DB_URL": "sqlite:///:memory:"}, ["kept in a file"]),
    ({}, {"HUB_SAMPLE_RATE": "nan"}, ["sample_rate", "0 to 1"]),
    ({}, {"HUB_SAMPLE_RATE": "1.5"}, ["sample_rate", "0 to 1"]),
    ({}, {"HUB_DURABILITY": "very"}, ["durability", "crash_safe"]),
    ({}, {"HUB_DURABLE_TIMEOUT": "inf"}, ["durable_timeout", "seconds"]),
    ({}, {"HUB_SPOOL_BYTES": "lots"}, ["spool_bytes", "512MiB"]),
    ({}, {"HUB_SPOOL_BYTES": "1"}, ["spool_bytes", "at least 1MiB"]),
    ({}, {"HUB_MAX_BODY_BYTES": "-1"}, ["max_body_bytes", "16MiB"]),
    ({}, {"HUB_REDACT_PATTERNS": "(open"}, ["redact_patterns", "regular expression"]),
    ({"redact_patterns": ["fine", 3]}, {}, ["redact_patterns", "regular expression"]),
    ({}, {"HUB_RETAIN_BODIES": "soon"}, ["retain_bodies", "30d"]),
    ({}, {"HUB_DISABLED": "perhaps"}, ["disabled", "true or false"]),
    ({}, {"HUB_OTEL": "on"}, ["otel", "auto, export, native or off"]),
    ({}, {"HUB_OTEL_NAMES": "newest,oldest"}, ["otel_names", "older"]),
    ({}, {"HUB_PROMETHEUS": "yes"}, ["prometheus", "HOST:PORT"]),
    ({"project": "x" * 300}, {}, ["project", "1 to 200"]),
]


def test_names_are_words_with_commas_and_a_port_alone_is_on_the_loopback_interface(tmp_path: Path) -> None:
    assert load({}, {}, tmp_path).prometheus is None
    settings = load({}, {"HUB_OTEL_NAMES": "newest, OpenInference", "HUB_PROMETHEUS": "9464"}, tmp_path)
    assert settings.otel_names == ("newest", "openinference")
    assert settings.prometheus == ("127.0.0.1", 9464)
    assert load({"prometheus": "0.0.0.0:9464"}, {}, tmp_path).prometheus == ("0.0.0.0", 9464)
    assert load({"prometheus": "[::1]:9464", "otel_names": ["older"]}, {}, tmp_path).prometheus == ("::1", 9464)


@pytest.mark.parametrize(("overrides", "environ", "said"), BAD)
def test_a_bad_value_is_refused_by_name_origin_and_what_is_allowed(
    tmp_path: Path, overrides: Mapping[str, object], environ: Mapping[str, str], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides, environ, tmp_path)
    for words in said:
        assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_bad_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    for text, said in (
        ("project = ", "not valid TOML"),
        ("projekt = 'x'", "did you mean project"),
        ("otel = 3", "auto"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said) as caught:
            load({}, {}, tmp_path)
        assert str(path) in str(caught.value)


def test_somebody_elses_broken_pyproject_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("not toml")
    assert load({}, {}, tmp_path).project == tmp_path.name


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = load({}, {}, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.project = "other"


def test_two_ways_to_name_a_database_lead_to_one_spool_folder(tmp_path: Path) -> None:
    roots = {
        load({"db_url": url, "spool_dir": "/spool"}, {}, tmp_path).spool_root
        for url in ("calls.db", "sqlite:///calls.db", f"sqlite:///{tmp_path}/calls.db", "sqlite:///calls.db?timeout=3")
    }
    assert len(roots) == 1
    assert roots.pop().parent == Path("/spool")
    assert load({"db_url": "b.db", "spool_dir": "/spool"}, {}, tmp_path).spool_root not in roots


def test_a_link_to_a_store_leads_to_its_spool_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "calls.db")
    names = ("real/calls.db", "link/calls.db", "link.db")
    assert len({load({"db_url": name, "spool_dir": "/spool"}, {}, tmp_path).spool_root for name in names}) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p%40ss@host/db?sslkey=k", "postgresql://u:***@host/db"),
        ("postgresql://u:p@ss/w:o?rd@host/db", "postgresql://u:***@host/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://u@host/db?password=p@ss", "postgresql://u@host/db"),
        ("postgresql://u:p@host/db?sslpassword=p@ss", "postgresql://***"),
        ("postgresql://[::1]:5432/db?password=p@ss", "postgresql://***"),
        ("postgresql:///db?host=/run&password=p@ss", "postgresql:///db"),
        ("postgresql://u:123?4@host/db", "postgresql://***"),
        ("sqlite:////a:b@c.db", "sqlite:////a:b@c.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert db_urls.shown(url) == shown


def test_of_a_server_what_chooses_the_database_chooses_the_spool_folder(tmp_path: Path) -> None:
    def root(url: str) -> Path:
        return load({"db_url": url}, {}, tmp_path).spool_root

    one = root("postgresql://u:old@host/db?options=-csearch_path%3Dhub&sslmode=require")
    assert one == root("postgres://u:new@host/db?sslmode=disable&options=-csearch_path%3Dhub")
    assert one == root("postgresql+psycopg://u@host/db?options=-csearch_path%3Dhub")
    assert one == root("postgresql://other@host:5432/db?options=-csearch_path%3Dhub")
    assert one != root("postgresql://u@host/db")
    assert one != root("postgresql://u@host:5433/db?options=-csearch_path%3Dhub")
    local = {root(f"postgresql://u:p@{name}/db") for name in ("localhost", "127.0.0.1:5432", "[::1]", "LOCALHOST")}
    assert local == {root("postgresql:///db?host=localhost&port=5432"), root("postgresql://localhost?dbname=db")}
    assert root("postgresql://ann@host") == root("postgresql://bob@host/ann") != root("postgresql://bob@host")
    assert root("postgresql://a:1,b/db") == root("postgresql:///db?host=a,b&port=1,5432")
    assert root("postgresql://u:p@one/db?sslpassword=p@ss") != root("postgresql://u:p@two/db?sslpassword=p@ss")
    assert root("postgresql:///db?host=/run/a") != root("postgresql:///db?host=/run/b")


def test_the_settings_object_shows_no_query(tmp_path: Path) -> None:
    assert "hidden" not in repr(load({"db_url": "sqlite:///x.db?key=hidden"}, {}, tmp_path))


def test_every_setting_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DOCS.read_text(), flags=re.MULTILINE)
    assert rows == [(row.name, row.env) for row in known()]
    assert [row.name for row in known()] == [name for name in Settings.model_fields if name != "origins"]
