"""When a training is not worth more money.

Names and meanings are those of lightning.pytorch.callbacks.EarlyStopping 2.6 (`_evaluate_stopping_criteria`):
patience counts evaluations that were seen. `baseline` and `start_from_step` are those of keras.callbacks.EarlyStopping
3.15 (its `start_from_epoch`). `patience_usd` is ours: dollars spent since the best value, once an evaluation after it
was no better.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import inf, isfinite, nan
from typing import Any

from .metrics import same_name


class EarlyStop:
    """The rules of one monitored metric. `rules` are the job file's; the answers are Lightning's reasons."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._sign = -1 if rules.get("mode") == "max" else 1
        self._best = inf
        self._wait = 0
        self._best_spent_usd: Decimal | None = None
        self._met_baseline = rules.get("baseline") is None

    def see(self, value: float, step: float | None, spent_usd: Decimal) -> str | None:
        """One evaluation: the reason to stop, or None. `spent_usd` is what the job has cost until now."""
        rules = self._rules
        start = rules.get("start_from_step")
        if start and (step is None or step < start):
            return None
        if rules.get("check_finite", True) and not isfinite(value):
            return "NON_FINITE_METRIC"
        value *= self._sign  # from here on, less is better
        if value < self._limit("stopping_threshold", -inf):
            return "STOPPING_THRESHOLD"
        if value > self._limit("divergence_threshold", inf):
            return "DIVERGENCE_THRESHOLD"
        self._wait += 1
        gained = value + float(rules.get("min_delta") or 0)
        if gained < self._best:
            self._best, self._best_spent_usd = value, spent_usd
            self._met_baseline = self._met_baseline or gained < self._limit("baseline", inf)
            if self._met_baseline:
                self._wait = 0
            return None
        patience = rules.get("patience", 3)
        if patience is not None and self._wait >= patience:
            return "PATIENCE_EXHAUSTED" if self._met_baseline else "BASELINE_NOT_MET"
        return self.spent(spent_usd)

    def _limit(self, rule: str, absent: float) -> float:
        limit = self._rules.get(rule)
        return absent if limit is None else self._sign * float(limit)

    def spent(self, spent_usd: Decimal) -> str | None:
        """Asked between evaluations, too: whether the dollars without improvement are used up."""
        limit = self._rules.get("patience_usd")
        if limit is None or self._best_spent_usd is None or not self._wait:
            return None
        return "PATIENCE_USD" if spent_usd - self._best_spent_usd >= Decimal(str(limit)) else None


class Divergence:
    """Sees a training that computes nonsense, whatever is monitored.

    A non-finite gradient norm or loss counts after two rows in a row, or at once beside a loss of exactly 0: that is
    how the Hugging Face Trainer prints a loss of NaN (`logging_nan_inf_filter`). One alone may be an overflow of fp16,
    which loss scaling gets over.
    """

    def __init__(self) -> None:
        self._bad: dict[str, int] = {}

    def see(self, source: str, row: Mapping[str, float]) -> bool:
        """One row as it was told: whether the training has diverged."""
        if source not in self._bad and all(map(isfinite, row.values())):
            return False
        watched = [value for name, value in row.items() if _is_norm(name) or _is_loss(name)]
        if watched:
            self._bad[source] = 0 if all(map(isfinite, watched)) else self._bad.get(source, 0) + 1
        return hides_nan(row) or self._bad.get(source, 0) >= 2


def hides_nan(row: Mapping[str, float]) -> bool:
    """Whether the row's loss of exactly 0 stands for NaN. It would be the best loss ever."""
    return (
        0 in row.values()
        and any(_is_loss(name) and value == 0 for name, value in row.items())
        and any(_is_norm(name) and not isfinite(value) for name, value in row.items())
    )


def unmasked(row: dict[str, float]) -> dict[str, float]:
    """The row, with such a loss told as the NaN that it is."""
    return {name: nan if _is_loss(name) else value for name, value in row.items()} if hides_nan(row) else row


def _is_loss(name: str) -> bool:
    return same_name(name) == "loss"


def _is_norm(name: str) -> bool:
    return same_name(name) in ("grad_norm", "norm", "gradient_norm")
