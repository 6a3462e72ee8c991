"""What a provider must bring to be held to its contract: a way to make machines, let time pass, and look at the truth.

The suite speaks to the provider through `providers.base.Provider` alone. All else goes through a Harness, so that the
same tests hold for a cloud on a virtual clock and for real processes on a real one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from providers.base import Intent, MachineNotFound, Offer, OfferRequest, Provider, make_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

OWNER = "owner-1"


class Harness(ABC):
    """One provider under test. A subclass sets the attributes in `__init__`."""

    provider: Provider
    hard_after_s: float
    """A deadline that is short for a test, and long enough for a machine to come up before it."""
    up_within_s: float
    """How long a machine may take until its first heartbeat."""
    gone_within_s: float
    """How long a deleted machine may take until nothing is left."""
    keeps_evidence: bool
    """MachineNotFound tells when billing ended."""

    @abstractmethod
    def now(self) -> datetime:
        """The wall clock, in UTC."""

    @abstractmethod
    def boot_data(self) -> bytes:
        """Boot data for a training that does not end by itself."""

    @abstractmethod
    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Let time pass until the condition holds. Raises AssertionError, naming `what`, if it does not in time."""

    @abstractmethod
    def kill_agent(self, machine_id: str) -> None:
        """The machine's agent dies without a word. No guard watches in this suite."""

    @abstractmethod
    def existing(self) -> set[str]:
        """The ids of all machines of which anything is left, seen past the provider."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""

    def request(self, **changes: Any) -> OfferRequest:
        """What a job would ask for."""
        fields = {"gpu": "T4", "disk_gb": 100, "spot": False} | changes
        return OfferRequest(**fields)

    def offer(self) -> Offer:
        """The offer that machines are made from."""
        return self.provider.offers(self.request())[0]

    def intent(self, token: str = "job-1-1", *, owner: str = OWNER, offer: Offer | None = None) -> Intent:
        """A frozen request, made now."""
        now = self.now()
        deadline = now + timedelta(seconds=self.hard_after_s)
        job = token.rpartition("-")[0]
        return Intent(
            job=job,
            name="contract",
            attempt=1,
            token=token,
            owner=owner,
            account=self.provider.account,
            offer=offer or self.offer(),
            created_at=now,
            hard_after_s=self.hard_after_s,
            hard_deadline=deadline,
            tags=make_tags(job=job, attempt=1, owner=owner, cap_usd=Decimal(5), hard_deadline=deadline),
            disk_gb=100,
            boot_data=self.boot_data(),
        )

    def another_request(self, intent: Intent) -> Intent:
        """The same token on a request that asks for something else."""
        return msgspec.structs.replace(intent, hard_after_s=intent.hard_after_s + 60, boot_data=b"something else")

    def is_gone(self, machine_id: str) -> bool:
        """The provider says that the machine is gone."""
        try:
            self.provider.get(machine_id)
        except MachineNotFound:
            return True
        return False

    def listed(self, owner: str = OWNER) -> set[str]:
        """The ids in the provider's listing."""
        return {machine.id for machine in self.provider.list(owner)}

    def wait_until_up(self, machine_id: str) -> None:
        """Wait for the first heartbeat."""
        self.wait_until(
            lambda: self.provider.heartbeat(machine_id) != b"", within_s=self.up_within_s, what="a first heartbeat"
        )

    def wait_until_gone(self, machine_id: str) -> None:
        """Wait until the provider says so, after a delete."""
        self.wait_until(lambda: self.is_gone(machine_id), within_s=self.gone_within_s, what="the machine to be gone")


def _simulated(shape_name: str) -> Callable[[Path], Harness]:
    def make(folder: Path) -> Harness:
        from simulated_harness import SimulatedHarness

        return SimulatedHarness(folder, shape_name)

    return make


def _local(folder: Path) -> Harness:
    from local_harness import LocalHarness

    return LocalHarness(folder)


def _aws(folder: Path) -> Harness:
    from aws_harness import AwsHarness

    return AwsHarness(folder)


def _azure(folder: Path) -> Harness:
    from azure_harness import AzureHarness

    return AzureHarness(folder)


def _gcp(folder: Path) -> Harness:
    from gcp_harness import GcpHarness

    return GcpHarness(folder)


# A new provider adds its harness here, and nothing else.
HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "aws": _aws,
    "azure": _azure,
    "gcp": _gcp,
    "local": _local,
    **{f"simulated-{name}": _simulated(name) for name in ("plain", "aws", "gcp", "azure")},
}
