"""Every number that an estimate leans on, with its unit and where it is from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from launcher.core.money import usd_json
from launcher.estimate import pace, storage, vram
from launcher.estimate.cards import CPU, RTX_2050
from launcher.estimate.counts import number
from launcher.estimate.places import COLAB_USD_PER_MONTH, USD_PER_KWH, is_of
from providers.prices.table import DISK_GB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from launcher.estimate.cards import Card
    from launcher.estimate.pace import Measured
    from launcher.estimate.places import Place, Training
    from providers.prices.table import PricedShape


class Assumption(NamedTuple):
    """One number. Money is text, everything else a number."""

    name: str
    value: str | float
    unit: str
    source: str


def assumptions(
    training: Training,
    card: Card,
    places: Sequence[Place],
    shapes: Sequence[PricedShape],
    measured: Measured | None,
) -> list[Assumption]:
    """All that went into an estimate: the model, the cards, the rates, energy, storage."""
    found = [*_model(training)]
    if measured:
        found += _measured(measured)
    is_rented, is_own = (
        measured is not None and is_of(measured, shapes),
        measured is not None and not is_of(measured, shapes),
    )
    for each, is_measured in ((card, is_rented), (RTX_2050, is_own), (CPU, False)):
        found += _card(each, training.precision, is_measured=is_measured)
    return [*found, *_rates(places, shapes), *_money(), *_memory(), *_storage()]


def _model(training: Training) -> Iterable[Assumption]:
    model, like = training.model, "proportions of GPT-2 of 124 M, chosen by the number of parameters"
    yield Assumption(
        "flops per parameter and token",
        pace.FLOPS_PER_PARAM_AND_TOKEN,
        "FLOP",
        "Kaplan et al., Scaling Laws for Neural Language Models, 2020",
    )
    yield Assumption("layers", model.layers, "layers", like)
    yield Assumption("width", model.width, "values", like)
    yield Assumption("heads", model.heads, "heads", like)
    yield Assumption("vocabulary", vram.VOCABULARY, "tokens", "GPT-2's tokeniser")
    yield Assumption("context", model.context_tokens, "tokens", "--context")
    yield Assumption("step", training.tokens_per_step, "tokens", "--tokens-per-step; 100 M tokens in 5,000 steps")
    yield Assumption(
        "start and end of the machine", 0, "hours", "not counted: boot, image and data take minutes, and are billed"
    )


def _measured(measured: Measured) -> Iterable[Assumption]:
    for end, rate in (("low", measured.pace.low), ("high", measured.pace.high)):
        yield Assumption(
            f"measured pace, {end}", number(rate), "tokens/s", f"{measured.source}; holds for the same model"
        )


def _card(card: Card, precision: str, *, is_measured: bool) -> Iterable[Assumption]:
    peak, name = card.peaks[precision], card.name
    if not is_measured:
        yield Assumption(f"{name} peak, {precision}", peak.flops_per_s, "FLOP/s", peak.source)
        for end, share in (("low", peak.utilisation_low), ("high", peak.utilisation_high)):
            yield Assumption(
                f"{name} utilisation, {precision}, {end}", float(share), "of the peak", peak.utilisation_source
            )
    if card.memory_gb is not None and card.usable_gib is not None:
        yield Assumption(f"{name} memory", card.memory_gb, "GB", card.memory_source)
        yield Assumption(f"{name} memory, usable", float(card.usable_gib), "GiB", card.memory_source)
    for end, watts in (("low", card.watts_low), ("high", card.watts_high)):
        yield Assumption(f"{name} power, {end}", watts, "W", card.watts_source)


def _rates(places: Sequence[Place], shapes: Sequence[PricedShape]) -> Iterable[Assumption]:
    by_place: dict[tuple[str, str, bool], PricedShape] = {}
    for shape in shapes:
        by_place.setdefault((shape.provider, shape.region, shape.spot), shape)
    for place in places:
        key = (place.provider, place.region, place.spot)
        if key not in by_place:
            continue
        shape = by_place[key]
        way = "spot" if shape.spot else "on demand"
        for part in shape.parts:
            yield Assumption(
                f"{place.place}, {shape.region}, {way}: {part.name}",
                usd_json(part.expected_usd_per_hour),
                "USD/h",
                part.source.replace(", plus 10 %", "", 1),  # that margin is in the worst price, not in this one
            )


def _money() -> Iterable[Assumption]:
    yield Assumption("disk of a rented machine", DISK_GB, "GB", "the default of resources.disk_gb in a job file")
    yield Assumption("electricity", usd_json(USD_PER_KWH), "USD/kWh", "between the US and the European average")
    for end, usd in zip(("low", "high"), COLAB_USD_PER_MONTH, strict=True):
        yield Assumption(
            f"Colab Pro, {end}",
            usd_json(usd),
            "USD/month",
            "Pro 9.99, Pro+ 49.99: TechCrunch, 2022-09-29; unconfirmed since",
        )


def _memory() -> Iterable[Assumption]:
    korthikanti = "Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, 2022, equation 1"
    yield Assumption("weights", vram.FP32_BYTES, "bytes/parameter", "fp32, also with mixed precision (PyTorch AMP)")
    yield Assumption("gradients", vram.FP32_BYTES, "bytes/parameter", "fp32, as the weights")
    yield Assumption("AdamW", vram.ADAMW_MOMENTS * vram.FP32_BYTES, "bytes/parameter", "two moments in fp32")
    yield Assumption("working copy, fp16", vram.FP16_BYTES, "bytes/parameter", "autocast's fp16 weights")
    for precision, (linear, scores) in vram.LAYER_BYTES.items():
        source = korthikanti if precision == "fp16" else f"{korthikanti}, all but the dropout masks doubled"
        yield Assumption(f"activations of a layer, {precision}, linear", linear, "bytes/(token·width)", source)
        yield Assumption(
            f"activations of a layer, {precision}, scores", scores, "bytes/(head·token²)", f"{source}; none with SDPA"
        )
        yield Assumption(
            f"logits, {precision}",
            vram.LOGITS_BYTES[precision],
            "bytes/(token·vocabulary)",
            "once as computed, and in fp32 for the softmax and for its gradient",
        )
    yield Assumption(
        "recomputation", float(round(pace.RECOMPUTATION, 3)), "of the time, at most", "8 FLOPs in place of 6"
    )
    yield Assumption("CUDA and gaps", float(vram.gib(vram.OVERHEAD_BYTES)), "GiB", "unconfirmed; 0.3 to 0.6 are usual")


def _storage() -> Iterable[Assumption]:
    yield Assumption(
        "checkpoint", storage.CHECKPOINT_BYTES_PER_PARAM, "bytes/parameter", "weights and two moments, fp32"
    )
    yield Assumption("model", storage.MODEL_BYTES_PER_PARAM, "bytes/parameter", "weights in fp32")
    yield Assumption("corpus", storage.CORPUS_BYTES_PER_TOKEN, "bytes/token", "16-bit ids; a vocabulary of 50,257 fits")
    yield Assumption("text", storage.TEXT_BYTES_PER_TOKEN, "bytes/token", "English: OpenAI, What are tokens")
    yield Assumption("checkpoints kept", storage.CHECKPOINTS_KEPT, "checkpoints", "the default of checkpoints.keep")
    for price in storage.STORE_PRICES:
        yield Assumption(
            price.item, usd_json(price.usd_per_gb_month), "USD/GB-month", f"{price.as_of}, {price.sure}: {price.source}"
        )
