"""Full-text search: what is found, on each engine."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.errors import QueryRefused
from storage import search_find, search_words
from storage.postgres import PostgresStore
from storage.sql_store import SqlStore
from tests.contracts.case import LATER
from tests.factories import Factory
from tests.search_kit import assistant, calls_with, found, id_of, user


@pytest.fixture
def store(own_store: SqlStore) -> SqlStore:
    return own_store


@pytest.fixture
def factory() -> Factory:
    return Factory()


# What is found.


@pytest.mark.parametrize(
    ("words", "is_found"),
    [
        ("quick fox", True),
        ("fox quick", True),
        ("QUICK FÖX", True),
        ("quick wolf", False),
        ('"quick brown"', True),
        ('"brown quick"', False),
        ('"quick fox"', False),
        ("qui*", True),
        ("ick*", False),
        ("qui", False),
        ("q*", False),
        ('"the quick" jump*', True),
        ("1042", True),
        ("a-1042", True),
        ("1042-a", False),
        ("max_tokens", True),
        ("tokens", True),
        ("max_tok*", True),
        ("naive Strasse", True),
        ("naïve STRASSE", True),
        ("東京", True),
        ("京東", False),
        ("都庁 quick", True),
        ("ﬁne", True),
        ("it's", True),
        ("quick AND fox", False),
        ('(quick OR "', False),
        ("fox)", True),
        ("content:fox", False),
        ("'fox' & quick | ! :* ^", True),
        ('"quick brown', True),
        ("fox; DROP TABLE hub_calls", False),
        ("NOT fox", False),
        ("quick\x00brown", True),
        ("quick\x00fox", False),
    ],
)
def test_words_phrases_and_beginnings_are_found_and_all_else_stands_for_itself(
    store: SqlStore, factory: Factory, words: str, is_found: bool
) -> None:
    text = "The quick, brown fox jumps; it's fine: A-1042 max_tokens naïve Straße 東京都庁に"
    store.append(factory.call([user("Something else")], text))
    store.append(factory.call([user("Nothing of interest")], "the lazy dog"))
    assert bool(found(store, words).hits) is is_found


@pytest.mark.parametrize("words", ["", "  ", "!?", '""', "*", '" "*'])
def test_a_search_for_no_word_says_so(store: SqlStore, words: str) -> None:
    with pytest.raises(QueryRefused, match="there is no word in"):
        found(store, words)


def test_a_search_for_very_many_words_is_refused(store: SqlStore) -> None:
    with pytest.raises(QueryRefused, match="leave the common ones out"):
        found(store, "word " * 33)


def test_words_have_to_be_in_one_message(store: SqlStore, factory: Factory) -> None:
    store.append(factory.call([user("apples")], "pears"))
    assert calls_with(store, "apples pears") == []
    assert len(calls_with(store, "apples")) == 1


def test_tools_thoughts_and_refusals_are_searched_and_unknown_shapes_are_not(store: SqlStore, factory: Factory) -> None:
    asked = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"city": "Utrecht\\nZwolle"}'}}
    call = factory.call(
        [user("x"), {"role": "tool", "tool_call_id": "c", "content": '{"rain": ["heavy", 17]}'}, [1, 2, 3]],
        {"role": "assistant", "content": None, "reasoning": "ponder", "refusal": "never", "tool_calls": [asked]},
    )
    store.append(call)
    for words in ("utrecht", "zwolle", '"city Utrecht"', "rain heavy 17", "ponder", "never"):
        assert calls_with(store, words) == [id_of(call)], words
    assert calls_with(store, "nzwolle") == []
    assert calls_with(store, "2") == []


def test_what_stands_beyond_the_bounds_of_a_message_is_not_searched(store: SqlStore, factory: Factory) -> None:
    size = search_words.PART_CHARACTERS
    long = "early " + "x" * (size - 12) + " last and late"
    parts = [{"type": "text", "text": f"part{number} " + "y" * size} for number in range(6)]
    store.append(factory.call([user(long), {"role": "user", "content": parts}], "ok"))
    assert calls_with(store, "early last")
    assert not calls_with(store, "late")
    assert calls_with(store, "part3")
    assert not calls_with(store, "part5")


def test_hostile_words_and_roles_are_indexed_as_far_as_there_is_room(store: SqlStore, factory: Factory) -> None:
    chance = random.Random(5)
    hangul = [chr(letter) for letter in range(0xAC00, 0xD7A4)]
    ligature = "\ufdfa"  # one letter that stands for eighteen
    texts = ["".join(f"{''.join(chance.choices(hangul, k=2))}{ligature}" for _ in range(22_000)) for _ in range(4)]
    assert sum(len(word.encode()) for text in texts for word in set(search_words.words_in(text))) > 1 << 20
    parts = [{"type": "text", "text": text} for text in texts]
    store.append(factory.call([{"role": "x" * 9_000, "content": parts}], "teapot"))
    first = search_words.words_in(texts[0])[1]
    assert len(calls_with(store, first)) == 1
    assert len(calls_with(store, first, role="x" * 9_000)) == 1
    assert len(calls_with(store, "teapot")) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_a_message_of_any_text_is_found_by_each_of_its_words_and_by_any_two_in_a_row(
    store: SqlStore, factory: Factory, text: str
) -> None:
    call = factory.call([user(f"{text} end")], "no")
    store.append(call)
    store.follow_search(enable=True)
    words = search_words.words_in(text)
    for number, word in enumerate(words):
        assert id_of(call) in calls_with(store, word)
        assert id_of(call) in calls_with(store, '"' + " ".join(words[number : number + 2]) + '"')


def test_filters_by_model_role_and_time(store: SqlStore, factory: Factory) -> None:
    one = factory.call([user("teapot")], "kettle", request={"model": "one"})
    middle = factory.now
    two = factory.call([user("teapot")], "teapot", request={"model": "two"})
    store.append(one + two)
    assert calls_with(store, "teapot") == [id_of(two), id_of(one)]
    assert calls_with(store, "teapot", model="one") == [id_of(one)]
    assert calls_with(store, "teapot", model="gpt-4o-mini-2024-07-18") == [id_of(two), id_of(one)]
    assert calls_with(store, "teapot", model="on") == []
    assert calls_with(store, "teapot", role="assistant") == [id_of(two)]
    assert calls_with(store, "kettle", role="User") == []
    assert calls_with(store, "teapot", since_ns=middle) == [id_of(two)]
    assert [hit.role for hit in found(store, "teapot", role="user").hits] == ["user"]


def test_a_message_is_shown_once_with_the_newest_call_that_carries_it(store: SqlStore, factory: Factory) -> None:
    history: list[Any] = [{"role": "system", "content": "mind the teapot"}]
    made = []
    for turn in range(5):
        history.append(user(f"turn {turn}"))
        made.append(factory.call(history, f"answer {turn}"))
        store.append(made[-1])
        history.append(assistant(f"answer {turn}"))
    other = factory.call([user("no teapot here")])
    store.append(other)
    assert [hit.call["call_id"] for hit in found(store, "teapot").hits] == [id_of(other), id_of(made[-1])]
    assert calls_with(store, "teapot") == [id_of(other), *(id_of(one) for one in reversed(made))]
    assert calls_with(store, "turn 3") == [id_of(made[4]), id_of(made[3])]
    (hit,) = found(store, "answer").hits
    assert (hit.call["call_id"], hit.snippet) == (id_of(made[-1]), "answer 4")


def test_calls_come_newest_first_though_they_were_written_in_another_order(store: SqlStore, factory: Factory) -> None:
    made = [factory.call([user(f"teapot {number}")]) for number in range(30)]
    shuffled = random.Random(3).sample(made, len(made))
    for call in shuffled:
        store.append(call)
    newest = [id_of(call) for call in reversed(made)]
    assert calls_with(store, "teapot") == newest
    assert [hit.call["call_id"] for hit in found(store, "teapot", limit=7).hits] == newest[:7]


def test_a_snippet_shows_where_the_words_stand(store: SqlStore, factory: Factory) -> None:
    text = f"{'before ' * 30}the naïve teapot is {'behind ' * 60}"
    store.append(factory.call([user(text)], "no"))
    (hit,) = found(store, "NAIVE teapot").hits
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["naïve", "teapot"]
    assert hit.snippet.startswith("…before")
    assert hit.snippet.endswith("…")
    assert len(hit.snippet) <= 162
    assert (hit.role, hit.type) == ("user", "text")
    assert hit.call["started_at"] == "2026-09-21T14:13:20.000000Z"


def test_random_searches_find_what_reading_everything_finds(store: SqlStore, factory: Factory) -> None:
    chance = random.Random(11)
    vocabulary = ["tea", "teapot", "Kettle", "kettles", "über", "a-1", "a-12", "東京", "the", "of"]

    def text() -> str:
        return " ".join(chance.choices(vocabulary, k=chance.randint(0, 6)))

    said: list[tuple[str, list[tuple[str, str]]]] = []
    history: list[Any] = []
    for _ in range(60):
        history = [*history[: chance.randint(0, len(history))], user(text())]
        answer = text()
        call = factory.call(history, answer)
        store.append(call)
        messages = [(message["role"], message["content"]) for message in (*history, assistant(answer))]
        said.append((id_of(call), messages))
        history.append(assistant(answer))
    said.reverse()
    for _ in range(100 if isinstance(store, PostgresStore) else 400):
        words = [
            chance.choice([*vocabulary, "te*", "kettle*", '"the tea"', '"of a-1*"', '"über kettle"']) for _ in "12"
        ]
        words = words[: chance.randint(1, 2)]
        role = chance.choice([None, None, "user", "assistant"])
        expected = [
            call_id
            for call_id, messages in said
            if any((role in (None, of)) and all(has(content, word) for word in words) for of, content in messages)
        ]
        assert calls_with(store, " ".join(words), role=role) == expected, (words, role)


def has(content: str, word: str) -> bool:
    """Whether *content*, of simple words, has *word*, as the documentation says it."""
    text = content.lower().replace("ü", "u").replace("-", " ").replace("東京", "東 京").split()
    wanted = word.strip('"').lower().replace("ü", "u").replace("-", " ").replace("東京", "東 京")
    parts = wanted.rstrip("*").split()
    if word.startswith('"'):
        wanted = wanted.rstrip("*")
    for start in range(len(text) - len(parts) + 1):
        *first, last = text[start : start + len(parts)]
        if first == parts[:-1] and (last == parts[-1] or (wanted.endswith("*") and last.startswith(parts[-1]))):
            return True
    return False


# Bounds.


def test_of_common_words_only_the_newest_messages_are_looked_at(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [factory.call([user(f"the {number}")], "no") for number in range(40)]
    for call in made:
        store.append(call)
    monkeypatch.setattr(search_find, "MESSAGES", 10)
    few = found(store, "the", limit=3)
    assert [hit.call["call_id"] for hit in few.hits] == [id_of(one) for one in reversed(made[-3:])]
    none = found(store, "the", limit=5, since_ns=LATER)
    assert (none.hits, none.is_complete) == ([], False)
    assert found(store, "the 7", limit=5).is_complete


def test_a_filter_that_admits_nothing_does_not_go_through_all_calls(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        store.append(factory.call([user("the same for all"), user(str(number))], "no"))
    monkeypatch.setattr(search_find, "EVENTS", 10)
    monkeypatch.setattr(search_find, "_PAGE", 4)
    none = found(store, "same", model="nobody")
    assert (none.hits, none.is_complete) == ([], False)
    assert len(calls_with(store, "same", model="gpt-4o-mini", limit=9)) == 9


def test_a_phrase_of_common_words_is_looked_for_in_so_many_messages(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        store.append(factory.call([user(f"to be {number} or {'not' if number else 'be not'} to")], "no"))
    assert len(calls_with(store, '"or be"')) == 1
    monkeypatch.setattr(search_find, "MESSAGES", 5)
    monkeypatch.setattr(search_find, "PHRASES", 10)
    none = found(store, '"or be"', limit=2)
    assert (none.hits, none.is_complete) == ([], False)
