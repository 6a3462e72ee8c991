"""Every machine that would do, priced: for each region its zones, the account's limit there, and where it attaches.

One round of questions, all at one time: the prices, and for each region its zones, its limit, its subnets, its groups.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.aws import places, quota
from providers.aws.prices import TYPES, AwsPrices
from providers.base import InvalidRequest, ProviderError
from providers.prices.market import offer_of, shapes_of
from providers.prices.table import load_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock
    from providers.aws.client import Client
    from providers.aws.requests import Place
    from providers.base import Offer, OfferRequest
    from providers.prices.table import PricedShape

MOST_REGIONS = 6
"""How many regions are asked when the user names none: the cheapest ones. Each costs four calls."""
BOOT_S = 180.0
"""From the create call until training usually starts. No vendor figure: an upper end, until it is measured."""

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """The offers, and where in each of their regions a machine attaches."""

    offers: list[Offer]
    places: dict[str, Place]


def find(client: Client, request: OfferRequest, *, clock: Clock, home: str) -> Found:
    """Ask. Raises InvalidRequest, PriceUnknown or QuotaError, the first region's, when none is left."""
    loader = AwsPrices(clock, client, spot=request.spot)
    regions = _regions(client, request)
    asked = [_questions(client, region, request) for region in regions]
    prices, *answers = client.at_once(
        _answer,
        [
            lambda: shapes_of(request, clock=clock, home=home, loader=loader),
            *(question for questions in asked for question in questions),
        ],
    )
    if isinstance(prices, ProviderError):
        raise prices
    offers: list[Offer] = []
    found: dict[str, Place] = {}
    errors: list[ProviderError] = []
    for region, questions in zip(regions, asked, strict=True):
        here, answers = answers[: len(questions)], answers[len(questions) :]
        try:
            zones, place = _survey(region, request, here)
        except ProviderError as error:
            errors.append(error)
            log.warning("%s is left out: %s", region, error)
            continue
        offers += _in_zones([shape for shape in prices if shape.region == region], zones)
        found[region] = place
    if not offers and errors:
        raise errors[0]
    return Found(offers, found)


def _regions(client: Client, request: OfferRequest) -> list[str]:
    """The regions to ask: the user's, or the cheapest by the table. Raises InvalidRequest."""
    shapes = [shape for shape in load_table().shapes(request.gpu or "") if shape.provider == "aws"]
    known = list(dict.fromkeys(shape.region for shape in shapes if request.spot or not shape.spot))
    able = [region for region in known if region in client.regions]
    for region in request.regions:
        if region not in able:
            raise InvalidRequest(
                f"AWS has no region {region!r} with this machine, or the account has not enabled it.",
                f"Regions that can be used: {', '.join(sorted(able))}.",
                "Choose one of them with --region, or enable the region in the account's settings.",
                code="UnknownRegion",
            )
    return list(request.regions) or able[:MOST_REGIONS]


def _answer(question: Callable[[], Any]) -> Any:
    """An error is an answer too: one region never fails the others."""
    try:
        return question()
    except ProviderError as error:
        return error


def _questions(client: Client, region: str, request: OfferRequest) -> list[Callable[[], Any]]:
    """What is asked about a region."""
    return [
        lambda: places.zones_with(client, region, TYPES[request.gpu or ""]),
        lambda: quota.limit_vcpus(client, region, quota.code_of(spot=request.spot)),
        lambda: places.default_subnets(client, region),
        lambda: places.default_groups(client, region),
        lambda: places.image_in(client, region, request.settings.get("image")),
    ]


def _survey(region: str, request: OfferRequest, answers: list[Any]) -> tuple[list[str], Place]:
    """The zones of a region where a machine can be attached, and the place. Raises what speaks against the region."""
    for answer in answers:
        if isinstance(answer, ProviderError):
            raise answer
    zones, limit, subnets, groups, image = answers
    instance_type = TYPES[request.gpu or ""]
    if limit is not None and limit < quota.VCPUS[instance_type]:
        raise quota.refusal(region, instance_type, spot=request.spot, limit=limit)
    place = places.make_place(region, subnets, groups, image)
    return sorted(zones & set(place.subnets)), place


def _in_zones(shapes: list[PricedShape], zones: list[str]) -> list[Offer]:
    """Each shape in each zone that has it: on demand there is one price for all zones of a region."""
    return [
        offer_of(shape, boot_s=BOOT_S, zone=zone) for shape in shapes for zone in zones if shape.zone in (None, zone)
    ]
