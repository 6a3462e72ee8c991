"""From a plan to the frozen request for one machine: the intent. Pure but for the boot data's templates."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from launcher import boot
from launcher.outcome import State
from launcher.records import Attempt
from providers.base import Intent, StoreRequest, make_tags

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from launcher.job import JobSpec
    from launcher.plan import Plan
    from launcher.records import Job
    from providers.base import Provider


def freeze(
    job: Job,
    spec: JobSpec,
    plan: Plan,
    provider: Provider,
    *,
    number: int,
    owner: str,
    spent_usd: Decimal,
    now: datetime,
) -> Attempt:
    """The next attempt of a job, with its whole request frozen, ready to be written down before `create` is called."""
    ends = plan.deadlines
    # The machine and the cloud's timer read the cloud's clock, not this computer's.
    hard_deadline = now + timedelta(seconds=ends.hard_after_s - provider.skew_s)
    offer = plan.offer
    orders = boot.make_orders(
        spec,
        provider=offer.provider,
        job=job.id,
        attempt=number,
        deadlines=ends,
        rate_usd_per_hour=offer.rate_usd_per_hour,
        spent_usd=spent_usd,
        cap_usd=job.cap_usd,
        hard_at=None if provider.bills_awake_only else hard_deadline.timestamp(),
        notice_s=provider.shutdown_notice_s,
        store=_machine_store(job, spec, provider, offer.region, hard_deadline),
    )
    intent = Intent(
        job=job.id,
        name=job.name,
        attempt=number,
        token=f"{job.id}-{number}",
        owner=owner,
        account=job.account,
        offer=offer,
        created_at=now,
        hard_after_s=ends.hard_after_s,
        hard_deadline=hard_deadline,
        tags=make_tags(job=job.id, attempt=number, owner=owner, cap_usd=job.cap_usd, hard_deadline=hard_deadline),
        disk_gb=spec.resources.disk_gb,
        boot_data=boot.build(offer.provider, orders),
        settings=job_settings(job, spec, number),
    )
    return Attempt(
        job=job.id,
        number=number,
        state=State.PLANNED,
        account=job.account,
        token=intent.token,
        intent=msgspec.json.encode(intent),
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        spot=offer.spot,
        rate_usd_per_hour=offer.rate_usd_per_hour,
        standing_usd_per_hour=offer.standing_usd_per_hour,
        one_time_usd=offer.one_time_usd,
        egress_usd=plan.terms.egress_usd,
        granularity_s=provider.billing.granularity_s,
        floor_s=provider.billing.floor_s,
        lateness_s=provider.worst_lateness_s,
        created_at=now,
        soft_after_s=ends.soft_after_s,
        hard_after_s=ends.hard_after_s,
        limit_outcome=ends.outcome.value,
    )


def _machine_store(job: Job, spec: JobSpec, provider: Provider, region: str, until: datetime) -> dict[str, Any] | None:
    """How the machine reaches the job's store, if it has one."""
    if spec.store in (None, "none"):
        return None
    return provider.machine_store(StoreRequest(url=str(spec.store), job=job.id, until=until, region=region))


def job_settings(job: Job, spec: JobSpec, number: int) -> dict[str, Any]:
    """What the provider needs beyond the offer: its own settings, and the container's name where there is one."""
    settings = dict(job.settings or {})
    if spec.image is not None:
        settings["container"] = f"gpulaunch-{job.id}-{number}"  # as the agent names it
    return settings


def thaw(attempt: Attempt) -> Intent:
    """The frozen request of an attempt, as it was written down."""
    return msgspec.json.decode(attempt.intent, type=Intent)
