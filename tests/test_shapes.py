"""How values look to people."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from hub.cli import shapes


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (None, "-"),
        (0.04, "0.0ms"),
        (4.26, "4.3ms"),
        (850.4, "850ms"),
        (999.7, "1.00s"),
        (12_340, "12.3s"),
        (59_990, "1m00s"),
        (125_000, "2m05s"),
        (3_600_000 * 3.5, "3h30m"),
    ],
)
def test_durations(ms: float | None, shown: str) -> None:
    assert shapes.duration(ms) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "-"), (0, "0"), (812, "812"), (1_234, "1.2k"), (34_400, "34k"), (999_999, "1.0M"), (1_500_000, "1.5M")],
)
def test_tokens(count: int | None, shown: str) -> None:
    assert shapes.tokens(count) == shown


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (None, "-"),
        (0, "$0"),
        (1_234_500_000_000, "$1,234.50"),
        (12_345_678, "$0.0123"),
        (345_678, "$0.0003"),
        (99_999, "$0.00010"),
        (34_567, "$0.00003"),
        (4_567, "$0.000005"),
        (1, "$0.000000001"),
        (-12_345_678, "-$0.0123"),
    ],
)
def test_an_unknown_cost_is_not_zero(nanos: int | None, shown: str) -> None:
    assert shapes.cost(nanos) == shown


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (None, "-"),
        (0, "$0.000000"),
        (337_500, "$0.0003375"),
        (4, "$0.000000004"),
        (-1_234_500_000_000, "-$1,234.500000"),
    ],
)
def test_one_call_s_cost_is_exact(nanos: int | None, shown: str) -> None:
    assert shapes.exact_cost(nanos) == shown


@pytest.mark.parametrize(
    ("real", "shown"),
    [
        (3e-05, "0.00003"),
        (4.5e-9, "0.0000000045"),
        (1763654400.5, "1763654400.5"),
        (1234567.0, "1234567"),
        (-2e-7, "-0.0000002"),
        (0.0, "0"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_no_exponent_where_people_would_not_write_one(real: float, shown: str) -> None:
    assert shapes.value(real) == shown


@pytest.mark.parametrize(("count", "shown"), [(None, "-"), (12, "12 B"), (3_482, "3.4 KiB"), (5 << 40, "5120.0 GiB")])
def test_sizes(count: int | None, shown: str) -> None:
    assert shapes.size(count) == shown


def test_a_moment_is_as_short_as_its_age_allows() -> None:
    now = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    assert shapes.moment("2026-11-20T14:03:22.123456Z", now) == "14:03:22"
    assert shapes.moment("2026-03-02T14:03:22.123456Z", now) == "03-02 14:03"
    assert shapes.moment("2024-03-02T14:03:22.123456Z", now) == "2024-03-02"
    assert shapes.moment(None, now) == "-"


def test_what_could_drive_a_terminal_does_not_reach_it() -> None:
    hostile = "a\x1b[2Jb\x9b31mc\x07d\u202ee\r\nf\tg"
    assert shapes.clean(hostile) == "a\ufffd[2Jb\ufffd31mc\ufffdd\ufffde\nf\tg"
    assert shapes.one_line(" a\n\n b ") == "a b"


def test_json_that_drives_no_terminal_says_the_same() -> None:
    hostile = "a\x1b[2J\x9b31m\u202e\x7f\r\n\té漢"
    text = shapes.escaped(json.dumps({"k": [hostile]}, ensure_ascii=False, indent=2))
    assert json.loads(text) == {"k": [hostile]}
    assert shapes.clean(text) == text
    assert "é漢" in text


def test_cells_show_any_value() -> None:
    assert [shapes.value(v) for v in (None, 0.1 + 0.2, b"abc", "x\ny", 7)] == ["-", "0.3", "3 bytes", "x y", "7"]
