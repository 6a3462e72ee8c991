"""From offers to a plan: the cheapest that fits, priced wholly, with what is not armed named."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import START, make_offer, make_spec
from scripted import ScriptedProvider

from launcher.core.clock import VirtualClock
from launcher.core.errors import CapTooSmall
from launcher.job import Checkpoints
from launcher.outcome import Outcome
from launcher.plan import FOLDER_RESERVE_S, Plan, make_plan, plan_json, rank, terms_for, upload_reserve_s
from providers.base import Backstop, OneTimeCost, PriceUnknown, RatePart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.base import Offer

PROVIDER = ScriptedProvider(VirtualClock())
UNARMED = Backstop(armed=False, what="no role for the cloud's timer", fix="gpulaunch init aws --apply")


def plan(offers: Sequence[Offer], *, cap_usd: str = "5", backstop: Backstop = UNARMED, **changes: Any) -> Plan:
    """The plan of a job file with these changes."""
    return make_plan(make_spec(**changes), offers, PROVIDER, backstop=backstop, cap_usd=Decimal(cap_usd))


def test_the_cheapest_expected_rate_wins() -> None:
    """The others follow in the order in which they would be tried."""
    dear, cheap, middle = (
        make_offer(region, usd_per_hour=rate) for region, rate in (("d", "9"), ("c", "1"), ("m", "3"))
    )

    chosen = plan([dear, cheap, middle])

    assert (cheap, (middle, dear)) == (chosen.offer, chosen.others)


def test_equal_offers_have_one_order() -> None:
    """The worst rate decides, then the name: the same offers give the same plan, however they are listed."""
    steady = make_offer("r2", "b")
    part = RatePart(name="bid", worst_usd_per_hour=Decimal(9), expected_usd_per_hour=Decimal("3.6"), source="a test")
    risky = make_offer("r1", "a", parts=(part,), spot=True)
    nowhere = make_offer("r2", None)

    assert [nowhere, steady, risky] == rank([risky, steady, nowhere]) == rank([nowhere, risky, steady])


def test_the_cap_is_computed_with_the_worst_rate_and_all_other_costs() -> None:
    """Compute at its ceiling, disk, address, timers, and the reserve for what leaves the cloud."""
    offer = make_offer(
        parts=(
            RatePart(name="compute", worst_usd_per_hour=Decimal(2), expected_usd_per_hour=Decimal(1), source="a test"),
            RatePart(
                name="disk",
                worst_usd_per_hour=Decimal("0.5"),
                expected_usd_per_hour=Decimal("0.5"),
                source="a test",
                standing=True,
            ),
        ),
        one_time=(OneTimeCost(name="timer", usd=Decimal("0.01"), source="a test"),),
        egress_usd_per_gb=Decimal("0.09"),
        boot_s=90.0,
    )

    terms = terms_for(make_spec(egress_gb=Decimal(2), grace_s=30.0), offer, PROVIDER)

    assert Decimal("2.5") == terms.rate_usd_per_hour
    assert Decimal("0.5") == offer.standing_usd_per_hour
    assert Decimal("1.5") == offer.expected_usd_per_hour
    assert (Decimal("0.01"), Decimal("0.18")) == (terms.one_time_usd, terms.egress_usd)
    assert (PROVIDER.billing.granularity_s, PROVIDER.billing.floor_s) == (terms.granularity_s, terms.floor_s)
    assert (PROVIDER.worst_lateness_s, 90.0, 30.0) == (terms.worst_lateness_s, terms.boot_s, terms.grace_s)


def test_an_offer_without_a_price_is_refused() -> None:
    """Unknown means refuse, never zero; with another offer at hand, that one is taken."""
    free, priced = make_offer(usd_per_hour="0"), make_offer("r2")

    with pytest.raises(PriceUnknown, match="is not known"):
        plan([free])
    assert priced == plan([free, priced]).offer


def test_without_any_offer_the_refusal_says_so() -> None:
    """There is nothing to buy."""
    with pytest.raises(PriceUnknown, match="No machine is on offer"):
        plan([])


def test_an_offer_that_the_cap_does_not_pay_for_is_passed_over() -> None:
    """A cheap machine that takes an hour to boot is of no use to a small cap."""
    slow, quick = make_offer("r1", usd_per_hour="1", boot_s=36_000.0), make_offer("r2", usd_per_hour="2")

    assert quick == plan([slow, quick]).offer


def test_when_none_fits_the_cheapest_offer_says_what_would() -> None:
    """One error, with the smallest cap on it."""
    with pytest.raises(CapTooSmall) as refused:
        plan([make_offer("r1", usd_per_hour="7.2"), make_offer("r2")], cap_usd="0.01")

    smallest = Decimal(refused.value.fix.removesuffix(".").rpartition(" ")[2])
    assert plan([make_offer("r2")], cap_usd=str(smallest)).offer == make_offer("r2")


def test_a_time_limit_counts_what_was_used() -> None:
    """Two hours of a three-hour job are gone."""
    spec = make_spec(max_duration_s=10_800.0)
    again = make_plan(
        spec, [make_offer()], PROVIDER, backstop=UNARMED, cap_usd=Decimal(50), spent_usd=Decimal(7), used_s=7200.0
    )

    assert (3600.0, Outcome.DURATION_REACHED) == (again.deadlines.soft_after_s, again.deadlines.outcome)


@pytest.mark.parametrize(
    ("store", "checkpoints", "expected"),
    [
        (None, Checkpoints(path="out"), 0.0),
        ("none", Checkpoints(path="out"), 0.0),
        ("/data", None, 0.0),
        ("/data", Checkpoints(path="out"), FOLDER_RESERVE_S),
        ("s3://bucket/prefix", Checkpoints(path="out"), 60.0),
    ],
)
def test_time_for_the_last_upload_is_kept_where_there_is_one(
    store: str | None, checkpoints: Checkpoints | None, expected: float
) -> None:
    """Nothing is reserved for what will not happen."""
    assert expected == upload_reserve_s(make_spec(store=store, checkpoints=checkpoints))


def test_the_plan_names_what_is_not_armed_and_what_arms_it() -> None:
    """Before money is spent."""
    layers = {layer.name: layer for layer in plan([make_offer()]).layers}

    assert {"guard": True, "agent": True, "backstop": False} == {name: layer.armed for name, layer in layers.items()}
    assert layers["backstop"].fix == "gpulaunch init aws --apply"


def test_a_machine_that_cannot_delete_itself_is_a_layer_that_is_not_armed() -> None:
    """With what arms it, and what else the provider has to say."""
    half = Backstop(armed=True, what="a timer", own_end=False, own_end_fix="gpulaunch init gcp --apply", notes=("n",))
    made = plan([make_offer()], backstop=half)
    agent = next(layer for layer in made.layers if layer.name == "agent")

    assert (False, "gpulaunch init gcp --apply") == (agent.armed, agent.fix)
    assert "n" == made.warnings[0]


def test_a_job_without_checkpoints_is_warned() -> None:
    """Its work may be lost at a deadline."""
    assert "checkpoints" in plan([make_offer()]).warnings[0]
    assert plan([make_offer()], checkpoints=Checkpoints(path="out")).warnings == ()


def test_the_plan_as_json() -> None:
    """Money as text, times in UTC, and everything that a reader needs to check the arithmetic."""
    made = plan([make_offer(one_time=(OneTimeCost(name="timer", usd=Decimal("0.01"), source="a test"),))] * 2)
    shown = json.loads(json.dumps(plan_json(made, START)))

    assert Decimal("3.6") == made.rate_usd_per_hour
    assert {"cap_usd": "5.00", "rate_usd_per_hour": "3.60", "egress_reserve_usd": "0.00", "alternatives": 1} == {
        key: shown[key] for key in ("cap_usd", "rate_usd_per_hour", "egress_reserve_usd", "alternatives")
    }
    assert [{"name": "timer", "usd": "0.01", "source": "a test"}] == shown["one_time"]
    assert shown["soft_deadline"] < shown["hard_deadline"]
    assert shown["hard_deadline"].endswith("Z")
    assert shown["ends_by"] == "budget_reached"
    assert [layer["name"] for layer in shown["layers"]] == ["guard", "agent", "backstop"]
