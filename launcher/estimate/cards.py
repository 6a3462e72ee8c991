"""The processors that an estimate knows, each with one set of assumptions for every model and every run.

Utilisation is the share of the peak that a training uses, counted with 6 FLOPs for each parameter and token: pauses to
load data, to evaluate and to save are inside it. It is a range, because a plain training script and a tuned one differ
by a factor of four on the same card.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The arithmetic of a card in one precision: FLOP/s at its best, and which share of it a training uses."""

    flops_per_s: int
    source: str
    utilisation_low: Decimal
    utilisation_high: Decimal
    utilisation_source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One processor. `usable_gib` is None where memory is the computer's own, and no limit of a card."""

    name: str
    peaks: Mapping[str, Peak]
    memory_gb: int | None
    usable_gib: Decimal | None
    memory_source: str
    watts_low: int
    watts_high: int
    watts_source: str


# 12,000 to 20,000 tokens/s with a GPT-2 of 163 M parameters are 12 to 20 TFLOP/s; the card has 71 in fp16 with sums in
# fp32 (NVIDIA GA102 whitepaper, appendix A), 36 in fp32, and 13 bytes of bandwidth for each thousand fp16 FLOP.
_RTX_3090_RUN = "measured on an RTX 3090 (G. Thomas, Writing an LLM from scratch, part 28)"

T4 = Card(
    name="T4",
    peaks={
        "fp16": Peak(
            flops_per_s=65 * 10**12,
            source="NVIDIA T4 datasheet: 65 TFLOPS mixed precision",
            utilisation_low=Decimal("0.035"),
            utilisation_high=Decimal("0.14"),
            # A T4 has 4.9 bytes for each thousand FLOP, 37 % of an RTX 3090's: 6 to 10 %. Plain scripts use less
            # (there is no flash attention on Turing, and 70 W hold the clock down), tuned ones more.
            utilisation_source=(
                f"16 to 28 % {_RTX_3090_RUN}, scaled to the T4's memory bandwidth, and widened for plain and for tuned "
                "scripts; unconfirmed"
            ),
        ),
        "fp32": Peak(
            flops_per_s=81 * 10**11,
            source="NVIDIA T4 datasheet: 8.1 TFLOPS single precision",
            utilisation_low=Decimal("0.25"),
            utilisation_high=Decimal("0.55"),
            utilisation_source=(
                "one source: 7,400 tokens/s with 124 M parameters in fp32 on two T4 (ducto489.github.io, Using TPU to "
                "speedup and recreate GPT-2), which is 34 %; the range around it is unconfirmed"
            ),
        ),
    },
    memory_gb=16,
    usable_gib=Decimal(15),
    memory_source="NVIDIA T4 datasheet: 16 GB, not 12; nvidia-smi shows 15,360 MiB, because ECC takes a sixteenth",
    watts_low=50,
    watts_high=70,
    watts_source="NVIDIA T4 datasheet: 70 W at most; the low end is unconfirmed. The card alone, paid by the cloud",
)

# 2,048 CUDA cores at 1,477 MHz, two operations each. Training adds up in fp32, where a GeForce card of this generation
# has twice its fp32 rate in fp16 (NVIDIA Ampere GA102 whitepaper, appendix A).
_RTX_2050_FP32 = 605 * 10**10

RTX_2050 = Card(
    name="RTX 2050",
    peaks={
        "fp16": Peak(
            flops_per_s=2 * _RTX_2050_FP32,
            source="2,048 cores at 1,477 MHz; fp16 with fp32 sums at twice the fp32 rate (NVIDIA GA102 whitepaper)",
            utilisation_low=Decimal("0.11"),
            utilisation_high=Decimal("0.20"),
            # It has 9.3 bytes for each thousand FLOP, 70 % of an RTX 3090's.
            utilisation_source=f"16 to 28 % {_RTX_3090_RUN}, scaled to its memory bandwidth; unconfirmed",
        ),
        "fp32": Peak(
            flops_per_s=_RTX_2050_FP32,
            source="2,048 cores at 1,477 MHz, two operations each",
            utilisation_low=Decimal("0.20"),
            utilisation_high=Decimal("0.35"),
            utilisation_source=f"33 % {_RTX_3090_RUN}, and a range below it; unconfirmed",
        ),
    },
    memory_gb=4,
    usable_gib=Decimal("3.6"),
    memory_source="4 GB; a tenth is held by the display and the driver (unconfirmed)",
    watts_low=100,
    watts_high=150,
    watts_source="the whole computer while it trains: the figure of a training course",
)

_CPU_PEAK = Peak(
    flops_per_s=768 * 10**9,
    source="8 cores at 3 GHz, 32 fp32 operations a cycle (AVX2, two FMA units)",
    utilisation_low=Decimal("0.30"),
    utilisation_high=Decimal("0.60"),
    utilisation_source="unconfirmed: what threaded matrix products reach, less the rest of the training",
)

CPU = Card(
    name="CPU",
    # Half precision makes no CPU faster that lacks instructions for it: both are counted as fp32.
    peaks=dict.fromkeys(PRECISIONS, _CPU_PEAK),
    memory_gb=None,
    usable_gib=None,
    memory_source="the computer's own memory",
    watts_low=100,
    watts_high=150,
    watts_source="the whole computer while it trains, as for its GPU (unconfirmed)",
)

CLOUD_CARDS = {card.name: card for card in (T4,)}
"""The cards that can be rented, by the name that the price table uses."""
