"""What happened to one job, as one document: what ran where, how it ended, what it cost, what it learned. Pure.

docs/report.md describes each field; fields are only added. launcher/report/page.py turns the document into pages.
"""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from launcher import ledger
from launcher.core.clock import rfc3339
from launcher.core.money import MICRO, SECONDS_PER_HOUR, usd_json
from launcher.outcome import State
from launcher.report.ending_text import ending_words
from launcher.report.energy import energy, gpu_readings, temperature
from launcher.report.metrics import metrics
from launcher.views import spend_usd
from providers.base import Intent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from launcher.records import Attempt, Event, Job


def make_report(
    job: Job, attempts: Sequence[Attempt], events: Sequence[Event], now: datetime, describe: Callable[[Event], str]
) -> dict[str, Any]:
    """The report of a job at `now`. `describe` puts an event into words, or into none when it says nothing."""
    spec = json.loads(job.spec)
    made = [attempt for attempt in attempts if attempt.create_called]
    last_beat = (made[-1].beat if made else None) or {}
    return {
        "made_at": rfc3339(now),
        "job": {
            "id": job.id,
            "name": job.name,
            "state": str(job.state),
            "live": job.state != State.GONE,
            "outcome": job.outcome,
            "reason": job.reason,
            "words": ending_words(job.outcome, job.reason),
            "exit_code": job.exit_code,
            "trouble": attempts[-1].trouble if attempts else None,
            "notes": list(last_beat.get("notes") or []),
        },
        "ran": {
            "command": list(spec.get("command") or []),
            "image": spec.get("image"),
            "workdir": spec.get("workdir"),
            "job_file": spec.get("path"),
            "early_stop": spec.get("early_stop"),
            "checkpoints": spec.get("checkpoints"),
            "store": spec.get("store"),
        },
        "times": _times(job, made, now),
        "spend": _spend(job, attempts, now),
        "attempts": [_attempt(attempt, now) for attempt in attempts],
        "metrics": metrics(spec.get("early_stop") or {}, made),
        "progress": last_beat.get("progress") or None,
        "checkpoints": [
            {"attempt": attempt.number, **attempt.beat["checkpoint"]}
            for attempt in made
            if attempt.beat and attempt.beat.get("checkpoint")
        ],
        "energy": energy(made, now),
        "temperature": temperature(made, now),
        "gpu": gpu_readings(made),
        "events": [_event(event, text) for event in events if (text := _event_words(event, describe))],
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _times(job: Job, made: Sequence[Attempt], now: datetime) -> dict[str, Any]:
    ended_at = ((made[-1].ended_at if made else None) or job.ended_at) if job.state == State.GONE else None
    return {
        "created_at": rfc3339(job.created_at),
        "started_at": _time(made[0].started_at or made[0].created_at) if made else None,
        "ended_at": _time(ended_at),
        "lasted_s": round(((ended_at or now) - job.created_at).total_seconds(), 3),
        "billed_s": round(sum(attempt.age_s(attempt.ended_at or now) for attempt in made), 3),
    }


def _spend(job: Job, attempts: Sequence[Attempt], now: datetime) -> dict[str, Any]:
    spent_usd = spend_usd(attempts, now)
    live = job.state != State.GONE
    return {
        "usd": usd_json(spent_usd),
        "confirmed": not live and all(attempt.confirmed for attempt in attempts),
        "cap_usd": usd_json(job.cap_usd),
        "cap_share": round(float(spent_usd / job.cap_usd), 4),
        "parts": _to_the_micro(
            [part for attempt in attempts if attempt.create_called for part in _parts(attempt, now)], spent_usd
        ),
    }


def _parts(attempt: Attempt, now: datetime) -> list[dict[str, Any]]:
    """The lines of an attempt's bill, exact: they add up to the ledger's cost.

    Compute bills for the time the machine ran, standing parts (disk, address) until all was gone. A compute bill that
    the cloud told is shared out over the parts of compute.
    """
    interval, offer = attempt.interval(), _intent(attempt).offer
    compute_rate = attempt.rate_usd_per_hour - attempt.standing_usd_per_hour
    compute_s = ledger.compute_usd(interval, now) / compute_rate * SECONDS_PER_HOUR if compute_rate else Decimal(0)
    stood_s = ledger.stood_s(interval, now)
    lines = [
        {
            "attempt": attempt.number,
            "name": part.name,
            "usd": seconds * part.worst_usd_per_hour / SECONDS_PER_HOUR,
            "rate_usd_per_hour": usd_json(part.worst_usd_per_hour),
            "charged_s": float(round(seconds, 6)),
            "source": part.source,
        }
        for part in offer.parts
        for seconds in (stood_s if part.standing else compute_s,)
    ]
    once = [(cost.name, cost.usd, cost.source) for cost in offer.one_time]
    once += [("egress", interval.egress_usd, "traffic out of the machine")] if interval.egress_usd else []
    for name, usd, source in once:
        lines.append({"attempt": attempt.number, "name": name, "usd": usd, "source": source})
    return lines


def _to_the_micro(lines: list[dict[str, Any]], total_usd: Decimal) -> list[dict[str, Any]]:
    """The lines with their amounts as JSON tells them, rounded so that they add up to the total as it is told."""
    told, exact = Decimal(0), Decimal(0)
    rounded = []
    for line in lines:
        exact += line["usd"]
        until = total_usd if line is lines[-1] else exact
        step = until.quantize(MICRO, rounding=ROUND_CEILING) - told
        told += step
        rounded.append({**line, "usd": usd_json(step)})
    return rounded


def _intent(attempt: Attempt) -> Intent:
    return msgspec.json.decode(attempt.intent, type=Intent)


def _attempt(attempt: Attempt, now: datetime) -> dict[str, Any]:
    offer = _intent(attempt).offer
    return {
        "attempt": attempt.number,
        "state": str(attempt.state),
        "created": attempt.create_called,
        "provider": attempt.provider,
        "region": attempt.region,
        "zone": attempt.zone,
        "instance_type": attempt.instance_type,
        "spot": attempt.spot,
        "machine_id": attempt.machine_id,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "words": "" if attempt.outcome is None else ending_words(attempt.outcome, attempt.reason),
        "started_at": _time(attempt.started_at or attempt.created_at) if attempt.create_called else None,
        "ended_at": _time(attempt.ended_at),
        "billed_s": round(attempt.age_s(attempt.ended_at or now), 3) if attempt.create_called else 0.0,
        "rate_usd_per_hour": usd_json(attempt.rate_usd_per_hour),
        "price_as_of": offer.price_as_of,
        "cost_usd": usd_json(attempt.cost_usd(now)),
        "confirmed": attempt.confirmed,
    }


def _event_words(event: Event, describe: Callable[[Event], str]) -> str:
    if event.kind == "ended":
        return f"the job ended: {event.data.get('outcome')} {event.data.get('reason') or ''}".rstrip()
    return describe(event)


def _event(event: Event, text: str) -> dict[str, Any]:
    return {"at": rfc3339(event.at), "attempt": event.attempt, "kind": event.kind, "text": text}
