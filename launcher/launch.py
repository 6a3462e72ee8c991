"""From a plan to the frozen request for one machine: the intent.

Pure but for the boot data's templates and, on EC2, for the part of the agent that has no room in them: it is put in the
job's store.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from launcher import boot
from launcher.outcome import State
from launcher.records import Attempt, Job
from launcher.workdir import job_store
from providers.base import Intent, StoreRequest, make_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from decimal import Decimal

    from launcher.job import JobSpec
    from launcher.plan import Plan
    from providers.base import Provider

# How long a machine may take to fetch the rest of its agent, from the moment its request is frozen.
REST_S = 6 * 3600.0


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
    sends: bool = True,
) -> Attempt:
    """The next attempt of a job, with its whole request frozen, ready to be written down before `create` is called.

    Raises UsageError for a job that the machine could not run, ProviderError and StoreError for a store that it could
    not use. Without `sends` the store is not written to.
    """
    ends = plan.deadlines
    # The machine and the cloud's timer read the cloud's clock, not this computer's.
    hard_deadline = now + timedelta(seconds=ends.hard_after_s - provider.skew_s)
    offer = plan.offer
    store = _machine_store(job, spec, provider, offer.region, hard_deadline)
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
        store=store,
        spot=offer.spot,
        egress=_egress(plan, store),
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
        boot_data=boot.build(offer.provider, orders, _rest(job, spec, store, sends=sends)),
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
    archive = spec.archive.path if spec.archive else None
    return provider.machine_store(
        StoreRequest(url=str(spec.store), job=job.id, until=until, region=region, archive=archive)
    )


def _egress(plan: Plan, store: dict[str, Any] | None) -> dict[str, Any] | None:
    """How much may leave the machine, where that is billed; a store of the same cloud and region is free."""
    price = plan.offer.egress_usd_per_gb
    if not boot.is_rented(plan.offer.provider) or not price:
        return None
    near = store is not None and (store.get("free") or store.get("region") == plan.offer.region)
    return {"bytes": int(plan.terms.egress_usd / price * 10**9), "store_is_free": bool(near)}


def _rest(job: Job, spec: JobSpec, store: dict[str, Any] | None, *, sends: bool) -> Callable[[], str]:
    """What makes the address of the agent's rest: signed for it alone, so that the machine needs nothing to read it."""

    def address() -> str:
        if store is None:
            return ""
        from launcher.store.store import agent_path

        opened = job_store(str(spec.store), job.settings or {}, store.get("region"))
        packed = boot.packed_rest()
        path = opened.put_agent(packed) if sends else agent_path(packed)
        return opened.sign(path, REST_S)

    return address


def rehearse(spec: JobSpec, plan: Plan, provider: Provider, settings: dict[str, Any], now: datetime) -> None:
    """Freeze a request that nobody will use: whatever is wrong with the job is said before anything is created."""
    job = Job(
        id="j-" + "0" * 10,
        name=spec.name,
        account=provider.account,
        provider=plan.offer.provider,
        cap_usd=plan.cap_usd,
        spec="",
        created_at=now,
        settings=settings,
    )
    freeze(job, spec, plan, provider, number=1, owner="", spent_usd=plan.cap_usd * 0, now=now, sends=False)


def job_settings(job: Job, spec: JobSpec, number: int) -> dict[str, Any]:
    """What the provider needs beyond the offer: its own settings, and the container's name where there is one."""
    settings = dict(job.settings or {})
    if spec.image is not None:
        settings["container"] = f"gpulaunch-{job.id}-{number}"  # as the agent names it
    return settings


def thaw(attempt: Attempt) -> Intent:
    """The frozen request of an attempt, as it was written down."""
    return msgspec.json.decode(attempt.intent, type=Intent)
