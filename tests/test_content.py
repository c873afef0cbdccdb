from __future__ import annotations

import datetime
import decimal
import enum
import gc
import pathlib
import sys
import threading
import types
import uuid
from collections import OrderedDict, deque, namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr

from hub.content import Cleaner, preview, truncate
from hub.walk import MAX_DEPTH, MAX_NODES


class Role(str, enum.Enum):  # noqa: UP042  # as programs for older Pythons write it
    USER = "user"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass(slots=True)
class Turn:
    role: Role
    content: str
    _seen: int = 0


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    secret_note: SecretStr = SecretStr("hunter2")


class Plain:
    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


Pair = namedtuple("Pair", "left right")


class Word(str):
    def __str__(self) -> str:
        raise RuntimeError


PLAIN: list[tuple[Any, Any]] = [
    ((1, 2), [1, 2]),
    ({"a"}, ["a"]),
    (deque([1]), [1]),
    (Pair(1, "x"), [1, "x"]),
    (OrderedDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (range(3), [0, 1, 2]),
    (Role.USER, "user"),
    (Level.HIGH, 3),
    (Word("w"), "w"),
    (Turn(Role.USER, "hi"), {"role": "user", "content": "hi"}),
    (Plain(a=1, _b=2, c=Plain(d=None)), {"a": 1, "c": {"d": None}}),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
    (datetime.timedelta(seconds=1), "0:00:01"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.50"), "1.50"),
    (pathlib.PurePosixPath("/a"), "/a"),
    ({1: "a", None: "b", Role.USER: "c"}, {"1": "a", "None": "b", "user": "c"}),
]


@pytest.mark.parametrize(("value", "plain"), PLAIN, ids=lambda each: type(each).__name__)
def test_what_has_a_plain_form_takes_it_without_a_mark(value: Any, plain: Any) -> None:
    assert Cleaner().clean(value) == (plain, None)


MARKED: list[tuple[Any, Any, str]] = [
    ("a\0b", "a\ufffdb", "nul"),
    ("a\ud800b", "a\ufffdb", "surrogate"),
    (float("nan"), None, "nan"),
    (float("-inf"), None, "nan"),
    (2**63, str(2**63), "bigint"),
    (-(10**5000), "<int of 16610 bits>", "bigint"),
    (b"abc", {"bytes": 3}, "bytes"),
    (memoryview(b"abc"), {"bytes": 3}, "bytes"),
    (object(), "<builtins.object>", "unserialisable"),
    (sys, "<builtins.module>", "unserialisable"),
    (print, "<builtins.builtin_function_or_method>", "unserialisable"),
    (threading.Lock(), "<_thread.lock>", "unserialisable"),
    (Turn, "<builtins.type>", "unserialisable"),
    (SecretStr("hunter2"), "<pydantic.types.SecretStr>", "unserialisable"),
]


@pytest.mark.parametrize(("value", "plain", "reason"), MARKED, ids=lambda each: type(each).__name__)
def test_what_has_none_is_replaced_and_counted(value: Any, plain: Any, reason: str) -> None:
    assert Cleaner().clean(value) == (plain, ({reason: 1}, 0))
    assert Cleaner().clean([{"deep": value}]) == ([{"deep": plain}], ({reason: 1}, 0))


def test_numbers_of_64_bits_stay_numbers() -> None:
    assert Cleaner().clean([2**63 - 1, -(2**63), True, 1.5]) == ([2**63 - 1, -(2**63), True, 1.5], None)


def test_a_pydantic_model_is_read_with_its_extra_fields_but_not_its_secrets() -> None:
    plain, _ = Cleaner().clean(Model(name="n", extra={"api_key": "k"}))  # type: ignore[call-arg]
    assert plain == {"name": "n", "secret_note": "<pydantic.types.SecretStr>", "extra": {"api_key": "[REDACTED]"}}


def test_a_generator_is_not_consumed() -> None:
    numbers = (number for number in range(3))
    assert Cleaner().clean({"g": numbers})[0] == {"g": "<builtins.generator>"}
    assert list(numbers) == [0, 1, 2]


def test_a_cycle_is_cut_and_a_shared_value_is_not() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    node = Plain(name="n")
    node.__dict__["self"] = node
    assert Cleaner().clean(ring) == ([1, None], ({"cycle": 1}, 0))
    assert Cleaner().clean(node) == ({"name": "n", "self": None}, ({"cycle": 1}, 0))
    shared = {"a": 1}
    assert Cleaner().clean([shared, shared]) == ([shared, shared], None)


def test_depth_is_bounded() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    plain, marks = Cleaner().clean(deep)
    assert orjson.dumps(plain) == b"[" * MAX_DEPTH + b"null" + b"]" * MAX_DEPTH
    assert marks == ({"depth": 1}, 0)
    while deep != "end":  # freed one by one: CPython would recurse
        deep = deep[0]


def test_the_number_of_parts_is_bounded() -> None:
    plain, marks = Cleaner().clean(range(10**12))
    assert len(plain) < MAX_NODES
    assert marks is not None
    assert marks.sanitised["nodes"] >= 1


def test_strings_over_the_bound_are_cut_and_say_so() -> None:
    plain, marks = Cleaner(max_body_bytes=1000).clean(["a" * 600, "b" * 600, "c"])
    assert plain == ["a" * 600, "b" * 400 + "… [200 more characters]", "… [1 more characters]"]
    assert marks == ({"size": 2}, 0)


def test_the_bound_holds_for_a_string_given_again_and_again() -> None:
    cleaner, text = Cleaner(max_body_bytes=10_000), "a" * 1000
    cleaner.clean({"content": text})
    plain, marks = cleaner.clean([{"content": text} for _ in range(100)])
    assert len(orjson.dumps(plain)) < 20_000
    assert marks is not None
    assert marks.sanitised["size"] > 80


def test_a_key_at_the_cut_is_not_cut_in_half() -> None:
    plain, _ = Cleaner(max_body_bytes=1000).clean("x " * 495 + "sk-proj-abcdefghijklmnop" + " x" * 1000)
    assert "sk-proj" not in plain
    assert "[REDACTED]" in plain


def test_a_changed_string_is_counted_each_time_it_is_seen() -> None:
    cleaner = Cleaner()
    for _ in range(3):
        assert cleaner.clean(["a\0", "password=hunter22"])[1] == ({"nul": 1}, 1)


def test_what_is_known_is_returned_as_it_is() -> None:
    cleaner = Cleaner()
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None}]
    assert cleaner.clean(messages) == (messages, None)
    assert cleaner.clean(messages)[0] is messages
    copies = orjson.loads(orjson.dumps(messages))
    assert cleaner.clean(copies)[0] is copies


