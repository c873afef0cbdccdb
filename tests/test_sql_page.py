"""docs/sql.md: every question is answered, on every engine, and the answer is right."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from statistics import fmean
from typing import Any, TypeVar

import pytest

from hub.reader import Reader
from tests.canonical_calls import Call, all_calls, buckets, counted_calls, of_type
from tests.canonical_store import ENGINES, filled
from tests.sql_page import Question, questions

Rows = list[dict[str, Any]]
Key = TypeVar("Key", bound=Hashable)

VALUES = {
    "before": "2026-09-21",
    "since": "2026-09-28",
    "session": "agent-1",
    "text": "%kettle%",
    "one": "gpt-4o-mini",
    "other": "gpt-4o",
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reader(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with filled(engine, tmp_path_factory.mktemp("canonical")) as reader:
        yield reader


def asked(reader: Reader, question: Question, engine: str) -> Rows:
    sql = question.on(engine)
    names = re.findall(r"(?<![:\w]):([a-z]+)", sql)
    return reader.sql(sql, {name: VALUES[name] for name in names}).dicts()


def by(calls: Iterable[Call], key: Callable[[Call], Key]) -> dict[Key, list[Call]]:
    found = defaultdict(list)
    for call in calls:
        found[key(call)].append(call)
    return found


def usd(calls: Iterable[Call]) -> Any:
    """Equal to the dollars of *calls*, and to null where no cost is known."""
    known = [call.nanos for call in calls if call.nanos is not None]
    return pytest.approx(sum(known) / 1e9) if known else None


def dated() -> list[Call]:
    return [call for call in counted_calls() if call.started is not None]


def each_model_s_cost(rows: Rows) -> None:
    groups = by(dated(), lambda call: (call.request.get("provider"), call.model))
    assert {(row["provider"], row["model"]): row["usd"] for row in rows} == {
        key: usd(calls) for key, calls in groups.items()
    }
    for row in rows:
        calls = groups[row["provider"], row["model"]]
        assert (row["calls"], row["unpriced"]) == (len(calls), sum(call.is_unpriced for call in calls))


def each_day_s_cost(rows: Rows) -> None:
    groups = by(dated(), lambda call: call.day)
    assert {row["day"]: (row["calls"], row["usd"]) for row in rows} == {
        day: (len(calls), usd(calls)) for day, calls in groups.items()
    }
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)


def dearest_users(rows: Rows) -> None:
    groups = by(counted_calls(), lambda call: call.user)
    assert {row["user_id"]: row["usd"] for row in rows} == {
        user: usd(groups[user]) for user in groups if user is not None
    }
    costs = [row["usd"] for row in rows]
    assert costs == sorted(costs, reverse=True)


def dearest_session(rows: Rows) -> None:
    groups = by(counted_calls(), lambda call: call.session)
    del groups[None]
    known = {session: sum(call.nanos or 0 for call in calls) for session, calls in groups.items()}
    assert rows[0]["session_id"] == max(known, key=lambda session: known[session])
    assert rows[0]["usd"] == pytest.approx(max(known.values()) / 1e9)
    assert rows[0]["began"] < rows[0]["last_call"]


def each_feature_s_cost(rows: Rows) -> None:
    groups = by(counted_calls(), lambda call: call.tags.get("feature"))
    assert {row["feature"]: (row["calls"], row["usd"]) for row in rows} == {
        feature: (len(calls), usd(calls)) for feature, calls in groups.items()
    }
    assert {"search", "chat", "Suche", None} == groups.keys()


def one_week_and_the_next(rows: Rows) -> None:
    groups = by((call for call in dated() if (call.day or "") >= VALUES["before"]), lambda call: call.model)
    assert {row["model"] for row in rows} == groups.keys()
    for row in rows:
        later = [call for call in groups[row["model"]] if (call.day or "") >= VALUES["since"]]
        earlier = [call for call in groups[row["model"]] if call not in later]
        assert (row["calls_before"], row["calls_since"]) == (len(earlier), len(later))
        assert (row["usd_before"], row["usd_since"]) == (usd(earlier), usd(later))


def models_without_a_price(rows: Rows) -> None:
    unpriced = Counter((call.request.get("provider"), call.model) for call in dated() if call.is_unpriced)
    assert {(row["provider"], row["model"]): row["unpriced"] for row in rows} == unpriced
    assert [row["unpriced"] for row in rows] == sorted(unpriced.values(), reverse=True)


def dear_and_cheap(rows: Rows) -> None:
    tiers = {("openai", "gpt-4o"): "high", ("openai", "gpt-4o-mini"): "low"}
    groups = by(dated(), lambda call: tiers.get((call.request.get("provider"), call.model), "unknown"))  # type: ignore[arg-type]
    assert {row["tier"]: (row["calls"], row["usd"]) for row in rows} == {
        tier: (len(calls), usd(calls)) for tier, calls in groups.items()
    }


def slowest_calls(rows: Rows) -> None:
    known = [call for call in counted_calls() if call.duration is not None]
    wanted = sorted(known, key=lambda call: (-(call.duration or 0), call.id))[:10]
    assert [row["call_id"] for row in rows] == [call.id for call in wanted]
    assert [row["duration_ms"] for row in rows] == [call.duration for call in wanted]


def percentiles(rows: Rows) -> None:
    groups = by(dated(), lambda call: call.model)
    for row in rows:
        bounds = buckets("duration", groups[row["model"]])
        assert row["calls"] == len(bounds)
        for column, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
            bound = bounds[math.ceil(share * len(bounds)) - 1]
            assert row[column] == (None if bound == math.inf else bound)
    assert {row["model"] for row in rows} == {model for model, calls in groups.items() if buckets("duration", calls)}
    assert any(row["p99_ms"] is None for row in rows)


def first_tokens(rows: Rows) -> None:
    groups = by((call for call in counted_calls() if call.ttft is not None), lambda call: call.request.get("model"))
    for row in rows:
        times = [call.ttft for call in groups[row["request_model"]] if call.ttft is not None]
        assert row["streams"] == len(times)
        assert row["mean_ms"] == pytest.approx(fmean(times))
        assert (row["best_ms"], row["worst_ms"]) == (min(times), max(times))
    assert len(rows) == len(groups)


def tokens_a_second(rows: Rows) -> None:
    def writing_ms(call: Call) -> float:
        return 0.0 if call.ttft is None or call.duration is None else call.duration - call.ttft

    finished = (call for call in counted_calls() if call.status == "ok" and call.tokens("output"))
    groups = by((call for call in finished if writing_ms(call) > 0), lambda call: call.request.get("model"))
    assert {row["request_model"]: row["tokens_per_second"] for row in rows} == {
        model: pytest.approx(1000 * sum(call.tokens("output") or 0 for call in calls) / sum(map(writing_ms, calls)))
        for model, calls in groups.items()
    }


def failures(rows: Rows) -> None:
    ended = [call for call in counted_calls() if call.status != "running"]
    of_provider = Counter(call.request.get("provider") for call in ended)
    wanted = Counter((call.request.get("provider"), call.response.get("error_type")) for call in ended)
    assert {(row["provider"], row["error_type"]): row["calls"] for row in rows} == wanted
    for row in rows:
        assert row["percent"] == pytest.approx(100 * row["calls"] / of_provider[row["provider"]])
    assert any(row["error_type"] == "Überlast" for row in rows)


def attempts(rows: Rows) -> None:
    assert [(row["provider"], row["error_type"], row["attempts"], row["waited_ms"]) for row in rows] == [
        ("acme", "timeout", 1, None),
        ("openai", "rate_limit", 1, 500.0),
        ("openai", "Überlast", 1, 0.0),
    ]
    assert rows[0]["tried_ms"] == 250.5


def unfinished(rows: Rows) -> None:
    wanted = {call.id: call.status for call in all_calls() if call.status in ("running", "lost")}
    assert {row["call_id"]: row["status"] for row in rows} == wanted
    assert set(wanted.values()) == {"running", "lost"}


def cache_share(rows: Rows) -> None:
    known = (call for call in counted_calls() if call.tokens("cache_read") is not None and call.tokens("input"))
    groups = by(known, lambda call: call.request.get("model"))
    assert {row["request_model"]: row["percent"] for row in rows} == {
        model: pytest.approx(
            100
            * sum(call.tokens("cache_read") or 0 for call in calls)
            / sum(call.tokens("input") or 0 for call in calls)
        )
        for model, calls in groups.items()
    }
    assert all(49 < row["percent"] <= 50 for row in rows)


def largest_prompts(rows: Rows) -> None:
    known = [call for call in counted_calls() if call.tokens("input") is not None]
    wanted = sorted(known, key=lambda call: (-(call.tokens("input") or 0), call.id))[:10]
    assert [(row["call_id"], row["input_tokens"]) for row in rows] == [
        (call.id, call.tokens("input")) for call in wanted
    ]
    assert all(row["request_summary"] for row in rows)


def tools(rows: Rows) -> None:
    assert [(row["name"], row["asked"], row["answered"]) for row in rows] == [
        ("nothing", 1, 0),
        ("order", 1, 0),
        ("weather", 1, 1),
        (None, 1, 0),
    ]


def conversation(rows: Rows) -> None:
    said = [(row["role"], row["type"], row["content"]) for row in rows]
    assert said[:3] == [
        ("user", "text", "Weather?"),
        ("assistant", "text", "Let me look."),
        ("assistant", "tool_call", '{"city": "Zürich"}'),
    ]
    assert ("tool", "tool_result", "rain") in said
    assert said[-1] == ("assistant", "text", "Still.")
    assert rows[-1]["direction"] == "output"


def found_texts(rows: Rows) -> None:
    wanted = 0
    since = {call.id for call in all_calls() if (call.day or "") >= VALUES["since"]}
    for kind in ("llm:request:debug", "llm:response:debug"):
        for record in of_type(kind):
            messages = (record["content"] or {}).get("messages", ())
            if record["stream_id"] in since:
                wanted += sum("kettle" in str(message).lower() for message in messages)
    assert len(rows) == wanted > 10
    assert all("kettle" in row["beginning"].lower() for row in rows)
    times = [row["started_at"] for row in rows]
    assert times == sorted(times, reverse=True)


def temperatures(rows: Rows) -> None:
    wanted = Counter((call.request.get("params") or {}).get("temperature") for call in counted_calls())
    assert {row["temperature"]: row["calls"] for row in rows} == wanted
    assert rows[0]["temperature"] is None
    assert {type(row["temperature"]) for row in rows[1:]} == {float}


def own_events(rows: Rows) -> None:
    assert [(row["request_model"], row["times"], row["longest_ms"]) for row in rows] == [
        (None, 3, 7.0),
        ("gpt-4o-mini", 1, 1_500.25),
    ]


def two_models(rows: Rows) -> None:
    assert [row["request_model"] for row in rows] == ["gpt-4o", "gpt-4o-mini"]
    for row in rows:
        calls = [call for call in counted_calls() if call.request.get("model") == row["request_model"]]
        priced = [call.nanos for call in calls if call.nanos is not None]
        outputs = [count for call in calls if (count := call.tokens("output")) is not None]
        assert row["calls"] == len(calls)
        assert row["output"] == pytest.approx(fmean(outputs))
        assert row["usd_per_1000_calls"] == pytest.approx(1000 * fmean(priced) / 1e9)
        assert row["failed_percent"] == pytest.approx(100 * sum(call.status == "error" for call in calls) / len(calls))


ANSWERS: dict[str, Callable[[Rows], None]] = {
    "What did each model cost?": each_model_s_cost,
    "What did each day cost?": each_day_s_cost,
    "Which users cost most?": dearest_users,
    "Which session was the most expensive?": dearest_session,
    "What did each feature cost?": each_feature_s_cost,
    "What changed from one week to the next?": one_week_and_the_next,
    "Which models have no price?": models_without_a_price,
    "What do dear and cheap models cost?": dear_and_cheap,
    "Which calls were the slowest?": slowest_calls,
    "What are the median and the 95th and 99th percentile of latency?": percentiles,
    "How long until the first token?": first_tokens,
    "How many tokens a second does each model write?": tokens_a_second,
    "What share of calls failed, and why?": failures,
    "How often is something tried again, and what does it cost in time?": attempts,
    "Which calls never finished?": unfinished,
    "What share of the input came from the provider's cache?": cache_share,
    "Which prompts are the largest?": largest_prompts,
    "Which tools do models ask for?": tools,
    "What was said in a conversation?": conversation,
    "Which messages contain a text?": found_texts,
    "Which temperatures are asked for?": temperatures,
    "Which calls do events of my own belong to?": own_events,
    "How do two models compare?": two_models,
}
"""Of each question what its rows have to be."""


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.title)
def test_the_answer_is_right(reader: Reader, engine: str, question: Question) -> None:
    rows = asked(reader, question, engine)
    assert rows
    ANSWERS[question.title](rows)


def test_twenty_questions_and_more_are_asked_on_each_engine() -> None:
    found = questions()
    assert [question.title for question in found] == list(ANSWERS)
    assert len(found) >= 20
    for question in found:
        assert question.about.endswith("."), question.title
        assert question.sql.keys() in ({""}, {"sqlite", "postgresql"}), question.title
