"""The dated price table: what is in it, and the rates that are made from it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from launcher.core.errors import Exit
from providers.base import PriceUnknown
from providers.prices.make_table import BY_HAND, make_table, write_table
from providers.prices.rows import EVERY_REGION, Kind, Row, Sure
from providers.prices.table import PricedShape, Table, load_table

if TYPE_CHECKING:
    from pathlib import Path

AS_OF = datetime(2026, 11, 21, tzinfo=UTC)
CATALOGUE_COLUMNS = "provider,region,zone,instance_type,on_demand_usd_per_h,spot_usd_per_h,note,source_file_at_commit"


def price(kind: Kind, item: str, usd: str, unit: str, **more: Any) -> Row:
    """A price of a cloud in one region, to be varied."""
    defaults = {"provider": "aws", "region": "r1", "as_of": AS_OF, "sure": Sure.ONE_SOURCE, "source": "a list"}
    return Row(kind=kind, item=item, usd=Decimal(usd), unit=unit, **{**defaults, **more})


def compute(usd: str, *, spot: bool, **more: Any) -> Row:
    """A price of one machine with a T4."""
    return price(Kind.COMPUTE, "g4dn.xlarge", usd, "USD/h", spot=spot, gpu="T4", **more)


def the_rest(provider: str = "aws") -> list[Row]:
    """The other parts of the bill: a disk of 100 GB comes to 0.01 an hour."""
    return [
        price(Kind.DISK, "gp3", "0.073", "USD/GB-month", provider=provider, region=EVERY_REGION),
        price(Kind.IPV4, "public IPv4", "0.005", "USD/h", provider=provider, region=EVERY_REGION),
        price(Kind.EGRESS, "internet", "0.09", "USD/GB", provider=provider, region=EVERY_REGION),
    ]


def worst_compute(shape: PricedShape) -> Decimal:
    """The ceiling of the machine alone."""
    return next(part.worst_usd_per_hour for part in shape.parts if part.name == "compute")


def find(provider: str, region: str, *, spot: bool, zone: str | None = None) -> PricedShape:
    """One machine of the shipped table."""
    (shape,) = [
        s
        for s in load_table().shapes("T4")
        if (s.provider, s.region, s.spot) == (provider, region, spot) and (zone is None or s.zone == zone)
    ]
    return shape


def catalogue(*lines: str) -> list[dict[str, str]]:
    """Lines of the catalogue, read as the script reads them."""
    return list(csv.DictReader(io.StringIO("\n".join((CATALOGUE_COLUMNS, *lines)))))


def by_hand(*rows: Row) -> list[dict[str, str]]:
    """Rows as by_hand.csv has them."""
    out = io.StringIO()
    write_table(rows, out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_every_row_is_positive_dated_and_sourced() -> None:
    """No row of the shipped table lacks a price, a date that has passed, or a source."""
    rows = load_table().rows
    assert {"aws", "azure", "gcp"} == {row.provider for row in rows}
    assert [row for row in rows if row.usd <= 0 or not row.source.strip() or row.live] == []
    assert [row for row in rows if not datetime(2025, 1, 1, tzinfo=UTC) <= row.as_of <= AS_OF] == []


def test_every_priced_machine_is_whole() -> None:
    """Each shape has its three parts, an egress price, and a worst price that is not below the expected one."""
    shapes = load_table().shapes("T4")
    assert {("compute", "disk", "ipv4")} == {tuple(part.name for part in shape.parts) for shape in shapes}
    parts = [part for shape in shapes for part in shape.parts]
    assert [part for part in parts if not 0 < part.expected_usd_per_hour <= part.worst_usd_per_hour] == []
    assert [shape for shape in shapes if shape.egress_usd_per_gb <= 0] == []


def test_no_compute_row_of_the_table_is_left_out() -> None:
    """Every spot price has its on-demand price, so that every compute row becomes a shape."""
    table = load_table()
    assert len([row for row in table.rows if row.kind is Kind.COMPUTE]) == len(table.shapes("T4"))


def test_cheapest_rate_comes_first() -> None:
    """Shapes are ranked by the whole expected rate."""
    rates = [shape.expected_usd_per_hour for shape in load_table().shapes("T4")]
    assert sorted(rates) == rates


def test_untrusted_rows_are_absent() -> None:
    """The local zones whose on-demand price merely repeats the parent region's are not in the table."""
    assert [row for row in load_table().rows if "lax" in (row.zone or "")] == []


