"""AWS behind the provider contract: one EC2 instance for each attempt."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from providers.aws import offers as market
from providers.aws import store
from providers.aws.backstop import LATENESS_S, Schedules, declared
from providers.aws.client import Client
from providers.aws.instances import UNKNOWN, Instances
from providers.aws.launch import Launch
from providers.aws.machine import BILLING, TERMINATED, MachineId
from providers.aws.remains import Remains
from providers.base import (
    AuthError,
    Backstop,
    Intent,
    InvalidRequest,
    Machine,
    MachineNotFound,
    MachineState,
    Offer,
    OfferRequest,
    Provider,
    StoreRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.core.clock import Clock
    from providers.aws.instances import Row
    from providers.aws.remains import Thing

END_S = 90.0
"""From the order to end until disk and address are gone. No vendor figure: our own bound, for 3 % of the rate."""
POLL_S, POLL_HERE_S = 15.0, 1.0
"""A look at all regions: EC2 has call limits; a stand-in on this computer has none."""
CONSOLE_BYTES = 64 * 1024


class AwsProvider:
    """providers.base.Provider over EC2. Settings: the configuration's section `aws`, and `binding`."""

    name = "aws"
    billing = BILLING
    bills_awake_only = False
    worst_lateness_s = float(BILLING.granularity_s) + LATENESS_S + END_S
    # EC2 presses the power button; how long it then waits is not documented. A spot notice is longer.
    shutdown_notice_s = 30.0
    heartbeat_s = 60.0
    boot_timeout_s = 900.0

    def __init__(self, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> None:
        self._clock = clock
        self._home = home
        self._settings = settings
        self._client = Client(clock=clock, settings=settings)
        self._instances = Instances(self._client, clock)
        schedules = Schedules(self._client, clock)
        self._remains = Remains(self._client, schedules)
        self._launch = Launch(self._client, clock, self._instances, schedules, end=self.delete, look=self.get)
        self.poll_s = POLL_HERE_S if self._client.is_here else POLL_S
        self.binding: dict[str, Any] = {}

    @cached_property
    def account(self) -> str:
        """`aws/<account id>/<credential source>/<endpoint or ->`. Raises AuthError, ProviderUnavailable."""
        client = self._client
        return f"aws/{client.account_id}/{client.source}/{client.endpoint or '-'}"

    @property
    def skew_s(self) -> float:
        """Seconds by which this computer's clock is ahead of AWS's."""
        return self._client.skew_s

    # Before a launch

    def preflight(self) -> Backstop:
        """Ask who we are and which regions we may use. Raises AuthError."""
        client = self._client
        asks: tuple[Callable[[], object], ...] = (lambda: self.account, lambda: client.regions)
        client.at_once(lambda ask: ask(), asks)
        self.binding.update({k: v for k, v in (("profile", client.profile), ("endpoint", client.endpoint)) if v})
        return declared(self._settings.get("scheduler_role_arn"))

    def offers(self, request: OfferRequest) -> list[Offer]:
        """Every zone that has such a machine, in the regions of the request or the cheapest ones, priced."""
        found = market.find(self._client, request, clock=self._clock, home=self._home)
        self.binding["places"] = msgspec.to_builtins(found.places)  # they travel in the frozen request
        return found.offers

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """The S3 store, reached by the machine's identity or by a signed form. Raises InvalidRequest, AuthError."""
        return store.machine_store(self._client, self._settings, request, self._clock)

    def calls(self, offer: Offer) -> list[str]:
        """What `create` would call."""
        where, how = offer.zone or offer.region, "spot" if offer.spot else "on demand"
        made = [f"ec2:RunInstances {offer.instance_type} {how} in {where}, with its disk and network interface"]
        place = self.binding.get("places", {}).get(offer.region)
        if place is not None and place["group"] is None:
            made = ["ec2:CreateSecurityGroup without a rule that lets anybody in", *made, "ec2:CreateTags on it"]
        if self._settings.get("scheduler_role_arn"):
            made.append("scheduler:CreateSchedule, which terminates it at the hard deadline")
        return made

    # A machine's life

    def create(self, intent: Intent) -> Machine:
        """One RunInstances, idempotent on the token; then its timer, where a role for that is configured."""
        self._client.check_account()
        if intent.account != self.account:
            raise AuthError(
                f"These credentials speak for {self.account}, and the job belongs to {intent.account}.",
                fix="Give the credentials that launched it back.",
                code="AccountMismatch",
            )
        return self._launch.create(intent)

    def get(self, machine_id: str) -> Machine:
        """The instance as it is now. Raises MachineNotFound once nothing that was made for it is left."""
        machine = MachineId.read(machine_id)
        row = self._instances.settled_row(machine)
        if row is not None and row["State"]["Name"] != TERMINATED:
            return self._instances.machine(machine.region, row)
        left = self._left(machine, row)
        if not left:
            evidence = None if row is None else self._instances.evidence(machine.region, row)
            raise MachineNotFound(f"The machine {machine} is gone.", machine=evidence, code="Terminated")
        if row is not None:
            return self._instances.machine(machine.region, row)
        return Machine(
            id=machine_id,
            token="",
            state=MachineState.STOPPED,
            region=machine.region,
            created_at=self._clock.now(),
            state_reason=", ".join(f"{thing.kind} {thing.id}" for thing in left),
        )

    def delete(self, machine_id: str) -> None:
        """Terminate, and once it is terminated remove what EC2 leaves. The timer stays armed until then."""
        self._client.check_account()
        machine = MachineId.read(machine_id)
        try:
            reply = self._client.call(machine.region, "ec2.terminate_instances", InstanceIds=[machine.instance])
        except InvalidRequest as error:
            if error.code not in UNKNOWN:
                raise
        else:
            if any(change["PreviousState"]["Name"] != TERMINATED for change in reply["TerminatingInstances"]):
                return
        row = self._instances.settled_row(machine)
        if row is None or row["State"]["Name"] == TERMINATED:
            self._remains.clear(machine, self._left(machine, row))

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the serial console, or nothing. EC2 keeps it for about an hour after the end."""
        machine = MachineId.read(machine_id)
        latest = {} if self._instances.has_ended(machine) else {"Latest": True}
        try:
            reply = self._client.call(machine.region, "ec2.get_console_output", InstanceId=machine.instance, **latest)
        except InvalidRequest as error:
            if error.code not in UNKNOWN:
                raise
            return b""
        return str(reply.get("Output") or "").encode()[-CONSOLE_BYTES:]

    def console_url(self, machine_id: str) -> str | None:
        """AWS's own page about the instance; a stand-in has none."""
        return self._instances.console_url(MachineId.read(machine_id))

    def _left(self, machine: MachineId, row: Row | None) -> list[Thing]:
        return self._remains.left(machine, row, armed=bool(self._settings.get("scheduler_role_arn")))

    def list(self, owner: str) -> list[Machine]:
        """Every instance with this owner's tag that is not terminated, in every region that the account can use."""
        return self._instances.of_owner(owner)


if TYPE_CHECKING:

    def _conforms(provider: AwsProvider) -> Provider:
        return provider