def test_a_known_text_as_an_enum_or_subclass_is_still_encodable() -> None:
    cleaner = Cleaner()
    cleaner.clean({"role": "user", "content": "w"})
    plain, _ = cleaner.clean([{"role": Role.USER, "content": Word("w")}] * 2)
    assert orjson.dumps(plain) == b'[{"role":"user","content":"w"},{"role":"user","content":"w"}]'


@pytest.mark.parametrize("value", [decimal.Decimal(0), decimal.Decimal(1), 0j, 1.0, 0])
def test_a_number_that_equals_a_boolean_is_no_known_value(value: Any) -> None:
    cleaner = Cleaner()
    cleaner.clean({"a": True, "b": False})
    plain, _ = cleaner.clean({"a": value})
    assert orjson.loads(orjson.dumps(plain)) == {"a": value if isinstance(value, int | float) else str(value)}


def test_a_value_that_is_also_a_key_like_name_opens_no_way_round() -> None:
    cleaner = Cleaner()
    cleaner.clean([{"word": "password"}, {"word": "hunter22"}])
    for _ in range(2):
        assert cleaner.clean([{"word": "hunter22"}, {"password": "hunter22"}])[0][1] == {"password": "[REDACTED]"}


def test_memory_stays_within_its_bound() -> None:
    cleaner = Cleaner(memory_bytes=100_000)
    for number in range(1000):
        cleaner.clean({"text": f"{number} " + "é" * 500, "key": f"{number} password=hunter22 " + "x" * 500})
    memory = cleaner._strings.memory
    assert 30_000 < memory.size() <= 100_000


def test_keys_remembered_are_bounded() -> None:
    cleaner = Cleaner()
    for number in range(20_000):
        cleaner.clean({f"key {number}": 1, f"password {number} password": "x"})
    assert len(cleaner._strings.plain_keys) + len(cleaner._strings._special_keys) <= 4096


