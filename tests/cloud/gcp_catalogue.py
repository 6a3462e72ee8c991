"""The Cloud Billing Catalog of the fake: entries in the shape that Google's has, with noise between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

STANDARD = {
    "us-central1": ("0.031611", "0.004237", "0.35"),
    "europe-west4": ("0.034802", "0.004664", "0.3675"),
}
SPOT = {
    "us-central1": ("0.008640", "0.001158", "0.175"),
    "europe-west4": ("0.013921", "0.001866", "0.175"),
}
DISK = {"us-central1": "0.1", "europe-west4": "0.11"}
SINCE = "2026-11-01T07:00:00Z"


@dataclass
class Prices:
    """What this cloud charges, USD; the catalogue says the same."""

    standard: dict[str, tuple[str, str, str]] = field(default_factory=lambda: dict(STANDARD))
    spot: dict[str, tuple[str, str, str]] = field(default_factory=lambda: dict(SPOT))
    spot_since: str = SINCE
    spot_before: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """What spot machines cost before that, where it was something else: since the beginning of the month."""
    unit_of_gpu: str = "h"
    page_size: int = 7
    answers: bool = True
    endless: bool = False

    def machine(self, region: str, *, spot: bool) -> Decimal:
        """An n1-standard-4 with one T4, per hour."""
        core, memory, gpu = (Decimal(part) for part in (self.spot if spot else self.standard)[region])
        return 4 * core + 15 * memory + gpu

    def disk(self, region: str) -> Decimal:
        """A GB of balanced persistent disk, per month."""
        return Decimal(DISK[region])

    def address(self, *, spot: bool) -> Decimal:
        """An address in use, per hour."""
        return Decimal("0.0025") if spot else Decimal("0.005")

    def egress(self) -> Decimal:
        """A GB that leaves the cloud."""
        return Decimal("0.12")

    def skus(self) -> list[dict[str, Any]]:
        """All entries."""
        found = [_sku("N1 Predefined Instance Core running in Mars", "OnDemand", "h", [("9", SINCE)], ["mars-north1"])]
        for region in self.standard:
            found += self._machines(region)
            disk = [(DISK[region], SINCE)]
            found.append(_sku(f"Balanced PD Capacity in {region}", "OnDemand", "GiBy.mo", disk, [region]))
            dearer = [("0.2", SINCE)]
            found.append(_sku(f"Regional Balanced PD Capacity in {region}", "OnDemand", "GiBy.mo", dearer, [region]))
        regions = list(self.standard)
        for name, usage, usd in (("Standard", "OnDemand", "0.005"), ("Spot Preemptible", "Preemptible", "0.0025")):
            price = [(usd, SINCE)]
            found.append(_sku(f"External IP Charge on a {name} VM", usage, "h", price, regions, free_first=True))
        return found

    def _machines(self, region: str) -> list[dict[str, Any]]:
        found = [_sku(f"Nvidia Tesla V100 GPU running in {region}", "OnDemand", "h", [("2.48", SINCE)], [region])]
        for spot, parts, since in ((False, self.standard, SINCE), (True, self.spot, self.spot_since)):
            usage, first = ("Preemptible", "Spot Preemptible ") if spot else ("OnDemand", "")
            with_gpu = "attached to Spot Preemptible VMs running" if spot else "running"
            names = (
                (f"{first}N1 Predefined Instance Core running in {region}", "h"),
                (f"{first}N1 Predefined Instance Ram running in {region}", "GiBy.h"),
                (f"Nvidia Tesla T4 GPU {with_gpu} in {region}", self.unit_of_gpu),
            )
            before = self.spot_before.get(region) if spot else None
            for index, (name, unit) in enumerate(names):
                versions = [(before[index], SINCE)] if before else []
                found.append(_sku(name, usage, unit, [*versions, (parts[region][index], since)], [region]))
        return found

    def page(self, token: str) -> dict[str, Any]:
        """One page of the catalogue."""
        start = int(token or 0)
        skus = self.skus()
        following = start + self.page_size
        more = following < len(skus) or self.endless
        return {"skus": skus[start:following], "nextPageToken": str(following) if more else ""}


def _sku(
    description: str,
    usage: str,
    unit: str,
    versions: list[tuple[str, str]],
    regions: list[str],
    *,
    free_first: bool = False,
) -> dict[str, Any]:
    """One entry; `versions`: price and since when."""
    return {
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": regions,
        "pricingInfo": [
            {
                "effectiveTime": since,
                "pricingExpression": {"usageUnit": unit, "tieredRates": _tiers(usd, free_first=free_first)},
            }
            for usd, since in versions
        ],
    }


def _tiers(usd: str, *, free_first: bool) -> list[dict[str, Any]]:
    whole, _, decimals = usd.partition(".")
    price = {"currencyCode": "USD", "units": whole, "nanos": int(decimals.ljust(9, "0")) if decimals else 0}
    if not free_first:
        return [{"startUsageAmount": 0, "unitPrice": price}]
    nothing = {"currencyCode": "USD", "units": "0", "nanos": 0}
    return [{"startUsageAmount": 0, "unitPrice": nothing}, {"startUsageAmount": 744, "unitPrice": price}]
