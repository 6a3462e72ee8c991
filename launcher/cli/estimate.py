"""`gpulaunch estimate`: what a training will cost, where, and whether it fits; before any money is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from launcher.cli.prices import known_gpu
from launcher.cli.screen import put, put_json
from launcher.cli.state import open_state_if_any
from launcher.core.errors import Exit, UsageError
from launcher.core.money import parse_usd
from launcher.estimate.cards import CLOUD_CARDS, PRECISIONS
from launcher.estimate.counts import LARGEST_PARAMS, LARGEST_TOKENS, parse_count
from launcher.estimate.document import make_estimate
from launcher.estimate.pace import measured_pace
from launcher.estimate.page import page
from launcher.estimate.places import Training, is_of
from launcher.estimate.vram import model_like_gpt2
from providers.prices.table import load_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from launcher.estimate.cards import Card
    from launcher.estimate.pace import Measured
    from providers.prices.table import PricedShape, Table

CONTEXT_TOKENS = 1024
TOKENS_PER_STEP = 20_000


@click.command()
@click.option("--params", metavar="N", help="Parameters of the model, such as 124M.")
@click.option("--tokens", metavar="N", help="Tokens to train on, such as 100M or 1B.")
@click.option("--budget", metavar="USD", help="Say whether this is enough, and what it buys.")
@click.option("--gpu", default="T4", show_default=True, help="The GPU to rent.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS, case_sensitive=False),
    default="fp16",
    show_default=True,
    help="fp16 is mixed precision.",
)
@click.option(
    "--context",
    "context_tokens",
    type=click.IntRange(1, 1_000_000),
    default=CONTEXT_TOKENS,
    show_default=True,
    help="Tokens in a sequence.",
)
@click.option(
    "--tokens-per-step",
    type=click.IntRange(1, 1_000_000_000),
    help=f"Tokens in a step of the optimiser.  [default: {TOKENS_PER_STEP}]",
)
@click.option("--from", "from_job", metavar="JOB", help="Use the pace that this job measured: a name or an id.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, with every assumption.")
def estimate(
    *,
    params: str | None,
    tokens: str | None,
    budget: str | None,
    gpu: str,
    precision: str,
    context_tokens: int,
    tokens_per_step: int | None,
    from_job: str | None,
    as_json: bool,
) -> int:
    """Tell what a training will cost, for every place where one can train, and whether it fits.

    Hours and dollars are ranges. No network is used: the prices are those of the dated table that came with this
    version, and --from reads this computer's own records.
    """
    model = model_like_gpt2(_count("--params", params, LARGEST_PARAMS), context_tokens)
    training = Training(
        model=model,
        tokens=_count("--tokens", tokens, LARGEST_TOKENS),
        tokens_per_step=tokens_per_step or TOKENS_PER_STEP,
        precision=precision,
    )
    budget_usd = None if budget is None else _usd(budget)
    table = load_table()
    card = _card(gpu, table)
    shapes = table.shapes(card.name)
    measured = None if from_job is None else _measured(from_job, tokens_per_step, card, shapes)
    document = make_estimate(training, card, shapes, budget_usd=budget_usd, measured=measured)
    if as_json:
        put_json(document)
    else:
        put("\n".join(page(document)))
    return Exit.OK


def _count(option: str, text: str | None, largest: int) -> int:
    if text is None:
        raise UsageError(
            f"{option} is missing.",
            "The time of a training follows from its parameters and its tokens.",
            "For example: gpulaunch estimate --params 124M --tokens 100M",
        )
    return parse_count(option, text, largest)


def _usd(text: str) -> Decimal:
    try:
        return parse_usd(text)
    except ValueError as error:
        raise UsageError(f"--budget {text[:40]!r} {error}.", fix="For example: --budget 5") from error


def _card(gpu: str, table: Table) -> Card:
    name = known_gpu(gpu, table)
    if name not in CLOUD_CARDS:
        raise UsageError(
            f"The arithmetic of a {name} is not known.",
            f"Known: {', '.join(CLOUD_CARDS)}.",
            f"Choose one with --gpu; `gpulaunch prices --gpu {name}` shows what it costs by the hour.",
        )
    return CLOUD_CARDS[name]


def _measured(name_or_id: str, tokens_per_step: int | None, card: Card, shapes: Sequence[PricedShape]) -> Measured:
    state = open_state_if_any()
    if state is None:
        raise UsageError(f"There is no job {name_or_id[:60]!r}.", "No job was ever launched here.", "gpulaunch up")
    job = state.journal.find(name_or_id)
    measured = measured_pace(job, state.journal.attempts(job.id), tokens_per_step)
    if measured.provider != "local" and not is_of(measured, shapes):
        raise UsageError(
            f"Job {job.name!r} ran on {measured.instance_type} of {measured.provider}, which has no {card.name}.",
            "A pace holds for the card that it was measured on.",
            "Leave --from out, or name a job that ran on this card or on this computer.",
        )
    return measured
