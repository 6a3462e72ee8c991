"""The cloud's own deadline: `max_run_duration`, given with the insert and read back from the cloud."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from providers.gcp.client import moment

if TYPE_CHECKING:
    from providers.base import Intent

# "Limit the run time of a VM" (compute/docs/instances/limit-vm-runtime, 2026): at least 30 seconds, at most 120 days,
# and the end may start up to 30 seconds after the limit.
LEAST_RUN_S = 30
MOST_RUN_S = 120 * 86_400
TIMER_LATE_S = 30.0
# The limit counts from the moment the machine runs. No document says how long placing may take; one that takes longer
# than this is given back, so that the deadline is never later than that.
PLACED_WITHIN_S = 120.0
# Between the power-off signal and the power cut: 120 s for standard machines, 30 s for spot (compute v1 reference,
# Scheduling.skipGuestOsShutdown). What follows it, freeing disk and address, has no documented time: half a minute.
SHUTDOWN_S = 120.0
SPOT_SHUTDOWN_S = 30.0
FREED_WITHIN_S = 30.0
# Seconds are billed whole (compute/all-pricing: per second, one minute at least).
ROUNDING_S = 1.0

WORST_LATENESS_S = PLACED_WITHIN_S + TIMER_LATE_S + SHUTDOWN_S + FREED_WITHIN_S + ROUNDING_S
WHAT = "Compute Engine itself deletes the machine at the hard deadline (max_run_duration, in the call that makes it)"


def run_s(intent: Intent, now: datetime) -> int:
    """Seconds from now until the hard deadline: what a machine may run that is asked for now. A replay gets less."""
    lived_s = (now - intent.created_at).total_seconds()
    return min(int(intent.hard_after_s - lived_s), MOST_RUN_S)


def deadline_of(instance: Any) -> datetime | None:
    """When the cloud says that it will delete this machine, in its own time; None while it does not say."""
    return moment(instance.resource_status.scheduling.termination_timestamp)


def is_armed(instance: Any, intent: Intent) -> bool:
    """Whether the cloud's own deadline for this machine is no later than was promised."""
    says = deadline_of(instance)
    return says is not None and says <= intent.hard_deadline + timedelta(seconds=PLACED_WITHIN_S)
