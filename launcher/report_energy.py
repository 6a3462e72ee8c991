"""What a job took from the socket, as far as that is known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.money import SECONDS_PER_HOUR, usd_json

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.records import Attempt
    from providers.base import Offer

WATTS_PER_KILOWATT = 1000
# What providers/local/offers.py writes as the source of its one part.
_ASSUMED = re.compile(r"([0-9.]+) W at \$([0-9.]+) per kWh")


def energy(made: Sequence[tuple[Attempt, Offer]], now: datetime) -> dict[str, Any] | None:
    """The report's `energy`: kWh over the billed time, and its price where a tariff is known; None when nothing is.

    Watts that the GPU reported count before those assumed for the whole computer: `measured` says which it was.
    """
    watt_seconds, usd, counted_s = Decimal(0), Decimal(0), Decimal(0)
    tariffs: set[Decimal] = set()
    measured = False
    for attempt, offer in made:
        assumed, tariff = _assumed(offer)
        read = _watts(attempt)
        measured = measured or read is not None
        watts = assumed if read is None else read
        if watts is None:
            continue
        seconds = Decimal(str(attempt.age_s(attempt.ended_at or now)))
        counted_s += seconds
        watt_seconds += watts * seconds
        if tariff is not None:
            tariffs.add(tariff)
            usd += watts * seconds * tariff / SECONDS_PER_HOUR / WATTS_PER_KILOWATT
    if not counted_s:
        return None
    tariff = tariffs.pop() if len(tariffs) == 1 else None
    return {
        "kwh": float(round(watt_seconds / SECONDS_PER_HOUR / WATTS_PER_KILOWATT, 6)),
        "watts": float(round(watt_seconds / counted_s, 1)),
        "measured": measured,
        "usd_per_kwh": None if tariff is None else usd_json(tariff),
        "usd": None if tariff is None else usd_json(usd),
    }


def _assumed(offer: Offer) -> tuple[Decimal | None, Decimal | None]:
    """The watts and the tariff that a local rate was computed from."""
    for part in offer.parts:
        found = _ASSUMED.fullmatch(part.source)
        if found:
            return Decimal(found[1]), Decimal(found[2])
    return None, None


def _watts(attempt: Attempt) -> Decimal | None:
    """What the GPUs drew together at the last reading."""
    read = [gpu["watts"] for gpu in _gpus(attempt) if isinstance(gpu.get("watts"), (int, float))]
    return Decimal(str(sum(read))) if read else None


def gpu_readings(made: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The last readings of each GPU of the newest machine that told any, as the heartbeat holds them."""
    return next((gpus for attempt in reversed(made) if (gpus := _gpus(attempt))), [])


def _gpus(attempt: Attempt) -> list[dict[str, Any]]:
    """The heartbeat's `gpu`: one GPU, or a list of them."""
    told = (attempt.beat or {}).get("gpu") or []
    return [dict(gpu) for gpu in (told if isinstance(told, Sequence) else [told]) if isinstance(gpu, Mapping)]
