"""A job, its job file, an offer and an attempt, with sensible values for all that a test does not care about."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from launcher.job import JobSpec, spec_to_json
from launcher.outcome import State
from launcher.records import Attempt, Job
from providers.base import Offer, RatePart

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ACCOUNT = "local/account-1"
PROVIDER = "local"


def make_spec(**changes: Any) -> JobSpec:
    """A job file that asks for little."""
    values: dict[str, Any] = {
        "name": "tiny",
        "command": ("train",),
        "workdir": "/work",
        "path": "/work/gpulaunch.yaml",
        "budget_usd": Decimal(5),
        "grace_s": 10.0,
    }
    return JobSpec(**(values | changes))


def make_offer(region: str = "r1", zone: str | None = "a", *, usd_per_hour: str = "3.6", **changes: Any) -> Offer:
    """A machine for a tenth of a cent per second."""
    rate = Decimal(usd_per_hour)
    part = RatePart(name="compute", worst_usd_per_hour=rate, expected_usd_per_hour=rate, source="a test")
    values: dict[str, Any] = {
        "provider": PROVIDER,
        "region": region,
        "zone": zone,
        "instance_type": "t4",
        "parts": (part,),
    }
    return Offer(**(values | changes))


def make_job(name: str = "tiny", **changes: Any) -> Job:
    """A job that was just asked for."""
    spec = changes.pop("spec", None) or make_spec(name=name)
    offers = changes.pop("offers", None) or [make_offer()]
    values: dict[str, Any] = {
        "id": f"j-{name}",
        "name": name,
        "account": ACCOUNT,
        "provider": PROVIDER,
        "cap_usd": Decimal(5),
        "spec": spec_to_json(spec),
        "created_at": START,
        "settings": {},
        "offers": msgspec.json.encode(offers).decode(),
        "layers": {"guard": True, "agent": True, "backstop": False},
        "owner": "owner-1",
    }
    return Job(**(values | changes))


def make_attempt(number: int = 1, *, job: str = "j-tiny", **changes: Any) -> Attempt:
    """An attempt whose request is frozen; money fields that a test does not name are zero."""
    values: dict[str, Any] = {
        "job": job,
        "number": number,
        "state": State.PLANNED,
        "account": ACCOUNT,
        "token": f"{job}-{number}",
        "intent": b"{}",
        "provider": PROVIDER,
        "region": "r1",
        "zone": "a",
        "instance_type": "t4",
        "spot": False,
        "rate_usd_per_hour": Decimal("3.6"),
        "one_time_usd": Decimal(0),
        "granularity_s": Decimal(1),
        "floor_s": Decimal(0),
        "lateness_s": 5.0,
        "created_at": START,
        "soft_after_s": 3000.0,
        "hard_after_s": 3600.0,
        "limit_outcome": "budget_reached",
    }
    zero = {field.name: Decimal(0) for field in fields(Attempt) if field.name.endswith("_usd_per_hour")}
    return Attempt(**(zero | values | changes))