def test_unknown_compute_price_is_no_row() -> None:
    """A region without any price is not guessed, and neither is a spot price that only on demand is known."""
    rows = [row for row in load_table().rows if row.kind is Kind.COMPUTE and row.provider == "azure"]
    assert "westeurope" not in {row.region for row in rows}
    assert [row.spot for row in rows if row.region == "swedencentral"] == [False]


def test_higher_of_two_sources_is_in_the_table() -> None:
    """Where the catalogue and the other list disagree on ca-central-1, the higher price stands, naming both."""
    shape = find("aws", "ca-central-1", spot=False)
    assert Decimal("0.619") == shape.parts[0].expected_usd_per_hour
    assert "higher than 0.584" in shape.source
    assert shape.sure == Sure.TWO_SOURCES


def test_gcp_machine_is_host_plus_accelerator() -> None:
    """n1-standard-4 at 0.19 and a T4 at 0.35 are one machine at 0.54, in the zone that has both."""
    shape = find("gcp", "us-central1", spot=False, zone="us-central1-a")
    assert Decimal("0.54") == shape.parts[0].expected_usd_per_hour


def test_making_drops_what_the_note_distrusts() -> None:
    """A line of the catalogue that says not to trust it makes no row; its neighbour does."""
    lines = catalogue(
        "aws,r1,z1,g4dn.xlarge,0.526,0.2,,list@" + "0" * 40,
        "aws,r1,z2,g4dn.xlarge,0.526,0.06,local zone: do not trust,list@" + "0" * 40,
    )
    assert [(row.zone, row.spot) for row in make_table(lines, [])] == [(None, False), ("z1", True)]


@pytest.mark.parametrize(("other", "expected"), [("0.5", "0.526"), ("0.526", "0.526"), ("0.6", "0.6")])
def test_making_takes_the_higher_of_two(other: str, expected: str) -> None:
    """A second source raises an on-demand price but never lowers it, and leaves the spot price alone."""
    lines = catalogue("aws,r1,z1,g4dn.xlarge,0.526,0.2,,list@" + "0" * 40)
    rows = make_table(lines, by_hand(compute(other, spot=False)))
    assert [(Decimal(expected), Sure.TWO_SOURCES), (Decimal("0.2"), Sure.ONE_SOURCE)] == [(r.usd, r.sure) for r in rows]


def test_making_leaves_out_a_zone_without_the_accelerator() -> None:
    """A GCP zone with hosts but no T4 has no machine to sell."""
    lines = catalogue(
        "gcp,r1,r1-a,n1-standard-4,0.19,0.05,,list@" + "0" * 40,
        "gcp,r1,r1-b,n1-standard-4,0.19,0.05,,list@" + "0" * 40,
        "gcp,r1,r1-b,(T4 accelerator row),0.35,0.17,,list@" + "0" * 40,
    )
    rows = make_table(lines, [])
    assert [("r1-b", "T4", Decimal("0.54")), ("r1-b", "T4", Decimal("0.22"))] == [(r.zone, r.gpu, r.usd) for r in rows]


def test_shipped_table_holds_the_hand_written_rows() -> None:
    """Disk, address, egress and one-time rows of the table are those of by_hand.csv: it was made from this one."""
    with BY_HAND.open(encoding="utf-8", newline="") as file:
        written = make_table([], csv.DictReader(file))
    rest = [row for row in written if row.kind is not Kind.COMPUTE]
    assert rest == [row for row in load_table().rows if row.kind is not Kind.COMPUTE]


