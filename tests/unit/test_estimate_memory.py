"""The memory of a training on its card, the batch that fits, and what it leaves in the store."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from launcher.estimate.cards import CPU, RTX_2050, T4
from launcher.estimate.storage import STORE_PRICES, storage, usd_per_month
from launcher.estimate.vram import GIB, Model, accumulation_steps, fit, memory, model_like_gpt2

if TYPE_CHECKING:
    from launcher.estimate.cards import Card

M, B = 10**6, 10**9
GPT2 = Model(124 * M, 12, 1024)


@pytest.mark.parametrize(
    ("params", "layers", "width"), [(1000, 1, 64), (124 * M, 12, 768), (134 * M, 12, 768), (1500 * M, 31, 1984)]
)
def test_a_model_has_the_proportions_of_gpt2(params: int, layers: int, width: int) -> None:
    """As many heads of 64 as layers, so that the parameters come nearest."""
    model = model_like_gpt2(params, 1024)
    assert (model.layers, model.width, model.heads) == (layers, width, layers)


def test_the_state_takes_18_bytes_a_parameter_in_mixed_and_16_in_single_precision() -> None:
    """Weights, gradients and two moments in fp32; with mixed precision a copy in fp16."""
    mixed, single = memory(GPT2, "fp16"), memory(GPT2, "fp32")
    assert (mixed.weights, mixed.gradients, mixed.optimizer, mixed.working_copy) == (496 * M, 496 * M, 992 * M, 248 * M)
    assert mixed.fixed - mixed.overhead == 18 * 124 * M
    assert single.fixed - single.overhead == 16 * 124 * M


def test_activations_follow_the_published_formula() -> None:
    """s·h·(34 + 5·a·s/h) bytes in each of 12 layers in fp16, and ten bytes for each of the logits."""
    s, h, a = 1024, 768, 12
    assert memory(GPT2, "fp16").activations == 12 * s * h * (34 + 5 * a * s // h) + 10 * s * 50257


def test_activations_grow_with_the_square_of_the_sequence() -> None:
    """Twice the sequence needs more than twice the memory."""
    short, long = (memory(Model(124 * M, 12, tokens), "fp16").activations for tokens in (1024, 2048))
    assert 2 * short < long < 4 * short


def test_checkpointing_saves_memory_and_single_precision_costs_it() -> None:
    """For the same sequence."""
    mixed, single = memory(GPT2, "fp16"), memory(GPT2, "fp32")
    assert mixed.activations_checkpointed < mixed.activations < single.activations
    assert mixed.needed(8, checkpointed=True) < mixed.needed(8)


def test_a_t4_takes_the_batch_that_others_report() -> None:
    """A GPT-2 of 124 M was trained on a T4 in fp16 with batches of 8 sequences of 1,024 (koushikkb12's model card)."""
    assert fit(T4, memory(GPT2, "fp16")).batch == 8


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("card", [T4, RTX_2050], ids=lambda card: card.name)
def test_the_batch_that_fits_fits_and_twice_as_much_does_not(card: Card, precision: str) -> None:
    """With checkpointing and without."""
    needs = memory(GPT2, precision)
    fitting, usable = fit(card, needs), int((card.usable_gib or 0) * GIB)
    for batch, checkpointed in ((fitting.batch, False), (fitting.batch_checkpointed, True)):
        assert batch is not None
        assert batch == 0 or needs.needed(batch, checkpointed=checkpointed) <= usable
        assert needs.needed(max(2 * batch, 1), checkpointed=checkpointed) > usable


def test_a_t4_has_fifteen_usable_gib_of_its_sixteen() -> None:
    """Not 12."""
    assert (T4.memory_gb, T4.usable_gib) == (16, 15)


def test_four_gb_hold_gpt2_only_with_checkpointing() -> None:
    """The course trains it there, so it must fit somehow."""
    fitting = fit(RTX_2050, memory(model_like_gpt2(134 * M, 1024), "fp16"))
    assert (fitting.batch, fitting.fits, fitting.needs_checkpointing) == (0, True, True)
    assert fitting.best == fitting.batch_checkpointed


def test_what_does_not_fit_is_said_and_a_cpu_has_no_limit() -> None:
    """Seven billion parameters on a T4, and on a computer's own memory."""
    needs = memory(model_like_gpt2(7 * B, 1024), "fp16")
    assert (fit(T4, needs).fits, fit(T4, needs).best) == (False, 0)
    assert fit(CPU, needs).fits


def test_accumulated_batches_make_at_least_one_step() -> None:
    """20,000 tokens are three batches of 8 sequences of 1,024; no batch makes none."""
    assert [accumulation_steps(batch, 1024, 20_000) for batch in (8, 16, 32, 0)] == [3, 2, 1, 0]


def test_the_store_holds_checkpoints_the_model_and_the_corpus() -> None:
    """124 M parameters: 12 bytes each in a checkpoint, 4 in the model; 2 bytes for a token."""
    sizes = storage(124 * M, 100 * M)
    assert (sizes.checkpoint, sizes.model, sizes.corpus) == (1488 * M, 496 * M, 200 * M)
    assert sizes.kept == 3 * 1488 * M + 496 * M + 200 * M


def test_a_month_in_each_store_has_a_dated_price() -> None:
    """1,000 GB for a month, in three stores; none of the prices is the vendor's own word."""
    assert {price.store: usd_per_month(1000 * B, price) for price in STORE_PRICES} == {
        "s3": Decimal("23.000"),
        "blob": Decimal("20.8000"),
        "gcs": Decimal("20.000"),
    }
    assert {(price.as_of, price.sure) for price in STORE_PRICES} == {("2026-11-21", "unconfirmed")}
