"""The cloud's own timer: a one-time schedule of EventBridge Scheduler that terminates one instance at its deadline.

EventBridge Scheduler user guide, "Schedule types" and "Universal targets": one-time schedules run within 60 seconds of
their time, and delete themselves. They call EC2 with a role that `gpulaunch init aws` makes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tenacity

from providers.base import AmbiguousOutcome, Backstop, InvalidRequest, ProviderError

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.core.clock import Clock
    from providers.aws.client import Client
    from providers.aws.machine import MachineId

LATENESS_S = 60.0
TARGET = "arn:aws:scheduler:::aws-sdk:ec2:terminateInstances"
ROLE_SETTLES_S = 20.0
"""A role that was just made cannot be taken on everywhere at once (IAM user guide, "eventually consistent")."""
RETRY = {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86_400}
"""The most that the Scheduler allows (API reference, RetryPolicy): a day of trying."""


def declared(role: str | None) -> Backstop:
    """Whether it will be armed, and what is lost without it."""
    if role:
        return Backstop(armed=True, what="a one-time schedule of EventBridge Scheduler terminates the instance")
    return Backstop(
        armed=False,
        what="terminate-on-shutdown and the machine's own timer only: a machine whose kernel hangs is ended by the "
        "guard alone",
        fix="gpulaunch init aws --apply",
    )


def name_of(instance: str) -> str:
    """A schedule's name: found again by the instance alone."""
    return f"gpulaunch-{instance}"


class Schedules:
    """Arms, finds and removes the schedules of machines."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def arm(self, machine: MachineId, *, at: datetime, role: str) -> None:
        """Terminate the machine at that time, by AWS's clock. One that is armed already stays as it is.

        Raises AmbiguousOutcome when that may not have been done, and what else AWS says against it.
        """
        ends = self._clock.monotonic() + ROLE_SETTLES_S
        retrying = tenacity.Retrying(
            stop=lambda _: self._clock.monotonic() >= ends,
            wait=tenacity.wait_exponential(multiplier=1, max=5),
            retry=tenacity.retry_if_exception(lambda error: getattr(error, "code", "") == "ValidationException"),
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            retrying(self._client.call, machine.region, "scheduler.create_schedule", **_request(machine, at, role))
        except InvalidRequest as error:
            if error.code != "ConflictException":
                raise
        except ProviderError as error:
            if not error.retry:
                raise
            raise AmbiguousOutcome(
                f"The machine {machine} was made, and its timer may not be armed.",
                str(error),
                "It is asked again by itself, with the same token.",
                code=error.code,
            ) from error

    def disarm(self, machine: MachineId) -> None:
        """Remove the schedule; one that is gone is success."""
        self._about(machine, "scheduler.delete_schedule")

    def exists(self, machine: MachineId) -> bool:
        """Whether the schedule is there."""
        return self._about(machine, "scheduler.get_schedule") is not None

    def _about(self, machine: MachineId, call: str) -> dict[str, Any] | None:
        try:
            return self._client.call(machine.region, call, Name=name_of(machine.instance))
        except InvalidRequest as error:
            if error.code != "ResourceNotFoundException":
                raise
            return None


def _request(machine: MachineId, at: datetime, role: str) -> dict[str, Any]:
    return {
        "Name": name_of(machine.instance),
        "ClientToken": name_of(machine.instance),
        "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": TARGET,
            "RoleArn": role,
            "Input": json.dumps({"InstanceIds": [machine.instance]}),
            "RetryPolicy": RETRY,
        },
    }
