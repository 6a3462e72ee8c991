"""Dollars: what is read as an amount, and how an amount is shown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.core.money import parse_usd, per_second, usd_json, usd_text

AMOUNTS = st.decimals(min_value=0, max_value=1_000_000, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("5", "5"), ("4.50", "4.50"), ("$5", "5"), (" $ 5 ", "5"), ("1e3", "1000"), ("0.000001", "0.000001")],
)
def test_an_amount_is_read(text: str, amount: str) -> None:
    """People write dollars in more than one way."""
    assert Decimal(amount) == parse_usd(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an amount"),
        ("five", "not an amount"),
        ("5,00", "not an amount"),
        ("$$5", "not an amount"),
        ("nan", "not a finite"),
        ("inf", "not a finite"),
        ("-inf", "not a finite"),
        ("0", "above zero"),
        ("-1", "above zero"),
        ("1e400", "more than a million"),
        ("1000000.01", "more than a million"),
        ("0.0000001", "six decimals"),
        ("1e-400", "six decimals"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, why: str) -> None:
    """Each refusal is a sentence that a user can act on."""
    with pytest.raises(ValueError, match=why):
        parse_usd(text)


@given(amount=AMOUNTS)
def test_money_in_json_is_rounded_up_by_less_than_a_micro_dollar(amount: Decimal) -> None:
    """A reader never sees less than was spent, in plain digits, and reads back what was written."""
    shown = usd_json(amount)

    assert Decimal(shown) >= amount
    assert Decimal(shown) - amount < Decimal("0.000001")
    assert "e" not in shown.lower()
    assert 2 <= len(shown.partition(".")[2]) <= 6


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("5", "$5.00"),
        ("0.5", "$0.50"),
        ("1.001", "$1.01"),
        ("0.0123", "$0.0123"),
        ("0.00001", "$0.0001"),
        ("0", "$0.00"),
    ],
)
def test_money_on_screen_is_rounded_up_to_what_says_something(amount: str, text: str) -> None:
    """Cents, or four decimals where cents would say nothing."""
    assert text == usd_text(Decimal(amount))


def test_an_hourly_rate_is_a_rate_per_second() -> None:
    """A tenth of a cent per second is 3.60 an hour."""
    assert Decimal("0.001") == per_second(Decimal("3.6"))
