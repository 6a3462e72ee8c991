"""Early stopping: the index of the evaluation at which it stops, and why."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from launcher.agent.early_stop import Divergence, EarlyStop, hides_nan, unmasked

NAN = math.nan
INF = math.inf


def stops_at(series: list[float], rules: dict[str, Any], usd: float = 0.0) -> tuple[int, str] | None:
    """Index and reason of the stop; each evaluation costs `usd`."""
    stop = EarlyStop(rules)
    for index, value in enumerate(series):
        reason = stop.see(value, index, Decimal(str(usd)) * index)
        if reason is not None:
            return index, reason
    return None


@pytest.mark.parametrize(
    ("series", "rules", "expected"),
    [
        ([1 - 0.04 * i for i in range(12)], {"patience": 3, "min_delta": 0.05}, None),
        ([1, 0.9, 0.9, 0.9, 0.9, 0.9], {"patience": 3}, (4, "PATIENCE_EXHAUSTED")),
        ([1, 0.9, NAN, 0.8, 0.7], {"patience": 3}, (2, "NON_FINITE_METRIC")),
        ([NAN, 0.9, 0.8, 0.7], {"patience": 3}, (0, "NON_FINITE_METRIC")),
        ([1, 0.9, INF, 0.8, 0.7], {"patience": 3}, (2, "NON_FINITE_METRIC")),
        ([1, 0.9, 0.95, 0.8], {"patience": 0}, (2, "PATIENCE_EXHAUSTED")),
        ([1, 0.9, 0.95, 0.8], {"patience": 1}, (2, "PATIENCE_EXHAUSTED")),
    ],
)
def test_where_lightning_stops(series: list[float], rules: dict[str, Any], expected: tuple[int, str] | None) -> None:
    """Each series stops where lightning.pytorch 2.6.6's own EarlyStopping stopped it."""
    assert stops_at(series, rules) == expected


@pytest.mark.parametrize(
    ("series", "rules", "expected"),
    [
        ([0.5, 0.6, 0.6, 0.55, 0.7], {"patience": 2, "mode": "max"}, (3, "PATIENCE_EXHAUSTED")),
        ([1, 0.9, 0.5, 0.4], {"stopping_threshold": 0.5}, (3, "STOPPING_THRESHOLD")),
        ([0.5, 0.9, 0.91], {"stopping_threshold": 0.9, "mode": "max"}, (2, "STOPPING_THRESHOLD")),
        ([1, 2, 20, 21], {"patience": 9, "divergence_threshold": 20}, (3, "DIVERGENCE_THRESHOLD")),
        (
            [0.5, 0.4, 0.1, 0.05],
            {"patience": 9, "divergence_threshold": 0.1, "mode": "max"},
            (3, "DIVERGENCE_THRESHOLD"),
        ),
        ([1, NAN, NAN, NAN, 0.5], {"patience": 3, "check_finite": False}, (3, "PATIENCE_EXHAUSTED")),
        ([NAN, NAN, 0.5, 0.6, 0.7], {"patience": 3, "check_finite": False}, None),
        ([1, 1, 1, 1, 1], {}, (3, "PATIENCE_EXHAUSTED")),
        ([1, 2, 3, 4, 5], {"patience": None}, None),
    ],
)
def test_the_other_rules(series: list[float], rules: dict[str, Any], expected: tuple[int, str] | None) -> None:
    """Thresholds, mode and check_finite; the Lightning class gave the same for each but the last, which it has not."""
    assert stops_at(series, rules) == expected


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([1, 0.9, 0.8, 0.7, 0.7, 0.7], (4, "BASELINE_NOT_MET")),
        ([1, 0.9, 0.4, 0.4, 0.4, 0.4], (4, "PATIENCE_EXHAUSTED")),
        ([1, 1, 1, 1], (1, "BASELINE_NOT_MET")),
        ([1, 0.9, 0.95, 0.8, 0.85], (2, "BASELINE_NOT_MET")),
    ],
)
def test_baseline(series: list[float], expected: tuple[int, str]) -> None:
    """Patience is not renewed above the baseline: the same indices as keras 3.15.1 with patience 2, baseline 0.5."""
    assert stops_at(series, {"patience": 2, "baseline": 0.5}) == expected


def test_start_from_step() -> None:
    """Evaluations before that step do not count: the index is that of keras 3.15.1 with start_from_epoch 3."""
    assert stops_at([1] * 8, {"patience": 2, "start_from_step": 3}) == (5, "PATIENCE_EXHAUSTED")
    assert stops_at([NAN, NAN, NAN, 1, 0.5], {"start_from_step": 3}) is None


def test_start_from_step_without_a_step() -> None:
    """An evaluation whose step is not known does not stop a training that must not be stopped yet."""
    stop = EarlyStop({"patience": 0, "start_from_step": 3})
    assert [stop.see(1, None, Decimal(0)) for _ in range(5)] == [None] * 5


def test_patience_usd() -> None:
    """Dollars since the best value, asked at evaluations and between them, once one was no better."""
    rules = {"patience": 100, "patience_usd": "0.50"}
    assert stops_at([1, 0.9, 0.95, 0.95, 0.95, 0.95], rules, usd=0.20) == (4, "PATIENCE_USD")
    stop = EarlyStop(rules)
    stop.see(1.0, 0, Decimal("1.00"))
    assert stop.spent(Decimal("2.00")) is None
    stop.see(1.1, 1, Decimal("1.10"))
    assert [stop.spent(Decimal("1.49")), stop.spent(Decimal("1.50"))] == [None, "PATIENCE_USD"]


def diverges_at(rows: list[dict[str, float]]) -> int | None:
    """The index of the row at which a training has diverged."""
    divergence = Divergence()
    return next((index for index, row in enumerate(rows) if divergence.see("hf", row)), None)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"loss": 2.0, "grad_norm": INF}, {"loss": 1.9, "grad_norm": 1.0}, {"loss": 1.8, "grad_norm": INF}], None),
        ([{"loss": 2.0, "grad_norm": INF}, {"loss": 1.9, "grad_norm": NAN}], 1),
        ([{"loss": 2.0, "grad_norm": 1.0}, {"loss": 0.0, "grad_norm": NAN}], 1),
        ([{"loss": 0.0, "grad_norm": 0.0}] * 5, None),
        ([{"loss": NAN}, {"eval_loss": 1.0}, {"loss": NAN}], 2),
        ([{"train/loss": 0.0, "train/grad_norm": INF}], 0),
        ([{"loss": INF}, {"loss": 2.0}, {"loss": INF}], None),
        ([{"eval_loss": NAN}] * 5, None),
    ],
)
def test_divergence(rows: list[dict[str, float]], expected: int | None) -> None:
    """Two bad rows in a row, or a loss of exactly 0 beside a bad norm; one overflow alone is none."""
    assert diverges_at(rows) == expected


def test_a_loss_of_zero_that_is_nan() -> None:
    """It is told as NaN, so that it is never the best loss."""
    row = {"loss": 0.0, "grad_norm": NAN, "learning_rate": 0.0}
    assert hides_nan(row) is True
    assert math.isnan(unmasked(row)["loss"])
    assert unmasked(row)["learning_rate"] == 0.0
    assert unmasked({"loss": 0.0, "grad_norm": 0.5}) == {"loss": 0.0, "grad_norm": 0.5}
