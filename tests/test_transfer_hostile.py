"""Files that are broken, cut off, of somebody else or made to do harm: the good in them comes in, the rest is told."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import FileRefused
from hub.events import EventRecord
from hub.reader import Reader
from hub.transfer.checking import Checker, Unfit, price_rows
from hub.transfer.event_table import EventTable
from hub.transfer.found import Broken, Found
from hub.transfer.lines import JsonLines
from storage.sqlite import SQLiteStore
from tests.contracts.log import json_values
from tests.factories import Factory
from tests.transfer_kit import Outcome, bring_in, events_in, export, many_calls, settings_of, written

MIB = 1 << 20


def line(record: Any) -> bytes:
    return orjson.dumps(record)


def changed(**fields: Any) -> dict[str, Any]:
    """An event with other values for some keys; ... takes a key out."""
    record = dict(Factory("changed").call()[0])
    record.update(fields)
    return {key: value for key, value in record.items() if value is not ...}


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "cut off": (line(changed())[:-40], "it is no JSON"),
    "no JSON": (b"this is no JSON", "it is no JSON"),
    "no object": (b'["an", "array"]', "no JSON object"),
    "a number": (b"7", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "empty": (b"{}", "id is missing"),
    "binary": (bytes(range(128, 256)), "it is no JSON"),
    "utf-16": ('{"id": 1}'.encode("utf-16"), "it is no JSON"),
    "two on a line": (line(changed()) + line(changed()), "it is no JSON"),
    "nested too deep": (b'{"id":' * 100_000, "nested too deep"),
    "another kind of object": (b'{"model": "gpt-5", "cost_usd": 0.1}', "id is missing"),
    **{
        f"without {key}": (line(changed(**{key: ...})), f"{key} is missing")
        for key in ("id", "type", "stream_id", "version", "occurred_at", "project", "service", "producer", "data")
    },
    "id": (line(changed(id="7")), "id is no UUID"),
    "upper case": (line(changed(stream_id=changed()["stream_id"].upper())), "stream_id is no UUID"),
    "an event that is none within a conflict": (
        line(changed(type="hub:conflict", content={"original": changed(user_id=["somebody"])})),
        "the event that it carries is none: user_id is no text",
    ),
    "call_id": (line(changed(call_id="the first")), "call_id is no UUID"),
    "a random id of a call": (line(changed(call_id="ffffffff-ffff-4fff-8fff-ffffffffffff")), "call_id is no UUIDv7"),
    "type": (line(changed(type="request")), "type is no type of an event"),
    "type with NUL": (line(changed(type="a:b\0")), "type is no type of an event"),
    "version 0": (line(changed(version=0)), "version is no whole number"),
    "version true": (line(changed(version=True)), "version is no whole number"),
    "version 2.0": (line(changed(version=2.0)), "version is no whole number"),
    "version beyond 32 bits": (line(changed(version=2**31)), "version is no whole number"),
    "schema_version": (line(changed(schema_version="new")), "schema_version is no whole number"),
    "time as text": (line(changed(occurred_at="2026-11-20")), "occurred_at is no time"),
    "time beyond 64 bits": (json.dumps(changed(occurred_at=10**30)).encode(), "occurred_at is no time"),
    "time beyond 2116": (line(changed(occurred_at=2**63 - 1)), "beyond the year 2116"),
    "level": (line(changed(level=["info"])), "level is neither"),
    "project": (line(changed(project=None)), "project is no text"),
    "tags": (line(changed(tags={"a": 1})), "tags are no texts"),
    "trace_id": (line(changed(trace_id="zz" * 16)), "trace_id is not made of 32"),
    "span_id": (line(changed(span_id="b7ad")), "span_id is not made of 16"),
    "parent_is_remote": (line(changed(parent_is_remote=1)), "parent_is_remote is neither"),
    "producer_seq": (line(changed(producer_seq=2**63)), "producer_seq is no whole number"),
    "data": (line(changed(data=[1])), "data is no JSON object"),
    "content": (line(changed(content="text")), "content is neither"),
    "header": (b'{"hub_export": {}}', "which format"),
    "prices": (b'{"hub_prices": {"provider": "p", "model": "m", "cards": "none"}}', "price cards"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_told_of_and_its_neighbours_come_in(tmp_path: Path, kind: str) -> None:
    bad, why = BAD_LINES[kind]
    good = Factory().calls(2)
    lines = [*map(line, good[:4]), b"", bad, *map(line, good[4:])]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    outcome = bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db")
    ((place, told),) = outcome.complaints
    assert (place, outcome.done.broken, outcome.done.new) == ("line 6", 1, 8)
    assert why in told
    assert not outcome.done.is_whole
    assert events_in(tmp_path / "calls.db") == good


def test_windows_line_ends_a_byte_order_mark_and_a_missing_last_newline_are_no_fault(tmp_path: Path) -> None:
    good = Factory().calls(2)
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(map(line, good)))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").complaints == []
    assert events_in(tmp_path / "calls.db") == good


def test_what_a_record_may_leave_out_has_its_usual_value(tmp_path: Path) -> None:
    whole = Factory().call()[0]
    short = {key: value for key, value in whole.items() if value is not None and key not in ("schema_version", "level")}
    (tmp_path / "in.jsonl").write_bytes(line({**short, "something": "new"}))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").complaints == []
    assert events_in(tmp_path / "calls.db") == [whole]


DEEP: Any = "bottom"
for _ in range(200):
    DEEP = [DEEP]

ODD_VALUES: dict[str, tuple[str, str]] = {
    "NUL": (r'"a\u0000b"', "nul"),
    "half of a surrogate pair": (r'"a\ud800b"', "surrogate"),
    "NaN": ("NaN", "nan"),
    "Infinity": ("-Infinity", "nan"),
    "an integer beyond 64 bits": (str(2**64 - 1), "bigint"),
    "nesting": (json.dumps(DEEP), "depth"),
}


@pytest.mark.parametrize("where", ["data", "content"])
@pytest.mark.parametrize("kind", ODD_VALUES)
def test_a_value_that_no_store_takes_is_mended_as_when_it_is_emitted(tmp_path: Path, kind: str, where: str) -> None:
    text, reason = ODD_VALUES[kind]
    record = json.dumps(changed(type="acme:odd", **{where: {"odd": "HERE", "good": "text"}}))
    (tmp_path / "in.jsonl").write_text(record.replace('"HERE"', text))
    outcome = bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db")
    (kept,) = events_in(tmp_path / "calls.db")
    assert (outcome.complaints, outcome.done.changed) == ([], 1)
    assert kept["data"]["sanitised"] == {reason: 1}
    told: Any = kept
    assert told[where]["good"] == "text"
    line(kept)
    (tmp_path / "in.jsonl").write_text(record.replace('"HERE"', text))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").done.duplicates == 1


def test_texts_of_the_envelope_and_keys_are_mended_too(tmp_path: Path) -> None:
    record = changed(session_id="a\0b", tags={"k\0": "v\0"}, project="p\0", data={"k\0": 1}, producer="\0")
    (tmp_path / "in.jsonl").write_bytes(line(record))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").complaints == []
    (kept,) = events_in(tmp_path / "calls.db")
    assert b"\\u0000" not in line(kept)
    assert (kept["session_id"], kept["tags"]) == ("a\ufffdb", {"k\ufffd": "v\ufffd"})
    assert kept["data"]["sanitised"] == {"nul": 6}


def test_secrets_in_an_export_stay_as_they_were_recorded(tmp_path: Path) -> None:
    """They were blacked out then, if they were; a second time would change what is brought back."""
    record = changed(type="hub:schema", data={"type": "a:b", "fields": {"api_key": "text", "password": "text"}})
    (tmp_path / "in.jsonl").write_bytes(line(record))
    bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db")
    assert [dict(one) for one in events_in(tmp_path / "calls.db")] == [record]


# Size.


def test_a_line_that_is_too_long_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    good = Factory().calls(2)
    with (tmp_path / "in.jsonl").open("wb") as file:
        file.write(line(good[0]) + b"\n")
        for _ in range(300):
            file.write(b"x" * MIB)
        file.write(b"\n" + b"\n".join(map(line, good[1:])))
    tracemalloc.start()
    outcome = bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db", longest=MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [place for place, _ in outcome.complaints] == ["line 2"]
    assert "longer than" in outcome.complaints[0][1]
    assert outcome.done.new == 8
    assert peak < 128 * MIB


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_bomb_is_read_in_little_memory_and_not_for_ever(how: str) -> None:
    size = 256 * MIB
    if how == "gz":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb") as file:
            for _ in range(size // MIB):
                file.write(bytes(MIB))
        raw = packed.getvalue()
    else:
        raw = zstandard.ZstdCompressor().compress(bytes(size))
    assert len(raw) < size / 500
    tracemalloc.start()
    found = list(JsonLines(BufferedReader(io.BytesIO(raw)), len(raw), longest=100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(one) for one in found] == [Broken]
    assert peak < 32 * MIB


def test_a_record_as_large_as_the_settings_allow_comes_in(tmp_path: Path) -> None:
    record = changed(type="acme:large", content={"messages": ["ä" * (8 * MIB)], "wire": {"body": "x" * (15 * MIB)}})
    (tmp_path / "in.jsonl").write_bytes(line(record))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").complaints == []
    assert [dict(one) for one in events_in(tmp_path / "calls.db")] == [record]


# Cut off.


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_a_file_that_is_cut_off_says_so_and_what_is_there_comes_in(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.transfer.exporting._PIECE", 1)
    monkeypatch.setattr("hub.reader._PAGE", 16)
    records = many_calls(tmp_path / "calls.db", 20)
    export(tmp_path / "calls.db", tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for share in (0.5, 0.9):
        cut.write_bytes(raw[: int(len(raw) * share)])
        outcome = bring_in(cut, tmp_path / "new.db")
        assert not outcome.done.is_whole
        assert "cut off" in outcome.complaints[-1][1]
    kept = events_in(tmp_path / "new.db")
    assert kept == records[: len(kept)]
    assert len(kept) > 60


def test_lines_that_were_taken_out_of_an_export_are_missed(tmp_path: Path) -> None:
    many_calls(tmp_path / "calls.db", 2)
    export(tmp_path / "calls.db", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join([*lines[:4], *lines[5:]]))
    outcome = bring_in(tmp_path / "out.jsonl", tmp_path / "new.db")
    assert (outcome.done.new, outcome.done.cut_off) == (7, True)
    assert outcome.complaints == [(f"line {len(lines) - 1}", "of 8 events that were exported 7 are here")]


def test_damaged_compression_ends_the_file_with_what_came_before(tmp_path: Path) -> None:
    many_calls(tmp_path / "calls.db", 20)
    for name in ("out.jsonl.gz", "out.jsonl.zst"):
        export(tmp_path / "calls.db", tmp_path / name)
        raw = bytearray((tmp_path / name).read_bytes())
        raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\xff" * 40
        (tmp_path / name).write_bytes(raw)
        outcome = bring_in(tmp_path / name, tmp_path / f"{name}.db")
        assert not outcome.done.is_whole
        assert any("damaged or cut off" in why for _, why in outcome.complaints)


# Of somebody else.


def refused(path: Path, tmp_path: Path) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        bring_in(path, tmp_path / "calls.db")
    assert not (tmp_path / "calls.db").exists()
    return caught.value


def test_an_export_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"hub_export": {"format": 2, "by": "llm-hub 9"}}\n' + line(changed()))
    assert "newer hub; upgrade llm-hub" in str(refused(tmp_path / "in.jsonl", tmp_path))


def test_a_parquet_file_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "price": [1.0]}), tmp_path / "in.parquet")
    assert "no column type, stream_id" in str(refused(tmp_path / "in.parquet", tmp_path))
    (tmp_path / "in.parquet").write_bytes(b"PAR1 and nothing of the kind PAR1")
    assert "no Parquet file that can be read" in str(refused(tmp_path / "in.parquet", tmp_path))


def test_a_store_of_the_hub_is_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    many_calls(tmp_path / "other.db", 1)
    assert f"hub export jsonl - --db {tmp_path / 'other.db'}" in str(refused(tmp_path / "other.db", tmp_path))


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE responsibilities (id)")
    assert "no responses of llm" in str(refused(tmp_path / "other.db", tmp_path))
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    assert "cannot be read" in str(refused(tmp_path / "other.db", tmp_path))


# Parquet.


_JSON = ("data", "content", "tags")


def table_of(records: list[EventRecord], **columns: list[Any]) -> pa.Table:
    rows = [{**one, **{key: orjson.dumps(dict(one)[key]).decode() for key in _JSON}} for one in records]
    table = pa.Table.from_pylist(rows)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


def of_table(tmp_path: Path, table: pa.Table) -> Outcome:
    pq.write_table(table, tmp_path / "in.parquet")
    return bring_in(tmp_path / "in.parquet", tmp_path / "calls.db")


def test_a_bad_row_is_told_of_and_its_neighbours_come_in(tmp_path: Path) -> None:
    good = Factory().calls(2)
    data = [orjson.dumps(one["data"]).decode() for one in good]
    data[5] = "{cut off"
    version: list[Any] = [one["version"] for one in good]
    version[7] = None
    outcome = of_table(tmp_path, table_of(good, data=data, version=version))
    assert [place for place, _ in outcome.complaints] == ["row 6", "row 8"]
    assert events_in(tmp_path / "calls.db") == [*good[:5], good[6]]


def test_a_table_made_by_another_tool_comes_in_if_it_has_the_columns(tmp_path: Path) -> None:
    good = Factory().calls(2)
    for one in good:
        one["occurred_at"] -= one["occurred_at"] % 1_000
    micros = pa.array([one["occurred_at"] // 1_000 for one in good], pa.timestamp("us"))
    table = table_of(good)
    table = table.set_column(table.column_names.index("occurred_at"), "occurred_at", micros)
    table = table.append_column("more", pa.array(range(8)))
    assert of_table(tmp_path, table).complaints == []
    assert events_in(tmp_path / "calls.db") == good


def test_columns_of_wrong_types_make_bad_rows_and_nothing_else(tmp_path: Path) -> None:
    good = Factory().calls(1)
    outcome = of_table(tmp_path, table_of(good, version=["1", "2", "3", "4"], data=[1, 2, 3, 4]))
    assert (outcome.done.new, outcome.done.broken) == (0, 4)
    raw = pa.array([b"\xff\xfe"] * 4, pa.binary())
    table = table_of(good)
    table = table.set_column(table.column_names.index("data"), "data", raw)
    assert of_table(tmp_path, table).done.broken == 4


def test_a_damaged_parquet_file_keeps_what_can_be_read(tmp_path: Path) -> None:
    good = Factory().calls(200)
    pq.write_table(table_of(good), tmp_path / "in.parquet", row_group_size=200, compression="zstd")
    raw = bytearray((tmp_path / "in.parquet").read_bytes())
    second = pq.ParquetFile(tmp_path / "in.parquet").metadata.row_group(1).column(24).data_page_offset
    raw[second : second + 20] = b"\xff" * 20
    (tmp_path / "in.parquet").write_bytes(raw)
    outcome = bring_in(tmp_path / "in.parquet", tmp_path / "calls.db")
    assert outcome.complaints
    assert not outcome.done.is_whole
    assert outcome.done.new == 600


def test_a_text_that_a_small_file_repeats_often_takes_no_memory_for_each_time(tmp_path: Path) -> None:
    record = {**Factory().call()[0], "content": None, "tags": None, "data": '{"a": "' + "x" * (8 * MIB) + '"}'}
    for name in ("user_id", "service"):
        record[name] = "y" * (4 * MIB)
    table = pa.Table.from_pylist([record]).take(pa.array([0] * 200))
    pq.write_table(table, tmp_path / "in.parquet", compression="zstd")
    assert (tmp_path / "in.parquet").stat().st_size < MIB
    source, seen = EventTable(tmp_path / "in.parquet"), 0
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for found in source:
        seen += isinstance(found, Found)
        assert pa.total_allocated_bytes() - before < 100 * MIB
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seen, source.done) == (200, 200)
    assert peak < 200 * MIB


# Price cards.

OFFER: dict[str, Any] = {"rates": {"input": "1"}}
ODD_CARDS: list[Any] = [
    {},
    [7],
    [{"rates": []}],
    [{"rates": {"input": 1}}],
    [{"rates": {"input": "NaN"}}],
    [{"rates": {"input": "Infinity"}}],
    [{"rates": {"input": "-1"}}],
    [{"rates": {"input": "1e999999"}}],
    [{"rates": {"input": "1e-99999"}}],
    [{"rates": {"input": {"base": "1"}}}],
    [{"rates": {"input": {"base": "1", "tiers": [["many", "1"]]}}}],
    [{**OFFER, "from": "2026"}],
    [{**OFFER, "between": [1]}],
]
BAD_CARDS: list[Any] = [
    "free",
    {"provider": "p", "model": "m"},
    {"provider": "p", "model": "", "cards": [{}]},
    {"provider": None, "model": "m", "cards": [{}]},
    {"provider": "p\0", "model": "m", "cards": [{}]},
    {"provider": "\ud800", "model": "m", "cards": [{}]},
    {"provider": "p", "model": "m", "cards": []},
    {"provider": "p", "model": "m", "cards": [7]},
    *(
        {"provider": "p", "model": "m", "cards": [{"effective_ns": 0, "source": "s", "version": "v", "card": card}]}
        for card in ODD_CARDS
    ),
    {"provider": "p", "model": "m", "cards": [{"effective_ns": "now", "source": "s", "version": "v", "card": None}]},
    {"provider": "p", "model": "m", "cards": [{"effective_ns": 0, "source": "s", "version": "v"}] * 2},
]


@pytest.mark.parametrize("cards", BAD_CARDS)
def test_price_cards_that_cannot_be_computed_with_are_not_taken(cards: Any) -> None:
    with pytest.raises(Unfit):
        price_rows(cards)


def test_calls_beside_a_bad_price_card_come_in_and_go_on_being_priced(tmp_path: Path) -> None:
    records = Factory().calls(2)
    card: dict[str, Any] = {"effective_ns": 0, "source": "s", "version": "v", "card": [{"rates": {"input": "NaN"}}]}
    bad = {"hub_prices": {"provider": "openai", "model": "gpt-4o-mini-2024-07-18", "cards": [card]}}
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(map(line, [bad, *records])))
    assert bring_in(tmp_path / "in.jsonl", tmp_path / "calls.db").done.new == 8
    written(tmp_path / "calls.db", Factory("later").calls(1))
    with closing(Reader(settings_of(tmp_path / "calls.db"))) as reader:
        assert all(call["cost_nanos"] > 0 for call in reader.calls())


# Whatever it is.


def _mutated(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    record = dict(Factory().call(error="no", tools=[{"name": "x"}])[draw(st.integers(0, 2))])
    for key in draw(st.lists(st.sampled_from(sorted(record)), max_size=3)):
        record[key] = draw(json_values)
    return record


@settings(max_examples=300, deadline=None)
@given(st.composite(_mutated)())
def test_whatever_a_record_is_it_is_refused_with_a_reason_or_kept_and_read(record: dict[str, Any]) -> None:
    try:
        event = Checker(MIB).event(record)
    except Unfit:
        return
    assert orjson.loads(line(event)) == event
    assert event.keys() == EventRecord.__annotations__.keys()


@settings(max_examples=30, deadline=None)
@given(records=st.lists(st.composite(_mutated)(), min_size=1, max_size=20), noise=st.binary(max_size=200))
def test_the_good_beside_the_mutated_come_in_and_everything_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    good = Factory("good").calls(2)
    lines = [*map(line, good[:4]), *map(line, records), noise.replace(b"\n", b""), *map(line, good[4:])]
    (folder / "in.jsonl").write_bytes(b"\n".join(lines))
    outcome = bring_in(folder / "in.jsonl", folder / "calls.db")
    kept = events_in(folder / "calls.db")
    assert [one for one in kept if one["producer"] == "good"] == good
    assert outcome.done.new == len(kept)
    with closing(Reader(settings_of(folder / "calls.db"))) as reader:
        assert len(list(reader.events())) == len(kept)
        for call in reader.calls():
            assert call.as_json()
    with closing(SQLiteStore(folder / "calls.db")) as store:
        assert store.rebuild() == len(kept)
