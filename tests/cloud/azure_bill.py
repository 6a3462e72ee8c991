"""The bill of the cloud in these tests, by Azure's rules: what it charges, from when, until when.

"States and billing status of Azure Virtual Machines" and the pricing pages of managed disks and public addresses
(learn.microsoft.com, azure.microsoft.com): compute bills from Starting until it is deallocated or deleted, stopped or
not; a disk in whole tiers while it exists; an address while it exists; Logic Apps by the action. What a launcher was
told, or worked out, plays no part in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

HOURS_PER_MONTH = Decimal(730)
# Standard SSD, E6 to E30, USD per month, and what else the pricing pages say.
DISK_TIERS = ((64, "4.80"), (128, "9.60"), (256, "19.20"), (512, "38.40"), (1024, "76.80"))


@dataclass(frozen=True, kw_only=True)
class PriceList:
    """USD per hour, but for what says otherwise. `factor` scales what stands still: disk and address."""

    on_demand: Decimal = Decimal("0.526")
    spot: Decimal = Decimal("0.0627")
    ipv4: Decimal = Decimal("0.005")
    action: Decimal = Decimal("0.000025")
    disk_operations_usd: Decimal = Decimal(0)
    """What one machine's disk operations cost in all."""
    factor: Decimal = Decimal(1)

    def disk(self, size_gb: int) -> Decimal:
        """The whole tier, by the hour."""
        month = next(Decimal(usd) for most_gb, usd in DISK_TIERS if size_gb <= most_gb)
        return month * self.factor / HOURS_PER_MONTH

    @property
    def address(self) -> Decimal:
        """A Standard static address, by the hour."""
        return self.ipv4 * self.factor


@dataclass
class _Line:
    usd_per_hour: Decimal
    start: datetime
    end: datetime | None = None


@dataclass
class Bill:
    """Lines that run, and sums that were charged once."""

    lines: dict[tuple[str, str], _Line] = field(default_factory=dict)
    once: list[tuple[str, Decimal]] = field(default_factory=list)

    def start(self, kind: str, what: str, usd_per_hour: Decimal, at: datetime) -> None:
        """Begin to charge."""
        assert (kind, what) not in self.lines, f"{what} bills its {kind} twice"
        self.lines[kind, what] = _Line(usd_per_hour, at)

    def stop(self, kind: str, what: str, at: datetime) -> None:
        """Charge no further; a line that has ended, or never began, stays as it is."""
        line = self.lines.get((kind, what))
        if line is not None and line.end is None:
            line.end = at

    def charge(self, kind: str, usd: Decimal) -> None:
        """Charge once."""
        self.once.append((kind, usd))

    def total_usd(self, now: datetime) -> Decimal:
        """Everything until now: seconds begun."""
        total = sum((usd for _, usd in self.once), Decimal(0))
        for line in self.lines.values():
            seconds = ((line.end or now) - line.start).total_seconds()
            total += math.ceil(max(seconds, 0) - 1e-6) * line.usd_per_hour / 3600
        return total

    def running(self) -> list[tuple[str, str]]:
        """What is still being charged."""
        return sorted(key for key, line in self.lines.items() if line.end is None)
