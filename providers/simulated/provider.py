"""The simulated cloud as a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.core.clock import Clock
from providers.base import (
    AmbiguousOutcome,
    Backstop,
    Intent,
    InvalidRequest,
    Machine,
    MachineNotFound,
    Offer,
    OfferRequest,
    Provider,
    ProviderError,
    StoreRequest,
)
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.offers import offers


class SimulatedProvider:
    """providers.base.Provider over a SimulatedCloud, which comes as `settings["cloud"]`.

    It keeps nothing: two of them over one cloud are two computers with the same account. Raises InvalidRequest
    without a cloud.
    """

    def __init__(self, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> None:
        del clock, home  # the cloud has the time, and there is nothing to keep on disk
        cloud = settings.get("cloud")
        if not isinstance(cloud, SimulatedCloud):
            raise InvalidRequest(
                "The simulated provider has no cloud.",
                "It lives in the memory of one process, so no command can reach it.",
                "Pass a SimulatedCloud as the setting `cloud`.",
                code="NoCloud",
            )
        shape = cloud.shape
        self.cloud = cloud
        self.name = cloud.name
        self.account = f"{cloud.name}/{shape.name}/memory/-"
        self.billing = shape.billing
        self.bills_awake_only = False
        self.worst_lateness_s = shape.worst_lateness_s
        self.shutdown_notice_s = shape.shutdown_notice_s
        self.poll_s = shape.poll_s
        self.heartbeat_s = shape.heartbeat_s
        self.boot_timeout_s = shape.boot_timeout_s
        self.binding: dict[str, Any] = {}
        self.skew_s = 0.0

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """The store as the agent's orders name it."""
        return {"kind": "folder", "path": request.url}

    def preflight(self) -> Backstop:
        """Check the credentials; say whether the cloud's own timer will be armed. Raises AuthError."""
        self.cloud.call("preflight", "", lambda _: None)
        timer = self.cloud.shape.timer
        if timer is None:
            return Backstop(armed=False, what="this cloud has no timer", fix="Choose a shape with a timer.")
        return Backstop(armed=True, what=timer.what)

    def offers(self, request: OfferRequest) -> list[Offer]:
        """Every machine that would do, priced. Raises InvalidRequest."""
        return self.cloud.call("offers", "", lambda _: offers(self.cloud, request))

    def calls(self, offer: Offer) -> list[str]:
        """What `create` would call for this offer, in order."""
        calls = [f"create {offer.instance_type} in {offer.zone or offer.region}"]
        return [*calls, "arm its timer"] if self.cloud.arms_apart else calls

    def create(self, intent: Intent) -> Machine:
        """Make the machine, or return the one that this token made already, with its timer armed.

        A token whose machine is gone raises MachineNotFound with the code IdempotentInstanceTerminated; one that was
        used for another request, InvalidRequest with the code IdempotentParameterMismatch.
        """
        machine = self.cloud.create(intent)
        if not self.cloud.arms_apart:
            return machine
        try:
            return self.cloud.arm(machine.id)
        except MachineNotFound:
            return machine
        except ProviderError as error:
            # There is a machine, so this may not pass for "nothing was made".
            raise AmbiguousOutcome(
                f"The machine {machine.id} was made, and its timer may not be armed.",
                str(error),
                "Repeat the same call.",
                code=error.code,
            ) from error

    def get(self, machine_id: str) -> Machine:
        """The machine as it is now. Raises MachineNotFound once it and all that was made for it are gone."""
        return self.cloud.get(machine_id)

    def delete(self, machine_id: str) -> None:
        """Order the machine and all around it destroyed. Returning means accepted."""
        self.cloud.delete(machine_id)

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the machine's console, or nothing."""
        return self.cloud.console(machine_id)

    def console_url(self, machine_id: str) -> str | None:
        """There is no page to look at."""
        del machine_id
        return None

    def list(self, owner: str) -> list[Machine]:
        """Every machine with this owner's tag that is not gone, as the listing shows it: late, and whole."""
        return self.cloud.list_machines(owner)


if TYPE_CHECKING:

    def _conforms(provider: SimulatedProvider) -> Provider:
        return provider