def test_table_price_on_demand_gets_ten_percent() -> None:
    """The ceiling of an on-demand machine from the table is its price plus 10 %, and the source says so."""
    (shape,) = Table([compute("0.5", spot=False), *the_rest()]).shapes("T4")
    assert (Decimal("0.55"), Decimal("0.515")) == (worst_compute(shape), shape.expected_usd_per_hour)
    assert Decimal("0.5665") == shape.rate_usd_per_hour
    assert shape.parts[0].source == "table of 2026-11-21, plus 10 %: a list (one source)"


def test_spot_ceiling_is_a_bid_with_room() -> None:
    """A spot machine's ceiling is 1.25 times its table price with its 10 %."""
    spot, _ = Table([compute("0.5", spot=False), compute("0.2", spot=True), *the_rest()]).shapes("T4")
    assert (True, Decimal("0.275")) == (spot.spot, worst_compute(spot))


def test_spot_ceiling_is_never_above_on_demand() -> None:
    """A bid above the plain on-demand price would be worse than not bidding."""
    spot, _ = Table([compute("0.5", spot=False), compute("0.45", spot=True), *the_rest()]).shapes("T4")
    assert Decimal("0.5") == worst_compute(spot)


def test_bid_has_five_decimals_at_most() -> None:
    """What a cap is computed with is exactly what is bid, so it has no more decimals than a bid can have."""
    bids = [worst_compute(s) for s in load_table().shapes("T4") if s.spot and s.provider != "gcp"]
    assert bids == [bid.quantize(Decimal("0.00001")) for bid in bids]


def test_gcp_spot_takes_no_bid() -> None:
    """Where no bid can be passed the ceiling of a spot machine is the on-demand price, with its margin."""
    rows = [compute("0.5", spot=False, provider="gcp"), compute("0.2", spot=True, provider="gcp")]
    spot, _ = Table([*rows, *the_rest("gcp")]).shapes("T4")
    assert (True, Decimal("0.55")) == (spot.spot, worst_compute(spot))


def test_live_price_gets_no_margin() -> None:
    """A price that the cloud named today is used as it is; the rest of the bill stays from the table."""
    old = Table([compute("0.5", spot=False), compute("0.2", spot=True), *the_rest()])
    table = old.with_live([compute("0.6", spot=False, live=True), compute("0.3", spot=True, live=True)])
    spot, on_demand = table.shapes("T4")
    assert [Decimal("0.375"), Decimal("0.6")] == [worst_compute(spot), worst_compute(on_demand)]
    assert [spot.parts[0].source, spot.live] == ["live at 2026-11-21T00:00:00Z: a list", True]
    assert "table of" in spot.parts[1].source


def test_live_prices_replace_a_whole_cloud() -> None:
    """A region that the cloud no longer names goes; another cloud's prices stay."""
    others = [compute("0.5", spot=False, provider="gcp"), *the_rest("gcp")]
    table = Table([compute("0.5", spot=False, region="old"), *the_rest(), *others])
    fresh = table.with_live([compute("0.6", spot=False, region="new", live=True)])
    assert [(shape.provider, shape.region) for shape in fresh.shapes("T4")] == [("gcp", "r1"), ("aws", "new")]


def test_spot_without_on_demand_price_is_left_out() -> None:
    """Without the on-demand price the ceiling of a spot machine is not known, so it is not offered."""
    assert Table([compute("0.2", spot=True), *the_rest()]).shapes("T4") == []


@pytest.mark.parametrize("missing", [Kind.DISK, Kind.IPV4, Kind.EGRESS])
def test_part_without_a_price_is_refused(missing: Kind) -> None:
    """An unknown part of the bill means refuse, never zero."""
    rows = [row for row in (compute("0.5", spot=False), *the_rest()) if row.kind is not missing]
    with pytest.raises(PriceUnknown) as caught:
        Table(rows).shapes("T4")
    assert caught.value.exit_code == Exit.UNAVAILABLE


