"""What befalls a job's machine in a simulated world, if it has one."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from providers.base import MachineState

if TYPE_CHECKING:
    from world import World

    from providers.simulated.machine import SimMachine


def kill_agent(world: World, job_id: str) -> None:
    """The agent of this job's machine dies, if there is one."""
    for machine in _alive(world, job_id):
        world.tell(f"the agent of {machine.id} dies")
        world.cloud.kill_agent(machine.id)
        world.jobs[job_id].excuses.add("agent dies")
    world.stir()


def preempt(world: World, job_id: str) -> None:
    """The cloud takes this job's machine back, if there is one."""
    for machine in _alive(world, job_id):
        world.tell(f"{machine.id} is taken back")
        world.cloud.preempt(machine.id)
    world.stir()


def power_off(world: World, job_id: str) -> None:
    """This job's machine is switched off from inside."""
    for machine in _alive(world, job_id):
        if machine.state is MachineState.RUNNING:
            world.tell(f"{machine.id} is switched off")
            world.faults.injected["PowerOff"] += 1
            world.cloud.power_off(machine.id)
            world.jobs[job_id].excuses.add("power off")
    world.stir()


def move_spot_price(world: World, job_id: str, share: float) -> None:
    """The spot price of this job's machine goes to that share of its ceiling, and stays there."""
    for machine in _alive(world, job_id):
        offer = machine.intent.offer
        if machine.market is not None:
            ceiling = next(part.worst_usd_per_hour for part in offer.parts if part.name == "compute")
            price = min(ceiling * Decimal(str(share)), machine.item.on_demand)
            world.tell(f"the spot price in {offer.zone or offer.region} goes to {price:.4f}, {share} of the ceiling")
            world.faults.injected["SpotPriceMoves"] += 1
            world.cloud.fix_spot_price(offer.region, offer.zone, price)
    world.stir()


def _alive(world: World, job_id: str) -> list[SimMachine]:
    world.cloud.settle()
    return [machine for machine in world.cloud.machines(job_id) if machine.state is not None]
