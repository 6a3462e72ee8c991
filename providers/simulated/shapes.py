"""The manners of a cloud as declared facts: how it boots, bills, ends machines, and how late it is.

Each fact that matters for money names its source. Where the vendor gives no number (how long a boot or a delete
takes), the range is this simulation's own, and the declared worst lateness is made up of its upper ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from providers.base import Billing, MachineState, OneTimeCost
from providers.simulated.catalogue import AWS_ITEMS, AZURE_ITEMS, GCP_ITEMS, PLAIN_ITEMS, Item

NOTHING: frozenset[str] = frozenset()


class Span(NamedTuple):
    """A time that varies from machine to machine, in seconds."""

    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """The cloud's own timer: what the backstop is made of."""

    what: str
    lateness_s: float
    """Seconds that may pass between its time and its act."""
    counts_from_running: bool = False
    """It is a duration that starts when the machine runs, not a time of day."""
    armed_apart: bool = False
    """A call of its own, after the machine was made: between the two the machine has no timer."""
    ends_stopped: bool = True
    """It also destroys a machine that is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One cloud's manners."""

    name: str
    items: tuple[Item, ...]
    pending_s: Span
    """From the accepted create call until the machine runs."""
    boot_s: Span
    """From then until its agent is up."""
    delete_s: Span
    """From the start of the end until nothing is left."""
    billing: Billing
    timer: Timer | None
    least_run_s: float = 0.0
    """A shorter deadline is refused."""
    things: tuple[str, ...] = ("disk", "nic", "address")
    """What is made around a machine, all of it billed or in the way until it is gone."""
    own_end_needs_network: bool = False
    """The machine ends itself through the API; else by switching itself off."""
    own_end_leaves: frozenset[str] = NOTHING
    """What is left for a `delete` after a machine ended itself."""
    preemption_leaves: frozenset[str] = NOTHING
    """What is left for a `delete` after the cloud took a spot machine back."""
    poweroff_destroys: bool = False
    """Switching off from inside ends the machine for good; else it is stopped."""
    stopped_keeps_address: bool = False
    takes_bid: bool = False
    """Spot: the compute ceiling is passed as the bid, and the cloud takes the machine back above it."""
    tells_spot_prices: bool = False
    """It publishes what a spot machine's compute has cost in the past."""
    spot_step_s: float = 3600.0
    """Seconds between two changes of a spot price."""
    spot_swing: float = 0.12
    """The largest change in one step, as a share of the usual price."""
    one_time: tuple[OneTimeCost, ...] = ()
    list_lag_s: float = 0.0
    """Seconds by which a listing may show the past."""
    page_size: int = 1000
    evidence_s: float = 3600.0
    """Seconds for which the cloud still tells about a machine that is gone; its console is kept as long."""
    console_lag_s: float = 0.0
    shutdown_notice_s: float = 30.0
    poll_s: float = 15.0
    heartbeat_s: float = 60.0
    boot_timeout_s: float = 900.0

    @property
    def worst_lateness_s(self) -> float:
        """Seconds between a due end and the last billed second, at worst: the sum of what the cloud may waste.

        The wait until the machine runs, where the timer counts from there; the timer's own lateness; the time to
        destroy all (disk and address bill until then, whatever compute does); and the rounding of the bill.
        """
        late_s = float(self.billing.granularity_s) + self.delete_s.most
        if self.timer is not None:
            late_s += self.timer.lateness_s
            if self.timer.counts_from_running:
                late_s += self.pending_s.most
        return late_s


PLAIN = Shape(
    name="plain",
    items=PLAIN_ITEMS,
    pending_s=Span(5, 5),
    boot_s=Span(5, 5),
    delete_s=Span(5, 5),
    billing=Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(0),
        billed_states=frozenset({MachineState.RUNNING}),
        source="the simplest rule there is",
    ),
    timer=Timer(what="the machine is deleted at its deadline", lateness_s=0),
    things=("disk",),
    takes_bid=True,
    tells_spot_prices=True,
    poweroff_destroys=True,
    shutdown_notice_s=5,
    poll_s=5,
    heartbeat_s=10,
    boot_timeout_s=60,
)

AWS = Shape(
    name="aws",
    items=AWS_ITEMS,
    pending_s=Span(15, 45),
    boot_s=Span(60, 180),
    delete_s=Span(20, 90),
    billing=Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(60),
        billed_states=frozenset({MachineState.RUNNING}),
        source="EC2 user guide, instance lifecycle: per second from `running` to `shutting-down`, 60 s for each start",
    ),
    # EventBridge Scheduler, one-time schedules: minute precision, so it may fire up to a minute late.
    timer=Timer(what="a one-time schedule terminates the instance", lateness_s=60, armed_apart=True),
    things=("disk", "nic", "address", "timer"),
    # InstanceInitiatedShutdownBehavior=terminate: disk, network interface and address go; the schedule does not know.
    own_end_leaves=frozenset({"timer"}),
    preemption_leaves=frozenset({"timer"}),
    poweroff_destroys=True,
    takes_bid=True,
    tells_spot_prices=True,  # DescribeSpotPriceHistory, 90 days
    one_time=(
        OneTimeCost(
            name="timer", usd=Decimal("0.000001"), source="EventBridge Scheduler: USD 1 per million invocations"
        ),
    ),
    # EC2 is eventually consistent: its API guide asks callers to expect seconds of delay.
    list_lag_s=5,
)

GCP = Shape(
    name="gcp",
    items=GCP_ITEMS,
    pending_s=Span(5, 30),
    boot_s=Span(40, 150),
    delete_s=Span(30, 120),
    billing=Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(60),
        billed_states=frozenset({MachineState.RUNNING, MachineState.STOPPING}),
        source="Compute Engine pricing: per second, one minute at least; STOPPING is counted as billed",
    ),
    # "Limit the run time of a VM": the end may start up to 30 seconds after the limit; 30 seconds is the least limit.
    # It counts from RUNNING, and a machine that was switched off from inside is out of its reach.
    timer=Timer(
        what="max_run_duration deletes the instance", lateness_s=30, counts_from_running=True, ends_stopped=False
    ),
    least_run_s=30,
    own_end_needs_network=True,
    # The price of a spot machine moves rarely, and there is no bid.
    spot_step_s=86_400,
    list_lag_s=2,
    page_size=500,
)

AZURE = Shape(
    name="azure",
    items=AZURE_ITEMS,
    pending_s=Span(30, 120),
    boot_s=Span(60, 240),
    delete_s=Span(120, 480),
    billing=Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(0),
        billed_states=frozenset(MachineState),
        source="Azure, states and billing: Starting, Running, Stopping and Stopped are billed until deallocated",
    ),
    # A recurrence trigger keeps the minute; the second minute is for the run itself.
    timer=Timer(what="a logic app deletes the resource group", lateness_s=120),
    things=("disk", "nic", "address", "timer", "role", "group"),
    own_end_needs_network=True,
    # evictionPolicy=Delete takes the VM with its disk; the rest of the resource group stays.
    preemption_leaves=frozenset({"nic", "address", "timer", "role", "group"}),
    stopped_keeps_address=True,
    takes_bid=True,
    tells_spot_prices=True,  # Resource Graph, table SpotResources, 90 days
    one_time=(
        OneTimeCost(
            name="timer", usd=Decimal("0.001"), source="Logic Apps, consumption plan: a few actions, rounded up"
        ),
    ),
    list_lag_s=10,
    page_size=100,
    console_lag_s=30,
    shutdown_notice_s=0,
)

SHAPES = {shape.name: shape for shape in (PLAIN, AWS, GCP, AZURE)}