def test_own_region_goes_before_every_region() -> None:
    """A region's own disk price is used even when it is lower than the one for all others."""
    own = price(Kind.DISK, "gp3", "0.0073", "USD/GB-month")
    (shape,) = Table([compute("0.5", spot=False), own, *the_rest()]).shapes("T4")
    assert Decimal("0.001") == shape.parts[1].expected_usd_per_hour


@pytest.mark.parametrize(("disk_gb", "monthly_usd"), [(64, "4.80"), (65, "9.60"), (128, "9.60"), (129, "19.20")])
def test_azure_bills_the_whole_disk_tier(disk_gb: int, monthly_usd: str) -> None:
    """A disk on Azure costs its tier, over 730 hours, however much of it is asked for."""
    shapes = [s for s in load_table().shapes("T4", disk_gb=disk_gb) if s.provider == "azure"]
    expected = (Decimal(monthly_usd) / 730).quantize(Decimal("0.00000001"), rounding="ROUND_CEILING")
    assert {expected} == {shape.parts[1].expected_usd_per_hour for shape in shapes}


def test_disk_beyond_the_largest_tier_is_refused() -> None:
    """No tier that is large enough means no price."""
    with pytest.raises(PriceUnknown):
        load_table().shapes("T4", disk_gb=5000)


def test_spot_address_can_have_its_own_price() -> None:
    """GCP asks half as much for the address of a spot machine."""
    spot = find("gcp", "us-central1", spot=True, zone="us-central1-a")
    on_demand = find("gcp", "us-central1", spot=False, zone="us-central1-a")
    addresses = [spot.parts[2].expected_usd_per_hour, on_demand.parts[2].expected_usd_per_hour]
    assert [Decimal("0.0025"), Decimal("0.005")] == addresses


def test_timers_are_one_time_costs() -> None:
    """What a timer costs does not grow with time; GCP's is part of the machine and costs nothing."""
    one_time = {s.provider: {cost.name for cost in s.one_time} for s in load_table().shapes("T4")}
    assert {"aws": {"timer"}, "azure": {"timer", "disk operations"}, "gcp": set()} == one_time


@pytest.mark.parametrize(
    "wrong",
    [
        {"usd": Decimal(0)},
        {"usd": Decimal("-0.1")},
        {"usd": Decimal("NaN")},
        {"unit": "USD/GB"},
        {"spot": None},
        {"source": ""},
        {"up_to_gb": 64},
        {"as_of": datetime(2026, 11, 21)},  # noqa: DTZ001 - the wrong thing is the subject
    ],
)
def test_row_that_is_no_price_cannot_be_made(wrong: dict[str, Any]) -> None:
    """A price that nobody could compute a cap with is refused where it is made."""
    with pytest.raises(ValueError, match=r"price|unit|spot|tier|source|UTC"):
        msgspec.structs.replace(compute("0.5", spot=False), **wrong)


@pytest.mark.parametrize("broken", ["0", "-1", "nan", "many", ""])
def test_broken_table_names_the_line(tmp_path: Path, broken: str) -> None:
    """A table that cannot be read is an error with the file and the line, not a traceback."""
    path = tmp_path / "table.csv"
    header = "kind,provider,region,zone,item,gpu,spot,usd,unit,up_to_gb,as_of,sure,source"
    path.write_text(f"{header}\nipv4,aws,*,,public IPv4,,,{broken},USD/h,,2026-11-21,one source,a list\n")
    with pytest.raises(PriceUnknown, match=r"table\.csv, line 2"):
        load_table(path)


def test_importing_the_table_is_cheap() -> None:
    """The table needs no network module, no SDK and nothing that draws."""
    code = "import sys, providers.prices.table; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"urllib.request", "http.client", "ssl", "rich", "jinja2", "asyncio", "boto3", "click"}
    assert set() == heavy & set(result.stdout.split())
