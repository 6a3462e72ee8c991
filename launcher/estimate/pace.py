"""How fast a training goes: assumed from a card's arithmetic, or measured by a past job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from launcher.agent.forecast import MARGIN
from launcher.agent.metrics import same_name
from launcher.core.errors import UsageError
from launcher.core.money import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.estimate.cards import Peak
    from launcher.records import Attempt, Job

FLOPS_PER_PARAM_AND_TOKEN = 6
"""Two forward, four backward (Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1)."""
RECOMPUTATION = Decimal(4) / 3
"""With checkpointing of activations the forward pass is done twice: 8 FLOPs in place of 6."""

_TOKENS_PER_S = re.compile(r"(tokens?|tok)_(per_)?s(ec(ond)?s?)?")


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens per second: the slowest and the fastest that is expected."""

    low: Decimal
    high: Decimal

    def hours(self, tokens: int) -> tuple[Decimal, Decimal]:
        """The shortest and the longest time for that many tokens, in hours."""
        return tokens / self.high / SECONDS_PER_HOUR, tokens / self.low / SECONDS_PER_HOUR


def flops(params: int, tokens: int) -> int:
    """The arithmetic of a whole training."""
    return FLOPS_PER_PARAM_AND_TOKEN * params * tokens


def assumed_pace(peak: Peak, params: int, *, recomputes: bool) -> Pace:
    """The pace of a card by its assumed utilisation.

    A training that fits only with checkpointing of activations may take a third longer. Only the slow end counts it:
    an attention that never stores its scores may fit without.
    """
    each = flops(params, 1)
    low, high = (peak.flops_per_s * share / each for share in (peak.utilisation_low, peak.utilisation_high))
    return Pace(low / RECOMPUTATION if recomputes else low, high)


@dataclass(frozen=True, slots=True)
class Measured:
    """The pace that a job told of itself, and the machine that it ran on."""

    job: str
    provider: str
    instance_type: str
    pace: Pace
    source: str


def measured_pace(job: Job, attempts: Sequence[Attempt], tokens_per_step: int | None) -> Measured:
    """The pace of a job's newest attempt that told one: tokens per second, or the forecast's steps per second.

    Where both are known they are the two ends: what a training prints leaves its pauses out, and the forecast counts
    them in. One alone gets the forecast's own margin at its slow end. Raises UsageError when neither is known.
    """
    for attempt in reversed(attempts):
        told = _told(attempt.beat or {}, tokens_per_step)
        if told:
            rates = sorted(told.values())
            pace = Pace(rates[0] if len(rates) > 1 else rates[0] / MARGIN, rates[-1])
            source = f"measured: {' and '.join(told)} of job {job.name}, attempt {attempt.number}"
            return Measured(job.name, attempt.provider, attempt.instance_type, pace, source)
    raise UsageError(
        f"Job {job.name!r} has told no tokens per second.",
        "Its training printed no metric named tokens_per_s, tokens_per_sec, tokens_per_second or tok_s.",
        "Add it to metrics.regex in the job file, or say --tokens-per-step, so that steps per second will do.",
    )


def _told(beat: Mapping[str, Any], tokens_per_step: int | None) -> dict[str, Decimal]:
    told = {}
    for name, metric in (beat.get("metrics") or {}).items():
        value = metric.get("value")
        if _TOKENS_PER_S.fullmatch(same_name(name)) and _is_rate(value):
            told[name] = Decimal(str(value))
            break
    progress = beat.get("progress") or {}
    steps_per_s = progress.get("steps_per_s")
    if tokens_per_step is not None and progress.get("unit", "step") == "step" and _is_rate(steps_per_s):
        told["steps per second"] = Decimal(str(steps_per_s)) * tokens_per_step
    return told


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and isfinite(value) and value > 0
