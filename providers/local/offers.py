"""What this computer costs while a job runs on it: electricity, or a price the user sets."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers.base import InvalidRequest, Offer, OfferRequest, PriceUnknown, RatePart

if TYPE_CHECKING:
    from collections.abc import Mapping

# A desktop or laptop under training load, and a price of electricity between the US and the European average.
DEFAULT_WATTS = Decimal(150)
DEFAULT_USD_PER_KWH = Decimal("0.15")
WATTS_PER_KILOWATT = Decimal(1000)

REGION = "here"
INSTANCE_TYPE = "this computer"
# Seconds from the create call until the training runs: starting two Python processes on a busy laptop.
BOOT_S = 1.0


def rate_part(settings: Mapping[str, Any]) -> RatePart:
    """The one line of this computer's bill, from `price_per_hour`, or from `watts` and `usd_per_kwh`.

    Raises PriceUnknown for a rate of zero: a cap cannot be kept with it.
    """
    price = settings.get("price_per_hour")
    if price is not None:
        usd_per_hour, name, source = Decimal(str(price)), "price", "local.price_per_hour"
    else:
        watts = Decimal(str(settings.get("watts") or DEFAULT_WATTS))
        tariff = Decimal(str(settings.get("usd_per_kwh") or DEFAULT_USD_PER_KWH))
        usd_per_hour, name = watts * tariff / WATTS_PER_KILOWATT, "electricity"
        source = f"{watts:f} W at ${tariff:f} per kWh"
    if usd_per_hour <= 0:
        raise PriceUnknown(
            "This computer has no price.",
            "A cap in dollars can only be kept with a rate above zero.",
            "Set local.price_per_hour, or local.watts and local.usd_per_kwh, above zero.",
        )
    return RatePart(name=name, worst_usd_per_hour=usd_per_hour, expected_usd_per_hour=usd_per_hour, source=source)


def offers(request: OfferRequest) -> list[Offer]:
    """The one offer there is. Raises InvalidRequest for a region, PriceUnknown for a rate of zero."""
    if request.regions and REGION not in request.regions:
        raise InvalidRequest(
            f"This computer has no region {request.regions[0]!r}.",
            f"The provider `local` has one region, {REGION!r}.",
            "Leave --region out, or choose a cloud with --provider.",
        )
    return [
        Offer(
            provider="local",
            region=REGION,
            instance_type=INSTANCE_TYPE,
            parts=(rate_part(request.settings),),
            boot_s=BOOT_S,
            price_as_of="your own figures",
        )
    ]
