"""Counts of parameters and tokens: how a user writes them, and how a screen shows them."""

from __future__ import annotations

import re
from decimal import Decimal

from launcher.core.errors import UsageError

_COUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?)(?:e\+?(\d{1,3}))?([KMBT]?)", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

SMALLEST = 1000
"""Fewer parameters or tokens than this are a forgotten `M`, not a language model."""
LARGEST_PARAMS = 10**12
LARGEST_TOKENS = 10**14
"""The largest language models that were made public are below both."""


def parse_count(option: str, text: str, largest: int) -> int:
    """Read a count such as `124M`, `1.5B`, `100_000_000` or `1e8`.

    Raises UsageError, naming `option`, unless it is a whole number from a thousand to `largest`.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise _refused(option, text, "is not a count", "A count is a number above zero, with K, M, B or T if you like")
    mantissa, exponent, suffix = found.groups()
    count = Decimal(mantissa.replace("_", "")).scaleb(int(exponent or 0)) * _FACTORS[suffix.upper()]
    if count == 0:
        raise _refused(option, text, "is zero", "Nothing would be trained")
    if count < SMALLEST:
        raise _refused(
            option, text, "is too small", f"The smallest is {SMALLEST:,}; was it meant in millions, as in 12M?"
        )
    if count > largest:
        raise _refused(option, text, "is too large", f"The largest is {short(largest)}")
    if count != int(count):
        raise _refused(option, text, "is not a whole number", "There is no part of a parameter or token")
    return int(count)


def _refused(option: str, text: str, what: str, why: str) -> UsageError:
    return UsageError(
        f"{option} {text[:40]!r} {what}.",
        why if why.endswith("?") else f"{why}.",
        "For example: gpulaunch estimate --params 124M --tokens 100M",
    )


def short(value: float | Decimal) -> str:
    """Three digits and a letter, for the screen: `0.54`, `8.3`, `124`, `7.4K`, `100M`; `<0.01` for less."""
    left = Decimal(value)
    if 0 < left < Decimal("0.01"):
        return "<0.01"
    letters = iter("KMBT")
    letter = ""
    while left >= Decimal("999.5") and (following := next(letters, "")):
        left, letter = left / 1000, following
    text = f"{left:.{2 if left < 10 else 1 if left < 100 else 0}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + letter


def number(value: Decimal) -> float:
    """A number for JSON, with six digits."""
    return float(f"{value:.6g}")
