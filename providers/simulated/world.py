"""What happens to machines by itself, as time passes: they start, boot, end, are taken back, and vanish.

Nothing runs here. Each change waits in a queue by time, and `settle` makes those that are due, in order. The world
has an axis of its own, in seconds, that no step of a wall clock can move.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush
from typing import Any

from launcher.core.clock import Clock
from providers.base import Intent, InvalidRequest, MachineState
from providers.simulated.agent import Orders, SimAgent
from providers.simulated.catalogue import Item
from providers.simulated.machine import SimMachine
from providers.simulated.market import SpotMarket
from providers.simulated.shapes import NOTHING, Shape, Span

_DEFAULT_GRACE_S = 60.0
NO_CAPACITY = "InsufficientCapacity"
# How far a spot price is looked ahead of a machine at a time.
_MARKET_AHEAD_S = 86_400.0


class World:
    """The machines of one cloud, the queue of what is to come, and the spot prices."""

    def __init__(
        self,
        clock: Clock,
        shape: Shape,
        seed: int | str,
        injected: Counter[str],
        read_orders: Callable[[Intent], Mapping[str, Any]],
    ) -> None:
        self.clock = clock
        self.shape = shape
        self._seed = seed
        self._injected = injected
        self._read_orders = read_orders
        self._random = random.Random(f"world {seed}")  # noqa: S311 - a repeatable simulation, no secret
        self._start_s = clock.monotonic()
        self._start_at = clock.now()
        self._queue: list[tuple[float, int, Callable[[SimMachine, float], None], SimMachine]] = []
        self._queued = 0
        self.happened = 0
        """How many things have happened by themselves."""
        self._machines: dict[str, SimMachine] = {}
        self._alive: dict[str, SimMachine] = {}
        self._listed: dict[str, dict[str, SimMachine]] = {}
        """Owner to machines that a lagging listing may still show."""
        self._items = {(item.region, item.instance_type): item for item in shape.items}
        self._markets: dict[tuple[str, str | None, str], SpotMarket] = {}

    # Time

    def now_s(self) -> float:
        """Seconds on this world's axis."""
        return self.clock.monotonic()

    def now(self) -> datetime:
        """The cloud's own time, in UTC: right even where the caller's wall clock is not."""
        return self.at(self.now_s())

    def at(self, at_s: float) -> datetime:
        """A time on the axis as a date."""
        return self._start_at + timedelta(seconds=at_s - self._start_s)

    def axis_s(self, at: datetime) -> float:
        """A date as a time on the axis."""
        return self._start_s + (at - self._start_at).total_seconds()

    def settle(self) -> None:
        """Let everything happen that is due by now, in order."""
        now_s = self.now_s()
        while self._queue and self._queue[0][0] <= now_s:
            at_s, _, event, machine = heappop(self._queue)
            self.happened += 1
            event(machine, at_s)

    def next_event_s(self) -> float | None:
        """When something may happen next by itself, on the axis; None: nothing will."""
        return self._queue[0][0] if self._queue else None

    def _later(self, at_s: float, event: Callable[[SimMachine, float], None], machine: SimMachine) -> None:
        if at_s < math.inf:
            self._queued += 1
            heappush(self._queue, (at_s, self._queued, event, machine))

    def _draw(self, span: Span) -> float:
        return span.least if span.least == span.most else round(self._random.uniform(*span), 3)

    # Prices

    def item(self, region: str, instance_type: str, zone: str | None) -> Item:
        """The catalogue's entry. Raises InvalidRequest for what is not sold there."""
        item = self._items.get((region, instance_type))
        if item is None or zone not in (*item.zones, None):
            raise InvalidRequest(
                f"There is no {instance_type} in {zone or region}.",
                "The catalogue of this cloud does not have it.",
                f"Choose one of: {', '.join(sorted({item.region for item in self.shape.items}))}.",
                code="NotOffered",
            )
        return item

    def market(self, item: Item, zone: str | None) -> SpotMarket:
        """The spot market of an instance type in a zone. Raises InvalidRequest where there is none."""
        if item.spot is None:
            raise InvalidRequest(
                f"There is no spot price for {item.instance_type} in {item.region}.",
                "It is sold on demand only there.",
                "Ask for it on demand, or in another region.",
                code="NoSpot",
            )
        key = (item.region, zone, item.instance_type)
        if key not in self._markets:
            self._markets[key] = SpotMarket(
                item.spot,
                item.on_demand,
                start_s=self._start_s,
                step_s=self.shape.spot_step_s,
                swing=self.shape.spot_swing,
                seed=f"market {self._seed} {key}",
            )
        return self._markets[key]

    # The life of a machine, event by event

    def _appear(self, machine: SimMachine, at_s: float) -> None:
        machine.appear(at_s)
        self._machines[machine.id] = self._alive[machine.id] = machine
        self._listed.setdefault(machine.owner, {})[machine.id] = machine
        self._later(at_s + self._draw(self.shape.pending_s), self._run, machine)
        if machine.deadline_s is not None:
            self._set_timer(machine, at_s)

    def _set_timer(self, machine: SimMachine, now_s: float) -> None:
        """Machine has a deadline: the timer acts then, or a little late."""
        assert self.shape.timer is not None
        assert machine.deadline_s is not None
        due_s = max(machine.deadline_s, now_s)
        self._later(due_s + self._draw(Span(0.0, self.shape.timer.lateness_s)), self._timer_acts, machine)

    def _run(self, machine: SimMachine, at_s: float) -> None:
        if machine.state is not MachineState.PENDING:
            return
        script = machine.script
        if not script.runs:
            self._injected["NeverRuns"] += 1
            self._begin_end(machine, at_s, leaves=NOTHING, reason=NO_CAPACITY)
            return
        machine.running_s = at_s
        machine.move(at_s, MachineState.RUNNING)
        if machine.run_limit_s is not None:
            machine.deadline_s = at_s + machine.run_limit_s
            self._set_timer(machine, at_s)
        if script.boots:
            self._later(at_s + self._draw(self.shape.boot_s), self._boot, machine)
        else:
            self._injected["NeverBoots"] += 1
        if script.preempted_after_s is not None:
            self._later(at_s + script.preempted_after_s, self._preempt, machine)
        if machine.bid is not None:
            self._compare_bid(machine, at_s)

    def _boot(self, machine: SimMachine, at_s: float) -> None:
        if machine.state is not MachineState.RUNNING or machine.running_s is None:
            return
        script = machine.script
        if script.agent_dies_after_s is not None:
            self._injected["AgentDies"] += 1
        if script.network_cut_s is not None:
            self._injected["NetworkCut"] += 1
        machine.agent = SimAgent(
            script,
            self._orders(machine.intent, machine.running_s),
            running_s=machine.running_s,
            up_s=at_s,
            needs_network=self.shape.own_end_needs_network,
        )
        self._later(machine.agent.ended_s, self._end_itself, machine)

    def _orders(self, intent: Intent, running_s: float) -> Orders:
        """The earlier of two counts: from the frozen request's own time, and from the moment when it ran."""
        origin_s = min(self.axis_s(intent.created_at), running_s)
        orders = self._read_orders(intent)
        soft_after_s = orders.get("soft_after_s")
        return Orders(
            soft_s=math.inf if soft_after_s is None else origin_s + soft_after_s,
            hard_s=origin_s + intent.hard_after_s,
            grace_s=orders.get("grace_s", _DEFAULT_GRACE_S),
            soft_outcome=orders.get("soft_outcome", "budget_reached"),
            soft_reason=orders.get("soft_reason", "CAP"),
        )

    def _end_itself(self, machine: SimMachine, at_s: float) -> None:
        agent = machine.agent
        if machine.state is MachineState.RUNNING and agent is not None and agent.ended_s <= at_s:
            self._begin_end(machine, at_s, leaves=self.shape.own_end_leaves, reason="ended by itself")

    def _timer_acts(self, machine: SimMachine, at_s: float) -> None:
        assert self.shape.timer is not None
        if machine.state is not MachineState.STOPPED or self.shape.timer.ends_stopped:
            self._destroy(machine, at_s, "deadline")

    def _destroy_for_user(self, machine: SimMachine, at_s: float) -> None:
        self._destroy(machine, at_s, "deleted")

    def _destroy(self, machine: SimMachine, at_s: float, reason: str) -> None:
        if machine.state is not None:
            self._begin_end(machine, at_s, leaves=NOTHING, reason=reason)

    def _preempt(self, machine: SimMachine, at_s: float) -> None:
        if machine.state in (MachineState.PENDING, MachineState.RUNNING):
            self._injected["Preemption"] += 1
            self._begin_end(machine, at_s, leaves=self.shape.preemption_leaves, reason="PREEMPTED")

    def _compare_bid(self, machine: SimMachine, at_s: float) -> None:
        """Take a spot machine back when the price is above its bid; else look again when the price changes."""
        if machine.market is None or machine.bid is None or machine.state is not MachineState.RUNNING:
            return
        above_s = machine.market.next_above_s(at_s, machine.bid, at_s + _MARKET_AHEAD_S)
        if above_s == at_s:
            self._preempt(machine, at_s)
        elif above_s is not None:
            self._later(above_s, self._compare_bid, machine)

    def _begin_end(self, machine: SimMachine, at_s: float, *, leaves: frozenset[str], reason: str) -> None:
        if machine.state is MachineState.STOPPING:
            machine.leaves &= leaves
            return
        if machine.state is not MachineState.STOPPED:
            machine.state_reason = reason
        if machine.agent is not None:
            machine.agent.shut_down(at_s, self.shape.shutdown_notice_s)
        machine.leaves = leaves
        machine.move(at_s, MachineState.STOPPING)
        self._later(at_s + machine.delete_s, self._ended, machine)

    def _ended(self, machine: SimMachine, at_s: float) -> None:
        """The machine itself is no more. What was made around it may be left."""
        machine.stop_compute(at_s)
        if machine.stuck_s:
            self._later(at_s + machine.stuck_s, self._ended, machine)
            machine.stuck_s = 0.0
            return
        machine.remove(at_s, keep=machine.leaves)
        if machine.left():
            machine.move(at_s, MachineState.STOPPED)
            return
        machine.move(at_s, None)
        machine.gone_s = at_s
        del self._alive[machine.id]
        self._later(at_s + self.shape.list_lag_s, self._unlist, machine)

    def _unlist(self, machine: SimMachine, at_s: float) -> None:
        del at_s
        del self._listed[machine.owner][machine.id]

    # What a test or a simulation does to a machine

    def kill_agent(self, machine_id: str) -> None:
        """The agent dies now, or never starts; the machine runs and bills on."""
        self.settle()
        machine = self._machines[machine_id]
        if machine.agent is None:
            machine.silence()
        else:
            machine.agent.die(self.now_s())
        self._injected["AgentDies"] += 1

    def preempt(self, machine_id: str) -> None:
        """The cloud takes the machine back now."""
        self.settle()
        self._preempt(self._machines[machine_id], self.now_s())

    def power_off(self, machine_id: str) -> None:
        """The machine is switched off from inside: by this shape's rule it is destroyed, or stopped."""
        self.settle()
        machine, now_s = self._machines[machine_id], self.now_s()
        if self.shape.poweroff_destroys:
            self._begin_end(machine, now_s, leaves=self.shape.own_end_leaves, reason="switched off")
            return
        machine.state_reason = "switched off"
        machine.silence()
        if machine.agent is not None:
            machine.agent.die(now_s)
        machine.move(now_s, MachineState.STOPPED)
        if not self.shape.stopped_keeps_address:
            machine.remove(now_s, keep=frozenset(machine.things) - {"address"})

    def fix_spot_price(self, region: str, zone: str | None, usd_per_hour: Decimal) -> None:
        """Hold the spot price of every instance type in that zone; machines with a lower bid are taken back."""
        self.settle()
        now_s = self.now_s()
        for item in self.shape.items:
            if item.region == region:
                self.market(item, zone).fix(now_s, usd_per_hour)
        for machine in [*self._alive.values()]:
            if (machine.intent.offer.region, machine.intent.offer.zone) == (region, zone):
                self._compare_bid(machine, now_s)
