"""What a job took from the socket and how warm its GPU got, as far as that is known. Pure.

The readings are those of a heartbeat's `gpu`: one GPU, or a list of them, whoever read them. Known by their names:
`energy_wh`, `mean_watts`, `watts`, `mean_temperature_c`, `max_temperature_c`, `temperature_c`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from launcher.core.money import usd_json, usd_text

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.records import Attempt

JOULES_PER_KWH = 3_600_000
SMALL_KWH = 0.1
LARGEST_READING = 1e9
# What providers/local/offers.py writes as the source of its one part.
_ASSUMED = re.compile(r"([0-9.]+) W at \$([0-9.]+) per kWh")


class _Part(msgspec.Struct):
    source: str = ""


class _Offer(msgspec.Struct):
    parts: tuple[_Part, ...] = ()


class _Intent(msgspec.Struct):
    """Of a frozen request, what is needed here; the rest of it is passed over."""

    offer: _Offer = msgspec.field(default_factory=_Offer)


def energy(made: Sequence[Attempt], now: datetime) -> dict[str, Any] | None:
    """The `energy` of a job: kWh over the billed time, and its price where a tariff is known; None when nothing is.

    What the GPU measured counts before the watts that are assumed for the whole computer: `measured` says which it was.
    A rented machine has no tariff: its rate pays for the energy.
    """
    joules, usd, counted_s = Decimal(0), Decimal(0), Decimal(0)
    tariffs: set[Decimal | None] = set()
    measured = False
    for attempt in made:
        watts, tariff = _assumed(attempt)
        seconds = _seconds(attempt, now)
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


def temperature(made: Sequence[Attempt], now: datetime) -> dict[str, Any] | None:
    """The `temperature` of a job's GPUs in degrees Celsius: `mean_c` over the billed time, `max_c`; None when unknown.

    Of several GPUs the hottest counts.
    """
    peaks, degree_seconds, counted_s = [], 0.0, 0.0
    for attempt in made:
        gpus = _gpus(attempt)
        peaks += _read(gpus, "max_temperature_c") or _read(gpus, "temperature_c")
        means = _read(gpus, "mean_temperature_c")
        if means:
            seconds = float(_seconds(attempt, now))
            degree_seconds += max(means) * seconds
            counted_s += seconds
    if not peaks:
        return None
    return {"mean_c": round(degree_seconds / counted_s, 1) if counted_s else None, "max_c": round(max(peaks), 1)}


def energy_text(used: Mapping[str, Any]) -> str:
    """A job's energy in words: `0.412 kWh measured by the GPU, $0.07 at $0.15 per kWh`."""
    how = "measured by the GPU" if used["measured"] else "assumed for the whole computer"
    text = f"{used['kwh']:.{3 if used['kwh'] >= SMALL_KWH else 6}f} kWh {how}"
    if used["usd"] is None:
        return text
    return f"{text}, {usd_text(Decimal(used['usd']))} at {usd_text(Decimal(used['usd_per_kwh']))} per kWh"


def temperature_text(warmth: Mapping[str, Any]) -> str:
    """A job's temperatures in words: `62 C mean, 71 C peak`."""
    mean = "" if warmth["mean_c"] is None else f"{warmth['mean_c']:g} C mean, "
    return f"{mean}{warmth['max_c']:g} C peak"


def gpu_readings(made: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The last readings of each GPU of the newest machine that told any, as the heartbeat holds them."""
    return next((gpus for attempt in reversed(made) if (gpus := _gpus(attempt))), [])


def _seconds(attempt: Attempt, now: datetime) -> Decimal:
    return Decimal(str(attempt.age_s(attempt.ended_at or now)))


def _assumed(attempt: Attempt) -> tuple[Decimal | None, Decimal | None]:
    """The watts and the tariff that a local rate was computed from."""
    for part in msgspec.json.decode(attempt.intent, type=_Intent).offer.parts:
        found = _ASSUMED.fullmatch(part.source)
        if found:
            return Decimal(found[1]), Decimal(found[2])
    return None, None


def _measured_joules(attempt: Attempt, seconds: Decimal) -> Decimal | None:
    """What the GPUs took: as they added it up, else their mean or last watts over the billed seconds."""
    for key, factor in (("energy_wh", Decimal(3600)), ("mean_watts", seconds), ("watts", seconds)):
        if read := _read(_gpus(attempt), key):
            return Decimal(str(sum(read))) * factor
    return None


def _gpus(attempt: Attempt) -> list[dict[str, Any]]:
    """The heartbeat's `gpu`: one GPU, or a list of them."""
    told = (attempt.beat or {}).get("gpu") or []
    return [dict(gpu) for gpu in (told if isinstance(told, Sequence) else [told]) if isinstance(gpu, Mapping)]


def _read(gpus: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """That reading of each GPU that has it. A machine's word is not trusted to be a number."""
    values = [value for gpu in gpus if isinstance(value := gpu.get(key), (int, float)) and not isinstance(value, bool)]
    return [float(value) for value in values if abs(value) < LARGEST_READING]
