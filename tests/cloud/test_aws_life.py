"""Watching and ending EC2 instances: what is gone, what only looks so, who ended it, and what it cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aws_lab import OWNER, WITH_TIMER, AwsLab, instance_of

from providers.aws.machine import machine_of, spot_cost_usd
from providers.base import (
    CapacityError,
    MachineNotFound,
    MachineState,
    Offer,
    ProviderUnavailable,
    RateLimited,
)

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def spot_offer(aws: AwsLab) -> Offer:
    """A spot machine in us-east-1."""
    return next(offer for offer in aws.offers(spot=True, regions=("us-east-1",)) if offer.spot)


def test_exactly_these_calls_make_and_end_a_machine(aws: AwsLab) -> None:
    """A call more is a right more that somebody must give, and a delay more: this list changes with a reason only."""
    aws.intent()  # the zones and the limit are known from a launch before
    aws.provider.preflight()
    aws.cloud.calls.clear()
    offers = aws.offers(regions=("us-east-1",))
    looked = sorted(aws.cloud.names())
    places = {"places": aws.provider.binding["places"]}
    intent = aws.intent(offer=offers[0], **places)
    aws.cloud.calls.clear()
    aws.cloud.fault("RunInstances", "InsufficientInstanceCapacity", status=500, times=1)
    with pytest.raises(CapacityError):
        aws.provider.create(intent)
    machine = aws.provider.create(aws.intent("j-1-2", offer=offers[1], **places))
    made = aws.cloud.names()
    aws.cloud.calls.clear()
    aws.end(machine.id)
    ended = aws.cloud.names()

    assert ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets"] == looked
    assert ["ec2:RunInstances", "ec2:RunInstances"] == made, "a failover is one call for each zone"
    assert ["ec2:TerminateInstances", "ec2:DescribeInstances"] == ended[:2]
    assert ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeVolumes"] == sorted(ended[2:])


def test_exactly_these_calls_make_and_end_a_machine_with_a_timer(aws: AwsLab) -> None:
    """The schedule is armed last and removed last: it stands as long as something may live."""
    machine = aws.create(**WITH_TIMER)
    made = aws.cloud.names(changing=True)
    aws.cloud.calls.clear()
    aws.end(machine.id)

    assert ["ec2:RunInstances", "scheduler:CreateSchedule"] == made
    ended = ["ec2:TerminateInstances", "ec2:TerminateInstances", "scheduler:DeleteSchedule"]
    assert ended == aws.cloud.names(changing=True)


def test_a_new_instance_that_ec2_does_not_know_yet_is_not_gone(aws: AwsLab) -> None:
    """EC2 is eventually consistent: `not found` is believed only when it stays."""
    machine = aws.create()
    aws.cloud.fault("DescribeInstances", "InvalidInstanceID.NotFound", times=4)

    assert machine.id == aws.provider.get(machine.id).id


def test_an_instance_that_ec2_has_forgotten_is_gone(aws: AwsLab) -> None:
    """About an hour after its end EC2 knows nothing of it; then there is no evidence either."""
    machine = aws.create()
    aws.end(machine.id)
    aws.cloud.fault("DescribeInstances", "InvalidInstanceID.NotFound")
    with pytest.raises(MachineNotFound) as caught:
        aws.new_provider().get(machine.id)

    assert caught.value.machine is None


def test_a_schedule_is_found_after_its_instance_was_forgotten(aws: AwsLab) -> None:
    """Gone includes all that was made for it."""
    machine = aws.create(**WITH_TIMER)
    aws.cloud.power_off(instance_of(machine))
    aws.cloud.fault("DescribeInstances", "InvalidInstanceID.NotFound")
    aws.cloud.fault("TerminateInstances", "InvalidInstanceID.NotFound")
    aws.provider = aws.new_provider(**WITH_TIMER)
    left = aws.provider.get(machine.id)
    aws.end(machine.id)

    assert MachineState.STOPPED == left.state
    assert "schedule" in str(left.state_reason)
    assert [] == aws.cloud.left()


@pytest.mark.parametrize(
    "call", ["DescribeInstances", "DescribeVolumes", "DescribeNetworkInterfaces", "DescribeSecurityGroups"]
)
def test_an_api_that_fails_never_says_gone(aws: AwsLab, call: str) -> None:
    """Nothing is written down as gone that was not seen gone."""
    machine = aws.create()
    aws.cloud.power_off(instance_of(machine))
    aws.cloud.fault(call, "InternalError", status=500)
    with pytest.raises(ProviderUnavailable):
        aws.provider.get(machine.id)


def test_a_listing_is_whole_or_fails(aws: AwsLab) -> None:
    """A region that does not answer may hold a machine."""
    machine = aws.create()
    assert [machine.id] == [each.id for each in aws.provider.list(OWNER)]
    aws.cloud.fault("DescribeInstances", "RequestLimitExceeded", status=503, region="eu-west-1")
    with pytest.raises(RateLimited):
        aws.provider.list(OWNER)


def test_a_machine_that_switched_itself_off_is_ended_by_its_own_account(aws: AwsLab) -> None:
    """Its schedule is left, so it is not gone yet, and only a delete is left to do."""
    machine = aws.create(**WITH_TIMER)
    aws.cloud.power_off(instance_of(machine), tells_when=True)
    left = aws.provider.get(machine.id)
    gone = aws.end(machine.id)

    assert ("Client.InstanceInitiatedShutdown", MachineState.STOPPED) == (left.state_reason, left.state)
    assert gone.machine is not None
    assert gone.machine.billing_ended_at is not None


def test_an_end_whose_time_ec2_does_not_tell_is_told_as_unknown(aws: AwsLab) -> None:
    """The ledger then records an upper bound."""
    machine = aws.create()
    aws.cloud.power_off(instance_of(machine), tells_when=False)
    with pytest.raises(MachineNotFound) as caught:
        aws.provider.get(machine.id)

    assert caught.value.machine is not None
    assert (None, None) == (caught.value.machine.billing_ended_at, caught.value.machine.billed_s)


def test_a_spot_machine_that_was_taken_back_was_preempted(aws: AwsLab) -> None:
    """Its compute cost what the price history says, and a minute at least."""
    machine = aws.create(offer=spot_offer(aws))
    aws.cloud.interrupt(instance_of(machine))
    with pytest.raises(MachineNotFound) as caught:
        aws.provider.get(machine.id)
    evidence = caught.value.machine

    assert evidence is not None
    assert "PREEMPTED" == evidence.state_reason
    assert Decimal("0.263") * 60 / 3600 == evidence.compute_usd


def test_a_refused_terminate_is_told_and_can_be_repeated(aws: AwsLab) -> None:
    """Returning means accepted."""
    machine = aws.create()
    aws.cloud.fault("TerminateInstances", "RequestLimitExceeded", status=503)
    with pytest.raises(RateLimited):
        aws.provider.delete(machine.id)
    aws.cloud.faults.clear()

    assert [instance_of(machine)] == aws.cloud.alive()
    aws.end(machine.id)
    assert [] == aws.cloud.left()


def test_one_failed_step_never_skips_the_others(aws: AwsLab) -> None:
    """A schedule that cannot be removed keeps nothing else."""
    machine = aws.create(**WITH_TIMER)
    aws.cloud.fault("DeleteSchedule", "InternalServerException", status=500)
    aws.provider.delete(machine.id)
    with pytest.raises(ProviderUnavailable):
        aws.provider.delete(machine.id)

    assert [f"schedule gpulaunch-{instance_of(machine)}"] == aws.cloud.left()
    assert MachineState.STOPPED == aws.provider.get(machine.id).state


def test_the_console_is_read_fresh_while_it_runs(aws: AwsLab) -> None:
    """And after the end as EC2 keeps it; at most 64 KiB of it."""
    machine = aws.create()
    aws.cloud.put_console(instance_of(machine), "x" * 70_000 + "end\n")
    running = aws.provider.heartbeat(machine.id)
    aws.end(machine.id)
    ended = aws.provider.heartbeat(machine.id)
    latest = [call.params.get("Latest") for call in aws.cloud.calls if call.action == "GetConsoleOutput"]

    assert (65_536, True) == (len(running), running.endswith(b"end\n"))
    assert running == ended
    assert ["true", None] == latest
    assert b"" == aws.provider.heartbeat("us-east-1/i-00000000000000000")


def test_times_are_told_by_this_computers_clock(aws: AwsLab) -> None:
    """It is an hour ahead of AWS's here, and a machine made now must not look an hour old."""
    aws.clock.step(3600)
    machine = aws.create()

    assert 3600 == pytest.approx(aws.provider.skew_s, abs=60)
    assert timedelta(seconds=60) > abs(machine.created_at - aws.clock.now())


