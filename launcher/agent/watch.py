"""What the agent knows of the training: its metrics, when to stop it for its own sake, and when it will be done.

It reads what the training prints and writes, and the training's code is not changed for it. The agent's loop hands in
lines, calls `poll` every few seconds and once more when the training has ended, and asks for a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .early_stop import Divergence, EarlyStop, unmasked
from .file_search import MetricFiles
from .forecast import Forecast
from .line_formats import LineReader, Row
from .metrics import SHOWN, Metric, Metrics, same_name

MISSING_AFTER_S = 600
MISSING_STRICT_AFTER_S = 1800


class Watch:
    """One training. All ages are seconds since billing started. `folder` is the machine's, `workdir` the training's.

    Made when the training starts, after old checkpoints were put back: files that are there already are not its own.
    """

    def __init__(self, orders: Mapping[str, Any], workdir: str, folder: str) -> None:
        metrics = orders.get("metrics") or {}
        form, patterns = metrics.get("format") or "auto", metrics.get("regex") or ()
        self._rules: dict[str, Any] = orders.get("early_stop") or {}
        self._monitor: str = self._rules.get("monitor", "")
        self._no_progress_s: float | None = (orders.get("stall") or {}).get("no_progress_s")

        def make_lines() -> LineReader:
            return LineReader(form, patterns, self._monitor)

        self._lines = make_lines()
        self._files = MetricFiles(Path(workdir), Path(folder), form, metrics.get("files") or (), make_lines)
        self._metrics = Metrics(self._monitor, self._rules.get("mode", "min") if self._rules else None)
        self._forecast = Forecast(orders)
        self._divergence = Divergence()
        self._stop = EarlyStop(self._rules)
        self._stop_of: Metric | None = None
        self._alias = ""
        self._reason: str | None = None
        self._age_s = 0.0
        self._began_s: float | None = None
        self._moved_s = 0.0

    def lines(self, lines: list[str], age_s: float) -> None:
        """Take in what the training has printed."""
        for line in lines:
            for source, row in self._lines.read(line):
                self._take(source, row, age_s)
        self._pass(age_s)

    def poll(self, age_s: float) -> None:
        """Look at the files that the training writes."""
        for source, row in self._files.read(age_s):
            self._take(source, row, age_s)
        self._pass(age_s)

    def _pass(self, age_s: float) -> None:
        self._age_s = age_s
        if self._began_s is None:
            self._began_s = self._moved_s = age_s

    def _take(self, source: str, row: Row, age_s: float) -> None:
        place = (row.get("step"), row.get("epoch"))
        step = row.get("step")
        if self._forecast.see(row, age_s):
            self._moved_s = age_s
        if step is None:
            step = self._forecast.step()
        told: Row = {}
        evaluated = None
        for name, value in unmasked(row).items():
            metric = self._metrics.add(name, value, source, step, place, age_s)
            if metric is not None:
                told[name] = row[name]
                self._moved_s = age_s if metric.is_new else self._moved_s
                evaluated = (metric, value) if self._is_monitored(name) else evaluated
        if not told:
            return
        if evaluated is not None:
            self._evaluate(*evaluated, step, age_s)
        if self._rules.get("check_finite", bool(self._rules)) and self._divergence.see(source, told):
            self._reason = self._reason or "NON_FINITE_METRIC"

    def _is_monitored(self, name: str) -> bool:
        """The exact name, or the first that spells it otherwise while the exact name has not appeared."""
        if name == self._monitor:
            self._alias = ""
            return True
        if not self._monitor or self._monitor in self._metrics.by_name or same_name(name) != same_name(self._monitor):
            return False
        self._alias = self._alias or name
        return name == self._alias

    def _evaluate(self, metric: Metric, value: float, step: float | None, age_s: float) -> None:
        if metric is not self._stop_of:  # another source or name took over: its series counts from its own start
            self._stop, self._stop_of = EarlyStop(self._rules), metric
        self._reason = self._reason or self._stop.see(value, step, self._forecast.spent_usd(age_s))

    def verdict(self, age_s: float) -> tuple[str, str] | None:
        """Outcome and reason when the training should be stopped gracefully. What was decided once stays."""
        self._pass(age_s)
        self._reason = self._reason or self._stop.spent(self._forecast.spent_usd(age_s))
        if self._reason:
            return "early_stopped", self._reason
        if self._rules.get("strict") and self._is_missing(MISSING_STRICT_AFTER_S):
            return "failed", "METRIC_MISSING"
        if self._no_progress_s is not None and age_s - self._moved_s >= self._no_progress_s:
            return "stalled", "NO_PROGRESS"
        return None

    def _is_missing(self, after_s: float) -> bool:
        """Whether the monitored metric should have come: another of an evaluation did, twice, or it is late."""
        if not self._monitor or self._stop_of is not None or self._began_s is None:
            return False
        evaluated = (metric for name, metric in self._metrics.by_name.items() if same_name(name).startswith("val_"))
        return self._age_s - self._began_s >= after_s or any(metric.seen > 1 for metric in evaluated)

    def report(self) -> dict[str, Any]:
        """What the heartbeat says: `metrics`, `progress`, `notes`, and `history`, the series of the main metric."""
        main = self._alias or self._monitor
        by_name, names = self._metrics.by_name, self._metrics.names()
        if main not in by_name:
            main = names[0] if names else ""
        return {
            "metrics": {name: by_name[name].report() for name in names[:SHOWN]},
            "progress": self._forecast.report(self._age_s),
            "notes": self._notes(),
            "history_of": main,
            "history": by_name[main].points() if main else [],
        }

    def _notes(self) -> list[str]:
        notes = [*self._files.notes.values(), self._forecast.note(self._age_s)]
        if self._alias:
            notes.append(f"early_stop: no {self._monitor} is told, {self._alias} is taken for it.")
        if self._is_missing(MISSING_AFTER_S):
            seen = ", ".join(self._metrics.names()[:SHOWN]) or "none"
            notes.append(
                f"early_stop cannot work: {self._monitor} has not appeared. Metrics seen: {seen}. "
                "Set early_stop.monitor to one of them, or add metrics.regex."
            )
        if self._stop_of and self._rules.get("start_from_step") and self._forecast.step() is None:
            notes.append("early_stop cannot work: the training tells no step, and start_from_step needs one.")
        unread = not self._metrics.by_name and not self._forecast.report(self._age_s)
        if unread and self._no_progress_s and self._age_s - self._moved_s > self._no_progress_s / 2:
            notes.append("No step and no metric was recognised: stall.no_progress will stop this training.")
        return [note for note in notes if note]
