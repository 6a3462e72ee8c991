"""Instances as EC2 describes them. It is eventually consistent: one that was just made may be unknown for seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from providers.aws.machine import (
    TERMINATED,
    MachineId,
    console_url,
    ended_at,
    launched_at,
    machine_of,
    spot_cost_usd,
)
from providers.aws.prices import spot_history
from providers.base import InvalidRequest, Machine

if TYPE_CHECKING:
    from decimal import Decimal

    from launcher.core.clock import Clock
    from providers.aws.client import Client

SETTLES_S = 30.0
"""How long a new instance can be unknown (EC2 developer guide, "Eventual consistency": usually seconds)."""
LOOK_AGAIN_S = 3.0
UNKNOWN = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
LIVING = ("pending", "running", "shutting-down", "stopping", "stopped")

Row = dict[str, Any]


class Instances:
    """Finds instances: by id, by token, by owner."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._ended: set[MachineId] = set()  # seen terminated by this process

    def row(self, machine: MachineId) -> Row | None:
        """The instance's row; None where EC2 does not know the instance, and for what is no instance's id."""
        try:
            [row] = self._rows(machine.region, InstanceIds=[machine.instance])
        except InvalidRequest as error:
            if error.code not in UNKNOWN:
                raise
            return None
        if row["State"]["Name"] == TERMINATED:
            self._ended.add(machine)
        return row

    def settled_row(self, machine: MachineId) -> Row | None:
        """The row, or None where EC2 has not known the instance for as long as a new one may be unknown."""
        ends = self._clock.monotonic() + SETTLES_S
        row = self.row(machine)
        while row is None and machine not in self._ended and self._clock.monotonic() < ends:
            self._clock.sleep(LOOK_AGAIN_S)
            row = self.row(machine)
        if row is None:
            self._ended.add(machine)
        return row

    def has_ended(self, machine: MachineId) -> bool:
        """Whether this process has seen it terminated."""
        return machine in self._ended

    def of_token(self, region: str, token: str) -> Row | None:
        """The instance that was made with this token."""
        rows = self._rows(region, Filters=[{"Name": "client-token", "Values": [token]}])
        return rows[0] if rows else None

    def of_owner(self, owner: str) -> list[Machine]:
        """Every instance with this owner's tag that is not terminated, in every region that the account can use."""
        filters = [
            {"Name": "tag:gpulaunch-owner", "Values": [owner]},
            {"Name": "instance-state-name", "Values": list(LIVING)},
        ]
        regions = self._client.regions
        found = self._client.at_once(lambda region: self._rows(region, Filters=filters), regions)
        return [self.machine(region, row) for region, rows in zip(regions, found, strict=True) for row in rows]

    def machine(self, region: str, row: Row) -> Machine:
        """The row as a Machine."""
        return self._described(region, row)

    def evidence(self, region: str, row: Row) -> Machine:
        """A terminated instance, with what a spot one has really cost where the price history tells."""
        cost_usd = None
        ended = ended_at(row)
        if row.get("InstanceLifecycle") == "spot" and ended is not None:
            zone, launched = row["Placement"].get("AvailabilityZone", ""), launched_at(row)
            history = spot_history(self._client, region, row["InstanceType"], launched, zone)
            cost_usd = spot_cost_usd(history, launched, ended)
        return self._described(region, row, compute_usd=cost_usd)

    def console_url(self, machine: MachineId) -> str | None:
        """AWS's own page about the instance; a stand-in has none."""
        return None if self._client.endpoint else console_url(*machine)

    def _described(self, region: str, row: Row, compute_usd: Decimal | None = None) -> Machine:
        page = self.console_url(MachineId(region, row["InstanceId"]))
        return machine_of(row, region, skew_s=self._client.skew_s, compute_usd=compute_usd, page=page)

    def _rows(self, region: str, **how: Any) -> list[Row]:
        reservations = self._client.pages(region, "ec2.describe_instances", "Reservations", **how)
        return [row for reservation in reservations for row in reservation["Instances"]]
