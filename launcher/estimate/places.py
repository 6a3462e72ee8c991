"""Where one can train, and the hours, dollars and energy it takes there, cheapest first."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.money import CENT, usd_text
from launcher.estimate.cards import CPU, RTX_2050
from launcher.estimate.pace import Pace, assumed_pace
from launcher.estimate.vram import fit, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.estimate.cards import Card
    from launcher.estimate.pace import Measured
    from launcher.estimate.vram import Fit, Model
    from providers.prices.table import PricedShape

WATTS_PER_KILOWATT = 1000
USD_PER_KWH = Decimal("0.15")
"""The tariff that the provider `local` starts from: between the US and the European average."""
COLAB_USD_PER_MONTH = (Decimal(10), Decimal(50))
"""Colab Pro (9.99) and Pro+ (49.99), TechCrunch of 2022-09-29; unconfirmed since."""

_CLOUDS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP"}
_ACCELERATED = {"gcp": " + {gpu}"}  # where the machine's name does not hold its card


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One way to train. Only those that are `ranked` compare with each other."""

    place: str
    provider: str
    shape: str
    region: str
    spot: bool
    card: str
    """The card whose assumptions were used."""
    hours_low: Decimal
    hours_high: Decimal
    usd_low: Decimal
    usd_high: Decimal
    energy_kwh_low: Decimal
    energy_kwh_high: Decimal
    note: str
    ranked: bool = True
    fits: bool = True
    usd_per_hour: Decimal | None = None
    """As expected: what `usd_low` and `usd_high` are made of."""
    worst_usd_per_hour: Decimal | None = None
    """What a cap is computed with."""
    once_usd: Decimal = Decimal(0)
    """What does not grow with time, at most; not in `usd_low` and `usd_high`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is to be trained, and how."""

    model: Model
    tokens: int
    tokens_per_step: int
    precision: str

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return -(-self.tokens // self.tokens_per_step)

    def fit(self, card: Card) -> Fit:
        """Which batches fit that card."""
        return fit(card, memory(self.model, self.precision))


@dataclass(frozen=True, slots=True)
class On:
    """The training on one card: its hours there, and the energy."""

    card: Card
    fit: Fit
    pace: Pace
    hours: tuple[Decimal, Decimal]
    measured: Measured | None = None

    @property
    def energy_kwh(self) -> tuple[Decimal, Decimal]:
        """The least and the most, in kWh."""
        watts = (self.card.watts_low, self.card.watts_high)
        low, high = (hours * each / WATTS_PER_KILOWATT for hours, each in zip(self.hours, watts, strict=True))
        return low, high

    @property
    def remark(self) -> str:
        """What to know about its pace and its memory, if anything."""
        if self.measured:
            return f"at the pace of job {self.measured.job}"
        if not self.fit.fits:
            return f"does not fit the memory of the {self.card.name}"
        return "fits only with checkpointing of activations" if self.fit.needs_checkpointing else ""


def run_on(card: Card, training: Training, measured: Measured | None = None) -> On:
    """That training on that card, at a measured pace where there is one."""
    fitting = training.fit(card)
    pace = (
        measured.pace
        if measured
        else assumed_pace(card.peaks[training.precision], training.model.params, recomputes=fitting.needs_checkpointing)
    )
    return On(card, fitting, pace, pace.hours(training.tokens), measured)


def places(
    training: Training, card: Card, shapes: Sequence[PricedShape], measured: Measured | None = None
) -> list[Place]:
    """Every place: cheapest first by `usd_high`, then those the model does not fit, then those that are not ranked.

    `shapes` are the machines with `card`, cheapest first: of each cloud, the cheapest on demand and the cheapest spot
    are taken. A measured pace counts for the machines that have the card it was measured on.
    """
    rented = measured if measured and is_of(measured, shapes) else None
    own = measured if measured and measured.provider == "local" else None
    there = run_on(card, training, rented)
    cheapest: dict[tuple[str, bool], PricedShape] = {}
    for shape in shapes:
        cheapest.setdefault((shape.provider, shape.spot), shape)
    found = [_cloud(shape, there) for shape in cheapest.values()]
    found += [_own(run_on(RTX_2050, training, own), own), _colab(there), _cpu(run_on(CPU, training))]
    return sorted(found, key=lambda each: (not each.ranked, each.ranked and not each.fits, each.usd_high))


def is_of(measured: Measured, shapes: Sequence[PricedShape]) -> bool:
    """Whether a pace was measured on one of these machines."""
    return (measured.provider, measured.instance_type) in {(s.provider, s.instance_type) for s in shapes}


def _cloud(shape: PricedShape, there: On) -> Place:
    rate = shape.expected_usd_per_hour
    once_usd = sum((cost.usd for cost in shape.one_time), Decimal(0))
    notes = [there.remark, f"a cap counts {usd_text(shape.rate_usd_per_hour)} an hour"]
    if shape.spot:
        notes.append("the price moves, and the machine can be taken away")
    if once_usd >= CENT:
        notes.append(f"up to {usd_text(once_usd)} once comes on top")
    plain = shape.instance_type.removeprefix("Standard_") + _ACCELERATED.get(shape.provider, "").format(gpu=shape.gpu)
    return _place(
        there,
        (there.hours[0] * rate, there.hours[1] * rate),
        place=f"{_CLOUDS.get(shape.provider, shape.provider)} {plain}",
        provider=shape.provider,
        shape=shape.instance_type,
        region=shape.region,
        spot=shape.spot,
        usd_per_hour=rate,
        worst_usd_per_hour=shape.rate_usd_per_hour,
        once_usd=once_usd,
        fits=there.fit.fits,
        note=_joined(notes),
    )


def _own(here: On, own: Measured | None) -> Place:
    usd_per_hour = Decimal(here.card.watts_high) / WATTS_PER_KILOWATT * USD_PER_KWH
    return _place(
        here,
        _tariff(here),
        place="this computer" if own else f"own computer, {here.card.name}",
        provider="local",
        shape="this computer" if own else here.card.name,
        usd_per_hour=usd_per_hour,
        worst_usd_per_hour=usd_per_hour,
        fits=here.fit.fits or own is not None,
        note=_joined([here.remark, f"energy alone, at ${USD_PER_KWH} per kWh"]),
    )


def _cpu(here: On) -> Place:
    return _place(
        here,
        _tariff(here),
        place="CPU, 8 cores",
        provider="local",
        shape="CPU",
        ranked=False,
        note="for trials only: a few steps, to see that the training runs; energy alone",
    )


def _colab(there: On) -> Place:
    limits = (
        "10 to 50 USD a month, not unlimited: it buys units that run out, a session ends after a day at most, and "
        "which GPU one gets is not promised; so it is not ranked with the others"
    )
    return _place(
        there,
        COLAB_USD_PER_MONTH,
        place="Google Colab Pro",
        provider="colab",
        shape=there.card.name,
        region="any",
        ranked=False,
        fits=there.fit.fits,
        note=_joined([there.remark, limits]),
    )


def _place(on: On, usd: tuple[Decimal, Decimal], *, region: str = "here", spot: bool = False, **rest: Any) -> Place:
    return Place(
        region=region,
        spot=spot,
        card=on.card.name,
        hours_low=on.hours[0],
        hours_high=on.hours[1],
        usd_low=usd[0],
        usd_high=usd[1],
        energy_kwh_low=on.energy_kwh[0],
        energy_kwh_high=on.energy_kwh[1],
        **rest,
    )


def _tariff(here: On) -> tuple[Decimal, Decimal]:
    low, high = (kwh * USD_PER_KWH for kwh in here.energy_kwh)
    return low, high


def _joined(notes: Sequence[str]) -> str:
    return "; ".join(note for note in notes if note)
