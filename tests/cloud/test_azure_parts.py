"""Azure's errors, second lives, clocks, consoles and logins: what the provider makes of each."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from azure_bench import OWNER, Bench
from azure_things import Pace
from azure_world import SUBSCRIPTION

from launcher import launch
from launcher.agent import heartbeat
from launcher.outcome import State
from providers.azure import credentials
from providers.azure.errors import from_code
from providers.azure.provider import AzureProvider
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from launcher.core.clock import Clock
    from providers.base import Intent


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One launcher and one cloud."""
    made = Bench(tmp_path / "home")
    yield made
    made.close()


def frozen(bench: Bench) -> Intent:
    """The request of the job's first attempt, as a crashed guard would have left it."""
    bench.add()
    attempt = bench.guard._creation.next_attempt(bench.job, [])
    assert attempt is not None
    return launch.thaw(attempt)


# Errors


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AuthorizationFailed", AuthError),
        (401, "ExpiredAuthenticationToken", AuthError),
        (404, "SubscriptionNotFound", AuthError),
        (429, "TooManyRequests", RateLimited),
        (429, "OperationNotAllowed", RateLimited),
        (409, "AnotherOperationInProgress", ProviderUnavailable),
        (500, "InternalServerError", ProviderUnavailable),
        (503, "SomethingNew", ProviderUnavailable),
        (400, "SomethingNew", InvalidRequest),
    ],
)
def test_an_error_is_what_its_code_says(bench: Bench, status: int, code: str, kind: type[ProviderError]) -> None:
    """Through the real SDK; the status speaks only where the code is unknown."""
    bench.world.faults.add("refuse", method="GET", path="resourcegroups$", status=status, code=code)
    with pytest.raises(ProviderError) as caught:
        bench.provider.list(OWNER)

    assert (kind, code) == (type(caught.value), caught.value.code)
    assert caught.value.what
    assert kind is not AuthError or caught.value.fix


@pytest.mark.parametrize(
    ("code", "kind", "scope"),
    [
        ("AllocationFailed", CapacityError, "region"),
        ("ZonalAllocationFailed", CapacityError, "zone"),
        ("OverconstrainedZonalAllocationRequest", CapacityError, "zone"),
        ("SkuNotAvailable", CapacityError, "region"),
        ("SpotPriceGreaterThanProvidedMaxPrice", CapacityError, "region"),
        ("OperationNotAllowed", QuotaError, "region"),
        ("RequestDisallowedByPolicy", AuthError, "region"),
        ("AuthorizationFailed", AuthError, "provider"),
    ],
)
def test_an_error_says_where_to_go_next(code: str, kind: type[ProviderError], scope: str) -> None:
    """By the code of an operation that failed, whose status is 200."""
    error = from_code(code, doing="place the machine", why="")

    assert (kind, scope) == (type(error), error.next_scope)


def test_an_api_that_hangs_up_is_unavailable(bench: Bench) -> None:
    """After one more try, within seconds."""
    rule = bench.world.faults.add("drop", method="GET", path="resourcegroups$", times=5)
    with pytest.raises(ProviderUnavailable):
        bench.provider.list(OWNER)

    assert 3 == rule.times


# One life for each token


def test_another_process_makes_no_second_machine_where_the_log_tells(bench: Bench, tmp_path: Path) -> None:
    """Resource Manager has forgotten the group; the activity log has not."""
    intent = frozen(bench)
    machine = bench.provider.create(intent)
    bench.provider.delete(machine.id)
    bench.pass_time(200)
    with pytest.raises(MachineNotFound) as caught:
        bench.another_provider(tmp_path / "other").create(intent)

    assert "IdempotentInstanceTerminated" == caught.value.code
    assert caught.value.machine is not None
    assert caught.value.machine.billing_ended_at is not None
    assert {} == bench.left()


