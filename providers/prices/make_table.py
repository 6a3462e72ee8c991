"""Make table.csv from a public catalogue and from by_hand.csv.

    python -m providers.prices.make_table CATALOGUE.csv > providers/prices/table.csv

The catalogue is an extract of skypilot-catalog with the columns `provider, region, zone, instance_type,
on_demand_usd_per_h, spot_usd_per_h, note, source_file_at_commit`. What is done to it:

- rows whose note says "do not trust" are dropped;
- AWS on-demand prices, which the catalogue repeats for each zone, become one row per region;
- where by_hand.csv has a second on-demand price for the same machine, the higher one is taken;
- a GCP machine is its host plus its accelerator, in each zone that has both.
"""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from providers.prices.rows import Kind, Row, Sure, least_sure
from providers.prices.table import row_from_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BY_HAND = Path(__file__).with_name("by_hand.csv")
CATALOGUE_READ_ON = datetime(2026, 11, 21, tzinfo=UTC)
UNTRUSTED = "do not trust"
# The Azure file of the catalogue belongs to an old generation of it, and names no date.
AGE_UNKNOWN_PROVIDERS = {"azure"}
GCP_HOST, GCP_ACCELERATOR, GCP_ACCELERATOR_ROW = "n1-standard-4", "nvidia-tesla-t4", "(T4 accelerator row)"
COLUMNS = (
    "kind",
    "provider",
    "region",
    "zone",
    "item",
    "gpu",
    "spot",
    "usd",
    "unit",
    "up_to_gb",
    "as_of",
    "sure",
    "source",
)


def read_catalogue(lines: Iterable[Mapping[str, str]]) -> list[Row]:
    """The trusted compute prices of the catalogue: an on-demand and a spot row for each line."""
    rows = []
    for line in lines:
        if UNTRUSTED in line["note"]:
            continue
        for spot in (False, True):
            usd = line["spot_usd_per_h" if spot else "on_demand_usd_per_h"]
            if usd:
                rows.append(_catalogue_row(line, usd, spot=spot))
    return rows


def _catalogue_row(line: Mapping[str, str], usd: str, *, spot: bool) -> Row:
    provider = line["provider"]
    is_accelerator = line["instance_type"] == GCP_ACCELERATOR_ROW
    fields = {
        "kind": Kind.COMPUTE,
        "provider": provider,
        "region": line["region"],
        "zone": line["zone"] if provider == "gcp" or spot else "",
        "item": GCP_ACCELERATOR if is_accelerator else line["instance_type"],
        "gpu": "" if provider == "gcp" else "T4",
        "spot": "yes" if spot else "no",
        "usd": usd,
        "unit": "USD/h",
        "as_of": f"{CATALOGUE_READ_ON:%Y-%m-%d}",
        "sure": Sure.AGE_UNKNOWN if provider in AGE_UNKNOWN_PROVIDERS else Sure.ONE_SOURCE,
        "source": f"skypilot-catalog {line['source_file_at_commit'][:-32]}",
    }
    return row_from_csv(fields)


def once_each(rows: Iterable[Row]) -> list[Row]:
    """One row for each machine, place and way of paying: the highest."""
    highest: dict[tuple[str, str, str | None, str, bool | None], Row] = {}
    for row in rows:
        key = (row.provider, row.region, row.zone, row.item, row.spot)
        if key not in highest or row.usd > highest[key].usd:
            highest[key] = row
    return list(highest.values())


def with_second_opinions(rows: Iterable[Row], opinions: Sequence[Row]) -> list[Row]:
    """The rows, each at the higher of its own price and of another source's for the same machine.

    What only the other source knows is added as it is.
    """
    second = {(o.provider, o.region, o.item, o.spot): o for o in opinions}
    used = set()
    result = []
    for row in rows:
        key = (row.provider, row.region, row.item, row.spot)
        other = second.get(key)
        used.add(key)
        result.append(row if other is None else _higher(row, other))
    return result + [o for key, o in second.items() if key not in used]


def _higher(row: Row, other: Row) -> Row:
    if other.usd > row.usd:
        source = f"{other.source} (higher than {row.usd} in {row.source})"
        return msgspec.structs.replace(row, usd=other.usd, as_of=other.as_of, sure=Sure.TWO_SOURCES, source=source)
    if other.usd < row.usd:
        source = f"{row.source} (higher than {other.usd} in {other.source})"
    else:
        source = f"{row.source}; {other.source}"
    return msgspec.structs.replace(row, sure=Sure.TWO_SOURCES, source=source)


def with_accelerators(rows: Iterable[Row]) -> list[Row]:
    """GCP hosts with a T4, in each zone that has both; other rows as they are."""
    rows = list(rows)
    hosts = {(r.zone, r.spot): r for r in rows if r.item == GCP_HOST}
    result = [r for r in rows if r.provider != "gcp"]
    for gpu in rows:
        host = hosts.get((gpu.zone, gpu.spot))
        if gpu.item == GCP_ACCELERATOR and host is not None:
            same = host.source == gpu.source
            source = f"host and T4: {host.source}" if same else f"host: {host.source}; T4: {gpu.source}"
            whole = msgspec.structs.replace(
                host,
                gpu="T4",
                usd=host.usd + gpu.usd,
                as_of=min(host.as_of, gpu.as_of),
                sure=least_sure(host.sure, gpu.sure),
                source=source,
            )
            result.append(whole)
    return result


def make_table(catalogue: Iterable[Mapping[str, str]], by_hand: Iterable[Mapping[str, str]]) -> list[Row]:
    """The whole table, in a stable order."""
    others = [row_from_csv(fields) for fields in by_hand]
    opinions = [row for row in others if row.kind is Kind.COMPUTE]
    compute = with_accelerators(with_second_opinions(once_each(read_catalogue(catalogue)), opinions))
    compute.sort(key=lambda r: (r.provider, r.region, r.zone or "", r.spot or False))
    return compute + [row for row in others if row.kind is not Kind.COMPUTE]


def write_table(rows: Iterable[Row], out: IO[str]) -> None:
    """Write rows as the CSV that `load_table` reads."""
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        fields = {name: getattr(row, name) for name in COLUMNS}
        fields["spot"] = {True: "yes", False: "no", None: ""}[row.spot]
        fields["usd"] = f"{row.usd:f}"
        fields["as_of"] = f"{row.as_of:%Y-%m-%d}"
        writer.writerow(fields)


def main(catalogue_path: str) -> None:
    """Write the table to stdout."""
    with (
        Path(catalogue_path).open(encoding="utf-8", newline="") as catalogue,
        BY_HAND.open(encoding="utf-8", newline="") as by_hand,
    ):
        write_table(make_table(csv.DictReader(catalogue), csv.DictReader(by_hand)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
