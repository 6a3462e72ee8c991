"""The forecast in words: a training that will not be done before its limit, and the limit that would do. Pure."""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING

from launcher.agent.forecast import MARGIN
from launcher.core.clock import rfc3339
from launcher.core.money import usd_text
from launcher.outcome import Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from launcher.records import Attempt, Job

# How the agent's own note on the same subject begins (launcher/agent/forecast.py). It stands in the training's log;
# where the remark below is shown, it would say the same twice.
AGENT_NOTE = "The training will not be done in time"


def forecast_remark(job: Job, attempts: Sequence[Attempt], now: datetime) -> str:
    """What the user should know now about a live job that will not be done in time; else an empty text.

    Nothing is said before the training has told a pace and an end, and the agent holds them for settled.
    """
    attempt = attempts[-1] if attempts else None
    progress = ((attempt.beat if attempt is not None else None) or {}).get("progress") or {}
    if attempt is None or State.GONE in (job.state, attempt.state):
        return ""
    if progress.get("fits", True) or not progress.get("settled", True) or "finish_age_s" not in progress:
        return ""
    finish_at = attempt.deadline(progress["finish_age_s"], now)
    pace = f"at this pace it finishes at {rfc3339(finish_at)}"
    if attempt.limit_outcome == Outcome.DURATION_REACHED:
        minutes = ceil(Decimal(str(progress["finish_age_s"])) * MARGIN / 60)  # steps do not all take the same time
        ends_at = attempt.deadline(attempt.soft_after_s, now)
        return f"{pace}, after its time limit at {rfc3339(ends_at)}: --max-duration {minutes}m would do"
    if "cost_usd" not in progress or "cap_needed_usd" not in progress:
        return ""
    cost_usd = Decimal(str(progress["cost_usd"]))
    # A training that costs less than the cap may not fit either: the cap also pays for saving and the machine's end.
    beside = "above" if cost_usd > job.cap_usd else "too close to"
    return (
        f"{pace} and costs {usd_text(cost_usd)}, {beside} the cap of {usd_text(job.cap_usd)}: "
        f"--budget {progress['cap_needed_usd']} would do"
    )


def other_notes(notes: Iterable[str]) -> list[str]:
    """The agent's notes without its own word on the forecast, for screens that show the remark."""
    return [note for note in notes if not str(note).startswith(AGENT_NOTE)]
