"""Money: `Decimal` US dollars, never float."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

CENT = Decimal("0.01")
MICRO = Decimal("0.000001")
SECONDS_PER_HOUR = Decimal(3600)
# A cap travels as whole micro-dollars in a tag; beyond this it is a slip of the keyboard, not a budget.
LARGEST_USD = Decimal(1_000_000)


def parse_usd(text: str) -> Decimal:
    """Read an amount such as `5`, `4.50` or `$5`.

    Raises ValueError, with a sentence for the user, unless it is finite, above zero and at most a million.
    """
    try:
        amount = Decimal(text.strip().removeprefix("$").strip())
    except InvalidOperation:
        raise ValueError("is not an amount in dollars, such as 5 or 4.50") from None
    if not amount.is_finite():
        raise ValueError("is not a finite amount in dollars")
    if amount <= 0:
        raise ValueError("must be above zero")
    if amount > LARGEST_USD:
        raise ValueError("is more than a million dollars")
    if amount != amount.quantize(MICRO):
        raise ValueError("has more than six decimals")
    return amount


def per_second(usd_per_hour: Decimal) -> Decimal:
    """USD per second from USD per hour."""
    return usd_per_hour / SECONDS_PER_HOUR


def usd_json(amount: Decimal) -> str:
    """An amount for JSON: at most six decimals, rounded up, no exponent."""
    text = f"{amount.quantize(MICRO, rounding=ROUND_CEILING):f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def usd_text(amount: Decimal) -> str:
    """An amount for the screen: cents, or four decimals where cents would say nothing. Rounded up."""
    step = CENT if amount >= 1 or amount == amount.quantize(CENT) else Decimal("0.0001")
    return f"${amount.quantize(step, rounding=ROUND_CEILING):f}"
