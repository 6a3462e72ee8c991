"""An estimate as one document: what `gpulaunch estimate --json` prints. docs/estimate.md describes each field."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.money import usd_json
from launcher.estimate import budget, storage, vram
from launcher.estimate.assumptions import assumptions
from launcher.estimate.cards import PRECISIONS, RTX_2050
from launcher.estimate.counts import number
from launcher.estimate.pace import flops
from launcher.estimate.places import places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.estimate.cards import Card
    from launcher.estimate.pace import Measured
    from launcher.estimate.places import Place, Training
    from providers.prices.table import PricedShape


def make_estimate(
    training: Training,
    card: Card,
    shapes: Sequence[PricedShape],
    *,
    budget_usd: Decimal | None = None,
    measured: Measured | None = None,
) -> dict[str, Any]:
    """The whole estimate. `shapes` are the machines that have `card`, cheapest first."""
    found = places(training, card, shapes, measured)
    return {
        "params": training.model.params,
        "tokens": training.tokens,
        "flops": flops(training.model.params, training.tokens),
        "precision": training.precision,
        "gpu": card.name,
        "steps": training.steps,
        "tokens_per_step": training.tokens_per_step,
        "measured": _measured(measured),
        "places": [_place(place) for place in found],
        "vram": _vram(training, card),
        "storage": _storage(training),
        "budget": None if budget_usd is None else _budget(budget_usd, found, training),
        "assumptions": [each._asdict() for each in assumptions(training, card, found, shapes, measured)],
    }


def _measured(measured: Measured | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return {
        "job": measured.job,
        "provider": measured.provider,
        "shape": measured.instance_type,
        "tokens_per_s_low": number(measured.pace.low),
        "tokens_per_s_high": number(measured.pace.high),
        "source": measured.source,
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "place": place.place,
        "provider": place.provider,
        "shape": place.shape,
        "region": place.region,
        "spot": place.spot,
        "card": place.card,
        "hours_low": number(place.hours_low),
        "hours_high": number(place.hours_high),
        "usd_low": usd_json(place.usd_low),
        "usd_high": usd_json(place.usd_high),
        "usd_per_hour": _usd(place.usd_per_hour),
        "worst_usd_per_hour": _usd(place.worst_usd_per_hour),
        "once_usd": usd_json(place.once_usd),
        "energy_kwh_low": number(place.energy_kwh_low),
        "energy_kwh_high": number(place.energy_kwh_high),
        "ranked": place.ranked,
        "fits": place.fits,
        "note": place.note,
    }


def _vram(training: Training, card: Card) -> dict[str, Any]:
    model = training.model
    needs = {precision: vram.memory(model, precision) for precision in PRECISIONS}
    mine, batch = needs[training.precision], training.fit(card).best
    return {
        "context_tokens": model.context_tokens,
        "layers": model.layers,
        "width": model.width,
        "heads": model.heads,
        "vocabulary": vram.VOCABULARY,
        "precisions": [_precision(each, training, card) for each in needs.values()],
        "gradient_accumulation": {
            "batch_sequences": batch,
            "batches": vram.accumulation_steps(batch, model.context_tokens, training.tokens_per_step),
            "activations_gib": _gib(batch * mine.activations),
            "activations_without_gib": _gib(-(-training.tokens_per_step // model.context_tokens) * mine.activations),
            "note": "adds no memory: gradients are kept anyway, and only one batch's activations at a time",
        },
    }


def _precision(needs: vram.Memory, training: Training, card: Card) -> dict[str, Any]:
    return {
        "precision": needs.precision,
        "weights_gib": _gib(needs.weights),
        "gradients_gib": _gib(needs.gradients),
        "optimizer_gib": _gib(needs.optimizer),
        "working_copy_gib": _gib(needs.working_copy),
        "overhead_gib": _gib(needs.overhead),
        "activations_per_sequence_gib": _gib(needs.activations),
        "activations_per_sequence_checkpointed_gib": _gib(needs.activations_checkpointed),
        "cards": [_card(each, needs, training) for each in (card, RTX_2050)],
    }


def _card(card: Card, needs: vram.Memory, training: Training) -> dict[str, Any]:
    fit = vram.fit(card, needs)
    batch, checkpointed = fit.batch or 0, fit.batch_checkpointed or 0
    return {
        "card": card.name,
        "memory_gb": card.memory_gb,
        "usable_gib": number(card.usable_gib or Decimal(0)),
        "fits": fit.fits,
        "batch_sequences": batch,
        "needed_gib": _gib(needs.needed(max(batch, 1))),
        "batch_sequences_checkpointed": checkpointed,
        "needed_checkpointed_gib": _gib(needs.needed(max(checkpointed, 1), checkpointed=True)),
        "accumulation_batches": vram.accumulation_steps(
            fit.best, training.model.context_tokens, training.tokens_per_step
        ),
    }


def _storage(training: Training) -> dict[str, Any]:
    sizes = storage.storage(training.model.params, training.tokens)
    return {
        "checkpoint_gb": _gb(sizes.checkpoint),
        "checkpoints_kept": storage.CHECKPOINTS_KEPT,
        "model_gb": _gb(sizes.model),
        "corpus_gb": _gb(sizes.corpus),
        "text_gb": _gb(sizes.text),
        "kept_gb": _gb(sizes.kept),
        "stores": [
            {
                "store": price.store,
                "item": price.item,
                "usd_per_gb_month": usd_json(price.usd_per_gb_month),
                "usd_per_month": usd_json(storage.usd_per_month(sizes.kept, price)),
                "as_of": price.as_of,
                "sure": price.sure,
            }
            for price in storage.STORE_PRICES
        ],
    }


def _budget(budget_usd: Decimal, found: Sequence[Place], training: Training) -> dict[str, Any]:
    bought = budget.purchases(budget_usd, found, training)
    return {
        "usd": usd_json(budget_usd),
        "enough": budget.answer(bought),
        "places": [
            {
                "place": each.place.place,
                "region": each.place.region,
                "spot": each.place.spot,
                "enough": each.enough,
                "hours": number(each.hours),
                "steps_low": each.steps_low,
                "steps_high": each.steps_high,
                "tokens_low": each.tokens_low,
                "tokens_high": each.tokens_high,
            }
            for each in bought
        ],
    }


def _usd(amount: Decimal | None) -> str | None:
    return None if amount is None else usd_json(amount)


def _gib(size: int) -> float:
    return number(vram.gib(size))


def _gb(size: int) -> float:
    return number(Decimal(size) / storage.GB)
