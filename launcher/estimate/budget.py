"""What a budget buys at each place: whether it is enough, and if not, how many hours, steps and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.estimate.places import Place, Training

ENOUGH = ("no", "maybe", "yes")
"""No: not even at the fastest pace. Yes: at the slowest too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Purchase:
    """What a budget buys at one place. More than the training needs is told as well."""

    place: Place
    enough: str
    hours: Decimal
    tokens_low: int
    tokens_high: int
    steps_low: int
    steps_high: int


def purchases(budget_usd: Decimal, places: Sequence[Place], training: Training) -> list[Purchase]:
    """What the budget buys at every ranked place that the model fits, in their order.

    Computed as a cap is: with the rate at its worst, and what is paid once taken off first.
    """
    return [_purchase(budget_usd, place, training) for place in places if place.ranked and place.fits]


def _purchase(budget_usd: Decimal, place: Place, training: Training) -> Purchase:
    rate = place.worst_usd_per_hour
    assert rate is not None, "a ranked place has a rate"
    hours = max(budget_usd - place.once_usd, Decimal(0)) / rate
    tokens_low, tokens_high = (
        _whole(hours / needed * training.tokens) for needed in (place.hours_high, place.hours_low)
    )
    return Purchase(
        place=place,
        enough=ENOUGH[(hours >= place.hours_low) + (hours >= place.hours_high)],
        hours=hours,
        tokens_low=tokens_low,
        tokens_high=tokens_high,
        steps_low=tokens_low // training.tokens_per_step,
        steps_high=tokens_high // training.tokens_per_step,
    )


def answer(bought: Sequence[Purchase]) -> str:
    """Whether the budget is enough anywhere: the best of all places."""
    return max((each.enough for each in bought), key=ENOUGH.index, default="no")


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_FLOOR))
