"""The metrics of a training: newest and best value of each name, and a short series for charts.

The same evaluation often arrives twice, printed and in a file. So each name belongs to one source: the first that
tells it, until a more trusted one does or a newer run of the same kind, and then the series begins anew.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import isfinite
from typing import Any

SHOWN = 12
KEPT = 64
POINTS = 60

# From the most to the least trusted: what the user pointed us at, what a known trainer prints, what it writes, a guess.
_TRUST = "regex told jsonl hf keras nanogpt llmc log csv trainer_state tensorboard generic".split()  # noqa: SIM905 - small
_UP = re.compile(r"acc|f1|auc|bleu|rouge|score|reward|precis|recall|iou|per_s")


@lru_cache(1024)
def same_name(name: str) -> str:
    """One spelling for a metric's many: `eval/loss`, `Validation Loss` and `val_loss_epoch` are all `val_loss`."""
    name = re.sub(r"[\W_]+", "_", name.lower())
    return re.sub(r"^(eval|valid|validation)_", "val_", re.sub(r"^train(ing)?_|_epoch$", "", name))


def as_json(value: float | None) -> float | str | None:
    """A number as JSON can hold it: whole, with 6 digits, or the text nan, inf or -inf."""
    if value is None or not isfinite(value):
        return value and str(value)
    return int(value) if value == int(value) else float(f"{value:.6g}")


class Metric:
    """One name as one source tells it. `mode` is min or max: which way is better."""

    def __init__(self, name: str, source: str, mode: str | None) -> None:
        self.source = source
        self.value: float | None = None
        self.is_new = True
        self._sign = 1 if (mode == "max" if mode else _UP.search(name.lower())) else -1
        self.seen = 0
        self._step: float | None = None
        self._place: tuple[Any, ...] = ()
        self._best: float | None = None
        self._best_step: float | None = None
        self._age_s = 0.0
        self._points: list[tuple[float, float | None, float]] = []
        self._stride = 1

    def add(self, value: float, step: float | None, place: tuple[Any, ...], age_s: float) -> bool:
        """Take one value in; False if it is the one that is known already (same place in the training, same value)."""
        self.is_new = value != self.value and (value == value or self.value is None or self.value == self.value)
        if not self.is_new and place == self._place != (None, None):
            return False
        self.value, self._step, self._place, self._age_s = value, step, place, age_s
        if (self._best is None or value * self._sign > self._best * self._sign) and isfinite(value):
            self._best, self._best_step = value, step
        if self.seen % self._stride == 0:
            self._points.append((age_s, step, value))
            if len(self._points) >= POINTS:
                self._points, self._stride = self._points[::2], self._stride * 2
        self.seen += 1
        return True

    def points(self) -> list[list[Any]]:
        """The series, thinned out evenly, as [age_s, step, value]; the newest is always there."""
        newest = (self._age_s, self._step, self.value)
        points = self._points if self._points[-1] == newest else [*self._points, newest]
        return [[round(age_s, 1), as_json(step), as_json(value)] for age_s, step, value in points]

    def report(self) -> dict[str, Any]:
        """What the heartbeat says of it."""
        return {
            "value": as_json(self.value),
            "step": as_json(self._step),
            "best": as_json(self._best),
            "best_step": as_json(self._best_step),
            "seen": self.seen,
        }


class Metrics:
    """All names, at most 64: a program that prints ever new ones must not grow us."""

    def __init__(self, monitor: str = "", mode: str | None = None) -> None:
        self._monitor = monitor
        self._mode = mode
        self._sources: dict[str, int] = {}
        self.by_name: dict[str, Metric] = {}

    def names(self) -> list[str]:
        """The names seen: the monitored one first, then losses, evaluations before the others."""

        def order(name: str) -> tuple[bool, ...]:
            plain = same_name(name)
            return plain != same_name(self._monitor), "loss" not in plain, not plain.startswith("val_")

        return sorted(self.by_name, key=order)

    def add(
        self, name: str, value: float, source: str, step: float | None, place: tuple[Any, ...], age_s: float
    ) -> Metric | None:
        """Take one value in. None if it is another source's name, or known already."""
        metric = self.by_name.get(name)
        if metric is None and len(self.by_name) >= KEPT and name != self._monitor:
            return None
        if metric is None or (metric.source != source and self._trust(source) < self._trust(metric.source)):
            self._trust(source)
            mode = self._mode if same_name(name) == same_name(self._monitor) else None
            metric = self.by_name[name] = Metric(name, source, mode)
        return metric if metric.source == source and metric.add(value, step, place, age_s) else None

    def _trust(self, source: str) -> tuple[int, int]:
        """Less is more trusted: the kind counts, then the later of two runs."""
        return _TRUST.index(source.split(" ", 1)[0]), -self._sources.setdefault(source, len(self._sources))