def test_a_pending_instance_is_not_billed_yet() -> None:
    """And one that ended says when, in whichever way EC2 writes it."""
    row = {"InstanceId": "i-1", "LaunchTime": AT, "State": {"Name": "pending"}, "Tags": []}
    ended = row | {
        "State": {"Name": "terminated"},
        "StateTransitionReason": "User initiated (2026-11-21 13:00:05 GMT)",
        "StateReason": {"Code": "Client.UserInitiatedShutdown"},
    }
    pending = machine_of(row, "us-east-1", skew_s=0.0)
    gone = machine_of(ended, "us-east-1", skew_s=5.0)

    assert (MachineState.PENDING, None) == (pending.state, pending.billing_started_at)
    assert AT + timedelta(hours=1, seconds=10) == gone.billing_ended_at
    assert "Client.UserInitiatedShutdown" == gone.state_reason


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("Server.InsufficientInstanceCapacity", ("CapacityError", "zone")),
        ("Server.InternalError", ("CapacityError", "zone")),
        ("Client.VolumeLimitExceeded", ("QuotaError", "region")),
        ("Client.InvalidSnapshot.NotFound", ("InvalidRequest", "region")),
        ("Client.InternalError", ("InvalidRequest", "region")),
        ("Client.UserInitiatedShutdown", None),
        ("Server.SpotInstanceTermination", None),
    ],
)
def test_what_ends_while_it_starts_is_a_launch_that_failed(code: str, expected: tuple[str, str] | None) -> None:
    """By EC2's own code for it, which comes only after it has accepted the machine."""
    row = {"InstanceId": "i-1", "LaunchTime": AT, "State": {"Name": "terminated"}, "StateReason": {"Code": code}}
    never = machine_of(row, "us-east-1", skew_s=0.0).never_ran

    assert expected == (None if never is None else (type(never).__name__, never.next_scope))


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (0.5, Decimal("0.3") / 60),  # a minute is the least
        (30, Decimal("0.15")),
        (90, Decimal("0.3") + Decimal("0.6") / 2),  # the second hour began at 0.4 and rose to 0.6
        (150, Decimal("0.3") + Decimal("0.6") + Decimal("0.6") / 2),
    ],
)
def test_a_spot_bill_is_never_understated(minutes: float, expected: Decimal) -> None:
    """Each hour since the start costs the highest price that held in it."""
    history = [
        (AT - timedelta(hours=2), Decimal("0.2")),
        (AT - timedelta(minutes=1), Decimal("0.3")),
        (AT + timedelta(minutes=60), Decimal("0.4")),
        (AT + timedelta(minutes=70), Decimal("0.6")),
    ]

    assert expected == spot_cost_usd(history, AT, AT + timedelta(minutes=minutes))
    assert spot_cost_usd(history[2:], AT, AT + timedelta(minutes=minutes)) is None
