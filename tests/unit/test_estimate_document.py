"""What a training will cost: the points of a training course that our ranges must meet, and what the document holds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from launcher.estimate.cards import CPU, RTX_2050, T4
from launcher.estimate.document import make_estimate
from launcher.estimate.pace import Measured, Pace
from launcher.estimate.page import COLUMNS, page
from launcher.estimate.places import Place, Training, places, run_on
from launcher.estimate.vram import model_like_gpt2
from providers.base import RatePart
from providers.prices.table import PricedShape, load_table

if TYPE_CHECKING:
    from launcher.estimate.cards import Card

M, B = 10**6, 10**9
DAY_H = 24
TABLE = load_table()


def make_training(params: int = 124 * M, tokens: int = 100 * M, **changes: Any) -> Training:
    """A training in steps of 20,000 tokens, with sequences of 1,024."""
    values: dict[str, Any] = {"tokens_per_step": 20_000, "precision": "fp16"}
    return Training(model=model_like_gpt2(params, 1024), tokens=tokens, **(values | changes))


def make_shape(usd_per_hour: str) -> PricedShape:
    """A machine with a T4 at that whole rate."""
    rate = Decimal(usd_per_hour)
    part = RatePart(name="compute", worst_usd_per_hour=rate, expected_usd_per_hour=rate, source="a course")
    [first, *_] = TABLE.shapes("T4")
    values = {name: getattr(first, name) for name in first.__struct_fields__}
    return PricedShape(**(values | {"provider": "aws", "spot": False, "parts": (part,), "one_time": ()}))


def at_rate(usd_per_hour: str, training: Training) -> Place:
    """That training on a T4 at that rate."""
    return next(each for each in places(training, T4, [make_shape(usd_per_hour)]) if each.provider == "aws")


def hours(card: Card, training: Training) -> tuple[Decimal, Decimal]:
    """The shortest and the longest time on that card."""
    return run_on(card, training).hours


def overlap(ours: tuple[Decimal, Decimal], stated: tuple[float, float]) -> bool:
    """Whether two ranges have a point in common."""
    return ours[0] <= Decimal(stated[1]) and Decimal(stated[0]) <= ours[1]


# The points


def test_a_hundred_million_tokens_on_a_t4_take_four_to_eight_hours() -> None:
    """124 M parameters in 5,000 steps: our range meets 4 to 8 hours."""
    training = make_training()
    assert training.steps == 5000
    assert overlap(hours(T4, training), (4, 8))


def test_a_hundred_million_tokens_on_a_t4_cost_about_four_dollars_at_half_a_dollar_an_hour() -> None:
    """The $4 of the course lie inside our range."""
    place = at_rate("0.50", make_training())
    assert place.usd_low <= 4 <= place.usd_high


def test_ten_times_the_tokens_take_ten_times_the_time_and_money() -> None:
    """Hours, dollars and kWh all grow with the tokens."""
    one, ten = (at_rate("0.50", make_training(tokens=tokens)) for tokens in (100 * M, B))
    names = ("hours_low", "hours_high", "usd_low", "usd_high", "energy_kwh_low", "energy_kwh_high")
    ratios = [round(getattr(ten, name) / getattr(one, name), 9) for name in names]
    assert ratios == [10] * len(names)


def test_a_billion_tokens_on_a_t4_take_one_to_two_days() -> None:
    """134 M parameters: our range meets 24 to 48 hours."""
    assert overlap(hours(T4, make_training(134 * M, B)), (1 * DAY_H, 2 * DAY_H))


def test_a_billion_tokens_on_a_t4_cost_up_to_33_60_dollars_at_0_70_an_hour() -> None:
    """48 hours and $33.60 both lie inside our ranges."""
    place = at_rate("0.70", make_training(134 * M, B))
    assert place.hours_low <= 48 <= place.hours_high
    assert place.usd_low <= Decimal("33.60") <= place.usd_high


def test_a_billion_tokens_on_an_rtx_2050_take_five_to_seven_days_at_100_to_150_watts() -> None:
    """The hours meet, and the energy is those hours at those watts."""
    on = run_on(RTX_2050, make_training(134 * M, B))
    assert overlap(on.hours, (5 * DAY_H, 7 * DAY_H))
    assert on.energy_kwh == (on.hours[0] * 100 / 1000, on.hours[1] * 150 / 1000)
    assert overlap(on.energy_kwh, (5 * DAY_H * 0.100, 7 * DAY_H * 0.150))


def test_a_cpu_takes_about_ten_times_as_long_as_a_t4() -> None:
    """The first case takes a CPU 40 to 80 hours, and ten times our own T4 range."""
    cpu, t4 = (hours(card, make_training()) for card in (CPU, T4))
    assert overlap(cpu, (40, 80))
    assert overlap(cpu, (float(10 * t4[0]), float(10 * t4[1])))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("card", [T4, RTX_2050, CPU], ids=lambda card: card.name)
def test_no_range_is_so_wide_that_it_says_nothing(card: Card, precision: str) -> None:
    """The slow end is at most four times the fast one, a third more where memory asks for it."""
    low, high = hours(card, make_training(precision=precision))
    assert low < high <= low * 4 * 4 / 3


def test_single_precision_is_slower_than_mixed_on_a_gpu() -> None:
    """At both ends of the range."""
    for card in (T4, RTX_2050):
        mixed, single = (hours(card, make_training(precision=each)) for each in ("fp16", "fp32"))
        assert mixed[0] < single[0]
        assert mixed[1] < single[1]


# The places


def test_every_place_is_there_cheapest_first() -> None:
    """Three clouds on demand and spot and one's own computer are ranked; a CPU and Colab are told, not ranked."""
    found = places(make_training(), T4, TABLE.shapes("T4"))
    ranked = [each for each in found if each.ranked]
    assert {(each.provider, each.spot) for each in ranked} == {
        ("local", False),
        *((cloud, spot) for cloud in ("aws", "azure", "gcp") for spot in (False, True)),
    }
    assert [each.usd_high for each in ranked] == sorted(each.usd_high for each in ranked)
    assert {each.place for each in found[len(ranked) :]} == {"CPU, 8 cores", "Google Colab Pro"}


