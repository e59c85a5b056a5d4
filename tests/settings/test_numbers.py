import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaffold_torchtune.findings import close_matches, did_you_mean, escape, shortest_number, shown
from scaffold_torchtune.settings import kinds
from support.wording import absent


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("8", 8), ("123456789012", 123_456_789_012)])
def test_a_plain_whole_number_is_read(text: str, value: int) -> None:
    assert kinds.read_int(text) == value


@pytest.mark.parametrize(
    "text", ["", " 8", "8\n", "-1", "+1", "08", "1_0", "1.0", "1e3", "８", "٣", "²", "1234567890123", "9" * 10_000]
)
def test_an_invalid_whole_number_is_none(text: str) -> None:
    assert kinds.read_int(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-1", "+1", "1.", ".", "1,5", "1_0", "01.5", "1e", "e5", "1e1000", "1e999", "1e-999", "0x1",
     "１e5", "1e٣", "1 x 10", "5 x 105", "2 x 1024", "1 × 10-5", "1 × 10^", "x 10^5", "01 × 10^-5", "1 × 10^999",
     "9" * 10_000],
)  # fmt: skip
def test_an_invalid_number_is_none(text: str) -> None:
    assert kinds.read_float(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("0e-999", 0.0), ("1e-5", 1e-5), ("5E-5", 5e-5), ("1e+3", 1e3), (".5", 0.5), ("1 × 10^-5", 1e-5),
     ("5 x 10⁻⁵", 5e-5), ("2.5·10⁻³", 2.5e-3), ("3 X 10**2", 300.0), ("1×10^−5", 1e-5), ("5 x 10²", 500.0)],
)  # fmt: skip
def test_numbers_in_common_notations(text: str, value: float) -> None:
    assert kinds.read_float(text) == value


@settings(deadline=None)
@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_the_canonical_form_reads_back_as_the_same_number(number: float) -> None:
    text = shortest_number(number)
    assert float(text) == number
    short_enough = len(text) < 15
    assert kinds.read_float(text) == number or not short_enough


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e-5, "1e-5"), (2.5e-5, "2.5e-5"), (0.1, "0.1"), (0.05, "0.05"), (0.01, "0.01"),
     (0.001, "1e-3"),
     (0.0, "0"), (8, "8"), (1.0, "1"), (100_000.0, "100000"), (1.5, "1.5"), (0.00012, "1.2e-4"), (-1e-5, "-1e-5")],
)  # fmt: skip
def test_the_canonical_form_is_the_shortest(number: float, text: str) -> None:
    assert shortest_number(number) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("0:59:00", 3540), ("12:30:00", 45_000), ("1-12", 129_600), ("1-12:30", 131_400),
     ("1-12:30:15", 131_415), ("0", 0), ("0:00:00", 0)],
)  # fmt: skip
def test_a_time_limit_is_read_like_slurm_reads_it(text: str, seconds: int) -> None:
    assert kinds.slurm_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1:2:3:4", "-1", "1-", "a", "12:99x", "１:00", "1:00:00\n", "infinite", "9" * 100]
)
def test_a_time_limit_that_slurm_rejects_is_none(text: str) -> None:
    assert kinds.slurm_seconds(text) is None


@settings(deadline=None)
@given(st.text())
def test_escaped_text_is_one_line_and_loses_nothing(text: str) -> None:
    escaped = escape(text, limit=10_000)
    assert escaped.isprintable()
    plain = escaped.encode("ascii", "backslashreplace").decode("unicode_escape")
    assert plain == text


def test_a_lone_surrogate_is_escaped() -> None:
    assert escape("a\ud800") == "a\\ud800"


def test_long_text_is_shortened_with_the_number_of_omitted_characters() -> None:
    kept, dots, rest = escape("x" * 205).partition("... (")
    assert (kept, bool(dots), absent(rest, 5)) == ("x" * 200, True, [])
    assert escape("x" * 200) == "x" * 200


@pytest.mark.parametrize(
    ("value", "text"), [("8", "'8'"), (8, "8"), (8.0, "8.0"), (True, "True"), (None, "None"), (1e-5, "1e-5")]
)
def test_a_shown_value_reveals_its_type(value: str | float | None, text: str) -> None:
    assert shown(value) == text


def test_close_matches_ignore_case_and_begin_with_the_best() -> None:
    assert close_matches("LORA_RNK", ["lr", "lora_alpha", "lora_rank"])[0] == "lora_rank"
    assert absent(did_you_mean("epoch", ["epochs"]), "'epochs'") == []
    assert did_you_mean("zzz", ["epochs"]) == ""
    assert math.isclose(len(close_matches("abcd", ["abcx", "abcy", "abcz", "abcw"], limit=2)), 2)
