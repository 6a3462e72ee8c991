"""An estimate for people: its document as plain lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.money import CENT, usd_text
from launcher.estimate.counts import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Document = Mapping[str, Any]

COLUMNS = 80
FOUR_DECIMALS = Decimal("0.0001")
PLACES = "{:<23}{:<17}{:<8}{:>8}{:>12}{:>12}"
MEMORY = "  {:<46}{:>15}{:>15}"
BOUGHT = "  {:<23}{:<8}{:<8}{:>8}{:>15}{:>15}"

_STATE = (
    ("weights", "weights_gib"),
    ("gradients", "gradients_gib"),
    ("AdamW's two moments", "optimizer_gib"),
    ("fp16 copy of the weights", "working_copy_gib"),
    ("CUDA and gaps", "overhead_gib"),
    ("activations, each sequence", "activations_per_sequence_gib"),
    ("  the same with checkpointing of activations", "activations_per_sequence_checkpointed_gib"),
)


def page(estimate: Document) -> list[str]:
    """The whole estimate: places, memory, storage, budget, and what it assumes."""
    parts = (_head, _places, _memory, _storage, _budget, _assumed)
    lines: list[str] = []
    for part in parts:
        block = list(part(estimate))
        lines += [*([""] if lines and block else []), *block]
    return lines


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent=indent)


def _head(estimate: Document) -> Iterable[str]:
    yield from _wrapped(
        f"{short(estimate['params'])} parameters, {short(estimate['tokens'])} tokens, {estimate['precision']}: "
        f"{_power_of_ten(estimate['flops'])} FLOPs (6 x parameters x tokens), {estimate['steps']:,} "
        f"{'step' if estimate['steps'] == 1 else 'steps'} of {estimate['tokens_per_step']:,} tokens."
    )
    if estimate["measured"]:
        told = estimate["measured"]
        yield from _wrapped(f"{short(told['tokens_per_s_high'])} tokens/s on {told['shape']}, {told['source']}.")


def _power_of_ten(value: int) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _places(estimate: Document) -> Iterable[str]:
    yield PLACES.format("place", "region", "buy", "$/h", "hours", "USD")
    places = estimate["places"]
    yield from (_place(each) for each in places if each["ranked"])
    yield "not ranked with these:"
    yield from (_place(each) for each in places if not each["ranked"])
    yield ""
    seen = dict.fromkeys(note for each in places for note in _remarks(each))
    for note in seen:
        yield from _wrapped(note)


def _place(place: Document) -> str:
    buy = "spot" if place["spot"] else "demand"
    if place["provider"] == "local":
        buy = "energy" if place["ranked"] else "trials"
    if place["provider"] == "colab":
        buy = "month"
    return PLACES.format(
        place["place"][:22],
        place["region"][:16],
        buy,
        _rate(place["usd_per_hour"]) if place["usd_per_hour"] else "",
        _range(place["hours_low"], place["hours_high"]) if place["fits"] else "too large",
        _range(place["usd_low"], place["usd_high"]) if place["fits"] else "",
    ).rstrip()


def _rate(usd_per_hour: str) -> str:
    return f"{Decimal(usd_per_hour).quantize(FOUR_DECIMALS, ROUND_CEILING):f}"


def _remarks(place: Document) -> Iterable[str]:
    """What the table has no room for: what a cloud takes beside its rate, and the notes of places that are no cloud."""
    if place["provider"] in ("local", "colab"):
        kwh = _range(place["energy_kwh_low"], place["energy_kwh_high"])
        yield f"{place['place']}: {place['note']}. Energy: {kwh} kWh."
        return
    yield (
        "$/h is the whole rate as expected: compute, 100 GB of disk and a public IPv4 address. A cap counts more, most "
        "of all for spot, whose price moves: see worst_usd_per_hour in --json."
    )
    once_usd = Decimal(place["once_usd"])
    if once_usd >= CENT:
        yield f"{place['place']}: up to {usd_text(once_usd)} once comes on top."


def _range(low: Any, high: Any) -> str:
    first, last = short(Decimal(str(low))), short(Decimal(str(high)))
    return first if first == last else f"{first}-{last}"


def _memory(estimate: Document) -> Iterable[str]:
    needs = estimate["vram"]
    columns = needs["precisions"]
    yield MEMORY.format(
        f"memory in GiB, {needs['context_tokens']:,} tokens a sequence", *(each["precision"] for each in columns)
    )[2:]
    for label, key in _STATE:
        yield MEMORY.format(label, *(short(each[key]) for each in columns))
    for index, card in enumerate(columns[0]["cards"]):
        label = f"{card['card']} ({card['memory_gb']} GB, {short(card['usable_gib'])} GiB usable): batch"
        yield MEMORY.format(label, *(_batch(each["cards"][index]) for each in columns))
    said = needs["gradient_accumulation"]
    if said["batch_sequences"]:
        yield from _wrapped(
            f"On a {estimate['gpu']} with {estimate['precision']} begin with batches of {said['batch_sequences']}; "
            f"{said['batches']} of them, accumulated, make a step. Accumulation {said['note']}: "
            f"{short(said['activations_gib'])} GiB in place of {short(said['activations_without_gib'])} GiB."
        )
    if estimate["gpu"] == "T4":
        yield from _wrapped("A T4 has 16 GB; notes that say 12 GB are wrong. nvidia-smi shows 15 GiB.")


def _batch(card: Document) -> str:
    if not card["fits"]:
        return "does not fit"
    plain, checkpointed = card["batch_sequences"], card["batch_sequences_checkpointed"]
    return f"{short(plain)}; chk. {short(checkpointed)}" if plain else f"chk. {short(checkpointed)}"


def _storage(estimate: Document) -> Iterable[str]:
    sizes = estimate["storage"]
    stores = ", ".join(f"{each['store']} {usd_text(Decimal(each['usd_per_month']))}" for each in sizes["stores"])
    dates = ", ".join(sorted({f"{each['as_of']}, {each['sure']}" for each in sizes["stores"]}))
    yield from _wrapped(
        f"storage: a checkpoint {short(sizes['checkpoint_gb'])} GB ({sizes['checkpoints_kept']} kept), the model "
        f"{short(sizes['model_gb'])} GB, the corpus {short(sizes['corpus_gb'])} GB as tokens "
        f"({short(sizes['text_gb'])} GB as text). {short(sizes['kept_gb'])} GB in a store, a month: {stores} "
        f"(prices of {dates})."
    )


def _budget(estimate: Document) -> Iterable[str]:
    bought = estimate["budget"]
    if bought is None:
        return
    if not bought["places"]:
        yield f"budget {usd_text(Decimal(bought['usd']))}: the model fits none of these places, whatever is paid."
        return
    words = {"yes": "enough", "maybe": "enough if it goes well", "no": "not enough anywhere"}[bought["enough"]]
    yield f"budget {usd_text(Decimal(bought['usd']))}: {words}. It buys, at the rate that a cap counts:"
    yield BOUGHT.format("place", "buy", "enough", "hours", "steps", "tokens")
    for each in bought["places"]:
        buy = "spot" if each["spot"] else "energy" if each["region"] == "here" else "demand"
        yield BOUGHT.format(
            each["place"][:22],
            buy,
            each["enough"],
            short(each["hours"]),
            _range(each["steps_low"], each["steps_high"]),
            _range(each["tokens_low"], each["tokens_high"]),
        )


def _assumed(estimate: Document) -> Iterable[str]:
    assumed = estimate["assumptions"]
    shares = [each for each in assumed if each["name"].startswith(f"{estimate['gpu']} utilisation")]
    if shares:
        low, high = (f"{short(100 * each['value'])}" for each in shares)
        peak = next(each for each in assumed if each["name"].startswith(f"{estimate['gpu']} peak"))
        yield from _wrapped(
            f"assumed: a {estimate['gpu']} trains at {low} to {high} % of its {short(peak['value'] / 10**12)} TFLOP/s; "
            f"{shares[0]['source']}."
        )
    yield from _wrapped(
        f"All {len(assumed)} assumptions, with unit and source: --json. A past job's own pace: --from JOB."
    )
