"""Texts from outside that tables have in their keys."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.key_texts import key_text
from storage.sql_store import SqlStore
from tests.factories import Factory
from tests.store_rows import projections, rows

LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6_000))
"""Compressed it is no shorter than a key of PostgreSQL may be."""


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=300), st.integers(1, 20))
def test_a_key_text_is_short_and_its_own_key_text(text: str, times: int) -> None:
    key = key_text(text * times)
    assert len(key.encode()) <= 500
    assert key_text(key) == key


def test_long_texts_stay_different_and_short_ones_what_they_are() -> None:
    assert key_text("call_1") == "call_1"
    assert key_text("é" * 250) == "é" * 250
    assert len({key_text(LONG + end) for end in "abc"}) == 3
    assert key_text(LONG).startswith(LONG[:400])


@pytest.mark.parametrize(
    "column", ["provider", "request_model", "response_model", "response_id", "session_id", "service"]
)
def test_a_call_with_a_text_too_long_for_a_key_is_kept(sql_store: SqlStore, column: str) -> None:
    name = column.removeprefix("request_").removeprefix("response_") if column.endswith("model") else column
    given = {name: LONG}
    call = Factory().call(
        request=given if column in ("provider", "request_model") else {},
        response=given if column.startswith("response") else {},
        **given if column in ("session_id", "service") else {},  # type: ignore[arg-type]  # none is an argument
    )
    assert sql_store.append(call).new == 4
    assert rows(sql_store, f"SELECT {column} FROM llm_calls") == [{column: key_text(LONG)}]
    before = projections(sql_store)
    sql_store.rebuild()
    assert projections(sql_store) == before
    assert list(sql_store.read_all().events) == call


def test_all_of_a_call_s_keys_may_be_too_long_at_once(sql_store: SqlStore) -> None:
    wide = "\N{GRINNING FACE}" * 3_000
    named = {"provider": wide, "model": wide, "response_id": wide}
    call = Factory(project="p" * 200).call(request=named, response=named, session_id=wide, service=wide)
    assert sql_store.append(call).new == 4


def test_a_tool_s_answer_finds_its_call_by_an_id_too_long_for_a_key(sql_store: SqlStore) -> None:
    factory = Factory()
    tool = {"id": LONG, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
    question = {"role": "user", "content": "how warm is it?"}
    asked = factory.call([question], asks)
    answered = factory.call([question, asks, {"role": "tool", "tool_call_id": LONG, "content": "22 C"}], "It is 22 C.")
    sql_store.append(asked + answered)
    found = "SELECT result, result_call_id FROM llm_tool_calls WHERE call_id = ?"
    [row] = rows(sql_store, found, asked[0]["call_id"])
    assert row == {"result": "22 C", "result_call_id": answered[0]["call_id"]}
    before = projections(sql_store)
    sql_store.rebuild()
    assert projections(sql_store) == before
