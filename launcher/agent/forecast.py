"""When the training will be done, and what it will have cost: from its own numbers, before the money is gone."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from math import isfinite
from typing import Any

from .metrics import as_json

MARGIN = Decimal("1.05")
SAMPLES = 64
ENOUGH = 5
HOUR_S = 3600


class Track:
    """One way to count how far the training is: steps, epochs, or a progress bar, as 64 samples at most."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []  # age_s and position
        self.total = 0.0
        self._repeats = False

    def see(self, position: float | None, total: float | None, age_s: float) -> bool:
        """Take in a position, a total, or both. True if the position is new."""
        if total is not None and total > 0 and isfinite(total):
            self.total = total
        last_s, last = self.samples[-1] if self.samples else (-1.0, -1.0)
        if position is None or position == last or not isfinite(position):
            return False
        if position < last:
            # From the end to the start: the count is of one epoch, and says nothing of the whole.
            self._repeats = self._repeats or position <= self.total / 10 < last / 5
            self.samples = []
        elif last_s == age_s:
            self.samples.pop()  # many lines arrive at once: the last of them is where the training is
        self.samples.append((age_s, position))
        if len(self.samples) > SAMPLES:
            self.samples = self.samples[::2]
        return True

    def has_end(self) -> bool:
        """Whether it is known how far the training goes."""
        return self.total > 0 and not self._repeats

    def rate(self) -> float:
        """Positions per second over the later half, 0 if not known yet. The first sample is the warm-up's.

        Pauses to evaluate and to save count: they will come again.
        """
        if len(self.samples) < 3:
            return 0.0
        age_s, position = self.samples[-1]
        half_s = (self.samples[1][0] + age_s) / 2
        from_s, start = [sample for sample in self.samples if sample[0] <= half_s][-1]
        return (position - start) / (age_s - from_s)


class Forecast:
    """Follows the training's position, and knows what its time costs.

    Of the orders it takes rate_usd_per_hour, spent_usd, cap_usd, soft_after_s and soft_outcome.
    """

    def __init__(self, orders: Mapping[str, Any]) -> None:
        self._rate, self._spent, cap = (
            Decimal(str(orders[key])) for key in ("rate_usd_per_hour", "spent_usd", "cap_usd")
        )
        self._soft_s = float(orders["soft_after_s"])
        self._is_cap = orders.get("soft_outcome", "budget_reached") == "budget_reached"
        # What the cap holds beyond the soft deadline: grace, lateness, reserves. A larger cap needs them as well.
        self._aside = max(cap - self.spent_usd(self._soft_s), Decimal(0)) if self._is_cap else Decimal(0)
        self._tracks = {name: Track() for name in ("step", "epoch", "bar")}

    def see(self, row: dict[str, float], age_s: float) -> bool:
        """Take the row's place in the training out of it. True if the training has moved."""
        if "epochs" in row:
            row.pop("steps", None)  # beside an epoch out of several, the steps are those of one epoch
        moved = False
        for name, many in (("step", "steps"), ("epoch", "epochs"), ("bar", "bars")):
            if name in row or many in row:
                moved |= self._tracks[name].see(row.pop(name, None), row.pop(many, None), age_s)
        return moved

    def step(self) -> float | None:
        """The step the training is at, as far as it says."""
        samples = self._tracks["step"].samples or self._tracks["bar"].samples
        return samples[-1][1] if samples else None

    def spent_usd(self, age_s: float) -> Decimal:
        """What the job has cost when this machine is that old."""
        return self._spent + self._rate * Decimal(str(age_s)) / HOUR_S

    def report(self, age_s: float) -> dict[str, Any]:
        """The heartbeat's `progress`: empty while the training has told no position.

        `unit` (step or epoch), `step`, and once known `steps` (how far it goes), `steps_per_s`; with both of them
        `eta_s`, `finish_age_s`, `cost_usd`, `fits`, `cap_needed_usd`, and `settled`: whether to say it aloud.
        """
        seen = [
            (track.has_end(), track.rate() > 0, name)
            for name, track in self._tracks.items()
            if track.samples and not (name == "bar" and self._tracks["epoch"].has_end())  # the bar of one epoch
        ]
        if not seen:
            return {}
        has_end, has_rate, name = max(seen)
        track = self._tracks[name]
        last_s, position = track.samples[-1]
        said: dict[str, Any] = {"unit": "epoch" if name == "epoch" else "step", "step": as_json(position)}
        if has_rate:
            said["steps_per_s"] = as_json(track.rate())
        if has_end:
            said["steps"] = as_json(track.total)
        if has_end and has_rate:
            said.update(self._end(max(last_s + (track.total - position) / track.rate(), age_s), age_s))
            said["settled"] = len(track.samples) >= ENOUGH
        return said

    def _end(self, finish_s: float, age_s: float) -> dict[str, Any]:
        cost = self.spent_usd(finish_s)
        return {
            "eta_s": round(finish_s - age_s),
            "finish_age_s": round(finish_s),
            "cost_usd": _cents(cost),
            "fits": finish_s <= self._soft_s,
            "cap_needed_usd": _cents(cost * MARGIN + self._aside),
        }

    def note(self, age_s: float) -> str:
        """What the user must know at once: the training will not fit. Empty if it will, or if that is not known yet."""
        said = self.report(age_s)
        if said.get("fits", True) or not said["settled"]:
            return ""
        minutes = int(said["finish_age_s"] * MARGIN / 60) + 1
        fix = f"--budget {said['cap_needed_usd']}" if self._is_cap else f"--max-duration {minutes}m"
        return (
            f"The training will not be done in time: it needs {said['finish_age_s'] / HOUR_S:.1f} h and "
            f"${said['cost_usd']}, and is stopped after {self._soft_s / HOUR_S:.1f} h. {fix} would do."
        )


def _cents(usd: Decimal) -> str:
    return str(usd.quantize(Decimal("0.01"), ROUND_CEILING))
