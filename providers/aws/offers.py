"""Every machine that would do, priced: for each region its zones, the account's limit there, and where it attaches.

One round of questions, all at one time: the prices, and for each region its zones, its limit, its subnets, its groups.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.aws import places, quota
from providers.aws.memory import Memory
from providers.aws.prices import TYPES, AwsPrices
from providers.base import InvalidRequest, PriceUnknown, ProviderError
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
"""How many regions are asked when the user names none: the cheapest ones. Each costs up to five calls."""
BOOT_S = 180.0
"""From the create call until training usually starts. No vendor figure: an upper end, until it is measured."""

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """The offers, and where in each of their regions a machine attaches."""

    offers: list[Offer]
    places: dict[str, Place]


class Survey(NamedTuple):
    """What a region has: zones with the machine and a subnet, its place, and what may be had (spot or not)."""

    zones: list[str]
    place: Place
    kinds: frozenset[bool]


def find(client: Client, request: OfferRequest, *, clock: Clock, home: str) -> Found:
    """Ask. Raises InvalidRequest, PriceUnknown or QuotaError, the first region's, when none is left."""
    regions = _regions(client, request)
    loader = AwsPrices(clock, client, spot=request.spot)
    region_of = _Regions(client, request, Memory(home, client.account_id, clock))
    asks: list[Callable[[], Any]] = [lambda: shapes_of(request, clock=clock, home=home, loader=loader)]
    for region in regions:
        asks += region_of.questions(region)
    prices, *answers = client.at_once(_answer, asks)
    region_of.remember()
    if isinstance(prices, ProviderError):
        raise prices
    each = len(answers) // len(regions) if regions else 0
    offers: list[Offer] = []
    found: dict[str, Place] = {}
    errors: list[ProviderError] = []
    for index, region in enumerate(regions):
        try:
            survey = region_of.survey(region, answers[index * each : (index + 1) * each])
        except ProviderError as error:
            errors.append(error)
            log.warning("%s is left out: %s", region, error)
            continue
        shapes = [shape for shape in prices if shape.region == region and shape.spot in survey.kinds]
        offers += _in_zones(shapes, survey.zones)
        found[region] = survey.place
    if not offers and errors:
        raise errors[0]
    return Found(offers, found)


def _regions(client: Client, request: OfferRequest) -> list[str]:
    """The regions to ask: the user's, or the cheapest by the table. Raises InvalidRequest."""
    if request.gpu not in TYPES:
        raise PriceUnknown(
            f"AWS's machine for a GPU of the kind {request.gpu or 'none'!r} is not known.",
            "Without a price there is no cap.",
            f"Choose one of: {', '.join(TYPES)} (resources.gpu in the job file).",
            next_scope="provider",
        )
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


class _Regions:
    """What is asked about each region, and what the answers mean."""

    def __init__(self, client: Client, request: OfferRequest, memory: Memory) -> None:
        self._client = client
        self._type = TYPES[request.gpu or ""]
        self._image = request.settings.get("image")
        self._kinds = (False, True) if request.spot else (False,)
        self._memory = memory
        self._fresh: dict[str, list[str]] = {}

    def questions(self, region: str) -> list[Callable[[], Any]]:
        """All of them can be asked at one time."""
        client = self._client
        return [
            lambda: places.default_subnets(client, region),
            lambda: places.default_groups(client, region),
            lambda: places.image_in(client, region, self._image),
            lambda: self._zones(region),
            *(partial(self._limit, region, quota.code_of(spot=spot)) for spot in self._kinds),
        ]

    def survey(self, region: str, answers: list[Any]) -> Survey:
        """The answers, put together. Raises what speaks against the region."""
        for answer in answers:
            if isinstance(answer, ProviderError):
                raise answer
        subnets, groups, image, zones, *limits = answers
        place = places.make_place(region, subnets, groups, image)
        refused = {
            spot: quota.refusal(region, self._type, spot=spot, limit=limit)
            for spot, limit in zip(self._kinds, limits, strict=True)
            if limit is not None and limit < quota.VCPUS[self._type]
        }
        if len(refused) == len(self._kinds):
            raise refused[self._kinds[-1]]
        return Survey(sorted(set(zones) & set(place.subnets)), place, frozenset(self._kinds) - set(refused))

    def remember(self) -> None:
        """Keep the answers that let a launch go on."""
        if self._fresh:
            self._memory.keep(self._fresh)

    def _zones(self, region: str) -> list[str]:
        question = f"zones {region} {self._type}"
        kept = self._memory.get(question)
        if kept is None:
            kept = sorted(places.zones_with(self._client, region, self._type))
            self._fresh |= {question: kept} if kept else {}
        return kept

    def _limit(self, region: str, code: str) -> Decimal | None:
        question = f"quota {region} {code}"
        kept = self._memory.get(question)
        if kept is not None:
            return Decimal(kept[0])
        limit = quota.limit_vcpus(self._client, region, code)
        if limit is not None and limit >= quota.VCPUS[self._type]:
            self._fresh[question] = [str(limit)]
        return limit


def _in_zones(shapes: list[PricedShape], zones: list[str]) -> list[Offer]:
    """Each shape in each zone that has it: on demand there is one price for all zones of a region."""
    return [
        offer_of(shape, boot_s=BOOT_S, zone=zone) for shape in shapes for zone in zones if shape.zone in (None, zone)
    ]
