"""One price: what it is for, how much, from where, of when, and how sure.

A row of the table, an answer of a loader and an entry of a cache are all this.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

EVERY_REGION = "*"
"""In place of a region: for each region that has no row of its own."""


class Kind(StrEnum):
    """What is paid for. The unit follows from it, but for a disk that is sold in whole tiers."""

    COMPUTE = "compute"
    DISK = "disk"
    IPV4 = "ipv4"
    EGRESS = "egress"
    ONE_TIME = "one_time"


UNITS = {
    Kind.COMPUTE: {"USD/h"},
    Kind.DISK: {"USD/GB-month", "USD/month"},
    Kind.IPV4: {"USD/h"},
    Kind.EGRESS: {"USD/GB"},
    Kind.ONE_TIME: {"USD"},
}


class Sure(StrEnum):
    """How much a price can be trusted, best first."""

    VENDOR = "vendor"
    """The cloud's own price API said so."""
    TWO_SOURCES = "two sources"
    """Two sources; where they disagree, the higher."""
    ONE_SOURCE = "one source"
    AGE_UNKNOWN = "age unknown"
    """One source, which does not say how old it is."""
    UNCONFIRMED = "unconfirmed"
    """Common knowledge or an estimate: no source was at hand."""


def least_sure(*levels: Sure) -> Sure:
    """The weakest of these: a sum is as sure as its weakest part."""
    order = list(Sure)
    return max(levels, key=order.index)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One price in USD. Raises ValueError when it is not a price that one could compute with."""

    kind: Kind
    provider: str
    region: str
    item: str
    """Compute: the instance type. Disk: the type of disk. One-time: what it is for."""
    usd: Decimal
    unit: str
    as_of: datetime
    """When the price was read, or the date that the source gives."""
    sure: Sure
    source: str
    zone: str | None = None
    gpu: str | None = None
    spot: bool | None = None
    """None where spot and on-demand machines pay the same."""
    up_to_gb: int | None = None
    """The size of a disk tier: all of it is billed, however little is used."""
    live: bool = False
    """Asked from the cloud itself: no margin is added."""

    def __post_init__(self) -> None:
        if not (self.usd.is_finite() and self.usd > 0):
            raise ValueError(f"a price must be above zero, not {self.usd}")
        if self.unit not in UNITS[self.kind]:
            raise ValueError(f"{self.kind} is not priced in {self.unit!r}")
        if (self.unit == "USD/month") != (self.up_to_gb is not None):
            raise ValueError("a tier has a size, and only a tier")
        if self.kind is Kind.COMPUTE and self.spot is None:
            raise ValueError("compute is either spot or on demand")
        if self.as_of.tzinfo is None:
            raise ValueError("as_of must be in UTC")
        if not (self.source and self.provider and self.region and self.item):
            raise ValueError("a price needs a provider, a region, an item and a source")
