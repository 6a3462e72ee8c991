"""Offers of the simulated cloud: its catalogue, with each part of the hourly bill as a line of its own."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from providers.base import InvalidRequest, Offer, OfferRequest, RatePart
from providers.simulated.catalogue import AS_OF, Item
from providers.simulated.cloud import SimulatedCloud

GPUS = ("T4",)
# The bid: a quarter above today's spot price, and never above on demand, which is always to be had for its price.
_BID_SHARE = Decimal("1.25")


def offers(cloud: SimulatedCloud, request: OfferRequest) -> list[Offer]:
    """Every machine that would do: spot only if spot is asked for. Raises InvalidRequest for what no item can be."""
    if request.gpu is not None and request.gpu not in GPUS:
        raise InvalidRequest(
            f"There is no GPU {request.gpu!r}.", "This cloud does not sell it.", f"Choose one of: {', '.join(GPUS)}."
        )
    regions = {item.region for item in cloud.shape.items}
    unknown = sorted(set(request.regions) - regions)
    if unknown:
        raise InvalidRequest(
            f"There is no region {unknown[0]!r}.",
            "This cloud does not have it.",
            f"Choose one of: {', '.join(sorted(regions))}.",
        )
    return [
        offer
        for item in cloud.shape.items
        if not request.regions or item.region in request.regions
        for offer in _of_item(cloud, item, request)
    ]


def _of_item(cloud: SimulatedCloud, item: Item, request: OfferRequest) -> Iterator[Offer]:
    shape = cloud.shape
    if request.spot and item.spot is None:
        return
    for zone in item.zones:
        rest = _around(item, request)
        yield Offer(
            provider=cloud.name,
            region=item.region,
            zone=zone,
            instance_type=item.instance_type,
            spot=request.spot,
            parts=(_compute(cloud, item, zone, spot=request.spot), *rest),
            one_time=shape.one_time,
            egress_usd_per_gb=item.egress_usd_per_gb,
            boot_s=sum((*shape.pending_s, *shape.boot_s)) / 2,
            price_as_of=AS_OF,
        )


def _compute(cloud: SimulatedCloud, item: Item, zone: str | None, *, spot: bool) -> RatePart:
    expected = worst = item.on_demand
    if spot:
        expected = cloud.market(item, zone).usd_per_hour(cloud.now_s())
        worst = min(expected * _BID_SHARE, item.on_demand) if cloud.shape.takes_bid else item.on_demand
    return RatePart(name="compute", worst_usd_per_hour=worst, expected_usd_per_hour=expected, source=item.source)


def _around(item: Item, request: OfferRequest) -> Iterator[RatePart]:
    """Disk and address, where they cost anything."""
    prices = (
        ("disk", item.disks.usd_per_hour(request.disk_gb), item.disks.source),
        ("ipv4", item.ipv4_spot if request.spot else item.ipv4, item.source),
    )
    for name, usd, source in prices:
        if usd:
            yield RatePart(name=name, worst_usd_per_hour=usd, expected_usd_per_hour=usd, source=source, standing=True)