def test_many_threads_and_a_finaliser_may_clean_at_once() -> None:
    cleaner, seen = Cleaner(memory_bytes=10_000), []

    class Finalised:
        def __init__(self) -> None:
            self.ring = self

        def __del__(self) -> None:
            seen.append(cleaner.clean("password=hunter22 in a finaliser")[0])

    def work() -> None:
        for number in range(300):
            Finalised()
            text = f"{number % 20} password=hunter22"
            assert cleaner.clean({"text": text})[0] == {"text": f"{number % 20} password=[REDACTED]"}

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert set(seen) == {"password=[REDACTED] in a finaliser"}
    assert len(seen) == 1200


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(self) -> int:
        raise RuntimeError

    __str__ = __repr__ = __iter__ = __len__ = __eq__ = __hash__  # type: ignore[assignment]


class HostileMapping(Mapping[str, str]):
    def __getitem__(self, key: str) -> str:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class Endless(Sequence[int]):
    def __getitem__(self, index: Any) -> Any:
        return index

    def __len__(self) -> int:
        return sys.maxsize


class EndlessTree(dict[str, Any]):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError


class Liar:
    @property
    def __class__(self) -> Any:
        raise RuntimeError

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


@dataclass
class BrokenField:
    good: int = 1
    bad: list[Any] = field(default_factory=lambda: [Hostile(), Liar(), HostileMapping()])


@pytest.mark.parametrize("make", [Hostile, HostileMapping, Endless, EndlessTree, Liar, BrokenField])
def test_a_hostile_object_does_no_harm(make: type) -> None:
    value = make()
    plain, _ = Cleaner().clean({"before": 1, "value": value, "list": [value, "after"]})
    assert plain["before"] == 1
    orjson.dumps(plain)


def test_a_caller_close_to_the_recursion_limit_gets_a_marker() -> None:
    whole = [[[[{"a": ["x"]}]]]]
    found: list[Any] = []

    def dive(levels: int) -> Any:
        return dive(levels - 1) if levels else Cleaner().clean(whole)[0]

    left = sys.getrecursionlimit() - len(list(_frames()))
    for spare in range(80):
        with suppress(RecursionError):  # the caller's own: there was no room for anything
            found.append(dive(left - spare))
    marked = found.index(whole)
    assert found[:marked] == ["<builtins.list>"] * marked != []
    assert found[marked:] == [whole] * (len(found) - marked)


def _frames() -> Iterator[types.FrameType]:
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62)
    | st.floats()
    | st.text(st.characters(codec=None, categories=None) | st.sampled_from("\0\ud800\udfff"))
    | st.binary()
    | st.builds(object)
    | st.sampled_from([Role.USER, Level.HIGH, print, sys, Turn])
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.binary() | st.tuples(st.integers()), inner)
        | st.builds(Turn, st.just(Role.USER), inner)
        | st.builds(Plain, a=inner, api_key=inner)
    ),
)


@given(ANYTHING)
def test_whatever_comes_in_what_comes_out_can_be_encoded(value: Any) -> None:
    cleaner = Cleaner()
    plain, _ = cleaner.clean(value)
    encoded = orjson.dumps(plain)
    assert b"\\u0000" not in encoded
    assert orjson.dumps(cleaner.clean(value)[0]) == encoded


@given(ANYTHING)
def test_cleaning_what_is_clean_changes_nothing(value: Any) -> None:
    plain, _ = Cleaner().clean(value)
    assert Cleaner().clean(plain) == (plain, None)


def test_text_says_how_much_of_it_was_cut() -> None:
    assert truncate("abcdef", 6) == "abcdef"
    assert truncate("abcdef", 2) == "ab… [4 more characters]"


def test_a_preview_is_one_line_without_blobs() -> None:
    text = "look:\n  data:image/png;base64," + "iVBORw0K" * 1000 + " and\t" + "QUJD" * 100 + " end"
    assert preview(text, 200) == "look: [image/png, 8022 characters] and [data, 400 characters] end"


def test_a_preview_of_a_long_text_says_how_much_was_cut() -> None:
    shown = preview("word " * 1000, 50)
    assert shown == "word " * 10 + "… [4950 more characters]"


@given(st.text(), st.integers(min_value=0, max_value=50))
def test_a_preview_is_never_longer_than_asked(text: str, limit: int) -> None:
    assert len(preview(text, limit).partition("… [")[0]) <= limit or "… [" in text
