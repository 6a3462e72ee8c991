"""Counts of parameters and tokens, as users write them and as a screen shows them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from launcher.core.errors import Exit, UsageError
from launcher.estimate.counts import LARGEST_PARAMS, number, parse_count, short


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("124M", 124_000_000),
        ("124m", 124_000_000),
        ("1.5B", 1_500_000_000),
        ("0.5M", 500_000),
        ("100_000_000", 100_000_000),
        ("1e8", 100_000_000),
        ("1.24e+8", 124_000_000),
        (" 1000 ", 1000),
        ("1T", 10**12),
    ],
)
def test_a_count_is_read(text: str, count: int) -> None:
    """With a letter, an exponent, underscores or none of them."""
    assert parse_count("--params", text, LARGEST_PARAMS) == count


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0", "is zero"),
        ("0.0M", "is zero"),
        ("-1", "is not a count"),
        ("12X", "is not a count"),
        ("nan", "is not a count"),
        ("inf", "is not a count"),
        ("", "is not a count"),
        ("M", "is not a count"),
        ("1e-3", "is not a count"),
        ("12\uff14M", "is not a count"),
        ("1,000,000", "is not a count"),
        ("12", "is too small"),
        ("1000.5", "is not a whole number"),
        ("1e30", "is too large"),
        ("1e999T", "is too large"),
        ("1001B", "is too large"),
        ("9" * 5000, "is too large"),
    ],
)
def test_what_is_no_count_is_refused_by_name(text: str, what: str) -> None:
    """The option, what was found and what is wrong with it; exit 2."""
    with pytest.raises(UsageError) as caught:
        parse_count("--tokens", text, LARGEST_PARAMS)
    assert caught.value.what == f"--tokens {text[:40]!r} {what}."
    assert caught.value.fix.endswith("gpulaunch estimate --params 124M --tokens 100M")
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal(0), "0"),
        (Decimal("0.001"), "<0.01"),
        (Decimal("0.536"), "0.54"),
        (Decimal("9.0842"), "9.08"),
        (Decimal("15.00"), "15"),
        (Decimal("44.84"), "44.8"),
        (Decimal("999.4"), "999"),
        (Decimal("999.6"), "1K"),
        (124_000_000, "124M"),
        (Decimal("1.27e9"), "1.27B"),
        (Decimal("6e15"), "6000T"),
    ],
)
def test_a_screen_shows_three_digits_and_a_letter(value: Decimal, text: str) -> None:
    """Small, large and in between."""
    assert short(value) == text


def test_a_number_for_json_has_six_digits() -> None:
    """And is a float, also where it is whole."""
    assert repr(number(Decimal("2.271062271"))) == "2.27106"
    assert repr(number(Decimal(3))) == "3.0"
