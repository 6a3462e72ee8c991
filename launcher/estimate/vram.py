"""The memory that a training needs on the card, and the batch that fits. Pure arithmetic in bytes.

State: weights, gradients, and two moments for AdamW, all in fp32; with mixed precision also an fp16 copy of the
weights (PyTorch autocast keeps it from the forward to the backward pass).

Activations of one sequence: each layer keeps s·h·(34 + 5·a·s/h) bytes in fp16 (Korthikanti et al., Reducing Activation
Recomputation in Large Transformer Models, 2022, equation 1; s tokens, width h, a heads). In fp32 all but the one-byte
dropout masks double: s·h·(66 + 9·a·s/h). An attention that never stores its scores (PyTorch's SDPA) needs only the
first term: what is said here is the safe side. The logits come on top, s·V values: once in the working precision, and
in fp32 for the softmax and for its gradient.

With checkpointing of activations, each layer keeps only its input, and one layer at a time is computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.estimate.cards import Card

GIB = 2**30
VOCABULARY = 50257
"""Tokens that GPT-2's tokeniser knows."""
HEAD_WIDTH = 64
"""Values per attention head, in GPT-2 of every size. GPT-2 of 124 M has also as many heads as layers."""
OVERHEAD_BYTES = GIB // 2
"""CUDA's context, the libraries' workspaces and the allocator's gaps: about half a GiB (unconfirmed)."""

FP32_BYTES = 4
FP16_BYTES = 2
ADAMW_MOMENTS = 2
LAYER_BYTES = {"fp16": (34, 5), "fp32": (66, 9)}
"""What a layer keeps: bytes for each token and value of the width, and for each head and pair of tokens."""
LOGITS_BYTES = {"fp16": FP16_BYTES + FP32_BYTES + FP32_BYTES, "fp32": FP32_BYTES + FP32_BYTES + FP32_BYTES}
"""For each token of a sequence and of the vocabulary."""


@dataclass(frozen=True, slots=True)
class Model:
    """A transformer in the proportions of GPT-2 of 124 M: 12 layers, 12 heads, 768 wide."""

    params: int
    layers: int
    context_tokens: int

    @property
    def heads(self) -> int:
        """Attention heads in each layer."""
        return self.layers

    @property
    def width(self) -> int:
        """Values per token between layers."""
        return HEAD_WIDTH * self.heads


def model_like_gpt2(params: int, context_tokens: int) -> Model:
    """The model whose 12·L·h² + V·h comes nearest to that many parameters, with h = 64·L."""
    low, high = 1, 2
    while _params(high) < params:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _params(middle) < params else (low, middle)
    return Model(params, min((low, high), key=lambda layers: abs(_params(layers) - params)), context_tokens)


def _params(layers: int) -> int:
    width = HEAD_WIDTH * layers
    return 12 * layers * width * width + VOCABULARY * width


@dataclass(frozen=True, slots=True)
class Memory:
    """What a training keeps on the card in one precision, in bytes."""

    precision: str
    weights: int
    gradients: int
    optimizer: int
    working_copy: int
    overhead: int
    activations: int
    """Of one sequence."""
    activations_checkpointed: int
    """Of one sequence, with checkpointing of activations: for each further sequence of a batch as much again."""

    @property
    def fixed(self) -> int:
        """What is there whatever the batch."""
        return self.weights + self.gradients + self.optimizer + self.working_copy + self.overhead

    def needed(self, sequences: int, *, checkpointed: bool = False) -> int:
        """Bytes for a batch of that many sequences."""
        each = self.activations_checkpointed if checkpointed else self.activations
        return self.fixed + sequences * each


def memory(model: Model, precision: str) -> Memory:
    """The memory of a training in `fp16` (mixed) or `fp32`."""
    mixed = precision == "fp16"
    value_bytes = FP16_BYTES if mixed else FP32_BYTES
    tokens, width = model.context_tokens, model.width
    linear, scores = LAYER_BYTES[precision]
    layer = tokens * width * linear + scores * model.heads * tokens * tokens
    logits = tokens * VOCABULARY * LOGITS_BYTES[precision]
    inputs = model.layers * tokens * width * value_bytes
    state = model.params * FP32_BYTES
    return Memory(
        precision=precision,
        weights=state,
        gradients=state,
        optimizer=ADAMW_MOMENTS * state,
        working_copy=model.params * FP16_BYTES if mixed else 0,
        overhead=OVERHEAD_BYTES,
        activations=model.layers * layer + logits,
        activations_checkpointed=inputs + layer + logits,
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """The batches of sequences that fit a card: 0 is none, a power of two else, None without a limit."""

    card: str
    batch: int | None
    batch_checkpointed: int | None

    @property
    def fits(self) -> bool:
        """Whether it can be trained there at all."""
        return self.batch_checkpointed != 0

    @property
    def needs_checkpointing(self) -> bool:
        """Whether not even one sequence fits without checkpointing."""
        return self.batch == 0 and self.fits

    @property
    def best(self) -> int:
        """The batch to begin with: without checkpointing where that fits. 0 is none, or one that no card limits."""
        return self.batch or self.batch_checkpointed or 0


def fit(card: Card, needs: Memory) -> Fit:
    """Which batches fit the card's usable memory."""
    if card.usable_gib is None:
        return Fit(card.name, None, None)
    free = int(card.usable_gib * GIB) - needs.fixed
    return Fit(
        card.name, _power_of_two(free // needs.activations), _power_of_two(free // needs.activations_checkpointed)
    )


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1) if most > 0 else 0


def accumulation_steps(batch: int, context_tokens: int, tokens_per_step: int) -> int:
    """How many batches make one step of the optimiser: at least that many tokens. 0 for no batch."""
    return -(-tokens_per_step // (batch * context_tokens)) if batch else 0


def gib(size: int) -> Decimal:
    """GiB from bytes."""
    return Decimal(size) / GIB
