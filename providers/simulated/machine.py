"""One machine of the simulated cloud: its states, what is made around it, and when its compute was billed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from providers.base import TAG_OWNER, MachineState

if TYPE_CHECKING:
    from decimal import Decimal

    from providers.base import Intent, Machine
    from providers.simulated.agent import SimAgent
    from providers.simulated.catalogue import Item
    from providers.simulated.market import SpotMarket
    from providers.simulated.script import Script
    from providers.simulated.shapes import Shape

# Compute starts to bill in these states only; in any other it may go on or end.
_STARTS_BILLING = (MachineState.PENDING, MachineState.RUNNING)


class SimMachine:
    """Times are seconds on the cloud's axis. `state` is None before it appears and after it is gone."""

    __slots__ = (
        "agent",
        "compute",
        "created_s",
        "deadline_s",
        "delete_s",
        "described",
        "final_lines",
        "gone_s",
        "history",
        "id",
        "intent",
        "item",
        "leaves",
        "market",
        "owner",
        "run_limit_s",
        "running_s",
        "script",
        "shape",
        "state",
        "state_reason",
        "stuck_s",
        "things",
    )

    def __init__(
        self, machine_id: str, intent: Intent, *, shape: Shape, item: Item, market: SpotMarket | None, script: Script
    ) -> None:
        self.id = machine_id
        self.intent = intent
        self.shape = shape
        self.item = item
        self.market = market
        self.script = script
        self.agent: SimAgent | None = None
        self.state: MachineState | None = None
        self.state_reason: str | None = None
        self.owner = intent.tags.get(TAG_OWNER, "")
        self.created_s = 0.0
        self.running_s: float | None = None
        self.gone_s: float | None = None
        self.deadline_s: float | None = None
        """When the cloud's timer is due, once it is armed."""
        self.run_limit_s: float | None = None
        """The same as a duration that starts when the machine runs."""
        self.delete_s = 0.0
        """How long it takes to destroy it."""
        self.stuck_s = 0.0
        """How long what is around it outlives it when it is destroyed."""
        self.leaves: frozenset[str] = frozenset()
        """What stays when the end that is under way is over."""
        self.history: list[tuple[float, MachineState | None]] = []
        self.compute: list[tuple[float, float | None]] = []
        self.things: dict[str, tuple[float, float | None]] = {}
        """Name to (made, gone) of everything around it."""
        self.described: tuple[object, Machine] | None = None
        """The last description of it and what that depends on: most calls ask for the same again."""
        self.final_lines: dict[str, Decimal] | None = None
        """Its bill, once nothing more can be added."""

    @property
    def bid(self) -> Decimal | None:
        """The price in USD per hour above which the cloud takes a spot machine back; None: there is no bid."""
        if self.market is None or not self.shape.takes_bid:
            return None
        return next(part.worst_usd_per_hour for part in self.intent.offer.parts if part.name == "compute")

    def appear(self, at_s: float) -> None:
        """It exists from now on, and so does what is around it. A timer that is armed apart is not."""
        self.created_s = at_s
        apart = self.shape.timer is not None and self.shape.timer.armed_apart
        self.things = {name: (at_s, None) for name in self.shape.things if not (apart and name == "timer")}
        self.move(at_s, MachineState.PENDING)

    def move(self, at_s: float, state: MachineState | None) -> None:
        """Enter a state; compute is billed from here, or no longer, by the shape's rule."""
        self.state = state
        self.history.append((at_s, state))
        billed = state in self.shape.billing.billed_states
        open_now = bool(self.compute) and self.compute[-1][1] is None
        if billed and not open_now and state in _STARTS_BILLING:
            self.compute.append((at_s, None))
        if not billed:
            self.stop_compute(at_s)

    def stop_compute(self, at_s: float) -> None:
        """Compute is billed no longer."""
        if self.compute and self.compute[-1][1] is None:
            self.compute[-1] = (self.compute[-1][0], at_s)

    def remove(self, at_s: float, keep: frozenset[str] = frozenset()) -> None:
        """Everything around it is gone, but for what is kept."""
        for name, (made_s, gone_s) in self.things.items():
            if gone_s is None and name not in keep:
                self.things[name] = (made_s, at_s)

    def state_at(self, at_s: float) -> MachineState | None:
        """Its state at an earlier time."""
        for since_s, state in reversed(self.history):
            if since_s <= at_s:
                return state
        return None

    def silence(self) -> None:
        """Its agent never comes up."""
        self.script = replace(self.script, boots=False)

    def left(self) -> tuple[str, ...]:
        """What exists of it now."""
        return tuple(name for name, (_, gone_s) in self.things.items() if gone_s is None)
