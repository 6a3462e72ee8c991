"""From a plan to the frozen request for one machine: the intent.

Pure but for the boot data's templates and, on EC2, for the part of the agent that has no room in them: it is put in the
job's store.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from launcher import boot
from launcher.outcome import State
from launcher.plan import egress_gb
from launcher.records import Attempt, Job
from launcher.workdir import job_store
from providers.base import Intent, StoreRequest, make_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from launcher.job import JobSpec
    from launcher.plan import Plan
    from providers.base import Provider

# How long a machine may take to fetch the rest of its agent, from the moment its request is frozen.
REST_S = 6 * 3600.0
# Made at import: the first use of a type by two threads at once crashes msgspec (0.22).
_INTENT = msgspec.json.Decoder(Intent)


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
    """The next attempt of a job, with its whole request frozen, ready to be written down before `create` is called.

    Raises UsageError for a job that the machine could not run, ProviderError and StoreError for a store that it could
    not use.
    """
    store = _machine_store(job, spec, plan, provider, now)
    return _freeze(job, spec, plan, provider, store, number=number, owner=owner, spent_usd=spent_usd, now=now)


def rehearse(spec: JobSpec, plan: Plan, provider: Provider, settings: dict[str, Any], now: datetime) -> tuple[str, ...]:
    """Freeze a request that nobody will use: whatever is wrong with the job is raised before anything is created.

    Writes nothing to the store. Returns what the user should know of it.
    """
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
    store = _machine_store(job, spec, plan, provider, now)
    _freeze(job, spec, plan, provider, store, number=1, owner="", spent_usd=Decimal(0), now=now, sends=False)
    notes = []
    egress = _egress(plan, store)
    if store is not None and egress is not None and spec.checkpoints and not egress["store_is_free"]:
        notes.append(
            f"{spec.store} is not known to be in {plan.offer.region}: what is saved there counts against egress_gb, "
            f"{egress_gb(spec)} GB."
        )
    if store is not None and store.get("post") and spec.resume:
        notes.append(
            "Without an identity the machine can only write to the store, so that another one would start anew. "
            f"Run: gpulaunch init {plan.offer.provider} --apply"
        )
    return tuple(notes)


def _freeze(
    job: Job,
    spec: JobSpec,
    plan: Plan,
    provider: Provider,
    store: dict[str, Any] | None,
    *,
    number: int,
    owner: str,
    spent_usd: Decimal,
    now: datetime,
    sends: bool = True,
) -> Attempt:
    ends = plan.deadlines
    hard_deadline = _hard_deadline(plan, provider, now)
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


def _hard_deadline(plan: Plan, provider: Provider, now: datetime) -> datetime:
    # The machine and the cloud's timer read the cloud's clock, not this computer's.
    return now + timedelta(seconds=plan.deadlines.hard_after_s - provider.skew_s)


def _machine_store(job: Job, spec: JobSpec, plan: Plan, provider: Provider, now: datetime) -> dict[str, Any] | None:
    """How the machine reaches the job's store, if it has one."""
    if spec.store in (None, "none"):
        return None
    region, until = plan.offer.region, _hard_deadline(plan, provider, now)
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


def job_settings(job: Job, spec: JobSpec, number: int) -> dict[str, Any]:
    """What the provider needs beyond the offer: its own settings, and the container's name where there is one."""
    settings = dict(job.settings or {})
    if spec.image is not None:
        settings["container"] = f"gpulaunch-{job.id}-{number}"  # as the agent names it
    return settings


def thaw(attempt: Attempt) -> Intent:
    """The frozen request of an attempt, as it was written down."""
    return _INTENT.decode(attempt.intent)
