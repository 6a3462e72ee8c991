"""Which looks of the guard may be left out, because nothing that it could see has changed.

A guard looks every few seconds for hours, and nearly always nothing has changed since its last look: nothing on the
cloud, nothing in the heartbeats but their number, no deadline near. Those looks change nothing, and a simulation of
many thousand jobs cannot pay for them. Around everything that happens the guard looks at its usual pace.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from launcher.outcome import State
from providers.base import MachineState

if TYPE_CHECKING:
    from world import World

    from launcher.records import Attempt
    from providers.simulated.machine import SimMachine

# Silence counts only while the console is read without a gap; reading it once a minute is enough for that.
SILENT_POLL_S = 60.0
# A guard that was at work on a create goes on at its usual pace this long.
BUSY_S = 400.0


def next_look_s(world: World, due_s: float) -> float:
    """When the guard's next look is, that was due at `due_s`, without those that can see nothing new."""
    poll_s = world.provider.poll_s
    if world.now_s < world.stirred_s + world.provider.heartbeat_s + poll_s + world.cloud.shape.console_lag_s:
        return due_s
    until_s = world.cloud.next_event_s() or math.inf
    if world.outage_until_s > world.now_s:
        until_s = min(until_s, world.outage_until_s)
    for attempt in world.invariants.live_attempts():
        until_s = min(until_s, _calm_until_s(world, attempt))
    if until_s <= due_s or until_s == math.inf:
        return due_s
    return due_s + math.ceil((until_s - due_s) / poll_s) * poll_s


def _calm_until_s(world: World, attempt: Attempt) -> float:
    """Until when nothing about this attempt changes that a look would see; now, if something has."""
    now_s = world.now_s
    machine = world.invariants.machine_of(attempt)
    if attempt.state in (State.PLANNED, State.CREATING) or machine is None:
        return world.outage_until_s if world.outage_until_s > now_s > world.invariants.made_s(attempt) + BUSY_S else 0.0
    if attempt.state == State.DELETING:
        # A delete that failed, or that the cloud sits on, is repeated.
        return math.inf if machine.state is MachineState.STOPPING else 0.0
    deadline_s = world.invariants.made_s(attempt) + attempt.hard_after_s
    if now_s >= deadline_s or machine.state not in (MachineState.PENDING, MachineState.RUNNING):
        return 0.0
    return min(deadline_s - world.provider.poll_s, _voice_until_s(world, machine))


def _voice_until_s(world: World, machine: SimMachine) -> float:
    """Until when the agent's voice does not change: it comes up, stops, ends, falls silent, or is cut off."""
    now_s = world.now_s
    agent = machine.agent
    if machine.state is MachineState.PENDING:
        return math.inf
    if agent is None:
        return math.inf if machine.script.boots else now_s + SILENT_POLL_S
    cut_s, back_s = agent.cut_s
    if now_s >= agent.silent_s or cut_s <= now_s < back_s:
        return now_s + SILENT_POLL_S
    changes = (agent.stop_s, agent.ended_s, agent.silent_s, cut_s)
    return min((at_s for at_s in changes if at_s > now_s), default=math.inf)