def test_a_cloud_is_priced_with_its_whole_rate_in_its_cheapest_region() -> None:
    """Compute, disk and address of the cheapest on-demand machine of each cloud."""
    shapes = TABLE.shapes("T4")
    found = {each.provider: each for each in places(make_training(), T4, shapes) if each.ranked and not each.spot}
    for cloud in ("aws", "azure", "gcp"):
        cheapest = min(
            (shape for shape in shapes if shape.provider == cloud and not shape.spot),
            key=lambda shape: sum(part.expected_usd_per_hour for part in shape.parts),
        )
        assert found[cloud].usd_per_hour == sum(part.expected_usd_per_hour for part in cheapest.parts)
        assert found[cloud].usd_high == found[cloud].hours_high * cheapest.expected_usd_per_hour


def test_ones_own_computer_costs_its_energy() -> None:
    """Its kWh at the tariff, and nothing else."""
    own = next(each for each in places(make_training(), T4, []) if each.shape == "RTX 2050")
    assert (own.usd_low, own.usd_high) == (own.energy_kwh_low * Decimal("0.15"), own.energy_kwh_high * Decimal("0.15"))


def test_colab_is_a_price_a_month_and_said_to_be_limited() -> None:
    """10 to 50 dollars whatever the tokens, and not ranked."""
    colab = next(each for each in places(make_training(tokens=B), T4, []) if each.provider == "colab")
    assert (colab.usd_low, colab.usd_high, colab.ranked) == (10, 50, False)
    assert "not unlimited" in colab.note


def test_a_model_that_fits_no_card_is_said_not_to_fit() -> None:
    """Seven billion parameters need over a hundred GiB."""
    found = places(make_training(7 * B, B), T4, TABLE.shapes("T4"))
    assert {each.fits for each in found if each.ranked} == {False}
    assert all("does not fit" in each.note for each in found if each.ranked)


def test_a_place_that_fits_comes_before_cheaper_ones_that_do_not() -> None:
    """A model too large for 4 GB: one's own computer is the last of the ranked."""
    ranked = [each for each in places(make_training(774 * M, B), T4, TABLE.shapes("T4")) if each.ranked]
    assert [each.fits for each in ranked] == [True] * 6 + [False]
    assert ranked[-1].provider == "local"


