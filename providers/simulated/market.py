"""A spot price that moves."""

from __future__ import annotations

import random
from bisect import bisect_right
from decimal import Decimal

# How far the price wanders from its usual level: down to half of it, never above the on-demand price.
_LOWEST_SHARE = 0.5
# The pull back to the usual level, per step.
_MEMORY = 0.85


class SpotMarket:
    """The price of one instance type in one zone, in USD per hour: steps on a time axis in seconds."""

    def __init__(
        self, usual: Decimal, on_demand: Decimal, *, start_s: float, step_s: float, swing: float, seed: str
    ) -> None:
        self._usual = usual
        self._on_demand = on_demand
        self._step_s = step_s
        self._swing = swing
        self._random = random.Random(seed)  # noqa: S311 - a repeatable simulation, no secret
        self._away = 0.0
        self._at_s = [start_s - self._random.uniform(0, step_s)]
        self._usd = [usual]
        self._fixed = False

    def usd_per_hour(self, at_s: float) -> Decimal:
        """The price at that time."""
        return self._usd[self._index(at_s)]

    def next_change_s(self, at_s: float) -> float | None:
        """When the price changes next, or None if it never does."""
        index = self._index(at_s) + 1
        return self._at_s[index] if index < len(self._at_s) else None

    def next_above_s(self, at_s: float, usd_per_hour: Decimal, until_s: float) -> float | None:
        """When the price is above that amount, from `at_s` on.

        A time at or after `until_s` says only that it is not above before; None: it never is.
        """
        next_s: float | None = at_s
        while next_s is not None and next_s < until_s and self.usd_per_hour(next_s) <= usd_per_hour:
            next_s = self.next_change_s(next_s)
        return next_s

    def history(self, from_s: float, until_s: float) -> list[tuple[float, Decimal]]:
        """What a cloud publishes: the price at `from_s`, and each change before `until_s`, oldest first."""
        first, last = self._index(from_s), self._index(until_s)
        return [(max(self._at_s[index], from_s), self._usd[index]) for index in range(first, last + 1)]

    def fix(self, at_s: float, usd_per_hour: Decimal) -> None:
        """Hold the price at that value from then on, until it is fixed again."""
        keep = bisect_right(self._at_s, at_s)
        del self._at_s[keep:], self._usd[keep:]
        self._at_s.append(at_s)
        self._usd.append(usd_per_hour)
        self._fixed = True

    def _index(self, at_s: float) -> int:
        while not self._fixed and self._at_s[-1] <= at_s:
            self._step()
        return max(bisect_right(self._at_s, at_s) - 1, 0)

    def _step(self) -> None:
        self._away = _MEMORY * self._away + self._random.uniform(-self._swing, self._swing)
        share = max(1 + self._away, _LOWEST_SHARE)
        price = (self._usual * Decimal(f"{share:.4f}")).quantize(Decimal("0.0001"))
        self._at_s.append(self._at_s[-1] + self._step_s)
        self._usd.append(min(price, self._on_demand))
