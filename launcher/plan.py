"""From offers to a plan: which machine, what it costs, when it must end, and who enforces that. Pure.

The plan is shown before any money is spent. What is not armed is named, with the command that arms it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.boot.render import is_rented
from launcher.budget import UPLOAD_RESERVE_S, Deadlines, Terms, deadlines
from launcher.core.clock import rfc3339
from launcher.core.errors import CapTooSmall
from launcher.core.money import usd_json
from providers.base import PriceUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.job import JobSpec
    from providers.base import Backstop, Offer, Provider

# Copying the last checkpoint into a folder of this computer: seconds, against the 60 that a bucket is given.
FOLDER_RESERVE_S = 5.0
# What a machine sends to bring an image and a checkpoint of 5 GB, at 66 bytes for every two packets that come, and
# to say how it is.
LEAST_EGRESS_GB = Decimal("0.2")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One of the four layers that end a job: whether it is armed, and if not, what arms it."""

    name: str
    armed: bool
    what: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The chosen offer, the times that follow from the cap, and who enforces each."""

    offer: Offer
    others: tuple[Offer, ...]
    cap_usd: Decimal
    terms: Terms
    deadlines: Deadlines
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...] = ()

    @property
    def rate_usd_per_hour(self) -> Decimal:
        """USD per hour at its worst."""
        return self.terms.rate_usd_per_hour


def upload_reserve_s(spec: JobSpec) -> float:
    """Seconds kept for the last upload: none without checkpoints that go somewhere."""
    if spec.store in (None, "none") or spec.checkpoints is None:
        return 0.0
    return UPLOAD_RESERVE_S if "://" in str(spec.store) else FOLDER_RESERVE_S


def egress_gb(spec: JobSpec) -> Decimal:
    """GB that are reserved for what leaves the machine."""
    return max(spec.egress_gb, LEAST_EGRESS_GB)


def terms_for(spec: JobSpec, offer: Offer, provider: Provider) -> Terms:
    """What a machine of this offer costs this job. Raises PriceUnknown for an offer without a price for its compute."""
    if offer.rate_usd_per_hour <= offer.standing_usd_per_hour:
        raise PriceUnknown(
            f"The price of {offer.instance_type} in {offer.region} is not known.",
            "Without a price there is no cap.",
            "Choose another region with --region.",
            next_scope="region",
        )
    return Terms(
        rate_usd_per_hour=offer.rate_usd_per_hour,
        one_time_usd=offer.one_time_usd,
        egress_usd=offer.egress_usd_per_gb * egress_gb(spec),
        granularity_s=provider.billing.granularity_s,
        floor_s=provider.billing.floor_s,
        worst_lateness_s=provider.worst_lateness_s,
        boot_s=offer.boot_s,
        grace_s=spec.grace_s,
        upload_reserve_s=upload_reserve_s(spec),
    )


def rank_key(offer: Offer) -> tuple[object, ...]:
    """What offers are ranked by: the expected rate; the worst rate, then the name, decides between equals."""
    return (
        offer.expected_usd_per_hour,
        offer.rate_usd_per_hour,
        offer.provider,
        offer.region,
        offer.zone or "",
        offer.spot,
    )


def rank(offers: Sequence[Offer]) -> list[Offer]:
    """The offers, cheapest first."""
    return sorted(offers, key=rank_key)


def make_plan(
    spec: JobSpec,
    offers: Sequence[Offer],
    provider: Provider,
    *,
    backstop: Backstop,
    cap_usd: Decimal,
    spent_usd: Decimal = Decimal(0),
    used_s: float = 0.0,
) -> Plan:
    """The plan with the cheapest offer that leaves useful time under the cap.

    `spent_usd` and `used_s` are what earlier attempts of this job took of its cap and of its time limit.
    Raises CapTooSmall, from the cheapest offer, when no offer does; PriceUnknown when none has a price.
    """
    ranked = rank(offers)
    left_s = None if spec.max_duration_s is None else spec.max_duration_s - used_s
    refused: CapTooSmall | PriceUnknown | None = None
    for index, offer in enumerate(ranked):
        try:
            terms = terms_for(spec, offer, provider)
            ends = deadlines(cap_usd, terms, spent_usd=spent_usd, left_duration_s=left_s)
        except (CapTooSmall, PriceUnknown) as error:
            refused = refused or error
            continue
        return Plan(
            offer=offer,
            others=tuple(ranked[index + 1 :]),
            cap_usd=cap_usd,
            terms=terms,
            deadlines=ends,
            layers=_layers(backstop),
            warnings=_warnings(spec, offer, backstop),
        )
    raise refused or PriceUnknown("No machine is on offer.", fix="Allow another region or provider.")


def _layers(backstop: Backstop) -> tuple[Layer, ...]:
    agent = Layer(name="agent", armed=True, what="the machine ends itself at both deadlines, without this computer")
    if not backstop.own_end:
        what = "the machine cannot delete itself: what is left of it bills until the guard deletes it"
        agent = Layer(name="agent", armed=False, what=what, fix=backstop.own_end_fix)
    return (
        Layer(name="guard", armed=True, what="a process on this computer watches, accounts and tears down"),
        agent,
        Layer(name="backstop", armed=backstop.armed, what=backstop.what, fix=backstop.fix),
    )


def _warnings(spec: JobSpec, offer: Offer, backstop: Backstop) -> tuple[str, ...]:
    found = list(backstop.notes)
    if is_rented(offer.provider) and spec.store in (None, "none"):
        found.append(
            "NO STORE: the working folder does not travel, so /workspace is empty at the start, and what is trained "
            "dies with the machine."
        )
    if spec.checkpoints is None:
        found.append("No checkpoints are configured: a run that is stopped early keeps what the training itself saved.")
    return tuple(found)


def plan_json(plan: Plan, now: datetime) -> dict[str, Any]:
    """The plan as `up --dry-run --json` prints it, were it launched at `now`."""
    offer = plan.offer
    ends = plan.deadlines
    return {
        "provider": offer.provider,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "spot": offer.spot,
        "cap_usd": usd_json(plan.cap_usd),
        "rate_usd_per_hour": usd_json(offer.rate_usd_per_hour),
        "expected_usd_per_hour": usd_json(offer.expected_usd_per_hour),
        "rate_parts": [
            {
                "name": part.name,
                "worst_usd_per_hour": usd_json(part.worst_usd_per_hour),
                "expected_usd_per_hour": usd_json(part.expected_usd_per_hour),
                "source": part.source,
            }
            for part in offer.parts
        ],
        "one_time": [{"name": cost.name, "usd": usd_json(cost.usd), "source": cost.source} for cost in offer.one_time],
        "egress_reserve_usd": usd_json(plan.terms.egress_usd),
        "price_as_of": offer.price_as_of,
        "soft_after_s": round(ends.soft_after_s, 3),
        "hard_after_s": round(ends.hard_after_s, 3),
        "soft_deadline": rfc3339(now + timedelta(seconds=ends.soft_after_s)),
        "hard_deadline": rfc3339(now + timedelta(seconds=ends.hard_after_s)),
        "ends_by": ends.outcome.value,
        "layers": [
            {"name": layer.name, "armed": layer.armed, "what": layer.what, "fix": layer.fix} for layer in plan.layers
        ],
        "warnings": list(plan.warnings),
        "alternatives": len(plan.others),
    }
