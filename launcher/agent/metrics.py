"""The metrics of a training: newest and best value of each name, and a short series for charts.

The same evaluation often arrives twice, printed and in a file. So each name belongs to one source: the first that
tells it, until a more trusted one does or a newer run of the same kind, and then the series begins anew.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

SHOWN = 12
KEPT = 64
POINTS = 60

# From the most to the least trusted: what the user pointed us at, what a known trainer prints, what it writes, a guess.
_TRUST = "regex told jsonl hf keras nanogpt llmc log csv trainer_state tensorboard generic".split()  # noqa: SIM905 - small
_UP = re.compile(r"acc|f1|auc|bleu|rouge|score|reward|precis|recall|iou")


def same_name(name: str) -> str:
    """One spelling for a metric's many: `eval/loss`, `Validation Loss` and `val_loss_epoch` are all `val_loss`."""
    name = re.sub(r"[\W_]+", "_", name.lower())
    return re.sub(r"^(eval|valid|validation)_", "val_", re.sub(r"^train(ing)?_|_epoch$", "", name))


def as_json(value: float) -> float | str:
    """A number as JSON can hold it: whole, with 6 digits, or the text nan, inf or -inf."""
    if not isfinite(value):
        return str(value)
    return int(value) if value == int(value) else float(f"{value:.6g}")


class Metric:
    """One name as one source tells it. `mode` is min or max: which way is better."""

    def __init__(self, name: str, source: str, mode: str | None) -> None:
        self.source = source
        self.value = 0.0
        self.is_new = True
        self._sign = 1 if (mode == "max" if mode else _UP.search(name.lower())) else -1
        self._said: dict[str, Any] = {"best": None, "best_step": None, "seen": 0}
        self._at: tuple[Any, ...] = ()
        self._best = float("-inf")
        self._points: list[list[Any]] = []
        self._stride = 1

    def add(self, value: float, step: float | None, place: tuple[Any, ...], age_s: float) -> bool:
        """Take one value in; False if it is the one that is known already (same place in the training, same value)."""
        at = (*place, str(value))
        if at == self._at and place != (None, None):
            return False
        self.is_new = at != self._at
        self._at, self.value = at, value
        seen, said = self._said["seen"], as_json(value)
        whole_step = None if step is None else as_json(step)
        self._said |= {"value": said, "step": whole_step, "seen": seen + 1}
        if isfinite(value) and value * self._sign > self._best:
            self._best = value * self._sign
            self._said |= {"best": said, "best_step": whole_step}
        self._newest = [round(age_s, 1), whole_step, said]
        if seen % self._stride == 0:
            self._points.append(self._newest)
            if len(self._points) >= POINTS:
                self._points, self._stride = self._points[::2], self._stride * 2
        return True

    def points(self) -> list[list[Any]]:
        """The series, thinned out evenly, as [age_s, step, value]; the newest is always there."""
        return self._points if self._points[-1] is self._newest else [*self._points, self._newest]

    def report(self) -> dict[str, Any]:
        """What the heartbeat says of it."""
        return self._said


class Metrics:
    """All names, at most 64: a program that prints ever new ones must not grow us."""

    def __init__(self, monitor: str = "", mode: str | None = None) -> None:
        self._monitor = monitor
        self._mode = mode
        self._sources: list[str] = []
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
        metric, trust = self.by_name.get(name), self._trust(source)
        if metric is None and len(self.by_name) >= KEPT and name != self._monitor:
            return None
        if metric is None or (metric.source != source and trust < self._trust(metric.source)):
            mode = self._mode if same_name(name) == same_name(self._monitor) else None
            metric = self.by_name[name] = Metric(name, source, mode)
        return metric if metric.source == source and metric.add(value, step, place, age_s) else None

    def _trust(self, source: str) -> tuple[int, int]:
        """Less is more trusted: the kind counts, then the later of two runs."""
        if source not in self._sources:
            self._sources.append(source)
        return _TRUST.index(source.split(" ", 1)[0]), -self._sources.index(source)
