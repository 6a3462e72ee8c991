"""The plan on the screen, before any money is spent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from launcher.cli.screen import duration, say
from launcher.core.money import usd_text
from launcher.plan import egress_gb
from launcher.store.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from launcher.job import JobSpec
    from launcher.plan import Plan


def show(plan: Plan, spec: JobSpec, now: datetime, notes: Sequence[str]) -> None:
    """Print the offer, the rate with its parts, the cap, both deadlines, and which layers are armed."""
    offer, ends = plan.offer, plan.deadlines
    market = "spot" if offer.spot else "on demand"
    where = ", ".join(part for part in (offer.provider, offer.region, offer.zone) if part)
    for note in notes:
        say(note)
    say(f"Plan for {spec.name}")
    say(f"  machine   {offer.instance_type} ({where}; {market})")
    say(f"  rate      {usd_text(offer.rate_usd_per_hour)} per hour at its worst; prices: {offer.price_as_of}")
    for part in offer.parts:
        say(f"            {part.name} {usd_text(part.worst_usd_per_hour)} ({part.source})")
    for cost in offer.one_time:
        say(f"            once: {cost.name} {usd_text(cost.usd)} ({cost.source})")
    if plan.terms.egress_usd:
        say(f"            egress reserve {usd_text(plan.terms.egress_usd)} for {egress_gb(spec)} GB")
    limit = "the cap" if ends.outcome == "budget_reached" else "max_duration"
    say(f"  cap       {usd_text(plan.cap_usd)}, for everything this job makes")
    say(f"  soft end  {_when(now, ends.soft_after_s)}: the training gets SIGTERM ({limit}), {spec.grace_s:g} s to save")
    say(f"  hard end  {_when(now, ends.hard_after_s)}: the machine dies, whatever happens")
    if spec.archive is not None:
        files = f"{spec.archive.files} file{'' if spec.archive.files == 1 else 's'}"
        say(f"  workdir   {files}, {size_text(spec.archive.bytes)} packed, by way of {spec.store}")
    for layer in plan.layers:
        say(f"  {layer.name:<9} {'armed: ' if layer.armed else 'NOT ARMED: '}{layer.what}")
        if not layer.armed and layer.fix:
            say(f"            arm it: {layer.fix}")
    for warning in plan.warnings:
        say(f"  note      {warning}")


def _when(now: datetime, after_s: float) -> str:
    at = (now + timedelta(seconds=after_s)).astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S} (in {duration(after_s)})"
