"""This computer as a provider, where no process has to live: offers, refusals, and what is left of a machine."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from launcher.core.clock import VirtualClock
from providers.base import (
    CapacityError,
    Intent,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    OfferRequest,
    PriceUnknown,
    make_tags,
)
from providers.local import machine as local_machine
from providers.local.folder import Folder
from providers.local.provider import LocalProvider

if TYPE_CHECKING:
    from pathlib import Path

    from providers.base import Machine

HARD_AFTER_S = 100.0


class Bench:
    """A provider on a virtual clock, and machines whose folder exists though nothing was ever started for them."""

    def __init__(self, home: Path) -> None:
        self.clock = VirtualClock()
        self.home = home
        self.provider = LocalProvider(clock=self.clock, home=str(home), settings={})

    def intent(self) -> Intent:
        """A frozen request, made now."""
        now = self.clock.now()
        ends = now + timedelta(seconds=HARD_AFTER_S)
        return Intent(
            job="j-1",
            name="job",
            attempt=1,
            token="j-1-1",
            owner="me",
            account=self.provider.account,
            offer=self.offer(),
            created_at=now,
            hard_after_s=HARD_AFTER_S,
            hard_deadline=ends,
            tags=make_tags(job="j-1", attempt=1, owner="me", cap_usd=Decimal(5), hard_deadline=ends),
            disk_gb=100,
            boot_data=b"",
        )

    def offer(self, **settings: Any) -> Any:
        """The one offer, with these settings."""
        return self.provider.offers(OfferRequest(gpu=None, disk_gb=100, spot=False, settings=settings))[0]

    def made(self, monkeypatch: pytest.MonkeyPatch) -> Folder:
        """A machine whose creation was cut off before its backstop was started."""
        intent = self.intent()

        def crash(provider: LocalProvider, folder: Folder) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(LocalProvider, "_start_backstop", crash)
            with pytest.raises(KeyboardInterrupt):
                self.provider.create(intent)
        [path] = (self.home / "machines").iterdir()
        return Folder(path)

    def evidence(self, folder: Folder) -> Machine:
        """What is left of a machine that is gone."""
        with pytest.raises(MachineNotFound) as caught:
            self.provider.get(folder.id)
        assert caught.value.machine is not None
        return caught.value.machine


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench in a folder of its own."""
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("settings", "usd_per_hour"),
    [
        ({}, "0.0225"),
        ({"watts": "200"}, "0.03"),
        ({"usd_per_kwh": "0.30"}, "0.045"),
        ({"watts": "1000", "usd_per_kwh": "0.25"}, "0.25"),
        ({"price_per_hour": "3.6", "watts": "200"}, "3.6"),
    ],
)
def test_the_rate_is_electricity_or_a_price(bench: Bench, settings: dict[str, str], usd_per_hour: str) -> None:
    """Watts times dollars per kilowatt-hour, 150 W at 15 cents unless told otherwise; a price is taken outright."""
    offer = bench.offer(**settings)

    assert offer.rate_usd_per_hour == Decimal(usd_per_hour)
    assert offer.expected_usd_per_hour == offer.rate_usd_per_hour


def test_a_price_of_zero_is_refused(bench: Bench) -> None:
    """A cap cannot be kept with it."""
    with pytest.raises(PriceUnknown):
        bench.offer(price_per_hour="0")


def test_another_region_is_refused(bench: Bench) -> None:
    """There is one: here."""
    request = OfferRequest(gpu=None, disk_gb=100, spot=False, regions=("us-east-1",))
    with pytest.raises(InvalidRequest) as caught:
        bench.provider.offers(request)

    assert "us-east-1" in caught.value.what


def test_a_request_past_its_deadline_makes_nothing(bench: Bench) -> None:
    """A frozen request that is replayed too late."""
    intent = bench.intent()
    bench.clock.advance(HARD_AFTER_S)
    with pytest.raises(InvalidRequest) as caught:
        bench.provider.create(intent)

    assert caught.value.code == "DeadlinePassed"
    assert not (bench.home / "machines").exists()


def test_a_folder_that_cannot_be_written_is_told(bench: Bench) -> None:
    """With the fix, and as a failure after which nothing exists."""
    (bench.home / "machines").write_text("a file")
    with pytest.raises(CapacityError) as caught:
        bench.provider.create(bench.intent())

    assert caught.value.code == "FOLDER_UNWRITABLE"
    assert caught.value.fix


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
def test_a_backstop_that_does_not_start_leaves_no_machine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    """Without a backstop nothing is started, and the token is used up."""
    monkeypatch.setattr(sys, "executable", python)
    intent = bench.intent()
    with pytest.raises(CapacityError) as caught:
        bench.provider.create(intent)

    assert caught.value.code == "BACKSTOP_FAILED"
    assert bench.provider.list("me") == []
    with pytest.raises(MachineNotFound):
        bench.provider.create(intent)


