"""What starts the viewers: files that refer to each other, since no container is started here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from hub.dashboards import TRACES_UID
from hub.dashboards.grafana import store_uid
from hub.dashboards.sql import ENGINES
from storage.postgres_roles import make_reader
from tests.dashboards_kit import FOLDER, panels, rules
from tests.postgres_kit import connected

COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROVISIONING = FOLDER / "grafana" / "provisioning"
SOURCES: dict[str, Any] = {
    source["uid"]: source
    for source in yaml.safe_load((PROVISIONING / "datasources" / "hub.yaml").read_text())["datasources"]
}


def expanded(text: str, **given: str) -> str:
    """As Compose would: `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: given.get(match[1], match[2]), text)


def binds() -> list[tuple[str, str, str]]:
    """Service, place here, place inside."""
    found = []
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            place, _, inside = volume.replace(":-", "\0").partition(":")
            if place.startswith((".", "$")):
                found.append((name, place.replace("\0", ":-"), inside.partition(":")[0]))
    return found


def test_every_service_belongs_to_a_profile() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items()}
    assert {one for found in profiles.values() for one in found} == {"jaeger", "grafana", "postgres", "tools"}
    assert profiles["tempo"] == profiles["grafana"] == ["grafana"]


def test_ports_are_open_on_this_machine_only_and_none_twice() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_images_and_plugins_have_one_version() -> None:
    images = {service["image"] for service in SERVICES.values()} - {"llm-hub:local"}
    images |= set(re.findall(r"^FROM (\S+)", (FOLDER / "Dockerfile").read_text(), re.MULTILINE))
    assert all(re.fullmatch(r"[\w./-]+:\d+(\.\d+)+[\w.-]*", image) for image in images), images
    assert re.fullmatch(r"[\w-]+@\d+\.\d+\.\d+", SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"])


def test_passwords_come_from_variables_and_have_no_default() -> None:
    for path in [FOLDER / "compose.yaml", *PROVISIONING.rglob("*.yaml")]:
        for name, value in re.findall(r"^\s*(\w*password\w*):\s*(.+)$", path.read_text(), re.MULTILINE | re.IGNORECASE):
            assert re.fullmatch(r"\$\{HUB_\w*PASSWORD:-\}|\$HUB_\w*PASSWORD", value), (path.name, name)
    assert "HUB_GRAFANA_PASSWORD" in str(SERVICES["grafana"]["entrypoint"])


def test_grafana_is_not_started_without_a_password() -> None:
    *shell, program = SERVICES["grafana"]["entrypoint"]
    program = program.replace("$$", "$").replace("/run.sh", "echo started")
    for password, wanted in (("", 1), ("secret", 0)):
        done = subprocess.run(
            [*shell, program], env={"GF_SECURITY_ADMIN_PASSWORD": password}, capture_output=True, text=True, check=False
        )
        assert done.returncode == wanted
        assert ("HUB_GRAFANA_PASSWORD" in done.stderr) is bool(wanted)


def test_what_is_mounted_is_there_for_either_store() -> None:
    found = binds()
    assert {name for name, _, _ in found} == {"jaeger", "tempo", "grafana", "reader"}
    for engine in ENGINES:
        for _, place, _ in found:
            assert (FOLDER / expanded(place, HUB_STORE=engine)).exists(), place
    named = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert set(COMPOSE["volumes"]) == {name for name in named if name.isalpha()}


def test_what_is_named_inside_is_mounted() -> None:
    inside = {place for _, _, place in binds()}
    assert SERVICES["jaeger"]["command"][0].rpartition("=")[2] in inside
    assert SERVICES["tempo"]["command"][0].rpartition("=")[2] in inside
    assert SERVICES["reader"]["command"][-1] in inside
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "hub.yaml").read_text())["providers"]
    assert provider["options"]["path"] in inside
    assert SERVICES["grafana"]["environment"]["HUB_SQLITE_FILE"].startswith("/store/")
    assert yaml.safe_load((FOLDER / "tempo" / "tempo.yaml").read_text())["server"]["http_listen_port"] == 3200


def test_grafana_can_only_read() -> None:
    file = SOURCES["hub-sqlite"]["jsonData"]
    assert (file["pathPrefix"], file["pathOptions"]) == ("file:", "mode=ro")
    assert SOURCES["hub-postgresql"]["user"] == "$HUB_READER"


def test_every_variable_of_the_data_sources_is_given_to_grafana() -> None:
    text = (PROVISIONING / "datasources" / "hub.yaml").read_text()
    used = set(re.findall(r"(?<!\$)\$(\w+)", text))
    assert used
    assert used <= set(SERVICES["grafana"]["environment"])


def test_dashboards_rules_and_links_name_data_sources_that_are_there() -> None:
    for engine in ENGINES:
        for dashboard, panel in panels(engine):
            assert SOURCES[store_uid(engine)]["type"] == panel["datasource"]["type"]
            for override in panel["fieldConfig"]["overrides"]:
                if override["matcher"]["options"] == "trace_id":
                    ((link,),) = (one["value"] for one in override["properties"])
                    assert link["internal"]["datasourceUid"] == TRACES_UID
                    assert SOURCES[TRACES_UID]["type"] == link["internal"]["datasourceName"].lower() == "tempo"
                if override["matcher"]["options"] == "call_id":
                    ((link,),) = (one["value"] for one in override["properties"])
                    assert link["url"].startswith("${call_url}")
                    assert "call_url" in {one["name"] for one in dashboard["templating"]["list"]}
        assert {query["datasourceUid"] for rule in rules(engine) for query in rule["data"]} == {
            store_uid(engine),
            "__expr__",
        }


def test_a_trace_leads_back_to_its_calls() -> None:
    (pattern,) = json.loads((FOLDER / "jaeger" / "ui.json").read_text())["linkPatterns"]
    assert (pattern["type"], pattern["key"]) == ("tags", "hub.call.id")
    assert "#{hub.call.id}" in pattern["url"]
    assert pattern["text"] == "hub show #{hub.call.id}"
    store, page = SOURCES[TRACES_UID]["correlations"]
    assert {store["targetUID"].replace("$HUB_STORE", engine) for engine in ENGINES} <= SOURCES.keys()
    assert page["config"]["target"]["url"] == "$HUB_CALL_URL$${callID}"
    tags = json.dumps(  # as Grafana has them in the column `tags`
        [
            {"key": "gen_ai.request.model", "value": "m"},
            {"key": "hub.call.id", "value": "01a0"},
            {"key": "z", "value": 1},
        ],
        separators=(",", ":"),
    )
    for correlation in (store, page):
        (found,) = correlation["config"]["transformations"]
        match = re.search(found["expression"], tags)
        assert match is not None
        assert (found["mapValue"], match[1]) == ("callID", "01a0")
        assert re.search(found["expression"], tags.replace("hub.call.id", "other")) is None


def test_the_image_is_built_from_the_wheel_and_what_it_needs_is_not_left_out() -> None:
    for name in ("migrate", "hub"):
        build = SERVICES[name]["build"]
        assert (FOLDER / build["context"] / build["dockerfile"]) == FOLDER / ".." / "dashboards" / "Dockerfile"
    text = (FOLDER / "Dockerfile").read_text()
    assert "pip wheel" in text
    kept = re.findall(r"^!(\S+)", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((FOLDER.parent / path).exists() for path in kept)
    wheel = re.search(r"only-include = \[(.+)\]", (FOLDER.parent / "pyproject.toml").read_text())
    assert wheel is not None
    assert set(re.findall(r'"(\w+)"', wheel[1])) | {"README.md", "LICENSE", "pyproject.toml", "uv.lock"} <= set(kept)


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql, PostgreSQL's own client")
def test_the_login_that_reads_gets_the_password_that_grafana_has(own_migrated_url: str) -> None:
    name = f"{urlsplit(own_migrated_url).path[1:]}_reader"
    with connected(own_migrated_url) as connection:
        make_reader(connection, own_migrated_url, name)

    def run(password: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["psql", "-X", "-f", str(FOLDER / "postgres" / "reader.sql"), own_migrated_url],
            env={"PATH": os.environ["PATH"], "HUB_READER": name, "HUB_READER_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("").returncode != 0
    assert "HUB_READER_PASSWORD" in run("").stderr
    password = "it's 'known' \\ \"now\""
    for _ in range(2):
        done = run(password)
        assert done.returncode == 0, done.stderr
    host = urlsplit(own_migrated_url)
    with psycopg.connect(
        host=host.hostname, port=host.port, dbname=host.path[1:], user=name, password=password
    ) as reader:
        assert reader.execute("SELECT count(*) FROM llm_calls").fetchone() == (0,)


def test_no_file_of_the_folder_is_meant_for_nobody() -> None:
    known = {
        *(Path(FOLDER / expanded(place, HUB_STORE=engine)).resolve() for _, place, _ in binds() for engine in ENGINES),
        FOLDER / "compose.yaml",
        FOLDER / "Dockerfile",
        FOLDER / "Dockerfile.dockerignore",
    }
    for path in (path for path in FOLDER.rglob("*") if path.is_file()):
        assert known & {path, *path.parents} - {FOLDER.parent}, path
