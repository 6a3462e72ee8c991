"""Live prices from the Cloud Billing Catalog: N1 cores, memory, T4s, disk and address, on demand and spot.

It has no filter: every one of Compute Engine's tens of thousands of prices is read, so an answer is kept for a day.
https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from launcher.core.clock import rfc3339
from providers.base import PriceUnknown, ProviderError, ProviderUnavailable
from providers.gcp import credentials, errors
from providers.prices.rows import Kind, Row, Sure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from launcher.core.clock import Clock

HOST = "https://cloudbilling.googleapis.com"
PATH = "/v1/services/6F81-5844-456A/skus"
"""Compute Engine."""
CATALOGUE_AGE_S = 86_400.0
TIMEOUT_S = 15.0
TOTAL_S = 60.0
MAX_PAGES = 40
FIELDS = (
    "nextPageToken,skus(description,category(resourceFamily,usageType),serviceRegions,"
    "pricingInfo(effectiveTime,pricingExpression(usageUnit,tieredRates)))"
)
INSTANCE_TYPE = "n1-standard-4"
CORES, MEMORY_GIB = 4, 15
GPU = "T4"


class Part(NamedTuple):
    """One price of the catalogue that we need: how its description begins, and its unit."""

    begins: str
    usage: str
    unit: str


CORE, MEMORY, T4 = (
    Part("N1 Predefined Instance Core running in", "OnDemand", "h"),
    Part("N1 Predefined Instance Ram running in", "OnDemand", "GiBy.h"),
    Part("Nvidia Tesla T4 GPU running in", "OnDemand", "h"),
)
SPOT_CORE, SPOT_MEMORY, SPOT_T4 = (
    Part("Spot Preemptible N1 Predefined Instance Core running in", "Preemptible", "h"),
    Part("Spot Preemptible N1 Predefined Instance Ram running in", "Preemptible", "GiBy.h"),
    Part("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in", "Preemptible", "h"),
)
DISK = Part("Balanced PD Capacity", "OnDemand", "GiBy.mo")
ADDRESS = Part("External IP Charge on a Standard VM", "OnDemand", "h")
SPOT_ADDRESS = Part("External IP Charge on a Spot Preemptible VM", "Preemptible", "h")
COMPUTE = {False: (CORE, MEMORY, T4), True: (SPOT_CORE, SPOT_MEMORY, SPOT_T4)}
PARTS = (*COMPUTE[False], *COMPUTE[True], DISK, ADDRESS, SPOT_ADDRESS)


class _Money(msgspec.Struct, frozen=True, rename="camel"):
    currency_code: str = "USD"
    units: str = "0"
    nanos: int = 0

    @property
    def usd(self) -> Decimal:
        return Decimal(self.units) + Decimal(self.nanos) / 1_000_000_000


class _Rate(msgspec.Struct, frozen=True, rename="camel"):
    unit_price: _Money


class _Expression(msgspec.Struct, frozen=True, rename="camel"):
    usage_unit: str
    tiered_rates: list[_Rate] = []


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    effective_time: datetime
    pricing_expression: _Expression

    @property
    def usd(self) -> Decimal:
        """The dearest step: what is free at first is not counted upon."""
        return max((rate.unit_price.usd for rate in self.pricing_expression.tiered_rates), default=Decimal(0))


class _Category(msgspec.Struct, frozen=True, rename="camel"):
    usage_type: str = ""
    resource_family: str = ""


class _Sku(msgspec.Struct, frozen=True, rename="camel"):
    description: str = ""
    category: _Category = _Category()
    service_regions: list[str] = []
    pricing_info: list[_Version] = []


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    skus: list[_Sku] = []
    next_page_token: str = ""


Found = dict[tuple[Part, str], list[_Version]]
"""The versions of each price, by what it is for and its region."""


class GcpCataloguePrices:
    """Google's own prices; asked with the user's credentials, since the catalogue answers nobody else."""

    provider = "gcp"

    def __init__(
        self,
        clock: Clock,
        source: credentials.Source | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._clock = clock
        self._source = source
        self._settings = settings or {}
        self.source = f"Cloud Billing catalogue, {HOST}{PATH}"

    @classmethod
    def of_settings(cls, clock: Clock, settings: Mapping[str, Any]) -> GcpCataloguePrices:
        """With the login that is there when it is asked, for the configuration's project."""
        return cls(clock, settings=settings)

    def load(self, gpu: str) -> list[Row]:
        """Compute, disk and address in every region that has all parts. Raises PriceUnknown, ProviderUnavailable."""
        if gpu != GPU:
            raise PriceUnknown(f"gpulaunch knows no machine with a {gpu} in Google Cloud.", fix=f"Ask for a {GPU}.")
        found = self._read({})
        regions = sorted({region for part, region in found if part is T4})
        rows = [row for region in regions for row in self._rows(found, region)]
        if not any(row.kind is Kind.COMPUTE for row in rows):
            raise PriceUnknown(
                f"The catalogue has no price for a machine with a {gpu}.",
                "None of its entries has the name that gpulaunch looks for.",
                "Use the table: it is used by itself, with a margin.",
            )
        return rows

    def spot_usd_per_hour(self, region: str, start: datetime, end: datetime) -> Decimal | None:
        """The most that a spot machine's compute has cost per hour between two times, in the cloud's time.

        None where the catalogue does not prove it: it must name a version that held at the start. Its time range lies
        within one month of Los Angeles' calendar.
        """
        if any(_month(start, hours) != _month(end, hours) for hours in (7, 8)):
            return None
        try:
            found = self._read({"startTime": rfc3339(start), "endTime": rfc3339(end + timedelta(seconds=1))})
        except ProviderError:
            return None
        prices = [_held(found.get((part, region), []), start, end) for part in COMPUTE[True]]
        return None if None in prices else _machine([price for price in prices if price is not None])

    def _rows(self, found: Found, region: str) -> Iterator[Row]:
        for spot, parts in COMPUTE.items():
            prices = [_latest(found.get((part, region), [])) for part in parts]
            if all(prices):
                yield self._row(Kind.COMPUTE, region, INSTANCE_TYPE, _machine(prices), "USD/h", spot=spot, gpu=GPU)
        disk = _latest(found.get((DISK, region), []))
        if disk:
            yield self._row(Kind.DISK, region, "pd-balanced", disk, "USD/GB-month")
        for spot, part in ((False, ADDRESS), (True, SPOT_ADDRESS)):
            address = _latest(found.get((part, region), []))
            if address:
                yield self._row(Kind.IPV4, region, "public IPv4", address, "USD/h", spot=spot)

    def _row(
        self, kind: Kind, region: str, item: str, usd: Decimal, unit: str, *, spot: bool | None = None,
        gpu: str | None = None,
    ) -> Row:  # fmt: skip
        return Row(
            kind=kind, provider="gcp", region=region, item=item, usd=usd, unit=unit, as_of=self._clock.now(),
            sure=Sure.VENDOR, source="Cloud Billing catalogue", gpu=gpu, spot=spot, live=True,
        )  # fmt: skip

    def _read(self, period: dict[str, str]) -> Found:
        """The prices that we need, of all pages."""
        source = self._source or credentials.find(os.environ, self._settings)
        session = _session(source)
        until_s = self._clock.monotonic() + TOTAL_S
        found: Found = {}
        token = ""
        for _ in range(MAX_PAGES):
            page = self._page(session, source, {**period, **({"pageToken": token} if token else {})})
            for sku in page.skus:
                _sort_in(sku, found)
            token = page.next_page_token
            if not token:
                return found
            if self._clock.monotonic() > until_s:
                break
        raise ProviderUnavailable("Google's price catalogue did not come to an end.", code="PRICES")

    def _page(self, session: Any, source: credentials.Source, params: dict[str, str]) -> _Page:
        query = {"pageSize": "5000", "currencyCode": "USD", "fields": FIELDS, **params}
        try:
            reply = session.get(f"{source.endpoint or HOST}{PATH}", params=query, timeout=TIMEOUT_S)
        except Exception as error:
            raise errors.from_call(error, "list its prices", project=source.project) from error
        if reply.status_code != 200:
            raise errors.from_reply(reply, "list its prices", project=source.project)
        try:
            return msgspec.json.decode(reply.content, type=_Page)
        except msgspec.MsgspecError as error:
            raise ProviderUnavailable("Google's price catalogue cannot be read.", f"{error}.", code="PRICES") from error


