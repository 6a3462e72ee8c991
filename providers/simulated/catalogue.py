"""What the simulated clouds sell: real list prices, so that what a simulation finds is worth money.

A cloud bills by this catalogue. What a launcher was told, or worked out, plays no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

HOURS_PER_MONTH = Decimal(730)
AS_OF = "simulated catalogue, list prices of 2026-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What a boot disk costs: by the GB, or in whole tiers, in USD per month."""

    usd_per_gb_month: Decimal = Decimal(0)
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """(GB, USD per month), smallest first. Above the largest, several of the largest are counted."""
    source: str = "free"

    def usd_per_hour(self, disk_gb: int) -> Decimal:
        """USD per hour for a disk of that many GB."""
        return self._usd_per_month(disk_gb) / HOURS_PER_MONTH

    def _usd_per_month(self, disk_gb: int) -> Decimal:
        if not self.tiers:
            return disk_gb * self.usd_per_gb_month
        for size_gb, usd in self.tiers:
            if disk_gb <= size_gb:
                return usd
        size_gb, usd = self.tiers[-1]
        return -(-disk_gb // size_gb) * usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One instance type in one region; prices in USD per hour, egress in USD per GB."""

    region: str
    zones: tuple[str | None, ...]
    instance_type: str
    on_demand: Decimal
    spot: Decimal | None
    """The price around which the spot market moves; None where there is none."""
    disks: Disks = Disks()
    ipv4: Decimal = Decimal(0)
    ipv4_spot: Decimal = Decimal(0)
    egress_usd_per_gb: Decimal = Decimal(0)
    source: str


def _zones(region: str, letters: str) -> tuple[str, ...]:
    return tuple(f"{region}{letter}" for letter in letters)


_PLAIN_SOURCE = "round numbers, for sums that can be checked by eye"
PLAIN_ITEMS = (
    Item(
        region="here",
        zones=("here-a", "here-b"),
        instance_type="box",
        on_demand=Decimal("3.60"),
        spot=Decimal("1.80"),
        source=_PLAIN_SOURCE,
    ),
    Item(
        region="there",
        zones=(None,),
        instance_type="box",
        on_demand=Decimal("7.20"),
        spot=Decimal("3.60"),
        source=_PLAIN_SOURCE,
    ),
)


def _aws(region: str, zones: str, on_demand: str, spot: str, gb_month: str) -> Item:
    return Item(
        region=region,
        zones=_zones(region, zones),
        instance_type="g4dn.xlarge",
        on_demand=Decimal(on_demand),
        spot=Decimal(spot),
        disks=Disks(usd_per_gb_month=Decimal(gb_month), source="EC2 list price of gp3"),
        ipv4=Decimal("0.005"),
        ipv4_spot=Decimal("0.005"),
        egress_usd_per_gb=Decimal("0.09"),
        source="EC2 list price, Linux; spot: price history of that region in 2026",
    )


AWS_ITEMS = (
    _aws("us-east-1", "abc", "0.526", "0.2043", "0.08"),
    _aws("us-west-2", "ab", "0.526", "0.2464", "0.08"),
    _aws("eu-west-1", "abc", "0.587", "0.3171", "0.088"),
)


def _gcp(region: str, zones: str, on_demand: str, spot: str, gb_month: str) -> Item:
    return Item(
        region=region,
        zones=tuple(f"{region}-{letter}" for letter in zones),
        instance_type="n1-standard-4+nvidia-tesla-t4",
        on_demand=Decimal(on_demand),
        spot=Decimal(spot),
        disks=Disks(usd_per_gb_month=Decimal(gb_month), source="Compute Engine list price of pd-balanced"),
        ipv4=Decimal("0.005"),
        ipv4_spot=Decimal("0.0025"),
        egress_usd_per_gb=Decimal("0.12"),
        source="Compute Engine list prices: 4 cores + 15 GiB + one T4",
    )


GCP_ITEMS = (
    _gcp("us-central1", "abf", "0.5400", "0.2272", "0.10"),
    _gcp("europe-west4", "abc", "0.5767", "0.2587", "0.11"),
)

# StandardSSD is sold in tiers: E6 is 64 GiB, E10 is 128 GiB (Azure managed disks, pricing page).
_AZURE_DISKS = Disks(
    tiers=((64, Decimal("4.80")), (128, Decimal("9.60"))), source="Azure list price of StandardSSD, East US"
)


def _azure(region: str, on_demand: str, spot: str | None) -> Item:
    return Item(
        region=region,
        zones=(None,),
        instance_type="Standard_NC4as_T4_v3",
        on_demand=Decimal(on_demand),
        spot=None if spot is None else Decimal(spot),
        disks=_AZURE_DISKS,
        ipv4=Decimal("0.005"),
        ipv4_spot=Decimal("0.005"),
        egress_usd_per_gb=Decimal("0.087"),
        source="Azure retail price, Linux",
    )


AZURE_ITEMS = (
    _azure("eastus", "0.526", "0.0627"),
    _azure("westus2", "0.526", "0.0616"),
    _azure("swedencentral", "0.558", None),
)
