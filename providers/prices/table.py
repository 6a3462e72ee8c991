"""The dated price table, and whole hourly rates from it. Pure, in Decimal, without network.

Two prices are given for each part of the bill. `expected` is the plain price and ranks offers. `worst` is what a cap
is computed with: a price from the table gets a margin, a live price gets none. For a spot machine it is the ceiling
that no spot price can pass: the bid, or the on-demand price where a cloud takes no bid. docs/prices.md says it in full.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from launcher.core.clock import rfc3339
from providers.base import OneTimeCost, PriceUnknown, RatePart
from providers.prices.rows import EVERY_REGION, Kind, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TABLE = Path(__file__).with_name("table.csv")

TABLE_MARGIN = Decimal("1.10")
"""What a price from the table is multiplied with for a cap: it has aged, and nobody is asked (DESIGN, section 4)."""
BID_FACTOR = Decimal("1.25")
"""A bid in parts of the current spot price (DESIGN, section 2)."""
TAKES_BID = frozenset({"aws", "azure"})
"""Clouds where a machine can be given a highest price. GCP's spot price is the cloud's alone."""
BID_STEP_USD = Decimal("0.00001")
"""Azure reads five decimals of a bid; more would be a bid that we did not mean."""
HOURS_PER_MONTH = Decimal(730)
"""How the clouds turn a monthly price into an hourly one. February has 672 hours: the margin covers it."""
STEP_USD = Decimal("0.00000001")
DISK_GB = 100


class PricedShape(msgspec.Struct, frozen=True, kw_only=True):
    """A machine with a GPU somewhere, with every part of its bill."""

    provider: str
    region: str
    zone: str | None
    instance_type: str
    gpu: str
    spot: bool
    parts: tuple[RatePart, ...]
    """Compute, disk and public IPv4. The worst price of compute is the bid to pass, where the cloud takes one."""
    one_time: tuple[OneTimeCost, ...]
    egress_usd_per_gb: Decimal
    """At its worst: it is only used to reserve."""
    source: str
    sure: str
    as_of: datetime
    """Of the compute price; each part's source names its own date."""
    live: bool

    @property
    def rate_usd_per_hour(self) -> Decimal:
        """USD per hour at its worst."""
        return sum((part.worst_usd_per_hour for part in self.parts), Decimal(0))

    @property
    def expected_usd_per_hour(self) -> Decimal:
        """USD per hour as expected."""
        return sum((part.expected_usd_per_hour for part in self.parts), Decimal(0))


class Table:
    """Prices, by what they are for."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)

    def gpus(self) -> list[str]:
        """The GPUs that have a price."""
        return sorted({row.gpu for row in self.rows if row.kind is Kind.COMPUTE and row.gpu})

    def with_live(self, rows: Iterable[Row]) -> Table:
        """This table with live prices in place of the old ones.

        Compute: for each cloud and GPU that they speak of; a region that the cloud no longer names is left out, since
        its price is not known any more. Anything else: for each region that they speak of.
        """
        fresh = tuple(rows)
        spoken_of = {_spoken_of(row) for row in fresh}
        return Table((*(row for row in self.rows if _spoken_of(row) not in spoken_of), *fresh))

    def shapes(self, gpu: str, *, disk_gb: int = DISK_GB) -> list[PricedShape]:
        """Every machine with that GPU and its whole rate, cheapest expected rate first.

        A spot machine whose on-demand price is not known is left out: its ceiling would not be known either.
        Raises PriceUnknown when another part of its bill has no price.
        """
        compute = [row for row in self.rows if row.kind is Kind.COMPUTE and row.gpu == gpu]
        on_demand = {(r.provider, r.region, r.zone, r.item): r for r in compute if not r.spot}
        shapes = []
        for row in compute:
            listed = row
            if row.spot:
                key = (row.provider, row.region, row.zone, row.item)
                found = on_demand.get(key) or on_demand.get((row.provider, row.region, None, row.item))
                if found is None:
                    continue
                listed = found
            shapes.append(self._shape(row, listed, disk_gb))
        return sorted(shapes, key=lambda s: (s.expected_usd_per_hour, s.provider, s.region, s.zone or "", s.spot))

    def _shape(self, row: Row, listed: Row, disk_gb: int) -> PricedShape:
        disk, ipv4 = self._disk(row, disk_gb), self._one(Kind.IPV4, row)
        compute = RatePart(
            name="compute", worst_usd_per_hour=ceiling(row, listed), expected_usd_per_hour=row.usd, source=_said(row)
        )
        return PricedShape(
            provider=row.provider,
            region=row.region,
            zone=row.zone,
            instance_type=row.item,
            gpu=row.gpu or "",
            spot=bool(row.spot),
            parts=(compute, _part("disk", disk, _per_hour(disk, disk_gb)), _part("ipv4", ipv4, ipv4.usd)),
            one_time=tuple(
                OneTimeCost(name=cost.item, usd=_up(cost.usd * margin(cost)), source=_said(cost))
                for cost in self._for(Kind.ONE_TIME, row)
            ),
            egress_usd_per_gb=_up(_worst(self._one(Kind.EGRESS, row))),
            source=row.source,
            sure=row.sure,
            as_of=row.as_of,
            live=row.live,
        )

    def _for(self, kind: Kind, of: Row) -> list[Row]:
        """The prices of that kind for this machine: its region's own, else those for every region."""
        rows = [r for r in self.rows if r.kind is kind and r.provider == of.provider and r.spot in (None, of.spot)]
        return [r for r in rows if r.region == of.region] or [r for r in rows if r.region == EVERY_REGION]

    def _one(self, kind: Kind, of: Row) -> Row:
        rows = self._for(kind, of)
        if not rows:
            raise _unknown(kind, of)
        return max(rows, key=lambda r: r.usd)

    def _disk(self, of: Row, disk_gb: int) -> Row:
        """The disk price: per GB, or the smallest tier that holds `disk_gb`."""
        rows = [r for r in self._for(Kind.DISK, of) if r.up_to_gb is None or r.up_to_gb >= disk_gb]
        if not rows:
            raise _unknown(Kind.DISK, of)
        return min(rows, key=lambda r: (r.up_to_gb or 0, -r.usd))


