"""What a spot machine's compute has cost, as a launcher works it out from the prices that a cloud publishes.

Worked out here apart from bill.py, which is the cloud's own bill: a simulation holds the one against the other.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from launcher.core.money import per_second

if TYPE_CHECKING:
    from providers.simulated.machine import SimMachine


def paid_usd(machine: SimMachine) -> Decimal | None:
    """USD for the compute of a machine whose billing has ended; None where the cloud does not tell."""
    if machine.market is None or not machine.shape.tells_spot_prices:
        return None
    total = Decimal(0)
    for start_s, end_s in machine.compute:
        if end_s is None:
            return None
        total += _period_usd(machine, start_s, end_s)
    return total


def _period_usd(machine: SimMachine, start_s: float, end_s: float) -> Decimal:
    assert machine.market is not None
    rule = machine.shape.billing
    units = (Decimal(f"{end_s - start_s:.6f}") / rule.granularity_s).to_integral_value(ROUND_CEILING)
    last_s = start_s + float(max(units * rule.granularity_s, rule.floor_s))
    total = Decimal(0)
    for at_s, usd_per_hour in reversed(machine.market.history(start_s, last_s)):
        charged = usd_per_hour if machine.bid is None else min(usd_per_hour, machine.bid)
        total += Decimal(f"{last_s - at_s:.6f}") * per_second(charged)
        last_s = at_s
    return total
