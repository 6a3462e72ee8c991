"""What Google would charge, by its own rules, from what really was. It knows nothing of our ledger.

Compute: whole seconds from running to the end, a minute at least, each time (compute/all-pricing). Disk: by the second
while it exists. Address: by the second while the machine runs. Egress: by the byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from gcp_agent import EGRESS_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from gcp_catalogue import Prices
    from gcp_state import Cloud, Disk, Instance

HOURS_PER_MONTH = Decimal(730)


@dataclass(frozen=True)
class Bill:
    """USD for all that one project has used until now."""

    compute_usd: Decimal
    disk_usd: Decimal
    address_usd: Decimal
    egress_usd: Decimal

    @property
    def total_usd(self) -> Decimal:
        """All of it."""
        return self.compute_usd + self.disk_usd + self.address_usd + self.egress_usd


def bill(cloud: Cloud, prices: Prices) -> Bill:
    """The bill of everything that lives and has lived."""
    cloud.look()
    now = cloud.now()
    machines = cloud.lived()
    disks = [*cloud.past_disks, *cloud.disks.values()]
    return Bill(
        compute_usd=sum((_compute(each, prices, now) for each in machines), Decimal(0)),
        disk_usd=sum((_disk(each, prices, now) for each in disks), Decimal(0)),
        address_usd=sum((_address(each, prices, now) for each in machines), Decimal(0)),
        egress_usd=prices.egress() * EGRESS_BYTES * sum(each.agent.up_at <= now for each in machines) / 10**9,
    )


def _ran_s(each: Instance, now: datetime) -> Decimal:
    """Seconds from running to the end of it, STOPPING included."""
    ends = [at for at in (each.off_at, each.gone_at, now) if at is not None and at <= now]
    return Decimal(max(math.ceil((min(ends) - each.runs_at).total_seconds() - 1e-6), 0))


def _compute(each: Instance, prices: Prices, now: datetime) -> Decimal:
    ran_s = _ran_s(each, now)
    if not ran_s:
        return Decimal(0)
    return max(ran_s, Decimal(60)) * prices.machine(each.zone.rpartition("-")[0], spot=each.spot) / 3600


def _disk(each: Disk, prices: Prices, now: datetime) -> Decimal:
    until = now if each.gone_at is None else min(each.gone_at, now)
    stood_s = Decimal(math.ceil((until - each.accepted_at).total_seconds() - 1e-6))
    size_gb = Decimal(each.body["initializeParams"]["diskSizeGb"])
    return stood_s * size_gb * prices.disk(each.zone.rpartition("-")[0]) / HOURS_PER_MONTH / 3600


def _address(each: Instance, prices: Prices, now: datetime) -> Decimal:
    return _ran_s(each, now) * prices.address(spot=each.spot) / 3600
