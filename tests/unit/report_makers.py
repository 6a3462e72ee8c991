"""Jobs and machines to make reports of, among them some whose every text tries to break the page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from makers import START, make_attempt, make_job, make_offer, make_spec

from launcher.cli.follow import describe
from launcher.outcome import State
from launcher.records import Event
from launcher.report.document import make_report
from providers.base import Intent, Offer

if TYPE_CHECKING:
    from launcher.records import Attempt, Job

NOW = START + timedelta(hours=3)
EVIL = "<script>alert(1)</script> | `x` *y* [z](http://e) \\ &amp; $a$ _b_ \x1b[2J\r\n# not a heading\u202e"


def made(number: int = 1, offer: Offer | None = None, **changes: Any) -> Attempt:
    """A machine that ran for an hour after START and is gone, with the intent that it was made from."""
    offer = offer or make_offer()
    intent = Intent(
        job="j-tiny",
        name="tiny",
        attempt=number,
        token=f"j-tiny-{number}",
        owner="owner-1",
        account="scripted/account-1",
        offer=offer,
        created_at=START,
        hard_after_s=3600.0,
        hard_deadline=START + timedelta(hours=1),
        tags={},
        disk_gb=10,
        boot_data=b"",
    )
    values: dict[str, Any] = {
        "state": State.GONE,
        "intent": msgspec.json.encode(intent),
        "provider": offer.provider,
        "rate_usd_per_hour": offer.rate_usd_per_hour,
        "standing_usd_per_hour": offer.standing_usd_per_hour,
        "one_time_usd": offer.one_time_usd,
        "create_called": True,
        "machine_id": f"m-{number}",
        "ended_at": START + timedelta(hours=1),
        "gone_at": START + timedelta(hours=1),
        "billed_s": 3600.0,
        "observed_at": START + timedelta(hours=1),
        "confirmed": True,
        "outcome": "finished",
        "reason": "EXIT_0",
    }
    return make_attempt(number, **(values | changes))


def gone(**changes: Any) -> Job:
    """A job that has finished."""
    ended = {"state": State.GONE, "outcome": "finished", "reason": "EXIT_0", "ended_at": START + timedelta(hours=2)}
    return make_job(**(ended | changes))


def a_beat(values: list[Any], name: str = "val_loss", every_s: float = 600.0, **more: Any) -> dict[str, Any]:
    """A heartbeat that told these values, one each ten minutes, and took the least for the best."""
    finite = [value for value in values if not isinstance(value, str)]
    best = min(finite) if finite else None
    step = values.index(best) + 1 if finite else None
    entry = {"value": values[-1], "step": len(values), "best": best, "best_step": step, "seen": len(values)}
    history = [[(index + 1) * every_s, index + 1, value] for index, value in enumerate(values)]
    return {"metrics": {name: entry}, "history_of": name, "history": history, **more}


def report_of(job: Job, attempts: list[Attempt], events: list[Event] | None = None) -> dict[str, Any]:
    """The report as the command makes it."""
    return make_report(job, attempts, events or [], NOW, describe)


def evil_report() -> dict[str, Any]:
    """A report whose every free text tries to break the page."""
    spec = make_spec(command=("bash", "-c", f"{EVIL}\n```\n````"), image=EVIL, workdir=EVIL)
    beat = a_beat([3.0, 2.0], name=EVIL, notes=[EVIL], gpu={"name": EVIL})
    beat["checkpoint"] = {"n": 1, "at": EVIL, "bytes": 10, "files": 2}
    attempt = made(beat=beat, machine_id=EVIL, reason=EVIL, trouble=EVIL)
    event = Event(1, "j-tiny", 1, START, "trouble", {"error": EVIL})
    return report_of(gone(spec=spec, reason=EVIL), [attempt], [event])