# A measured pace


def make_measured(provider: str, instance_type: str) -> Measured:
    """Ten thousand tokens a second, on that machine."""
    return Measured("gpt2", provider, instance_type, Pace(Decimal(10_000), Decimal(10_000)), "measured: a test")


def test_a_pace_measured_on_a_t4_holds_for_every_t4() -> None:
    """100 M tokens at 10,000 a second take 2.78 hours on all three clouds and Colab; other cards keep their range."""
    plain, measured = (
        places(make_training(), T4, TABLE.shapes("T4"), each) for each in (None, make_measured("aws", "g4dn.xlarge"))
    )
    on_t4 = [each for each in measured if each.card == "T4"]
    assert len(on_t4) == 7
    assert {round(each.hours_low, 4) for each in on_t4} == {Decimal("2.7778")}
    assert {each.hours_low for each in measured if each.card != "T4"} == {
        each.hours_low for each in plain if each.card != "T4"
    }


def test_a_pace_measured_here_holds_for_this_computer_alone() -> None:
    """It runs there, so it fits."""
    found = places(make_training(774 * M), T4, TABLE.shapes("T4"), make_measured("local", "this computer"))
    here = next(each for each in found if each.place == "this computer")
    assert (round(here.hours_high, 4), here.fits) == (Decimal("2.7778"), True)
    assert "at the pace of job gpt2" in here.note
    assert not any("job gpt2" in each.note for each in found if each.card == "T4")


# The document

PLACE_KEYS = {
    "place",
    "provider",
    "shape",
    "spot",
    "hours_low",
    "hours_high",
    "usd_low",
    "usd_high",
    "energy_kwh_low",
    "energy_kwh_high",
    "note",
}


def make_document(training: Training | None = None, budget: str | None = "5", **changes: Any) -> dict[str, Any]:
    """The estimate of the first case, from the table that came with this version."""
    budget_usd = None if budget is None else Decimal(budget)
    return make_estimate(training or make_training(), T4, TABLE.shapes("T4"), budget_usd=budget_usd, **changes)


def test_the_document_has_its_fields_and_hours_are_numbers() -> None:
    """Hours and energy are numbers, money is text, counts are whole."""
    document = make_document()
    assert {"params", "tokens", "flops", "places", "vram", "storage", "budget", "assumptions"} <= set(document)
    assert (document["params"], document["tokens"], document["flops"]) == (124 * M, 100 * M, 6 * 124 * M * 100 * M)
    for place in document["places"]:
        assert set(place) >= PLACE_KEYS
        numbers = [place[f"{name}_{end}"] for name in ("hours", "energy_kwh") for end in ("low", "high")]
        assert [type(each) for each in numbers] == [float] * 4
        assert Decimal(place["usd_low"]) <= Decimal(place["usd_high"])


def test_every_assumption_has_a_unit_and_a_source() -> None:
    """And the utilisation of each card is among them, at both ends."""
    assumed = make_document()["assumptions"]
    assert all(set(each) == {"name", "value", "unit", "source"} for each in assumed)
    assert [each for each in assumed if not (each["unit"] and each["source"] and each["name"])] == []
    assert len({each["name"] for each in assumed}) == len(assumed)
    values = {each["name"]: each["value"] for each in assumed}
    for card in (T4, RTX_2050, CPU):
        peak = card.peaks["fp16"]
        assert values[f"{card.name} utilisation, fp16, low"] == float(peak.utilisation_low)
        assert values[f"{card.name} utilisation, fp16, high"] == float(peak.utilisation_high)


def test_the_assumed_rates_add_up_to_the_rate_of_each_cloud() -> None:
    """Three parts for each machine, none forgotten."""
    document = make_document()
    for place in document["places"]:
        if place["provider"] not in ("aws", "azure", "gcp"):
            continue
        way = "spot" if place["spot"] else "on demand"
        start = f"{place['place']}, {place['region']}, {way}: "
        parts = [Decimal(each["value"]) for each in document["assumptions"] if each["name"].startswith(start)]
        assert len(parts) == 3
        assert abs(sum(parts) - Decimal(place["usd_per_hour"])) <= Decimal("0.000003")


