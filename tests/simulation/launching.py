"""What `up` hands over to a guard: the job as it was asked for, its offers, its boot data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from scenario import JobPlan

from launcher import boot
from launcher.job import Checkpoints, JobSpec, Resources
from launcher.plan import Plan
from launcher.records import Job
from providers.base import Offer


@contextmanager
def light_boot_data() -> Iterator[None]:
    """Boot data is the orders alone: what is packed around them is not this simulation's subject, and takes long."""
    real = boot.build
    boot.build = lambda provider, orders, rest_url="": json.dumps(orders).encode()
    try:
        yield
    finally:
        boot.build = real


@dataclass
class Launched:
    """One job of this world, and what the world did to it. Times are seconds on the cloud's axis."""

    job: Job
    plan: JobPlan
    spec: JobSpec
    offer_plan: Plan
    skew_s: float
    launcher_alive: bool = True
    cancelled: bool = False
    excuses: set[str] = field(default_factory=set)
    """What was done to it that may well end it early."""


def spec_of(plan: JobPlan) -> JobSpec:
    """The job file of a drawn job."""
    return JobSpec(
        name=plan.name,
        command=("train",),
        workdir="/nowhere",
        path="/nowhere/gpulaunch.yaml",
        budget_usd=plan.cap_usd,
        max_duration_s=plan.max_duration_s,
        egress_gb=plan.egress_gb,
        grace_s=plan.grace_s,
        resume=plan.resume,
        store="s3://bucket/prefix" if plan.has_store else None,
        checkpoints=Checkpoints(path="checkpoints") if plan.has_store else None,
        resources=Resources(disk_gb=plan.disk_gb, spot=plan.spot, regions=plan.regions),
    )


def without_price(offer: Offer) -> Offer:
    """The same machine from a price list that does not know what its compute costs."""
    parts = tuple(
        msgspec.structs.replace(part, worst_usd_per_hour=Decimal(0), expected_usd_per_hour=Decimal(0))
        if part.name == "compute"
        else part
        for part in offer.parts
    )
    return msgspec.structs.replace(offer, parts=parts)
