"""The agent's orders: what it is to do, as one JSON document. launcher/agent/__init__.py says what each means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from launcher.core.money import usd_json

if TYPE_CHECKING:
    from decimal import Decimal

    from launcher.budget import Deadlines
    from launcher.job import JobSpec

# How often the agent writes a heartbeat, by provider: a file costs nothing, a serial console little.
HEARTBEAT_S = {"local": 2.0}
DEFAULT_HEARTBEAT_S = 15.0


def make_orders(
    spec: JobSpec,
    *,
    provider: str,
    job: str,
    attempt: int,
    deadlines: Deadlines,
    rate_usd_per_hour: Decimal,
    spent_usd: Decimal,
    cap_usd: Decimal,
    hard_at: float | None,
    notice_s: float,
    store: dict[str, Any] | None,
    spot: bool = False,
    egress: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The agent's orders; launcher/agent/__init__.py says what each means. `store` is what the provider makes of it."""
    early_stop = None
    if spec.early_stop is not None:
        early_stop = json.loads(_as_json(spec.early_stop))
    return {
        "job": job,
        "name": spec.name,
        "attempt": attempt,
        "cloud": provider,
        "spot": spot,
        "command": list(spec.command),
        "image": spec.image,
        "env": dict(spec.env),
        "workdir": spec.workdir,
        "soft_after_s": deadlines.soft_after_s,
        "soft_outcome": deadlines.outcome.value,
        "soft_reason": "CAP" if deadlines.outcome == "budget_reached" else "MAX_DURATION",
        "hard_after_s": deadlines.hard_after_s,
        "hard_at": hard_at,
        "grace_s": spec.grace_s,
        "notice_s": notice_s,
        "stall": json.loads(_as_json(spec.stall)),
        "metrics": json.loads(_as_json(spec.metrics)),
        "early_stop": early_stop,
        "rate_usd_per_hour": usd_json(rate_usd_per_hour),
        "spent_usd": usd_json(spent_usd),
        "cap_usd": usd_json(cap_usd),
        "checkpoints": json.loads(_as_json(spec.checkpoints)) if spec.checkpoints else None,
        "store": store,
        "archive": json.loads(_as_json(spec.archive)) if spec.archive and store else None,
        "resume": spec.resume,
        "egress": egress,
        "heartbeat_s": HEARTBEAT_S.get(provider, DEFAULT_HEARTBEAT_S),
        "ending": "exit",
    }


def _as_json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)
