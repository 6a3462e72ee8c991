"""What a training told over all attempts: the main metric, its best value, its series against dollars. Pure."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from launcher.agent.metrics import same_name
from launcher.core.money import SECONDS_PER_HOUR, usd_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.records import Attempt


def metrics(early_stop: Mapping[str, Any], made: Sequence[Attempt]) -> dict[str, Any]:
    """The report's `metrics`: `last` of the newest machine that told any, `best` over all machines.

    The main metric is the monitored one where it has appeared, else the one the agent follows.
    """
    name, points = series(made)
    told = [attempt.beat["metrics"] for attempt in made if attempt.beat and attempt.beat.get("metrics")]
    if not told:
        return {"main": None, "monitored": False, "best": None, "last": [], "points": []}
    name = name or next(iter(told[-1]))
    monitor = early_stop.get("monitor") or ""
    monitored = bool(monitor) and same_name(name) == same_name(monitor)
    mode = early_stop.get("mode") if monitored else None
    entries = [entry[name] for entry in told if name in entry]
    newest = told[-1]
    ordered = sorted(newest, key=lambda each: each != name)
    return {
        "main": name,
        "monitored": monitored,
        "best": _best(entries, mode),
        "last": [{"name": each, **newest[each]} for each in ordered],
        "points": [{"usd": usd_json(usd), "step": step, "value": value} for usd, step, value in points],
    }


def series(made: Sequence[Attempt]) -> tuple[str, list[tuple[Decimal, Any, Any]]]:
    """The main metric and its series as (USD that the job had cost, step, value).

    The name is the newest machine's; those that followed another add nothing. A value is a number, or the text nan,
    inf or -inf.
    """
    name = next((of for attempt in reversed(made) if (of := (attempt.beat or {}).get("history_of"))), "")
    points = []
    before_usd = Decimal(0)
    for attempt in made:
        beat = attempt.beat or {}
        if beat.get("history_of", name) == name:
            for age_s, step, value in beat.get("history") or ():
                running_usd = Decimal(str(age_s)) * attempt.rate_usd_per_hour / SECONDS_PER_HOUR
                points.append((before_usd + attempt.one_time_usd + running_usd, step, value))
        before_usd += attempt.cost_usd(attempt.ended_at or attempt.created_at)
    return name, points


def number(value: Any) -> float:
    """A value as the heartbeat holds it, as a number: it writes nan, inf and -inf as text. What is neither is nan."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _best(entries: Sequence[Mapping[str, Any]], mode: str | None) -> dict[str, Any] | None:
    """The best of what each machine called its best."""
    found = [entry for entry in entries if isfinite(number(entry.get("best")))]
    if not found:
        return None
    best = (max if _rises(found, mode) else min)(found, key=lambda entry: number(entry["best"]))
    return {"value": best["best"], "step": best.get("best_step")}


def _rises(entries: Sequence[Mapping[str, Any]], mode: str | None) -> bool:
    """Whether more is better. Where nobody said it, a best above the newest value tells what the agent took it for."""
    if mode:
        return mode == "max"
    return any(number(entry["best"]) > number(entry.get("value")) for entry in entries)
