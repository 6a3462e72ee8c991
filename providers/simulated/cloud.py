"""A cloud in memory: its API with recorded calls and faults, and its own bill."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn, TypeVar

from launcher.core.clock import Clock
from providers.base import (
    AmbiguousOutcome,
    CapacityError,
    Intent,
    InvalidRequest,
    Machine,
    MachineNotFound,
    MachineState,
)
from providers.simulated.bill import Lines, bill
from providers.simulated.faults import Call, Delayed, Duplicated, Fault, Faults, HangingDelete, Stale, StuckTeardown
from providers.simulated.history import paid_usd
from providers.simulated.machine import SimMachine
from providers.simulated.script import Script
from providers.simulated.shapes import Shape
from providers.simulated.world import NO_CAPACITY, World

T = TypeVar("T")
_KEPT_CALLS = 10_000
_CONSOLE_BYTES = 65_536
_NEVER_RAN = CapacityError("There was not enough capacity to start the machine.", code=NO_CAPACITY, next_scope="zone")


class Existing(NamedTuple):
    """One machine that is not gone, or what is left of it."""

    id: str
    job: str
    state: MachineState
    things: tuple[str, ...]
    tags: dict[str, str]


class SimulatedCloud(World):
    """One account at one cloud.

    `script` says what happens on a machine, or picks that from its intent. `encode` writes a heartbeat line:
    (sequence number, content) to text. `orders` finds the agent's orders (`soft_after_s`, `soft_outcome`,
    `soft_reason`, `grace_s`) in an intent; without it they are read from the intent's settings.

    The same seed and the same calls at the same times give the same cloud.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        shape: Shape,
        encode: Callable[[int, dict[str, Any]], str],
        faults: Faults | None = None,
        script: Script | Callable[[Intent], Script] | None = None,
        orders: Callable[[Intent], Mapping[str, Any]] | None = None,
        seed: int | str = 0,
        name: str = "simulated",
    ) -> None:
        self.faults = faults or Faults(seed)
        super().__init__(clock, shape, seed, self.faults.injected, orders or (lambda intent: intent.settings))
        self.name = name
        self.script = script or Script()
        self.calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self.call_counts: Counter[str] = Counter()
        self._encode = encode
        self._by_token: dict[str, SimMachine] = {}

    # The API

    def call(self, name: str, about: str, effect: Callable[[Fault | None], T]) -> T:
        """One call: settled, recorded, and met by a fault if one is due. Raises what the fault says."""
        self.settle()
        call = Call(self.now_s(), name, about)
        self.calls.append(call)
        self.call_counts[name] += 1
        fault = self.faults.draw(call)
        if fault is None:
            return effect(None)
        fault.before(call, self.clock)
        self.settle()
        answer = effect(fault)
        fault.after(call)
        return answer

    def create(self, intent: Intent) -> Machine:
        """Accept a request, or find the machine that its token made already."""
        return self.call("create", intent.token, lambda fault: self._create(intent, fault))

    def arm(self, machine_id: str) -> Machine:
        """Arm the timer of a machine, where that is a call of its own. Idempotent."""
        return self.call("arm", machine_id, lambda _: self._arm(self._find(machine_id)))

    def get(self, machine_id: str) -> Machine:
        """The machine now. Raises MachineNotFound when it and all around it are gone."""
        return self.call("get", machine_id, lambda fault: self._get(machine_id, fault))

    def list_machines(self, owner: str) -> list[Machine]:
        """The owner's machines, as they were a moment ago: one call for each page, and none missed between two."""
        shown = self.call("list", owner, lambda fault: self._listing(owner, fault))
        for first in range(self.shape.page_size, len(shown), self.shape.page_size):
            self.call("list", f"{owner} from {first}", lambda _: None)
        return shown

    def delete(self, machine_id: str) -> None:
        """Accept the order to destroy a machine and all around it."""
        self.call("delete", machine_id, lambda fault: self._delete(machine_id, fault))

    def console(self, machine_id: str) -> bytes:
        """The tail of the machine's console."""
        return self.call("console", machine_id, lambda _: self._console(machine_id))

    # The truth, for whoever checks: no call, no fault

    def existing(self) -> list[Existing]:
        """Everything that is not gone."""
        self.settle()
        return [
            Existing(machine.id, machine.intent.job, machine.state, machine.left(), machine.intent.tags)
            for machine in self._alive.values()
            if machine.state is not None
        ]

    def machines(self, job: str) -> list[SimMachine]:
        """Every machine that was ever made for a job, those that are gone included."""
        return [machine for machine in self._by_token.values() if machine.intent.job == job]

    def machine_of(self, token: str) -> SimMachine | None:
        """The machine that this token made, if it made one."""
        return self._by_token.get(token)

    def bill_lines(self, machine_id: str) -> Lines:
        """What one machine has cost by now: USD for each line."""
        self.settle()
        return bill(self._machines[machine_id], self.now_s())

    def bill(self, job: str | None = None) -> Decimal:
        """What this cloud asks for by now in USD: for one job, or for all."""
        self.settle()
        now_s = self.now_s()
        machines = (machine for machine in self._machines.values() if job in (None, machine.intent.job))
        return sum((usd for machine in machines for usd in bill(machine, now_s).values()), Decimal(0))

    # What the calls do

    def _create(self, intent: Intent, fault: Fault | None) -> Machine:
        machine = self._by_token.get(intent.token)
        if machine is None:
            machine = self._accept(intent, fault.seconds if isinstance(fault, Delayed) else 0.0)
            if isinstance(fault, Duplicated):
                return self._create(intent, None)
        elif machine.intent is not intent and machine.intent != intent:
            raise InvalidRequest(
                "The token of this request was used for another request.",
                "A token names one frozen request.",
                "Replay the request as it was written down, or take a new token.",
                code="IdempotentParameterMismatch",
            )
        if machine.gone_s is not None:
            self._say_gone(machine, "IdempotentInstanceTerminated")
        if machine.state is None:
            raise AmbiguousOutcome(
                "The machine of this token is still being made.",
                "The cloud has accepted the request and has not answered.",
                "Repeat the same call.",
                code="OperationInProgress",
            )
        return self._describe(machine, machine.state)

    def _accept(self, intent: Intent, delay_s: float) -> SimMachine:
        now_s, timer = self.now_s(), self.shape.timer
        left_s = self._left_s(intent)
        if left_s < max(self.shape.least_run_s, 1.0):
            raise InvalidRequest(
                f"The deadline is {left_s:.0f} s away.",
                "This cloud arms its timer neither in the past nor for so short a time.",
                "Plan the attempt anew.",
                code="DeadlineTooNear",
            )
        machine = self._order(intent)
        self._refuse_low_bid(machine, now_s)
        machine.delete_s = self._draw(self.shape.delete_s)
        if timer is not None and timer.counts_from_running:
            machine.run_limit_s = left_s
        elif timer is not None and not timer.armed_apart:
            machine.deadline_s = now_s + left_s
        self._by_token[intent.token] = machine
        if delay_s:
            self._later(now_s + delay_s, self._appear, machine)
        else:
            self._appear(machine, now_s)
        return machine

    def _order(self, intent: Intent) -> SimMachine:
        offer = intent.offer
        item = self.item(offer.region, offer.instance_type, offer.zone)
        return SimMachine(
            f"{self.name}-{len(self._by_token) + 1:06d}",
            intent,
            shape=self.shape,
            item=item,
            market=self.market(item, offer.zone) if offer.spot else None,
            script=self.script if isinstance(self.script, Script) else self.script(intent),
        )

    def _refuse_low_bid(self, machine: SimMachine, now_s: float) -> None:
        if machine.market is None or machine.bid is None:
            return
        price = machine.market.usd_per_hour(now_s)
        if price > machine.bid:
            raise CapacityError(
                "The spot price is above the bid.",
                f"It is {price} USD per hour; the bid is {machine.bid}.",
                "Try another zone, or on demand.",
                code="SpotMaxPriceTooLow",
                next_scope="zone",
            )

    def _left_s(self, intent: Intent) -> float:
        """Seconds until the machine must start to die. A date from a caller who is ahead of us gains no time."""
        return intent.hard_after_s - max(self.now_s() - self.axis_s(intent.created_at), 0.0)

    def _arm(self, machine: SimMachine) -> Machine:
        if self.arms_apart and machine.deadline_s is None:
            now_s = self.now_s()
            machine.deadline_s = now_s + self._left_s(machine.intent)
            machine.things["timer"] = (now_s, None)
            self._set_timer(machine, now_s)
        assert machine.state is not None
        return self._describe(machine, machine.state)

    @property
    def arms_apart(self) -> bool:
        """The timer is armed by a call of its own after `create`."""
        return self.shape.timer is not None and self.shape.timer.armed_apart

    def _find(self, machine_id: str) -> SimMachine:
        machine = self._machines.get(machine_id)
        if machine is None:
            raise MachineNotFound(f"There is no machine {machine_id!r}.", code="NotFound")
        if machine.gone_s is not None:
            self._say_gone(machine, "NotFound")
        return machine

    def _say_gone(self, machine: SimMachine, code: str) -> NoReturn:
        """Raise MachineNotFound, with the evidence of its end as long as the cloud still tells about it."""
        assert machine.gone_s is not None
        told = self.now_s() - machine.gone_s <= self.shape.evidence_s
        evidence = self._describe(machine, MachineState.STOPPED) if told else None
        raise MachineNotFound(f"The machine {machine.id!r} is gone.", machine=evidence, code=code)

    def _get(self, machine_id: str, fault: Fault | None) -> Machine:
        machine = self._machines.get(machine_id)
        if isinstance(fault, Stale) and machine is not None:
            # Never a false "not found", which would be read as proof: an adapter waits that lag out inside `create`.
            state = machine.state_at(max(self.now_s() - fault.seconds, machine.created_s))
            if state is not None:
                return self._describe(machine, state)
        machine = self._find(machine_id)
        assert machine.state is not None
        return self._describe(machine, machine.state)

    def _listing(self, owner: str, fault: Fault | None) -> list[Machine]:
        pool: Iterable[SimMachine] = self._listed.get(owner, {}).values()
        lag_s = self.shape.list_lag_s
        if isinstance(fault, Stale):
            pool = (machine for machine in self._machines.values() if machine.owner == owner)
            lag_s = max(lag_s, fault.seconds)
        seen_s = self.now_s() - lag_s
        seen = ((machine, machine.state_at(seen_s)) for machine in pool)
        return [self._describe(machine, state) for machine, state in seen if state is not None]

    def _delete(self, machine_id: str, fault: Fault | None) -> None:
        machine = self._alive.get(machine_id)
        if machine is None:
            return
        if isinstance(fault, HangingDelete):
            self._later(self.now_s() + fault.seconds, self._destroy_for_user, machine)
            return
        if isinstance(fault, StuckTeardown) and machine.state is not MachineState.STOPPING:
            machine.stuck_s = fault.seconds
        self._destroy_for_user(machine, self.now_s())

    def _console(self, machine_id: str) -> bytes:
        machine = self._machines.get(machine_id)
        if machine is None or machine.agent is None:
            return b""
        now_s = self.now_s()
        if machine.gone_s is not None and now_s - machine.gone_s > self.shape.evidence_s:
            return b""
        beats = machine.agent.beats(now_s - self.shape.console_lag_s)
        return "".join(self._encode(seq, beat) + "\n" for seq, beat in beats).encode()[-_CONSOLE_BYTES:]

    def _describe(self, machine: SimMachine, state: MachineState) -> Machine:
        """The machine as the API shows it. Billing is the compute's: what is around it bills from `created_at` on."""
        key = (len(machine.history), state, machine.deadline_s, machine.compute[-1:] or None)
        if machine.described is not None and machine.described[0] == key:
            return machine.described[1]
        started_s = machine.compute[0][0] if machine.compute else None
        # A stale view of a machine that runs knows nothing of its end.
        over = machine.compute and state not in (MachineState.PENDING, MachineState.RUNNING)
        ended_s = machine.compute[-1][1] if over else None
        shown = Machine(
            id=machine.id,
            token=machine.intent.token,
            state=state,
            region=machine.intent.offer.region,
            created_at=self.at(machine.created_s),
            billing_started_at=None if started_s is None else self.at(started_s),
            billing_ended_at=None if ended_s is None else self.at(ended_s),
            compute_usd=None if ended_s is None else paid_usd(machine),
            deadline_at=None if machine.deadline_s is None else self.at(machine.deadline_s),
            tags=machine.intent.tags,
            state_reason=machine.state_reason,
            never_ran=_NEVER_RAN if machine.state_reason == NO_CAPACITY else None,
        )
        machine.described = (key, shown)
        return shown
