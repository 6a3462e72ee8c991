"""Making an instance: one RunInstances that is safe to replay, and its timer.

Returning means that there is one instance with its timer armed. AmbiguousOutcome means that there may be one. Any other
error means that there is none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from providers.aws import groups, quota
from providers.aws.instances import LOOK_AGAIN_S
from providers.aws.machine import TERMINATED, MachineId
from providers.aws.places import place_in
from providers.aws.requests import Place, run_instances
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineNotFound,
    ProviderError,
    QuotaError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock
    from providers.aws.backstop import Schedules
    from providers.aws.client import Client
    from providers.aws.instances import Instances, Row
    from providers.base import Intent, Machine

TAKE_BACK_S = 300.0
"""How long a create waits for the end of an instance whose timer was refused."""


class Launch:
    """Carries out frozen intents. `end` orders a machine destroyed, `look` raises MachineNotFound once it is gone."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        instances: Instances,
        schedules: Schedules,
        *,
        end: Callable[[str], None],
        look: Callable[[str], Machine],
    ) -> None:
        self._client = client
        self._clock = clock
        self._instances = instances
        self._schedules = schedules
        self._end = end
        self._look = look

    def create(self, intent: Intent) -> Machine:
        """One instance for this token, made now or by an earlier call, with its timer where a role for it is set."""
        if self._clock.now() - timedelta(seconds=self._client.skew_s) >= intent.hard_deadline:
            return self._after_deadline(intent)
        row = self._run(intent, self._place(intent))
        machine = self._instances.machine(intent.offer.region, row)
        role = intent.settings.get("scheduler_role_arn")
        if role and row["State"]["Name"] in ("pending", "running"):
            self._arm(MachineId.read(machine.id), intent, role)
        return machine

    def _place(self, intent: Intent) -> Place:
        """Where it is attached: frozen in the intent by `up`, else asked for now."""
        region = intent.offer.region
        frozen = intent.settings.get("places", {}).get(region)
        if frozen is not None:
            return msgspec.convert(frozen, Place)
        return place_in(self._client, region, intent.settings.get("image"))

    def _run(self, intent: Intent, place: Place) -> Row:
        region = intent.offer.region
        group = place.group or groups.own(self._client, intent, place)
        try:
            request = run_instances(intent, place, group)
            reply = self._client.call(region, "ec2.run_instances", once=True, **request)
        except AmbiguousOutcome:
            raise
        except ProviderError as error:
            raise self._not_made(intent, place, group, error) from error
        row: Row = reply["Instances"][0]
        if place.group is None:
            self._claim(intent, group, row)
        return row

    def _not_made(self, intent: Intent, place: Place, group: str, error: ProviderError) -> ProviderError:
        """What a refused RunInstances means. Nothing was made by it, and a group that was made for it is removed."""
        if error.code == "IdempotentInstanceTerminated":
            return self._has_lived(intent, error.code)
        if place.group is None and error.code != "IdempotentParameterMismatch":
            try:
                groups.drop(self._client, intent.offer.region, group)
            except ProviderError as left:
                return AmbiguousOutcome(error.what, f"{error.why} Its security group is left: {left}", code=error.code)
        offer = intent.offer
        if isinstance(error, QuotaError) and error.code in quota.REFUSALS:
            return quota.refusal(offer.region, offer.instance_type, spot=offer.spot, code=error.code)
        if isinstance(error, CapacityError):
            kind = f"{offer.instance_type} ({'spot' if offer.spot else 'on demand'})"
            what = f"There is no {kind} in {offer.zone or offer.region}, {offer.region}: {error.code}."
            return CapacityError(what, error.why, error.fix, code=error.code, next_scope=error.next_scope)
        return error

    def _claim(self, intent: Intent, group: str, row: Row) -> None:
        try:
            groups.claim(self._client, intent.offer.region, group, row["InstanceId"])
        except ProviderError as error:
            raise AmbiguousOutcome(
                f"The machine {row['InstanceId']} was made, and its security group may not be marked as its own.",
                str(error),
                "It is asked again by itself, with the same token.",
                code=error.code,
            ) from error

    def _arm(self, machine: MachineId, intent: Intent, role: str) -> None:
        """Arm the timer. Where that is refused for good, the instance is ended again: it must not live without."""
        try:
            self._schedules.arm(machine, at=intent.hard_deadline, role=role)
        except AmbiguousOutcome:
            raise
        except ProviderError as refused:
            self._take_back(machine, refused)
            kind = AuthError if isinstance(refused, AuthError) else InvalidRequest
            raise kind(
                f"The machine's timer was refused: {refused.what}",
                refused.why,
                "Run: gpulaunch init aws --apply, or take scheduler_role_arn out of the configuration.",
                code=refused.code,
            ) from refused

    def _take_back(self, machine: MachineId, why: ProviderError) -> None:
        """End an instance that was just made, and see it gone. Raises AmbiguousOutcome where that takes too long."""
        ends = self._clock.monotonic() + TAKE_BACK_S
        while self._clock.monotonic() < ends:
            try:
                self._end(str(machine))
                self._look(str(machine))
            except MachineNotFound:
                return
            except ProviderError as error:
                if not error.retry:
                    break
            self._clock.sleep(LOOK_AGAIN_S)
        raise AmbiguousOutcome(
            f"The machine {machine} was made, its timer was refused, and its end is not confirmed.",
            str(why),
            "It is asked again by itself, with the same token.",
            code=why.code,
        )

    def _after_deadline(self, intent: Intent) -> Machine:
        """Nothing is made any more; what an earlier call made is found by its token."""
        row = self._instances.of_token(intent.offer.region, intent.token)
        if row is None:
            raise InvalidRequest(
                f"The deadline of {intent.token} has passed before it was made.", code="DeadlinePassed"
            )
        if row["State"]["Name"] == TERMINATED:
            raise self._has_lived(intent, "DeadlinePassed")
        return self._instances.machine(intent.offer.region, row)

    def _has_lived(self, intent: Intent, code: str) -> MachineNotFound:
        """What a replay is told whose instance has ended: with the evidence of it, while EC2 has some."""
        row = self._instances.of_token(intent.offer.region, intent.token)
        evidence = None if row is None else self._instances.evidence(intent.offer.region, row)
        return MachineNotFound(f"The machine of {intent.token} has lived and is gone.", machine=evidence, code=code)
