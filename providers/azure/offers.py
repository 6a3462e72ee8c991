"""Which machines could be had, and where this subscription may have them: prices, sizes, quotas.

Size and quota are asked of the regions with the lowest prices first, a handful at a time, until some will do: a walk
through regions without quota would cost a failed launch each. The answers are kept for a while in the state folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from providers.azure.backstop import reserve
from providers.azure.client import Arm, as_json
from providers.azure.requests import LEAST_DISK_GB
from providers.base import InvalidRequest, Offer, OfferRequest, ProviderError, QuotaError
from providers.prices.azure_retail import AzureRetailPrices
from providers.prices.market import offer_of, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from providers.prices.table import PricedShape

AT_ONCE = 6
"""Regions asked at one time."""
SIZES_FOR = timedelta(hours=24)
QUOTA_FOR = timedelta(minutes=10)
BOOT_S = 240.0
"""From the create call until training usually starts: an estimate, the middle of what `providers/simulated` assumes."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription may do with one size in one region."""

    region: str
    size: str
    sizes_at: datetime
    quota_at: datetime
    refused: str = ""
    """Why the size cannot be had: a restriction's code; empty where it can."""
    zones: tuple[str, ...] = ()
    cores: int = 4
    family: str = ""
    cores_left: int | None = None
    """None: the region did not say."""
    spot_cores_left: int | None = None

    @property
    def has_room(self) -> bool:
        """No quota stands in the way: what does may have been raised since, so it is asked again."""
        return all(left is None or left >= self.cores for left in (self.cores_left, self.spot_cores_left))

    def blocks(self, *, spot: bool) -> str:
        """Why no machine can be made there: a restriction, or `quota`; empty where one can."""
        left = self.spot_cores_left if spot else self.cores_left
        return self.refused or ("quota" if left is not None and left < self.cores else "")


