"""What happens on one simulated machine: the training, the agent, and what befalls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The life of one machine. Seconds count from the moment when its agent is up, unless said otherwise."""

    boots: bool = True
    """False: the machine runs and bills, and its agent never starts."""
    runs: bool = True
    """False: it ends while it starts, for want of capacity: the cloud says so only after it has accepted it."""
    finishes_after_s: float | None = 3600.0
    """When the training ends by itself; None: it hangs, or never ends."""
    exit_code: int = 0
    stops_in_s: float = 5.0
    """From SIGTERM until the training has ended. Longer than its grace: it is killed then."""
    heartbeat_s: float = 30.0
    agent_dies_after_s: float | None = None
    """From then on the machine runs and bills without an agent: a hung kernel looks the same."""
    network_cut_s: tuple[float, float] | None = None
    """From, until. Heartbeats are lost too, which is harsher than a cloud with a serial console."""
    preempted_after_s: float | None = None
    """Counted from the moment when the machine runs."""
    egress_gb: Decimal = Decimal(0)
    """What leaves the cloud, billed in whole once the agent is up."""
    metrics: Callable[[float], dict[str, Any]] | None = None
    """Seconds since the agent is up, to what the heartbeat says besides."""
