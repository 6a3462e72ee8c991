"""A row of DescribeInstances as a Machine: its state, when it was billed, and who ended it. Pure.

EC2 user guide, "Instance lifecycle": billed per second from `running` to `shutting-down` or `stopping`, 60 seconds at
least for each start. LaunchTime is the request's: a few seconds before `running`, so that no cost is understated.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.aws.errors import never_ran
from providers.base import Billing, Machine, MachineState, read_tags

if TYPE_CHECKING:
    from collections.abc import Iterable

BILLING = Billing(
    granularity_s=Decimal(1),
    floor_s=Decimal(60),
    billed_states=frozenset({MachineState.RUNNING}),
    source="EC2 user guide, instance lifecycle: per second from `running` to `shutting-down`, 60 s for each start",
)
STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "shutting-down": MachineState.STOPPING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
    "terminated": MachineState.STOPPED,
}
"""`terminated` is shown while something that was made for the machine is left; then it is gone."""
BILLED_NO_MORE = frozenset({"shutting-down", "stopping", "stopped", "terminated"})
TERMINATED = "terminated"

TOKEN_TAG = "gpulaunch-token"  # noqa: S105 - the name of a tag
"""On all that is made for one machine: what belongs together is found by it."""
TIMER_TAG = "gpulaunch-timer"
"""On an instance for which a schedule was to be armed."""
MACHINE_TAG = "gpulaunch-machine"
"""On a group of a machine's own, so that it is found when EC2 has forgotten the instance."""

SPOT_ENDS = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
PREEMPTED = "PREEMPTED"
# `User initiated (2026-11-21 22:00:00 GMT)`; what ends from inside may come without a time.
_ENDED_AT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)$")


class MachineId(NamedTuple):
    """`us-east-1/i-0abc`: an instance's id says nothing without its region."""

    region: str
    instance: str

    def __str__(self) -> str:
        return f"{self.region}/{self.instance}"

    @classmethod
    def read(cls, text: str) -> MachineId:
        """The two parts of an id."""
        region, _, instance = text.partition("/")
        return cls(region, instance)


def tags_of(row: dict[str, Any], key: str = "Tags") -> dict[str, str]:
    """The tags of any resource."""
    return {tag["Key"]: tag["Value"] for tag in row.get(key, [])}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def machine_of(
    row: dict[str, Any], region: str, *, skew_s: float, compute_usd: Decimal | None = None, page: str | None = None
) -> Machine:
    """The machine, its times by this computer's clock, which is `skew_s` seconds ahead of AWS's."""
    tags = tags_of(row)
    skew = timedelta(seconds=skew_s)
    launched, ended = launched_at(row), ended_at(row)
    state = row["State"]["Name"]
    own = {key: value for key, value in tags.items() if key.startswith("gpulaunch-")}
    token = own.pop(TOKEN_TAG, "")
    timer = own.pop(TIMER_TAG, None)
    return Machine(
        id=str(MachineId(region, row["InstanceId"])),
        token=token,
        state=STATES[state],
        region=region,
        created_at=launched + skew,
        billing_started_at=None if state == "pending" else launched + skew,
        billing_ended_at=None if ended is None else ended + skew,
        compute_usd=compute_usd,
        deadline_at=_moved(read_tags(tags).hard_deadline, skew) if timer else None,
        tags=own,
        state_reason=reason_of(row),
        never_ran=never_ran(reason_of(row)),
        console_url=page,
    )


def _moved(at: datetime | None, by: timedelta) -> datetime | None:
    return None if at is None else at + by


def launched_at(row: dict[str, Any]) -> datetime:
    """When it was asked for, by AWS's clock."""
    at: datetime = row["LaunchTime"]
    return at.astimezone(UTC)


def ended_at(row: dict[str, Any]) -> datetime | None:
    """When compute stopped billing, by AWS's clock, where it says so."""
    if row["State"]["Name"] not in BILLED_NO_MORE:
        return None
    found = _ENDED_AT.search(row.get("StateTransitionReason") or "")
    if found is None:
        return None
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def reason_of(row: dict[str, Any]) -> str | None:
    """Why the machine is in its state: AWS's code, or PREEMPTED for a spot machine that was taken back."""
    code = (row.get("StateReason") or {}).get("Code") or None
    return PREEMPTED if code in SPOT_ENDS else code


def console_url(region: str, instance: str) -> str:
    """AWS's own page about it."""
    return f"https://{region}.console.aws.amazon.com/ec2/home?region={region}#InstanceDetails:instanceId={instance}"


def spot_cost_usd(history: Iterable[tuple[datetime, Decimal]], started: datetime, ended: datetime) -> Decimal | None:
    """What the compute of a spot machine cost, at most, by its zone's price history; None where that has a gap.

    Times by AWS's clock; a minute is the least that is billed. Each second is charged at the highest price of its hour
    since the start: EC2 sets the price of an instance's hour at its beginning, and a price in the middle can only be
    lower then (EC2 user guide, "Spot Instances billing").
    """
    changes = sorted(history)
    ended = max(ended, started + timedelta(seconds=float(BILLING.floor_s)))
    if not changes or changes[0][0] > started:
        return None
    total = Decimal(0)
    at = started
    while at < ended:
        until = min(at + timedelta(hours=1), ended)
        before = [price for when, price in changes if when <= at]
        within = [price for when, price in changes if at < when < until]
        total += max([before[-1], *within]) * Decimal(str((until - at).total_seconds())) / 3600
        at = until
    return total