class Market:
    """Azure's offers for one subscription."""

    def __init__(self, arm: Arm, home: str, *, prices: str | None) -> None:
        """`prices` is another address of the list of retail prices."""
        self._arm = arm
        self._prices = prices
        self._home = home
        self._path = Path(home) / "azure" / f"access-{re.sub('[^A-Za-z0-9-]', '_', arm.subscription)}.json"

    def offers(self, request: OfferRequest, *, by_deallocation: bool) -> list[Offer]:
        """Every machine that would do, cheapest first. Raises InvalidRequest, PriceUnknown, QuotaError."""
        shapes = self._shapes(request)
        known: dict[str, Access] = {}
        found: list[Offer] = []
        regions = iter(dict.fromkeys(shape.region for shape in shapes))
        while not found and (batch := list(islice(regions, AT_ONCE))):
            known |= self._ask(batch, shapes[0].instance_type)
            found = [
                offer
                for shape in shapes
                if shape.region in batch and not known[shape.region].blocks(spot=shape.spot)
                for offer in _offers(shape, known[shape.region], by_deallocation=by_deallocation)
            ]
        if not found:
            raise _nothing(known.values(), shapes[0].instance_type)
        return found

    def _shapes(self, request: OfferRequest) -> list[PricedShape]:
        wanted = msgspec.structs.replace(request, regions=(), disk_gb=max(request.disk_gb, LEAST_DISK_GB))
        loader = AzureRetailPrices(self._arm.clock, endpoint=self._prices)
        shapes = shapes_of(wanted, clock=self._arm.clock, home=self._home, loader=loader)
        regions = sorted({shape.region for shape in shapes})
        unknown = sorted(set(request.regions) - set(regions))
        if unknown:
            raise InvalidRequest(
                f"Azure has no region {unknown[0]!r} with such a machine.",
                "No price is known for it there.",
                f"Choose one of: {', '.join(regions)}.",
                code="UnknownRegion",
            )
        return [shape for shape in shapes if not request.regions or shape.region in request.regions]

    # What the subscription may have

    def _ask(self, regions: list[str], size: str) -> dict[str, Access]:
        """The access to each of these regions, asked beside each other where it is not known well enough."""
        kept = self._read()
        now = self._arm.clock.now()
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="azure") as pool:
            asked = list(pool.map(lambda region: self._access(region, size, kept.get(region), now), regions))
        known = {access.region: access for access in asked}
        if known != {region: kept.get(region) for region in regions}:
            self._write({**kept, **known})
        return known

    def _access(self, region: str, size: str, kept: Access | None, now: datetime) -> Access:
        access = kept
        if access is None or access.size != size or not timedelta(0) <= now - access.sizes_at <= SIZES_FOR:
            access = self._sizes(region, size, now)
        elif access.has_room and timedelta(0) <= now - access.quota_at <= QUOTA_FOR:
            return access
        return access if access.refused else self._quota(access, now)

    def _sizes(self, region: str, size: str, now: datetime) -> Access:
        fields: dict[str, Any] = {"region": region, "size": size, "sizes_at": now, "quota_at": now}
        with self._arm.asking(f"list the sizes of {region}"):
            rows = self._arm.compute.resource_skus.list(filter=f"location eq '{region}'")
            row = next((as_json(each) for each in rows if each.name == size), None)
        if row is None:
            return Access(**fields, refused="NotOffered")
        cores = {each["name"]: each["value"] for each in row.get("capabilities") or []}.get("vCPUs", "4")
        zones = {zone for place in row.get("locationInfo") or [] for zone in place.get("zones") or []}
        refused = ""
        for restriction in row.get("restrictions") or []:
            if restriction.get("type") == "Location":
                refused = str(restriction.get("reasonCode") or "NotAvailableForSubscription")
            zones -= set((restriction.get("restrictionInfo") or {}).get("zones") or [])
        return Access(
            **fields, refused=refused, zones=tuple(sorted(zones)), cores=int(cores), family=str(row.get("family") or "")
        )

    def _quota(self, access: Access, now: datetime) -> Access:
        with self._arm.asking(f"list the quotas of {access.region}"):
            rows = [as_json(each) for each in self._arm.compute.usage.list(access.region)]
        left = {_plain(row["name"]["value"]): int(row["limit"]) - int(row["currentValue"]) for row in rows}
        here = [left[name] for name in (_plain(access.family), "cores") if name in left]
        return msgspec.structs.replace(
            access,
            quota_at=now,
            cores_left=min(here) if here else None,
            spot_cores_left=left.get("lowprioritycores"),
        )

    # Kept between commands

    def _read(self) -> dict[str, Access]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Access])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _write(self, known: dict[str, Access]) -> None:
        """Put the file in place whole. What cannot be kept is asked again."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".access-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(known))
            Path(temporary).replace(self._path)
        except OSError:
            return


def _offers(shape: PricedShape, access: Access, *, by_deallocation: bool) -> Iterator[Offer]:
    """In a region with zones one offer for each, so that what is full is a zone and not the region."""
    for zone in access.zones or (None,):
        offer = offer_of(shape, boot_s=BOOT_S, zone=zone)
        if by_deallocation:
            offer = msgspec.structs.replace(offer, one_time=(*offer.one_time, reserve(offer)))
        yield offer


def _nothing(known: Iterable[Access], size: str) -> ProviderError:
    """Why no region will do."""
    looked = list(known)
    restricted = [access.region for access in looked if access.refused]
    full = [access.region for access in looked if not access.refused]
    if full:
        return QuotaError(
            f"No quota is left for {size} in {', '.join(full)}.",
            "The subscription's limit of cores is used up, or was never raised above zero.",
            "Ask for more in the portal under Quotas > Compute, or choose other regions with --region.",
            code="QuotaExceeded",
            next_scope="provider",
        )
    return QuotaError(
        f"This subscription may not have {size} in {', '.join(restricted)}.",
        "Azure restricts the size there (SkuNotAvailable).",
        "Choose other regions with --region, or ask Azure's support for access to the size.",
        code="SkuNotAvailable",
        next_scope="provider",
    )


def _plain(name: str) -> str:
    """A family's name, however it is spelled: `Standard NCASv3_T4 Family` is `standardNCASv3_T4Family`."""
    return re.sub("[^a-z0-9]", "", name.lower())