def _spoken_of(row: Row) -> tuple[str | None, ...]:
    """What a live price replaces."""
    if row.kind is Kind.COMPUTE:
        return (row.kind, row.provider, row.gpu)
    return (row.kind, row.provider, row.region, row.item if row.kind is Kind.ONE_TIME else None)


def margin(row: Row) -> Decimal:
    """What this price is multiplied with for a cap."""
    return Decimal(1) if row.live else TABLE_MARGIN


def ceiling(row: Row, listed: Row) -> Decimal:
    """The most that compute can cost, in USD per hour; `listed` is the on-demand price of the same machine.

    On demand: the price with its margin. Spot with a bid: BID_FACTOR times that, never above the on-demand price, in
    the steps that a bid can have. Spot without a bid: the on-demand price with its margin.
    """
    if not row.spot or row.provider not in TAKES_BID:
        return _up(_worst(listed))
    bid = min(row.usd * margin(row) * BID_FACTOR, listed.usd)
    return bid.quantize(BID_STEP_USD, rounding=ROUND_FLOOR)


def _worst(row: Row) -> Decimal:
    return row.usd * margin(row)


def _per_hour(disk: Row, disk_gb: int) -> Decimal:
    usd_per_month = disk.usd if disk.up_to_gb is not None else disk.usd * disk_gb
    return usd_per_month / HOURS_PER_MONTH


def _part(name: str, row: Row, usd_per_hour: Decimal) -> RatePart:
    return RatePart(
        name=name,
        worst_usd_per_hour=_up(usd_per_hour * margin(row)),
        expected_usd_per_hour=_up(usd_per_hour),
        source=_said(row),
        standing=True,
    )


def _up(usd: Decimal) -> Decimal:
    return usd.quantize(STEP_USD, rounding=ROUND_CEILING)


def _said(row: Row) -> str:
    """Where a price is from, for the screen."""
    if row.live:
        return f"live at {rfc3339(row.as_of)}: {row.source}"
    percent = (TABLE_MARGIN - 1) * 100
    return f"table of {row.as_of:%Y-%m-%d}, plus {percent:.0f} %: {row.source} ({row.sure})"


def _unknown(kind: Kind, of: Row) -> PriceUnknown:
    return PriceUnknown(
        f"The price of {kind} for {of.item} in {of.provider} {of.region} is not known.",
        "Without every part of the bill there is no cap.",
        "Choose another region with --region, or a smaller disk with resources.disk_gb.",
        next_scope="region",
    )


def load_table(path: Path = TABLE) -> Table:
    """The table that came with this version. Raises PriceUnknown when a row of it makes no sense."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for fields in (reader := csv.DictReader(file)):
            try:
                rows.append(row_from_csv(fields))
            except (ValueError, ArithmeticError, KeyError, TypeError) as error:
                raise PriceUnknown(
                    f"The price table cannot be read: {path}, line {reader.line_num}.",
                    f"{type(error).__name__}: {error}.",
                    "Install gpulaunch again.",
                ) from error
    return Table(rows)


def row_from_csv(fields: Mapping[str, Any]) -> Row:
    """One line of the table. Raises ValueError and its kin when it is not a price."""
    values: dict[str, Any] = {name: text for name, text in fields.items() if text}
    values["usd"] = Decimal(values["usd"])
    values["as_of"] = datetime.strptime(values["as_of"], "%Y-%m-%d").replace(tzinfo=UTC)
    if "spot" in values:
        values["spot"] = {"yes": True, "no": False}[values["spot"]]
    if "up_to_gb" in values:
        values["up_to_gb"] = int(values["up_to_gb"])
    return msgspec.convert(values, Row)
