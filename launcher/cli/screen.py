"""What commands print: data on stdout, talk on stderr. Plain text; no control characters off a terminal."""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.errors import Interrupted
from launcher.core.money import usd_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def say(line: str = "") -> None:
    """Talk to the user."""
    print(line, file=sys.stderr, flush=True)


def put(line: str = "") -> None:
    """Give data."""
    print(line, flush=True)


def put_json(document: Any) -> None:
    """Give one JSON document."""
    put(json.dumps(document, indent=2, ensure_ascii=False))


def is_interactive() -> bool:
    """Whether a person can answer and Ctrl-C can be pressed."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, refusal: str) -> None:
    """Ask a person. Raises Interrupted, with these words, after a no or Ctrl-C."""
    import click

    try:
        agreed = click.confirm(question, default=True, err=True)
    except click.Abort:
        say()
        agreed = False
    if not agreed:
        raise Interrupted(refusal)


def is_smart() -> bool:
    """Whether the terminal can rewrite its last line."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in (None, "dumb") and "NO_COLOR" not in os.environ


def duration(seconds: float) -> str:
    """A duration for the screen: `42s`, `5m 10s`, `7h 50m`, `2d 3h`."""
    whole = int(max(seconds, 0.0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, two spaces apart."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def money(text: str) -> str:
    """An amount from a view, for the screen."""
    return usd_text(Decimal(text))


def ending(view: dict[str, Any]) -> str:
    """How a job ended, in a few words."""
    reason = f" ({view['reason']})" if view["reason"] and view["outcome"] != "finished" else ""
    return f"{view['outcome']}{reason}"


def metric_line(view: dict[str, Any], most: int = 3) -> str:
    """The newest metrics, such as `val_loss=2.31 loss=2.20 (step 400)`."""
    shown = list(view["metrics"].items())[:most]
    if not shown:
        return ""
    step = next((entry.get("step") for _, entry in shown if entry.get("step") is not None), None)
    values = " ".join(f"{name}={_number(entry.get('value'))}" for name, entry in shown)
    return f"{values} (step {step})" if step is not None else values


def energy_line(view: dict[str, Any]) -> str:
    """What a job took from the socket and how warm its GPU got, as far as that is known; else an empty text."""
    from launcher.report.energy import energy_text, temperature_text

    parts = [energy_text(view["energy"])] if view["energy"] else []
    if view["temperature"]:
        parts.append(f"GPU {temperature_text(view['temperature'])}")
    return "; ".join(parts)


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def summary(view: dict[str, Any]) -> list[str]:
    """A job that has ended, in a few lines: the outcome, the spend and the cap."""
    confirmed = "confirmed" if view["spend_confirmed"] else "an upper bound: the exact end was not seen"
    lines = [
        f"{view['name']}: {ending(view)}",
        f"  spent   {money(view['spend_usd'])} of {money(view['cap_usd'])} ({confirmed})",
    ]
    if view["machine_id"]:
        where = f"{view['provider']}, {view['instance_type']}"
        lines.append(f"  ran     {duration(view['billed_s'])} on {where}; nothing is left of it")
    if view["exit_code"] not in (None, 0):
        lines.append(f"  code    the training ended with {view['exit_code']}")
    metrics = metric_line(view)
    if metrics:
        lines.append(f"  last    {metrics}")
    if taken := energy_line(view):
        lines.append(f"  energy  {taken}")
    lines += [f"  note    {note}" for note in view["notes"]]
    if view["trouble"]:
        lines.append(f"  why     {view['trouble']}")
    if view["log_path"]:
        lines.append(f"  log     gpulaunch logs {view['name']}")
    return lines