def test_a_measured_pace_takes_the_place_of_the_assumed_utilisation() -> None:
    """The T4's peak and utilisation are not assumed any more; the job's tokens per second are told."""
    document = make_document(measured=make_measured("aws", "g4dn.xlarge"))
    names = {each["name"] for each in document["assumptions"]}
    assert "T4 utilisation, fp16, low" not in names
    assert {"measured pace, low", "RTX 2050 utilisation, fp16, low"} <= names
    assert document["measured"]["tokens_per_s_low"] == 10_000


# The budget


def test_a_budget_that_covers_the_slowest_pace_is_enough() -> None:
    """A hundred dollars pay for the first case everywhere."""
    budget = make_document(budget="100")["budget"]
    assert (budget["usd"], budget["enough"]) == ("100.00", "yes")
    assert {each["enough"] for each in budget["places"]} == {"yes"}


def test_a_budget_that_does_not_cover_the_fastest_pace_buys_a_part() -> None:
    """What a cent buys is fewer tokens and steps than were asked for, at every place."""
    budget = make_document(make_training(tokens=10 * B), budget="1")["budget"]
    assert budget["enough"] == "no"
    for each in budget["places"]:
        assert each["tokens_low"] <= each["tokens_high"] < 10 * B
        assert (each["steps_low"], each["steps_high"]) == (each["tokens_low"] // 20_000, each["tokens_high"] // 20_000)


def test_a_budget_between_the_two_may_be_enough() -> None:
    """Five dollars on demand pay for the first case unless the training is slow."""
    places_by_way = {(each["place"], each["spot"]): each for each in make_document()["budget"]["places"]}
    assert places_by_way["AWS g4dn.xlarge", False]["enough"] == "maybe"


def test_a_budget_is_counted_as_a_cap_is() -> None:
    """Hours are dollars, less what is paid once, by the worst rate."""
    document = make_document()
    by_way = {(each["place"], each["spot"]): each for each in document["places"]}
    for each in document["budget"]["places"]:
        place = by_way[each["place"], each["spot"]]
        hours = (5 - Decimal(place["once_usd"])) / Decimal(place["worst_usd_per_hour"])
        assert each["hours"] == pytest.approx(float(hours), rel=1e-4)


def test_without_a_budget_there_is_none() -> None:
    """The field is null, and the page says nothing of it."""
    document = make_document(budget=None)
    assert document["budget"] is None
    assert not any(line.startswith("budget") for line in page(document))


# The page


@pytest.mark.parametrize(
    ("params", "tokens", "precision", "budget"),
    [
        (124 * M, 100 * M, "fp16", "5"),
        (124 * M, 100 * M, "fp32", None),
        (1000, 1000, "fp16", "0.000001"),
        (774 * M, 999 * B, "fp16", "1000000"),
        (10**12, 10**14, "fp32", "1000000"),
    ],
)
def test_the_page_fits_a_terminal(params: int, tokens: int, precision: str, budget: str | None) -> None:
    """No line is longer than 80 columns, whatever is asked, and columns never touch."""
    document = make_document(make_training(params, tokens, precision=precision), budget)
    lines = page(document)
    assert [line for line in lines if len(line) > COLUMNS] == []
    first = next(index for index, line in enumerate(lines) if line.startswith("place ")) + 1
    rows = [line for line in lines[first : first + 10] if line != "not ranked with these:"]
    assert [(row[:23].rstrip(), row[23:40].rstrip()) for row in rows] == [
        (place["place"][:22], place["region"][:16]) for place in document["places"]
    ]
    assert {f"{row:<80}"[column] for row in rows for column in (22, 39, 47, 56, 68)} == {" "}


def test_the_page_says_that_a_t4_has_16_gb() -> None:
    """Some notes say 12."""
    assert any("A T4 has 16 GB; notes that say 12 GB are wrong" in line for line in page(make_document()))


def test_the_page_tells_a_model_that_is_too_large() -> None:
    """No hours are shown for it, and no budget helps."""
    lines = page(make_document(make_training(7 * B)))
    assert sum("too large" in line for line in lines) == 8
    assert "budget $5.00: the model fits none of these places, whatever is paid." in lines
