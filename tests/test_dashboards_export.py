"""`hub export dashboards`: into a folder that may hold what is not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli.main import app
from hub.dashboards.__main__ import committed
from hub.dashboards.grafana import Place
from hub.dashboards.writing import LIST, write
from hub.errors import FileRefused

NAMES = {
    *(f"dashboards/{name}.json" for name in ("overview", "cost", "latency", "calls", "health")),
    "alerting/rules.json",
    "jaeger/ui.json",
}


def export(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["export", "dashboards", str(folder), *options])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_writes_dashboards_rules_and_links(tmp_path: Path) -> None:
    done = export(tmp_path / "new" / "folder", "--store", "sqlite", "--json")
    assert done.exit_code == 0, done.output
    assert {str(Path(path).relative_to(tmp_path / "new" / "folder")) for path in json.loads(done.stdout)} == NAMES
    assert there(tmp_path / "new" / "folder") == NAMES | {LIST}


def test_they_are_those_of_the_repository_when_its_data_source_is_named(tmp_path: Path) -> None:
    assert export(tmp_path, "--store", "postgresql", "--store-uid", "hub-postgresql").exit_code == 0
    wanted = {path.name: content for path, content in committed() if "postgresql" in path.parts}
    assert wanted.keys() == {path.name for path in tmp_path.rglob("*.json")} - {"ui.json"}
    for path in tmp_path.rglob("*.json"):
        assert path.name == "ui.json" or path.read_bytes() == wanted[path.name]


@pytest.mark.parametrize(
    ("url", "plugin"),
    [("sqlite:///calls.db", "frser-sqlite-datasource"), ("postgresql://u@h/d", "grafana-postgresql-datasource")],
)
def test_they_read_the_kind_of_store_that_is_used_here(tmp_path: Path, url: str, plugin: str) -> None:
    assert export(tmp_path, "--db", url).exit_code == 0
    variables = read(tmp_path / "dashboards" / "overview.json")["templating"]["list"]
    assert variables[0]["query"] == plugin
    assert variables[0]["current"] == {}, "the first of its kind, whatever its uid"


def test_links_lead_where_one_wants(tmp_path: Path) -> None:
    url = "https://hub.example.com/calls/"
    given = ("--traces", "jaeger", "--traces-uid", "my-jaeger", "--call-url", url, "--store-uid", "mine")
    assert export(tmp_path, *given).exit_code == 0
    calls = read(tmp_path / "dashboards" / "calls.json")
    links = {
        override["matcher"]["options"]: one["value"][0]
        for override in calls["panels"][0]["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "links"
    }
    internal = links["trace_id"]["internal"]
    assert (internal["datasourceUid"], internal["datasourceName"]) == ("my-jaeger", "Jaeger")
    assert internal["query"] == {"refId": "A", "query": "${__value.raw}"}
    (page,) = (one for one in calls["templating"]["list"] if one["name"] == "call_url")
    assert page["query"] == page["current"]["value"] == url
    assert read(tmp_path / "jaeger" / "ui.json")["linkPatterns"][0]["url"] == url + "#{hub.call.id}"
    rules = read(tmp_path / "alerting" / "rules.json")["groups"][0]["rules"]
    assert {rule["data"][0]["datasourceUid"] for rule in rules} == {"mine"}


def test_what_an_export_wrote_is_written_anew_with_other_options(tmp_path: Path) -> None:
    for store in ("sqlite", "postgresql"):
        assert export(tmp_path, "--store", store).exit_code == 0
    assert read(tmp_path / "dashboards" / "cost.json")["uid"].endswith("postgresql")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_was_changed_or_is_another_s_stays_unless_asked(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    refused = export(tmp_path / "mine", "--store", "sqlite")
    assert refused.exit_code == 2
    assert "--replace" in refused.output
    assert there(tmp_path / "mine") == {name}, "nothing is written when one file must not be"
    write(tmp_path / "edited", "sqlite", Place())
    edited = tmp_path / "edited" / name
    edited.write_bytes(edited.read_bytes() + b" ")
    with pytest.raises(FileRefused, match="changed since"):
        write(tmp_path / "edited", "sqlite", Place())
    assert export(tmp_path / "edited", "--store", "sqlite", "--replace").exit_code == 0
    assert not edited.read_bytes().endswith(b" ")


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / "other.json").write_text("other's")
    assert export(tmp_path, "--replace").exit_code == 0
    assert (tmp_path / "dashboards" / "other.json").read_text() == "other's"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused = export(tmp_path / "file")
    assert refused.exit_code == 2
    assert "folder" in refused.output
    assert (tmp_path / "file").read_text() == "mine"