def test_until_the_log_can_tell_nothing_is_made(bench: Bench, tmp_path: Path) -> None:
    """It may be twenty minutes behind: the fate of the first call is unknown until then."""
    bench.world.pace = Pace(log_late=1000.0)
    intent = frozen(bench)
    bench.provider.delete(bench.provider.create(intent).id)
    bench.pass_time(300)
    other = bench.another_provider(tmp_path / "other")
    with pytest.raises(AmbiguousOutcome):
        other.create(intent)
    bench.pass_time(1000)
    with pytest.raises(MachineNotFound):
        other.create(intent)

    assert {} == bench.left()


def test_what_was_never_made_is_made_once_the_log_is_complete(bench: Bench) -> None:
    """A guard that died before its first call reached Azure; its successor comes half an hour later."""
    intent = frozen(bench)
    bench.pass_time(1800)

    assert MachineState.RUNNING == bench.provider.create(intent).state


def test_a_machine_that_was_evicted_is_not_made_again_by_a_replay(bench: Bench, tmp_path: Path) -> None:
    """Its group is still there, so the token has lived: it is told as stopped, and deleted like any other."""
    intent = frozen(bench)
    bench.provider.create(intent)
    with bench.server.lock:
        [vm] = bench.world.machines()
        bench.world.evict(vm)
    again = bench.another_provider(tmp_path / "other").create(intent)

    assert MachineState.STOPPED == again.state
    assert [] == bench.world.machines()


def test_a_replay_after_the_deadline_finds_its_machine(bench: Bench, tmp_path: Path) -> None:
    """To refuse it would be to forget a machine that bills."""
    intent = frozen(bench)
    bench.provider.create(intent)
    [group] = bench.world.groups.values()
    group.locked = True  # nobody could end it
    bench.pass_time(intent.hard_after_s + 60)
    again = bench.another_provider(tmp_path / "other").create(intent)

    assert again.id == group.name


def test_a_half_made_group_whose_deadline_has_passed_is_deleted(bench: Bench, tmp_path: Path) -> None:
    """And only then is the request refused."""
    intent = frozen(bench)
    bench.world.faults.add("refuse", method="PUT", path="virtualMachines", status=503, code="ServiceUnavailable")
    with pytest.raises(AmbiguousOutcome):
        bench.provider.create(intent)
    for thing in bench.world.inside(f"gpulaunch-{intent.token}"):
        if thing.kind.endswith("workflows"):
            bench.world.remove(thing)  # somebody took the timer away
    bench.pass_time(intent.hard_after_s + 60)
    with pytest.raises(InvalidRequest) as caught:
        bench.another_provider(tmp_path / "other").create(intent)

    assert "DeadlinePassed" == caught.value.code
    assert {} == bench.left()


def test_a_machine_that_is_placed_is_not_waited_for_to_boot(bench: Bench) -> None:
    """Azure's operation lasts until the guest reports; capacity is known long before."""
    intent = frozen(bench)
    before_s = bench.clock.monotonic()
    bench.provider.create(intent)

    assert bench.clock.monotonic() - before_s < 60


# Clocks


