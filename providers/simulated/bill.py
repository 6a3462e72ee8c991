"""The cloud's own bill, in exact decimals: by its catalogue and its rules, from what truly happened."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from launcher.core.money import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from providers.simulated.machine import SimMachine
    from providers.simulated.market import SpotMarket

Lines = dict[str, Decimal]


def bill(machine: SimMachine, now_s: float) -> Lines:
    """What one machine has cost by now, in USD, line by line. A part that has begun counts whole seconds."""
    if machine.final_lines is not None:
        return machine.final_lines
    intent = machine.intent
    lines = {"compute": _compute_usd(machine, now_s)}
    hourly = {
        "disk": machine.item.disks.usd_per_hour(intent.disk_gb),
        "address": machine.item.ipv4_spot if intent.offer.spot else machine.item.ipv4,
    }
    for name, usd_per_hour in hourly.items():
        if name in machine.things and usd_per_hour:
            made_s, gone_s = machine.things[name]
            seconds = _whole_s(now_s if gone_s is None else gone_s, made_s, 1)
            lines[name] = usd_per_hour * seconds / SECONDS_PER_HOUR
    for cost in machine.shape.one_time:
        lines[cost.name] = cost.usd
    if machine.agent is not None and machine.script.egress_gb:
        lines["egress"] = machine.script.egress_gb * machine.item.egress_usd_per_gb
    if machine.gone_s is not None:
        machine.final_lines = lines
    return lines


def _compute_usd(machine: SimMachine, now_s: float) -> Decimal:
    rule = machine.shape.billing
    total = Decimal(0)
    for start_s, end_s in machine.compute:
        used_s = _whole_s(now_s if end_s is None else end_s, start_s, rule.granularity_s)
        billed_s = max(used_s, rule.floor_s)
        if machine.market is None:
            total += machine.item.on_demand * billed_s / SECONDS_PER_HOUR
        else:
            total += _spot_usd(machine.market, start_s, billed_s, machine.bid)
    return total


def _spot_usd(market: SpotMarket, start_s: float, billed_s: Decimal, bid: Decimal | None) -> Decimal:
    """The price of each moment, and never more than the bid: no cloud charges above it."""
    total, left_s, at_s = Decimal(0), billed_s, start_s
    while left_s > 0:
        price = market.usd_per_hour(at_s)
        change_s = market.next_change_s(at_s)
        piece_s = left_s if change_s is None else min(left_s, Decimal(change_s) - Decimal(at_s))
        total += (price if bid is None else min(price, bid)) * piece_s / SECONDS_PER_HOUR
        left_s -= piece_s
        at_s = change_s if change_s is not None else at_s
    return total


def _whole_s(end_s: float, start_s: float, granularity_s: Decimal | int) -> Decimal:
    """Seconds from start to end, rounded up to the granularity; less than a millisecond is the noise of floats."""
    steps = math.ceil(round((end_s - start_s) / float(granularity_s), 3))
    return Decimal(max(steps, 0)) * granularity_s
