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
    page_size: int = 7
    answers: bool = True

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

    def skus(self) -> list[dict[str, Any]]:
        """All entries."""
        found = [_sku("N1 Predefined Instance Core running in Mars", "OnDemand", "h", "9", ["mars-north1"])]
        for region in self.standard:
            for spot, parts in ((False, self.standard), (True, self.spot)):
                core, memory, gpu = parts[region]
                usage = "Preemptible" if spot else "OnDemand"
                before = "Spot Preemptible " if spot else ""
                with_gpu = "attached to Spot Preemptible VMs running" if spot else "running"
                since = self.spot_since if spot else SINCE
                found += [
                    _sku(f"{before}N1 Predefined Instance Core running in {region}", usage, "h", core, [region], since),
                    _sku(f"{before}N1 Predefined Instance Ram running in {region}", usage, "GiBy.h", memory, [region],
                         since),
                    _sku(f"Nvidia Tesla T4 GPU {with_gpu} in {region}", usage, "h", gpu, [region], since),
                    _sku(f"Nvidia Tesla V100 GPU running in {region}", usage, "h", "2.48", [region]),
                ]  # fmt: skip
            found.append(_sku(f"Balanced PD Capacity in {region}", "OnDemand", "GiBy.mo", DISK[region], [region]))
            found.append(_sku(f"Regional Balanced PD Capacity in {region}", "OnDemand", "GiBy.mo", "0.2", [region]))
        everywhere = list(self.standard)
        found.append(_sku("External IP Charge on a Standard VM", "OnDemand", "h", "0.005", everywhere, free_first=True))
        found.append(_sku("External IP Charge on a Spot Preemptible VM", "Preemptible", "h", "0.0025", everywhere))
        return found

    def page(self, token: str) -> dict[str, Any]:
        """One page of the catalogue."""
        start = int(token or 0)
        skus = self.skus()
        following = start + self.page_size
        return {"skus": skus[start:following], "nextPageToken": str(following) if following < len(skus) else ""}


def _sku(
    description: str, usage: str, unit: str, usd: str, regions: list[str], since: str = SINCE, *,
    free_first: bool = False,
) -> dict[str, Any]:  # fmt: skip
    whole, _, decimals = usd.partition(".")
    price = {"currencyCode": "USD", "units": whole, "nanos": int(decimals.ljust(9, "0")) if decimals else 0}
    tiers = [{"startUsageAmount": 0, "unitPrice": price}]
    if free_first:
        nothing = {"currencyCode": "USD", "units": "0", "nanos": 0}
        tiers = [{"startUsageAmount": 0, "unitPrice": nothing}, {"startUsageAmount": 744, "unitPrice": price}]
    return {
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": regions,
        "pricingInfo": [
            {"effectiveTime": since, "pricingExpression": {"usageUnit": unit, "tieredRates": tiers}},
        ],
    }
