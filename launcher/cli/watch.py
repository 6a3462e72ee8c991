"""`gpulaunch status --watch`: what to show at each moment, and for how long. A viewer of the journal, nothing more.

On a terminal it is a live table (launcher/cli/watch_table.py); elsewhere one plain line, or with `as_json` one line of
JSON, for each job whenever it changed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from launcher.cli.follow import Signals
from launcher.cli.screen import duration, ending, metric_line, money, put, say
from launcher.cli.state import Context, ensure_guards, wait_until
from launcher.core.money import CENT
from launcher.outcome import State
from launcher.report.forecast_text import forecast_remark, other_notes
from launcher.report.metrics import number, series
from launcher.report.plain_text import plain
from launcher.views import job_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from launcher.records import Attempt, Job

LOOK_S = 1.0
# How soon Ctrl-C is heard between two looks.
HEAR_S = 0.1
# How often it is seen to that every live job has a guard; a new one takes a moment to take its lock.
GUARD_CHECK_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One job at one moment."""

    view: dict[str, Any]
    """As `status --json` shows it."""
    values: tuple[float, ...]
    """The series of the main metric."""
    left: str
    """Time left: `~5m 10s` to the training's own end where it tells one that fits, else to its deadline."""
    notes: tuple[str, ...]
    forecast: str
    """What to say of a training that will not be done in time."""

    @property
    def live(self) -> bool:
        """Whether the job is not gone yet."""
        return bool(self.view["state"] != State.GONE)

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that a person should read beside the figures."""
        return (*self.notes, self.forecast) if self.forecast else self.notes


def see(job: Job, attempts: Sequence[Attempt], now: datetime) -> Seen:
    """A job as it is shown at `now`. Pure."""
    view = job_view(job, attempts, now)
    made = [attempt for attempt in attempts if attempt.create_called]
    forecast = forecast_remark(job, attempts, now)
    notes = [*(other_notes(view["notes"]) if forecast else view["notes"]), view["trouble"]]
    if view["state"] == State.DELETING:
        notes.append("NOT CONFIRMED GONE YET; something may still be billed. It is being retried.")
    return Seen(
        view=view,
        values=tuple(number(value) for _, _, value in series(made)[1]),
        left=_left(made[-1], now) if made and made[-1].state != State.GONE else "",
        notes=tuple(plain(note) for note in notes if note),
        forecast=forecast,
    )


def _left(attempt: Attempt, now: datetime) -> str:
    progress = (attempt.beat or {}).get("progress") or {}
    age_s = attempt.age_s(now)
    if progress.get("fits") and "finish_age_s" in progress:
        return f"~{duration(progress['finish_age_s'] - age_s)}"
    return duration(attempt.soft_after_s - age_s)


def watch(state: Context, select: Callable[[], list[Job]], *, as_json: bool) -> None:
    """Show the selected jobs until none is live, or until SIGINT or SIGTERM. The jobs do not notice."""
    with Signals(interactive=True) as signals:
        moments = _Moments(state, select, signals)
        if as_json:
            _stream(moments, _json_line)
        elif is_live_terminal():
            from launcher.cli import watch_table

            watch_table.show(moments)
        else:
            _stream(moments, plain_line)
        if signals.presses and not as_json:
            say("The jobs go on. Where they stand: gpulaunch status")


def is_live_terminal() -> bool:
    """Whether stdout is a terminal that can rewrite what it shows."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


class _Moments:
    """What is seen at each look, about a second apart. Ends after the look that found no live job."""

    def __init__(self, state: Context, select: Callable[[], list[Job]], signals: Signals) -> None:
        self._state = state
        self._select = select
        self._signals = signals
        self._guard_check_due = time.monotonic() + GUARD_CHECK_S

    def __iter__(self) -> Iterator[list[Seen]]:
        while not self._signals.presses:
            seen = self._look()
            yield seen
            if not any(each.live for each in seen):
                return
            wait_until(lambda: self._signals.presses > 0, LOOK_S, HEAR_S)

    def _look(self) -> list[Seen]:
        if time.monotonic() >= self._guard_check_due:
            self._guard_check_due = time.monotonic() + GUARD_CHECK_S
            ensure_guards(self._state, self._state.journal.live_accounts())
        now = self._state.clock.now()
        return [see(job, self._state.journal.attempts(job.id), now) for job in self._select()]


def _stream(moments: _Moments, line: Callable[[Seen], str]) -> None:
    """A line for each job at first, and again whenever it changed."""
    told: dict[str, Any] = {}
    for seen in moments:
        for each in seen:
            told_of, news = each.view["job"], changes(each)
            if told.get(told_of) != news:
                told[told_of] = news
                put(line(each))


def changes(seen: Seen) -> tuple[Any, ...]:
    """What makes a new line worth it: the state, a cent more spent, a metric, a remark."""
    view = seen.view
    cents = Decimal(view["spend_usd"]).quantize(CENT, rounding=ROUND_FLOOR)
    # The time in the forecast moves by a second now and then: that alone is no news.
    return (
        view["state"],
        view["outcome"],
        view["attempt"],
        cents,
        repr(view["metrics"]),
        seen.notes,
        bool(seen.forecast),
    )


def _json_line(seen: Seen) -> str:
    return json.dumps(seen.view, ensure_ascii=False)


def plain_line(seen: Seen) -> str:
    """One job in one line, without control characters."""
    view = seen.view
    parts = [
        f"{view['name']}: {view['state'] if seen.live else ending(view)}",
        f"{money(view['spend_usd'])} of {money(view['cap_usd'])}",
        metric_line(view, most=1),
        f"ends by {view['soft_deadline']}" if seen.live and view["soft_deadline"] else "",
        *seen.remarks,
    ]
    return plain(", ".join(part for part in parts if part))