class Ahead:
    """The cloud's clock: the same time, a hundred seconds on."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner

    def now(self) -> datetime:
        """A hundred seconds on."""
        return self._inner.now() + timedelta(seconds=100)


def test_the_clouds_clock_is_read_from_its_replies(tmp_path: Path) -> None:
    """This computer's clock is 100 s behind; times are told by it, and the timer is set by the cloud's."""
    here = Bench(tmp_path / "home")
    try:
        here.world.clock = Ahead(here.clock)
        intent = frozen(here)
        skew_s = here.provider.skew_s
        machine = here.provider.create(intent)
        workflow = next(thing for thing in here.world.things.values() if thing.kind.endswith("workflows"))
        start = workflow.body["properties"]["definition"]["triggers"]["deadline"]["recurrence"]["startTime"]
    finally:
        here.close()

    assert -101 <= skew_s <= -99
    assert abs((machine.created_at - here.clock.now()).total_seconds()) < 60
    hard = intent.created_at + timedelta(seconds=intent.hard_after_s + 100)
    assert start == hard.strftime("%Y-%m-%dT%H:%M:%SZ")


# The console


def test_the_serial_log_is_read_by_its_tail_and_its_address_is_kept(bench: Bench) -> None:
    """64 KiB at most; the address is asked for once in a while, not at each reading."""
    vm = bench.started()
    bench.pass_time(7200)
    asked = sum("retrieveBootDiagnosticsData" in url for _, url, _ in bench.world.requests)
    tails = [bench.provider.heartbeat(bench.attempt.machine_id or "") for _ in range(3)]
    again = sum("retrieveBootDiagnosticsData" in url for _, url, _ in bench.world.requests) - asked

    assert len(tails[0]) <= 65_536
    assert heartbeat.latest(tails[0]) is not None
    assert again <= 1
    assert vm.booted_at is not None


def test_the_last_words_are_kept_when_log_and_machine_are_gone(bench: Bench) -> None:
    """The guard may come to read them later."""
    vm = bench.started()
    machine_id = bench.attempt.machine_id or ""
    before = bench.provider.heartbeat(machine_id)
    del bench.world.consoles[vm.id.lower()]

    assert before == bench.provider.heartbeat(machine_id)
    assert b"" == bench.provider.heartbeat("gpulaunch-never-1")


# Logins


def test_credentials_are_found_without_sdk_and_network(tmp_path: Path) -> None:
    """In the environment, or where `az login` writes them."""
    principal = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
    (tmp_path / ".azure").mkdir()
    subscriptions = [{"id": "first", "isDefault": False}, {"id": "second", "isDefault": True}]
    profile = "\ufeff" + json.dumps({"subscriptions": subscriptions})
    (tmp_path / ".azure" / "azureProfile.json").write_text(profile, encoding="utf-8")
    logged_in = {"HOME": str(tmp_path)}

    assert [False, True, True] == [credentials.are_there(env, {}) for env in ({}, principal, logged_in)]
    assert ["cli", "environment"] == [credentials.source(env, {}) for env in (logged_in, principal)]
    assert "second" == credentials.subscription(logged_in, {})
    assert "mine" == credentials.subscription(logged_in, {"subscription": "mine"})


@pytest.mark.parametrize("address", ["https://127.0.0.1:1", "http://example.com", "http://10.0.0.1:80", "ftp://::1"])
def test_an_endpoint_elsewhere_is_refused(address: str) -> None:
    """Plain http on loopback alone: nothing else may take Azure's place."""
    with pytest.raises(InvalidRequest) as caught:
        credentials.endpoint({"GPULAUNCH_AZURE_ENDPOINT": address}, {})

    assert "EndpointRefused" == caught.value.code


def test_the_account_and_what_binds_to_it(bench: Bench, tmp_path: Path) -> None:
    """Another process with the binding alone speaks for the same account; no credential is in it."""
    provider = bench.provider
    again = AzureProvider(clock=bench.clock, home=str(tmp_path), settings=provider.binding)

    assert provider.account == again.account
    assert provider.account.startswith(f"azure/{SUBSCRIPTION}/none/127.0.0.1:")
    assert {"subscription", "credentials", "endpoint"} == set(provider.binding)


def test_a_job_is_worth_most_of_its_cap(bench: Bench) -> None:
    """What Azure may waste at an end leaves 97 % of the cap to use, on demand, at five dollars and a grace of 60 s."""
    [offer, *_] = bench.offers()
    bench.add()
    attempt = bench.guard._creation.next_attempt(bench.job, [])
    assert attempt is not None
    commitments = offer.one_time_usd
    useful_s = Decimal(str(attempt.soft_after_s))

    assert useful_s * offer.rate_usd_per_hour / 3600 / (Decimal(5) - commitments) >= Decimal("0.97")


def test_a_frozen_request_survives_the_journal(bench: Bench) -> None:
    """Its digest is the same after it was written down and read back: a replay is known as such."""
    from providers.azure.requests import digest

    intent = frozen(bench)
    back = msgspec.json.decode(msgspec.json.encode(intent), type=type(intent))

    assert digest(intent) == digest(back)
    assert State.PLANNED == bench.job.state