def _session(source: credentials.Source) -> Any:
    from google.auth.transport.requests import AuthorizedSession

    return AuthorizedSession(credentials.load(source))  # type: ignore[no-untyped-call]


def _sort_in(sku: _Sku, found: Found) -> None:
    """Keep a price if it is one that we need. A price in an unknown unit is as good as none."""
    part = next((p for p in PARTS if sku.description.startswith(p.begins) and sku.category.usage_type == p.usage), None)
    if part is None:
        return
    versions = [each for each in sku.pricing_info if each.pricing_expression.usage_unit == part.unit]
    for region in sku.service_regions:
        found.setdefault((part, region), []).extend(versions)


def _latest(versions: list[_Version]) -> Decimal:
    """The price that holds now; 0 where there is none. Of several that hold, the dearest."""
    newest = max((each.effective_time for each in versions), default=None)
    return max((each.usd for each in versions if each.effective_time == newest), default=Decimal(0))


def _held(versions: list[_Version], start: datetime, end: datetime) -> Decimal | None:
    """The most that a price was between two times; None unless one is known to have held at the start."""
    known = [each for each in versions if each.effective_time <= end]
    if not any(each.effective_time <= start for each in known):
        return None
    return max(each.usd for each in known)


def _machine(prices: list[Decimal]) -> Decimal:
    core, memory, gpu = prices
    return CORES * core + MEMORY_GIB * memory + gpu


def _month(at: datetime, hours_behind: int) -> tuple[int, int]:
    there = at.astimezone(UTC) - timedelta(hours=hours_behind)
    return there.year, there.month
