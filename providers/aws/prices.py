"""Live AWS prices: on demand from the Price List API, spot from the price history of each region.

Price List API reference, GetProducts (three regions answer it, us-east-1 among them); EC2 API reference,
DescribeSpotPriceHistory: a StartTime of now returns the price that is in effect, for each zone.
"""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers.aws.client import Client
from providers.base import PriceUnknown, ProviderError
from providers.prices.rows import Kind, Row, Sure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from launcher.core.clock import Clock

TYPES = {"T4": "g4dn.xlarge"}
PRICE_LIST_REGION = "us-east-1"
FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
ON_DEMAND_SOURCE = "AWS Price List API"
SPOT_SOURCE = "EC2 spot price history"

log = logging.getLogger(__name__)


class AwsPrices:
    """Prices of AWS's GPU machines, in every region that the account can use. `spot` prices cost a call per region."""

    provider = "aws"

    def __init__(self, clock: Clock, client: Client, *, spot: bool = True) -> None:
        self._clock = clock
        self._client = client
        self._with_spot = spot
        where = f" at {self._client.endpoint}" if self._client.endpoint else ""
        self.source = f"{ON_DEMAND_SOURCE}{f', {SPOT_SOURCE}' if spot else ''}{where}"

    @classmethod
    def of_settings(cls, clock: Clock, settings: Mapping[str, Any]) -> AwsPrices:
        """With the profile that the configuration names, if it does."""
        return cls(clock, Client(clock=clock, settings=settings))

    def load(self, gpu: str) -> list[Row]:
        """Compute prices in USD per hour. Raises ProviderError within seconds, PriceUnknown without any."""
        if gpu not in TYPES:
            raise PriceUnknown(f"Which AWS machine has a {gpu} is not known.", next_scope="provider")
        now = self._clock.now()
        prices = self._on_demand(TYPES[gpu])
        if not prices:
            raise PriceUnknown(f"AWS names no price for {TYPES[gpu]}.", next_scope="provider")
        rows = [_row(region, usd, gpu, now) for region, usd in prices.items()]
        if self._with_spot:
            regions = sorted(set(prices) & set(self._client.regions))
            found = self._client.at_once(lambda region: self._spot(region, TYPES[gpu], now), regions)
            for region, zones in zip(regions, found, strict=True):
                rows += [_row(region, usd, gpu, now, zone=zone) for zone, usd in zones.items()]
        return rows

    def _on_demand(self, instance_type: str) -> dict[str, Decimal]:
        """Region to USD per hour."""
        filters = {"instanceType": instance_type, **FILTERS}
        products = self._client.pages(
            PRICE_LIST_REGION,
            "pricing.get_products",
            "PriceList",
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()],
        )
        found: dict[str, Decimal] = {}
        for product in (json.loads(str(text)) for text in products):
            region = product.get("product", {}).get("attributes", {}).get("regionCode", "")
            highest = max(_hourly_usd(product), default=Decimal(0))
            if region and highest > 0:
                found[region] = max(highest, found.get(region, highest))
        return found

    def _spot(self, region: str, instance_type: str, now: datetime) -> dict[str, Decimal]:
        """Zone id to the spot price in effect. A region that does not answer has no spot offers, and is told of."""
        try:
            rows = _history(self._client, region, instance_type, now)
        except ProviderError as error:
            log.warning("Spot prices of %s could not be had: %s", region, error)
            return {}
        return {row["AvailabilityZoneId"]: Decimal(row["SpotPrice"]) for row in rows}


def spot_history(
    client: Client, region: str, instance_type: str, since: datetime, zone: str
) -> list[tuple[datetime, Decimal]]:
    """The changes of a zone's price, oldest first: from the one in effect at `since`, by AWS's clock, on."""
    rows = _history(client, region, instance_type, since)
    return [(row["Timestamp"], Decimal(row["SpotPrice"])) for row in rows if row["AvailabilityZone"] == zone]


def _history(client: Client, region: str, instance_type: str, since: datetime) -> list[dict[str, Any]]:
    rows = client.pages(
        region,
        "ec2.describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=[instance_type],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=since,
    )
    return sorted(rows, key=lambda row: row["Timestamp"])


def _hourly_usd(product: dict[str, Any]) -> Iterator[Decimal]:
    """Every hourly price of a product of the list; it nests them below made-up keys."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("unit") == "Hrs" and "USD" in dimension.get("pricePerUnit", {}):
                yield Decimal(dimension["pricePerUnit"]["USD"])


def _row(region: str, usd: Decimal, gpu: str, now: datetime, *, zone: str | None = None) -> Row:
    return Row(
        kind=Kind.COMPUTE,
        provider="aws",
        region=region,
        zone=zone,
        item=TYPES[gpu],
        gpu=gpu,
        spot=zone is not None,
        usd=usd,
        unit="USD/h",
        as_of=now,
        sure=Sure.VENDOR,
        source=ON_DEMAND_SOURCE if zone is None else SPOT_SOURCE,
        live=True,
    )
