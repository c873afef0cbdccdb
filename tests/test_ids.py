"""Ids that follow from something else."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ids import id_bound, id_ms, uuid7_at, uuid7_from
from storage.tombstones import call_begun_ns

times = st.integers(0, 2**48 * 10**6 - 1)


@given(times, st.binary(max_size=40))
def test_an_id_is_a_uuid7_with_its_time(ns: int, seed: bytes) -> None:
    for made in (uuid7_from(ns // 10**6, seed), uuid7_at(ns, seed)):
        assert (UUID(made).version, UUID(made).variant) == (7, "specified in RFC 4122")
        assert call_begun_ns(made) == ns // 10**6 * 10**6
        assert made == str(UUID(made))


@given(times, times, st.binary(max_size=8), st.binary(max_size=8))
def test_ids_of_one_millisecond_are_in_the_order_of_their_times(one: int, other: int, a: bytes, b: bytes) -> None:
    early, late = sorted((one, other))
    if late - early >= 250:
        assert uuid7_at(early, a) < uuid7_at(late, b)


@given(times, times, st.binary(max_size=8))
def test_a_bound_parts_ids_by_their_times(of: int, bound: int, seed: bytes) -> None:
    made = uuid7_at(of, seed)
    assert id_ms(made) == of // 10**6
    assert (made < id_bound(bound)) == (of // 10**6 < bound // 10**6)


def test_what_is_no_id_has_no_time() -> None:
    assert [id_ms(text) for text in ("", "call-1", "gggggggg-0000-7000-8000-000000000000")] == [None] * 3


def test_another_seed_is_another_id_and_the_same_the_same() -> None:
    assert uuid7_from(1, b"a") == uuid7_from(1, b"a") != uuid7_from(1, b"b")
    assert uuid7_at(1, b"a") == uuid7_at(1, b"a") != uuid7_at(1, b"b")
    assert uuid7_from(1_790_000_000_000, b"seed") == "01a0c450-6c00-702b-b22b-3b64768098d0"


@pytest.mark.parametrize("ns", [-1, 2**48 * 10**6])
def test_a_time_that_no_id_has_room_for_is_refused(ns: int) -> None:
    with pytest.raises(ValueError, match="no UUID has the time"):
        uuid7_at(ns, b"")
