"""What a job took from the socket, as far as that is known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.money import usd_json

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.records import Attempt
    from providers.base import Offer

JOULES_PER_KWH = 3_600_000
# What providers/local/offers.py writes as the source of its one part.
_ASSUMED = re.compile(r"([0-9.]+) W at \$([0-9.]+) per kWh")


def energy(made: Sequence[tuple[Attempt, Offer]], now: datetime) -> dict[str, Any] | None:
    """The report's `energy`: kWh over the billed time, and its price where a tariff is known; None when nothing is.

    What the GPU measured counts before the watts that are assumed for the whole computer: `measured` says which it was.
    """
    joules, usd, counted_s = Decimal(0), Decimal(0), Decimal(0)
    tariffs: set[Decimal | None] = set()
    measured = False
    for attempt, offer in made:
        watts, tariff = _assumed(offer)
        seconds = Decimal(str(attempt.age_s(attempt.ended_at or now)))
        read = _measured_joules(attempt, seconds)
        if read is None and watts is None:
            continue
        measured = measured or read is not None
        spent = read if read is not None else (watts or 0) * seconds
        counted_s += seconds
        joules += spent
        tariffs.add(tariff)
        usd += spent / JOULES_PER_KWH * (tariff or 0)
    if not counted_s:
        return None
    tariff = tariffs.pop() if len(tariffs) == 1 else None
    return {
        "kwh": float(round(joules / JOULES_PER_KWH, 6)),
        "watts": float(round(joules / counted_s, 1)),
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


def _measured_joules(attempt: Attempt, seconds: Decimal) -> Decimal | None:
    """What the GPUs took: as they added it up, else their mean or last watts over the billed seconds."""
    for key, factor in (("energy_wh", Decimal(3600)), ("mean_watts", seconds), ("watts", seconds)):
        read = [gpu[key] for gpu in _gpus(attempt) if isinstance(gpu.get(key), (int, float))]
        if read:
            return Decimal(str(sum(read))) * factor
    return None


def gpu_readings(made: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The last readings of each GPU of the newest machine that told any, as the heartbeat holds them."""
    return next((gpus for attempt in reversed(made) if (gpus := _gpus(attempt))), [])


def _gpus(attempt: Attempt) -> list[dict[str, Any]]:
    """The heartbeat's `gpu`: one GPU, or a list of them."""
    told = (attempt.beat or {}).get("gpu") or []
    return [dict(gpu) for gpu in (told if isinstance(told, Sequence) else [told]) if isinstance(gpu, Mapping)]
