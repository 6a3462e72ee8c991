"""What machines cost now: live where the cloud can be asked, else the dated table, which says so in each part."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from providers.base import Offer, OfferRequest, PriceUnknown, ProviderError
from providers.prices.live import MAX_AGE_S, CachedLoader
from providers.prices.table import PricedShape, load_table

if TYPE_CHECKING:
    from launcher.core.clock import Clock
    from providers.prices.live import PriceLoader

CACHE_FOLDER = "prices"
"""Below the state folder."""

log = logging.getLogger(__name__)


def shapes_of(
    request: OfferRequest, *, clock: Clock, home: str, loader: PriceLoader, max_age_s: float = MAX_AGE_S
) -> list[PricedShape]:
    """Every machine of the loader's cloud that would do, with its whole rate, cheapest expected rate first.

    On demand alone unless the request allows spot; in the regions of the request, or in all. Without an answer of the
    cloud the table is used, with its margin. Raises PriceUnknown for a GPU that has no price.
    """
    cached = CachedLoader(
        loader, Path(home) / CACHE_FOLDER, clock, **({} if max_age_s is None else {"max_age_s": max_age_s})
    )
    table = load_table()
    gpu = request.gpu or ""
    if gpu not in table.gpus():
        raise PriceUnknown(
            f"There is no price for a GPU of the kind {gpu or 'none'!r}.",
            "Without a price there is no cap.",
            f"Choose one of: {', '.join(table.gpus())} (resources.gpu in the job file).",
        )
    try:
        table = table.with_live(cached.load(gpu))
    except ProviderError as error:
        log.warning("Live prices of %s could not be had, so the table is used: %s", loader.provider, error)
    return [
        shape
        for shape in table.shapes(gpu, disk_gb=request.disk_gb)
        if shape.provider == loader.provider
        and (request.spot or not shape.spot)
        and (not request.regions or shape.region in request.regions)
    ]


def offer_of(shape: PricedShape, *, boot_s: float, zone: str | None = None) -> Offer:
    """A priced machine as an offer, in the zone given or its own. `boot_s`: seconds until training usually starts."""
    return Offer(
        provider=shape.provider,
        region=shape.region,
        zone=zone or shape.zone,
        instance_type=shape.instance_type,
        spot=shape.spot,
        parts=shape.parts,
        one_time=shape.one_time,
        egress_usd_per_gb=shape.egress_usd_per_gb,
        boot_s=boot_s,
        price_as_of=f"{'live' if shape.live else 'table'}, {shape.as_of:%Y-%m-%d %H:%M} UTC",
    )
