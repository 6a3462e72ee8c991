"""What a job looks like from outside: the one document behind `status`, `up` and `down`. Pure.

docs/json.md describes each field; fields are only added.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.clock import rfc3339
from launcher.core.errors import Exit
from launcher.core.money import usd_json
from launcher.outcome import State, exit_code
from launcher.report.energy import energy, temperature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from launcher.records import Attempt, Job


def spend_usd(attempts: Sequence[Attempt], now: datetime) -> Decimal:
    """USD that a job has cost so far, never below the truth."""
    return sum((attempt.cost_usd(now) for attempt in attempts), Decimal(0))


def job_exit_code(job: Job, attempts: Sequence[Attempt]) -> Exit:
    """The exit code that tells how this job stands."""
    kind = attempts[-1].error_kind if attempts else None
    return exit_code(job.state, job.outcome, job.reason, kind)


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def job_view(job: Job, attempts: Sequence[Attempt], now: datetime) -> dict[str, Any]:
    """One job as `status --json` shows it at `now`."""
    made = [attempt for attempt in attempts if attempt.create_called]
    last = attempts[-1] if attempts else None
    current = made[-1] if made else last
    beat = (current.beat if current is not None else None) or {}
    live = job.state != State.GONE
    view: dict[str, Any] = {
        "job": job.id,
        "name": job.name,
        "state": str(job.state),
        "outcome": job.outcome,
        "reason": job.reason,
        "provider": current.provider if current else job.provider,
        "region": current.region if current else None,
        "instance_type": current.instance_type if current else None,
        "spot": current.spot if current else None,
        "machine_id": current.machine_id if current else None,
        "attempt": len(made),
        "spend_usd": usd_json(spend_usd(attempts, now)),
        "spend_confirmed": not live and all(attempt.confirmed for attempt in attempts),
        "cap_usd": usd_json(job.cap_usd),
        "rate_usd_per_hour": usd_json(current.rate_usd_per_hour) if current else None,
        "soft_deadline": None,
        "hard_deadline": None,
        "started_at": _time(made[0].started_at or made[0].created_at) if made else None,
        "ended_at": _time((made[-1].ended_at if made else None) or job.ended_at) if not live else None,
        "metrics": beat.get("metrics") or {},
        "layers": job.layers or {},
        "console_url": current.console_url if current else None,
        "exit_code": job.exit_code,
        "created_at": rfc3339(job.created_at),
        "billed_s": round(sum(attempt.age_s(attempt.ended_at or now) for attempt in made), 3),
        "trouble": last.trouble if last else None,
        "notes": beat.get("notes") or [],
        "log_path": current.log_path if current else None,
        "progress": beat.get("progress"),
        "gpu": beat.get("gpu"),
        "cloud_deadline": _time(current.cloud_deadline_at) if current else None,
        "energy": energy(made, now),
        "temperature": temperature(made, now),
    }
    if current is not None and current.create_called:
        at = now if current.state != State.GONE else (current.observed_at or now)
        view["soft_deadline"] = rfc3339(current.deadline(current.soft_after_s, at))
        view["hard_deadline"] = rfc3339(current.deadline(current.hard_after_s, at))
    return view