def test_a_creation_that_was_cut_off_is_still_a_machine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed and waits for its replay, or for its deletion."""
    folder = bench.made(monkeypatch)

    assert bench.provider.get(folder.id).state == MachineState.PENDING
    assert [machine.id for machine in bench.provider.list("me")] == [folder.id]
    assert bench.provider.list("you") == []


def test_another_request_on_its_token_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen request is the only one that may be replayed."""
    bench.made(monkeypatch)
    other = msgspec.structs.replace(bench.intent(), hard_after_s=HARD_AFTER_S + 1)
    with pytest.raises(InvalidRequest) as caught:
        bench.provider.create(other)

    assert caught.value.code == "IdempotentParameterMismatch"


def test_time_asleep_costs_nothing_and_moves_the_deadline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that was closed for an hour has not been billed for it."""
    folder = bench.made(monkeypatch)
    bench.clock.advance(10)
    before = bench.provider.get(folder.id)
    bench.clock.suspend(3600)
    after = bench.provider.get(folder.id)

    assert (before.billed_s, after.billed_s) == (10.0, 10.0)
    assert before.deadline_at is not None
    assert after.deadline_at == before.deadline_at + timedelta(seconds=3600)


def test_a_step_of_the_wall_clock_bills_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age is counted from boot."""
    folder = bench.made(monkeypatch)
    bench.clock.advance(10)
    bench.clock.step(-7200)

    assert bench.provider.get(folder.id).billed_s == 10.0


def test_what_was_never_started_is_deleted_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is exact, and its token makes no second machine."""
    folder = bench.made(monkeypatch)
    bench.clock.advance(10)
    bench.provider.delete(folder.id)
    machine = bench.evidence(folder)

    assert machine.billed_s == 10.0
    assert machine.billing_ended_at == bench.clock.now()
    with pytest.raises(MachineNotFound) as caught:
        bench.provider.create(bench.intent())
    assert caught.value.code == "IdempotentInstanceTerminated"


def test_a_restart_of_the_computer_ends_its_machines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process survives it. When it happened is not known, so the bill is an upper bound without an end."""
    folder = bench.made(monkeypatch)
    monkeypatch.setattr(local_machine, "boot_id", lambda: "the next boot")
    machine = bench.evidence(folder)

    assert machine.billed_s == HARD_AFTER_S + bench.provider.worst_lateness_s
    assert machine.billing_ended_at is None


@pytest.mark.parametrize(("age_s", "billed_s"), [(10, 10.0), (5000, HARD_AFTER_S + 2.0)])
def test_an_end_that_nobody_saw_is_an_upper_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, age_s: float, billed_s: float
) -> None:
    """Every process is dead, its backstop too: it lived until now at the most, and never past its deadline."""
    folder = bench.made(monkeypatch)
    folder.claim_start()
    bench.clock.advance(age_s)
    machine = bench.evidence(folder)

    assert machine.billed_s == billed_s
    assert machine.billing_ended_at is None


def test_a_backstop_that_has_not_written_its_pid_yet_hinders_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its lock first: a delete may come between the two."""
    folder = bench.made(monkeypatch)
    lock = folder.hold("backstop.lock")
    assert lock is not None
    try:
        bench.provider.delete(folder.id)
        assert bench.provider.get(folder.id).state == MachineState.PENDING
    finally:
        os.close(lock)

    assert folder.delete_ordered_s() == 0.0


def test_the_console_is_read_from_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 64 KiB, and nothing of a machine that has not spoken."""
    folder = bench.made(monkeypatch)
    assert bench.provider.heartbeat(folder.id) == b""
    (folder.path / "console.log").write_bytes(b"old" * 65_536 + b"new")
    console = bench.provider.heartbeat(folder.id)

    assert (len(console), console[-3:]) == (65_536, b"new")


def test_deleting_what_never_was_is_success(bench: Bench) -> None:
    """The aim is that it is not there, and it is not."""
    bench.provider.delete("local-000000000000")

    with pytest.raises(MachineNotFound):
        bench.provider.get("local-000000000000")
