"""Live prices from the Cloud Billing Catalog, in the shape that it has: pages, noise, steps, and one price a region."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from gcp_server import FakeGcp
from gcp_state import Cloud

from launcher.core.clock import VirtualClock
from providers.base import AuthError, OfferRequest, PriceUnknown, ProviderUnavailable
from providers.gcp import credentials
from providers.gcp.prices import CATALOGUE_AGE_S, GcpCataloguePrices
from providers.gcp.provider import GcpProvider
from providers.prices.live import make_loader
from providers.prices.rows import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ONE_O_CLOCK = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakeGcp]:
    """A catalogue."""
    made = FakeGcp(Cloud(VirtualClock()))
    yield made
    made.close()


def loader(fake: FakeGcp) -> GcpCataloguePrices:
    """What asks it."""
    source = credentials.find({}, {"endpoint": fake.url, "project": "proj"})
    return GcpCataloguePrices(VirtualClock(), source)


def test_a_machine_is_its_cores_its_memory_and_its_gpu(fake: FakeGcp) -> None:
    """Four cores, fifteen GiB and a T4, on demand and spot, in every region that has all three."""
    rows = loader(fake).load("T4")
    compute = {(row.region, row.spot): row.usd for row in rows if row.kind is Kind.COMPUTE}

    assert compute == {
        ("us-central1", False): 4 * Decimal("0.031611") + 15 * Decimal("0.004237") + Decimal("0.35"),
        ("us-central1", True): 4 * Decimal("0.008640") + 15 * Decimal("0.001158") + Decimal("0.175"),
        ("europe-west4", False): 4 * Decimal("0.034802") + 15 * Decimal("0.004664") + Decimal("0.3675"),
        ("europe-west4", True): 4 * Decimal("0.013921") + 15 * Decimal("0.001866") + Decimal("0.175"),
    }


def test_disk_and_address_are_priced_too(fake: FakeGcp) -> None:
    """Balanced, not regional; an address at its full price, since free hours are another machine's; half on spot."""
    rows = [row for row in loader(fake).load("T4") if row.region == "us-central1"]
    beside = {(row.kind, row.spot): (row.usd, row.unit) for row in rows if row.kind is not Kind.COMPUTE}

    assert beside == {
        (Kind.DISK, None): (Decimal("0.1"), "USD/GB-month"),
        (Kind.IPV4, False): (Decimal("0.005"), "USD/h"),
        (Kind.IPV4, True): (Decimal("0.0025"), "USD/h"),
    }


def test_a_live_rate_has_no_margin(fake: FakeGcp, tmp_path: Path) -> None:
    """Every part of a plan's rate is the catalogue's; only a spot machine's ceiling is the on-demand price."""
    settings = {"endpoint": fake.url, "project": "proj"}
    provider = GcpProvider(clock=VirtualClock(), home=str(tmp_path), settings=settings)
    offers = provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=True, regions=("us-central1",)))
    on_demand = next(offer for offer in offers if not offer.spot)
    spot = next(offer for offer in offers if offer.spot)

    assert on_demand.rate_usd_per_hour == on_demand.expected_usd_per_hour
    assert all(part.source.startswith("live at") for part in on_demand.parts)
    assert spot.parts[0].worst_usd_per_hour == on_demand.parts[0].worst_usd_per_hour
    assert spot.parts[0].expected_usd_per_hour < spot.parts[0].worst_usd_per_hour


def test_the_catalogue_is_read_once_a_day(fake: FakeGcp, tmp_path: Path) -> None:
    """It is tens of thousands of entries."""
    clock = VirtualClock()
    settings = {"endpoint": fake.url, "project": "proj"}
    request = OfferRequest(gpu="T4", disk_gb=100, spot=False)
    provider = GcpProvider(clock=clock, home=str(tmp_path), settings=settings)
    first = provider.offers(request)
    fake.prices.standard["us-central1"] = ("1", "1", "1")
    clock.advance(CATALOGUE_AGE_S - 1)
    same = provider.offers(request)
    clock.advance(2)
    dearer = provider.offers(request)

    assert [offer.parts for offer in first] == [offer.parts for offer in same]
    assert dearer[-1].expected_usd_per_hour > 20


def test_without_an_answer_the_table_is_used_with_its_margin(fake: FakeGcp, tmp_path: Path) -> None:
    """The Billing API is often not switched on; that is no reason not to train."""
    fake.prices.answers = False
    settings = {"endpoint": fake.url, "project": "proj"}
    provider = GcpProvider(clock=VirtualClock(), home=str(tmp_path), settings=settings)
    offer = provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=False, regions=("us-central1",)))[0]

    assert offer.price_as_of.startswith("table, ")
    assert offer.rate_usd_per_hour > offer.expected_usd_per_hour


def test_a_price_in_an_unknown_unit_is_none(fake: FakeGcp) -> None:
    """A price per month read as one per hour would be no price at all."""
    fake.prices.unit_of_gpu = "mo"
    with pytest.raises(PriceUnknown):
        loader(fake).load("T4")


def test_another_gpu_has_no_price_here(fake: FakeGcp) -> None:
    """Only what gpulaunch can make is priced."""
    with pytest.raises(PriceUnknown):
        loader(fake).load("H100")


def test_a_catalogue_without_an_end_is_given_up(fake: FakeGcp) -> None:
    """Pages are bounded in number and in time."""
    fake.prices.endless = True
    with pytest.raises(ProviderUnavailable):
        loader(fake).load("T4")


def test_a_spot_price_is_proven_by_a_version_that_held_at_the_start(fake: FakeGcp) -> None:
    """Else it is not known, and the ceiling counts."""
    asks = loader(fake)
    spot = 4 * Decimal("0.008640") + 15 * Decimal("0.001158") + Decimal("0.175")
    fake.prices.spot_before = {"us-central1": ("0.1", "0.1", "0.1")}
    fake.prices.spot_since = "2026-11-21T12:30:00Z"
    changed = asks.spot_usd_per_hour("us-central1", NOON, ONE_O_CLOCK)
    fake.prices.spot_before = {}
    unknown = asks.spot_usd_per_hour("us-central1", NOON, ONE_O_CLOCK)
    fake.prices.spot_since = "2026-11-21T11:00:00Z"
    known = asks.spot_usd_per_hour("us-central1", NOON, ONE_O_CLOCK)

    assert known == spot
    assert unknown is None
    assert changed == 4 * Decimal("0.1") + 15 * Decimal("0.1") + Decimal("0.175"), "the dearest of all that held"


def test_a_machine_that_lived_into_another_month_is_not_asked_for(fake: FakeGcp) -> None:
    """The catalogue's history is by the months of Los Angeles."""
    start = datetime(2026, 12, 1, 7, 30, tzinfo=UTC)
    end = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)

    assert loader(fake).spot_usd_per_hour("us-central1", start, end) is None


def test_a_catalogue_that_does_not_answer_proves_nothing(fake: FakeGcp) -> None:
    """The machine's end is recorded all the same, at its ceiling."""
    fake.prices.answers = False

    assert loader(fake).spot_usd_per_hour("us-central1", NOON, ONE_O_CLOCK) is None


def test_the_loader_is_registered_and_fails_fast_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gpulaunch prices --live` asks every cloud, with whatever is there."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", credentials.ENDPOINT, "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "nothing"))
    ours = make_loader("gcp", tmp_path, VirtualClock(), {})

    with pytest.raises(AuthError):
        ours.load("T4")
