"""The table of metrics: one source a name, best values, short series."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from launcher.agent.metrics import KEPT, POINTS, Metrics, as_json, same_name


def add(metrics: Metrics, name: str, value: float, source: str = "hf", step: float | None = None) -> bool:
    """Whether a value is taken in."""
    return metrics.add(name, value, source, step, (step, None), 0.0) is not None


@pytest.mark.parametrize(
    "name",
    [
        "val_loss",
        "eval_loss",
        "val/loss",
        "val loss",
        "eval/loss",
        "validation_loss",
        "Validation Loss",
        "val_loss_epoch",
    ],
)
def test_spellings_of_one_name(name: str) -> None:
    """All of them mean the same."""
    assert same_name(name) == "val_loss"


@pytest.mark.parametrize(
    ("name", "plain"),
    [("train_loss", "loss"), ("train/loss", "loss"), ("evaluation", "evaluation"), ("epoch", "epoch"), ("val", "val")],
)
def test_spellings_of_other_names(name: str, plain: str) -> None:
    """Only whole words are taken off or replaced."""
    assert same_name(name) == plain


def test_the_same_evaluation_from_two_sources_counts_once() -> None:
    """A name belongs to the source that told it first, when the second is not more trusted."""
    metrics = Metrics()
    taken = [add(metrics, "eval_loss", 2.541, "hf"), add(metrics, "eval_loss", 2.541335, "trainer_state /out", 10)]
    assert taken == [True, False]
    assert metrics.by_name["eval_loss"].report()["seen"] == 1


def test_a_more_trusted_source_takes_over() -> None:
    """What a guess made of a line yields to a known format, and the series begins anew."""
    metrics = Metrics()
    add(metrics, "val_loss", 0.001, "generic")
    add(metrics, "val_loss", 3.5, "csv /a", 10)
    assert add(metrics, "val_loss", 0.002, "generic") is False
    assert metrics.by_name["val_loss"].report() == {
        "value": 3.5,
        "step": 10,
        "best": 3.5,
        "best_step": 10,
        "seen": 1,
    }


def test_a_newer_run_takes_over_from_an_older() -> None:
    """Two files of one kind: the later counts, and the older cannot take it back."""
    metrics = Metrics()
    taken = [add(metrics, "val_loss", 3.0, source, 1) for source in ("csv /0", "csv /1", "csv /0", "csv /1")]
    assert taken == [True, True, False, False]


def test_one_value_told_twice_at_one_place_counts_once() -> None:
    """Two processes print the same line; without a place, equal values are a plateau and count."""
    metrics = Metrics()
    assert [add(metrics, "loss", 1.5, step=5), add(metrics, "loss", 1.5, step=5)] == [True, False]
    assert [add(metrics, "loss", math.nan, step=6), add(metrics, "loss", math.nan, step=6)] == [True, False]
    assert [add(metrics, "acc", 0.5), add(metrics, "acc", 0.5)] == [True, True]


def test_best_values() -> None:
    """Losses are best when small, accuracies when large; NaN and infinity are never best."""
    metrics = Metrics()
    for step, value in enumerate([0.5, 0.25, math.nan, -math.inf, math.inf, 0.75]):
        add(metrics, "val_loss", value, step=step)
        add(metrics, "val_accuracy", value, step=step)
    loss, accuracy = (metrics.by_name[name].report() for name in ("val_loss", "val_accuracy"))
    assert [loss["best"], loss["best_step"], accuracy["best"], accuracy["best_step"]] == [0.25, 1, 0.75, 5]


def test_mode_of_the_monitored_metric() -> None:
    """The job file's mode decides, whatever the name sounds like."""
    metrics = Metrics("my_accuracy", "min")
    for value in (0.5, 0.25, 0.75):
        add(metrics, "my_accuracy", value)
    assert metrics.by_name["my_accuracy"].report()["best"] == 0.25


def test_order_of_names() -> None:
    """The monitored metric leads, losses follow, of evaluations first."""
    metrics = Metrics("bleu", "max")
    for name in ("lr", "eval_runtime", "loss", "eval_loss", "bleu"):
        add(metrics, name, 1.0)
    assert metrics.names() == ["bleu", "eval_loss", "loss", "eval_runtime", "lr"]


def test_number_of_names_is_bounded() -> None:
    """A program that invents names does not grow the table; the monitored name always has a place."""
    metrics = Metrics("val_loss", "min")
    for number in range(10 * KEPT):
        add(metrics, f"loss_{number}", 1.0)
    assert add(metrics, "val_loss", 1.0) is True
    assert len(metrics.names()) == KEPT + 1


def test_series_is_thinned_out() -> None:
    """However long the training, at most 60 points, evenly spread, from the first to the newest."""
    metrics = Metrics()
    for step in range(10_007):
        metrics.add("loss", float(step), "hf", step, (step, None), step * 2.0)
    points = metrics.by_name["loss"].points()
    gaps = {after[1] - before[1] for before, after in pairwise(points[:-1])}
    assert POINTS / 2 <= len(points) <= POINTS
    assert [points[0], points[-1]] == [[0.0, 0, 0], [20_012.0, 10_006, 10_006]]
    assert gaps == {256}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1234567.0, 1234567),
        (0.123456789, 0.123457),
        (0.0, 0),
    ],
)
def test_numbers_in_json(value: float, expected: float | str) -> None:
    """JSON has no NaN, and a heartbeat has no room for 17 digits."""
    assert as_json(value) == expected
