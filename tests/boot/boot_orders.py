"""What the boot tests ask of a machine: orders for a container of their own image."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from boot_machine import Machine

from launcher import boot
from launcher.budget import Deadlines
from launcher.job import JobSpec
from launcher.outcome import Outcome

Start = Callable[..., Machine]


def orders(command: list[str], cloud: str, *, hard_after_s: float = 600.0, **changes: Any) -> dict[str, Any]:
    """Orders for a container of the tests' own image; the machine's clock is right unless `hard_at` says otherwise."""
    spec = JobSpec(
        name="tiny",
        command=tuple(command),
        image=changes.pop("image", "train:1"),
        env=changes.pop("env", {}),
        workdir="/nowhere/on/the/machine",
        path="/nowhere/gpulaunch.yaml",
        budget_usd=Decimal(5),
        grace_s=changes.pop("grace_s", 2.0),
    )
    made = boot.make_orders(
        spec,
        provider=cloud,
        job="j-1",
        attempt=changes.pop("attempt", 1),
        deadlines=Deadlines(
            soft_after_s=changes.pop("soft_after_s", hard_after_s),
            hard_after_s=hard_after_s,
            outcome=Outcome.BUDGET_REACHED,
            committed_usd=Decimal(0),
        ),
        rate_usd_per_hour=Decimal("0.5"),
        spent_usd=Decimal(0),
        cap_usd=Decimal(5),
        hard_at=time.time() + hard_after_s,
        notice_s=30.0,
        store=None,
    )
    return {**made, "heartbeat_s": 1.0, **changes}
